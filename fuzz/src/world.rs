//! Files in memory where there is such a directory, and a listener's sites made of them once.

use crate::pki::{NOW, Pki, pem, unix};
use arc_swap::ArcSwap;
use countersign::config::{Config, Fault};
use countersign::tls::{Environment, Session, Site, SiteSource, SiteTable, TicketKeys};
use countersign::trust::{Blocks, CacheStats, Loader, LocalChainCache, Policy, SharedChainCache};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// A directory with the PKI's files: `ca.pem`, `intermediate.pem`, `server.pem`, `server.key`, `crls.pem`.
pub struct Files {
    pub pki: Pki,
    dir: tempfile::TempDir,
}

impl Files {
    pub fn new() -> Files {
        let memory = Path::new("/dev/shm");
        let parent = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let files = Files { pki: Pki::new(), dir: tempfile::tempdir_in(parent).expect("a directory") };
        let pki = &files.pki;
        files.write("ca.pem", pem("CERTIFICATE", &pki.root.der).as_bytes());
        files.write("intermediate.pem", pem("CERTIFICATE", &pki.intermediate.der).as_bytes());
        files.write("server.pem", pem("CERTIFICATE", &pki.server.der).as_bytes());
        files.write("server.key", pem("PRIVATE KEY", pki.server.private_key().secret_der()).as_bytes());
        // Not the stale one: its number is the highest, so that it would count.
        let crls: Vec<String> = pki.crls().iter().take(3).map(|crl| pem("X509 CRL", crl)).collect();
        files.write("crls.pem", crls.concat().as_bytes());
        files
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn write(&self, name: &str, content: &[u8]) {
        std::fs::write(self.path(name), content).expect("writes a file");
    }

    /// One site with these lines in `[site.client]`.
    pub fn config(&self, client: &str) -> Result<Config, Vec<Fault>> {
        self.sites(&[("", client)])
    }

    /// A listener and a site for each `(names, lines of site.client)`.
    pub fn sites(&self, sites: &[(&str, &str)]) -> Result<Config, Vec<Fault>> {
        let mut text = "[[listener]]\nname = \"l\"\naddress = \"127.0.0.1:9000\"\n".to_owned();
        for (i, (names, client)) in sites.iter().enumerate() {
            let names = if names.is_empty() { String::new() } else { format!("names = [\"{names}\"]\n") };
            text += &format!(
                "[[site]]\nname = \"s{i}\"\n{names}backend = \"b{i}\"\n\
                 certificate = [{{ chain = \"server.pem\", key = \"server.key\" }}]\n\
                 [site.client]\n{client}\n[[backend]]\nname = \"b{i}\"\nservers = [\"127.0.0.1:9\"]\n"
            );
        }
        Config::from_text(&text, Some(&self.path("fuzz.toml")))
    }

    /// The policy of such a site.
    pub fn policy(&self, config: &Config) -> Result<Arc<Policy>, Vec<Fault>> {
        let loaded = Policy::load(&config.sites[0], &config.listeners[0], 1, unix(NOW), &mut Loader::new());
        loaded.map(|(policy, _)| policy)
    }

    /// The policy of a site with lines that are known to be good.
    pub fn good_policy(&self, client: &str) -> Arc<Policy> {
        let config = self.config(client).unwrap_or_else(|faults| panic!("{faults:?}"));
        self.policy(&config).unwrap_or_else(|faults| panic!("{faults:?}"))
    }
}

impl Default for Files {
    fn default() -> Files {
        Files::new()
    }
}

/// One listener: `a.test` demands a certificate, `b.test` takes one, names under `wild.test` ask for none; other names,
/// and none, are refused.
pub struct World {
    pub files: Files,
    pub table: Arc<SiteTable>,
    pub keys: Arc<TicketKeys>,
    pub environment: Rc<Environment>,
}

impl World {
    pub fn new() -> World {
        let files = Files::new();
        let config = files
            .sites(&[
                ("a.test", "trust = [\"ca.pem\"]"),
                ("b.test", "auth = \"optional\"\ntrust = [\"ca.pem\"]\ncrls = [\"crls.pem\"]"),
                ("*.wild.test", "auth = \"off\""),
            ])
            .unwrap_or_else(|faults| panic!("{faults:?}"));
        let keys = TicketKeys::random(unix(NOW), Duration::from_secs(3600), 2).expect("randomness");
        let keys = Arc::new(keys);
        let mut loader = Loader::new();
        let site = |index: usize| {
            let site = &config.sites[index];
            let (policy, _) = Policy::load(site, &config.listeners[0], 1, unix(NOW), &mut loader)
                .unwrap_or_else(|faults| panic!("{faults:?}"));
            let ticket_keys = Some(keys.clone());
            let source = SiteSource {
                index,
                site,
                policy,
                ticket_keys,
                tickets: &config.tickets,
                now: unix(NOW),
                may_leave: false,
            };
            Site::load(&source).unwrap_or_else(|faults| panic!("{faults:?}")).0
        };
        let table = Arc::new(SiteTable::new((0..config.sites.len()).map(site).collect()));
        World { files, table, keys, environment: Rc::new(environment()) }
    }

    pub fn session(&self) -> Session {
        Session::new(self.table.clone(), self.environment.clone())
    }
}

impl Default for World {
    fn default() -> World {
        World::new()
    }
}

/// What one worker's sessions share, empty.
pub fn environment() -> Environment {
    let cache = LocalChainCache::new(Arc::new(SharedChainCache::new()), Arc::new(CacheStats::default()));
    Environment { cache: Rc::new(cache), blocks: Arc::new(ArcSwap::from_pointee(Blocks::default())) }
}
