//! One site, ready to serve: its certificates, its rules for the handshake, its policy for clients.

use super::credentials::{Credentials, ServerCertificate};
use super::finished;
use super::names::{self, GROUPS, GROUPS_DEFAULT, SUITES};
use super::resolver::SiteResolver;
use super::scope::ScopeClock;
use super::ticket_keys::TicketKeys;
use super::tickets::SiteTickets;
use super::verifier::SiteVerifier;
use crate::config::{self, Auth, Fault, SiteName, TlsVersion};
use crate::trust::Policy;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{ServerConfig, version};
use rustls_pki_types::UnixTime;
use std::fmt;
use std::sync::Arc;

/// What a site is loaded from.
#[derive(Debug, Clone)]
pub struct SiteSource<'a> {
    /// Index into [`config::Config::sites`].
    pub index: usize,
    pub site: &'a config::Site,
    pub policy: Arc<Policy>,
    /// `None`: no tickets, every handshake is a full one.
    pub ticket_keys: Option<Arc<TicketKeys>>,
    pub tickets: &'a config::Tickets,
    /// For warnings about dates.
    pub now: UnixTime,
    /// Keys may be given to the kernel after the handshake.
    pub may_leave: bool,
}

/// A site that handshakes can begin with. Holding one proves that its certificates and keys were read and fit together.
pub struct Site {
    index: usize,
    name: Arc<str>,
    names: Vec<SiteName>,
    policy: Arc<Policy>,
    config: Arc<ServerConfig>,
    certificates: Vec<Arc<ServerCertificate>>,
    ticket_keys: Option<Arc<TicketKeys>>,
}

impl Site {
    /// Reads the site's certificates, keys and OCSP responses. On success the faults are warnings.
    pub fn load(source: &SiteSource<'_>) -> Result<(Arc<Site>, Vec<Fault>), Vec<Fault>> {
        let site = source.site;
        let Files { provider, mut credentials, warnings } = Files::read(site, source.now)?;
        credentials.sort_by_key(Credentials::rank);
        let certificates = credentials.iter().map(|loaded| Arc::new(loaded.facts.clone())).collect();
        let config = server_config(source, provider, SiteResolver::new(credentials)).map_err(|fault| vec![fault])?;
        let site = Site {
            index: source.index,
            name: site.name.clone(),
            names: site.names.clone(),
            policy: source.policy.clone(),
            config: Arc::new(config),
            certificates,
            ticket_keys: source.ticket_keys.clone(),
        };
        Ok((Arc::new(site), warnings))
    }

    /// What is wrong with the site's files, for one whose policy is wrong already: all of it is to be told at once.
    pub fn faults_of_files(site: &config::Site, now: UnixTime) -> Vec<Fault> {
        Files::read(site, now).err().unwrap_or_default()
    }

    /// Index into [`config::Config::sites`].
    pub fn index(&self) -> usize {
        self.index
    }

    /// The configured name.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The names that lead here; empty for a catch-all.
    pub fn names(&self) -> &[SiteName] {
        &self.names
    }

    /// What decides about its clients.
    pub fn policy(&self) -> &Arc<Policy> {
        &self.policy
    }

    /// Its certificates, in the order in which they are tried.
    pub fn certificates(&self) -> &[Arc<ServerCertificate>] {
        &self.certificates
    }

    /// The same site, giving so many tickets at once: simulations resume more often than they shake hands.
    #[cfg(test)]
    pub fn with_tickets(&self, tickets: usize) -> Arc<Site> {
        let mut config = ServerConfig::clone(&self.config);
        config.send_tls13_tickets = tickets;
        Arc::new(Site {
            index: self.index,
            name: self.name.clone(),
            names: self.names.clone(),
            policy: self.policy.clone(),
            config: Arc::new(config),
            certificates: self.certificates.clone(),
            ticket_keys: self.ticket_keys.clone(),
        })
    }

    /// Whether one of our keys made this ticket. Says nothing of whether it will be taken.
    pub(super) fn has_sealed(&self, ticket: &[u8], now: UnixTime) -> bool {
        self.ticket_keys.as_ref().is_some_and(|keys| keys.open(ticket, now).is_some())
    }

    /// Whether sessions may give their keys to the kernel.
    pub(super) fn may_leave(&self) -> bool {
        self.config.enable_secret_extraction
    }

    pub(super) fn config(&self) -> &Arc<ServerConfig> {
        &self.config
    }
}

impl fmt::Debug for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Site").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What a site's own files hold.
struct Files {
    provider: Arc<CryptoProvider>,
    /// At least one.
    credentials: Vec<Credentials>,
    warnings: Vec<Fault>,
}

