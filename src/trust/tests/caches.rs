//! The chain cache and the block list, on the live path.

use super::pki::*;
use crate::config::{Auth, limits};
use crate::trust::{
    Block, Blocked, Blocks, CacheStats, Decision, LocalChainCache, Look, Policy, Presented, Reason, SharedChainCache,
    admit,
};
use std::sync::Arc;

/// A worker's cache, and how to ask it.
struct Worker {
    cache: LocalChainCache,
    blocks: Blocks,
}

impl Worker {
    fn new(shared: &Arc<SharedChainCache>) -> Worker {
        let cache = LocalChainCache::new(shared.clone(), Arc::new(CacheStats::default()));
        Worker { cache, blocks: Blocks::default() }
    }

    fn alone() -> Worker {
        Worker::new(&Arc::new(SharedChainCache::new()))
    }

    fn admit(&self, policy: &Policy, chain: &[&Cert], seconds: i64) -> Decision {
        let rest: Vec<Cert> = chain[1..].iter().map(|certificate| (*certificate).clone()).collect();
        admit(&Presented { leaf: chain[0], rest: &rest }, at(seconds), policy, &self.cache, &self.blocks, Look::First)
    }

    fn counts(&self) -> (u64, u64, u64) {
        let stats = self.cache.stats();
        (stats.hits.value(), stats.misses.value(), stats.entries.value())
    }
}

#[test]
fn a_chain_is_verified_once_and_found_by_every_worker() {
    let root = Ca::root("Root");
    let lower = root.ca("Lower");
    let client = lower.client("acme");
    let policy = Setup::new(&[&root]).policy();
    let shared = Arc::new(SharedChainCache::new());
    let (one, two) = (Worker::new(&shared), Worker::new(&shared));
    for chain in [vec![&client, &lower.der], vec![&client, &lower.der, &root.der]] {
        assert!(one.admit(&policy, &chain, NOW).verdict.is_ok());
    }
    assert_eq!(one.counts(), (0, 2, 2));
    one.admit(&policy, &[&client, &lower.der], NOW);
    let hit = two.admit(&policy, &[&client, &lower.der], NOW).verdict.unwrap();
    assert_eq!((one.counts(), two.counts()), ((1, 2, 2), (1, 0, 1)));
    assert_eq!(hit.identity().unwrap().as_str(), "cn:acme");
}

#[test]
fn another_epoch_policy_or_byte_is_another_entry() {
    let root = Ca::root("Root");
    let client = root.client("acme");
    let worker = Worker::alone();
    let setup = Setup::new(&[&root]);
    let (site, listener) = setup.config();
    let load = |epoch| Policy::load(&site, &listener, epoch, at(NOW), &mut crate::trust::Loader::new()).unwrap().0;
    for policy in [load(1), load(2), Setup::new(&[&root]).with(|s| s.client.max_depth = 1).policy()] {
        worker.admit(&policy, &[&client], NOW);
    }
    assert_eq!(worker.counts().1, 3);
    let revoking = Setup::new(&[&root]).crls(&[root.crl(&[&client])]).policy();
    assert_eq!(reason(&worker.admit(&revoking, &[&client], NOW)).0, Reason::Revoked);
}

#[test]
fn an_entry_ends_with_its_chain_and_its_lists_and_does_not_begin_before_them() {
    let root = Ca::root("Root");
    let client = root.client_with("acme", |params| dates(params, NOW - 50, NOW + 100));
    let worker = Worker::alone();
    let reason_at = |policy: &Policy, seconds| reason(&worker.admit(policy, &[&client], seconds)).0;
    let policy = Setup::new(&[&root]).policy();
    assert_eq!(reason_at(&policy, NOW), Reason::Ok);
    assert_eq!(reason_at(&policy, NOW + 100), Reason::Ok);
    assert_eq!(reason_at(&policy, NOW + 101), Reason::Expired);
    assert_eq!(reason_at(&policy, NOW - 51), Reason::NotYetValid);
    let list = Crl::of(&root).with(|crl| crl.next_update = Some(NOW + 20)).sign();
    let policy = Setup::new(&[&root]).crls(&[list]).policy();
    assert_eq!(reason_at(&policy, NOW), Reason::Ok);
    assert_eq!(reason_at(&policy, NOW + 20), Reason::CrlExpired);
    assert_eq!(reason_at(&policy, NOW), Reason::Ok);
    assert_eq!(reason_at(&policy, NOW - 2 * DAY), Reason::NotYetValid);
}

