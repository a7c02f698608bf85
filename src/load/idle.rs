//! `idle`: open connections and hold them, to see what each costs the server.

use std::rc::Rc;
use std::time::Instant;

use crate::load::connection::{Acceptance, Connection, Received};
use crate::load::drive::{Scenario, Work};
use crate::load::failure::Failure;
use crate::load::pace::Turn;
use crate::load::worker::{Done, Worker};

/// Connections that wait.
#[derive(Clone, Copy, Debug)]
pub struct Idle {
    /// Bytes exchanged with an echo backend before a connection falls idle.
    pub exchange: Option<usize>,
}

impl Scenario for Idle {
    type Work = Lane;

    fn lane(&self, worker: &Rc<Worker>, lane: usize) -> Lane {
        Lane { worker: worker.clone(), lane, exchange: self.exchange, connection: None }
    }
}

/// One connection.
pub struct Lane {
    worker: Rc<Worker>,
    lane: usize,
    exchange: Option<usize>,
    connection: Option<Connection>,
}

impl Work for Lane {
    /// Opens the connection: this is all the work there is.
    async fn prepare(&mut self) -> Result<(), Failure> {
        let config = self.worker.plan.clients.forgetful(self.lane);
        let connection = Connection::open(&self.worker, config, self.lane).await?;
        // Waiting for the other proof would end the connection.
        if self.worker.plan.acceptance.full == Acceptance::Ticket {
            connection.accepted(Acceptance::Ticket).await?;
        }
        if let Some(size) = self.exchange {
            connection.send(&vec![b'x'; size]).await?;
            let mut answer = Vec::new();
            while answer.len() < size {
                if connection.receive(&mut answer).await? == Received::Closed {
                    return Err(Failure::Ended);
                }
            }
        }
        connection.rest();
        self.connection = Some(connection);
        Ok(())
    }

    /// There are no turns in a run that holds; were there one, nothing would be done.
    async fn operate(&mut self, _turn: Turn) -> Result<Done, Failure> {
        Ok(Done { finished: Instant::now(), bytes_in: 0, bytes_out: 0, resumed: false })
    }

    async fn finish(&mut self) {
        if let Some(connection) = self.connection.take() {
            connection.close().await;
        }
    }
}
