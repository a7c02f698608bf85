//! One certificate revocation list (RFC 5280 section 5): parsed once, kept as a sorted table of serial numbers.
//!
//! What it cannot do justice to is refused with its reason, never read as "not revoked": delta CRLs, indirect CRLs, CRLs
//! for some reasons only, unknown critical extensions.

use super::certificate::full_names;
use super::der::{self, Malformed, Reader, Value, tag};
use super::signature::Signed;
use crate::config::limits;
use std::sync::OnceLock;

/// A parsed CRL. Holding one does not prove that its issuer signed it: ask [`Crl::is_signed_by`].
#[derive(Debug)]
pub(super) struct Crl {
    /// Content of the Name's SEQUENCE.
    pub issuer: Box<[u8]>,
    /// Seconds since the Unix epoch.
    pub this_update: i64,
    pub next_update: i64,
    /// CRLNumber without leading zeros; `None` in version 1 lists.
    number: Option<Box<[u8]>>,
    pub scope: Scope,
    /// SHA-256 of the whole list.
    pub digest: [u8; 32],
    revoked: Revoked,
    signed: Signed,
    /// SHA-256 of the key that signed it, and of one that did not, as far as somebody asked.
    signer: OnceLock<[u8; 32]>,
    stranger: OnceLock<[u8; 32]>,
}

/// Which certificates of its issuer a CRL tells of (IssuingDistributionPoint, section 5.2.5).
#[derive(Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Scope {
    only_users: bool,
    only_cas: bool,
    /// Whole GeneralNames; `None`: any distribution point.
    points: Option<Vec<Box<[u8]>>>,
}

/// Why a CRL is not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unusable {
    Malformed,
    Version,
    NoNextUpdate,
    Delta,
    Indirect,
    SomeReasons,
    AttributeCertificates,
    RelativePoint,
    BothKinds,
    /// Dotted OID.
    Critical(String),
    Algorithm,
}

/// One revocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    /// Seconds since the Unix epoch.
    pub since: i64,
    /// CRLReason (section 5.3.1).
    pub reason: u8,
}

impl From<Malformed> for Unusable {
    fn from(_: Malformed) -> Unusable {
        Unusable::Malformed
    }
}

impl Crl {
    /// Parses a DER list.
    pub(super) fn parse(bytes: &[u8]) -> Result<Crl, Unusable> {
        let mut outer = Reader::new(der::only(bytes, tag::SEQUENCE)?.content);
        let tbs = outer.expect(tag::SEQUENCE)?;
        let algorithm = outer.expect(tag::SEQUENCE)?.content;
        let signature = der::whole_bits(outer.expect(tag::BIT_STRING)?)?;
        outer.end()?;

        let mut reader = Reader::new(tbs.content);
        let version = reader.optional(tag::INTEGER)?;
        if version.is_some_and(|version| version.content != [1]) {
            return Err(Unusable::Version);
        }
        if reader.expect(tag::SEQUENCE)?.content != algorithm {
            return Err(Unusable::Malformed);
        }
        let issuer = reader.expect(tag::SEQUENCE)?.content;
        let this_update = der::time(reader.any()?)?;
        let next_update = match reader.peek() {
            Some(tag::UTC_TIME | tag::GENERALIZED_TIME) => der::time(reader.any()?)?,
            _ => return Err(Unusable::NoNextUpdate),
        };
        let entries = reader.optional(tag::SEQUENCE)?;
        let extensions = reader.optional(tag::constructed(0))?;
        reader.end()?;
        if version.is_none() && extensions.is_some() {
            return Err(Unusable::Version);
        }
        let facts = extensions.map(list_extensions).transpose()?.unwrap_or_default();
        let revoked = entries.map(|entries| Revoked::parse(entries.content)).transpose()?.unwrap_or_default();
        let signed = Signed::new(algorithm, tbs.whole, signature).ok_or(Unusable::Algorithm)?;
        Ok(Crl {
            issuer: issuer.into(),
            this_update,
            next_update,
            number: facts.number.map(Into::into),
            scope: facts.scope,
            digest: super::sha256(bytes),
            revoked,
            signed,
            signer: OnceLock::new(),
            stranger: OnceLock::new(),
        })
    }

