//! The real workers, as [`Service`] and as errors of a start.

use super::failure::StartFailure;
use super::life::Loaded;
use super::service::Service;
use super::state::{Anchor, Crl, Facts, ServerCertificate};
use crate::config::{Config, SiteName};
use crate::sys;
use crate::tls::Site;
use crate::trust::{AnchorFacts, CrlFacts};
use crate::worker::audit_queue::AuditQueue;
use crate::worker::counters::Counters;
use crate::worker::{Pool, Snapshot};
use rustls_pki_types::UnixTime;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

/// Loads every file that the configuration names.
pub fn load(config: &Arc<Config>) -> Result<Loaded<Arc<Snapshot>>, StartFailure> {
    let (snapshot, warnings) =
        Snapshot::load(config, 1, UnixTime::now()).map_err(|faults| StartFailure::of_faults(&faults))?;
    let facts = facts(&snapshot);
    Ok(Loaded { snapshot, facts, warnings })
}

/// Binds every socket and starts every worker.
pub fn start(snapshot: Arc<Snapshot>, audit: Option<Arc<AuditQueue>>) -> Result<Pool, StartFailure> {
    sys::limits::ignore_broken_pipes();
    sys::limits::forbid_core_dumps();
    if let Err(error) = sys::limits::raise_descriptor_limit() {
        tracing::warn!(%error, "the limit of open descriptors stays as it is; LimitNOFILE= sets it from outside");
    }
    Pool::start(snapshot, audit).map_err(|error| StartFailure { code: error.exit_code(), message: error.to_string() })
}

fn facts(snapshot: &Snapshot) -> Facts {
    let policies = snapshot.policies();
    let anchor = |anchor: &AnchorFacts| Anchor { name: anchor.name.clone(), not_after: anchor.not_after };
    let crl = |crl: &CrlFacts| Crl {
        issuer: crl.issuer.clone(),
        next_update: Some(crl.next_update),
        entries: crl.entries as u64,
    };
    let mut facts = Facts {
        server_certificates: snapshot.sites().iter().flat_map(|site| certificates(site)).collect(),
        anchors: policies.iter().flat_map(|policy| policy.anchors().map(anchor)).collect(),
        crls: policies.iter().flat_map(|policy| policy.crls().map(crl)).collect(),
    };
    facts.server_certificates.sort();
    facts.anchors.sort();
    facts.anchors.dedup();
    facts.crls.sort();
    facts.crls.dedup();
    facts
}

fn certificates(site: &Site) -> impl Iterator<Item = ServerCertificate> {
    let sni = match site.names().first() {
        Some(SiteName::Exact(name)) => name.clone(),
        Some(SiteName::Wildcard(rest)) => format!("*.{rest}"),
        None => site.name().to_string(),
    };
    site.certificates().iter().map(move |certificate| ServerCertificate {
        sni: sni.clone(),
        serial: certificate.serial.clone(),
        not_after: certificate.not_after,
    })
}

impl Service for Pool {
    fn local_addresses(&self) -> Vec<(Arc<str>, SocketAddr)> {
        Pool::local_addresses(self)
    }

    fn counters(&self) -> Vec<Arc<Counters>> {
        Pool::counters(self)
    }

    fn stop_accepting(&self) {
        Pool::stop_accepting(self);
    }

    fn drain(&self, _deadline: Instant) {
        // Connections end by themselves until then; `join` cuts the rest.
    }

    fn connections(&self) -> u64 {
        Pool::connections(self)
    }

    fn join(self, cut: bool) -> u64 {
        Pool::join(self, cut)
    }
}