#[test]
fn an_anchors_end_bites_for_cached_chains_too() {
    let root = Ca::root_with("Root", |params| dates(params, NOW - DAY, NOW + 10));
    let client = root.client("acme");
    let worker = Worker::alone();
    let policy = Setup::new(&[&root]).policy();
    assert!(worker.admit(&policy, &[&client], NOW).verdict.is_ok());
    assert_eq!(reason(&worker.admit(&policy, &[&client], NOW + 11)).0, Reason::Expired);
}

#[test]
fn only_verified_chains_are_kept() {
    let (root, stranger) = (Ca::root("Root"), Ca::root("Stranger"));
    let worker = Worker::alone();
    let require = Setup::new(&[&root]).policy();
    let request = Setup::new(&[&root]).auth(Auth::Request).policy();
    let client = stranger.client("acme");
    for _ in 0..2 {
        assert!(worker.admit(&require, &[&client], NOW).verdict.is_err());
        assert_eq!(worker.admit(&request, &[&client], NOW).verdict.unwrap().reason(), Reason::UnknownIssuer);
    }
    assert_eq!(worker.counts(), (0, 4, 0));
    worker.admit(&request, &[&root.client("acme")], NOW);
    assert_eq!(worker.counts().2, 1);
}

#[test]
fn a_flood_of_newcomers_evicts_no_client_that_came_again() {
    let root = Ca::root("Root");
    let policy = Setup::new(&[&root]).policy();
    let worker = Worker::alone();
    let regulars: Vec<Cert> = (0..20).map(|i| root.client(&format!("regular {i}"))).collect();
    for seconds in [NOW, NOW + 1] {
        regulars.iter().for_each(|client| drop(worker.admit(&policy, &[client], seconds)));
    }
    let (hits, ..) = worker.counts();
    assert_eq!(hits, 20);
    // One key for all: what is flooded with are chains, not keys.
    let key = rcgen::KeyPair::generate().unwrap();
    let young = limits::CHAIN_CACHE_WORKER_ENTRIES_MAX / 8;
    for i in 0..2 * young + 10 {
        let flood = root.sign(&client_params(&format!("flood {i}")), &key);
        // Both looks of one handshake.
        worker.admit(&policy, &[&flood], NOW + 2);
        worker.admit(&policy, &[&flood], NOW + 2);
    }
    let misses = worker.counts().1;
    regulars.iter().for_each(|client| drop(worker.admit(&policy, &[client], NOW + 3)));
    let (_, misses_after, entries) = worker.counts();
    assert_eq!(misses_after, misses);
    assert_eq!(entries, (young + 20) as u64);
    assert_eq!(worker.cache.stats().evictions.value(), (young + 10) as u64);
}

#[test]
fn one_client_fills_no_cache_with_superfluous_certificates() {
    let root = Ca::root("Root");
    let policy = Setup::new(&[&root]).policy();
    let worker = Worker::alone();
    let client = root.client("acme");
    let key = rcgen::KeyPair::generate().unwrap();
    for i in 0..100 {
        let junk = root.sign(&client_params(&format!("junk {i}")), &key);
        assert!(worker.admit(&policy, &[&client, &junk], NOW).verdict.is_ok());
        let (hits, misses, _) = worker.counts();
        // The second look of the same handshake.
        assert!(worker.admit(&policy, &[&client, &junk], NOW).verdict.is_ok());
        assert_eq!(worker.counts(), (hits + 1, misses, 0));
    }
}

#[test]
fn a_cache_that_is_full_stays_within_its_bounds() {
    let root = Ca::root("Root");
    let policy = Setup::new(&[&root]).policy();
    let admission = judge(&policy, &[&root.client("acme")]).verdict.unwrap();
    let mut segment = crate::trust::cache::tests::segment(80);
    for i in 0..1000u32 {
        segment.insert(i, &admission);
        if i % 3 == 0 {
            segment.find(i, at(NOW + 1));
        }
        assert!(segment.len() <= 81, "{}", segment.len());
    }
    assert!(segment.len() > 40);
}

fn block(what: Blocked) -> Block {
    Block { what, until: None, since: NOW, by: "uid 0".to_owned(), why: Some("lost\nlaptop".to_owned()) }
}