    /// Certificates that it revokes.
    pub(super) fn len(&self) -> usize {
        self.revoked.groups.iter().map(|group| group.since.len()).sum()
    }

    /// Entries that a complete list should not have: `removeFromCRL` belongs into delta CRLs. They count as revoked.
    pub(super) fn has_removals(&self) -> bool {
        self.revoked.groups.iter().any(|group| group.reasons.contains(&REMOVE_FROM_CRL))
    }

    /// The entry of this serial number (content of the INTEGER), if it is revoked.
    pub(super) fn find(&self, serial: &[u8]) -> Option<Entry> {
        self.revoked.find(serial)
    }

    /// Whether this key signed the list; the answer is remembered.
    pub(super) fn is_signed_by(&self, spki: &[u8], spki_sha256: &[u8; 32]) -> bool {
        if self.signer.get() == Some(spki_sha256) {
            return true;
        }
        if self.stranger.get() == Some(spki_sha256) {
            return false;
        }
        let is_by = self.signed.is_by(spki);
        // A slot that is taken stays so: the next such question costs another verification, nothing worse.
        let _ = if is_by { self.signer.set(*spki_sha256) } else { self.stranger.set(*spki_sha256) };
        is_by
    }

    /// SHA-256 of the key that signed it, if somebody asked with the right one.
    pub(super) fn signer(&self) -> Option<&[u8; 32]> {
        self.signer.get()
    }

    /// What tells an older list from a newer one of the same issuer and scope.
    pub(super) fn age(&self) -> impl Ord + '_ {
        (self.number.as_ref().map(|number| (number.len(), number)), self.this_update, self.next_update)
    }
}

impl Scope {
    /// Whether a certificate in this place, with these distribution points, is one of those that the list tells of.
    /// A list for one distribution point tells nothing of a certificate that does not name it (as OpenSSL has it):
    /// other points of the same issuer may have the entry.
    pub(super) fn covers(&self, is_leaf: bool, certificate_points: Option<&[&[u8]]>) -> bool {
        if (self.only_users && !is_leaf) || (self.only_cas && is_leaf) {
            return false;
        }
        let Some(points) = &self.points else { return true };
        certificate_points.unwrap_or_default().iter().any(|name| points.iter().any(|point| **point == **name))
    }
}

#[derive(Default)]
struct ListFacts<'a> {
    number: Option<&'a [u8]>,
    scope: Scope,
}

