//! What strangers may send: chains made to cost, and bytes that are nearly certificates. Work is counted, not timed.

use super::pki::*;
use crate::config::{Auth, limits};
use crate::trust::{Policy, Presented, Reason, crl, evaluate, path};
use proptest::prelude::*;
use rcgen::{CertificateParams, DnType, Issuer, KeyPair};
use rustls_pki_types::{AlgorithmIdentifier, CertificateDer, InvalidSignature, SignatureVerificationAlgorithm};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};

/// Counts the signatures that it verifies.
#[derive(Debug)]
struct Counting {
    inner: &'static dyn SignatureVerificationAlgorithm,
    count: &'static AtomicUsize,
}

impl SignatureVerificationAlgorithm for Counting {
    fn verify_signature(&self, key: &[u8], message: &[u8], signature: &[u8]) -> Result<(), InvalidSignature> {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.inner.verify_signature(key, message, signature)
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        self.inner.public_key_alg_id()
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        self.inner.signature_alg_id()
    }
}

/// The policy with a counter in each of its algorithms.
fn counted(policy: Arc<Policy>) -> (Policy, &'static AtomicUsize) {
    let mut policy = Arc::try_unwrap(policy).unwrap();
    let count: &'static AtomicUsize = Box::leak(Box::default());
    let wrapped = policy.algorithms.iter().map(|inner| {
        let counting: &'static Counting = Box::leak(Box::new(Counting { inner: *inner, count }));
        counting as &dyn SignatureVerificationAlgorithm
    });
    policy.algorithms = Box::leak(wrapped.collect::<Vec<_>>().into_boxed_slice());
    (policy, count)
}

/// Signatures that judging this chain cost.
fn cost(setup: &Setup, chain: &[&Cert]) -> (usize, Reason) {
    let (policy, count) = counted(setup.policy());
    let decision = judge(&policy, chain);
    (count.load(Ordering::Relaxed), reason(&decision).0)
}

/// The most that any chain may cost where anchors have names of their own: four candidates and once more the one that is
/// told of, each with four intermediates and the leaf.
const MOST: usize = 25;

fn wide() -> impl FnOnce(&mut Setup) {
    |setup| (setup.chain_certificates_max, setup.chain_bytes_max) = (200, 1 << 20)
}

/// Certificates that all certify each other: every one of `count` names and keys signs every other, as far as `count`
/// certificates go.
fn same_named(count: usize, issuer_name: &str, key: &KeyPair) -> Vec<Cert> {
    let params = |cn: &str| ca_params(cn);
    let issuer = params(issuer_name);
    let issuer = Issuer::from_params(&issuer, key);
    (0..count)
        .map(|_| {
            let key = KeyPair::generate().unwrap();
            params(issuer_name).signed_by(&key, &issuer).unwrap().der().clone()
        })
        .collect()
}

#[test]
fn a_good_chain_costs_one_signature_for_each_certificate() {
    let root = Ca::root("Root");
    let lower = root.ca("Lower");
    let client = lower.client("acme");
    assert_eq!(cost(&Setup::new(&[&root]), &[&client, &lower.der]), (2, Reason::Ok));
    assert_eq!(cost(&Setup::new(&[&root]), &[&root.client("acme")]), (1, Reason::Ok));
}

#[test]
fn the_path_bomb_of_ten_self_made_certificates_costs_no_signature() {
    let root = Ca::root("Root");
    let own = KeyPair::generate().unwrap();
    for count in [9, 10, 100] {
        let bomb = same_named(count, "Bomb", &own);
        let issuer = ca_params("Bomb");
        let leaf = client_params("acme")
            .signed_by(&KeyPair::generate().unwrap(), &Issuer::from_params(&issuer, &own))
            .unwrap()
            .der()
            .clone();
        let mut chain = vec![&leaf];
        chain.extend(&bomb);
        assert_eq!(cost(&Setup::new(&[&root]).with(wide()), &chain), (0, Reason::UnknownIssuer), "{count}");
    }
}

