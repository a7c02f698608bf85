//! Chains that were verified already: a first level in each worker without locks, a second one that all workers share
//! and that nobody waits for. It spares the signatures of the chain, never CertificateVerify: that is `tls`'s.
//!
//! Only verified chains are kept, so that junk never gets in. A newcomer evicts newcomers alone: what was used again stays
//! when a flood passes. A chain with superfluous certificates, of which one client can make any number of one certificate,
//! has a small corner of its own in the worker's cache: enough for the second look at the end of its handshake.

use super::admission::{Admission, Decision, Refusal};
use super::blocks::Blocks;
use super::evaluate::{Moment, Trace, judge};
use super::policy::Policy;
use super::{ChainDigest, PolicyId, Presented, Reason, text};
use crate::config::limits;
use crate::stats::Counter;
use rustls_pki_types::{CertificateDer, UnixTime};
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};

/// What one worker's chain cache did.
#[derive(Debug, Default)]
pub struct CacheStats {
    /// Found in the worker's own cache or the shared one.
    pub hits: Counter,
    pub misses: Counter,
    pub evictions: Counter,
    /// Entries now (a gauge).
    pub entries: Counter,
}

/// The second level, shared by all workers. A shard that another worker holds counts as a miss.
#[derive(Debug)]
pub struct SharedChainCache {
    shards: Vec<Mutex<Segment>>,
}

impl Default for SharedChainCache {
    fn default() -> Self {
        SharedChainCache::with_capacity(limits::CHAIN_CACHE_SHARED_ENTRIES_MAX)
    }
}

impl SharedChainCache {
    /// An empty cache of the size that `config::limits` names.
    pub fn new() -> SharedChainCache {
        SharedChainCache::default()
    }

    fn with_capacity(entries: usize) -> SharedChainCache {
        const SHARDS: usize = 64;
        SharedChainCache { shards: (0..SHARDS).map(|_| Mutex::new(Segment::new(entries / SHARDS))).collect() }
    }

    /// Chains that are in it now, at most so many with so many bytes together: those first that were used again.
    pub fn chains(&self, count_max: usize, bytes_max: usize) -> Vec<KnownChain> {
        let mut chains = Vec::new();
        let mut bytes = 0;
        for used_again in [true, false] {
            for shard in &self.shards {
                let Ok(segment) = shard.lock() else { continue };
                let keys = if used_again { &segment.old } else { &segment.young };
                for chain in keys.iter().filter_map(|key| segment.entries.get(key)).filter_map(KnownChain::of) {
                    bytes += chain.certificates.iter().map(|der| der.len()).sum::<usize>();
                    if chains.len() >= count_max || bytes > bytes_max {
                        return chains;
                    }
                    chains.push(chain);
                }
            }
        }
        chains
    }

    /// Judges a chain that another process had let in, by a policy of ours, and keeps it if it is let in here too. What
    /// that process thought of it counts for nothing.
    pub fn learn(&self, chain: &KnownChain, policy: &Policy, now: UnixTime) -> bool {
        let Some((leaf, rest)) = chain.certificates.split_first().filter(|_| chain.policy == policy.id) else {
            return false;
        };
        let presented = Presented { leaf, rest };
        let key = Key { policy: policy.id, epoch: policy.epoch, chain: ChainDigest::of(Some(leaf), rest) };
        match judge(&presented, Moment::at(now), policy, &mut Trace { steps: None }) {
            Ok(admission) if admission.is_worth_keeping() && admission.tidy => {
                self.insert(key, &admission);
                true
            }
            _ => false,
        }
    }

    fn find(&self, key: &Key, now: UnixTime) -> Option<Arc<Admission>> {
        self.shard(key).try_lock().ok()?.find(key, now)
    }

    fn insert(&self, key: Key, admission: &Arc<Admission>) {
        if let Ok(mut segment) = self.shard(&key).try_lock() {
            segment.insert(key, admission.clone());
        }
    }

    fn shard(&self, key: &Key) -> &Mutex<Segment> {
        &self.shards[usize::from(key.chain.0[0]) % self.shards.len()]
    }
}

/// A chain that a site's policy let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownChain {
    pub policy: PolicyId,
    /// Leaf first.
    pub certificates: Vec<CertificateDer<'static>>,
}

