//! When blocks that were made for a time end. By the monotonic clock: a wall clock that is a day ahead for a moment must not
//! lift a block for good, and one that is a day behind must not hold it a day longer. Both clocks are arguments.

use crate::trust::{Block, Blocked, Blocks};
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What tells a block from others: what it names, when it was made, until when it was meant to hold.
type Key = (Blocked, i64, i64);

/// The ends of the blocks in force.
#[derive(Debug, Default)]
pub struct BlockEnds(Mutex<HashMap<Key, Instant>>);

impl BlockEnds {
    /// The list without the blocks whose time is over. One that was not met before has as much time left from `now` as it is
    /// from `wall`, in seconds since 1970, to its end.
    pub fn in_force(&self, blocks: &Blocks, now: Instant, wall: i64) -> Blocks {
        let ends = self.ends_of(blocks, now, wall);
        blocks.keeping(|block| key(block).is_none_or(|key| ends.get(&key).is_none_or(|end| now < *end)))
    }

    /// How long it is until the next of them ends; `None`: none does.
    pub fn next(&self, blocks: &Blocks, now: Instant, wall: i64) -> Option<Duration> {
        self.ends_of(blocks, now, wall).values().min().map(|end| end.saturating_duration_since(now))
    }

    /// Forgets those that are no longer on the list, and meets those that are new there.
    fn ends_of(&self, blocks: &Blocks, now: Instant, wall: i64) -> HashMap<Key, Instant> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let end = |key: Key| {
            // The second of `until` counts.
            let left = u64::try_from(key.2.saturating_sub(wall).saturating_add(1)).unwrap_or(0);
            let met = known.get(&key).copied().or_else(|| now.checked_add(Duration::from_secs(left)));
            met.map(|end| (key, end))
        };
        let ends: HashMap<Key, Instant> = blocks.iter().filter_map(key).filter_map(end).collect();
        known.clone_from(&ends);
        ends
    }
}

fn key(block: &Block) -> Option<Key> {
    Some((block.what.clone(), block.since, block.until?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WALL: i64 = 1_800_000_000;
    const DAY: i64 = 86_400;

    fn block(identity: &str, until: Option<i64>) -> Block {
        let what = Blocked::Identity(identity.to_owned());
        Block { what, until, since: WALL, by: "uid 0".into(), why: None }
    }

    fn list(blocks: &[Block]) -> Blocks {
        blocks.iter().fold(Blocks::default(), |list, block| list.with(block.clone()).unwrap())
    }

    #[test]
    fn a_wall_clock_that_jumps_neither_lifts_a_block_nor_holds_it_longer() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let blocks = list(&[block("cn:hour", Some(WALL + 3600)), block("cn:always", None)]);
        let ends = BlockEnds::default();
        assert_eq!(ends.next(&blocks, start, WALL), Some(Duration::from_secs(3601)));
        for wall in [WALL, WALL + DAY, WALL - DAY, WALL + 400 * DAY, 0, i64::MAX, i64::MIN] {
            assert_eq!(ends.in_force(&blocks, at(3600), wall).len(), 2, "wall {wall}");
            assert_eq!(ends.in_force(&blocks, at(3601), wall).len(), 1, "wall {wall}");
            assert_eq!(ends.next(&blocks, at(3600), wall), Some(Duration::from_secs(1)));
        }
    }

    #[test]
    fn a_block_that_is_made_anew_has_its_own_time() {
        let start = Instant::now();
        let ends = BlockEnds::default();
        let short = list(&[block("cn:a", Some(WALL + 10))]);
        assert_eq!(ends.in_force(&short, start, WALL).len(), 1);
        let longer = list(&[block("cn:a", Some(WALL + 100))]);
        let later = start + Duration::from_secs(50);
        assert_eq!(ends.in_force(&longer, later, WALL + 50).len(), 1);
        assert_eq!(ends.in_force(&longer, start + Duration::from_secs(101), WALL).len(), 0);
        assert_eq!(ends.next(&Blocks::default(), later, WALL), None);
        assert!(ends.0.lock().unwrap().is_empty(), "what is off the list is forgotten");
    }

    #[test]
    fn a_block_of_an_earlier_run_ends_by_the_wall_clock_of_the_start() {
        let start = Instant::now();
        let ends = BlockEnds::default();
        let blocks = list(&[block("cn:over", Some(WALL - 1)), block("cn:not", Some(WALL))]);
        assert_eq!(ends.in_force(&blocks, start, WALL).len(), 1);
        let endless = list(&[block("cn:endless", Some(i64::MAX))]);
        assert_eq!(ends.in_force(&endless, start, i64::MIN).len(), 1);
    }
}
