//! A pause in the middle of a statement, in which others may commit what it does not see any more.

use tokio_postgres::Client;

use super::database::TestDb;
use super::lock::blocked_by;

/// A connection that can let a statement wait after its snapshot, where it begins to read a table.
pub struct Pause(Client);

impl Pause {
    /// Puts a view in the place of the table, which is called `kept_` and its name then.
    pub async fn at(database: &TestDb, table: &str) -> Self {
        let client = database.connect().await;
        // As the function is STABLE and takes nothing of a row, it is called once, before the first.
        let sql = format!(
            "CREATE SEQUENCE reads;
             CREATE FUNCTION pause() RETURNS boolean STABLE LANGUAGE plpgsql AS $$
             BEGIN
                 IF nextval('reads') = 1 THEN
                     PERFORM pg_advisory_xact_lock(1);
                 END IF;
                 RETURN true;
             END $$;
             SELECT nextval('reads');
             ALTER TABLE {table} RENAME TO kept_{table};
             CREATE VIEW {table} AS SELECT * FROM kept_{table} WHERE pause()"
        );
        client.batch_execute(&sql).await.unwrap();
        Self(client)
    }

    /// Lets the next statement that reads the table wait.
    pub async fn next(&self) {
        let sql = "SELECT pg_advisory_lock(1); ALTER SEQUENCE reads RESTART";
        self.0.batch_execute(sql).await.unwrap();
    }

    /// Waits until it does.
    pub async fn begun(&self) {
        blocked_by(&self.0, 1).await;
    }

    /// Lets it go on.
    pub async fn end(&self) {
        self.0.batch_execute("SELECT pg_advisory_unlock(1)").await.unwrap();
    }
}
