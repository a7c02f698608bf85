//! What is legal but unwise in the files and rules of a site, said at load.

use super::Load;
use crate::config::{self, Auth, CrlExpired, CrlMissing, CrlScope, FaultKind};
use crate::trust::anchors::Anchor;
use crate::trust::certificate::{Certificate, Key};
use crate::trust::crl::Crl;
use crate::trust::loader::Located;
use crate::trust::revocation::Revocation;
use crate::trust::rules::Compiled;
use crate::trust::{name, text};
use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

impl Load<'_> {
    pub(super) fn warn_of_anchor(&mut self, anchor: &Anchor, path: &Path, line: Option<usize>, key: &str) {
        let called = text::short(&anchor.facts.name);
        let now = self.now;
        let mut warn = |message: String, help: &str| self.fault_at(path, line, key, FaultKind::Warning, message, help);
        if anchor.not_after < now {
            let message =
                format!("the anchor {called} expired on {}: its clients are refused", text::date(anchor.not_after));
            warn(message, "put its successor beside it");
        } else if anchor.not_before > now {
            warn(
                format!("the anchor {called} is valid only from {}", text::date(anchor.not_before)),
                "check the clock",
            );
        }
        if !anchor.is_ca {
            let message = format!("{called} is no CA certificate: it vouches for itself alone");
            warn(message, "trust the CA that issued it, or name it in a rule of auth = \"pin\"");
        }
        if !anchor.allows_client_auth {
            let message =
                format!("the anchor {called} has an ExtendedKeyUsage without clientAuth: its clients are refused");
            warn(message, "trust a CA that is for client certificates");
        }
        if matches!(anchor.key, Key::Unsupported | Key::Rsa(..2048)) {
            let message =
                format!("the key of the anchor {called} is too weak or of no accepted kind: its clients are refused");
            warn(message, "trust a CA with RSA from 2048 bits, P-256, P-384, P-521 or Ed25519");
        }
    }

    pub(super) fn warn_of_helper(&mut self, certificate: &Certificate<'_>, path: &Path, line: Option<usize>) {
        let called = text::short(&name::print(certificate.subject));
        let (message, help) = if !certificate.is_ca() {
            (format!("{called} is no CA certificate and completes no chain"), "take it out")
        } else if certificate.is_self_issued() {
            (format!("{called} is a root: as a helper it is never trusted"), "put it into trust if you mean that")
        } else if certificate.not_after < self.now {
            (format!("{called} expired on {}", text::date(certificate.not_after)), "replace it")
        } else {
            return;
        };
        self.fault_at(path, line, "site.client.intermediates", FaultKind::Warning, message, help);
    }

    /// `answers`: for each known certificate with the issuer's name, whether its key signed the CRL and may do so.
    pub(super) fn warn_of_crl(
        &mut self,
        found: &Located<Arc<Crl>>,
        path: &Path,
        key: &str,
        answers: &[(bool, bool)],
        expired: CrlExpired,
    ) {
        let crl = &found.what;
        let issuer = text::short(&name::print(&crl.issuer));
        let now = self.now;
        let mut warn =
            |message: String, help: &str| self.fault_at(path, found.line, key, FaultKind::Warning, message, help);
        if answers.is_empty() {
            warn(
                format!("no certificate of {issuer} is here, so this CRL is verified only once a client presents one"),
                "put the certificate of that CA into intermediates, and the CRL is verified at load",
            );
        } else if !answers.iter().any(|(signed, _)| *signed) {
            warn(
                format!("this CRL is not signed by any {issuer} that is known here, and is not used for those"),
                "fetch the CRL of that very CA",
            );
        } else if !answers.iter().any(|(signed, may)| *signed && *may) {
            warn(
                format!("the KeyUsage of {issuer} does not allow to sign CRLs: this one is not used"),
                "have the CA corrected",
            );
        }
        if crl.this_update > now {
            let message =
                format!("this CRL of {issuer} begins only on {} and is not used before", text::date(crl.this_update));
            warn(message, "check the clock of the CA and of this host");
        } else if crl.next_update <= now && expired != CrlExpired::Allow {
            let message = format!("this CRL of {issuer} ran out on {}", text::date(crl.next_update));
            warn(message, "fetch the new one; its clients are refused once the grace of crl_expired is over");
        }
        if crl.has_removals() {
            warn(
                format!("this complete CRL of {issuer} has removeFromCRL entries; they count as revoked"),
                "have the CA leave released certificates out",
            );
        }
    }

    pub(super) fn warn_of_uncovered_anchors(
        &mut self,
        index: usize,
        configured: &config::Authority,
        revocation: &Revocation,
        anchors: &[&Anchor],
    ) {
        let looked_up = !revocation.is_off() && self.site.client.crl_scope == CrlScope::Chain;
        if !looked_up || configured.crl_missing == CrlMissing::Allow {
            return;
        }
        for anchor in anchors.iter().filter(|anchor| !revocation.knows(&anchor.subject)) {
            let name = text::short(&anchor.facts.name);
            let message = format!("no CRL of the anchor {name} is here: certificates that it issued are refused");
            let help = "add its CRL, or set crl_scope = \"leaf\" or crl_missing = \"allow\"";
            self.fault(&self.key(index, "crls"), FaultKind::Warning, message, help);
        }
    }

    pub(super) fn warn_of_wide_rules(
        &mut self,
        index: usize,
        configured: &config::Authority,
        allow: &[Compiled],
        anchors: &[&Anchor],
    ) {
        let keys: HashSet<&[u8; 32]> = anchors.iter().map(|anchor| &anchor.spki_sha256).collect();
        if keys.len() < 2 || matches!(self.site.client.auth, Auth::Pin | Auth::Request | Auth::Off) {
            return;
        }
        for (i, rule) in allow.iter().enumerate().filter(|(_, rule)| !rule.is_narrowed()) {
            let key = format!("{}[{i}]", self.key(index, "allow"));
            let message = format!("{} admits that name from any of {} CAs", rule.text, keys.len());
            let help = "add issuer = \"…\" to the rule, or give each CA its own [[site.client.authority]]";
            let line = configured.allow.as_ref().and_then(|rules| rules.get(i)).and_then(|rule| rule.line);
            self.fault_in_config(line, &key, FaultKind::Warning, message, help);
        }
    }

    /// An issuer written in the order of the encoding (as `openssl x509 -issuer` prints it) matches nobody.
    pub(super) fn warn_of_turned_issuers<'r>(
        &mut self,
        index: usize,
        rules: impl Iterator<Item = &'r Compiled>,
        anchors: &[&Anchor],
    ) {
        let known: Vec<name::NameKey> =
            anchors.iter().filter_map(|anchor| name::NameKey::of_der(&anchor.subject)).collect();
        let turned: Vec<Arc<str>> = rules
            .filter(|rule| rule.issuers().any(|key| !known.contains(key) && known.contains(&key.reversed())))
            .map(|rule| rule.text.clone())
            .collect();
        for text in turned {
            let message = format!("{text} names an anchor the wrong way round, and matches nobody");
            let help = "write the most specific part first: CN=…,O=…,C=…";
            self.fault(&self.key(index, "allow"), FaultKind::Warning, message, help);
        }
    }
}
