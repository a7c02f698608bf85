//! CRLs, and the authorities that only tests of trust need.

use crate::world::pki::Ca;
use rcgen::{
    CertificateRevocationList, CertificateRevocationListParams, CrlDistributionPoint, CrlIssuingDistributionPoint,
    CrlScope, KeyIdMethod, RevokedCertParams, SerialNumber,
};
use time::{Duration, OffsetDateTime};

/// What a CRL says.
#[derive(Clone)]
pub struct List {
    number: u64,
    from: OffsetDateTime,
    until: OffsetDateTime,
    revoked: Vec<u64>,
    point: Option<String>,
    scope: Option<CrlScope>,
}

impl List {
    /// An hour old, good for a month, the first of its issuer.
    pub fn of(revoked: &[u64]) -> List {
        let now = OffsetDateTime::now_utc();
        let (from, until) = (now - Duration::hours(1), now + Duration::days(30));
        List { number: 1, from, until, revoked: revoked.to_vec(), point: None, scope: None }
    }

    pub fn number(mut self, number: u64) -> List {
        self.number = number;
        self
    }

    /// Says the same from and to these moments.
    pub fn valid(mut self, from: OffsetDateTime, until: OffsetDateTime) -> List {
        (self.from, self.until) = (from, until);
        self
    }

    /// For certificates that name this distribution point, of this kind alone.
    pub fn partition(mut self, point: &str, scope: Option<CrlScope>) -> List {
        (self.point, self.scope) = (Some(point.to_owned()), scope);
        self
    }

    pub fn sign(&self, ca: &Ca) -> CertificateRevocationList {
        let entry = |serial: &u64| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: self.from,
            reason_code: Some(rcgen::RevocationReason::KeyCompromise),
            invalidity_date: None,
        };
        let point = |uri: &String| CrlIssuingDistributionPoint {
            distribution_point: CrlDistributionPoint { uris: vec![uri.clone()] },
            scope: self.scope,
        };
        let params = CertificateRevocationListParams {
            this_update: self.from,
            next_update: self.until,
            crl_number: SerialNumber::from(self.number),
            issuing_distribution_point: self.point.as_ref().map(point),
            revoked_certs: self.revoked.iter().map(entry).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&ca.issuer()).unwrap()
    }

    pub fn pem(&self, ca: &Ca) -> String {
        self.sign(ca).pem().unwrap()
    }
}
