//! `bulk`: bytes as fast as they go, one way or both. An operation is a mebibyte moved in each direction asked for.

use std::rc::Rc;
use std::time::Instant;

use crate::load::args::Direction;
use crate::load::connection::{Connection, Received};
use crate::load::drive::{Scenario, Work};
use crate::load::failure::Failure;
use crate::load::limits;
use crate::load::pace::Turn;
use crate::load::worker::{Done, Worker};

/// Bytes of one operation in one direction.
pub const CHUNK: usize = 1024 * 1024;
/// What the report calls an operation.
pub const OPERATION: &str = "MiB";

/// Transfers in one direction or both.
#[derive(Clone, Copy, Debug)]
pub struct Bulk {
    pub direction: Direction,
}

impl Scenario for Bulk {
    type Work = Lane;

    fn lane(&self, worker: &Rc<Worker>, lane: usize) -> Lane {
        Lane { worker: worker.clone(), lane, direction: self.direction, surplus: 0, connection: None }
    }
}

/// One connection that is kept full.
pub struct Lane {
    worker: Rc<Worker>,
    lane: usize,
    direction: Direction,
    /// Received beyond the last operation's chunk.
    surplus: usize,
    connection: Option<Rc<Connection>>,
}

impl Lane {
    async fn connect(&self) -> Result<Rc<Connection>, Failure> {
        let config = self.worker.plan.clients.forgetful(self.lane);
        let connection = Rc::new(Connection::open(&self.worker, config, self.lane).await?);
        if self.direction == Direction::Up {
            tokio_uring::spawn(discard(connection.clone()));
        }
        Ok(connection)
    }
}

/// Takes in what an upload's peer sends all the same: an echo would stop for want of a reader, and with it the upload.
/// Ends with the connection.
async fn discard(connection: Rc<Connection>) {
    let mut sink = Vec::new();
    while matches!(connection.receive(&mut sink).await, Ok(Received::Data)) {
        sink.clear();
    }
}

/// Whether somebody else sends on the connection while it is received from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ways {
    One,
    Both,
}

/// Sends one chunk. What TLS wants to say meanwhile goes out with it.
async fn upload(connection: &Connection) -> Result<(), Failure> {
    static ZEROS: [u8; limits::BULK_BYTES] = [0; limits::BULK_BYTES];
    for _ in 0..CHUNK / ZEROS.len() {
        connection.send(&ZEROS).await?;
    }
    Ok(())
}

/// Receives until a chunk is full, `surplus` counted; gives the surplus beyond it.
async fn download(connection: &Connection, ways: Ways, surplus: usize) -> Result<usize, Failure> {
    let (mut sink, mut received) = (Vec::with_capacity(limits::BULK_BYTES), surplus);
    while received < CHUNK {
        sink.clear();
        if connection.receive(&mut sink).await? == Received::Closed {
            return Err(Failure::Ended);
        }
        received += sink.len();
        if ways == Ways::One {
            // An answer to a KeyUpdate; where there is an upload, it goes out with that.
            connection.flush().await?;
        }
    }
    Ok(received - CHUNK)
}

impl Work for Lane {
    async fn prepare(&mut self) -> Result<(), Failure> {
        let connection = self.connect().await?;
        connection.rest();
        self.connection = Some(connection);
        Ok(())
    }

    async fn operate(&mut self, _turn: Turn) -> Result<Done, Failure> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => {
                self.surplus = 0;
                self.connect().await?
            }
        };
        connection.allow();
        let (up, down, ways) = match self.direction {
            Direction::Up => (true, false, Ways::One),
            Direction::Down => (false, true, Ways::One),
            Direction::Both => (true, true, Ways::Both),
        };
        let sending = async { if up { upload(&connection).await } else { Ok(()) } };
        let receiving = async { if down { download(&connection, ways, self.surplus).await } else { Ok(0) } };
        // Both run to their end, also where one fails: nothing in flight may be dropped.
        let (sent, received) = tokio::join!(sending, receiving);
        match sent.and(received) {
            Ok(surplus) => self.surplus = surplus,
            Err(failure) => {
                connection.abort();
                return Err(failure);
            }
        }
        self.connection = Some(connection);
        let bytes = |way: bool| if way { CHUNK as u64 } else { 0 };
        Ok(Done { finished: Instant::now(), bytes_in: bytes(down), bytes_out: bytes(up), resumed: false })
    }

    /// No farewell: a stream without end would not stop for it.
    async fn finish(&mut self) {
        if let Some(connection) = self.connection.take() {
            connection.abort();
        }
    }
}
