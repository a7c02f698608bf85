//! What all workers must agree on about a listener: its limits are over all of them.

use super::sources::Sources;
use crate::config::limits;
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

/// How much room a listener has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Room {
    /// For more than a kernel that takes connections by itself brings between two looks.
    Ample,
    /// For some, who are to be counted before they are taken.
    Scarce,
    None(Pause),
}

/// Why accepting pauses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pause {
    Connections,
    Handshakes,
    Shortage,
}

impl Pause {
    /// Each once, in the order of their numbers.
    pub const ALL: [Pause; 3] = [Pause::Connections, Pause::Handshakes, Pause::Shortage];

    /// The metric's label value: the key that sets the limit, or that the system has no room.
    pub fn code(self) -> &'static str {
        match self {
            Pause::Connections => "connections",
            Pause::Handshakes => "handshakes_in_flight",
            Pause::Shortage => "shortage",
        }
    }
}

/// One connection's place; given back when dropped.
#[derive(Debug)]
pub(super) struct Place(Arc<Gauges>);

/// One handshake's place; given back when dropped.
#[derive(Debug)]
pub(super) struct HandshakePlace(Arc<Gauges>);

/// Of a connection that begins.
pub(super) type Places = (Place, HandshakePlace);

impl Gauges {
    pub fn new(connections_max: u32, handshakes_max: u32) -> Arc<Gauges> {
        let (connections, handshakes) = Default::default();
        let (connections_max, handshakes_max) = (connections_max.into(), handshakes_max.into());
        let (identities, sources) = (Arc::default(), Sources::new(Instant::now()));
        Arc::new(Gauges { connections, handshakes, connections_max, handshakes_max, identities, sources })
    }

    /// How much room there is now; other workers may take it the next moment.
    pub fn room(&self) -> Room {
        let left = |count: &AtomicU32, max: u32| max.saturating_sub(count.load(Ordering::Relaxed));
        let connections = left(&self.connections, self.connections_max());
        let handshakes = left(&self.handshakes, self.handshakes_max.load(Ordering::Relaxed));
        match connections.min(handshakes) {
            0 if connections == 0 => Room::None(Pause::Connections),
            0 => Room::None(Pause::Handshakes),
            left if left < limits::SCARCE_ROOM => Room::Scarce,
            _ => Room::Ample,
        }
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

    /// Places for a connection, if there are any: exact over all workers.
    pub fn enter(self: &Arc<Self>) -> Option<Places> {
        let take = |count: &AtomicU32, max: u32| {
            let more = |count: u32| (count < max).then_some(count + 1);
            count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
        };
        if !take(&self.connections, self.connections_max()) {
            return None;
        }
        let place = Place(self.clone());
        let handshake = take(&self.handshakes, self.handshakes_max.load(Ordering::Relaxed));
        handshake.then(|| (place, HandshakePlace(self.clone())))
    }

    /// Places for a connection that must be served, limits or not.
    pub fn enter_anyway(self: &Arc<Self>) -> Places {
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
        let places = gauges.enter().unwrap();
        assert_eq!(gauges.room(), Room::None(Pause::Connections));
        assert!(gauges.enter().is_none());
        assert_eq!(gauges.counts(), (1, 1), "whoever finds no place leaves none taken");
        drop(places);
        assert_eq!(gauges.room(), Room::Scarce);
    }

    #[test]
    fn handshakes_fill_a_listener_before_connections_do() {
        let gauges = Gauges::new(10, 1);
        let (_place, handshake) = gauges.enter().unwrap();
        assert_eq!(gauges.room(), Room::None(Pause::Handshakes));
        assert!(gauges.enter().is_none());
        assert_eq!(gauges.counts(), (1, 1));
        drop(handshake);
        assert_eq!(gauges.room(), Room::Scarce);
    }

    #[test]
    fn room_is_ample_only_while_both_limits_are_far() {
        let far = 10 * limits::SCARCE_ROOM;
        assert_eq!(Gauges::new(far, far).room(), Room::Ample);
        assert_eq!(Gauges::new(limits::SCARCE_ROOM - 1, far).room(), Room::Scarce);
        assert_eq!(Gauges::new(far, limits::SCARCE_ROOM - 1).room(), Room::Scarce);
        assert_eq!(Gauges::new(0, far).room(), Room::None(Pause::Connections));
    }

    #[test]
    fn workers_that_take_places_at_once_never_take_more_than_there_are() {
        let gauges = Gauges::new(100, 90);
        let take = || std::iter::from_fn(|| gauges.enter()).collect::<Vec<_>>();
        let taken: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(take)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(taken.iter().map(Vec::len).sum::<usize>() <= 90);
        assert!(gauges.counts().1 <= 90);
        drop(taken);
        assert_eq!(gauges.counts(), (0, 0));
    }
}
