//! A PostgreSQL cluster: created by `initdb`, started, found running after a crash, stopped.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::SUPERUSER;
use super::folder::{Folder, random_hex};
use super::programs::Programs;
use crate::db::SetupError;

/// Crash recovery replays the write-ahead log, which may take long.
const START_TIMEOUT: Duration = Duration::from_secs(300);
/// A fast shutdown ends sessions at once; only the checkpoint takes time.
const STOP_TIMEOUT: Duration = Duration::from_secs(60);
const POLL_INTERVAL: Duration = Duration::from_millis(10);
/// A postmaster's children end on their own once it is dead, but not one that waits for another of
/// them, and no server starts beside it. To kill it loses nothing, because the next start recovers.
const ORPHANS_PATIENCE: Duration = Duration::from_millis(300);

/// The longest portable path of a Unix socket, in bytes.
const MAX_SOCKET_PATH: usize = 100;
/// Linux's process file system.
const PROC: &str = "/proc";

const SOCKET_FILE: &str = ".s.PGSQL.5432";

pub struct Cluster {
    programs: Programs,
    folder: Folder,
    socket_folder: PathBuf,
    temporary: bool,
    connections: usize,
}

impl Cluster {
    /// `connections` is the most that the service will use.
    pub fn new(
        programs: Programs,
        folder: &Folder,
        connections: usize,
    ) -> Result<Self, SetupError> {
        let in_folder = folder.path().join("run");
        let fits = in_folder.join(SOCKET_FILE).as_os_str().len() <= MAX_SOCKET_PATH;
        let socket_folder = if fits {
            in_folder
        } else {
            std::env::temp_dir().join(format!("healthcare-{}", random_hex::<8>()?))
        };
        folder.create_private(&socket_folder)?;
        let folder = folder.clone();
        Ok(Self { programs, folder, socket_folder, temporary: !fits, connections })
    }

    pub fn socket_folder(&self) -> &Path {
        &self.socket_folder
    }

