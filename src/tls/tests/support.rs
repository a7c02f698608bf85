//! Sites from configuration text, and bytes carried between them and clients in memory.

pub use super::client::*;
pub use super::pki::*;
use crate::config::Config;
use crate::tls::{Environment, Established, Failure, Session, Site, SiteSource, SiteTable, Status, TicketKeys};
use crate::trust::{Block, Blocked, Blocks, CacheStats, Loader, LocalChainCache, Policy, SharedChainCache};
use arc_swap::ArcSwap;
use rustls::pki_types::UnixTime;
use rustls::{AlertDescription, ClientConnection, SupportedProtocolVersion, version};
use std::io::{Read, Write};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use time::OffsetDateTime;

/// The moment at which tests begin: 2027-01-15.
pub const NOW: u64 = 1_800_000_000;
pub const HOUR: u64 = 3600;
pub const DAY: u64 = 24 * HOUR;
pub const VERSIONS: [&SupportedProtocolVersion; 2] = [&version::TLS12, &version::TLS13];

pub fn unix(secs: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(secs))
}

pub fn date(secs: u64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(secs as i64).unwrap()
}

/// One process: its listeners' tables, its ticket keys, one worker's environment.
pub struct World {
    pub tables: Vec<Arc<SiteTable>>,
    pub keys: Arc<TicketKeys>,
    pub environment: Rc<Environment>,
}

/// One listener, one site with these lines in `[[site]]` and in `[site.client]`.
pub fn one_site(site: &str, client: &str) -> String {
    sites(&[("", site, client)])
}

/// One listener and one site for each `(names, lines of site, lines of site.client)`, on listener `l0`.
pub fn sites(sites: &[(&str, &str, &str)]) -> String {
    let mut text = listener("l0");
    for (i, (names, site, client)) in sites.iter().enumerate() {
        text += &site_on("l0", &format!("s{i}"), names, site, client);
    }
    text
}

pub fn listener(name: &str) -> String {
    format!(
        "[[listener]]\nname = \"{name}\"\naddress = \"127.0.0.1:{}\"\n",
        9000 + name.len() * 10 + usize::from(name.as_bytes()[name.len() - 1] - b'0')
    )
}

pub fn site_on(listener: &str, name: &str, names: &str, site: &str, client: &str) -> String {
    let names = if names.is_empty() { String::new() } else { format!("names = [{names}]\n") };
    let certificate = match site.contains("certificate") {
        true => "",
        false => "certificate = [{ chain = \"server.pem\", key = \"server.key\" }]\n",
    };
    format!(
        "[[site]]\nname = \"{name}\"\nlistener = \"{listener}\"\n{names}backend = \"{name}\"\n{certificate}{site}\n\
         [site.client]\n{client}\n[[backend]]\nname = \"{name}\"\nservers = [\"127.0.0.1:9\"]\n"
    )
}

pub const REQUIRE: &str = "auth = \"require\"\ntrust = [\"ca.pem\"]";
pub const OPTIONAL: &str = "auth = \"optional\"\ntrust = [\"ca.pem\"]";
pub const REQUEST: &str = "auth = \"request\"\ntrust = [\"ca.pem\"]";
pub const OFF: &str = "auth = \"off\"";

impl World {
    pub fn new(pki: &Pki, text: &str) -> World {
        let keys = TicketKeys::random(unix(NOW), Duration::from_secs(HOUR), 400).unwrap();
        World::with_keys(pki, text, Arc::new(keys))
    }

    /// A process that shares its ticket keys with another.
    pub fn with_keys(pki: &Pki, text: &str, keys: Arc<TicketKeys>) -> World {
        let config = Config::from_text(text, Some(&pki.dir.path().join("test.toml"))).unwrap_or_else(|faults| {
            panic!("{}\n{text}", faults.iter().map(|fault| format!("{fault}\n")).collect::<String>())
        });
        let mut loader = Loader::new();
        let mut tables: Vec<Vec<Arc<Site>>> = vec![Vec::new(); config.listeners.len()];
        for (index, site) in config.sites.iter().enumerate() {
            let listener = &config.listeners[site.listener];
            let (policy, _) = Policy::load(site, listener, 1, unix(NOW), &mut loader).unwrap();
            tables[site.listener].push(load(&config, index, policy, Some(keys.clone())));
        }
        let cache = LocalChainCache::new(Arc::new(SharedChainCache::new()), Arc::new(CacheStats::default()));
        let environment =
            Environment { cache: Rc::new(cache), blocks: Arc::new(ArcSwap::from_pointee(Blocks::default())) };
        World {
            tables: tables.into_iter().map(|sites| Arc::new(SiteTable::new(sites))).collect(),
            keys,
            environment: Rc::new(environment),
        }
    }

    pub fn session(&self, listener: usize) -> Session {
        Session::new(self.tables[listener].clone(), self.environment.clone())
    }

    pub fn block(&self, what: Blocked) {
        let block = Block { what, until: None, since: NOW as i64, by: "test".to_owned(), why: None };
        self.environment.blocks.store(Arc::new(Blocks::default().with(block).unwrap()));
    }

