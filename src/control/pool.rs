//! The real workers, as [`Service`], and why they did not start, as a [`StartFailure`].

use super::failure::StartFailure;
use super::life::Loaded;
use super::service::{Service, Waker};
use super::state::{Anchor, Crl, Facts, ServerCertificate};
use crate::config::{Config, SiteName};
use crate::sys;
use crate::worker::{AuditQueue, Counters, Pool, Snapshot};
use rustls_pki_types::UnixTime;
use std::net::SocketAddr;
use std::sync::Arc;

/// The first snapshot of a process.
const FIRST_EPOCH: u64 = 1;

/// Loads every file that the configuration names.
pub fn load(config: &Arc<Config>) -> Result<Loaded<Arc<Snapshot>>, StartFailure> {
    let loaded = Snapshot::load(config, FIRST_EPOCH, UnixTime::now());
    let (snapshot, warnings) = loaded.map_err(|faults| StartFailure::of_faults(&faults))?;
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

/// What the loaded files say of their ends, each once however many sites use it.
fn facts(snapshot: &Snapshot) -> Facts {
    let mut facts = Facts::default();
    for site in snapshot.sites() {
        let sni = match site.names().first() {
            Some(SiteName::Exact(name)) => name.clone(),
            Some(SiteName::Wildcard(rest)) => format!("*.{rest}"),
            None => site.name().to_string(),
        };
        facts.server_certificates.extend(site.certificates().iter().map(|certificate| ServerCertificate {
            sni: sni.clone(),
            serial: certificate.serial.clone(),
            not_after: certificate.not_after,
        }));
    }
    for policy in snapshot.policies() {
        let anchors = policy.anchors();
        facts.anchors.extend(anchors.map(|anchor| Anchor { name: anchor.name.clone(), not_after: anchor.not_after }));
        facts.crls.extend(policy.crls().map(|crl| Crl {
            issuer: crl.issuer.clone(),
            next_update: crl.next_update,
            entries: crl.entries as u64,
        }));
    }
    facts.server_certificates.sort_unstable();
    facts.server_certificates.dedup();
    facts.anchors.sort_unstable();
    facts.anchors.dedup();
    facts.crls.sort_unstable();
    facts.crls.dedup();
    facts
}

impl Service for Pool {
    fn local_addresses(&self) -> Vec<(Arc<str>, SocketAddr)> {
        Pool::local_addresses(self)
    }

    fn counters(&self) -> Vec<Arc<Counters>> {
        Pool::counters(self)
    }

    fn connection_limits(&self) -> Vec<u32> {
        Pool::connection_limits(self)
    }

    fn waker(&self) -> Waker {
        Arc::new(Pool::waker(self))
    }

    fn stop_accepting(&self) {
        Pool::stop_accepting(self);
    }

    fn connections(&self) -> u64 {
        Pool::connections(self)
    }

    fn join(self, cut: bool) -> u64 {
        Pool::join(self, cut)
    }
}