fn list_extensions(tagged: Value<'_>) -> Result<ListFacts<'_>, Unusable> {
    let mut reader = Reader::new(der::only(tagged.content, tag::SEQUENCE)?.content);
    let mut facts = ListFacts::default();
    let mut seen: Vec<&[u8]> = Vec::new();
    while !reader.at_end() {
        let mut parts = Reader::new(reader.expect(tag::SEQUENCE)?.content);
        let oid = parts.expect(tag::OID)?.content;
        let critical = der::default_false(&mut parts)?;
        let value = parts.expect(tag::OCTET_STRING)?.content;
        parts.end()?;
        if seen.len() >= limits::EXTENSIONS_MAX || seen.contains(&oid) {
            return Err(Unusable::Malformed);
        }
        seen.push(oid);
        match oid {
            [0x55, 0x1d, 20] => {
                let number = der::unsigned(der::only(value, tag::INTEGER)?.content).ok_or(Unusable::Malformed)?;
                facts.number = Some(number);
            }
            [0x55, 0x1d, 27] => return Err(Unusable::Delta),
            [0x55, 0x1d, 28] => facts.scope = scope(value)?,
            // AuthorityKeyIdentifier: the signature itself tells the key.
            [0x55, 0x1d, 35] => {}
            _ if critical => return Err(Unusable::Critical(der::dotted(oid).unwrap_or_default())),
            _ => {}
        }
    }
    Ok(facts)
}

fn scope(value: &[u8]) -> Result<Scope, Unusable> {
    let mut reader = Reader::new(der::only(value, tag::SEQUENCE)?.content);
    let mut scope = Scope::default();
    if let Some(point) = reader.optional(tag::constructed(0))? {
        let mut names: Vec<Box<[u8]>> =
            full_names(point)?.ok_or(Unusable::RelativePoint)?.into_iter().map(Into::into).collect();
        names.sort();
        scope.points = Some(names);
    }
    scope.only_users = implicit_flag(&mut reader, 1)?;
    scope.only_cas = implicit_flag(&mut reader, 2)?;
    if reader.optional(tag::context(3))?.is_some() {
        return Err(Unusable::SomeReasons);
    }
    if implicit_flag(&mut reader, 4)? {
        return Err(Unusable::Indirect);
    }
    if implicit_flag(&mut reader, 5)? {
        return Err(Unusable::AttributeCertificates);
    }
    reader.end()?;
    if scope.only_users && scope.only_cas {
        return Err(Unusable::BothKinds);
    }
    Ok(scope)
}

fn implicit_flag(reader: &mut Reader<'_>, n: u8) -> Result<bool, Malformed> {
    match reader.optional(tag::context(n))?.map(|value| value.content) {
        None | Some([0x00]) => Ok(false),
        Some([0xff]) => Ok(true),
        Some(_) => Err(Malformed),
    }
}

const REMOVE_FROM_CRL: u8 = 8;

/// The serial numbers of a list: one table for each length, sorted. About 25 bytes an entry.
#[derive(Debug, Default)]
struct Revoked {
    groups: Vec<Group>,
}

#[derive(Debug)]
struct Group {
    /// Bytes of each serial number, in their shortest form.
    width: usize,
    serials: Vec<u8>,
    /// Seconds since the Unix epoch, clamped to what fits.
    since: Vec<u32>,
    reasons: Vec<u8>,
}

impl Revoked {
    fn parse(content: &[u8]) -> Result<Revoked, Unusable> {
        let mut reader = Reader::new(content);
        let mut revoked = Revoked::default();
        while !reader.at_end() {
            let mut entry = Reader::new(reader.expect(tag::SEQUENCE)?.content);
            let serial = entry.expect(tag::INTEGER)?.content;
            let since = der::time(entry.any()?)?;
            let reason = match entry.optional(tag::SEQUENCE)? {
                Some(extensions) => entry_reason(extensions.content)?,
                None => 0,
            };
            entry.end()?;
            if serial.is_empty() {
                return Err(Unusable::Malformed);
            }
            revoked.push(der::shortest_integer(serial), since, reason);
        }
        revoked.groups.iter_mut().for_each(Group::sort);
        Ok(revoked)
    }

    fn push(&mut self, serial: &[u8], since: i64, reason: u8) {
        let at = match self.groups.iter().position(|group| group.width == serial.len()) {
            Some(at) => at,
            None => {
                self.groups.push(Group { width: serial.len(), serials: vec![], since: vec![], reasons: vec![] });
                self.groups.len() - 1
            }
        };
        let group = &mut self.groups[at];
        group.serials.extend_from_slice(serial);
        group.since.push(since.clamp(0, i64::from(u32::MAX)) as u32);
        group.reasons.push(reason);
    }

    fn find(&self, serial: &[u8]) -> Option<Entry> {
        let serial = der::shortest_integer(serial);
        let group = self.groups.iter().find(|group| group.width == serial.len())?;
        let (mut low, mut high) = (0, group.since.len());
        while low < high {
            let middle = low + (high - low) / 2;
            match group.serial(middle).cmp(serial) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => {
                    return Some(Entry { since: i64::from(group.since[middle]), reason: group.reasons[middle] });
                }
            }
        }
        None
    }
}

