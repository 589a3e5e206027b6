//! PostgreSQL's server programs: where they are installed, and which user runs them.

use std::ffi::OsStr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::major_version;
use crate::db::SetupError;

/// Where packages install PostgreSQL, as a parent of versioned folders and the folder of the
/// programs below: Debian, Fedora, Homebrew with both of its prefixes, and manual installations.
const USUAL_FOLDERS: [(&str, &str); 6] = [
    ("/usr/lib/postgresql", "bin"),
    ("/usr", "bin"),
    ("/opt/homebrew/opt", "bin"),
    ("/usr/local/opt", "bin"),
    ("/usr/local/pgsql", ""),
    ("/opt/homebrew", ""),
];

/// The user that runs PostgreSQL when the service runs as root, which PostgreSQL refuses.
const UNPRIVILEGED_USER: &str = "postgres";

/// One installed PostgreSQL.
#[derive(Debug, Clone)]
pub struct Programs {
    folder: PathBuf,
    version: u32,
    user: Option<User>,
}

/// The user that runs the programs, if not the service's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct User {
    pub uid: u32,
    pub gid: u32,
}

impl Programs {
    /// Looks only in `postgres_bin` if it is given, else in `PATH` and the usual folders, for the
    /// version of an existing cluster, or else for the first.
    pub fn find(
        postgres_bin: Option<&Path>,
        cluster_version: Option<&str>,
    ) -> Result<Self, SetupError> {
        let user = unprivileged_user()?;
        let folders = match postgres_bin {
            Some(folder) => vec![folder.to_owned()],
            None => candidates(),
        };
        let found: Vec<Self> = folders
            .into_iter()
            .filter_map(|folder| {
                let version = version_in(&folder)?;
                Some(Self { folder, version, user })
            })
            .collect();
        let needed = cluster_version.and_then(major_version);
        let fits = |programs: &&Self| needed.is_none_or(|needed| programs.version == needed);
        if let Some(programs) = found.iter().find(fits) {
            return Ok(programs.clone());
        }
        Err(SetupError::new(match (found.first(), needed, postgres_bin) {
            (Some(other), Some(needed), _) => format!(
                "The data was made by PostgreSQL {needed}, but {} holds version {}. Install version \
                 {needed} or set POSTGRES_BIN to its programs, or move the data with pg_upgrade.",
                other.folder.display(),
                other.version
            ),
            (_, _, Some(folder)) => format!(
                "POSTGRES_BIN has no PostgreSQL server programs (initdb, postgres): {}",
                folder.display()
            ),
            _ => "PostgreSQL's server programs (initdb, postgres) are not installed. Install them \
                  (Debian: apt install postgresql), set POSTGRES_BIN to their folder, or set \
                  DATABASE_URL to a server that runs already."
                .to_owned(),
        }))
    }

    /// The owner that the programs' files need, if not the service's own user.
    pub fn user(&self) -> Option<User> {
        self.user
    }

    /// A command that runs one of the programs as the right user, in a process group of its own so
    /// that it gets no signals of the terminal.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.folder.join(program));
        // The programs change into their working directory at start, and ours may not be accessible
        // to them.
        command.current_dir("/").stdin(Stdio::null()).process_group(0);
        if let Some(user) = self.user {
            command.uid(user.uid).gid(user.gid);
        }
        command
    }
}

/// The user to run the programs as, if this process runs as root.
pub fn unprivileged_user() -> Result<Option<User>, SetupError> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let id = |flag: &str| {
        let output = Command::new("id").args([flag, UNPRIVILEGED_USER]).output().ok()?;
        String::from_utf8(output.stdout).ok()?.trim().parse().ok()
    };
    match (id("-u"), id("-g")) {
        (Some(uid), Some(gid)) => Ok(Some(User { uid, gid })),
        _ => Err(SetupError::new(
            "PostgreSQL does not run as root, and there is no user called postgres to run it as. \
             Create one, or start healthcare-backend as another user.",
        )),
    }
}

fn version_in(folder: &Path) -> Option<u32> {
    if !folder.join("initdb").is_file() {
        return None;
    }
    let output = Command::new(folder.join("postgres")).arg("--version").output().ok()?;
    major_version(&String::from_utf8_lossy(&output.stdout))
}

fn candidates() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> =
        std::env::split_paths(&path).filter(|folder| folder.is_absolute()).collect();
    for (parent, below) in USUAL_FOLDERS {
        let mut versions: Vec<PathBuf> = std::fs::read_dir(parent)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| names_postgres(path.file_name(), parent))
            .collect();
        // The newest version first.
        versions.sort_by_key(|path| std::cmp::Reverse(folder_version(path)));
        folders.extend(versions.into_iter().map(|version| version.join(below)));
    }
    folders
}

/// Whether a folder below one of the usual ones belongs to PostgreSQL.
fn names_postgres(name: Option<&OsStr>, parent: &str) -> bool {
    let name = name.and_then(OsStr::to_str).unwrap_or_default();
    match parent {
        "/usr/lib/postgresql" => true,
        "/usr" => name.starts_with("pgsql-"),
        "/usr/local/pgsql" | "/opt/homebrew" => name == "bin",
        _ => name.starts_with("postgresql"),
    }
}

fn folder_version(path: &Path) -> Option<u32> {
    let name = path.file_name()?.to_str()?;
    name.rsplit(['-', '@']).next()?.parse().ok()
}
