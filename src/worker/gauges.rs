//! What all workers must agree on about a listener: its limits are over all of them.

use super::sources::Sources;
use crate::tls::Tally;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

/// Connections, handshakes, identities and sources of one listener, over all workers.
#[derive(Debug)]
pub(super) struct Gauges {
    connections: AtomicU32,
    handshakes: AtomicU32,
    connections_max: AtomicU32,
    handshakes_max: AtomicU32,
    /// Connections of each identity, where they are limited.
    pub identities: Arc<Tally>,
    /// Full handshakes of each source, where they are limited.
    pub sources: Sources,
}

/// One connection's place; given back when dropped.
#[derive(Debug)]
pub(super) struct Place(Arc<Gauges>);

/// One handshake's place; given back when dropped.
#[derive(Debug)]
pub(super) struct HandshakePlace(Arc<Gauges>);

impl Gauges {
    pub fn new(connections_max: u32, handshakes_max: u32) -> Arc<Gauges> {
        let (connections, handshakes) = Default::default();
        let (connections_max, handshakes_max) = (connections_max.into(), handshakes_max.into());
        let (identities, sources) = (Arc::default(), Sources::new(Instant::now()));
        Arc::new(Gauges { connections, handshakes, connections_max, handshakes_max, identities, sources })
    }

    /// Whether accepting has to pause. Connections that come at the same moment on several workers may pass it by a few.
    pub fn full(&self) -> bool {
        self.connections.load(Ordering::Relaxed) >= self.connections_max()
            || self.handshakes.load(Ordering::Relaxed) >= self.handshakes_max.load(Ordering::Relaxed)
    }

    pub fn connections_max(&self) -> u32 {
        self.connections_max.load(Ordering::Relaxed)
    }

    /// New limits; what is there stays.
    pub fn set_limits(&self, connections_max: u32, handshakes_max: u32) {
        self.connections_max.store(connections_max, Ordering::Relaxed);
        self.handshakes_max.store(handshakes_max, Ordering::Relaxed);
    }

    /// Connections and handshakes now.
    #[cfg(test)]
    pub fn counts(&self) -> (u32, u32) {
        (self.connections.load(Ordering::Relaxed), self.handshakes.load(Ordering::Relaxed))
    }

    pub fn enter(self: &Arc<Self>) -> (Place, HandshakePlace) {
        self.connections.fetch_add(1, Ordering::Relaxed);
        self.handshakes.fetch_add(1, Ordering::Relaxed);
        (Place(self.clone()), HandshakePlace(self.clone()))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for HandshakePlace {
    fn drop(&mut self) {
        self.0.handshakes.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_listener_has_room_again_when_a_place_is_given_back() {
        let gauges = Gauges::new(1, 10);
        let places = gauges.enter();
        assert!(gauges.full());
        drop(places);
        assert!(!gauges.full());
    }

    #[test]
    fn handshakes_fill_a_listener_before_connections_do() {
        let gauges = Gauges::new(10, 1);
        let (_place, handshake) = gauges.enter();
        assert!(gauges.full());
        drop(handshake);
        assert!(!gauges.full());
    }
}
