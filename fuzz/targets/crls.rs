//! CRL files, damaged or mixed up. What loads is only what its issuer signed: no such file lets the revoked client in,
//! and without an intact list of each issuer nobody comes in.
#![no_main]

use countersign::trust::{Presented, Reason, evaluate};
use countersign_fuzz::Choices;
use countersign_fuzz::pki::{NOW, pem, unix};
use countersign_fuzz::world::Files;
use libfuzzer_sys::fuzz_target;

struct Subject {
    files: Files,
    config: countersign::config::Config,
    lists: Vec<Vec<u8>>,
}

thread_local! {
    static SUBJECT: Subject = {
        let files = Files::new();
        let client = "trust = [\"ca.pem\"]\nintermediates = [\"intermediate.pem\"]\ncrls = [\"fuzzed.crl\"]";
        let config = files.config(client).unwrap_or_else(|faults| panic!("{faults:?}"));
        let lists = files.pki.crls();
        Subject { files, config, lists }
    };
}

fuzz_target!(|data: &[u8]| SUBJECT.with(|subject| {
    let mut choices = Choices::new(data);
    let (file, intact) = file(&mut choices, &subject.lists);
    subject.files.write("fuzzed.crl", &file);
    let policy = match subject.files.policy(&subject.config) {
        Ok(policy) => policy,
        Err(faults) => {
            assert!(faults.iter().all(|fault| fault.key.starts_with("site.client.crls") && !fault.help.is_empty()));
            assert!(intact.is_empty(), "{faults:?}");
            return;
        }
    };
    assert!(policy.crls().count() > 0, "a CRL file without a CRL means no revocation at all");
    let pki = &subject.files.pki;
    let rest = [pki.intermediate.der.clone()];
    let verdict = |leaf| evaluate(&Presented { leaf, rest: &rest }, unix(NOW), &policy).verdict;
    let revoked = verdict(&pki.revoked.der).expect_err("no damage lets the revoked client in");
    assert!(matches!(revoked.reason, Reason::Revoked | Reason::CrlMissing | Reason::CrlExpired), "{revoked:?}");
    match verdict(&pki.good.der) {
        Ok(_) => {
            // Only bytes that were signed count, so they are in the file, or in what its PEM says.
            assert!(!intact.is_empty() || holds(&file, &subject.lists), "admitted without intact lists");
        }
        Err(refusal) => {
            assert!(matches!(refusal.reason, Reason::CrlMissing | Reason::CrlExpired), "{}", refusal.detail);
            // The root's list and a current one of the intermediate's are enough.
            let enough = intact.contains(&0) && intact.contains(&1) && !intact.contains(&3);
            assert!(!enough, "refused with intact lists: {}", refusal.detail);
        }
    }
}));

/// A file of the lists, and which of them it holds if it was left intact (else empty).
fn file(choices: &mut Choices<'_>, lists: &[Vec<u8>]) -> (Vec<u8>, Vec<usize>) {
    let is_pem = choices.bool();
    let mut file = Vec::new();
    let mut intact = Vec::new();
    for _ in 0..choices.byte() % 6 {
        let which = usize::from(choices.byte()) % lists.len();
        intact.push(which);
        let mut list = lists[which].clone();
        if choices.byte() & 3 == 3 {
            choices.edit(&mut list);
        }
        if list != lists[which] {
            intact.clear();
            intact.push(usize::MAX);
        }
        file.extend(if is_pem { pem("X509 CRL", &list).into_bytes() } else { list });
    }
    let before = file.clone();
    while !choices.is_empty() {
        choices.edit(&mut file);
    }
    if file != before || intact.contains(&usize::MAX) {
        intact.clear();
    }
    (file, intact)
}

/// Whether the root's list and one of the intermediate's are in this file, as DER or as PEM.
fn holds(file: &[u8], lists: &[Vec<u8>]) -> bool {
    let text: Vec<u8> = file.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let has = |list: &Vec<u8>| {
        let lines = pem("X509 CRL", list);
        let base64: Vec<u8> = lines.lines().filter(|line| !line.starts_with('-')).flat_map(str::bytes).collect();
        find(file, list) || find(&text, &base64)
    };
    has(&lists[0]) && lists[1..4].iter().any(has)
}

fn find(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}
