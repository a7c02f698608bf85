//! Rules over names of every kind, against a plain reading of the contract: `*` is one label or segment, `**` any number
//! of segments, all else is exact, and one kind of name never satisfies a rule of another.
#![no_main]

use countersign::trust::{Presented, Reason, evaluate};
use countersign_fuzz::Choices;
use countersign_fuzz::pki::{self, NOW, unix};
use countersign_fuzz::world::Files;
use libfuzzer_sys::fuzz_target;
use rcgen::{DistinguishedName, DnType, SanType};

thread_local! {
    static FILES: Files = Files::new();
}

const KINDS: [&str; 6] = ["dns", "uri", "email", "cn", "ou", "o"];

fuzz_target!(|data: &[u8]| FILES.with(|files| {
    let mut choices = Choices::new(data);
    let rule_kind = *choices.of(&KINDS);
    let name_kind = if choices.bool() { rule_kind } else { *choices.of(&KINDS) };
    let (pattern, name) = (text(choices.few_bytes()), text(choices.few_bytes()));
    let line = |list: &str| format!("trust = [\"ca.pem\"]\n{list} = [{{ {rule_kind} = {} }}]", quoted(&pattern));
    let Ok(allow) = files.config(&line("allow")) else { return };
    let deny = files.config(&line("deny")).expect("what allow takes deny takes");
    let Some(leaf) = leaf(files, name_kind, &name) else { return };
    let verdict = |config| {
        // What the configuration takes can be compiled.
        let policy = files.policy(config).unwrap_or_else(|faults| panic!("{faults:?}"));
        evaluate(&Presented { leaf: &leaf, rest: &[] }, unix(NOW), &policy).verdict.map_err(|refusal| refusal.reason)
    };
    let (allowed, denied) = (verdict(&allow), verdict(&deny));
    if let Err(reason @ Reason::BadEncoding) = allowed {
        assert_eq!(denied.err(), Some(reason));
        return;
    }
    let is_match = rule_kind == name_kind && matches(rule_kind, &pattern, &name);
    assert_eq!(allowed.is_ok(), is_match, "allow {rule_kind} {pattern:?} for {name_kind} {name:?}: {allowed:?}");
    assert_eq!(denied.is_ok(), !is_match, "deny {rule_kind} {pattern:?} for {name_kind} {name:?}: {denied:?}");
}));

/// ASCII, for names in certificates mostly are; stars more often than chance has them.
fn text(bytes: &[u8]) -> String {
    bytes
        .iter()
        .map(|byte| if *byte < 0x80 { char::from(*byte) } else { char::from(b"*./a%"[usize::from(byte % 5)]) })
        .collect()
}

fn quoted(text: &str) -> String {
    let escape = |c: char| match c {
        '"' | '\\' => format!("\\{c}"),
        c if c.is_control() => format!("\\u{:04x}", u32::from(c)),
        c => c.to_string(),
    };
    format!("\"{}\"", text.chars().map(escape).collect::<String>())
}

fn leaf(files: &Files, kind: &str, name: &str) -> Option<rustls_pki_types::CertificateDer<'static>> {
    let mut params = pki::client("", 40);
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names.clear();
    match kind {
        "dns" => params.subject_alt_names.push(SanType::DnsName(name.try_into().ok()?)),
        "uri" => params.subject_alt_names.push(SanType::URI(name.try_into().ok()?)),
        "email" => params.subject_alt_names.push(SanType::Rfc822Name(name.try_into().ok()?)),
        "cn" => params.distinguished_name.push(DnType::CommonName, name),
        "ou" => params.distinguished_name.push(DnType::OrganizationalUnitName, name),
        _ => params.distinguished_name.push(DnType::OrganizationName, name),
    }
    Some(files.pki.root.sign(40, params).der)
}

fn matches(kind: &str, pattern: &str, name: &str) -> bool {
    match kind {
        "dns" => {
            let (pattern, name): (Vec<&str>, Vec<&str>) = (pattern.split('.').collect(), name.split('.').collect());
            let is_host = |label: &str| {
                !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            };
            let one = |(wanted, label): (&&str, &&str)| {
                if *wanted == "*" { is_host(label) } else { wanted.eq_ignore_ascii_case(label) }
            };
            pattern.len() == name.len() && pattern.iter().zip(&name).all(one)
        }
        "uri" => {
            let (Some((scheme, rest)), true) = (pattern.split_once(':'), has_star(pattern)) else {
                return pattern == name;
            };
            let authority =
                if rest.starts_with("//") { rest[2..].find('/').map_or(rest.len(), |at| at + 2) } else { 0 };
            let head = scheme.len() + 1 + authority;
            let (Some(path), false) = (name.strip_prefix(&pattern[..head]), name.contains(['?', '#'])) else {
                return false;
            };
            // Where a name has no authority, what looks like a path could be one.
            let (wanted, segments): (Vec<&str>, Vec<&str>) =
                (pattern[head..].split('/').collect(), path.split('/').collect());
            (path.is_empty() || path.starts_with('/') || authority == 0) && walk(&wanted, &segments)
        }
        "email" => {
            let fold = |email: &str| match email.rsplit_once('@') {
                Some((local, domain)) => format!("{local}@{}", domain.to_ascii_lowercase()),
                None => email.to_owned(),
            };
            fold(pattern) == fold(name)
        }
        _ => pattern == name,
    }
}

fn has_star(pattern: &str) -> bool {
    pattern.split('/').any(|segment| segment == "*" || segment == "**")
}

fn walk(pattern: &[&str], path: &[&str]) -> bool {
    match (pattern.split_first(), path.split_first()) {
        (None, None) => true,
        (Some((&"**", rest)), None) => walk(rest, path),
        (Some((&"**", rest)), Some((first, tail))) => walk(rest, path) || (is_plain(first) && walk(pattern, tail)),
        (Some((&"*", rest)), Some((first, tail))) => is_plain(first) && walk(rest, tail),
        (Some((wanted, rest)), Some((first, tail))) => wanted == first && walk(rest, tail),
        _ => false,
    }
}

/// A segment that no reader takes for another.
fn is_plain(segment: &str) -> bool {
    const HARMFUL: [&str; 6] = ["%2f", "%2e", "%5c", "%25", "%3f", "%23"];
    let lower = segment.to_ascii_lowercase();
    let escapes_ok = segment.match_indices('%').all(|(at, _)| {
        let digits = segment.get(at + 1..at + 3).filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
        digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()).is_some_and(|byte| byte > 0x20 && byte != 0x7f)
    });
    let plain = segment.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~:@!$&'()*+,;=%".contains(&b));
    !segment.is_empty()
        && segment != "."
        && segment != ".."
        && plain
        && escapes_ok
        && !HARMFUL.iter().any(|bad| lower.contains(bad))
}
