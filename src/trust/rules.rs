//! Rules: conditions over the names and digests of a certificate, compiled once at load.
//!
//! Each condition looks at one kind of value and at no other: a common name never satisfies `dns`, a URI never `dns`, a
//! DNS name never `cn`. Values are compared whole, so that a NUL or a newline in one can never cut it short.
//! `policy_oid` looks at what the leaf's CertificatePolicies list; no policy processing along the path is done.

use super::certificate::{Certificate, GeneralName};
use super::der::{self, Malformed};
use super::leaf::Leaf;
use super::name::{self, NameKey};
use super::pattern::{self, DnsPattern, UriPattern};
use super::text;
use crate::config::{Condition, Rule};
use std::sync::Arc;

/// One rule, ready to be matched. Never without a test.
#[derive(Debug)]
pub(super) struct Compiled {
    /// The operator's name for whom it admits.
    pub name: Option<Arc<str>>,
    /// How it is named in logs, such as `allow[0] acme (sha256=ab12…)`.
    pub text: Arc<str>,
    tests: Vec<Test>,
    /// A canonical encoding, for the policy's digest.
    pub encoded: Vec<u8>,
}

#[derive(Debug)]
enum Test {
    Attribute(&'static [u8], String),
    Dns(DnsPattern),
    Uri(UriPattern),
    Email(String),
    Ip(std::net::IpAddr),
    Serial(Vec<u8>),
    Issuer(NameKey),
    Sha256([u8; 32]),
    SpkiSha256([u8; 32]),
    /// Content of the OID.
    Policy(Vec<u8>),
}

/// A certificate as rules see it.
pub(super) struct Subject<'a> {
    certificate: &'a Certificate<'a>,
    leaf: &'a Leaf,
    alternative_names: Vec<GeneralName<'a>>,
    rdns: Vec<Vec<name::Attribute<'a>>>,
}

impl<'a> Subject<'a> {
    pub(super) fn of(certificate: &'a Certificate<'a>, leaf: &'a Leaf) -> Result<Subject<'a>, Malformed> {
        Ok(Subject {
            certificate,
            leaf,
            alternative_names: certificate.alternative_names()?,
            rdns: name::rdns(certificate.subject)?,
        })
    }
}

/// Compiles the rules of one list (`allow` or `deny`). `Err` has the index of each bad rule and what is wrong with it.
pub(super) fn compile(list: &str, rules: &[Rule]) -> Result<Vec<Compiled>, Vec<(usize, String)>> {
    let mut compiled = Vec::with_capacity(rules.len());
    let mut faults = Vec::new();
    for (i, rule) in rules.iter().enumerate() {
        match Compiled::new(list, i, rule) {
            Ok(rule) => compiled.push(rule),
            Err(message) => faults.push((i, message)),
        }
    }
    if faults.is_empty() { Ok(compiled) } else { Err(faults) }
}

/// The first rule that matches.
pub(super) fn first_match<'r>(rules: &'r [Compiled], subject: &Subject<'_>) -> Option<&'r Compiled> {
    rules.iter().find(|rule| rule.matches(subject))
}

impl Compiled {
    fn new(list: &str, index: usize, rule: &Rule) -> Result<Compiled, String> {
        if rule.conditions.is_empty() {
            return Err("a rule without conditions would match everybody; give it one".to_owned());
        }
        let tests = rule.conditions.iter().map(Test::new).collect::<Result<Vec<_>, _>>()?;
        let mut parts: Vec<(&str, Vec<u8>)> = tests.iter().map(Test::encode).collect();
        parts.sort();
        parts.dedup();
        let mut encoded = Vec::new();
        super::encode_part(rule.name.as_deref().unwrap_or("").as_bytes(), &mut encoded);
        for (key, value) in &parts {
            super::encode_part(key.as_bytes(), &mut encoded);
            super::encode_part(value, &mut encoded);
        }
        let conditions: Vec<String> = rule.conditions.iter().map(print).collect();
        let name = rule.name.as_ref().map(|name| format!(" {}", text::short(name))).unwrap_or_default();
        let text = text::detail(&format!("{list}[{index}]{name} ({})", conditions.join(", "))).into();
        Ok(Compiled { name: rule.name.clone(), text, tests, encoded })
    }

    /// All conditions hold.
    pub(super) fn matches(&self, subject: &Subject<'_>) -> bool {
        !self.tests.is_empty() && self.tests.iter().all(|test| test.holds(subject))
    }

    /// Whether the rule names a certificate or a key itself, as mode `pin` demands.
    pub(super) fn pins(&self) -> bool {
        self.tests.iter().any(|test| matches!(test, Test::Sha256(_) | Test::SpkiSha256(_)))
    }

    /// Whether the rule names one whole certificate, names in it included.
    pub(super) fn pins_certificate(&self) -> bool {
        self.tests.iter().any(|test| matches!(test, Test::Sha256(_)))
    }

    /// Whether the rule says which CA it means, or a certificate or key that no other CA can make up.
    pub(super) fn is_narrowed(&self) -> bool {
        self.pins() || self.tests.iter().any(|test| matches!(test, Test::Issuer(_)))
    }

