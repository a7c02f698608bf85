//! Which site a name leads to, for one listener. The name comes from the ClientHello as rustls parsed it, once.

use super::site::Site;
use crate::config::SiteName;
use std::collections::HashMap;
use std::sync::Arc;

/// The sites of one listener by name.
#[derive(Debug, Default)]
pub struct SiteTable {
    exact: HashMap<String, Arc<Site>>,
    /// By what follows `*.`.
    wildcard: HashMap<String, Arc<Site>>,
    catch_all: Option<Arc<Site>>,
}

impl SiteTable {
    /// The configuration has checked that no name is given twice; were one, the first site keeps it.
    pub fn new(sites: Vec<Arc<Site>>) -> SiteTable {
        let mut table = SiteTable::default();
        for site in sites {
            if site.names().is_empty() {
                table.catch_all.get_or_insert_with(|| site.clone());
            }
            for name in site.names() {
                let (map, name) = match name {
                    SiteName::Exact(name) => (&mut table.exact, name),
                    SiteName::Wildcard(rest) => (&mut table.wildcard, rest),
                };
                map.entry(without_last_dot(&name.to_ascii_lowercase()).to_owned()).or_insert_with(|| site.clone());
            }
        }
        table
    }

    /// The site for a name, or for no name: the exact one, else the wildcard's, else the catch-all. `None` refuses.
    pub fn select(&self, sni: Option<&str>) -> Option<&Arc<Site>> {
        let Some(name) = sni else { return self.catch_all.as_ref() };
        let name = name.to_ascii_lowercase();
        let name = without_last_dot(&name);
        let wildcard = || match name.split_once('.') {
            Some((label, rest)) if !label.is_empty() => self.wildcard.get(rest),
            _ => None,
        };
        self.exact.get(name).or_else(wildcard).or(self.catch_all.as_ref())
    }

    /// All of them, each once for every name it has.
    pub fn sites(&self) -> impl Iterator<Item = &Arc<Site>> {
        self.exact.values().chain(self.wildcard.values()).chain(&self.catch_all)
    }
}

/// `api.example.` is `api.example` (RFC 6066 has names without the dot, but clients send what users typed).
fn without_last_dot(name: &str) -> &str {
    name.strip_suffix('.').unwrap_or(name)
}
