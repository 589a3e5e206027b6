//! The commands and their arguments; those of more than a few lines have a file each.
#![expect(clippy::doc_markdown, reason = "the help shows these comments as they are")]

pub mod healthcheck;
pub mod import;
pub mod progress;
pub mod seed;
pub mod statement;
pub mod user;

use clap::{Parser, Subcommand};
use clap_complete::Shell;

use self::import::ImportArguments;
use self::seed::SeedArguments;
use self::user::NewUser;

/// A healthcare backend: patients, doctors and who treats whom, over REST on PostgreSQL.
///
/// Settings come from the environment and from .env in the working folder; .env.example explains
/// each. Without DATABASE_URL the program runs a PostgreSQL of its own in ./data. Without a command
/// it serves. The exit status is 0, 1 for what failed, or 2 for wrong settings and arguments.
#[derive(Parser)]
#[command(name = "healthcare-backend", version)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Option<Command>,
}

#[derive(Subcommand)]
pub enum Command {
    /// Serve requests (the default).
    ///
    /// Brings the schema up to date first, unless MIGRATE_ON_START is false. SIGTERM or SIGINT ends
    /// it when the requests that run are answered.
    #[command(after_long_help = "Example:\n  PORT=9090 healthcare-backend serve --examples")]
    Serve {
        /// Print curl lines to try.
        #[arg(long)]
        examples: bool,
    },
    /// Bring the database's schema up to date and exit.
    ///
    /// Needs a role that may change the schema. Any number may run at once, also beside services.
    #[command(after_long_help = "Example:\n  DATABASE_URL=postgres://owner@db/healthcare \
                                 JWT_SECRET=... healthcare-backend migrate")]
    Migrate,
    /// Make a user an admin, who may change every doctor.
    ///
    /// It takes effect at once, also for tokens that are out, and works beside a running service.
    #[command(after_long_help = "Example:\n  healthcare-backend admin ada@example.com")]
    Admin {
        /// The e-mail address the user registered with.
        email: String,
        /// Take the right away instead.
        #[arg(long)]
        revoke: bool,
    },
    /// Manage accounts, also where registering is closed.
    User {
        #[command(subcommand)]
        command: UserCommand,
    },
    /// Fill a database with invented people, to try the service or to load it.
    ///
    /// The password of all users is asked for on the terminal, or read from standard input.
    /// Patients are shared out to the users, and half of them are assigned to one or two doctors.
    /// It is one transaction, and is refused where there are users already, unless --add is given.
    #[command(after_long_help = "Example:\n  echo 'correct horse' | healthcare-backend seed \
                                 --users 10 --patients 100000 --doctors 500")]
    Seed(SeedArguments),
    /// Import patients from a file, all or none.
    ///
    /// The same lines as POST /api/patients/import takes, with the same rules: JSON objects, or
    /// CSV under a header with the names of fields. What is wrong is named with its line. Works
    /// beside a running service.
    #[command(after_long_help = "Example:\n  healthcare-backend import patients.csv --user \
                                 ada@example.com")]
    Import(ImportArguments),
    /// Ask whether the service is ready, for the check of a container.
    ///
    /// Needs the settings of the service, and asks /health/ready where HOST, PORT and TLS_CERT say
    /// that it listens. The exit status is 0 if it is ready, and 1 if it is not, or gives no answer
    /// within 5 seconds.
    #[command(after_long_help = "Example:\n  HEALTHCHECK CMD [\"healthcare-backend\", \
                                 \"healthcheck\"]")]
    Healthcheck,
    /// Print the description of the API (OpenAPI 3.1).
    #[command(after_long_help = "Example:\n  healthcare-backend openapi > openapi.json")]
    Openapi,
    /// Print a script that completes commands in a shell.
    #[command(after_long_help = "Example:\n  healthcare-backend completions bash \
                                 > ~/.local/share/bash-completion/completions/healthcare-backend")]
    Completions {
        /// The shell.
        shell: Shell,
    },
}

#[derive(Subcommand)]
pub enum UserCommand {
    /// Make an account.
    ///
    /// The password is asked for on the terminal, or read from standard input. Works beside a
    /// running service.
    #[command(after_long_help = "Example:\n  healthcare-backend user add ada@example.com --name \
                                 Ada")]
    Add(NewUser),
}
