//! The command line: serve (the default), migrate, admin, user, openapi.

/// Commands of more than a few lines.
mod commands {
    pub mod user;
}
mod log;

use std::future::pending;
use std::io::{ErrorKind, Write};
use std::path::Path;
use std::pin::pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{Parser, Subcommand};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{sleep, timeout};

use healthcare_backend::app::App;
use healthcare_backend::config::{Config, Database};
use healthcare_backend::db::embedded::Embedded;
use healthcare_backend::db::{ConnectOptions, Sql, migrations};
use healthcare_backend::openapi;
use healthcare_backend::secret::Secret;
use healthcare_backend::server::serve;
use healthcare_backend::worker::max_database_connections;

use commands::user::{self, NewUser, WrongInput};

/// How long the start waits for the database before listening, so that early requests do not fail
/// needlessly.
const WAIT_BEFORE_LISTENING: Duration = Duration::from_secs(2);

/// The exit status for wrong settings and arguments.
const USAGE: u8 = 2;

/// A healthcare backend: patients, doctors and who treats whom, over REST on PostgreSQL.
#[derive(Parser)]
#[command(name = "healthcare-backend", version)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Serve requests (the default).
    Serve {
        /// Print curl lines to try.
        #[arg(long)]
        examples: bool,
    },
    /// Bring the database's schema up to date and exit.
    Migrate,
    /// Make a user an admin, who may change every doctor.
    Admin {
        /// The e-mail address the user registered with.
        email: String,
        /// Take the right away instead.
        #[arg(long)]
        revoke: bool,
    },
    /// Print the description of the API (OpenAPI 3.1).
    Openapi,
    /// Manage accounts, also where registering is closed.
    User {
        #[command(subcommand)]
        command: UserCommand,
    },
}

#[derive(Subcommand)]
enum UserCommand {
    /// Make an account. The password is asked for on the terminal, or read from standard input.
    Add(NewUser),
}

/// What went wrong, in one line for the operator.
type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(Command::Openapi) = arguments.command {
        return print_description();
    }
    let config = match Config::from_env() {
        Ok(config) => config,
        Err(error) => {
            eprintln!("healthcare-backend: {error}");
            return ExitCode::from(USAGE);
        }
    };
    match start(&arguments, &config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("healthcare-backend: {error}");
            if error.is::<WrongInput>() { ExitCode::from(USAGE) } else { ExitCode::FAILURE }
        }
    }
}

fn start(arguments: &Arguments, config: &Config) -> Result<(), Failure> {
    let _flush_at_end = log::start(config.log)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run(arguments, config))
}

async fn run(arguments: &Arguments, config: &Config) -> Result<(), Failure> {
    match &arguments.command {
        None => run_server(config, false).await,
        Some(Command::Serve { examples }) => run_server(config, *examples).await,
        // It needs neither settings nor a database.
        Some(Command::Openapi) => Ok(()),
        Some(Command::Migrate) => {
            let database = RunningDatabase::join(config).await?;
            migrations::run(database.connect_options(), 1).await?;
            println!("The schema is up to date.");
            Ok(())
        }
        Some(Command::Admin { email, revoke }) => {
            let database = RunningDatabase::join(config).await?;
            migrations::prepare(database.connect_options(), 1, config.migrate_on_start).await?;
            set_role(&database, email, if *revoke { "user" } else { "admin" }).await
        }
        Some(Command::User { command: UserCommand::Add(new) }) => {
            let account = new.complete()?;
            let database = RunningDatabase::join(config).await?;
            migrations::prepare(database.connect_options(), 1, config.migrate_on_start).await?;
            user::add(database.connect_options(), &account, config.bcrypt_cost).await
        }
    }
}

async fn run_server(config: &Config, examples: bool) -> Result<(), Failure> {
    // From here on these signals are queued until they are awaited, so that they do not interrupt
    // the start.
    let stop = [signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?];
    let database_connections = max_database_connections(config.workers, config.pool_size);
    let mut database = RunningDatabase::start(config, database_connections).await?;
    if let Some(host) = database.connect_options().exposed_host() {
        tracing::warn!(
            host,
            "the connection to the database is not encrypted and leaves this machine: \
             sslmode=verify-full in DATABASE_URL protects it"
        );
    }
    let result = serve_on(&database, config, database_connections, stop, examples).await;
    // Last, when nothing writes any more.
    database.stop();
    result
}

