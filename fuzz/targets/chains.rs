//! Chains as clients may send them. Whoever is admitted showed, byte for byte, a leaf that is known to be good and the
//! intermediate that it needs; and the caches, and a second look, say the same as the evaluation itself.
#![no_main]

use countersign::trust::{Blocks, admit, evaluate};
use countersign::trust::{CacheStats, Decision, LocalChainCache, Look, Policy, Presented, Reason, SharedChainCache};
use countersign_fuzz::Choices;
use countersign_fuzz::pki::{NOW, Pki, unix};
use countersign_fuzz::world::Files;
use libfuzzer_sys::fuzz_target;
use rustls_pki_types::CertificateDer;
use std::sync::Arc;

struct Subject {
    files: Files,
    /// Plain; with CRLs; with the intermediate as helper; with a rule; `request`.
    policies: Vec<Arc<Policy>>,
    blocks: Blocks,
}

const WITH_CRLS: usize = 1;
const WITH_HELPER: usize = 2;
const BY_RULE: usize = 3;
const REQUEST: usize = 4;

thread_local! {
    static SUBJECT: Subject = {
        let files = Files::new();
        let policies = [
            "trust = [\"ca.pem\"]",
            "trust = [\"ca.pem\"]\ncrls = [\"crls.pem\"]",
            "trust = [\"ca.pem\"]\nintermediates = [\"intermediate.pem\"]\nmax_depth = 1",
            "trust = [\"ca.pem\"]\nallow = [{ name = \"g\", uri = \"spiffe://bank.example/goo*\" }, { uri = \"spiffe://bank.example/*\", cn = \"good\" }]",
            "auth = \"request\"\ntrust = [\"ca.pem\"]",
        ]
        .map(|client| client.replace("goo*", "good"))
        .iter()
        .map(|client| files.good_policy(client))
        .collect();
        Subject { files, policies, blocks: Blocks::default() }
    };
}

fuzz_target!(|data: &[u8]| SUBJECT.with(|subject| {
    let mut choices = Choices::new(data);
    let which = usize::from(choices.byte()) % subject.policies.len();
    let chain = chain(&mut choices, &subject.files.pki);
    let Some((leaf, rest)) = chain.split_first() else { return };
    let (policy, presented) = (&subject.policies[which], Presented { leaf, rest });
    let decision = evaluate(&presented, unix(NOW), policy);
    check_words(&decision);
    let cache = LocalChainCache::new(Arc::new(SharedChainCache::new()), Arc::new(CacheStats::default()));
    let cached = || admit(&presented, unix(NOW), policy, &cache, &subject.blocks, Look::First).verdict;
    for again in [cached(), cached()] {
        let (one, two) = (outcome(&decision.verdict), outcome(&again));
        assert_eq!(one, two, "the cache says otherwise");
    }
    match &decision.verdict {
        Ok(admission) if which == REQUEST && admission.reason() != Reason::Ok => {
            assert_ne!(admission.verify(), 0, "a chain that failed is forwarded as a good one");
        }
        Ok(admission) => {
            assert_eq!((admission.verify(), admission.reason()), (0, Reason::Ok));
            assert_eq!(admission.leaf().expect("a leaf").der, leaf.as_ref());
            check_good(&subject.files.pki, which, leaf, rest);
            assert!(policy.rejudge(admission, unix(NOW)).is_ok(), "admitted, and then not");
        }
        Err(refusal) => {
            assert_ne!(refusal.verify, 0);
            assert!(!is_plainly_good(&subject.files.pki, which, &chain), "{}", refusal.detail);
        }
    }
}));

type Chain = Vec<CertificateDer<'static>>;

/// Certificates of the PKI in any order and number, then changed; or whatever bytes there are.
fn chain(choices: &mut Choices<'_>, pki: &Pki) -> Chain {
    let all = pki.all();
    let mut chain: Vec<Vec<u8>> = Vec::new();
    for _ in 0..choices.byte() % 10 {
        match usize::from(choices.byte()) {
            raw @ 0xf0.. => chain.push(if raw == 0xff { Vec::new() } else { choices.bytes().to_vec() }),
            known => chain.push(all[known % all.len()].der.to_vec()),
        }
    }
    while !choices.is_empty() && !chain.is_empty() {
        let at = choices.below(chain.len());
        match choices.byte() {
            // Whole parts of one certificate put into another: what random bytes never hit.
            kind @ 0..64 => graft(choices, &all[usize::from(kind) % all.len()].der, &mut chain[at]),
            _ => choices.edit(&mut chain[at]),
        }
    }
    chain.into_iter().map(CertificateDer::from).collect()
}

/// Puts a piece of `from` in place of as many bytes of `to`.
fn graft(choices: &mut Choices<'_>, from: &[u8], to: &mut Vec<u8>) {
    let (start, at) = (choices.below(from.len()), choices.below(to.len()));
    let end = (start + usize::from(choices.byte())).min(from.len());
    let until = (at + (end - start)).min(to.len());
    to.splice(at..until, from[start..end].iter().copied());
}

fn outcome(
    verdict: &Result<Arc<countersign::trust::Admission>, Box<countersign::trust::Refusal>>,
) -> (bool, Reason, u32, Option<String>) {
    match verdict {
        Ok(admission) => {
            (true, admission.reason(), admission.verify(), admission.identity().map(|identity| identity.to_string()))
        }
        Err(refusal) => (false, refusal.reason, refusal.verify, None),
    }
}

/// For people and logs: bounded, one line, never nothing.
fn check_words(decision: &Decision) {
    let detail = match &decision.verdict {
        Ok(admission) => admission.detail(),
        Err(refusal) => {
            assert!(!refusal.detail.is_empty());
            &refusal.detail
        }
    };
    assert!(!decision.steps.is_empty());
    let texts = decision.steps.iter().flat_map(|step| [step.note.as_str(), step.certificate.as_str()]);
    for text in texts.chain([detail]) {
        assert!(!text.chars().any(char::is_control), "{text:?}");
        assert!(text.len() <= countersign::config::limits::REASON_DETAIL_BYTES_MAX + 8, "{} bytes", text.len());
    }
}

fn check_good(pki: &Pki, which: usize, leaf: &CertificateDer<'_>, rest: &[CertificateDer<'_>]) {
    let is = |known: &countersign_fuzz::pki::Entity| known.der == *leaf;
    let has_intermediate = rest.contains(&pki.intermediate.der) || which == WITH_HELPER;
    let good = match which {
        WITH_CRLS => (is(&pki.good) && has_intermediate) || is(&pki.direct),
        BY_RULE => is(&pki.good) && has_intermediate,
        _ => ((is(&pki.good) || is(&pki.revoked)) && has_intermediate) || is(&pki.direct),
    };
    assert!(good, "admitted: {leaf:02x?} behind {} certificates", rest.len());
}

/// The shortest chains of good clients: nothing may refuse them.
fn is_plainly_good(pki: &Pki, which: usize, chain: &[CertificateDer<'_>]) -> bool {
    let (good, direct) = ([pki.good.der.clone(), pki.intermediate.der.clone()], [pki.direct.der.clone()]);
    chain == good || (chain == direct && which != BY_RULE)
}
