//! From a site's `client` table and the files that it names to a [`Policy`], with every fault and warning said.

mod advice;

use super::anchors::{Anchor, BySubject};
use super::certificate::Certificate;
use super::crl::Crl;
use super::diagnose::Acquaintances;
use super::evaluate::seconds;
use super::loader::{Loader, Located};
use super::policy::{Authority, Policy, crl_facts};
use super::revocation::Revocation;
use super::rules::{self, Compiled};
use super::{PolicyId, encode_part, name, sha256, text};
use crate::config::{self, Advertise, Auth, CrlExpired, CrlMissing, CrlScope, Fault, FaultKind, Rule, limits};
use rustls_pki_types::{CertificateDer, UnixTime};
use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

impl Policy {
    /// Reads every file of the site's `client` table. On success the faults are warnings.
    pub fn load(
        site: &config::Site,
        listener: &config::Listener,
        epoch: u64,
        now: UnixTime,
        loader: &mut Loader,
    ) -> Result<(Arc<Policy>, Vec<Fault>), Vec<Fault>> {
        let mut load = Load { site, now: seconds(now), loader, faults: Vec::new() };
        let policy = load.policy(listener, epoch);
        let (warnings, faults): (Vec<_>, Vec<_>) =
            load.faults.into_iter().partition(|fault| fault.kind == FaultKind::Warning);
        match policy {
            Some(policy) if faults.is_empty() => Ok((Arc::new(policy), warnings)),
            _ => Err(faults),
        }
    }
}

struct Load<'l> {
    site: &'l config::Site,
    now: i64,
    loader: &'l mut Loader,
    faults: Vec<Fault>,
}

