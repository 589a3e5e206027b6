//! The real program in a process of its own, whose environment and working folder contain only what
//! the test puts there.

use std::fs;
use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use rustix::process::{Pid, Signal, kill_process};
use tokio_postgres::config::Host;

use super::client::Client;
use super::cluster::random;
use super::wait::wait_until;

/// Kills the processes in the folder and removes it when standard input is closed: when the test is
/// done, and also when the tests are killed. SIGQUIT lets PostgreSQL free its shared memory.
const WATCH: &str = r#"
read -r _
signal=QUIT
tries=0
while :; do
    found=
    for process in /proc/[0-9]*; do
        case $(readlink "$process/cwd") in
            "$1" | "$1"/*) found=1; kill -$signal "${process#/proc/}" ;;
        esac
    done
    [ "$found" ] || break
    tries=$((tries + 1))
    [ $tries -lt 100 ] || signal=KILL
    sleep 0.1
done 2> /dev/null
rm -rf "$1"
"#;

/// The working folder of a program. Dropping it kills what still runs there and removes it.
pub struct Workplace {
    path: PathBuf,
    watch: Child,
}

impl Workplace {
    pub fn new() -> Self {
        let path = std::env::temp_dir().join(format!("healthcare-program-{}", random()));
        fs::create_dir(&path).unwrap();
        let path = path.canonicalize().unwrap();
        let mut watch = Command::new("/bin/sh");
        watch.args(["-c", WATCH, "sh"]).arg(&path).stdin(Stdio::piped()).current_dir("/");
        Self { path, watch: watch.spawn().unwrap() }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The default folder of the embedded database.
    pub fn data(&self) -> PathBuf {
        self.path.join("data")
    }

    /// A command with these arguments and settings.
    pub fn command(&self, arguments: &[&str], settings: &[(&str, &str)]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_healthcare-backend"));
        command.args(arguments).current_dir(&self.path).env_clear();
        command.envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
        // Temporary files of the program are removed with the folder.
        command.env("TMPDIR", &self.path).env("PORT", "0").env("BCRYPT_COST", "4");
        // The tests' servers do not wait for the disk.
        command.env("ALLOW_UNSAFE_DATABASE", "true");
        command.envs(settings.iter().copied());
        command
    }

    /// A command that starts the service with a limit of file descriptors.
    pub fn command_with_descriptors(&self, limit: u32, settings: &[(&str, &str)]) -> Command {
        let direct = self.command(&[], settings);
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "ulimit -n $1; exec \"$0\""]).arg(direct.get_program());
        command.arg(limit.to_string()).current_dir(&self.path).env_clear();
        command.envs(direct.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command
    }

    /// Runs the program to its end.
    pub fn run(&self, arguments: &[&str], settings: &[(&str, &str)]) -> Ended {
        Program::spawn(self.command(arguments, settings)).wait()
    }

    /// As [`run`](Self::run), with standard input.
    pub fn run_with_input(
        &self,
        input: &str,
        arguments: &[&str],
        settings: &[(&str, &str)],
    ) -> Ended {
        let file = self.path.join("input");
        fs::write(&file, input).unwrap();
        let input = fs::File::open(file).unwrap();
        Program::start(self.command(arguments, settings), input.into()).wait()
    }

    /// Starts the service and waits until it listens and uses the database.
    pub fn serve(&self, settings: &[(&str, &str)]) -> Program {
        let program = Program::spawn(self.command(&[], settings));
        program.address();
        program.says("the schema is up to date");
        program
    }
}

impl Drop for Workplace {
    fn drop(&mut self) {
        drop(self.watch.stdin.take());
        let _ = self.watch.wait();
    }
}

/// A running program. Dropping it kills it.
pub struct Program {
    child: Child,
    stdout: Output,
    stderr: Output,
}

/// The exit code and the output of a program.
#[derive(Debug)]
pub struct Ended {
    /// None if it was killed by a signal.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Program {
    pub fn spawn(command: Command) -> Self {
        Self::start(command, Stdio::null())
    }

    fn start(mut command: Command, input: Stdio) -> Self {
        command.stdin(input).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stdout = Output::collect(child.stdout.take().unwrap());
        let stderr = Output::collect(child.stderr.take().unwrap());
        Self { child, stdout, stderr }
    }

    /// Waits for the address that it listens on.
    #[track_caller]
    pub fn address(&self) -> SocketAddr {
        let address = wait_until("the program listens or ends", || {
            let said = self.stdout.so_far();
            let (_, rest) = match said.split_once("listening address=") {
                Some(found) => found,
                None if self.stdout.has_ended() => {
                    panic!("ended: {said} {}", self.stderr.so_far())
                }
                None => return None,
            };
            rest.split_once(' ').map(|(address, _)| address.to_owned())
        });
        address.parse().unwrap()
    }

    pub fn client(&self) -> Client {
        Client::new(self.address())
    }

    /// Waits until the program prints this on standard output.
    #[track_caller]
    pub fn says(&self, text: &str) {
        wait_until(text, || self.has_said(text).then_some(()));
    }

    pub fn has_said(&self, text: &str) -> bool {
        self.stdout.so_far().contains(text)
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The resident set size, in KiB.
    pub fn resident_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits until it exits.
    #[track_caller]
    pub fn wait(mut self) -> Ended {
        let status = wait_until("the program ends", || self.child.try_wait().unwrap());
        let [stdout, stderr] = [&mut self.stdout, &mut self.stderr].map(Output::whole);
        Ended { code: status.code(), stdout, stderr }
    }

    /// Stops it with SIGTERM, as a service manager does; it must succeed.
    #[track_caller]
    pub fn stop(self) -> Ended {
        self.signal(Signal::TERM);
        let ended = self.wait();
        assert_eq!(ended.code, Some(0), "{ended:?}");
        ended
    }

    /// Kills it with SIGKILL.
    pub fn kill(self) {
        self.signal(Signal::KILL);
        self.wait();
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Ended {
    /// The one line of standard error that goes with this exit code.
    #[track_caller]
    pub fn complaint(&self, code: i32) -> &str {
        assert_eq!(self.code, Some(code), "{self:?}");
        let line = self.stderr.strip_suffix('\n').unwrap();
        assert!(!line.is_empty() && !line.contains('\n'), "{self:?}");
        line
    }
}

/// The output of a program, read continuously so that it never blocks on a full pipe.
struct Output {
    text: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
}

impl Output {
    fn collect(mut pipe: impl Read + Send + 'static) -> Self {
        let text = Arc::new(Mutex::new(Vec::new()));
        let written = Arc::clone(&text);
        let reader = thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = pipe.read(&mut buffer) {
                written.lock().unwrap().extend_from_slice(&buffer[..count]);
            }
        });
        Self { text, reader: Some(reader) }
    }

    fn so_far(&self) -> String {
        String::from_utf8_lossy(&self.text.lock().unwrap()).into_owned()
    }

    fn has_ended(&self) -> bool {
        self.reader.as_ref().is_none_or(JoinHandle::is_finished)
    }

    fn whole(&mut self) -> String {
        self.reader.take().unwrap().join().unwrap();
        self.so_far()
    }
}

/// What the tests' programs sign tokens with.
pub const SECRET: &str = "a secret of the tests, 32 bytes or more";

/// The settings for an existing database.
pub fn with_database(url: &str) -> [(&str, &str); 2] {
    [("DATABASE_URL", url), ("JWT_SECRET", SECRET)]
}

/// A `DATABASE_URL` for the tests' own cluster.
pub fn database_url(config: &tokio_postgres::Config) -> String {
    let [Host::Unix(folder)] = config.get_hosts() else { panic!("not on a socket") };
    let (user, name) = (config.get_user().unwrap(), config.get_dbname().unwrap());
    let options = config.get_options().map(|options| format!(" options='{options}'"));
    format!("host={} user={user} dbname={name}{}", folder.display(), options.unwrap_or_default())
}
