//! Who is connected now: a worker looks through its table when somebody asks, a few connections in each turn of its loop.

use super::host::WorkerHost;
use crate::config::limits;
use crate::relay::Live;
use crate::trust::Leaf;
use crate::wire::audit::ConnectionId;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::{Arc, mpsc};

/// Which connections are asked for.
#[derive(Debug, Clone, Default)]
pub struct Question {
    /// `None`: all.
    pub identity: Option<String>,
}

/// One worker's answer.
#[derive(Debug, Default)]
pub struct Presence {
    /// At most [`limits::SESSIONS_SHOWN_MAX`] of them.
    pub sessions: Vec<Session>,
    /// Connections of each identity, at most [`limits::IDENTITIES_SHOWN_MAX`] identities.
    pub identities: HashMap<Arc<str>, u64>,
    /// All established connections that were asked for.
    pub connections: u64,
    /// Those of them without an identity.
    pub anonymous: u64,
}

/// One established connection.
#[derive(Debug, Clone)]
pub struct Session {
    pub conn_id: ConnectionId,
    pub client: Option<SocketAddr>,
    pub listener: Arc<str>,
    pub site: Arc<str>,
    pub identity: Option<Arc<str>>,
    pub leaf: Option<Arc<Leaf>>,
    /// Of the policy that admitted it.
    pub epoch: u64,
    pub worker: usize,
}

/// Answers in the end; connections that come or go meanwhile may be missed.
pub(super) async fn answer(worker: Rc<WorkerHost>, question: Question, to: mpsc::Sender<Presence>) {
    let mut presence = Presence::default();
    let slots = worker.table.borrow().iter().map(|(slot, _)| slot).max().map_or(0, |last| last + 1);
    for slot in 0..slots {
        if slot % limits::SESSIONS_PER_TURN == limits::SESSIONS_PER_TURN - 1 {
            worker.reactor.next_turn().await;
        }
        if let Some(resident) = worker.table.borrow().get(slot) {
            presence.add(worker.index, &resident.listener, &resident.live, &question);
        }
    }
    // Whoever asked may have given up.
    let _ = to.send(presence);
}

impl Presence {
    fn add(&mut self, worker: usize, listener: &Arc<str>, live: &Live, question: &Question) {
        let (Some(admission), Some(site)) = (live.admission.get(), live.site.get()) else { return };
        // Ended: no byte goes either way any more, its socket is only left to the client to close.
        if live.signal.reason().is_some() {
            return;
        }
        let identity = admission.identity().map(|identity| identity.text());
        if question.identity.is_some() && question.identity.as_deref() != identity.map(|identity| &**identity) {
            return;
        }
        self.connections += 1;
        match identity {
            None => self.anonymous += 1,
            Some(identity) => self.count(identity),
        }
        if self.sessions.len() < limits::SESSIONS_SHOWN_MAX {
            self.sessions.push(Session {
                conn_id: live.conn_id,
                client: live.client.get().copied(),
                listener: listener.clone(),
                site: site.clone(),
                identity: identity.cloned(),
                leaf: admission.leaf().cloned(),
                epoch: admission.epoch(),
                worker,
            });
        }
    }

    fn count(&mut self, identity: &Arc<str>) {
        let room = self.identities.len() < limits::IDENTITIES_SHOWN_MAX;
        match self.identities.get_mut(identity) {
            Some(connections) => *connections += 1,
            None if room => drop(self.identities.insert(identity.clone(), 1)),
            None => {}
        }
    }
}