    /// A whole handshake of this client with listener 0.
    pub fn connect(&self, client: &Client, name: &str) -> Outcome {
        self.connect_to(0, client, name)
    }

    pub fn connect_to(&self, listener: usize, client: &Client, name: &str) -> Outcome {
        let mut pipe = Pipe::new(self.session(listener), client, name);
        let failure = pipe.run().err();
        pipe.into_outcome(failure)
    }
}

fn load(config: &Config, index: usize, policy: Arc<Policy>, ticket_keys: Option<Arc<TicketKeys>>) -> Arc<Site> {
    let site = &config.sites[index];
    let source =
        SiteSource { index, site, policy, ticket_keys, tickets: &config.tickets, now: unix(NOW), may_leave: true };
    Site::load(&source).unwrap().0
}

/// How a handshake ended, on both sides.
pub struct Outcome {
    pub session: Session,
    pub client: ClientConnection,
    pub failure: Option<Box<Failure>>,
    pub client_error: Option<rustls::Error>,
    pub clock: Clock,
}

impl Outcome {
    /// The facts of a connection that came about on both sides.
    #[track_caller]
    pub fn open(&self) -> &Established {
        if let Some(failure) = &self.failure {
            panic!("refused: {failure} (client: {:?})", self.client_error);
        }
        assert_eq!(self.client_error, None);
        assert!(!self.client.is_handshaking());
        self.session.established().expect("no failure, but not established either")
    }

    /// The failure of one that did not, after checking that its alert is what the client saw.
    #[track_caller]
    pub fn refused(&self) -> &Failure {
        let failure = self.failure.as_deref().expect("was let in");
        assert!(self.session.established().is_none());
        if let Some(alert) = failure.our_alert {
            assert_eq!(
                self.client_error,
                Some(rustls::Error::AlertReceived(AlertDescription::from(alert))),
                "{failure}"
            );
        }
        failure
    }

    pub fn into_pipe(self) -> Pipe {
        Pipe {
            session: self.session,
            client: self.client,
            clock: self.clock,
            client_error: self.client_error,
            plain: Vec::new(),
            received: Vec::new(),
            chunk: usize::MAX,
            status: Status::Open,
        }
    }
}

/// A client and a session with the bytes between them.
pub struct Pipe {
    pub session: Session,
    pub client: ClientConnection,
    pub clock: Clock,
    pub client_error: Option<rustls::Error>,
    /// What the session decrypted.
    pub plain: Vec<u8>,
    /// What the client decrypted.
    pub received: Vec<u8>,
    /// Bytes that the session is fed at once.
    pub chunk: usize,
    pub status: Status,
}

impl Pipe {
    pub fn new(session: Session, client: &Client, name: &str) -> Pipe {
        Pipe {
            session,
            client: client.connection(name),
            clock: client.clock.clone(),
            client_error: None,
            plain: Vec::new(),
            received: Vec::new(),
            chunk: usize::MAX,
            status: Status::Handshaking,
        }
    }

    /// Carries bytes until neither side has more to say.
    pub fn run(&mut self) -> Result<(), Box<Failure>> {
        loop {
            let mut sent = Vec::new();
            while self.client.wants_write() {
                self.client.write_tls(&mut sent).unwrap();
            }
            if sent.is_empty() {
                return Ok(());
            }
            self.feed(&mut sent)?;
        }
    }

    /// Feeds bytes to the session and its answer to the client.
    pub fn feed(&mut self, bytes: &mut [u8]) -> Result<(), Box<Failure>> {
        for chunk in bytes.chunks_mut(self.chunk) {
            let mut out = Vec::new();
            let answer = self.session.feed(chunk, self.clock.now(), &mut self.plain, &mut out);
            self.deliver(&out);
            self.status = answer?;
        }
        Ok(())
    }

    pub fn deliver(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && self.client_error.is_none() {
            match self.client.read_tls(&mut bytes) {
                Ok(0) => break,
                Ok(_) => {}
                Err(_) => break,
            }
            match self.client.process_new_packets() {
                Ok(state) => {
                    let start = self.received.len();
                    self.received.resize(start + state.plaintext_bytes_to_read(), 0);
                    self.client.reader().read_exact(&mut self.received[start..]).unwrap();
                }
                Err(error) => self.client_error = Some(error),
            }
        }
    }

    /// The client says something; the session takes it.
    pub fn say(&mut self, data: &[u8]) -> Result<(), Box<Failure>> {
        // The client's own buffer is bounded.
        for piece in data.chunks(32 << 10) {
            self.client.writer().write_all(piece).unwrap();
            self.run()?;
        }
        Ok(())
    }

    /// The session says something; the client takes it.
    pub fn answer(&mut self, data: &[u8]) {
        let mut out = Vec::new();
        self.session.encrypt(data, &mut out).unwrap();
        self.deliver(&out);
    }

    pub fn into_outcome(self, failure: Option<Box<Failure>>) -> Outcome {
        Outcome {
            session: self.session,
            client: self.client,
            failure,
            client_error: self.client_error,
            clock: self.clock,
        }
    }
}