impl Group {
    fn serial(&self, i: usize) -> &[u8] {
        &self.serials[i * self.width..(i + 1) * self.width]
    }

    fn sort(&mut self) {
        if (1..self.since.len()).all(|i| self.serial(i - 1) <= self.serial(i)) {
            return;
        }
        let mut order: Vec<u32> = (0..self.since.len() as u32).collect();
        order.sort_unstable_by(|a, b| self.serial(*a as usize).cmp(self.serial(*b as usize)));
        let mut serials = Vec::with_capacity(self.serials.len());
        order.iter().for_each(|i| serials.extend_from_slice(self.serial(*i as usize)));
        self.since = order.iter().map(|i| self.since[*i as usize]).collect();
        self.reasons = order.iter().map(|i| self.reasons[*i as usize]).collect();
        self.serials = serials;
    }
}

/// The reason code among an entry's extensions.
fn entry_reason(extensions: &[u8]) -> Result<u8, Unusable> {
    let mut reader = Reader::new(extensions);
    let mut reason = 0;
    while !reader.at_end() {
        let mut parts = Reader::new(reader.expect(tag::SEQUENCE)?.content);
        let oid = parts.expect(tag::OID)?.content;
        let critical = der::default_false(&mut parts)?;
        let value = parts.expect(tag::OCTET_STRING)?.content;
        parts.end()?;
        match oid {
            [0x55, 0x1d, 21] => match der::only(value, tag::ENUMERATED)?.content {
                [code] => reason = *code,
                _ => return Err(Unusable::Malformed),
            },
            // InvalidityDate only says since when somebody doubts.
            [0x55, 0x1d, 24] => {}
            // CertificateIssuer: the entry is of another issuer's certificate.
            [0x55, 0x1d, 29] => return Err(Unusable::Indirect),
            _ if critical => return Err(Unusable::Critical(der::dotted(oid).unwrap_or_default())),
            _ => {}
        }
    }
    Ok(reason)
}

/// A CRLReason in words.
pub(super) fn reason_text(code: u8) -> &'static str {
    match code {
        1 => "key compromise",
        2 => "CA compromise",
        3 => "affiliation changed",
        4 => "superseded",
        5 => "cessation of operation",
        6 => "certificate hold",
        8 => "removed from a delta CRL, which a complete CRL should not say",
        9 => "privilege withdrawn",
        10 => "AA compromise",
        _ => "no reason given",
    }
}

impl std::fmt::Display for Unusable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Unusable::Malformed => "is not a well-formed CRL",
            Unusable::Version => "is neither a version 1 nor a version 2 CRL",
            Unusable::NoNextUpdate => "has no nextUpdate, so that nobody can tell when it is stale",
            Unusable::Delta => "is a delta CRL, which is not supported",
            Unusable::Indirect => "is an indirect CRL, which is not supported",
            Unusable::SomeReasons => "is a CRL for some revocation reasons only, which is not supported",
            Unusable::AttributeCertificates => "is a CRL for attribute certificates, which no TLS client has",
            Unusable::RelativePoint => "has a distribution point relative to its issuer, which is not supported",
            Unusable::BothKinds => "says that it is only for users and only for CAs, which leaves nobody",
            Unusable::Critical(oid) => return write!(f, "has the critical extension {oid}, which is not known here"),
            Unusable::Algorithm => "is signed with an algorithm that is not accepted (SHA-1, MD5 or an unknown one)",
        })
    }
}

impl Unusable {
    /// What to do about it.
    pub(super) fn help(&self) -> &'static str {
        match self {
            Unusable::Malformed | Unusable::Version => "fetch it again, or have its CA issue a new one",
            Unusable::NoNextUpdate => "have its CA issue it with a nextUpdate (openssl ca -gencrl -crldays 30)",
            Unusable::Algorithm => "have its CA sign it with SHA-256 or better",
            _ => "use a complete CRL of the certificates' own issuer",
        }
    }
}
