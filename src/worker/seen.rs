//! Which clients a worker let in since the control side last asked. The worker writes into a table of its own; the
//! control side takes the whole table and leaves an empty one, so that nothing is shared and nothing is walked here.

use crate::config::limits;
use crate::trust::{Admission, Leaf};
use crate::wire::audit::ConnectionRecord;
use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

/// Clients by the SHA-256 of their certificate, of which there are at most [`limits::SIGHTINGS_MAX`]. Only verified
/// certificates are here: nobody without one of a trusted CA takes a place.
#[derive(Debug, Default)]
pub struct Sightings {
    pub clients: HashMap<[u8; 32], Sighting>,
    /// Sightings that found no room.
    pub overlooked: u64,
}

/// One certificate that was let in.
#[derive(Debug, Clone)]
pub struct Sighting {
    pub identity: Arc<str>,
    pub leaf: Arc<Leaf>,
    pub last: SystemTime,
    pub handshakes: u64,
    /// Of connections that ended, as are the bytes out.
    pub bytes_in: u64,
    pub bytes_out: u64,
}

/// The worker's side.
#[derive(Debug, Default)]
pub(super) struct Seen(RefCell<Sightings>);

impl Seen {
    /// A handshake ended well.
    pub fn note_admission(&self, admission: &Admission, now: SystemTime) {
        let (Some(identity), Some(leaf)) = (admission.identity(), admission.leaf()) else { return };
        if admission.verify() != 0 {
            return;
        }
        self.0.borrow_mut().note(identity.text(), leaf, now, |sighting| sighting.handshakes += 1);
    }

    /// A connection ended.
    pub fn note_traffic(&self, record: &ConnectionRecord) {
        let (Some(identity), Some(leaf)) = (&record.identity, &record.leaf) else { return };
        if record.verify != 0 || !record.proven {
            return;
        }
        self.0.borrow_mut().note(identity, leaf, record.ts, |sighting| {
            sighting.bytes_in += record.bytes_in;
            sighting.bytes_out += record.bytes_out;
        });
    }

    /// All since the last time.
    pub fn take(&self) -> Sightings {
        self.0.take()
    }

    /// Whoever asked for these has gone: they are kept for the next. Nothing was noted since they were taken.
    pub fn put_back(&self, sightings: Sightings) {
        self.0.replace(sightings);
    }
}

impl Sightings {
    fn note(&mut self, identity: &Arc<str>, leaf: &Arc<Leaf>, now: SystemTime, count: impl FnOnce(&mut Sighting)) {
        let room = self.clients.len() < limits::SIGHTINGS_MAX;
        match self.clients.get_mut(&leaf.sha256) {
            Some(sighting) => {
                sighting.last = sighting.last.max(now);
                // The rule that names it may have changed since.
                if sighting.identity != *identity {
                    sighting.identity = identity.clone();
                }
                count(sighting);
            }
            None if room => {
                let (identity, leaf_of) = (identity.clone(), leaf.clone());
                let mut sighting =
                    Sighting { identity, leaf: leaf_of, last: now, handshakes: 0, bytes_in: 0, bytes_out: 0 };
                count(&mut sighting);
                self.clients.insert(leaf.sha256, sighting);
            }
            None => self.overlooked += 1,
        }
    }
}
