//! Lookups of patients by owner and id: concurrent ones become one statement.

use std::sync::Arc;

use tokio_postgres::Row;

use super::batch::{BatchOutcome, Batcher, in_order};
use super::{SharedConnection, Sql};
use crate::error::Result;
use crate::metrics::BatchMetrics;

/// The most patients that one statement looks up.
const MAX_BATCH: usize = 256;

/// Owner and id.
type PatientKey = (i64, i64);

/// Looks patients up on a shared connection.
pub struct PatientLookups {
    connection: Arc<SharedConnection>,
    batcher: Batcher<PatientKey, Option<Row>>,
}

impl PatientLookups {
    pub fn new(connection: Arc<SharedConnection>) -> Self {
        let batcher = Batcher::new(MAX_BATCH, None, Arc::clone(connection.round_trip()));
        Self { connection, batcher }
    }

    pub fn metrics(&self) -> &Arc<BatchMetrics> {
        self.batcher.metrics()
    }

    /// The patient with this id, if it is the owner's.
    pub async fn get(&self, owner: i64, id: i64) -> Result<Option<Row>> {
        let key = (owner, id);
        match self.batcher.ask(owner, key, |keys| self.get_all(keys)).await {
            BatchOutcome::Answered(found) => found,
            // A read can be repeated.
            BatchOutcome::Released(_) | BatchOutcome::Lost => Box::pin(self.get_one(key)).await,
        }
    }

    async fn get_all(&self, keys: Vec<PatientKey>) -> Vec<Result<Option<Row>>> {
        if let [key] = keys[..] {
            return vec![self.get_one(key).await];
        }
        let count = keys.len();
        let (owners, ids): (Vec<i64>, Vec<i64>) = keys.into_iter().unzip();
        let rows = self.connection.query(Sql::PatientsGetMany, &[&owners, &ids]).await;
        match rows.and_then(|rows| in_order(rows, count)) {
            Ok(found) => found.into_iter().map(Ok).collect(),
            Err(error) => vec![Err(error); count],
        }
    }

    async fn get_one(&self, (owner, id): PatientKey) -> Result<Option<Row>> {
        self.connection.query_opt(Sql::PatientsGet, &[&owner, &id]).await
    }
}
