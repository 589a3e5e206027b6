//! The command line: serve (the default), migrate, admin, user, seed, import, healthcheck, openapi,
//! completions.

mod commands;
mod log;

use std::future::pending;
use std::io::{ErrorKind, Write};
use std::path::Path;
use std::pin::pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{CommandFactory, Parser};
use clap_complete::Shell;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use healthcare_backend::app::App;
use healthcare_backend::config::{Config, Database};
use healthcare_backend::db::embedded::Embedded;
use healthcare_backend::db::migrations::{self, Requirements};
use healthcare_backend::db::{ConnectOptions, Sql};
use healthcare_backend::openapi;
use healthcare_backend::secret::Secret;
use healthcare_backend::server;
use healthcare_backend::worker::max_database_connections;

use commands::user::{self, WrongInput};
use commands::{Arguments, Command, UserCommand, healthcheck, import, seed, statement};

/// How long the start waits for the database before listening, so that early requests do not fail
/// needlessly.
const WAIT_BEFORE_LISTENING: Duration = Duration::from_secs(2);

/// The exit status for wrong settings and arguments.
const USAGE: u8 = 2;

/// What went wrong, in one line for the operator.
type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match arguments.command {
        Some(Command::Completions { shell }) => {
            complete(shell);
            return ExitCode::SUCCESS;
        }
        Some(Command::Openapi) => return print_description(),
        _ => {}
    }
    let settings = Config::from_env().and_then(|config| match arguments.command {
        None | Some(Command::Serve { .. }) => config.check_for_service().map(|()| config),
        Some(_) => Ok(config),
    });
    let config = match settings {
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
    let _flush_at_end = log::start(config.log, config.log_format)?;
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = runtime.block_on(run(arguments, config));
    // After a second signal, threads may still be busy.
    runtime.shutdown_background();
    result
}

async fn run(arguments: &Arguments, config: &Config) -> Result<(), Failure> {
    match &arguments.command {
        None => run_server(config, false).await,
        Some(Command::Serve { examples }) => run_server(config, *examples).await,
        Some(Command::Migrate) => {
            let database = RunningDatabase::join(config).await?;
            let requirements = Requirements { migrate: true, ..requirements(config, 1) };
            migrations::prepare(database.connect_options(), requirements).await?;
            println!("The schema is up to date.");
            Ok(())
        }
        Some(Command::Admin { email, revoke }) => {
            let database = RunningDatabase::join(config).await?;
            migrations::prepare(database.connect_options(), requirements(config, 1)).await?;
            set_role(&database, email, if *revoke { "user" } else { "admin" }).await
        }
        Some(Command::User { command: UserCommand::Add(new) }) => {
            let account = new.complete()?;
            let database = RunningDatabase::join(config).await?;
            migrations::prepare(database.connect_options(), requirements(config, 1)).await?;
            user::add(database.connect_options(), &account, config.bcrypt_cost).await
        }
        Some(Command::Seed(arguments)) => {
            let password = user::read_password()?;
            seed::check_password(&password)?;
            let database = RunningDatabase::join(config).await?;
            migrations::prepare(database.connect_options(), requirements(config, 1)).await?;
            let options = database.connect_options();
            seed::run(options, arguments, &password, config.bcrypt_cost).await
        }
        Some(Command::Import(arguments)) => {
            let source = arguments.open()?;
            let database = RunningDatabase::join(config).await?;
            migrations::prepare(database.connect_options(), requirements(config, 1)).await?;
            import::run(database.connect_options(), source).await
        }
        Some(Command::Healthcheck) => healthcheck::run(config).await,
        // Printed before there are settings.
        Some(Command::Completions { .. } | Command::Openapi) => Ok(()),
    }
}

fn requirements(config: &Config, connections: usize) -> Requirements {
    let (migrate, allow_unsafe) = (config.migrate_on_start, config.allow_unsafe_database);
    Requirements { connections, migrate, allow_unsafe }
}

fn complete(shell: Shell) {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "healthcare-backend", &mut script);
    // A reader that has left needs no script.
    let _ = std::io::stdout().write_all(&script);
}

async fn run_server(config: &Config, examples: bool) -> Result<(), Failure> {
    let signals = Signals::listen()?;
    let database_connections = max_database_connections(config.workers, config.pool_size);
    let mut database = RunningDatabase::start(config, database_connections).await?;
    if let Some(host) = database.connect_options().exposed_host() {
        tracing::warn!(
            host,
            "the connection to the database is not encrypted and leaves this machine: \
             sslmode=verify-full in DATABASE_URL protects it"
        );
    }
    let result = tokio::select! {
        result = serve_on(&database, config, database_connections, &signals, examples) => result,
        () = signals.second.cancelled() => {
            tracing::warn!("stopped at once by a second signal");
            Ok(())
        }
    };
    // Last, when nothing writes any more.
    database.stop();
    result
}

async fn serve_on(
    database: &RunningDatabase,
    config: &Config,
    database_connections: usize,
    signals: &Signals,
    examples: bool,
) -> Result<(), Failure> {
    let secret = database.jwt_secret(config)?;
    let app = App::new(config.clone(), database.connect_options().clone(), &secret)
        .map_err(|error| error.cause().unwrap_or("cannot start").to_owned())?;
    let app = Arc::new(app);
    // Resolves only if the database cannot be used as it is.
    let mut unusable_database = pin!(async {
        let options = database.connect_options();
        let requirements = requirements(config, database_connections);
        match migrations::prepare_when_available(options, requirements).await {
            Ok(()) => app.use_database(),
            Err(error) => return error,
        }
        tracing::info!("the schema is up to date");
        pending().await
    });
    let mut stopping = pin!(stop_requested(signals, &app));
    tokio::select! {
        error = &mut unusable_database => return Err(error.into()),
        () = &mut stopping => return Ok(()),
        () = app.schema_is_ready.wait() => {}
        () = sleep(WAIT_BEFORE_LISTENING) => {}
    }
    let listener = server::listen((config.host, config.port).into()).map_err(|error| {
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
    server::serve(listener, Arc::clone(&app), end)
        .await
        .map_err(|error| error.cause().unwrap_or("cannot serve").to_owned())?;
    if let Some(error) = failure {
        return Err(error.into());
    }
    tracing::info!("stopped");
    Ok(())
}

/// SIGINT and SIGTERM, however often.
struct Signals {
    first: CancellationToken,
    second: CancellationToken,
}

impl Signals {
    /// From here on these signals do not end the process by themselves, so that they do not
    /// interrupt the start.
    fn listen() -> Result<Self, Failure> {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let signals = Self { first: CancellationToken::new(), second: CancellationToken::new() };
        let received = [signals.first.clone(), signals.second.clone()];
        tokio::spawn(async move {
            for token in received {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                token.cancel();
            }
        });
        Ok(signals)
    }
}

/// Resolves when the service must stop listening: after a signal and the delay in which load
/// balancers notice that it is not ready.
async fn stop_requested(signals: &Signals, app: &App) {
    signals.first.cancelled().await;
    app.begin_stop();
    let was_ready = app.schema_is_ready.initialized();
    let delay = if was_ready { app.config.drain_delay } else { Duration::ZERO };
    tracing::info!(delay_seconds = delay.as_secs(), "stopping");
    sleep(delay).await;
}

async fn set_role(database: &RunningDatabase, email: &str, role: &str) -> Result<(), Failure> {
    let options = database.connect_options();
    let row = statement::query_opt(options, Sql::UsersSetRole, &[&email, &role]).await?;
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