impl Files {
    fn read(site: &config::Site, now: UnixTime) -> Result<Files, Vec<Fault>> {
        let (mut faults, mut warnings, mut credentials) = (Vec::new(), Vec::new(), Vec::new());
        let provider = provider_of(&site.tls).map(Arc::new).unwrap_or_else(|fault| {
            faults.push(fault);
            Arc::new(aws_lc_rs::default_provider())
        });
        for files in &site.certificates {
            match Credentials::load(files, &site.names, now, &provider, &mut warnings) {
                Ok(loaded) => credentials.push(loaded),
                Err(found) => faults.extend(found),
            }
        }
        if credentials.is_empty() && faults.is_empty() {
            let message = "the site has no certificate";
            faults.push(Fault::config("site.certificate", message, "add one with `chain` and `key`"));
        }
        if faults.is_empty() { Ok(Files { provider, credentials, warnings }) } else { Err(faults) }
    }
}

/// aws-lc-rs with the site's suites and groups. The order of suites is ours (clients' order is ignored); rustls takes
/// the first group of the client's that is in the list, so there the list says which, not in which order.
fn provider_of(tls: &config::SiteTls) -> Result<CryptoProvider, Fault> {
    let unknown = |key: &str, name: &str, known: Vec<&str>| {
        Fault::config(key, &format!("`{name}` is not known here"), &format!("choose among {}", known.join(", ")))
    };
    let mut cipher_suites = Vec::new();
    for name in &tls.cipher_suites {
        let known = || SUITES.iter().map(|(_, iana, _)| *iana).collect();
        cipher_suites.push(names::suite_by_name(name).ok_or_else(|| unknown("site.tls.cipher_suites", name, known()))?);
    }
    if cipher_suites.is_empty() {
        cipher_suites.extend(SUITES.iter().map(|(suite, ..)| *suite));
    }
    let cipher_suites = cipher_suites.into_iter().map(finished::noting).collect();
    let mut kx_groups = Vec::new();
    for name in &tls.groups {
        let known = || GROUPS.iter().map(|(_, iana)| *iana).collect();
        kx_groups.push(names::group_by_name(name).ok_or_else(|| unknown("site.tls.groups", name, known()))?);
    }
    if kx_groups.is_empty() {
        kx_groups.extend(GROUPS.iter().take(GROUPS_DEFAULT).map(|(group, _)| *group));
    }
    Ok(CryptoProvider { cipher_suites, kx_groups, ..aws_lc_rs::default_provider() })
}

fn server_config(
    source: &SiteSource<'_>,
    provider: Arc<CryptoProvider>,
    resolver: SiteResolver,
) -> Result<ServerConfig, Fault> {
    let versions: &[_] = match source.site.tls.min_version {
        TlsVersion::Tls12 => &[&version::TLS13, &version::TLS12],
        TlsVersion::Tls13 => &[&version::TLS13],
    };
    let algorithms = provider.signature_verification_algorithms;
    let builder = ServerConfig::builder_with_details(provider, Arc::new(ScopeClock));
    let builder = builder.with_protocol_versions(versions).map_err(|error| {
        Fault::config(
            "site.tls.cipher_suites",
            &format!("these suites and groups serve no version that the site speaks: {error}"),
            "add a TLS 1.3 suite such as TLS_AES_128_GCM_SHA256, or leave both lists empty",
        )
    })?;
    let builder = match source.policy.auth() {
        Auth::Off => builder.with_client_cert_verifier(WebPkiClientVerifier::no_client_auth()),
        Auth::Require | Auth::Optional | Auth::Request | Auth::Pin => {
            builder.with_client_cert_verifier(Arc::new(SiteVerifier::new(source.policy.clone(), algorithms)))
        }
    };
    let mut config = builder.with_cert_resolver(Arc::new(resolver));
    config.alpn_protocols = source.site.alpn.clone();
    config.ignore_client_order = true;
    // The default keeps sessions in memory, where TLS 1.2 session ids would resume past every check of our tickets.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.max_early_data_size = 0;
    config.send_half_rtt_data = false;
    // Only where it is needed: secrets that nobody can ask for cannot be had by mistake.
    config.enable_secret_extraction = source.may_leave;
    // Our ticketer gives none beyond the first to a client that resumed.
    config.send_tls13_tickets = 0;
    if let Some(keys) = &source.ticket_keys
        && source.tickets.enabled
    {
        config.send_tls13_tickets = 2;
        config.ticketer = Arc::new(SiteTickets::new(keys.clone(), source.policy.clone(), source.tickets));
    }
    Ok(config)
}
