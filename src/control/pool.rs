//! The real workers, as [`Service`], and why they did not start, as a [`StartFailure`].

use super::explain::{self, Report, Unchosen};
use super::failure::StartFailure;
use super::handover::Given;
use super::reload::Loaded;
use super::service::{AskSeen, Explained, Explanation, Rotated, Service, Waker};
use super::state::{Anchor, Crl, Facts, ServerCertificate};
use crate::config::{Config, Fault, ListenAddress, SiteName};
use crate::sys::{self, Passed};
use crate::tls::TicketKeys;
use crate::trust::{Blocks, Presented};
use crate::worker::{
    AuditQueue, Counters, Engine, Inheritance, Pool, Presence, Question, Snapshot, Standings, StartError,
};
use aws_lc_rs::digest::{SHA256, digest};
use rustls_pki_types::UnixTime;
use std::net::SocketAddr;
use std::sync::{Arc, mpsc};
use std::time::Instant;

/// The first snapshot of a process.
const FIRST_EPOCH: u64 = 1;

/// Loads every file that the configuration names, as what comes after `previous`.
pub fn load(config: &Arc<Config>, previous: Option<&Snapshot>) -> Result<Loaded<Snapshot>, Vec<Fault>> {
    let (snapshot, warnings) = match previous {
        None => Snapshot::load(config, FIRST_EPOCH, UnixTime::now()),
        Some(previous) => previous.load_next(config, UnixTime::now()),
    }?;
    let facts = facts(&snapshot);
    Ok(Loaded { snapshot, facts, warnings })
}

/// Binds every socket and starts every worker.
pub fn start(
    snapshot: Arc<Snapshot>,
    audit: Arc<AuditQueue>,
    blocks: Blocks,
    Given { legacy, passed }: Given<'_>,
) -> Result<Pool, StartFailure> {
    sys::limits::ignore_failed_writes();
    sys::limits::forbid_core_dumps();
    if let Err(error) = sys::limits::raise_descriptor_limit() {
        tracing::warn!(%error, "the limit of open descriptors stays as it is; LimitNOFILE= sets it from outside");
    }
    let Some(legacy) = legacy else {
        tell_unnamed(&snapshot, &passed);
        let inheritance = Inheritance { passed, ..Inheritance::default() };
        return Pool::start_with(snapshot, Some(audit), blocks, inheritance).map_err(failure);
    };
    if let (Some(own), Some(handed)) = (snapshot.tickets(), &legacy.keys)
        && !own.adopt(handed)
    {
        tracing::warn!("the ticket keys of the process before do not fit; its clients need a full handshake each");
    }
    Pool::start_with(snapshot, Some(audit), blocks, legacy.for_workers()).map_err(failure)
}

/// Sockets that nobody accepts on let clients wait for ever.
fn tell_unnamed(snapshot: &Snapshot, passed: &[Passed]) {
    let named = |name: &str| {
        let mut addresses = snapshot.config().listeners.iter().flat_map(|listener| &listener.addresses);
        addresses.any(|address| matches!(address, ListenAddress::Systemd(known) if **known == *name))
    };
    for one in passed.iter().filter(|one| !named(&one.name)) {
        tracing::warn!(
            "systemd passed a socket {name:?} that no listener names, and its clients wait in vain; write address = \
             [\"systemd:{name}\"], or remove it from the socket unit",
            name = one.name
        );
    }
}

fn failure(error: StartError) -> StartFailure {
    StartFailure { code: error.exit_code(), message: error.to_string() }
}

/// What the loaded files say of their ends, each once however many sites use it.
fn facts(snapshot: &Snapshot) -> Facts {
    let ids: Vec<u8> = snapshot.policies().iter().flat_map(|policy| policy.id().0).collect();
    let mut facts = Facts { epoch: snapshot.epoch(), ..Facts::default() };
    facts.policies.copy_from_slice(digest(&SHA256, &ids).as_ref());
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
    type Snapshot = Snapshot;

    fn snapshot(&self) -> Arc<Snapshot> {
        Pool::snapshot(self)
    }

    fn publish(&self, snapshot: &Arc<Snapshot>) -> Result<(), StartFailure> {
        Pool::publish(self, snapshot).map_err(failure)
    }

    fn blocks(&self) -> Arc<Blocks> {
        Pool::blocks(self)
    }

    fn set_blocks(&self, blocks: Blocks) {
        Pool::set_blocks(self, blocks);
    }

    fn ticket_keys(&self) -> Option<Arc<TicketKeys>> {
        Pool::snapshot(self).tickets().cloned()
    }

    fn rotate_tickets(&self, now: UnixTime) -> Rotated {
        match self.ticket_keys().map(|keys| keys.rotate(now)) {
            None => Rotated::NoTickets,
            Some(Ok(true)) => Rotated::Yes,
            Some(Ok(false)) => Rotated::Derived,
            Some(Err(_)) => Rotated::Failed,
        }
    }

    fn explain(&self, client: &Explained, now: UnixTime) -> Result<Explanation, String> {
        let snapshot = Pool::snapshot(self);
        let config = snapshot.config();
        let (leaf, rest) = client.chain.split_first().ok_or("there is no certificate in the chain")?;
        let report = match explain::choose(config, client.listener.as_deref(), client.sni.as_deref()) {
            Err(Unchosen::Ambiguous(message)) => return Err(message),
            Err(Unchosen::NoSite(listener)) => Report::of_no_site(listener, client.sni.as_deref(), now),
            Ok(chosen) => {
                let place = config.sites.iter().position(|site| std::ptr::eq(site, chosen.site));
                let policy = place.and_then(|place| snapshot.policies().get(place)).ok_or("the site is not loaded")?;
                explain::judge(&chosen, policy, &Presented { leaf, rest }, now, Some(&Pool::blocks(self)))
            }
        };
        Ok(Explanation { text: report.in_text(), json: report.in_json() })
    }

    fn who_is_there(&self, question: &Question) -> mpsc::Receiver<Presence> {
        Pool::who_is_there(self, question)
    }

    fn local_addresses(&self) -> Vec<(Arc<str>, SocketAddr)> {
        Pool::local_addresses(self)
    }

    fn counters(&self) -> Vec<Arc<Counters>> {
        Pool::counters(self)
    }

    fn connection_limits(&self) -> Vec<u32> {
        Pool::connection_limits(self)
    }

    fn engine(&self) -> Engine {
        Pool::engine(self)
    }

    fn standings(&self) -> Standings {
        Pool::standings(self)
    }

    fn waker(&self) -> Waker {
        Arc::new(Pool::waker(self))
    }

    fn seen(&self) -> AskSeen {
        Arc::new(Pool::seen(self))
    }

    fn stop_accepting(&self, until: Instant) {
        Pool::stop_accepting(self, until);
    }

    fn bequeath(&self) -> Inheritance {
        Pool::bequeath(self)
    }

    fn leave_sockets(&self, until: Instant) {
        Pool::leave_sockets(self, until);
    }

    fn is_accepting(&self) -> bool {
        Pool::is_accepting(self)
    }

    fn connections(&self) -> u64 {
        Pool::connections(self)
    }

    fn join(&self, cut: bool) -> u64 {
        Pool::join(self, cut)
    }
}
