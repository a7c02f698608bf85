//! What the control thread asks of the workers. [`crate::worker`] has the real ones; tests have a scripted one.

use super::failure::StartFailure;
use crate::tls::TicketKeys;
use crate::trust::Blocks;
use crate::worker::counters::Counters;
use crate::worker::{Engine, Inheritance, Presence, Question, Sightings, Standings};
use rustls_pki_types::{CertificateDer, UnixTime};
use std::net::SocketAddr;
use std::sync::{Arc, mpsc};
use std::time::Instant;

/// Wakes all workers; costs each a turn of its loop.
pub type Waker = Arc<dyn Fn() + Send + Sync>;

/// Asks all workers whom they have let in since they were last asked.
pub type AskSeen = Arc<dyn Fn() -> mpsc::Receiver<Sightings> + Send + Sync>;

/// Workers that serve. Dropping one without [`Service::join`] leaves its threads to the process's end.
pub trait Service: Send + Sync + 'static {
    /// What they serve, loaded and checked.
    type Snapshot: Send + Sync + 'static;

    /// What is served now.
    fn snapshot(&self) -> Arc<Self::Snapshot>;
    /// Serves another snapshot. On an error everything goes on as it was.
    fn publish(&self, snapshot: &Arc<Self::Snapshot>) -> Result<(), StartFailure>;
    /// Who is blocked.
    fn blocks(&self) -> Arc<Blocks>;
    /// Blocks count from now on, for open connections too.
    fn set_blocks(&self, blocks: Blocks);
    /// What seals tickets; `None` where they are off.
    fn ticket_keys(&self) -> Option<Arc<TicketKeys>>;
    /// Makes a new ticket key.
    fn rotate_tickets(&self, now: UnixTime) -> Rotated;
    /// Would the running server let this client in?
    fn explain(&self, client: &Explained, now: UnixTime) -> Result<Explanation, String>;
    /// Asks each worker who is connected; as many answers come as there are counters.
    fn who_is_there(&self, question: &Question) -> mpsc::Receiver<Presence>;
    /// Each listener's name with an address that is bound, ports resolved; a listener may come several times.
    fn local_addresses(&self) -> Vec<(Arc<str>, SocketAddr)>;
    /// One for each worker.
    fn counters(&self) -> Vec<Arc<Counters>>;
    /// The most connections that each listener takes, by its index.
    fn connection_limits(&self) -> Vec<u32>;
    /// What the workers stand on.
    fn engine(&self) -> Engine;
    /// What is known and wanted of each backend server.
    fn standings(&self) -> Standings;
    /// What wakes every worker for a turn of its loop.
    fn waker(&self) -> Waker;
    /// What asks whom the workers have let in.
    fn seen(&self) -> AskSeen;
    /// No connection is accepted from now on; those there go on. Idle ones end by `until`, spread over the time.
    fn stop_accepting(&self, until: Instant);
    /// What another process needs to go on from here.
    fn bequeath(&self) -> Inheritance {
        Inheritance::default()
    }
    /// Leaves the listening sockets to the process that got them; those connections that are here go on. Idle ones end by
    /// `until`, spread over the time. A snapshot that is published from now on is for judging them alone.
    fn leave_sockets(&self, until: Instant);
    /// Whether connections are still taken from listening sockets.
    fn is_accepting(&self) -> bool;
    /// Connections there now, those in their handshake included.
    fn connections(&self) -> u64;
    /// Waits for the workers to end: until no connection is left, or at once if `cut`. Answers how many connections did
    /// not end by themselves.
    fn join(&self, cut: bool) -> u64;
}

/// What became of the wish for a new ticket key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rotated {
    Yes,
    /// Tickets are off.
    NoTickets,
    /// Keys come from shared secrets, each in its time.
    Derived,
    /// There was no randomness.
    Failed,
}

/// Whom [`Service::explain`] is asked about.
#[derive(Debug, Clone)]
pub struct Explained {
    pub listener: Option<String>,
    pub sni: Option<String>,
    /// What the client sends, leaf first; never empty.
    pub chain: Vec<CertificateDer<'static>>,
}

/// Its answer, for people and for programs.
#[derive(Debug, Clone)]
pub struct Explanation {
    pub text: String,
    pub json: serde_json::Value,
}