impl KnownChain {
    fn of(entry: &Entry) -> Option<KnownChain> {
        let leaf = CertificateDer::from(entry.admission.leaf.as_ref()?.der.clone());
        let certificates = std::iter::once(leaf).chain(entry.admission.rest.iter().cloned()).collect();
        Some(KnownChain { policy: entry.admission.policy_id, certificates })
    }
}

impl Admission {
    /// A chain that was verified. What another mode let in without verifying is judged each time.
    fn is_worth_keeping(&self) -> bool {
        self.reason == Reason::Ok && self.valid_until.is_some()
    }
}

/// The first level, one worker's own.
#[derive(Debug)]
pub struct LocalChainCache {
    own: RefCell<Segment>,
    untidy: RefCell<Segment>,
    shared: Arc<SharedChainCache>,
    stats: Arc<CacheStats>,
}

impl LocalChainCache {
    /// An empty cache of the size that `config::limits` names.
    pub fn new(shared: Arc<SharedChainCache>, stats: Arc<CacheStats>) -> LocalChainCache {
        let own = RefCell::new(Segment::new(limits::CHAIN_CACHE_WORKER_ENTRIES_MAX));
        let untidy = RefCell::new(Segment::new(limits::CHAIN_CACHE_UNTIDY_ENTRIES_MAX));
        LocalChainCache { own, untidy, shared, stats }
    }

    /// What it did so far.
    pub fn stats(&self) -> &Arc<CacheStats> {
        &self.stats
    }

    fn find(&self, key: &Key, now: UnixTime, look: Look) -> Option<Arc<Admission>> {
        let own = self.own.borrow().find(key, now).or_else(|| self.untidy.borrow().find(key, now));
        let found = own.or_else(|| {
            let shared = self.shared.find(key, now)?;
            self.insert_own(*key, shared.clone());
            Some(shared)
        });
        match (look, &found) {
            (Look::First, Some(_)) => self.stats.hits.increment(),
            (Look::First, None) => self.stats.misses.increment(),
            (Look::Again, _) => {}
        }
        found
    }

    /// Keeps a verified chain.
    fn insert(&self, key: Key, admission: &Arc<Admission>) {
        if !admission.is_worth_keeping() {
            return;
        }
        if !admission.tidy {
            self.untidy.borrow_mut().insert(key, admission.clone());
            return;
        }
        self.shared.insert(key, admission);
        self.insert_own(key, admission.clone());
    }

    fn insert_own(&self, key: Key, admission: Arc<Admission>) {
        let mut own = self.own.borrow_mut();
        let before = own.entries.len();
        let evicted = own.insert(key, admission);
        (0..evicted).for_each(|_| self.stats.entries.decrement());
        self.stats.entries.add((own.entries.len() + evicted - before) as u64);
        self.stats.evictions.add(evicted as u64);
    }
}

/// Whether a look into the cache is the first of its handshake. Only that one is counted: hits and misses are to tell
/// how many handshakes the cache made cheaper.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    First,
    Again,
}

/// The live path: digest, caches, evaluation on a miss, and the block list every time. No steps are taken down.
pub fn admit(
    presented: &Presented<'_>,
    now: UnixTime,
    policy: &Policy,
    cache: &LocalChainCache,
    blocks: &Blocks,
    look: Look,
) -> Decision {
    let key =
        Key { policy: policy.id, epoch: policy.epoch, chain: ChainDigest::of(Some(presented.leaf), presented.rest) };
    let verdict = match cache.find(&key, now, look) {
        Some(admission) => Ok(admission),
        None => judge(presented, Moment::at(now), policy, &mut Trace { steps: None })
            .inspect(|admission| cache.insert(key, admission)),
    };
    Decision { verdict: verdict.and_then(|admission| refuse_blocked(admission, blocks)), steps: Vec::new() }
}

