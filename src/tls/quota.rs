//! How many connections each client has at a listener, over all workers: touched once when a client has proven who it
//! is and once when its connection ends, and only where there is a limit.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Workers rarely want the same one at once, and each holds it for one look into a small map.
const SHARDS: usize = 64;

type Shard = HashMap<Arc<str>, u32>;

/// Connections by identity. Identities without a connection are not in it.
#[derive(Debug)]
pub struct Tally {
    shards: Vec<Mutex<Shard>>,
    hasher: RandomState,
}

/// The limit of one listener.
#[derive(Debug, Clone)]
pub struct Quota {
    pub tally: Arc<Tally>,
    /// Connections of one identity.
    pub most: u32,
}

/// A client's place; given back when dropped.
#[derive(Debug)]
pub struct QuotaPlace {
    tally: Arc<Tally>,
    who: Arc<str>,
}

impl Default for Tally {
    fn default() -> Tally {
        Tally { shards: (0..SHARDS).map(|_| Mutex::default()).collect(), hasher: RandomState::new() }
    }
}

impl Tally {
    /// Connections of this identity now.
    pub fn count(&self, who: &str) -> u32 {
        self.shard(who).get(who).copied().unwrap_or(0)
    }

    fn shard(&self, who: &str) -> MutexGuard<'_, Shard> {
        let place = self.hasher.hash_one(who) as usize % self.shards.len();
        self.shards[place].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Quota {
    /// Whether one more connection of this identity would be taken now.
    pub fn has_room(&self, who: &str) -> bool {
        self.tally.count(who) < self.most
    }

    /// A place for one more connection of this identity; `None`: it has as many as it may.
    pub fn enter(&self, who: &Arc<str>) -> Option<QuotaPlace> {
        let mut shard = self.tally.shard(who);
        let count = shard.entry(who.clone()).or_insert(0);
        if *count >= self.most {
            return None;
        }
        *count += 1;
        Some(QuotaPlace { tally: self.tally.clone(), who: who.clone() })
    }
}

impl Drop for QuotaPlace {
    fn drop(&mut self) {
        let mut shard = self.tally.shard(&self.who);
        if let Entry::Occupied(mut entry) = shard.entry(self.who.clone()) {
            match entry.get().saturating_sub(1) {
                0 => drop(entry.remove()),
                left => drop(entry.insert(left)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quota(most: u32) -> Quota {
        Quota { tally: Arc::default(), most }
    }

    #[test]
    fn an_identity_has_its_places_and_no_more_and_others_have_theirs() {
        let quota = quota(2);
        let (acme, other): (Arc<str>, Arc<str>) = ("cn:acme".into(), "cn:other".into());
        let places: Vec<_> = (0..2).map(|_| quota.enter(&acme).unwrap()).collect();
        assert!(quota.enter(&acme).is_none() && !quota.has_room(&acme));
        assert!(quota.enter(&other).is_some());
        drop(places);
        assert!(quota.has_room(&acme) && quota.enter(&acme).is_some());
    }

    #[test]
    fn identities_without_a_connection_take_no_memory() {
        let quota = quota(1);
        for i in 0..1000 {
            drop(quota.enter(&format!("cn:{i}").into()));
        }
        assert!(quota.tally.shards.iter().all(|shard| shard.lock().unwrap().is_empty()));
    }

    #[test]
    fn threads_together_never_pass_the_limit() {
        let (quota, most) = (quota(3), std::sync::atomic::AtomicU32::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..1000 {
                        let place = quota.enter(&"cn:acme".into());
                        most.fetch_max(quota.tally.count("cn:acme"), std::sync::atomic::Ordering::Relaxed);
                        drop(place);
                    }
                });
            }
        });
        assert!(most.into_inner() <= 3);
        assert_eq!(quota.tally.count("cn:acme"), 0);
    }
}
