//! A queue in which users take turns, so that who has thousands of requests in it waits for these, and
//! nobody else does.
//!
//! Beside one user who creates over 8,192 connections, another's new patient took 25 instead of 263 ms;
//! beside gets, a get took 15 instead of 84 (medians of `benches/load/crowd.py`). It costs a get some 2%
//! of the processor at 64 connections.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};

use tokio::time::Instant;

pub struct FairQueue<T> {
    /// What each user has in the queue: never nothing.
    queues: HashMap<i64, VecDeque<Queued<T>>>,
    /// Each of these users once, in the order of their turns.
    turns: VecDeque<Turn>,
    len: usize,
}

struct Queued<T> {
    item: T,
    since: Instant,
}

struct Turn {
    user: i64,
    since: Instant,
}

impl<T> Default for FairQueue<T> {
    fn default() -> Self {
        Self { queues: HashMap::new(), turns: VecDeque::new(), len: 0 }
    }
}

impl<T> FairQueue<T> {
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn push(&mut self, user: i64, item: T, now: Instant) {
        let queued = Queued { item, since: now };
        match self.queues.entry(user) {
            Entry::Occupied(mut queue) => queue.get_mut().push_back(queued),
            Entry::Vacant(vacant) => {
                vacant.insert(VecDeque::from([queued]));
                self.turns.push_back(Turn { user, since: now });
            }
        }
        self.len += 1;
    }

    /// The first that `check` passes of what the user has whose turn it is. What it does not pass
    /// takes no turn, or what is out of date would stay for as many turns.
    pub fn pop(&mut self, now: Instant, check: impl Fn(T) -> Option<T>) -> Option<T> {
        while let Some(Turn { user, .. }) = self.turns.pop_front() {
            let Entry::Occupied(mut queue) = self.queues.entry(user) else { continue };
            let mut passed = None;
            while passed.is_none()
                && let Some(first) = queue.get_mut().pop_front()
            {
                self.len -= 1;
                passed = check(first.item);
            }
            if queue.get().is_empty() {
                queue.remove();
            } else {
                self.turns.push_back(Turn { user, since: now });
            }
            if passed.is_some() {
                return passed;
            }
        }
        None
    }

    /// Takes out what `check` does not pass, from the front of what each user has.
    pub fn sweep(&mut self, check: impl Fn(T) -> Option<T>) {
        let len = &mut self.len;
        self.queues.retain(|_, queue| {
            while let Some(Queued { item, since }) = queue.pop_front() {
                if let Some(item) = check(item) {
                    queue.push_front(Queued { item, since });
                    return true;
                }
                *len -= 1;
            }
            false
        });
        let queues = &self.queues;
        self.turns.retain(|turn| queues.contains_key(&turn.user));
    }

    /// Since when that has been queued behind which this user's next would have its turn: the user's
    /// own first, or the first of all.
    pub fn waiting_since(&self, user: i64) -> Option<Instant> {
        let own = self.queues.get(&user).and_then(VecDeque::front).map(|first| first.since);
        own.or_else(|| self.turns.front().map(|turn| turn.since))
    }

    /// Takes all out, in no order.
    pub fn take_all(&mut self) -> impl Iterator<Item = T> + use<T> {
        let all = std::mem::take(self);
        all.queues.into_values().flatten().map(|queued| queued.item)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn users_take_turns_and_each_gets_its_own_in_order() {
        let now = Instant::now();
        let mut queue = FairQueue::default();
        for (user, item) in [(1, "a"), (1, "b"), (1, "c"), (2, "d"), (3, "e"), (2, "f")] {
            queue.push(user, item, now);
        }
        let popped: Vec<_> = std::iter::from_fn(|| queue.pop(now, Some)).collect();
        assert_eq!(popped, ["a", "d", "e", "b", "f", "c"]);
        assert_eq!(queue.len(), 0);
        assert!(queue.queues.is_empty());
    }

    #[test]
    fn what_is_out_of_date_takes_no_turn() {
        let now = Instant::now();
        let mut queue = FairQueue::default();
        for (user, item) in [(1, 1), (1, -1), (1, -2), (1, 2), (2, -3), (3, 3), (1, -4)] {
            queue.push(user, item, now);
        }
        let pop = || queue.pop(now, |item| (item > 0).then_some(item));
        let popped: Vec<_> = std::iter::from_fn(pop).collect();
        assert_eq!(popped, [1, 3, 2]);
        assert_eq!(queue.len(), 0);
        assert!(queue.queues.is_empty());
    }

    #[test]
    fn a_sweep_leaves_turns_to_those_only_who_have_something_left() {
        let now = Instant::now();
        let mut queue = FairQueue::default();
        for (user, item) in [(1, -1), (1, -2), (2, 2), (2, -3), (3, -4), (3, 3)] {
            queue.push(user, item, now);
        }
        queue.sweep(|item| (item > 0).then_some(item));
        assert_eq!(queue.len(), 3);
        queue.push(1, 1, now);
        let popped: Vec<_> = std::iter::from_fn(|| queue.pop(now, Some)).collect();
        assert_eq!(popped, [2, 3, 1, -3]);
        assert_eq!(queue.len(), 0);
    }

    #[test]
    fn a_user_who_has_nothing_queued_waits_for_one_turn_of_the_others() {
        let start = Instant::now();
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        let mut queue = FairQueue::default();
        assert_eq!(queue.waiting_since(1), None);
        for milliseconds in 0..3 {
            queue.push(1, milliseconds, at(milliseconds));
        }
        queue.pop(at(10), Some);
        assert_eq!(queue.waiting_since(1), Some(at(1)));
        assert_eq!(queue.waiting_since(2), Some(at(10)));
    }
}