#[cfg(test)]
pub mod scripted {
    //! A service that does as a test says and remembers what was asked of it.

    use super::*;
    use crate::control::failure::Exit;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

    #[derive(Default)]
    pub struct Scripted {
        connections: AtomicU64,
        ending: AtomicBool,
        /// Joining without cutting takes as long as this holds.
        pub hanging: Arc<AtomicBool>,
        /// Listening sockets are emptied for as long as this holds.
        pub emptying: Arc<AtomicBool>,
        seen: Arc<Mutex<Vec<&'static str>>>,
        /// Publishing fails while this holds.
        pub refusing: AtomicBool,
        blocks: Mutex<Arc<Blocks>>,
        pub counters: Vec<Arc<Counters>>,
        pub standings: Standings,
        pub addresses: Vec<(Arc<str>, SocketAddr)>,
    }

    impl Scripted {
        pub fn with_connections(n: u64) -> Scripted {
            Scripted { connections: AtomicU64::new(n), ..Scripted::default() }
        }

        /// One connection ends each time that somebody asks how many there are.
        pub fn end_one_at_each_look(&self) {
            self.ending.store(true, Ordering::SeqCst);
        }

        /// What was asked, in order.
        pub fn seen(&self) -> Arc<Mutex<Vec<&'static str>>> {
            Arc::clone(&self.seen)
        }

        fn note(&self, what: &'static str) {
            self.seen.lock().unwrap().push(what);
        }
    }

    impl Service for Scripted {
        type Snapshot = ();

        fn snapshot(&self) -> Arc<()> {
            Arc::new(())
        }

        fn publish(&self, _: &Arc<()>) -> Result<(), StartFailure> {
            self.note("publish");
            match self.refusing.load(Ordering::SeqCst) {
                true => Err(StartFailure::new(Exit::Unavailable, "the address is in use; choose another")),
                false => Ok(()),
            }
        }

        fn blocks(&self) -> Arc<Blocks> {
            Arc::clone(&self.blocks.lock().unwrap())
        }

        fn set_blocks(&self, blocks: Blocks) {
            self.note("set_blocks");
            *self.blocks.lock().unwrap() = Arc::new(blocks);
        }

        fn ticket_keys(&self) -> Option<Arc<TicketKeys>> {
            None
        }

        fn rotate_tickets(&self, _: UnixTime) -> Rotated {
            Rotated::Yes
        }

        fn explain(&self, _: &Explained, _: UnixTime) -> Result<Explanation, String> {
            Err("nothing is served".to_owned())
        }

        fn who_is_there(&self, _: &Question) -> mpsc::Receiver<Presence> {
            mpsc::channel().1
        }

        fn local_addresses(&self) -> Vec<(Arc<str>, SocketAddr)> {
            self.addresses.clone()
        }

        fn counters(&self) -> Vec<Arc<Counters>> {
            self.counters.clone()
        }

        fn connection_limits(&self) -> Vec<u32> {
            Vec::new()
        }

        fn engine(&self) -> Engine {
            Engine::Epoll
        }

        fn standings(&self) -> Standings {
            self.standings.clone()
        }

        fn waker(&self) -> Waker {
            Arc::new(|| ())
        }

        fn seen(&self) -> AskSeen {
            Arc::new(|| mpsc::channel().1)
        }

        fn stop_accepting(&self, _: Instant) {
            self.note("stop_accepting");
        }

        fn leave_sockets(&self, _: Instant) {
            self.note("leave_sockets");
        }

        fn is_accepting(&self) -> bool {
            self.emptying.load(Ordering::SeqCst)
        }

        fn connections(&self) -> u64 {
            let open = self.connections.load(Ordering::SeqCst);
            if self.ending.load(Ordering::SeqCst) {
                self.connections.store(open.saturating_sub(1), Ordering::SeqCst);
            }
            open
        }

        fn join(&self, cut: bool) -> u64 {
            self.note(if cut { "cut" } else { "join" });
            while self.hanging.load(Ordering::SeqCst) && !cut {
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
            if cut { self.connections.load(Ordering::SeqCst) } else { 0 }
        }
    }
}
