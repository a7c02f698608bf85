//! `request`: requests and answers over connections that stay open; raw bytes that an echo backend returns, or HTTP/1.1 GET.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use crate::load::connection::{Connection, Received};
use crate::load::drive::{Scenario, Work};
use crate::load::failure::Failure;
use crate::load::http;
use crate::load::pace::Turn;
use crate::load::worker::{Done, Worker};

/// Requests of one kind.
#[derive(Clone, Debug)]
pub struct Requests {
    pub protocol: Protocol,
}

#[derive(Clone, Debug)]
pub enum Protocol {
    /// This many bytes, to be returned as they are.
    Echo(usize),
    /// GET: the request as it goes over the wire.
    Http(Arc<[u8]>),
}

impl Scenario for Requests {
    type Work = Lane;

    fn lane(&self, worker: &Rc<Worker>, lane: usize) -> Lane {
        let request = match &self.protocol {
            Protocol::Echo(size) => pattern(lane, *size),
            Protocol::Http(request) => request.to_vec(),
        };
        Lane {
            worker: worker.clone(),
            lane,
            protocol: self.protocol.clone(),
            request,
            answer: Vec::new(),
            connection: None,
        }
    }
}

/// Bytes that differ from lane to lane and from place to place, so that an answer to somebody else is noticed.
fn pattern(lane: usize, size: usize) -> Vec<u8> {
    let mut state = lane as u64 ^ 0x9e37_79b9_7f4a_7c15;
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        // splitmix64: cheap, and no pattern that a buffer's length could hide.
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bytes.extend_from_slice(&(z ^ (z >> 31)).to_le_bytes());
    }
    bytes.truncate(size);
    bytes
}

/// One connection that asks and asks.
pub struct Lane {
    worker: Rc<Worker>,
    lane: usize,
    protocol: Protocol,
    request: Vec<u8>,
    answer: Vec<u8>,
    connection: Option<Connection>,
}

impl Lane {
    async fn connect(&self) -> Result<Connection, Failure> {
        Connection::open(&self.worker, self.worker.plan.clients.forgetful(self.lane), self.lane).await
    }

    /// One request and its answer; whether the connection is good for another.
    async fn exchange(&mut self, connection: &Connection) -> Result<bool, Failure> {
        connection.allow();
        connection.send(&self.request).await?;
        self.answer.clear();
        let again = match self.protocol {
            Protocol::Echo(size) => {
                while self.answer.len() < size {
                    if connection.receive(&mut self.answer).await? == Received::Closed {
                        return Err(Failure::Ended);
                    }
                }
                if self.answer != self.request {
                    return Err(Failure::Mismatch);
                }
                true
            }
            Protocol::Http(_) => http::read_answer(connection, &mut self.answer).await?,
        };
        connection.rest();
        Ok(again)
    }
}

impl Work for Lane {
    /// Connects, and asks once: the connection is warm, and the server has shown that it let us in.
    async fn prepare(&mut self) -> Result<(), Failure> {
        let connection = self.connect().await?;
        if self.exchange(&connection).await? {
            self.connection = Some(connection);
        }
        Ok(())
    }

    /// A connection that the server has ended is opened anew, at the cost of the request that finds out.
    async fn operate(&mut self, _turn: Turn) -> Result<Done, Failure> {
        let (connection, fresh) = match self.connection.take() {
            Some(connection) => (connection, false),
            None => (self.connect().await?, true),
        };
        let again = self.exchange(&connection).await?;
        let finished = Instant::now();
        let resumed = fresh && connection.resumed();
        if again {
            self.connection = Some(connection);
        } else {
            connection.close().await;
        }
        Ok(Done { finished, bytes_in: self.answer.len() as u64, bytes_out: self.request.len() as u64, resumed })
    }

    async fn finish(&mut self) {
        if let Some(connection) = self.connection.take() {
            connection.close().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_lanes_never_send_the_same() {
        assert_eq!(pattern(1, 1000).len(), 1000);
        assert_eq!(pattern(1, 1000), pattern(1, 1000));
        assert_ne!(pattern(1, 16), pattern(2, 16));
    }
}