impl Load<'_> {
    /// `None` only where a fault was said.
    fn policy(&mut self, listener: &config::Listener, epoch: u64) -> Option<Policy> {
        let client = &self.site.client;
        let (anchors, anchors_by_subject) = self.anchors();
        let (helpers, helpers_by_subject) = self.helpers();
        let mut authorities = Vec::with_capacity(client.authorities.len());
        let mut encoded = Vec::new();
        for (i, configured) in client.authorities.iter().enumerate() {
            let crls = self.crls(i, configured, &anchors, &helpers);
            let authority = self.authority(i, configured, &anchors, &crls)?;
            encode_authority(i, configured, &authority, &anchors, &crls, &mut encoded);
            authorities.push(authority);
        }
        self.check_mode(&anchors, &authorities);
        let advertised = self.advertised(&anchors);
        let id = self.id(listener, &helpers, &encoded);
        Some(Policy {
            id,
            epoch,
            auth: client.auth,
            advertised,
            acquaintances: Acquaintances::of(&anchors, &helpers, &authorities),
            crls: crl_facts(&authorities),
            anchors,
            anchors_by_subject,
            helpers,
            helpers_by_subject,
            authorities,
            crl_scope: client.crl_scope,
            max_depth: client.max_depth,
            chain_bytes_max: listener.limits.client_chain_bytes,
            chain_certificates_max: listener.limits.client_chain_certificates,
            algorithms: rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms.all,
        })
    }

    fn id(&self, listener: &config::Listener, helpers: &[CertificateDer<'static>], authorities: &[u8]) -> PolicyId {
        let client = &self.site.client;
        let mut encoded = Vec::new();
        encode_part(b"countersign client policy, version 1", &mut encoded);
        encode_part(listener.name.as_bytes(), &mut encoded);
        encode_part(self.site.name.as_bytes(), &mut encoded);
        encode_part(auth_name(client.auth).as_bytes(), &mut encoded);
        encode_part(if client.crl_scope == CrlScope::Leaf { b"leaf" } else { b"chain" }, &mut encoded);
        encode_part(&(client.max_depth as u64).to_be_bytes(), &mut encoded);
        encode_set(helpers.iter().map(|helper| sha256(helper)), &mut encoded);
        encode_part(authorities, &mut encoded);
        PolicyId(sha256(&encoded))
    }

    fn anchors(&mut self) -> (Vec<Anchor>, BySubject) {
        let mut anchors: Vec<Anchor> = Vec::new();
        let mut by_subject = BySubject::default();
        for (i, authority) in self.site.client.authorities.iter().enumerate() {
            let key = self.key(i, "trust");
            for path in &authority.trust {
                for found in self.certificates(path, &key) {
                    if let Some(same) = anchors.iter_mut().find(|anchor| anchor.der == found.what) {
                        if same.authorities.last() != Some(&i) {
                            same.authorities.push(i);
                        }
                        continue;
                    }
                    match Anchor::new(&found.what, i) {
                        Ok(anchor) => {
                            self.warn_of_anchor(&anchor, path, found.line, &key);
                            by_subject.insert(&anchor.subject, anchors.len());
                            anchors.push(anchor);
                        }
                        Err(error) => self.fault_at(
                            path,
                            found.line,
                            &key,
                            FaultKind::Config,
                            format!("this certificate cannot be an anchor ({error})"),
                            "take it out, or have it issued anew",
                        ),
                    }
                }
            }
        }
        for (subject, indices) in by_subject.subjects() {
            let keys: HashSet<&[u8; 32]> = indices.iter().map(|i| &anchors[*i].spki_sha256).collect();
            if keys.len() > limits::ANCHORS_SAME_NAME_MAX {
                let message = format!("{} anchors are named {}", keys.len(), text::short(&name::print(subject)));
                let help = format!("keep at most {} keys of one name", limits::ANCHORS_SAME_NAME_MAX);
                self.fault(&self.key(0, "trust"), FaultKind::Config, message, &help);
            }
        }
        (anchors, by_subject)
    }

    fn helpers(&mut self) -> (Vec<CertificateDer<'static>>, BySubject) {
        let mut helpers: Vec<CertificateDer<'static>> = Vec::new();
        let mut by_subject = BySubject::default();
        for path in &self.site.client.intermediates {
            for found in self.certificates(path, "site.client.intermediates") {
                let Ok(certificate) = Certificate::parse(&found.what) else { continue };
                if helpers.contains(&found.what) {
                    continue;
                }
                self.warn_of_helper(&certificate, path, found.line);
                by_subject.insert(certificate.subject, helpers.len());
                helpers.push(found.what);
            }
        }
        (helpers, by_subject)
    }

    /// The CRLs of an authority, each asked whether a key that is known here signed it.
    fn crls(
        &mut self,
        index: usize,
        configured: &config::Authority,
        anchors: &[Anchor],
        helpers: &[CertificateDer<'static>],
    ) -> Vec<Arc<Crl>> {
        let key = self.key(index, "crls");
        let mut all = Vec::new();
        for path in &configured.crls {
            let crls = match self.loader.crls(path) {
                Ok(crls) => crls,
                Err(fault) => {
                    self.faults.push(Fault { key: key.clone(), ..*fault });
                    continue;
                }
            };
            for found in crls.iter() {
                let crl = &found.what;
                let mine = anchors.iter().filter(|anchor| anchor.authorities.contains(&index));
                let by_anchor = mine
                    .filter(|anchor| anchor.subject == crl.issuer)
                    .map(|anchor| (crl.is_signed_by(&anchor.spki, &anchor.spki_sha256), anchor.may_sign_crls));
                let by_helper = helpers.iter().filter_map(|helper| Certificate::parse(helper).ok());
                let by_helper = by_helper.filter(|helper| *helper.subject == *crl.issuer).map(|helper| {
                    (crl.is_signed_by(helper.spki, &sha256(helper.spki)), super::revocation::may_sign_crls(&helper))
                });
                let answers: Vec<(bool, bool)> = by_anchor.chain(by_helper).collect();
                self.warn_of_crl(found, path, &key, &answers, configured.crl_expired);
                all.push(crl.clone());
            }
        }
        all
    }

    fn authority(
        &mut self,
        index: usize,
        configured: &config::Authority,
        anchors: &[Anchor],
        crls: &[Arc<Crl>],
    ) -> Option<Authority> {
        let allow = match &configured.allow {
            Some(list) => Some(self.rules(index, "allow", list)?),
            None => None,
        };
        let deny = self.rules(index, "deny", &configured.deny)?;
        let mine: Vec<&Anchor> = anchors.iter().filter(|anchor| anchor.authorities.contains(&index)).collect();
        self.warn_of_wide_rules(index, configured, allow.as_deref().unwrap_or_default(), &mine);
        self.warn_of_turned_issuers(index, allow.iter().flatten().chain(&deny), &mine);
        let revocation = Revocation::new(crls.to_vec(), configured.crl_missing, configured.crl_expired, self.now);
        self.warn_of_uncovered_anchors(index, configured, &revocation, &mine);
        Some(Authority { revocation, allow, deny })
    }

    fn rules(&mut self, index: usize, list: &str, configured: &[Rule]) -> Option<Vec<Compiled>> {
        match rules::compile(list, configured) {
            Ok(rules) => Some(rules),
            Err(faults) => {
                for (i, message) in faults {
                    let key = format!("{}[{i}]", self.key(index, list));
                    self.fault_in_config(configured[i].line, &key, FaultKind::Config, message, "correct the rule");
                }
                None
            }
        }
    }

    /// What each mode needs to be safe; the configuration says the same, files can still make it untrue.
    fn check_mode(&mut self, anchors: &[Anchor], authorities: &[Authority]) {
        match self.site.client.auth {
            Auth::Require | Auth::Optional if anchors.is_empty() && self.faults.is_empty() => {
                let message = "no anchor: nobody could be verified".to_owned();
                self.fault(&self.key(0, "trust"), FaultKind::Config, message, "name the file of the clients' CA");
            }
            Auth::Pin => {
                let rules: Vec<&Compiled> = authorities.iter().flat_map(|a| a.allow.iter().flatten()).collect();
                let key = self.key(0, "allow");
                if rules.is_empty() {
                    let message = "auth = \"pin\" without a rule admits nobody".to_owned();
                    self.fault(&key, FaultKind::Warning, message, "add { sha256 = \"…\" } or { spki_sha256 = \"…\" }");
                }
                for text in rules.iter().filter(|rule| !rule.pins()).map(|rule| rule.text.clone()).collect::<Vec<_>>() {
                    let message = format!("{text} names no certificate or key, as auth = \"pin\" needs");
                    self.fault(&key, FaultKind::Config, message, "add sha256 or spki_sha256 to the rule");
                }
            }
            _ => {}
        }
    }

    /// The names for CertificateRequest, each once.
    fn advertised(&mut self, anchors: &[Anchor]) -> Vec<Vec<u8>> {
        let client = &self.site.client;
        let subjects: Vec<Vec<u8>> = match (&client.advertise, client.auth) {
            (_, Auth::Off | Auth::Pin) | (Advertise::None, _) => Vec::new(),
            (Advertise::Trust, _) => anchors.iter().map(|anchor| sequence(&anchor.subject)).collect(),
            (Advertise::Files(files), _) => self.subjects_of(files),
        };
        let mut seen = HashSet::new();
        let names: Vec<Vec<u8>> = subjects.into_iter().filter(|name| seen.insert(name.clone())).collect();
        let bytes: usize = names.iter().map(|name| name.len() + 2).sum();
        let message = format!("the names of {} CAs take {bytes} bytes of every handshake", names.len());
        let help = "set advertise = \"none\", or name a file with fewer CAs";
        if bytes > limits::ADVERTISED_BYTES_MAX {
            let message = format!("{message}, more than TLS can carry");
            self.fault("site.client.advertise", FaultKind::Config, message, help);
        } else if bytes > limits::ADVERTISED_BYTES_WISE {
            self.fault("site.client.advertise", FaultKind::Warning, message, help);
        }
        names
    }

    fn subjects_of(&mut self, files: &[PathBuf]) -> Vec<Vec<u8>> {
        let mut subjects = Vec::new();
        for path in files {
            for found in self.certificates(path, "site.client.advertise") {
                subjects.extend(Certificate::parse(&found.what).map(|certificate| sequence(certificate.subject)));
            }
        }
        subjects
    }

    fn certificates(&mut self, path: &Path, key: &str) -> Vec<Located<CertificateDer<'static>>> {
        match self.loader.certificates(path) {
            Ok(found) => found.to_vec(),
            Err(fault) => {
                self.faults.push(Fault { key: key.to_owned(), ..*fault });
                Vec::new()
            }
        }
    }

    /// `site.client.trust`, or `site.client.authority[1].trust` where there are several.
    fn key(&self, authority: usize, name: &str) -> String {
        match self.site.client.authorities.len() {
            0 | 1 => format!("site.client.{name}"),
            _ => format!("site.client.authority[{authority}].{name}"),
        }
    }

    fn fault(&mut self, key: &str, kind: FaultKind, message: String, help: &str) {
        self.fault_in_config(self.site.line, key, kind, message, help);
    }

    fn fault_in_config(&mut self, line: Option<usize>, key: &str, kind: FaultKind, message: String, help: &str) {
        let message = format!("site {}: {message}", self.site.name);
        self.faults.push(Fault { file: None, line, key: key.to_owned(), message, help: help.to_owned(), kind });
    }

    fn fault_at(&mut self, path: &Path, line: Option<usize>, key: &str, kind: FaultKind, message: String, help: &str) {
        let file = Some(path.to_owned());
        self.faults.push(Fault { file, line, key: key.to_owned(), message, help: help.to_owned(), kind });
    }
}