#[test]
fn a_lattice_of_names_and_keys_that_reaches_an_anchors_name_is_bounded() {
    // Seven layers of fourteen certificates, each layer naming the one above, the last naming a real anchor.
    let root = Ca::root("Root");
    let keys: Vec<KeyPair> = (0..8).map(|_| KeyPair::generate().unwrap()).collect();
    let layer = |n: usize| if n == 7 { "Root".to_owned() } else { format!("Layer {n}") };
    let mut all: Vec<Cert> = Vec::new();
    for n in 0..7 {
        let above = ca_params(&layer(n + 1));
        let issuer = Issuer::from_params(&above, &keys[n + 1]);
        all.extend((0..14).map(|_| ca_params(&layer(n)).signed_by(&keys[n], &issuer).unwrap().der().clone()));
    }
    let bottom = ca_params("Layer 0");
    let leaf =
        client_params("acme").signed_by(&keys[7], &Issuer::from_params(&bottom, &keys[0])).unwrap().der().clone();
    let mut chain = vec![&leaf];
    chain.extend(&all);
    let setup = Setup::new(&[&root]).with(wide()).with(|setup| setup.client.max_depth = 6);
    let (signatures, reason) = cost(&setup, &chain);
    assert!(signatures <= MOST, "{signatures}");
    assert!(matches!(reason, Reason::BadSignature | Reason::ChainTooDeep), "{reason}");
}

#[test]
fn a_hundred_forged_intermediates_that_name_a_real_anchor_cost_a_few_signatures() {
    let root = Ca::root("Root");
    let own = KeyPair::generate().unwrap();
    let (fake_root, lower) = (ca_params("Root"), ca_params("Lower"));
    let forged: Vec<Cert> = (0..100)
        .map(|_| ca_params("Lower").signed_by(&own, &Issuer::from_params(&fake_root, &own)).unwrap().der().clone())
        .collect();
    let leaf = client_params("acme").signed_by(&own, &Issuer::from_params(&lower, &own)).unwrap().der().clone();
    let mut chain = vec![&leaf];
    chain.extend(&forged);
    let (signatures, reason) = cost(&Setup::new(&[&root]).with(wide()), &chain);
    // One for the top of each path that is tried, and once more the path that is told of.
    assert!(signatures <= 6, "{signatures}");
    assert_eq!(reason, Reason::BadSignature);
}

#[test]
fn webpki_is_never_handed_two_certificates_of_one_name_so_that_its_search_is_a_walk() {
    let root = Ca::root("Root");
    let own = KeyPair::generate().unwrap();
    let bomb = same_named(15, "Root", &own);
    let fake = ca_params("Root");
    let leaf = client_params("x").signed_by(&own, &Issuer::from_params(&fake, &own)).unwrap().der().clone();
    let setup = Setup::new(&[&root]).with(wide()).with(|setup| setup.client.max_depth = 6);
    let policy = setup.policy();
    let search = path::search(&parse(&leaf), bomb.iter().map(parse).collect(), &policy, NOW);
    assert_eq!(search.candidates.len(), limits::PATHS_TRIED_MAX);
    for candidate in &search.candidates {
        let names: Vec<_> = candidate.intermediates.iter().map(|i| search.nodes[*i].certificate.subject).collect();
        let distinct: std::collections::HashSet<_> = names.iter().collect();
        assert_eq!(names.len(), distinct.len());
    }
    let mut chain = vec![&leaf];
    chain.extend(&bomb);
    let (signatures, reason) = cost(&setup, &chain);
    assert!(reason == Reason::BadSignature && signatures <= 12, "{reason} {signatures}");
}

#[test]
fn anchors_of_one_name_cost_one_signature_each_and_too_many_are_refused_at_load() {
    let roots: Vec<Ca> = (0..limits::ANCHORS_SAME_NAME_MAX).map(|_| Ca::root("Root")).collect();
    let all: Vec<&Ca> = roots.iter().collect();
    // Without key identifiers nothing tells which of them it is.
    let client = roots[15].client_with("acme", |params| params.use_authority_key_identifier_extension = false);
    let (signatures, reason) = cost(&Setup::new(&all), &[&client]);
    assert!(reason == Reason::Ok && signatures <= roots.len(), "{reason} {signatures}");
    let (signatures, _) = cost(&Setup::new(&all), &[&roots[15].client("acme")]);
    assert_eq!(signatures, 1);
    let one_more = Ca::root("Root");
    let faults = Setup::new(&[&all[..], &[&one_more]].concat()).faults();
    assert!(faults[0].message.contains("17 anchors are named CN=Root"), "{faults:?}");
}

