//! `handshake`: connect, complete a TLS handshake, see that the server let us in, end the connection.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use rustls::ClientConfig;

use crate::load::connection::Connection;
use crate::load::drive::{Scenario, Work};
use crate::load::failure::Failure;
use crate::load::pace::Turn;
use crate::load::worker::{Done, Worker};

/// Full handshakes, or resumed ones.
#[derive(Clone, Copy, Debug)]
pub struct Handshakes {
    pub kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Full,
    /// Each lane resumes the session of its connection before.
    Resumed,
}

impl Scenario for Handshakes {
    type Work = Lane;

    fn lane(&self, worker: &Rc<Worker>, lane: usize) -> Lane {
        let remembering = (self.kind == Kind::Resumed).then(|| worker.plan.clients.remembering(lane));
        Lane { worker: worker.clone(), lane, turns: 0, remembering }
    }
}

/// One client that connects again and again.
pub struct Lane {
    worker: Rc<Worker>,
    lane: usize,
    turns: usize,
    /// The configuration that keeps this lane's tickets.
    remembering: Option<Arc<ClientConfig>>,
}

impl Lane {
    /// One connection from connect to close; the moment it was accepted, and whether it was resumed.
    async fn once(&self, config: Arc<ClientConfig>) -> Result<Done, Failure> {
        let connection = Connection::open(&self.worker, config, self.lane).await?;
        let resumed = connection.resumed();
        let acceptances = self.worker.plan.acceptance;
        connection.accepted(if resumed { acceptances.resumed } else { acceptances.full }).await?;
        let finished = Instant::now();
        connection.close().await;
        Ok(Done { finished, bytes_in: 0, bytes_out: 0, resumed })
    }
}

impl Work for Lane {
    /// A lane that resumes needs a session to resume.
    async fn prepare(&mut self) -> Result<(), Failure> {
        match &self.remembering {
            Some(config) => self.once(config.clone()).await.map(|_| ()),
            None => Ok(()),
        }
    }

    async fn operate(&mut self, _turn: Turn) -> Result<Done, Failure> {
        let plan = &self.worker.plan;
        let config = match &self.remembering {
            Some(config) => config.clone(),
            // Lanes start at different clients and go round, so that every identity comes about as often.
            None => plan.clients.forgetful(self.lane + self.turns * plan.connections),
        };
        self.turns += 1;
        self.once(config).await
    }

    async fn finish(&mut self) {}
}
