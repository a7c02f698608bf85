//! `mix`: clients of several kinds at once, good ones and hostile ones, in the shares of a scenario file. What the good ones
//! do is the throughput; how the server ends the hostile ones is told beside it.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::ClientConfig;

use crate::load::connection::{Connection, Received};
use crate::load::drive::{self, Class};
use crate::load::failure::Failure;
use crate::load::pace::Turn;
use crate::load::worker::{Done, Worker};

use file::{Behaviour, Mix, Visit};

pub mod file;
mod hostile;

/// The clients of a run, each with its part.
#[derive(Clone, Debug)]
pub struct Scenario {
    pub mix: Arc<Mix>,
    /// The part of each lane.
    pub seats: Arc<[usize]>,
    /// A client that no trusted CA issued a certificate for.
    pub stranger: Arc<ClientConfig>,
}

impl drive::Scenario for Scenario {
    type Work = Lane;

    fn lane(&self, worker: &Rc<Worker>, lane: usize) -> Lane {
        let behaviour = self.mix.parts[self.seats[lane]].behaviour.clone();
        let config = match &behaviour {
            Behaviour::Resumed(_) => worker.plan.clients.remembering(lane),
            Behaviour::WrongCertificate => self.stranger.clone(),
            _ => worker.plan.clients.forgetful(lane),
        };
        Lane { worker: worker.clone(), lane, behaviour, config, connection: None }
    }
}

/// One client.
pub struct Lane {
    worker: Rc<Worker>,
    lane: usize,
    behaviour: Behaviour,
    config: Arc<ClientConfig>,
    /// A long-lived one's.
    connection: Option<Connection>,
}

impl Lane {
    async fn connect(&self) -> Result<Connection, Failure> {
        Connection::open(&self.worker, self.config.clone(), self.lane).await
    }

    /// Connects, asks, leaves.
    async fn visit(&self, visit: Visit) -> Result<Done, Failure> {
        let connection = self.connect().await?;
        let resumed = connection.resumed();
        for _ in 0..visit.requests {
            connection.allow();
            connection.send(&vec![b'm'; visit.size]).await?;
            receive(&connection, visit.size).await?;
        }
        let finished = Instant::now();
        connection.close().await;
        let bytes = (visit.requests * visit.size) as u64;
        Ok(Done { finished, bytes_in: bytes, bytes_out: bytes, resumed })
    }

    async fn ask(&mut self, size: usize, pause: Duration) -> Result<Done, Failure> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        connection.allow();
        connection.send(&vec![b'l'; size]).await?;
        receive(&connection, size).await?;
        connection.rest();
        let finished = Instant::now();
        self.connection = Some(connection);
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
        Ok(Done { finished, bytes_in: size as u64, bytes_out: size as u64, resumed: false })
    }

    /// Each piece is a record of its own, and late.
    async fn trickle(&self, size: usize, piece: usize, pause: Duration) -> Result<Done, Failure> {
        let connection = self.connect().await?;
        let mut left = size;
        while left > 0 {
            connection.rest();
            tokio::time::sleep(pause).await;
            connection.allow();
            let now = piece.min(left);
            connection.send(&vec![b's'; now]).await?;
            left -= now;
        }
        receive(&connection, size).await?;
        let finished = Instant::now();
        connection.close().await;
        Ok(Done { finished, bytes_in: size as u64, bytes_out: size as u64, resumed: false })
    }
}

/// Takes in an echo of `size` bytes.
async fn receive(connection: &Connection, size: usize) -> Result<(), Failure> {
    let (mut sink, mut received) = (Vec::new(), 0);
    while received < size {
        sink.clear();
        if connection.receive(&mut sink).await? == Received::Closed {
            return Err(Failure::Ended);
        }
        received += sink.len();
    }
    Ok(())
}

impl drive::Work for Lane {
    /// Who resumes needs a session to resume. The others come when their turn comes.
    async fn prepare(&mut self) -> Result<(), Failure> {
        match self.behaviour {
            Behaviour::Resumed(visit) => self.visit(visit).await.map(drop),
            Behaviour::LongLived { size, .. } => self.ask(size, Duration::ZERO).await.map(drop),
            _ => Ok(()),
        }
    }

    async fn operate(&mut self, turn: Turn) -> Result<Done, Failure> {
        match self.behaviour {
            Behaviour::New(visit) | Behaviour::Resumed(visit) => self.visit(visit).await,
            Behaviour::LongLived { size, pause } => self.ask(size, pause).await,
            Behaviour::Slow { size, piece, pause } => self.trickle(size, piece, pause).await,
            Behaviour::HalfHandshake { hold } => self.hostile(turn, self.half_handshake(hold).await),
            Behaviour::WrongCertificate => self.hostile(turn, self.wrong_certificate().await),
            Behaviour::KeyUpdates { updates } => self.hostile(turn, self.key_updates(updates).await),
        }
    }

    async fn finish(&mut self) {
        if let Some(connection) = self.connection.take() {
            connection.close().await;
        }
    }

    fn class(&self) -> Option<Class> {
        Some(Class { name: self.behaviour.name(), hostile: self.behaviour.is_hostile() })
    }
}