#[test]
fn blocks_refuse_cached_and_fresh_chains_until_they_end() {
    let root = Ca::root("Root");
    let (client, other) = (root.client("acme"), root.client("other"));
    let policy = Setup::new(&[&root]).policy();
    let mut worker = Worker::alone();
    let leaf = worker.admit(&policy, &[&client], NOW).verdict.unwrap().leaf().unwrap().clone();
    let named = [
        Blocked::Sha256(leaf.sha256),
        Blocked::SpkiSha256(leaf.spki_sha256),
        Blocked::Identity("cn:acme".to_owned()),
        Blocked::Serial { serial: leaf.serial.to_uppercase(), issuer: None },
        Blocked::Serial { serial: format!("00:{}", leaf.serial), issuer: Some("cn = root".to_owned()) },
    ];
    for what in named {
        let forever = Blocks::default().with(block(what.clone())).unwrap();
        worker.blocks = forever.clone();
        let decision = worker.admit(&policy, &[&client], NOW);
        let (found, detail) = reason(&decision);
        assert_eq!(found, Reason::IdentityBlocked, "{what:?}");
        assert!(
            detail.contains("uid 0") && detail.contains("lost\\0alaptop") && detail.contains("unblock"),
            "{detail}"
        );
        assert!(worker.admit(&policy, &[&other], NOW).verdict.is_ok());
        worker.blocks = Blocks::default().with(Block { until: Some(NOW + 5), ..block(what.clone()) }).unwrap();
        // Whoever keeps the list decides when it ends, not the clock of the moment.
        assert!(worker.admit(&policy, &[&client], NOW + 86_400).verdict.is_err());
        assert!(worker.blocks.purge(at(NOW + 6)).is_empty() && !worker.blocks.purge(at(NOW + 5)).is_empty());
        worker.blocks = worker.blocks.purge(at(NOW + 6));
        assert!(worker.admit(&policy, &[&client], NOW + 6).verdict.is_ok());
        assert!(forever.without(&what).is_empty());
    }
    worker.blocks = Blocks::default()
        .with(block(Blocked::Serial { serial: leaf.serial.clone(), issuer: Some("CN=Other".to_owned()) }))
        .unwrap();
    assert!(worker.admit(&policy, &[&client], NOW).verdict.is_ok());
}

#[test]
fn blocks_are_written_as_json_and_read_back() {
    let serial = Blocked::Serial { serial: "3A5B1".to_owned(), issuer: Some("CN=a".to_owned()) };
    let blocks = Blocks::default()
        .with(block(serial))
        .and_then(|blocks| blocks.with(block(Blocked::Sha256([7; 32]))))
        .and_then(|blocks| blocks.with(Block { until: Some(9), why: None, ..block(Blocked::SpkiSha256([8; 32])) }))
        .and_then(|blocks| blocks.with(block(Blocked::Identity("uri:x".to_owned()))))
        .unwrap();
    let text = serde_json::to_string(&blocks).unwrap();
    assert!(text.contains("\"serial\":\"03a5b1\""), "{text}");
    let read: Blocks = serde_json::from_str(&text).unwrap();
    assert_eq!(read.iter().collect::<Vec<_>>(), blocks.iter().collect::<Vec<_>>());
    for bad in [
        r#"[{"since":1,"by":"x"}]"#,
        r#"[{"sha256":"00","since":1,"by":"x"}]"#,
        r#"[{"identity":"a","serial":"1","since":1,"by":"x"}]"#,
        r#"[{"serial":"xyz","since":1,"by":"x"}]"#,
        r#"[{"serial":"1","issuer":"nobody","since":1,"by":"x"}]"#,
        r#"[{"identity":"a","since":1,"by":"x","more":1}]"#,
    ] {
        assert!(serde_json::from_str::<Blocks>(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_block_of_the_same_client_replaces_the_old_one() {
    let one = |serial: &str, why: &str| Block {
        why: Some(why.to_owned()),
        ..block(Blocked::Serial { serial: serial.to_owned(), issuer: None })
    };
    let blocks =
        Blocks::default().with(one("0A", "first")).and_then(|blocks| blocks.with(one("0a", "second"))).unwrap();
    assert_eq!((blocks.len(), blocks.iter().next().unwrap().why.as_deref()), (1, Some("second")));
    assert!(Blocks::default().with(one("zz", "")).is_err());
}
