//! Locks that block the service's statements for as long as a test needs.

use tokio_postgres::Client;

use super::wait::until;

/// A transaction that holds locks.
pub struct Lock(Client);

impl Lock {
    /// Blocks changes to these patients.
    pub async fn patients(client: Client, ids: &[i64]) -> Self {
        client.batch_execute("BEGIN").await.unwrap();
        let sql = "SELECT FROM patients WHERE id = ANY ($1) FOR UPDATE";
        let locked = client.query(sql, &[&ids]).await.unwrap();
        assert_eq!(locked.len(), ids.len());
        Self(client)
    }

    /// Blocks changes to all doctors there are.
    pub async fn doctors(client: Client) -> Self {
        client.batch_execute("BEGIN; SELECT FROM doctors FOR UPDATE").await.unwrap();
        Self(client)
    }

    /// Blocks inserts that reference this user.
    pub async fn user(client: Client, id: i64) -> Self {
        client.batch_execute("BEGIN").await.unwrap();
        let sql = "SELECT FROM users WHERE id = $1 FOR UPDATE";
        client.query_one(sql, &[&id]).await.unwrap();
        Self(client)
    }

    /// Blocks even reads of patients.
    pub async fn table(client: Client) -> Self {
        client.batch_execute("BEGIN; LOCK TABLE patients").await.unwrap();
        Self(client)
    }

    /// Waits until this many statements are blocked by the lock, and returns their backend pids.
    pub async fn awaited_by(&self, count: usize) -> Vec<i32> {
        blocked_by(&self.0, count).await
    }

    pub async fn release(self) {
        self.0.batch_execute("COMMIT").await.unwrap();
    }
}

/// Waits until this many statements are blocked by a connection, and returns their backend pids.
pub async fn blocked_by(client: &Client, count: usize) -> Vec<i32> {
    let sql = "SELECT DISTINCT pid FROM pg_locks
               WHERE NOT granted AND pg_backend_pid() = ANY (pg_blocking_pids(pid))";
    until("statements wait for the lock", async || {
        let rows = client.query(sql, &[]).await.unwrap();
        let pids: Vec<i32> = rows.iter().map(|row| row.get(0)).collect();
        (pids.len() >= count).then_some(pids)
    })
    .await
}
