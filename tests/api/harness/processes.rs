//! The processes of a PostgreSQL server, to be killed or stopped like those of a machine in trouble.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, Signal, kill_process};

use super::wait::wait_until;

/// The processes whose working directory is a folder, as those of a PostgreSQL server have their
/// cluster.
pub fn processes_in(folder: &Path) -> Vec<Pid> {
    let pid =
        |entry: fs::DirEntry| entry.file_name().to_str()?.parse().ok().and_then(Pid::from_raw);
    let works_here = |entry: &fs::DirEntry| {
        fs::read_link(entry.path().join("cwd")).is_ok_and(|working| working == folder)
    };
    let processes = fs::read_dir("/proc").unwrap().flatten();
    processes.filter(works_here).filter_map(pid).collect()
}

/// Kills all processes of the server on a data folder.
pub fn kill(data: &Path) {
    wait_until("PostgreSQL is dead", || {
        let processes = processes_in(data);
        signal(&processes, Signal::KILL);
        processes.is_empty().then_some(())
    });
}

/// Stops all processes of the server on a data folder, until this value is dropped.
pub struct Frozen(PathBuf);

impl Frozen {
    pub fn new(data: PathBuf) -> Self {
        let mut stopped = Vec::new();
        loop {
            let processes = processes_in(&data);
            if processes == stopped {
                return Self(data);
            }
            signal(&processes, Signal::STOP);
            stopped = processes;
        }
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        signal(&processes_in(&self.0), Signal::CONT);
    }
}

fn signal(processes: &[Pid], signal: Signal) {
    for process in processes {
        // It may have ended by itself.
        let _ = kill_process(*process, signal);
    }
}
