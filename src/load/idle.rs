//! `idle`: open connections and hold them, to see what each costs the server.

use std::rc::Rc;
use std::time::Instant;

use tokio::task::JoinHandle;

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
        Lane { worker: worker.clone(), lane, exchange: self.exchange, held: None }
    }
}

/// One client.
pub struct Lane {
    worker: Rc<Worker>,
    lane: usize,
    exchange: Option<usize>,
    held: Option<Held>,
}

/// A connection that rests, and the receive on it that sees its end.
struct Held {
    connection: Rc<Connection>,
    end: JoinHandle<Failure>,
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
        let connection = Rc::new(connection);
        let watched = connection.clone();
        let end = tokio_uring::spawn(async move { watched.ended().await });
        self.held = Some(Held { connection, end });
        Ok(())
    }

    /// There are no turns in a run that holds; were there one, nothing would be done.
    async fn operate(&mut self, _turn: Turn) -> Result<Done, Failure> {
        Ok(Done { finished: Instant::now(), bytes_in: 0, bytes_out: 0, resumed: false })
    }

    /// One that the server has ended meanwhile was not held.
    async fn finish(&mut self) {
        let Some(Held { connection, end }) = self.held.take() else { return };
        let left = !end.is_finished();
        // What comes of our goodbye the receive tells.
        if left {
            let _ = connection.goodbye().await;
        }
        let Ok(failure) = end.await else { return };
        let mut tally = self.worker.tally.borrow_mut();
        match failure {
            failure if !left => tally.fail(&failure),
            Failure::TimedOut => tally.closed_late += 1,
            _ => {}
        }
    }
}
