//! Everything that connections need to know, loaded and checked as one immutable value.

use super::kernel_path;
use crate::config;
use crate::config::{Config, Fault};
use crate::relay::{Backend, Entry, Server};
use crate::sys::Address;
use crate::tls::{self, Site, SiteSource, SiteTable, TicketKeys};
use crate::trust::{Loader, Policy};
use rustls_pki_types::UnixTime;
use std::path::PathBuf;
use std::sync::Arc;

/// A configuration with all its certificates, keys, trust files and CRLs in memory. Holding one proves that they were
/// all readable and fit together.
#[derive(Debug)]
pub struct Snapshot {
    config: Arc<Config>,
    epoch: u64,
    entries: Vec<Arc<Entry>>,
    sites: Vec<Arc<Site>>,
    policies: Vec<Arc<Policy>>,
    tickets: Option<Arc<TicketKeys>>,
}

impl Snapshot {
    /// Loads all that `config` names. Blocks on files: not for a worker's thread. The second value are warnings.
    ///
    /// # Errors
    /// Every fault found, not only the first.
    pub fn load(config: &Arc<Config>, epoch: u64, now: UnixTime) -> Result<(Arc<Snapshot>, Vec<Fault>), Vec<Fault>> {
        Snapshot::load_with(config, epoch, now, None)
    }

    /// Loads the generation after this one: all files again, checked whole, while this one goes on serving. Ticket keys
    /// stay, so that clients can resume their sessions, unless the configuration asks for others.
    ///
    /// # Errors
    /// Every fault found, not only the first.
    pub fn load_next(&self, config: &Arc<Config>, now: UnixTime) -> Result<(Arc<Snapshot>, Vec<Fault>), Vec<Fault>> {
        Snapshot::load_with(config, self.epoch + 1, now, Some(self))
    }

    fn load_with(
        config: &Arc<Config>,
        epoch: u64,
        now: UnixTime,
        previous: Option<&Snapshot>,
    ) -> Result<(Arc<Snapshot>, Vec<Fault>), Vec<Fault>> {
        let (mut faults, mut warnings) = (Vec::new(), Vec::new());
        let tickets = ticket_keys(config, now, previous).unwrap_or_else(|found| {
            faults.extend(found);
            None
        });
        let (mut sites, mut policies, mut loader) = (Vec::new(), Vec::new(), Loader::new());
        for (index, site) in config.sites.iter().enumerate() {
            let listener = &config.listeners[site.listener];
            let policy = match Policy::load(site, listener, epoch, now, &mut loader) {
                Ok((policy, unwise)) => {
                    warnings.extend(unwise);
                    policy
                }
                Err(found) => {
                    faults.extend(found);
                    faults.extend(Site::faults_of_files(site, now));
                    continue;
                }
            };
            policies.push(policy.clone());
            let ticket_keys = tickets.clone();
            let may_leave = kernel_path::may_leave(config.runtime.ktls, listener);
            let source = SiteSource { index, site, policy, ticket_keys, tickets: &config.tickets, now, may_leave };
            match Site::load(&source) {
                Ok((site, unwise)) => {
                    warnings.extend(unwise);
                    sites.push(site);
                }
                Err(found) => faults.extend(found),
            }
        }
        if !faults.is_empty() {
            return Err(faults.into_iter().map(|fault| config.locate(fault)).collect());
        }
        let warnings = warnings.into_iter().map(|fault| config.locate(fault)).collect();
        let entries = entries(config, &sites);
        Ok((Arc::new(Snapshot { config: config.clone(), epoch, entries, sites, policies, tickets }), warnings))
    }

    pub fn config(&self) -> &Arc<Config> {
        &self.config
    }

    /// Counts the snapshots of this process.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The random ticket keys, if these settings would make the same.
    fn random_keys_for(&self, wanted: &config::Tickets) -> Option<Arc<TicketKeys>> {
        let own = &self.config.tickets;
        let same = own.secret_files.is_empty() && (own.rotate, own.keep) == (wanted.rotate, wanted.keep);
        self.tickets.clone().filter(|_| same)
    }

    /// What each listener's connections share, by the listener's index.
    pub fn entries(&self) -> &[Arc<Entry>] {
        &self.entries
    }

    /// The sites, by index.
    pub fn sites(&self) -> &[Arc<Site>] {
        &self.sites
    }

    /// Each site's policy, by the site's index.
    pub fn policies(&self) -> &[Arc<Policy>] {
        &self.policies
    }

    /// The keys that seal tickets; `None` where tickets are off.
    pub fn tickets(&self) -> Option<&Arc<TicketKeys>> {
        self.tickets.as_ref()
    }
}

fn ticket_keys(
    config: &Config,
    now: UnixTime,
    previous: Option<&Snapshot>,
) -> Result<Option<Arc<TicketKeys>>, Vec<Fault>> {
    let wanted = &config.tickets;
    if !wanted.enabled {
        return Ok(None);
    }
    let secrets = tls::read_secrets(&wanted.secret_files)?;
    let random = secrets.is_empty();
    if random && let Some(kept) = previous.and_then(|previous| previous.random_keys_for(wanted)) {
        return Ok(Some(kept));
    }
    let keys = match random {
        true => TicketKeys::random(now, wanted.rotate, wanted.keep),
        // The same secrets give the same keys again.
        false => TicketKeys::from_secrets(secrets, now, wanted.rotate, wanted.keep),
    };
    let fault = |error| {
        let message = format!("no ticket keys could be made: {error}");
        vec![Fault::config("tickets", &message, "the system's random number generator failed; try again")]
    };
    keys.map(|keys| Some(Arc::new(keys))).map_err(fault)
}

fn entries(config: &Config, sites: &[Arc<Site>]) -> Vec<Arc<Entry>> {
    let backends: Arc<[Backend]> = config.backends.iter().map(backend).collect();
    let backend_of_site: Arc<[usize]> = config.sites.iter().map(|site| site.backend).collect();
    let entry = |(index, listener): (usize, &config::Listener)| {
        let own = config.sites.iter().zip(sites).filter(|(site, _)| site.listener == index);
        Arc::new(Entry {
            index,
            name: listener.name.clone(),
            accept_proxy_from: listener.accept_proxy_from.clone(),
            kernel: listener.kernel,
            limits: listener.limits.clone(),
            sites: Arc::new(SiteTable::new(own.map(|(_, site)| site.clone()).collect())),
            backends: backends.clone(),
            backend_of_site: backend_of_site.clone(),
        })
    };
    config.listeners.iter().enumerate().map(entry).collect()
}

fn backend(backend: &config::Backend) -> Backend {
    let server = |server: &config::Server| Server {
        address: match server {
            config::Server::Tcp(address) => Address::Ip(*address),
            config::Server::Unix(path) => Address::Unix(PathBuf::from(path)),
        },
        label: format!("{}/{server}", backend.name).into(),
    };
    Backend {
        name: backend.name.clone(),
        servers: backend.servers.iter().map(server).collect(),
        connect_timeout: backend.connect_timeout,
        proxy_protocol: backend.proxy_protocol,
        proxy_tlvs: backend.proxy_tlvs,
        balance: backend.balance,
    }
}