/// The admission again, unless a block names its client.
pub fn refuse_blocked(admission: Arc<Admission>, blocks: &Blocks) -> Result<Arc<Admission>, Box<Refusal>> {
    if blocks.is_empty() {
        return Ok(admission);
    }
    let (Some(leaf), Some(identity)) = (&admission.leaf, &admission.identity) else { return Ok(admission) };
    let Some(block) = blocks.find(leaf, identity) else { return Ok(admission) };
    let why = block.why.as_deref().map(|why| format!(": {why}")).unwrap_or_default();
    let until = block.until.map(|until| format!(" until {}", text::date(until))).unwrap_or_default();
    Err(Box::new(Refusal {
        reason: Reason::IdentityBlocked,
        detail: text::detail(&format!(
            "blocked by {} on {}{until}{why}; `countersign ctl unblock` lifts it",
            block.by,
            text::date(block.since)
        )),
        leaf: Some(leaf.clone()),
        chain_len: admission.chain_len(),
        verify: Reason::IdentityBlocked.x509_v(),
        identity: Some(identity.text().clone()),
    }))
}

/// Every byte of the chain, and everything that decides about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    policy: PolicyId,
    epoch: u64,
    chain: ChainDigest,
}

/// A bounded map with two queues: newcomers, and what was found at least once. An entry past its time stays until it is
/// replaced or evicted; it is never handed out.
#[derive(Debug)]
struct Segment {
    entries: HashMap<Key, Entry>,
    young: VecDeque<Key>,
    old: VecDeque<Key>,
    young_max: usize,
    old_max: usize,
}

#[derive(Debug)]
struct Entry {
    admission: Arc<Admission>,
    used: Cell<bool>,
}

impl Segment {
    fn new(entries_max: usize) -> Segment {
        let young_max = (entries_max / 8).max(1);
        Segment {
            entries: HashMap::new(),
            young: VecDeque::new(),
            old: VecDeque::new(),
            young_max,
            old_max: entries_max.saturating_sub(young_max).max(1),
        }
    }

    fn find(&self, key: &Key, now: UnixTime) -> Option<Arc<Admission>> {
        let entry = self.entries.get(key).filter(|entry| entry.admission.holds_at(now))?;
        // One handshake looks twice; only another one, in another second, shows that the client comes again.
        if entry.admission.judged_at.is_none_or(|then| then.as_secs() != now.as_secs()) {
            entry.used.set(true);
        }
        Some(entry.admission.clone())
    }

    /// Answers how many others were evicted.
    fn insert(&mut self, key: Key, admission: Arc<Admission>) -> usize {
        let entry = Entry { admission, used: Cell::new(false) };
        if self.entries.insert(key, entry).is_some() {
            return 0;
        }
        self.young.push_back(key);
        let before = self.entries.len();
        while self.young.len() > self.young_max {
            self.age_young();
        }
        before - self.entries.len()
    }

    fn age_young(&mut self) {
        let Some(key) = self.young.pop_front() else { return };
        let used = self.entries.get(&key).is_some_and(|entry| entry.used.replace(false));
        if !used {
            self.entries.remove(&key);
            return;
        }
        self.old.push_back(key);
        if self.old.len() > self.old_max {
            self.evict_old();
        }
    }

    /// Gives what was used another turn, at most so many at once that no insertion takes long.
    fn evict_old(&mut self) {
        const TURNS_MAX: usize = 16;
        for _ in 0..TURNS_MAX {
            let Some(key) = self.old.pop_front() else { return };
            let used = self.entries.get(&key).is_some_and(|entry| entry.used.replace(false));
            if !used {
                self.entries.remove(&key);
                return;
            }
            self.old.push_back(key);
        }
        if let Some(key) = self.old.pop_front() {
            self.entries.remove(&key);
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A segment with numbers for keys.
    pub(in super::super) struct Numbered(Segment);

    pub(in super::super) fn segment(entries_max: usize) -> Numbered {
        Numbered(Segment::new(entries_max))
    }

    fn key(n: u32) -> Key {
        let mut chain = [0; 32];
        chain[..4].copy_from_slice(&n.to_be_bytes());
        Key { policy: PolicyId([0; 32]), epoch: 0, chain: ChainDigest(chain) }
    }

    impl Numbered {
        pub(in super::super) fn insert(&mut self, n: u32, admission: &Arc<Admission>) {
            self.0.insert(key(n), admission.clone());
        }

        pub(in super::super) fn find(&self, n: u32, now: UnixTime) -> bool {
            self.0.find(&key(n), now).is_some()
        }

        pub(in super::super) fn len(&self) -> usize {
            self.0.entries.len()
        }
    }
}
