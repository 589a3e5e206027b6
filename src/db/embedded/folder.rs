//! `DATA_DIR`: its path, the ownership of what is in it, and its lock.
//!
//! `lock` is held by the running service, `jwt_secret` is readable by its owner alone, `cluster` is
//! PostgreSQL's data, `run` its socket's folder, `postgresql.log` its log.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use super::programs::{User, unprivileged_user};
use crate::db::SetupError;
use crate::secret::{MIN_SECRET_BYTES, Secret};

/// Used by root if the user postgres cannot enter the default folder.
const SYSTEM_DATA_DIR: &str = "/var/lib/healthcare-backend";

/// The default `DATA_DIR`, relative to the working directory.
const DEFAULT_DATA_DIR: &str = "./data";

/// An existing folder that PostgreSQL can enter.
#[derive(Debug, Clone)]
pub struct Folder {
    path: PathBuf,
    owner: Option<User>,
}

/// Held until dropped, and released by the system if the process dies.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "dropping the file releases the lock")] File);

impl Folder {
    /// Creates the folder if it does not exist.
    pub fn open(data_dir: Option<&Path>) -> Result<Self, SetupError> {
        let owner = unprivileged_user()?;
        let path = create(data_dir.unwrap_or(Path::new(DEFAULT_DATA_DIR)))?;
        let Some(user) = owner else { return Ok(Self { path, owner }) };
        let Some(closed) = first_closed_folder(&path, user) else {
            return Ok(Self { path, owner });
        };
        if data_dir.is_some() {
            return Err(SetupError::new(format!(
                "DATA_DIR lies below {}, which the user postgres cannot enter (PostgreSQL does not \
                 run as root). Open that folder (chmod o+x) or set another DATA_DIR.",
                closed.display()
            )));
        }
        // Do not leave an empty default folder behind.
        let _ = fs::remove_dir(&path);
        Ok(Self { path: create(Path::new(SYSTEM_DATA_DIR))?, owner })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn cluster(&self) -> PathBuf {
        self.path.join("cluster")
    }

    pub fn log(&self) -> PathBuf {
        self.path.join("postgresql.log")
    }

    /// Removes clusters that an interrupted `initdb` left behind. One that survived a crash may
    /// still write there: what cannot be removed now is removed at the next first start.
    pub fn remove_unfinished_clusters(&self) {
        for entry in fs::read_dir(&self.path).into_iter().flatten().flatten() {
            let path = entry.path();
            if entry.file_name().to_string_lossy().starts_with("cluster.new")
                && let Err(error) = fs::remove_dir_all(&path)
            {
                let folder = path.display();
                tracing::warn!(%folder, %error, "an unfinished cluster cannot be removed yet");
            }
        }
    }

    /// The last fatal error in the server's log.
    pub fn last_fatal_error(&self) -> Option<String> {
        let log = fs::read(self.log()).ok()?;
        let log = String::from_utf8_lossy(&log);
        let (_, reason) = log.lines().rev().find_map(|line| line.split_once("FATAL:"))?;
        Some(reason.trim().to_owned())
    }

    /// The version that created the cluster, if there is one.
    pub fn cluster_version(&self) -> Option<String> {
        fs::read_to_string(self.cluster().join("PG_VERSION")).ok()
    }

    /// The socket folder in the running server's pid file.
    pub fn running_socket_folder(&self) -> Option<PathBuf> {
        let notes = fs::read_to_string(self.cluster().join("postmaster.pid")).ok()?;
        notes.lines().nth(4).filter(|line| !line.is_empty()).map(PathBuf::from)
    }

    /// None while another process holds it.
    pub fn lock(&self) -> Result<Option<Lock>, SetupError> {
        let path = self.path.join("lock");
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(|error| cannot("open", &path, &error))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Lock(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(cannot("lock", &path, &error)),
        }
    }

    /// As [`lock`](Self::lock), but retries briefly: a command may be testing whether it is free.
    pub fn lock_patiently(&self) -> Result<Option<Lock>, SetupError> {
        for _ in 0..10 {
            if let Some(lock) = self.lock()? {
                return Ok(Some(lock));
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(None)
    }

    /// Creates a folder that only the server's user can enter.
    pub fn create_private(&self, path: &Path) -> Result<(), SetupError> {
        match DirBuilder::new().mode(0o700).create(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(cannot("make", path, &error));
            }
            _ => {}
        }
        fs::set_permissions(path, Permissions::from_mode(0o700))
            .and_then(|()| self.give_to_server(path))
            .map_err(|error| cannot("own", path, &error))
    }

    /// The server's log, opened for appending; truncated once it is large.
    pub fn open_log(&self) -> Result<File, SetupError> {
        const LARGE: u64 = 16 << 20;
        let path = self.log();
        let large = fs::metadata(&path).is_ok_and(|log| log.len() > LARGE);
        OpenOptions::new()
            .create(true)
            .append(!large)
            .write(true)
            .truncate(large)
            .mode(0o600)
            .open(&path)
            .map_err(|error| cannot("open", &path, &error))
    }

    /// The secret that signs tokens, generated at the first call.
    pub fn jwt_secret(&self) -> Result<Secret, SetupError> {
        let path = self.path.join("jwt_secret");
        if let Ok(mut file) = File::open(&path) {
            let mut text = String::new();
            file.read_to_string(&mut text).map_err(|error| cannot("read", &path, &error))?;
            return Secret::new(text.trim()).ok_or_else(|| {
                SetupError::new(format!(
                    "{} holds fewer than {MIN_SECRET_BYTES} bytes. Remove it to have a new one made.",
                    path.display()
                ))
            });
        }
        let secret = random_hex::<32>()?;
        // Written under a temporary name and renamed, so that a crash leaves a complete secret or
        // none.
        let unfinished = self.path.join("jwt_secret.new");
        let _ = fs::remove_file(&unfinished);
        OpenOptions::new()
            .create_new(true)
            .write(true)
            .mode(0o600)
            .open(&unfinished)
            .and_then(|mut file| {
                file.write_all(secret.as_bytes())?;
                file.sync_all()
            })
            .map_err(|error| cannot("write", &path, &error))?;
        self.rename_durably(&unfinished, &path)?;
        Secret::new(secret).ok_or_else(|| SetupError::new("the secret is too short"))
    }

    /// Renames and syncs the folder, so that the rename survives a power failure.
    pub fn rename_durably(&self, unfinished: &Path, path: &Path) -> Result<(), SetupError> {
        fs::rename(unfinished, path)
            .and_then(|()| sync(&self.path))
            .map_err(|error| cannot("make", path, &error))
    }

    fn give_to_server(&self, path: &Path) -> io::Result<()> {
        match self.owner {
            Some(user) => chown(path, Some(user.uid), Some(user.gid)),
            None => Ok(()),
        }
    }
}

/// `N` random bytes as hexadecimal digits.
pub fn random_hex<const N: usize>() -> Result<String, SetupError> {
    use std::fmt::Write;

    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)
        .map_err(|error| SetupError::new(format!("no random numbers: {error}")))?;
    let mut text = String::with_capacity(2 * N);
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    Ok(text)
}

/// One sentence about a file or folder.
pub fn cannot(verb: &str, path: &Path, error: &io::Error) -> SetupError {
    SetupError::new(format!("Cannot {verb} {}: {error}", path.display()))
}

fn create(path: &Path) -> Result<PathBuf, SetupError> {
    let is_missing = |path: &&Path| !path.as_os_str().is_empty() && !path.is_dir();
    let missing = path.ancestors().take_while(is_missing).count();
    if missing > 0 {
        // Others may traverse it, as the server does when run by root, but not list it.
        DirBuilder::new().recursive(true).mode(0o711).create(path).map_err(|error| {
            // In a container, for example, which has no folder to write in.
            SetupError::new(format!(
                "Cannot make {}: {error}. Set DATA_DIR to a folder that can be made, or \
                     DATABASE_URL to a server that runs already.",
                path.display()
            ))
        })?;
    }
    let path = path.canonicalize().map_err(|error| cannot("find", path, &error))?;
    for parent in path.ancestors().skip(1).take(missing) {
        sync(parent).map_err(|error| cannot("make durable", parent, &error))?;
    }
    Ok(path)
}

/// Syncs the entries of a folder. Syncing a file does not sync its name (fsync(2)).
fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// The outermost ancestor of `path` that the user cannot enter, found by trying.
fn first_closed_folder(path: &Path, user: User) -> Option<PathBuf> {
    let mut ancestors: Vec<&Path> = path.ancestors().collect();
    ancestors.reverse();
    ancestors
        .into_iter()
        .find(|folder| {
            let status = Command::new("/bin/sh")
                .args(["-c", "cd \"$1\""])
                .arg("sh")
                .arg(folder)
                .current_dir("/")
                .uid(user.uid)
                .gid(user.gid)
                .stdin(Stdio::null())
                .stderr(Stdio::null())
                .status();
            !status.is_ok_and(|status| status.success())
        })
        .map(Path::to_owned)
}