/// Whatever decides in one authority. Where order means nothing it is taken out; the rules of `allow` keep theirs, for the
/// first that matches gives the identity. Lists that are replaced by newer ones count too: which those are depends on
/// the time of loading, and hosts must agree.
fn encode_authority(
    index: usize,
    configured: &config::Authority,
    authority: &Authority,
    anchors: &[Anchor],
    crls: &[Arc<Crl>],
    out: &mut Vec<u8>,
) {
    encode_part(b"authority", out);
    encode_set(anchors.iter().filter(|a| a.authorities.contains(&index)).map(|anchor| sha256(&anchor.der)), out);
    encode_set(crls.iter().map(|crl| crl.digest), out);
    encode_part(if configured.crl_missing == CrlMissing::Allow { b"allow" } else { b"refuse" }, out);
    match configured.crl_expired {
        CrlExpired::Refuse => encode_part(b"refuse", out),
        CrlExpired::Allow => encode_part(b"allow", out),
        CrlExpired::Grace(grace) => encode_part(&grace.as_nanos().to_be_bytes(), out),
    }
    match &authority.allow {
        None => encode_part(b"everybody", out),
        Some(rules) => {
            encode_part(b"by rule", out);
            encode_part(&(rules.len() as u64).to_be_bytes(), out);
            rules.iter().for_each(|rule| encode_part(&rule.encoded, out));
        }
    }
    encode_set(authority.deny.iter().map(|rule| sha256(&rule.encoded)), out);
}

fn encode_set(digests: impl Iterator<Item = [u8; 32]>, out: &mut Vec<u8>) {
    let sorted: BTreeSet<[u8; 32]> = digests.collect();
    encode_part(&sorted.into_iter().flatten().collect::<Vec<u8>>(), out);
}

fn auth_name(auth: Auth) -> &'static str {
    match auth {
        Auth::Require => "require",
        Auth::Optional => "optional",
        Auth::Request => "request",
        Auth::Pin => "pin",
        Auth::Off => "off",
    }
}

/// The content of a Name with its SEQUENCE around it.
fn sequence(content: &[u8]) -> Vec<u8> {
    let mut out = vec![0x30];
    let length = content.len().to_be_bytes();
    let digits = &length[length.iter().position(|byte| *byte != 0).unwrap_or(length.len())..];
    match digits {
        [] => out.push(0),
        [short @ ..0x80] => out.push(*short),
        _ => {
            out.push(0x80 | digits.len() as u8);
            out.extend(digits);
        }
    }
    out.extend(content);
    out
}
