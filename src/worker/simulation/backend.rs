//! A backend's server: accepts, reads the PROXY header where there must be one, and does as its script says.

use super::client::streams;
use super::conduct::Conduct;
use super::fixture::SiteFacts;
use super::pattern;
use super::script::{BackendScript, How, Kind};
use crate::config::ProxyProtocol;
use crate::sys::scripted::{Came, Dice, Facts, Net, PeerEnd, ServerId};
use crate::wire::proxy::{self, Parsed};
use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::Poll;

/// What a server did and saw on one connection.
#[derive(Debug, Default)]
pub struct BackendReport {
    pub server: usize,
    pub over: bool,
    /// The client's address as the header told it.
    pub header: Option<Option<SocketAddr>>,
    pub bad_header: Option<String>,
    /// Bytes of the client.
    pub heard: u64,
    pub wrong_at: Option<u64>,
    /// Bytes of its own, or of its echo.
    pub said: u64,
    /// Its orderly end is on the way, with everything before it.
    pub finished: bool,
    pub saw_fin: bool,
    pub saw_reset: bool,
    /// It left in another way than by FIN.
    pub left: bool,
    pub forgotten: bool,
    /// The connection's number.
    pub connection: usize,
    pub facts: Facts,
}

pub type Reports = Rc<RefCell<Vec<Rc<RefCell<BackendReport>>>>>;

/// Accepts for one server, for ever.
pub async fn serve(
    net: Net,
    server: (usize, ServerId),
    site: SiteFacts,
    number: usize,
    script: BackendScript,
    mut dice: Dice,
    reports: Reports,
) {
    loop {
        let end = net.accept(server.1).await;
        let report = Rc::new(RefCell::new(BackendReport {
            server: server.0,
            connection: end.number(),
            ..BackendReport::default()
        }));
        reports.borrow_mut().push(report.clone());
        let (own, site, script, dice) = (net.clone(), site.clone(), script.clone(), dice.fork());
        net.spawn(async move {
            own.sleep(script.accepts_after).await;
            let mut backend = Backend::new(own, &site, end, number, script, dice, report);
            std::future::poll_fn(|_| backend.step()).await;
            backend.conclude();
        });
    }
}

struct Backend {
    script: BackendScript,
    conduct: Conduct,
    /// Bytes of a header that is not whole yet; `None` where none is due.
    header: Option<Vec<u8>>,
    client_stream: u64,
    own_stream: u64,
    /// What is to be said: an echo, or the next of its own.
    pending: Vec<u8>,
    finished: bool,
    stalled: bool,
    vanished: bool,
    report: Rc<RefCell<BackendReport>>,
}

/// An echo hears no more while so much waits to be said.
const ECHO_BYTES_MAX: usize = 32 << 10;
/// Bytes of its own that it makes at a time.
const SAID_AT_ONCE: u64 = 16 << 10;

impl Backend {
    fn new(
        net: Net,
        site: &SiteFacts,
        end: PeerEnd,
        number: usize,
        script: BackendScript,
        dice: Dice,
        report: Rc<RefCell<BackendReport>>,
    ) -> Backend {
        let (client_stream, own_stream) = streams(number);
        Backend {
            conduct: Conduct::new(net, end, script.talk, script.cut, dice),
            script,
            header: (site.proxy != ProxyProtocol::Off).then(Vec::new),
            client_stream,
            own_stream,
            pending: Vec::new(),
            finished: false,
            stalled: false,
            vanished: false,
            report,
        }
    }

    fn step(&mut self) -> Poll<()> {
        if let Some(how) = self.conduct.cut() {
            self.report.borrow_mut().left |= how != How::Fin;
            self.vanished = matches!(how, How::Vanish(_));
            if self.conduct.carry_out(how) {
                // A close with nothing unread is an orderly end, and so is the "reset" of a unix socket.
                self.report.borrow_mut().finished |= !self.vanished && !self.conduct.end.is_broken();
                return Poll::Ready(());
            }
            // A FIN in the middle is an orderly end all the same: nobody can tell.
            let mut report = self.report.borrow_mut();
            report.finished |= how == How::Fin;
            self.stalled |= how == How::Stall;
            self.finished = true;
        }
        if self.conduct.is_out_of_patience() {
            self.report.borrow_mut().forgotten = !self.stalled && self.script.kind != Kind::Mute;
            return Poll::Ready(());
        }
        if self.stalled || self.script.kind == Kind::Mute {
            return if self.conduct.end.is_broken() { self.note_reset() } else { Poll::Pending };
        }
        if self.hear().is_ready() || self.speak().is_ready() {
            return Poll::Ready(());
        }
        let report = self.report.borrow();
        if self.finished && report.saw_fin { Poll::Ready(()) } else { Poll::Pending }
    }

