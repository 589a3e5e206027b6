//! Parts of a pool, and of each part what one user may take: none of what runs on the pool, and nobody,
//! can take it all.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::error::{Error, Result};

/// How long a request waits for a place before it is refused.
pub const WAIT_TIMEOUT: Duration = Duration::from_secs(3);

/// So many places. One user gets half of them, and at least one; the others of that user wait, and not
/// in front of anybody else.
pub struct Share {
    places: Arc<Semaphore>,
    each: usize,
    /// What is left to the users who have a place or wait for one.
    users: Mutex<HashMap<i64, Arc<Semaphore>>>,
}

/// The right to one connection, until it is dropped.
pub struct Place {
    _place: OwnedSemaphorePermit,
    _turn: Option<Turn>,
}

impl Share {
    pub fn new(size: usize) -> Arc<Self> {
        let places = Arc::new(Semaphore::new(size));
        Arc::new(Self { places, each: (size / 2).max(1), users: Mutex::default() })
    }

    /// A place, for a user if one is behind it. [`Error::Overloaded`] if there is none in time.
    pub async fn enter(self: &Arc<Self>, user: Option<i64>) -> Result<Place> {
        let entering = timeout(WAIT_TIMEOUT, async {
            // In this order, so that whoever waits for a turn keeps no place from others.
            let turn = match user {
                Some(user) => Some(Turn::take(self, user).await?),
                None => None,
            };
            let place = Arc::clone(&self.places).acquire_owned().await.ok()?;
            Some(Place { _place: place, _turn: turn })
        });
        entering.await.ok().flatten().ok_or(Error::Overloaded { retry_after: 1 })
    }

    fn users(&self) -> MutexGuard<'_, HashMap<i64, Arc<Semaphore>>> {
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One of the turns of a user, or one who waits for it.
struct Turn {
    share: Arc<Share>,
    user: i64,
    /// What is left to the user.
    left: Option<Arc<Semaphore>>,
    permit: Option<OwnedSemaphorePermit>,
}

impl Turn {
    async fn take(share: &Arc<Share>, user: i64) -> Option<Self> {
        let left = Arc::clone(
            share.users().entry(user).or_insert_with(|| Arc::new(Semaphore::new(share.each))),
        );
        let acquire = Arc::clone(&left).acquire_owned();
        let mut turn = Self { share: Arc::clone(share), user, left: Some(left), permit: None };
        turn.permit = Some(acquire.await.ok()?);
        Some(turn)
    }
}

impl Drop for Turn {
    /// The last one of a user leaves nothing behind.
    fn drop(&mut self) {
        self.permit = None;
        let mut users = self.share.users();
        self.left = None;
        if users.get(&self.user).is_some_and(|left| Arc::strong_count(left) == 1) {
            users.remove(&self.user);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use futures_util::FutureExt;

    use super::*;

    const ADA: Option<i64> = Some(1);
    const EVE: Option<i64> = Some(2);

    fn at_once(share: &Arc<Share>, user: Option<i64>) -> Option<Place> {
        share.enter(user).now_or_never().map(Result::unwrap)
    }

    #[tokio::test]
    async fn a_user_has_half_of_the_places_and_all_together_have_all() {
        let share = Share::new(4);
        let hers = [at_once(&share, ADA).unwrap(), at_once(&share, ADA).unwrap()];
        assert!(at_once(&share, ADA).is_none());
        let others = [at_once(&share, EVE).unwrap(), at_once(&share, None).unwrap()];
        assert!(at_once(&share, None).is_none());
        drop(hers);
        let _more = [at_once(&share, None).unwrap(), at_once(&share, ADA).unwrap()];
        assert!(at_once(&share, ADA).is_none());
        drop(others);
        at_once(&share, ADA).unwrap();
    }

    #[tokio::test]
    async fn of_a_single_place_everybody_has_a_turn() {
        let share = Share::new(1);
        let first = at_once(&share, ADA).unwrap();
        let mut waiting: Vec<_> = [ADA, ADA, EVE].map(|user| Box::pin(share.enter(user))).into();
        for waiting in &mut waiting {
            assert!(waiting.now_or_never().is_none());
        }
        drop(first);
        // The two of Ada have come before Eve, but wait for her turn and not for the place.
        for next in [2, 0, 0] {
            let turn = waiting.remove(next);
            assert!(waiting.iter_mut().all(|other| other.now_or_never().is_none()));
            drop(turn.now_or_never().unwrap().unwrap());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_for_too_long_is_refused_and_leaves_nothing_behind() {
        let share = Share::new(1);
        let place = at_once(&share, ADA).unwrap();
        for user in [ADA, EVE, None] {
            let refused = share.enter(user).await;
            assert!(matches!(refused, Err(Error::Overloaded { .. })));
        }
        assert_eq!(share.users().len(), 1);
        drop(place);
        assert!(share.users().is_empty());
        assert_eq!(share.places.available_permits(), 1);
    }
}
