//! One PostgreSQL for a run of the test binary, stopped and removed however the binary ends.

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::thread::sleep;
use std::time::{Duration, Instant};

use healthcare_backend::db::embedded::programs::Programs;

use super::processes;

/// Starts the server at each line of standard input, and stops it when that is closed, so also when
/// the tests are killed.
const WATCH: &str = r#"
program=$1
folder=$2
shift 2
while read -r _; do
    "$program" -D "$folder/data" -c listen_addresses= -c unix_socket_directories="$folder" \
        -c max_connections=400 -c fsync=off -c full_page_writes=off -c shared_buffers=64MB \
        -c autovacuum=off "$@" >> "$folder/log" 2>&1 &
    server=$!
done
kill -QUIT $server
kill -CONT $server
wait $server
rm -rf "$folder"
"#;

pub struct Cluster {
    folder: PathBuf,
    stdin: ChildStdin,
}

/// The cluster of this run, started by the first test that needs it.
pub fn cluster() -> &'static Cluster {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    CLUSTER.get_or_init(|| Cluster::start(&[], &[]))
}

impl Cluster {
    /// Starts with command line options of the server, and additional files in its data folder.
    pub fn start(options: &[&str], files: &[(&str, &str)]) -> Self {
        let programs = Programs::find(None, None).unwrap();
        let folder = new_folder(&programs);
        let made = programs
            .command("initdb")
            .arg("--pgdata")
            .arg(folder.join("data"))
            .args(["--username=postgres", "--auth=trust", "--no-sync"])
            .args(["--encoding=UTF8", "--locale=C.UTF-8"])
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        for (name, text) in files {
            let file = folder.join("data").join(name);
            fs::write(&file, text).unwrap();
            // PostgreSQL refuses a key that others can read.
            fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
            if let Some(user) = programs.user() {
                chown(&file, Some(user.uid), Some(user.gid)).unwrap();
            }
        }

        Self::run(&programs, folder, options)
    }

    /// A streaming standby of this cluster.
    pub fn standby(&self) -> Self {
        let programs = Programs::find(None, None).unwrap();
        let folder = new_folder(&programs);
        // Some systems link the server's programs into `PATH`, but not this one.
        let initdb = fs::canonicalize(programs.command("initdb").get_program()).unwrap();
        let copied = programs
            .command(initdb.with_file_name("pg_basebackup").to_str().unwrap())
            .arg("--host")
            .arg(&self.folder)
            .arg("--pgdata")
            .arg(folder.join("data"))
            .args(["--username=postgres", "--write-recovery-conf", "--checkpoint=fast"])
            .args(["--wal-method=stream", "--no-sync"])
            .output()
            .unwrap();
        assert!(copied.status.success(), "{}", String::from_utf8_lossy(&copied.stderr));
        Self::run(&programs, folder, &[])
    }

    /// The server's log.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap()
    }

    /// Starts the server on the folder's data.
    fn run(programs: &Programs, folder: PathBuf, options: &[&str]) -> Self {
        let mut watch = Command::new("/bin/sh");
        watch.args(["-c", WATCH, "sh"]).arg(programs.command("postgres").get_program());
        watch.arg(&folder).args(options).stdin(Stdio::piped()).current_dir("/").process_group(0);
        if let Some(user) = programs.user() {
            watch.uid(user.uid).gid(user.gid);
        }
        let stdin = watch.spawn().unwrap().stdin.take().unwrap();
        let cluster = Self { folder, stdin };
        cluster.begin();
        cluster
    }

    /// Starts the server, which does not run.
    fn begin(&self) {
        (&self.stdin).write_all(b"\n").unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        while !is_ready(&self.folder) {
            assert!(Instant::now() < deadline, "PostgreSQL does not start");
            sleep(Duration::from_millis(5));
        }
    }

    /// Kills the server, as a power failure would.
    pub fn kill(&self) {
        processes::kill(&self.data());
        // It says that the server is ready.
        let _ = fs::remove_file(self.data().join("postmaster.pid"));
    }

    /// Starts the server that was killed.
    pub fn start_again(&self) {
        self.begin();
    }

    /// Its data folder.
    pub fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// Where the server listens.
    pub fn socket(&self) -> PathBuf {
        self.folder.join(".s.PGSQL.5432")
    }

    /// Connects to a database as a role.
    pub fn config(&self, user: &str, database: &str) -> tokio_postgres::Config {
        let mut config = tokio_postgres::Config::new();
        config.host_path(&self.folder).user(user).dbname(database);
        config
    }
}

/// A folder that the server's user can enter.
fn new_folder(programs: &Programs) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("healthcare-test-{}", random()));
    fs::create_dir(&folder).unwrap();
    if let Some(user) = programs.user() {
        chown(&folder, Some(user.uid), Some(user.gid)).unwrap();
    }
    folder
}

fn is_ready(folder: &Path) -> bool {
    let notes = fs::read_to_string(folder.join("data/postmaster.pid")).unwrap_or_default();
    notes.lines().nth(7).is_some_and(|status| status.trim() == "ready")
}

/// A port below the ephemeral range, so that no client takes it meanwhile.
pub fn free_port() -> u16 {
    let start = u16::try_from(getrandom::u32().unwrap() % 10_000).unwrap() + 20_000;
    let free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    (start..32_000).find(free).unwrap()
}

/// A name that is unique across runs.
pub fn random() -> String {
    format!("{:016x}", getrandom::u64().unwrap())
}