    fn note_reset(&self) -> Poll<()> {
        self.report.borrow_mut().saw_reset = true;
        Poll::Ready(())
    }

    fn hear(&mut self) -> Poll<()> {
        while !self.report.borrow().saw_fin && (self.finished || self.pending.len() < ECHO_BYTES_MAX) {
            match self.conduct.read() {
                None => break,
                Some(Came::Bytes(bytes)) => self.take(bytes),
                Some(Came::End) => self.report.borrow_mut().saw_fin = true,
                Some(Came::Reset) => return self.note_reset(),
            }
        }
        Poll::Pending
    }

    fn take(&mut self, mut bytes: Vec<u8>) {
        if let Some(header) = &mut self.header {
            header.append(&mut bytes);
            match proxy::parse(header) {
                Ok(Parsed::NeedMore) => return,
                Ok(Parsed::Header(received)) => {
                    self.report.borrow_mut().header = Some(received.source);
                    bytes = header.split_off(received.len);
                    self.header = None;
                }
                Err(error) => {
                    self.report.borrow_mut().bad_header = Some(error.to_string());
                    self.header = None;
                    return;
                }
            }
        }
        let mut report = self.report.borrow_mut();
        let wrong = pattern::first_difference(self.client_stream, report.heard, &bytes);
        report.wrong_at = report.wrong_at.or(wrong);
        report.heard += bytes.len() as u64;
        if self.script.kind == Kind::Echo && !self.finished {
            self.pending.append(&mut bytes);
        }
    }

    /// Ready once it has closed.
    fn speak(&mut self) -> Poll<()> {
        self.prepare();
        while !self.pending.is_empty() && !self.finished {
            match self.conduct.write(&self.pending) {
                Ok(0) => return Poll::Pending,
                Ok(count) => {
                    self.pending.drain(..count);
                    self.report.borrow_mut().said += count as u64;
                }
                Err(_) => return self.note_reset(),
            }
            self.prepare();
        }
        if self.finished || !self.has_said_all() {
            return Poll::Pending;
        }
        self.finished = true;
        if self.script.kind == Kind::Brief {
            // Orderly only if nothing was unread.
            self.conduct.end.close();
            let mut report = self.report.borrow_mut();
            (report.left, report.finished) = (true, !self.conduct.end.is_broken());
            return Poll::Ready(());
        }
        self.conduct.end.finish();
        self.report.borrow_mut().finished = true;
        Poll::Pending
    }

    /// Makes the next bytes of its own.
    fn prepare(&mut self) {
        let report = self.report.borrow();
        let speaks = match self.script.kind {
            Kind::Source | Kind::Brief => true,
            Kind::Answer => report.saw_fin,
            Kind::Echo | Kind::Sink | Kind::Mute => false,
        };
        let left = self.script.says.saturating_sub(report.said);
        if speaks && self.pending.is_empty() && left > 0 {
            self.pending = pattern::piece(self.own_stream, report.said, left.min(SAID_AT_ONCE) as usize);
        }
    }

    fn has_said_all(&self) -> bool {
        let report = self.report.borrow();
        match self.script.kind {
            Kind::Echo | Kind::Sink => report.saw_fin && self.pending.is_empty(),
            Kind::Source | Kind::Brief => report.said >= self.script.says,
            Kind::Answer => report.saw_fin && report.said >= self.script.says,
            Kind::Mute => false,
        }
    }

    fn conclude(&self) {
        let mut report = self.report.borrow_mut();
        report.over = true;
        if !self.vanished {
            self.conduct.end.close();
        }
    }
}