    /// The issuers that the rule names.
    pub(super) fn issuers(&self) -> impl Iterator<Item = &NameKey> {
        self.tests.iter().filter_map(|test| match test {
            Test::Issuer(key) => Some(key),
            _ => None,
        })
    }
}

impl Test {
    fn new(condition: &Condition) -> Result<Test, String> {
        Ok(match condition {
            Condition::Cn(value) => Test::Attribute(name::CN, value.clone()),
            Condition::Ou(value) => Test::Attribute(name::OU, value.clone()),
            Condition::O(value) => Test::Attribute(name::O, value.clone()),
            Condition::Dns(pattern) => Test::Dns(DnsPattern::new(pattern)?),
            Condition::Uri(pattern) => Test::Uri(UriPattern::new(pattern)?),
            Condition::Email(value) => Test::Email(pattern::fold_email(value)),
            Condition::Ip(address) => Test::Ip(*address),
            Condition::Serial(bytes) => {
                Test::Serial(bytes.iter().copied().skip_while(|byte| *byte == 0).collect::<Vec<_>>())
            }
            Condition::Issuer(written) => Test::Issuer(NameKey::of_text(written)?),
            Condition::Sha256(digest) => Test::Sha256(*digest),
            Condition::SpkiSha256(digest) => Test::SpkiSha256(*digest),
            Condition::PolicyOid(dotted) => Test::Policy(
                name::encode_oid(dotted)
                    .ok_or_else(|| format!("`{}` is not an OID; write it like 1.2.3.4", text::short(dotted)))?,
            ),
        })
    }

    fn holds(&self, subject: &Subject<'_>) -> bool {
        match self {
            Test::Attribute(oid, wanted) => has_attribute(subject, oid, wanted),
            Test::Dns(pattern) => subject
                .alternative_names
                .iter()
                .any(|name| matches!(name, GeneralName::Dns(bytes) if pattern.matches(bytes))),
            Test::Uri(pattern) => subject
                .alternative_names
                .iter()
                .any(|name| matches!(name, GeneralName::Uri(bytes) if pattern.matches(bytes))),
            Test::Email(wanted) => subject.alternative_names.iter().any(|name| match name {
                GeneralName::Email(bytes) => {
                    bytes.is_ascii()
                        && std::str::from_utf8(bytes).is_ok_and(|email| pattern::fold_email(email) == *wanted)
                }
                _ => false,
            }),
            Test::Ip(wanted) => {
                subject.alternative_names.iter().any(|name| matches!(name, GeneralName::Ip(ip) if ip == wanted))
            }
            Test::Serial(wanted) => der::unsigned(subject.certificate.serial) == Some(wanted),
            Test::Issuer(wanted) => NameKey::of_der(subject.certificate.issuer).is_some_and(|issuer| issuer == *wanted),
            Test::Sha256(wanted) => subject.leaf.sha256 == *wanted,
            Test::SpkiSha256(wanted) => subject.leaf.spki_sha256 == *wanted,
            Test::Policy(wanted) => subject.certificate.policies().is_ok_and(|oids| oids.contains(&wanted.as_slice())),
        }
    }

    /// Kind and value in one canonical form, so that spellings that mean the same give the same policy.
    fn encode(&self) -> (&'static str, Vec<u8>) {
        match self {
            Test::Attribute(name::CN, value) => ("cn", value.clone().into()),
            Test::Attribute(name::OU, value) => ("ou", value.clone().into()),
            Test::Attribute(_, value) => ("o", value.clone().into()),
            Test::Dns(pattern) => ("dns", pattern.written().into()),
            Test::Uri(pattern) => ("uri", pattern.written().into()),
            Test::Email(value) => ("email", value.clone().into()),
            Test::Ip(address) => ("ip", address.to_string().into()),
            Test::Serial(bytes) => ("serial", bytes.clone()),
            Test::Issuer(key) => ("issuer", key.encode()),
            Test::Sha256(digest) => ("sha256", digest.to_vec()),
            Test::SpkiSha256(digest) => ("spki_sha256", digest.to_vec()),
            Test::Policy(oid) => ("policy_oid", oid.clone()),
        }
    }
}

fn has_attribute(subject: &Subject<'_>, oid: &[u8], wanted: &str) -> bool {
    let mut attributes = subject.rdns.iter().flatten().filter(|attribute| attribute.oid == oid);
    attributes.any(|attribute| name::decode(attribute.value).is_some_and(|value| value == wanted))
}

fn print(condition: &Condition) -> String {
    match condition {
        Condition::Cn(value) => format!("cn={value}"),
        Condition::Ou(value) => format!("ou={value}"),
        Condition::O(value) => format!("o={value}"),
        Condition::Dns(value) => format!("dns={value}"),
        Condition::Uri(value) => format!("uri={value}"),
        Condition::Email(value) => format!("email={value}"),
        Condition::Ip(address) => format!("ip={address}"),
        Condition::Serial(bytes) if bytes.is_empty() => "serial=00".to_owned(),
        Condition::Serial(bytes) => format!("serial={}", hex::encode(bytes)),
        Condition::Issuer(name) => format!("issuer={name}"),
        Condition::Sha256(digest) => format!("sha256={}", hex::encode(digest)),
        Condition::SpkiSha256(digest) => format!("spki_sha256={}", hex::encode(digest)),
        Condition::PolicyOid(oid) => format!("policy_oid={oid}"),
    }
}
