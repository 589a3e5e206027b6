//! Whether what clients saw of a register can have happened one after the other.
//!
//! A history is linearizable if each operation can be given one moment between its call and its
//! answer so that each read returns the last value written before it. With values that are written
//! once each there is no need to search for these moments (Gibbons and Korach, *Testing Shared
//! Memories*, 1997): a value and its reads are one cluster, and only the zones in which clusters
//! must lie can be in each other's way. The tests compare it with a search of all orders.

use std::collections::HashMap;
use std::fmt::Debug;
use std::hash::Hash;

/// A moment of the whole run; no two events have the same.
pub type Moment = u64;
/// The end of an operation whose outcome nobody knows: it may happen at any later time, or never.
pub const UNKNOWN: Moment = Moment::MAX;

#[derive(Debug, Clone)]
pub struct Operation<V> {
    pub call: Moment,
    pub answer: Moment,
    pub action: Action<V>,
}

#[derive(Debug, Clone)]
pub enum Action<V> {
    Write(V),
    Read(V),
}

/// All operations on one value.
struct Cluster {
    write: Option<(Moment, Moment)>,
    first_answer: Moment,
    last_call: Moment,
}

/// Between its bounds a register holds the value for sure (forward), or the value may have come and
/// gone at any moment between them (backward).
struct Zone {
    from: Moment,
    to: Moment,
    forward: bool,
}