#[test]
fn junk_in_front_does_not_keep_a_client_out() {
    let root = Ca::root("Root");
    let lower = root.ca("Lower");
    let client = lower.client("acme");
    let own = KeyPair::generate().unwrap();
    let fake_root = ca_params("Root");
    let forged: Vec<Cert> = (0..100)
        .map(|_| {
            let key = KeyPair::generate().unwrap();
            ca_params("Lower").signed_by(&key, &Issuer::from_params(&fake_root, &own)).unwrap().der().clone()
        })
        .collect();
    let mut chain = vec![&client];
    chain.extend(&forged);
    chain.push(&lower.der);
    // The key identifier tells the right one from a hundred others.
    assert_eq!(cost(&Setup::new(&[&root]).with(wide()), &chain), (2, Reason::Ok));
}

#[test]
fn a_certificate_sent_twice_or_in_a_circle_ends_the_walk() {
    let root = Ca::root("Root");
    let lower = root.ca("Lower");
    let client = lower.client("acme");
    assert_eq!(cost(&Setup::new(&[&root]), &[&client, &lower.der, &lower.der, &lower.der]).1, Reason::Ok);
    let (a, b) = (Ca::root("A"), Ca::root("B"));
    let (a_by_b, b_by_a) = (b.cross_sign(&a), a.cross_sign(&b));
    let circled = a.client("acme");
    assert_eq!(cost(&Setup::new(&[&root]), &[&circled, &a_by_b, &b_by_a]), (0, Reason::UnknownIssuer));
}

#[test]
fn the_search_itself_is_bounded_by_steps() {
    let root = Ca::root("Root");
    // Eight layers of twenty-four certificates that lead nowhere.
    let keys: Vec<KeyPair> = (0..9).map(|_| KeyPair::generate().unwrap()).collect();
    let mut all: Vec<Cert> = Vec::new();
    for n in 0..8 {
        let above = ca_params(&format!("Layer {}", n + 1));
        let issuer = Issuer::from_params(&above, &keys[n + 1]);
        let params = || ca_params(&format!("Layer {n}"));
        all.extend((0..24).map(|_| params().signed_by(&keys[n], &issuer).unwrap().der().clone()));
    }
    let bottom = ca_params("Layer 0");
    let leaf = client_params("x").signed_by(&keys[8], &Issuer::from_params(&bottom, &keys[0])).unwrap().der().clone();
    let policy = Setup::new(&[&root]).policy();
    let search = path::search(&parse(&leaf), all.iter().map(parse).collect(), &policy, NOW);
    assert!(search.cut_short && search.candidates.is_empty());
    assert!(search.steps() <= limits::PATH_STEPS_MAX);
}

static VALID: LazyLock<(Ca, Cert, Cert, Vec<u8>)> = LazyLock::new(|| {
    let root = Ca::root("Root");
    let lower = root.ca("Lower");
    let client = lower.client_with("acme", |params: &mut CertificateParams| {
        params.distinguished_name.push(DnType::OrganizationName, "Bank");
        for (kind, value) in [("uri", "spiffe://bank/a"), ("dns", "a.example"), ("email", "a@b"), ("ip", "::1")] {
            san(params, kind, value);
        }
        params.crl_distribution_points = vec![rcgen::CrlDistributionPoint { uris: vec!["http://crl/1".to_owned()] }];
    });
    let list = Crl::of(&root)
        .revoke(&[&client])
        .with(|crl| {
            let names = tlv(0xa0, &[&tlv(0xa0, &[&tlv(0x86, &[b"http://crl/1"])])]);
            crl.extensions.push(raw_extension("2.5.29.28", true, &tlv(0x30, &[&names])));
            crl.entries.push(entry(&[7], &[raw_extension("2.5.29.21", false, &tlv(0x0a, &[&[1]]))]));
        })
        .sign();
    (root, lower.der, client, list)
});

/// The bytes with a few of them changed, taken out or repeated, and perhaps cut off.
fn mutated(bytes: &[u8], changes: &[(prop::sample::Index, u8, u8)], cut: Option<prop::sample::Index>) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for (index, kind, value) in changes {
        let at = index.index(bytes.len().max(1)).min(bytes.len().saturating_sub(1));
        match kind % 4 {
            0 => bytes[at] ^= 1 << (value % 8),
            1 => bytes[at] = *value,
            2 if bytes.len() > 1 => drop(bytes.remove(at)),
            _ => bytes.insert(at, *value),
        }
    }
    if let Some(cut) = cut {
        bytes.truncate(cut.index(bytes.len()));
    }
    bytes
}