async fn serve_on(
    database: &RunningDatabase,
    config: &Config,
    database_connections: usize,
    stop: [Signal; 2],
    examples: bool,
) -> Result<(), Failure> {
    let secret = database.jwt_secret(config)?;
    let app = App::new(config.clone(), database.connect_options().clone(), &secret)
        .map_err(|error| error.cause().unwrap_or("cannot start").to_owned())?;
    let app = Arc::new(app);
    // Resolves only if the database cannot be used as it is.
    let mut unusable_database = pin!(async {
        let options = database.connect_options();
        match migrations::prepare_when_available(
            options,
            database_connections,
            config.migrate_on_start,
        )
        .await
        {
            Ok(()) => app.use_database(),
            Err(error) => return error,
        }
        tracing::info!("the schema is up to date");
        pending().await
    });
    let mut stopping = pin!(stop_requested(stop, &app));
    tokio::select! {
        error = &mut unusable_database => return Err(error.into()),
        () = &mut stopping => return Ok(()),
        () = app.schema_is_ready.wait() => {}
        () = sleep(WAIT_BEFORE_LISTENING) => {}
    }
    let listener = TcpListener::bind((config.host, config.port)).await.map_err(|error| {
        format!("cannot listen on {} port {}: {error}", config.host, config.port)
    })?;
    let address = listener.local_addr()?;
    tracing::info!(%address, database = %database.data_location(), "listening");
    if examples {
        print_examples(&address.to_string(), &database.data_location());
    }
    let mut failure = None;
    let end = async {
        tokio::select! {
            error = unusable_database => failure = Some(error),
            () = stopping => {}
        }
    };
    serve(listener, Arc::clone(&app), end)
        .await
        .map_err(|error| error.cause().unwrap_or("cannot serve").to_owned())?;
    if let Some(error) = failure {
        return Err(error.into());
    }
    tracing::info!("stopped");
    Ok(())
}

/// Resolves when the service must stop listening: after a signal and the delay in which load
/// balancers notice that it is not ready, or after a second signal.
async fn stop_requested([mut interrupt, mut terminate]: [Signal; 2], app: &App) {
    let mut signal_received = async || {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    };
    signal_received().await;
    app.begin_stop();
    let delay = app.config.drain_delay;
    tracing::info!(delay_seconds = delay.as_secs(), "stopping");
    let _ = timeout(delay, signal_received()).await;
}

async fn set_role(database: &RunningDatabase, email: &str, role: &str) -> Result<(), Failure> {
    let client = migrations::connect(database.connect_options()).await?;
    let row = client
        .query_opt(Sql::UsersSetRole.text(), &[&email, &role])
        .await
        .map_err(|_| "the role cannot be changed")?;
    row.ok_or("no user has registered with this e-mail address")?;
    println!("The user's role is now: {role}.");
    Ok(())
}

/// A database that accepts connections.
enum RunningDatabase {
    Url(Box<ConnectOptions>),
    Embedded(Box<Embedded>),
}

impl RunningDatabase {
    /// For the service, which starts the embedded database.
    async fn start(config: &Config, connections: usize) -> Result<Self, Failure> {
        match &config.database {
            Database::Url(url) => Ok(Self::Url(url.clone())),
            Database::Embedded { data_dir, postgres_bin } => {
                let (data_dir, bin) = (data_dir.as_deref(), postgres_bin.as_deref());
                let embedded = Embedded::start(data_dir, bin, connections).await?;
                Ok(Self::Embedded(Box::new(embedded)))
            }
        }
    }

    /// For a command, which may run beside the service and use its embedded database.
    async fn join(config: &Config) -> Result<Self, Failure> {
        match &config.database {
            Database::Url(url) => Ok(Self::Url(url.clone())),
            Database::Embedded { data_dir, postgres_bin } => {
                let (data_dir, bin) = (data_dir.as_deref(), postgres_bin.as_deref());
                let embedded = Embedded::start_or_join(data_dir, bin, 1).await?;
                Ok(Self::Embedded(Box::new(embedded)))
            }
        }
    }

    fn connect_options(&self) -> &ConnectOptions {
        match self {
            Self::Url(options) => options,
            Self::Embedded(embedded) => embedded.connect_options(),
        }
    }

    /// Where the data is, without secrets.
    fn data_location(&self) -> String {
        match self {
            Self::Url(_) => "DATABASE_URL".to_owned(),
            Self::Embedded(embedded) => Path::display(embedded.folder()).to_string(),
        }
    }

    fn jwt_secret(&self, config: &Config) -> Result<Secret, Failure> {
        match (&config.jwt_secret, self) {
            (Some(secret), _) => Ok(secret.clone()),
            (None, Self::Embedded(embedded)) => Ok(embedded.jwt_secret()?),
            (None, Self::Url(_)) => Err("JWT_SECRET must be set beside DATABASE_URL".into()),
        }
    }

    fn stop(&mut self) {
        if let Self::Embedded(embedded) = self {
            embedded.stop();
        }
    }
}

/// Prints the document. Whoever closes the pipe early has seen enough.
fn print_description() -> ExitCode {
    let mut stdout = std::io::stdout().lock();
    let written = serde_json::to_writer_pretty(&mut stdout, &openapi::value());
    match written.map_err(std::io::Error::from).and_then(|()| stdout.write_all(b"\n")) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.kind() == ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("healthcare-backend: cannot write: {error}");
            ExitCode::FAILURE
        }
    }
}

fn print_examples(address: &str, data_location: &str) {
    println!(
        r#"
Listening on http://{address}, data in {data_location}. Try:

curl -s http://{address}/api/auth/register -H 'content-type: application/json' -d '{{"name":"Ada","email":"ada@example.com","password":"correct horse"}}'
TOKEN=$(curl -s http://{address}/api/auth/login -H 'content-type: application/json' -d '{{"email":"ada@example.com","password":"correct horse"}}' | sed 's/.*"token":"\([^"]*\)".*/\1/')
curl -s http://{address}/api/patients -H "authorization: Bearer $TOKEN" -H 'content-type: application/json' -d '{{"name":"Grace","age":36,"blood_group":"O+"}}'

Stop with Ctrl-C.
"#
    );
}
