//! Would this client be let in, and why: what `countersign explain` says of a configuration, and `ctl explain` of the
//! running server. Both ask the function that the live path asks.

mod report;

pub use report::Report;

use crate::config::{Config, Listener, Site, SiteName};
use crate::trust::{Blocks, Outcome, Policy, Presented, Step, evaluate, refuse_blocked};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, UnixTime};

/// What `policy` says to this chain at the site that was chosen; with the blocks of a running server where there is one.
pub fn judge<'c>(
    chosen: &Chosen<'c>,
    policy: &Policy,
    presented: &Presented<'_>,
    now: UnixTime,
    blocks: Option<&Blocks>,
) -> Report<'c> {
    let mut decision = evaluate(presented, now, policy);
    if let (Ok(admission), Some(blocks)) = (&decision.verdict, blocks) {
        let verdict = refuse_blocked(admission.clone(), blocks);
        let (outcome, note) = match &verdict {
            Ok(_) => (Outcome::Pass, format!("none of {} blocks names the client", blocks.len())),
            Err(refusal) => (Outcome::Fail, refusal.detail.clone()),
        };
        decision.steps.push(Step { name: "blocks", certificate: String::new(), outcome, note });
        decision.verdict = verdict;
    }
    Report::of_decision(chosen, policy.auth(), decision, now)
}

/// The certificates of a file, at least one: PEM, where keys and comments are passed over, or DER of one certificate.
pub fn certificates_of(bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    if bytes.first() == Some(&0x30) {
        return Ok(vec![CertificateDer::from(bytes.to_vec())]);
    }
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(bytes).collect();
    match chain {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        Ok(_) => Err("has no certificate in it".to_owned()),
        Err(error) => Err(format!("is not well-formed PEM ({error})")),
    }
}

/// Where the client ends up.
#[derive(Debug, Clone, Copy)]
pub struct Chosen<'c> {
    pub listener: &'c Listener,
    pub site: &'c Site,
    /// No name was given, and the listener's one site was taken although such a client would not reach it.
    pub assumed: bool,
}

/// Why there is no answer, or which one there is without a look at the certificate.
#[derive(Debug)]
pub enum Unchosen<'c> {
    /// The command line does not say which.
    Ambiguous(String),
    /// No site of this listener answers to the name.
    NoSite(&'c Listener),
}

/// The site that a run would choose for this name: the exact one, else the wildcard's, else the catch-all.
pub fn choose<'c>(config: &'c Config, listener: Option<&str>, sni: Option<&str>) -> Result<Chosen<'c>, Unchosen<'c>> {
    let names = || config.listeners.iter().map(|listener| &*listener.name).collect::<Vec<_>>().join(", ");
    let index = match (listener, config.listeners.len()) {
        (None, 1) => 0,
        (None, _) => return Err(Unchosen::Ambiguous(format!("say which listener with --listener: {}", names()))),
        (Some(name), _) => match config.listeners.iter().position(|listener| &*listener.name == name) {
            Some(index) => index,
            None => return Err(Unchosen::Ambiguous(format!("there is no listener {name:?}; there is {}", names()))),
        },
    };
    let listener = &config.listeners[index];
    let sites: Vec<&Site> = config.sites.iter().filter(|site| site.listener == index).collect();
    let found = sni.and_then(|name| by_name(&sites, name)).or_else(|| by_none(&sites));
    match (found, sni, &sites[..]) {
        (Some(site), _, _) => Ok(Chosen { listener, site, assumed: false }),
        (None, None, [site]) => Ok(Chosen { listener, site, assumed: true }),
        _ => Err(Unchosen::NoSite(listener)),
    }
}

fn by_name<'c>(sites: &[&'c Site], name: &str) -> Option<&'c Site> {
    let name = name.to_ascii_lowercase();
    let name = name.strip_suffix('.').unwrap_or(&name);
    let has = |wanted: SiteName| sites.iter().find(|site| site.names.contains(&wanted)).copied();
    has(SiteName::Exact(name.to_owned())).or_else(|| match name.split_once('.') {
        Some((label, rest)) if !label.is_empty() => has(SiteName::Wildcard(rest.to_owned())),
        _ => None,
    })
}

fn by_none<'c>(sites: &[&'c Site]) -> Option<&'c Site> {
    sites.iter().find(|site| site.names.is_empty()).copied()
}