fn changes() -> impl Strategy<Value = (Vec<(prop::sample::Index, u8, u8)>, Option<prop::sample::Index>)> {
    let change = (any::<prop::sample::Index>(), any::<u8>(), any::<u8>());
    (prop::collection::vec(change, 1..5), prop::option::weighted(0.1, any::<prop::sample::Index>()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn a_changed_certificate_is_never_taken_for_the_one_that_was_signed((changes, cut) in changes(), which in 0..2) {
        let (root, lower, client, _) = &*VALID;
        let policy = Setup::new(&[root]).policy();
        let change = |der: &Cert| CertificateDer::from(mutated(der, &changes, cut));
        let (leaf, lower_sent) = if which == 0 { (change(client), lower.clone()) } else { (client.clone(), change(lower)) };
        let rest = [lower_sent.clone()];
        let decision = evaluate(&Presented { leaf: &leaf, rest: &rest }, at(NOW), &policy);
        let unchanged = leaf == *client && lower_sent == *lower;
        // Bits of an ECDSA signature's encoding aside, nothing of what is signed can change.
        if decision.verdict.is_ok() && !unchanged {
            let same = |a: &Cert, b: &Cert| parse(a).tbs == parse(b).tbs;
            prop_assert!(same(&leaf, client) && same(&lower_sent, lower));
        }
        for step in &decision.steps {
            prop_assert!(!step.note.chars().any(char::is_control));
        }
    }

    #[test]
    fn request_and_pin_never_panic_on_changed_certificates((changes, cut) in changes()) {
        let (root, lower, client, _) = &*VALID;
        let leaf = CertificateDer::from(mutated(client, &changes, cut));
        for auth in [Auth::Request, Auth::Optional] {
            let policy = Setup::new(&[root]).auth(auth).policy();
            let _ = evaluate(&Presented { leaf: &leaf, rest: std::slice::from_ref(lower) }, at(NOW), &policy);
        }
    }

    #[test]
    fn a_changed_crl_never_panics_and_never_carries_its_issuers_signature((changes, cut) in changes()) {
        let (root, _, _, list) = &*VALID;
        let bytes = mutated(list, &changes, cut);
        let signed = |bytes: &[u8]| {
            let mut outer = crate::trust::der::Reader::new(bytes);
            let mut inner = crate::trust::der::Reader::new(outer.any().ok()?.content);
            Some(inner.any().ok()?.whole.to_vec())
        };
        if let Ok(crl) = crl::Crl::parse(&bytes) {
            let key = parse(&root.der).spki;
            if crl.is_signed_by(key, &crate::trust::sha256(key)) {
                prop_assert_eq!(signed(&bytes), signed(list));
            }
            crl.find(&[1, 2, 3]);
        }
    }

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = crate::trust::certificate::Certificate::parse(&bytes);
        let _ = crl::Crl::parse(&bytes);
        let _ = crate::trust::certificate::key(&bytes);
        crate::trust::name::print(&bytes);
        crate::trust::leaf::print_serial(&bytes);
    }

    #[test]
    fn dates_are_read_as_webpki_and_x509_parser_read_them(text in "[0-9]{12}Z|[0-9]{14}Z|[12][09][0-9]{2}(0[1-9]|1[0-2])[0-3][0-9]([01][0-9]|2[0-3])([0-5][0-9]){2}Z") {
        let tag = if text.len() == 13 { 0x17 } else { 0x18 };
        let whole = tlv(tag, &[text.as_bytes()]);
        let value = crate::trust::der::only(&whole, tag).unwrap();
        let ours = crate::trust::der::time(value).ok();
        use x509_parser::prelude::FromDer;
        let theirs = x509_parser::time::ASN1Time::from_der(&whole).ok().map(|(_, time)| time.timestamp());
        if let (Some(ours), Some(theirs)) = (ours, theirs) {
            prop_assert_eq!(ours, theirs);
        }
        prop_assert!(ours.is_none() || theirs.is_some() || text.starts_with("0000"), "{}", text);
    }
}
