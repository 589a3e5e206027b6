//! Keeps the server running: restarts it when it dies.

use std::process::Child;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::cluster::{self, Cluster};

/// How often the server is checked, and the pause between attempts to start it. One that was killed
/// is started again only when its last process has ended.
const CHECK_INTERVAL: Duration = Duration::from_millis(20);

/// A thread that owns the server process.
pub struct Supervisor {
    stop: Sender<()>,
    thread: JoinHandle<()>,
}

impl Supervisor {
    pub fn watch(cluster: Cluster, server: Child) -> Self {
        let (stop, stopped) = mpsc::channel();
        let thread = thread::spawn(move || {
            let mut server = Some(server);
            while stopped.recv_timeout(CHECK_INTERVAL) == Err(RecvTimeoutError::Timeout) {
                let runs =
                    server.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)));
                if !runs {
                    tracing::error!("the embedded PostgreSQL has ended; starting it again");
                    server = match cluster.stop_orphan().and_then(|()| cluster.start()) {
                        Ok(server) => Some(server),
                        Err(error) => {
                            tracing::error!(%error, "the embedded PostgreSQL does not start");
                            None
                        }
                    };
                }
            }
            if let Some(Err(error)) = server.as_mut().map(cluster::stop) {
                tracing::error!(%error, "the embedded PostgreSQL cannot be stopped");
            }
            cluster.clean_up();
        });
        Self { stop, thread }
    }

    /// Stops the server and waits until it has stopped.
    pub fn stop(self) {
        drop(self.stop);
        let _ = self.thread.join();
    }
}
