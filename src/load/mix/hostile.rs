//! What hostile clients do, and how it ended: the end is what is measured of them.

use std::rc::Rc;
use std::time::{Duration, Instant};

use rustls::ClientConnection;

use crate::load::connection::Connection;
use crate::load::failure::Failure;
use crate::load::mix::Lane;
use crate::load::mix::receive;
use crate::load::net;
use crate::load::pace::Turn;
use crate::load::worker::Done;

/// How a hostile client's visit ended, in a word for the report; a failure where the harness itself had a problem.
type Ending = Result<String, Failure>;

impl Lane {
    /// Counts the ending. That a server refuses is what it should do; that nobody is there is a failure.
    pub(super) fn hostile(&self, turn: Turn, ending: Ending) -> Result<Done, Failure> {
        let ending = match ending {
            Ok(ending) => ending,
            Err(failure @ (Failure::Refused | Failure::Local(_) | Failure::Certificate(_))) => return Err(failure),
            Err(failure) => failure.kind(),
        };
        if turn.measured {
            self.worker.tally.borrow_mut().class(self.behaviour.name()).endings.count(ending);
        }
        Ok(Done { finished: Instant::now(), bytes_in: 0, bytes_out: 0, resumed: false })
    }

    /// Half a ClientHello, then silence.
    pub(super) async fn half_handshake(&self, hold: Duration) -> Ending {
        let plan = &self.worker.plan;
        let mut tls = ClientConnection::new(self.config.clone(), plan.target.name.clone())?;
        let mut hello = Vec::new();
        tls.write_tls(&mut hello)?;
        hello.truncate(hello.len() / 2);
        let source = net::source_of(self.lane, plan.connections, plan.target.address);
        let stream = Rc::new(net::connect(plan.target.address, source)?);
        let guard = self.worker.watch.guard(&stream);
        guard.allow(hold);
        let (sent, _) = stream.write_all(hello).await;
        if let Err(error) = sent {
            return if guard.expired() { Ok("held".to_owned()) } else { Err(error.into()) };
        }
        let (received, buffer) = stream.read(self.worker.buffers.take()).await;
        self.worker.buffers.give(buffer);
        match received {
            _ if guard.expired() => Ok("held".to_owned()),
            Ok(0) => Ok("ended".to_owned()),
            Ok(_) => Ok("answered".to_owned()),
            Err(error) => Err(error.into()),
        }
    }

    /// A full handshake with a certificate of a CA that the server does not know.
    pub(super) async fn wrong_certificate(&self) -> Ending {
        let connection = Connection::open(&self.worker, self.config.clone(), self.lane).await?;
        connection.accepted(self.worker.plan.acceptance.full).await?;
        connection.close().await;
        Ok("let in".to_owned())
    }

    /// Requests of new keys with nothing between, then a byte, to see whether anybody still answers.
    pub(super) async fn key_updates(&self, updates: usize) -> Ending {
        let connection = Connection::open(&self.worker, self.config.clone(), self.lane).await?;
        for _ in 0..updates {
            connection.refresh_keys().await?;
        }
        connection.send(b"k").await?;
        receive(&connection, 1).await?;
        connection.close().await;
        Ok("borne".to_owned())
    }
}
