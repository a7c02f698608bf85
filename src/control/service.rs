//! What the control thread asks of the workers. [`crate::worker`] has the real ones; tests have a scripted one.

use crate::worker::counters::Counters;
use std::net::SocketAddr;
use std::sync::Arc;

/// Wakes all workers; costs each a turn of its loop.
pub type Waker = Arc<dyn Fn() + Send + Sync>;

/// Workers that serve. Dropping one without [`Service::join`] leaves its threads to the process's end.
pub trait Service: Send + 'static {
    /// Each listener's name with an address that is bound, ports resolved; a listener may come several times.
    fn local_addresses(&self) -> Vec<(Arc<str>, SocketAddr)>;
    /// One for each worker.
    fn counters(&self) -> Vec<Arc<Counters>>;
    /// The most connections that each listener takes, by its index.
    fn connection_limits(&self) -> Vec<u32>;
    /// What wakes every worker for a turn of its loop.
    fn waker(&self) -> Waker;
    /// No connection is accepted from now on; those there go on.
    fn stop_accepting(&self);
    /// Connections there now, those in their handshake included.
    fn connections(&self) -> u64;
    /// Waits for the workers to end: until no connection is left, or at once if `cut`. Answers how many connections did
    /// not end by themselves.
    fn join(self, cut: bool) -> u64;
}

#[cfg(test)]
pub mod scripted {
    //! A service that does as a test says and remembers what was asked of it.

    use super::*;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

    #[derive(Default)]
    pub struct Scripted {
        connections: AtomicU64,
        ending: AtomicBool,
        /// Joining without cutting takes as long as this holds.
        pub hanging: Arc<AtomicBool>,
        seen: Arc<Mutex<Vec<&'static str>>>,
        pub counters: Vec<Arc<Counters>>,
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
        fn local_addresses(&self) -> Vec<(Arc<str>, SocketAddr)> {
            self.addresses.clone()
        }

        fn counters(&self) -> Vec<Arc<Counters>> {
            self.counters.clone()
        }

        fn connection_limits(&self) -> Vec<u32> {
            Vec::new()
        }

        fn waker(&self) -> Waker {
            Arc::new(|| ())
        }

        fn stop_accepting(&self) {
            self.note("stop_accepting");
        }

        fn connections(&self) -> u64 {
            let open = self.connections.load(Ordering::SeqCst);
            if self.ending.load(Ordering::SeqCst) {
                self.connections.store(open.saturating_sub(1), Ordering::SeqCst);
            }
            open
        }

        fn join(self, cut: bool) -> u64 {
            self.note(if cut { "cut" } else { "join" });
            while self.hanging.load(Ordering::SeqCst) && !cut {
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
            if cut { self.connections.load(Ordering::SeqCst) } else { 0 }
        }
    }
}
