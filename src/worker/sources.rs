//! How many full handshakes each source may still begin: a token bucket for each /24 (IPv4) or /64 (IPv6), exact over all
//! workers, in a table of fixed size. A flood of sources cannot make it grow: in its set the newcomer takes the place of
//! whoever has most tokens left, and so loses least by being forgotten.

use crate::config::limits;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// Sources that share a lock and compete for places.
const WAYS: usize = 8;
const SETS: usize = limits::SOURCES_TRACKED_MAX / WAYS;

/// Who counts as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Source {
    V4([u8; 3]),
    V6([u8; 8]),
}

/// A bucket as the moment at which it will be full again: full now, or forgotten, is the same.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    source: Source,
    full_at: Duration,
}

/// The buckets of one listener.
#[derive(Debug)]
pub(super) struct Sources {
    begin: Instant,
    hasher: RandomState,
    /// Made when there is a limit for the first time.
    sets: OnceLock<Vec<Mutex<Vec<Bucket>>>>,
}

impl Sources {
    pub fn new(begin: Instant) -> Sources {
        Sources { begin, hasher: RandomState::new(), sets: OnceLock::new() }
    }

    /// Takes a token of this source's, if there is one: `per_second` at once, and as many again each second.
    pub fn take(&self, source: IpAddr, per_second: u32, now: Instant) -> bool {
        let source = Source::of(source);
        let now = now.saturating_duration_since(self.begin);
        let sets = self.sets.get_or_init(|| (0..SETS).map(|_| Mutex::default()).collect());
        let set = &sets[self.hasher.hash_one(source) as usize % SETS];
        let mut set = set.lock().unwrap_or_else(PoisonError::into_inner);
        let bucket = find(&mut set, source, now);
        let token = Duration::from_secs(1) / per_second.max(1);
        let full_at = bucket.full_at.max(now) + token;
        let free = full_at <= now + token * per_second;
        if free {
            bucket.full_at = full_at;
        }
        free
    }
}

/// The bucket of `source`: its own, or one that is full.
fn find(set: &mut Vec<Bucket>, source: Source, now: Duration) -> &mut Bucket {
    let own = set.iter().position(|bucket| bucket.source == source);
    let place = own.unwrap_or_else(|| {
        let newcomer = Bucket { source, full_at: now };
        match set.iter().enumerate().min_by_key(|(_, bucket)| bucket.full_at) {
            Some((fullest, bucket)) if set.len() == WAYS || bucket.full_at <= now => {
                set[fullest] = newcomer;
                fullest
            }
            _ => {
                set.push(newcomer);
                set.len() - 1
            }
        }
    });
    &mut set[place]
}

impl Source {
    fn of(address: IpAddr) -> Source {
        match address.to_canonical() {
            IpAddr::V4(address) => {
                let [a, b, c, _] = address.octets();
                Source::V4([a, b, c])
            }
            IpAddr::V6(address) => {
                let [a, b, c, d, e, f, g, h, ..] = address.octets();
                Source::V6([a, b, c, d, e, f, g, h])
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_source_has_its_rate_at_once_and_as_much_again_each_second() {
        let begin = Instant::now();
        let sources = Sources::new(begin);
        let taken =
            |ms: u64| (0..20).filter(|_| sources.take(ip("192.0.2.1"), 5, begin + Duration::from_millis(ms))).count();
        assert_eq!([taken(0), taken(0), taken(199), taken(200), taken(600), taken(60_000)], [5, 0, 0, 1, 2, 5]);
    }

    #[test]
    fn neighbours_in_a_24_or_64_share_and_others_do_not() {
        let begin = Instant::now();
        let sources = Sources::new(begin);
        let take = |text: &str| sources.take(ip(text), 1, begin);
        assert!(take("192.0.2.1") && !take("192.0.2.200") && !take("::ffff:192.0.2.9"));
        assert!(take("192.0.3.1"));
        assert!(take("2001:db8:1:2::1") && !take("2001:db8:1:2:ffff::"));
        assert!(take("2001:db8:1:3::1"));
    }

    #[test]
    fn a_flood_of_sources_neither_grows_the_table_nor_frees_whoever_is_at_the_limit_soon() {
        let begin = Instant::now();
        let sources = Sources::new(begin);
        let hog = ip("203.0.113.1");
        assert_eq!((0..100).filter(|_| sources.take(hog, 50, begin)).count(), 50);
        for i in 0..2 * limits::SOURCES_TRACKED_MAX as u64 {
            let network = std::net::Ipv6Addr::from(u128::from(i) << 64 | 1);
            assert!(sources.take(network.into(), 50, begin));
        }
        let entries: usize = sources.sets.get().unwrap().iter().map(|set| set.lock().unwrap().len()).sum();
        assert!(entries <= limits::SOURCES_TRACKED_MAX);
        assert!(!sources.take(hog, 50, begin), "it used up all it had, and so is the last to be forgotten");
    }
}