    /// Creates the cluster under a temporary name and renames it, so that a crash leaves a complete
    /// one or none.
    pub fn create_if_missing(&self) -> Result<(), SetupError> {
        let cluster = self.folder.cluster();
        if cluster.join("PG_VERSION").is_file() {
            return Ok(());
        }
        if cluster.exists() {
            return Err(SetupError::new(format!(
                "{} is there but is no PostgreSQL cluster. Move it away or set another DATA_DIR.",
                cluster.display()
            )));
        }
        self.folder.remove_unfinished_clusters();
        // A unique name, because an initdb that survived a crash of the service still cleans up its
        // own folder.
        let unfinished = cluster.with_extension(format!("new-{}", random_hex::<4>()?));
        self.folder.create_private(&unfinished)?;
        let output = self
            .programs
            .command("initdb")
            .arg("--pgdata")
            .arg(&unfinished)
            .arg(format!("--username={SUPERUSER}"))
            .args(["--auth-local=trust", "--auth-host=reject"])
            .args(["--encoding=UTF8", "--locale=C.UTF-8", "--no-instructions"])
            .output()
            .map_err(|error| SetupError::new(format!("Cannot run initdb: {error}")))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(SetupError::new(format!("initdb failed: {}", said.trim())));
        }
        self.folder.rename_durably(&unfinished, &cluster)
    }

    /// Stops what a server has left running: all of it when the service was killed, its children when
    /// the postmaster was.
    pub fn stop_orphan(&self) -> Result<(), SetupError> {
        let cluster = self.folder.cluster();
        if self.orphan_runs() {
            // A failure shows below: the processes are still there.
            let _ = self
                .programs
                .command("pg_ctl")
                .args(["stop", "--mode=fast", "--wait", "--silent", "--pgdata"])
                .arg(&cluster)
                .arg(format!("--timeout={}", STOP_TIMEOUT.as_secs()))
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status();
        }
        let started = Instant::now();
        loop {
            let left = processes_in(&cluster);
            if left.is_empty() {
                break;
            }
            if started.elapsed() > STOP_TIMEOUT {
                return Err(SetupError::new(format!(
                    "A PostgreSQL server that was left behind still runs on {} and does not stop.",
                    cluster.display()
                )));
            }
            if started.elapsed() > ORPHANS_PATIENCE {
                for pid in left {
                    signal(pid, Signal::KILL);
                }
            }
            sleep(POLL_INTERVAL);
        }
        if Path::new(PROC).exists() {
            // PostgreSQL would take any process that has reused the recorded id for its own.
            let _ = fs::remove_file(cluster.join("postmaster.pid"));
            let _ = fs::remove_file(self.socket_folder.join(format!("{SOCKET_FILE}.lock")));
        }
        Ok(())
    }

    /// Starts the server and waits until it accepts connections.
    pub fn start(&self) -> Result<Child, SetupError> {
        let mut server = self
            .command()?
            .spawn()
            .map_err(|error| SetupError::new(format!("Cannot run postgres: {error}")))?;
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            if self.is_ready(server.id()) {
                return Ok(server);
            }
            if !matches!(server.try_wait(), Ok(None)) {
                return Err(SetupError::new(format!(
                    "PostgreSQL did not start: {} ({})",
                    self.folder.last_fatal_error().unwrap_or_default(),
                    self.folder.log().display()
                )));
            }
            if Instant::now() > deadline {
                let _ = stop(&mut server);
                return Err(SetupError::new("PostgreSQL did not start within five minutes."));
            }
            sleep(POLL_INTERVAL);
        }
    }

    /// Removes the socket folder if it is outside of the data folder.
    pub fn clean_up(&self) {
        if self.temporary {
            let _ = fs::remove_dir_all(&self.socket_folder);
        }
    }

    fn command(&self) -> Result<Command, SetupError> {
        let log = self.folder.open_log()?;
        let quoted = self.socket_folder.display().to_string().replace('"', "\"\"");
        let max_connections = (self.connections + 10).max(100);
        let mut command = self.programs.command("postgres");
        command.arg("-D").arg(self.folder.cluster()).stdout(Stdio::null()).stderr(log);
        for setting in [
            "listen_addresses=".to_owned(),
            format!("unix_socket_directories=\"{quoted}\""),
            "unix_socket_permissions=0700".to_owned(),
            format!("max_connections={max_connections}"),
            "shared_buffers=128MB".to_owned(),
            // PostgreSQL would log rows and statements, which contain health data.
            "log_error_verbosity=terse".to_owned(),
            "log_min_error_statement=panic".to_owned(),
            "log_min_messages=fatal".to_owned(),
        ] {
            command.arg("-c").arg(setting);
        }
        Ok(command)
    }

    /// Whether the server with this process id reports that it is ready and accepts connections.
    fn is_ready(&self, pid: u32) -> bool {
        let notes =
            fs::read_to_string(self.folder.cluster().join("postmaster.pid")).unwrap_or_default();
        let lines: Vec<&str> = notes.lines().map(str::trim).collect();
        lines.first() == Some(&pid.to_string().as_str())
            && lines.get(7) == Some(&"ready")
            && UnixStream::connect(self.socket_folder.join(SOCKET_FILE)).is_ok()
    }

    /// Whether the process in the pid file is a server on this cluster, and not one that has reused
    /// its id.
    fn orphan_runs(&self) -> bool {
        let cluster = self.folder.cluster();
        let notes = fs::read_to_string(cluster.join("postmaster.pid")).unwrap_or_default();
        let Some(pid) = notes.lines().next().and_then(|line| line.trim().parse::<u32>().ok())
        else {
            return false;
        };
        if Path::new(PROC).exists() {
            return runs_in(&Path::new(PROC).join(pid.to_string()), &cluster);
        }
        let output = Command::new("ps").args(["-o", "command=", "-p", &pid.to_string()]).output();
        output.is_ok_and(|output| {
            String::from_utf8_lossy(&output.stdout).contains(&*cluster.to_string_lossy())
        })
    }
}

/// The processes of PostgreSQL whose working directory is a folder, as that of a server's is its
/// cluster; none where the system does not tell.
fn processes_in(folder: &Path) -> Vec<u32> {
    let processes = fs::read_dir(PROC).into_iter().flatten().flatten();
    let found = processes.filter(|process| runs_in(&process.path(), folder));
    found.filter_map(|process| process.file_name().to_str()?.parse().ok()).collect()
}

fn runs_in(process: &Path, folder: &Path) -> bool {
    let name = fs::read_to_string(process.join("comm")).unwrap_or_default();
    name.trim_end() == "postgres"
        && fs::read_link(process.join("cwd")).is_ok_and(|working| working == folder)
}

/// Stops the server: sessions end at once, committed data is safe.
pub fn stop(server: &mut Child) -> std::io::Result<()> {
    // A server in crash recovery may not react to SIGINT. SIGQUIT leaves recovery to the next
    // start, and loses no data either.
    for (ask, patience) in [(Signal::INT, STOP_TIMEOUT / 4), (Signal::QUIT, STOP_TIMEOUT)] {
        signal(server.id(), ask);
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline {
            if server.try_wait()?.is_some() {
                return Ok(());
            }
            sleep(POLL_INTERVAL);
        }
    }
    server.kill()
}

fn signal(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    if let Some(pid) = pid {
        let _ = kill_process(pid, signal);
    }
}