/// Says why the operations on one register, which held `initial` before all of them, cannot have
/// happened one after the other. Failed operations must not be among them, and each value is
/// written once.
pub fn check<V: Eq + Hash + Debug>(initial: &V, history: &[Operation<V>]) -> Result<(), String> {
    let mut clusters: HashMap<&V, Cluster> = HashMap::new();
    let before_all = Cluster { write: Some((0, 0)), first_answer: 0, last_call: 0 };
    clusters.insert(initial, before_all);
    for Operation { call, answer, action } in history {
        let (Action::Write(value) | Action::Read(value)) = action;
        let none = Cluster { write: None, first_answer: UNKNOWN, last_call: 0 };
        let cluster = clusters.entry(value).or_insert(none);
        if matches!(action, Action::Write(_)) {
            assert!(cluster.write.is_none(), "{value:?} is written twice");
            cluster.write = Some((*call, *answer));
        }
        cluster.first_answer = cluster.first_answer.min(*answer);
        cluster.last_call = cluster.last_call.max(*call);
    }
    let mut zones = Vec::new();
    for (value, cluster) in &clusters {
        let Some((written, _)) = cluster.write else {
            return Err(format!("{value:?} was read, and nobody has written it"));
        };
        if cluster.first_answer < written {
            return Err(format!("{value:?} was read before it was written"));
        }
        let (first, last) = (cluster.first_answer, cluster.last_call);
        let forward = first < last;
        let (from, to) = if forward { (first, last) } else { (last, first) };
        zones.push((Zone { from, to, forward }, value));
    }
    zones.sort_by_key(|(zone, _)| zone.from);
    let forward: Vec<_> = zones.iter().filter(|(zone, _)| zone.forward).collect();
    for pair in forward.windows(2) {
        let [(before, one), (after, other)] = pair else { continue };
        if after.from < before.to {
            return Err(format!("{one:?} was read again after {other:?} had replaced it"));
        }
    }
    for (zone, value) in zones.iter().filter(|(zone, _)| !zone.forward) {
        // Forward zones do not overlap, so that only the last one that begins before can hold it.
        let before = forward.partition_point(|(around, _)| around.from < zone.from);
        if let Some((around, other)) = before.checked_sub(1).map(|at| forward[at])
            && zone.to < around.to
        {
            return Err(format!("{value:?} was written while {other:?} stayed"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::slice;

    use proptest::prelude::*;

    use super::*;

    fn write(value: u8, call: Moment, answer: Moment) -> Operation<u8> {
        Operation { call, answer, action: Action::Write(value) }
    }

    fn read(value: u8, call: Moment, answer: Moment) -> Operation<u8> {
        Operation { call, answer, action: Action::Read(value) }
    }

    #[test]
    fn a_history_of_one_after_the_other_is_right() {
        let history =
            [read(0, 1, 2), write(1, 3, 4), read(1, 5, 6), write(2, 7, 8), read(2, 9, 10)];
        assert_eq!(check(&0, &history), Ok(()));
    }

    #[test]
    fn a_read_during_a_write_may_see_either_value() {
        for seen in [0, 1] {
            assert_eq!(check(&0, &[write(1, 1, 4), read(seen, 2, 3)]), Ok(()));
        }
    }

    #[test]
    fn an_acknowledged_write_that_is_lost_is_found() {
        check(&0, &[write(1, 1, 2), read(0, 3, 4)]).unwrap_err();
    }

    #[test]
    fn a_stale_read_is_found() {
        check(&0, &[write(1, 1, 2), write(2, 3, 4), read(1, 5, 6)]).unwrap_err();
    }

    #[test]
    fn a_value_that_was_never_written_is_found() {
        check(&0, &[read(7, 1, 2)]).unwrap_err();
    }

    #[test]
    fn a_read_of_the_future_is_found() {
        check(&0, &[read(1, 1, 2), write(1, 3, 4)]).unwrap_err();
    }

    #[test]
    fn two_reads_that_disagree_about_the_order_of_two_writes_are_found() {
        let writes = [write(1, 1, 10), write(2, 2, 11)];
        let reads = [read(1, 12, 13), read(2, 14, 15)];
        check(&0, &[writes.as_slice(), &reads].concat()).unwrap_err();
    }

    #[test]
    fn a_write_of_unknown_outcome_may_happen_late_or_never_but_not_be_undone() {
        let unknown = write(1, 1, UNKNOWN);
        let later = [write(2, 2, 3), read(2, 4, 5), read(1, 6, 7)];
        assert_eq!(check(&0, &[slice::from_ref(&unknown), &later].concat()), Ok(()));
        assert_eq!(check(&0, &[unknown.clone(), read(0, 6, 7)]), Ok(()));
        check(&0, &[unknown, read(1, 2, 3), read(0, 4, 5)]).unwrap_err();
    }

    /// Whether there is an order, by trying all of them (Wing and Gong, 1993).
    fn has_an_order(held: u8, left: &[Operation<u8>]) -> bool {
        let first_answer = left.iter().map(|operation| operation.answer).min();
        let Some(first_answer) = first_answer.filter(|answer| *answer != UNKNOWN) else {
            return true;
        };
        (0..left.len()).any(|at| {
            let next = match left[at].action {
                _ if left[at].call > first_answer => return false,
                Action::Read(value) if value != held => return false,
                Action::Read(value) | Action::Write(value) => value,
            };
            let mut left = left.to_vec();
            left.remove(at);
            has_an_order(next, &left)
        })
    }

    /// Up to seven operations whose moments are shuffled. Writes are of 1, 2 and so on, reads of
    /// any of these, and some writes have no answer.
    fn histories() -> impl Strategy<Value = Vec<Operation<u8>>> {
        let moments = Just((1..=14).collect::<Vec<Moment>>()).prop_shuffle();
        let kinds = proptest::collection::vec((any::<bool>(), 0..5_u8, 0..4_u8), 1..=7);
        (moments, kinds).prop_map(|(moments, kinds)| {
            let mut written = 0;
            let operations = kinds.iter().zip(moments.chunks(2));
            let operations = operations.map(|((writes, value, unknown), moments)| {
                let (call, answer) = (moments[0].min(moments[1]), moments[0].max(moments[1]));
                if *writes {
                    written += 1;
                    return write(written, call, if *unknown == 0 { UNKNOWN } else { answer });
                }
                read(*value, call, answer)
            });
            operations.collect()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 20_000, ..ProptestConfig::default() })]
        #[test]
        fn it_agrees_with_a_search_of_all_orders(history in histories()) {
            prop_assert_eq!(check(&0, &history).is_ok(), has_an_order(0, &history), "{:?}", history);
        }
    }
}
