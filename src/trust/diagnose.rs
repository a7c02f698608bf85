//! Why no path was found: for the operator who wonders which certificate is missing where.
//!
//! `missing_intermediate` is a hint. It is given when the issuer that the chain lacks is known here: a CRL carries its name,
//! a rule names it, it is a helper's or an anchor's own issuer, the certificate says that one of the anchors issued
//! its issuer (AuthorityKeyIdentifier), or it differs from an anchor's name in the common name alone.

use super::anchors::Anchor;
use super::certificate::{Certificate, directory_names};
use super::name::{self, NameKey};
use super::path::{self, Search};
use super::policy::{Authority, Policy};
use super::verify::{self, Failure};
use super::{Reason, text};
use rustls_pki_types::CertificateDer;
use std::collections::{HashMap, HashSet};

/// Names of CAs that are known at a site besides its anchors and helpers, gathered at load: a stranger's chain shall not
/// cost a look at every certificate.
#[derive(Debug, Default)]
pub(super) struct Acquaintances {
    /// Issuers that rules name.
    in_rules: HashSet<NameKey>,
    /// Issuers (content of the SEQUENCE) of helper intermediates.
    of_helpers: HashSet<Box<[u8]>>,
    /// The names of anchors without their common names, where an organization is named, with the anchor's text.
    organizations: HashMap<NameKey, String>,
}

impl Acquaintances {
    pub(super) fn of(anchors: &[Anchor], helpers: &[CertificateDer<'_>], authorities: &[Authority]) -> Acquaintances {
        let rules = authorities.iter().flat_map(|authority| authority.allow.iter().flatten().chain(&authority.deny));
        let parsed = helpers.iter().filter_map(|helper| Certificate::parse(helper).ok());
        let organizations = anchors.iter().filter_map(|anchor| {
            let rest = NameKey::of_der(&anchor.subject)?.without_cn();
            rest.has_organization().then(|| (rest, text::short(&anchor.facts.name)))
        });
        Acquaintances {
            in_rules: rules.flat_map(|rule| rule.issuers().cloned()).collect(),
            of_helpers: parsed.filter(|helper| !helper.is_self_issued()).map(|helper| helper.issuer.into()).collect(),
            organizations: organizations.collect(),
        }
    }
}

/// The failure of a search that found no candidate. `chain_len` counts what the client sent, the leaf included.
pub(super) fn no_path(leaf: &Certificate<'_>, search: &Search<'_>, policy: &Policy, chain_len: usize) -> Failure {
    if let Some(depth) = search.too_deep {
        let detail = format!(
            "the path to an anchor has {depth} intermediates, max_depth is {}; raise it, or trust a CA further down",
            policy.max_depth
        );
        return Failure::new(Reason::ChainTooDeep, detail);
    }
    if policy.anchors.is_empty() {
        let detail = "this site has no trust files: there is nothing to verify the client's certificate against";
        return Failure::new(Reason::UnknownIssuer, detail.to_owned()).with_verify(number(leaf, leaf, chain_len));
    }
    let top = search.highest.last().map(|i| &search.nodes[*i]);
    let (certificate, origin) = top.map_or((leaf, path::Origin::Presented(0)), |node| (&node.certificate, node.origin));
    let called = verify::label(certificate, origin);
    let issuer = text::short(&name::print(certificate.issuer));
    let verify = number(leaf, certificate, chain_len);
    if certificate.is_self_issued() {
        let detail = if top.is_none() {
            "the client's certificate is self-signed and not in trust; have it issued by a CA in trust, or name it in a rule \
             of auth = \"pin\""
                .to_owned()
        } else {
            format!(
                "the chain ends in {issuer}, which is not in trust; add that CA's certificate if you mean to trust it"
            )
        };
        return Failure::new(Reason::UnknownIssuer, detail).with_verify(verify);
    }
    if let Some(how) = known(certificate, policy) {
        let detail = format!(
            "the client did not send the certificate of {issuer}, which issued {called} and is known here ({how}); let the \
             client send its whole chain, or put that certificate into intermediates"
        );
        return Failure::new(Reason::MissingIntermediate, detail);
    }
    let cut = if search.cut_short { " (the search was cut short: the chain is tangled)" } else { "" };
    let detail = format!(
        "{called} was issued by {issuer}, and neither trust nor intermediates nor what the client sent has a certificate of \
         that name{cut}; add that CA to trust if you mean to trust it"
    );
    Failure::new(Reason::UnknownIssuer, detail).with_verify(verify)
}

/// OpenSSL's number: 18 and 19 self-signed (alone, or above), 21 only a leaf was sent, 20 else.
fn number(leaf: &Certificate<'_>, top: &Certificate<'_>, chain_len: usize) -> u32 {
    match () {
        () if leaf.is_self_issued() => 18,
        () if top.is_self_issued() => 19,
        () if chain_len == 1 => 21,
        () => 20,
    }
}

/// How the name of the issuer that is not there is known, if it is.
fn known(certificate: &Certificate<'_>, policy: &Policy) -> Option<String> {
    let name = certificate.issuer;
    if policy.authorities.iter().any(|authority| authority.revocation.knows(name)) {
        return Some("its CRL is in crls".to_owned());
    }
    let anchor_named = |subject: &[u8]| policy.anchors_by_subject.get(subject).first().map(|i| &policy.anchors[*i]);
    if let Some(general_names) = certificate.authority_key().issuer
        && let Some(anchor) = directory_names(general_names).into_iter().find_map(anchor_named)
    {
        return Some(format!("the anchor {} issued it", text::short(&anchor.facts.name)));
    }
    if policy.acquaintances.of_helpers.contains(name) {
        return Some("it issued a helper intermediate".to_owned());
    }
    let key = NameKey::of_der(name)?;
    if policy.acquaintances.in_rules.contains(&key) {
        return Some("a rule names it".to_owned());
    }
    let kin = policy.acquaintances.organizations.get(&key.without_cn())?;
    Some(format!("it is of the same organization as the anchor {kin}"))
}
