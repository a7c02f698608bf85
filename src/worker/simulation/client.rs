//! A client: rustls over a connection in memory, and a script that says how it behaves.

use super::conduct::{Conduct, PATIENCE};
use super::fixture::{Fixture, LISTENERS, SiteFacts};
use super::identities::{Memory, exchange_random, set_wall};
use super::pattern;
use super::script::{ClientScript, Ending, How, Name, Noise};
use crate::sys::scripted::{Came, Dice, Facts, Gone, Net, PeerEnd};
use rustls::{ClientConnection, Error};
use std::cell::RefCell;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, UNIX_EPOCH};

/// What a client did and saw.
#[derive(Debug, Default)]
pub struct ClientReport {
    pub over: bool,
    /// Nobody listened any more.
    pub turned_off: bool,
    pub wrote: u64,
    /// When the last message of its handshake was on the way, proof of its key included.
    pub proof_at: Option<Duration>,
    pub established: bool,
    /// Plaintext given to TLS, and whether all of it is on the way.
    pub said: u64,
    pub flushed: bool,
    /// close_notify is on the way.
    pub notified: bool,
    /// Plaintext that came.
    pub heard: u64,
    /// A place at which that was not what had been sent.
    pub wrong_at: Option<u64>,
    pub saw_notify: bool,
    pub saw_fin: bool,
    pub saw_reset: bool,
    pub saw_alert: Option<u8>,
    pub saw_nonsense: Option<String>,
    /// How it left on its own account.
    pub left: Option<Left>,
    /// It waited for an end that did not come.
    pub forgotten: bool,
    /// The connection's number.
    pub connection: Option<usize>,
    pub facts: Facts,
}

/// What a client did to end a connection, other than close_notify.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    Reset,
    Close,
    Fin,
    Vanished,
    Stalled,
}

/// Streams of one client: what it says, what its backend says of its own.
pub fn streams(number: usize) -> (u64, u64) {
    (2 * number as u64 + 100, 2 * number as u64 + 101)
}

/// The address that a client comes from.
pub fn address_of(number: usize) -> SocketAddr {
    ([192, 0, 2, 1 + number as u8], 40_000 + number as u16).into()
}

/// Lives a client's life.
pub async fn live(
    net: Net,
    fixture: Rc<Fixture>,
    number: usize,
    script: ClientScript,
    dice: Dice,
    report: Rc<RefCell<ClientReport>>,
) {
    net.sleep(script.start).await;
    let site = &fixture.sites[script.site];
    let to = LISTENERS[site.listener].address.parse().unwrap();
    let Some(end) = net.connect(address_of(number), to, script.talk.windows).await else {
        let mut report = report.borrow_mut();
        (report.turned_off, report.over) = (true, true);
        return;
    };
    report.borrow_mut().connection = Some(end.number());
    set_wall(net.wall().duration_since(UNIX_EPOCH).unwrap_or_default());
    let mut client = Client::new(net, &fixture, site, end, number, script, dice, report.clone());
    std::future::poll_fn(|_| client.step_with_own_random()).await;
    client.conclude();
}

struct Client {
    script: ClientScript,
    conduct: Conduct,
    tls: ClientConnection,
    /// Bytes for the wire.
    raw: Vec<u8>,
    raw_queued: u64,
    /// Where on the wire the proof ends, and the close_notify.
    proof_end: Option<u64>,
    notify_end: Option<u64>,
    heard_streams: (u64, u64),
    ended: bool,
    stalled: bool,
    dice: Dice,
    random: Dice,
    report: Rc<RefCell<ClientReport>>,
}

impl Client {
    #[allow(clippy::too_many_arguments, reason = "one caller, which has just put them together")]
    fn new(
        net: Net,
        fixture: &Fixture,
        site: &SiteFacts,
        end: PeerEnd,
        number: usize,
        script: ClientScript,
        mut dice: Dice,
        report: Rc<RefCell<ClientReport>>,
    ) -> Client {
        let name = match script.name {
            Name::Right => Some(site.name.as_str()),
            Name::Unknown => Some("unknown.sim.test"),
            Name::Missing => None,
        };
        let memory = match script.resumes {
            true => fixture.identities.memory((script.site, site), script.version, script.who),
            false => Memory::empty(),
        };
        let conduct = Conduct::new(net, end, script.talk, script.cut, dice.fork());
        let others = exchange_random(dice.fork());
        Client {
            tls: fixture.identities.client(script.version, script.who, script.offer, memory, name),
            conduct,
            raw: Vec::new(),
            raw_queued: 0,
            proof_end: None,
            notify_end: None,
            heard_streams: streams(number),
            ended: false,
            stalled: false,
            random: exchange_random(others),
            dice,
            report,
            script,
        }
    }

    fn step_with_own_random(&mut self) -> Poll<()> {
        let others = exchange_random(self.random.clone());
        let poll = self.step();
        self.random = exchange_random(others);
        poll
    }

    fn step(&mut self) -> Poll<()> {
        set_wall(self.conduct.net.wall().duration_since(UNIX_EPOCH).unwrap_or_default());
        if let Some(how) = self.conduct.cut() {
            self.note_left(how);
            if self.conduct.carry_out(how) {
                return Poll::Ready(());
            }
            // After a FIN in the middle it still listens; after a stall not even that.
            self.stalled = how == How::Stall;
            self.ended = true;
            self.raw.clear();
        }
        if self.conduct.is_out_of_patience() {
            // Where a full listener took it late or never, it waited in the kernel's queue, and gives up like anybody.
            let taken = self.conduct.end.facts().taken_at;
            let late = taken.is_none_or(|at| self.conduct.net.now() - at < PATIENCE / 2);
            self.report.borrow_mut().forgotten = !self.stalled && !late;
            self.note_left(How::Close);
            return Poll::Ready(());
        }
        if self.stalled {
            return if self.conduct.end.is_broken() { Poll::Ready(()) } else { Poll::Pending };
        }
        if self.read().is_ready() {
            return Poll::Ready(());
        }
        loop {
            let before = (self.raw_queued, self.conduct.wrote, self.ended);
            self.speak();
            if self.flush().is_err() {
                // What came before the reset can still be read.
                self.conduct.hurry();
                let _ = self.read();
                self.report.borrow_mut().saw_reset = true;
                return Poll::Ready(());
            }
            if before == (self.raw_queued, self.conduct.wrote, self.ended) {
                return self.act_on_end();
            }
        }
    }

    fn note_left(&self, how: How) {
        let mut report = self.report.borrow_mut();
        report.left.get_or_insert(match how {
            How::Reset => Left::Reset,
            How::Close => Left::Close,
            How::Fin => Left::Fin,
            How::Vanish(_) => Left::Vanished,
            How::Stall => Left::Stalled,
        });
    }

    /// Ready when the connection is reset.
    fn read(&mut self) -> Poll<()> {
        while !self.report.borrow().saw_fin {
            match self.conduct.read() {
                None => break,
                Some(Came::Bytes(bytes)) => self.hear(&bytes),
                Some(Came::End) => self.report.borrow_mut().saw_fin = true,
                Some(Came::Reset) => {
                    self.report.borrow_mut().saw_reset = true;
                    return Poll::Ready(());
                }
            }
        }
        Poll::Pending
    }

    fn hear(&mut self, mut bytes: &[u8]) {
        if matches!(self.script.noise, Some(Noise::Speaks(_) | Noise::Silence)) {
            self.note_plain_alert(bytes);
            return;
        }
        let (shaking, queued) = (self.tls.is_handshaking(), self.raw_queued);
        while !bytes.is_empty() && self.report.borrow().saw_nonsense.is_none() {
            match self.tls.read_tls(&mut bytes) {
                Ok(0) | Err(_) => break,
                Ok(_) => {}
            }
            let processed = self.tls.process_new_packets();
            self.queue();
            let heard = self.take_plaintext();
            if let Err(error) = processed {
                self.note_error(&error);
                break;
            }
            let mut report = self.report.borrow_mut();
            report.saw_notify |= heard;
        }
        // The last words of its handshake are the proof, or the end of a resumption.
        if shaking && self.raw_queued > queued {
            self.proof_end = Some(self.raw_queued);
            self.report.borrow_mut().proof_at = None;
        }
        self.report.borrow_mut().established |= !self.tls.is_handshaking();
    }

    /// True: close_notify came.
    fn take_plaintext(&mut self) -> bool {
        let mut bytes = [0; 4096];
        loop {
            match self.tls.reader().read(&mut bytes) {
                Ok(0) => return true,
                Ok(count) => self.check(&bytes[..count]),
                Err(_) => return false,
            }
        }
    }

    fn check(&mut self, bytes: &[u8]) {
        use super::script::Kind;
        let (own, backends) = self.heard_streams;
        let stream = if self.script.backend.kind == Kind::Echo { own } else { backends };
        let mut report = self.report.borrow_mut();
        let wrong = pattern::first_difference(stream, report.heard, bytes);
        report.wrong_at = report.wrong_at.or(wrong);
        report.heard += bytes.len() as u64;
    }

    fn note_error(&mut self, error: &Error) {
        let mut report = self.report.borrow_mut();
        match error {
            Error::AlertReceived(alert) => report.saw_alert = Some(u8::from(*alert)),
            other => report.saw_nonsense = Some(other.to_string()),
        }
        self.ended = true;
    }

    fn note_plain_alert(&mut self, bytes: &[u8]) {
        if let [21, _, _, _, _, _, alert, ..] = bytes {
            self.report.borrow_mut().saw_alert = Some(*alert);
        }
    }

    /// Moves what TLS wants to send to the wire's queue.
    fn queue(&mut self) {
        let before = self.raw.len();
        while self.tls.wants_write() {
            self.tls.write_tls(&mut self.raw).unwrap();
        }
        if let Some(Noise::Flips(at)) = self.script.noise
            && let Some(place) = at.checked_sub(self.raw_queued)
            && let Some(byte) = self.raw[before..].get_mut(place as usize)
        {
            *byte ^= 1 << self.dice.below(8);
        }
        self.raw_queued += (self.raw.len() - before) as u64;
    }

    fn speak(&mut self) {
        if self.ended || !self.raw.is_empty() {
            return;
        }
        match self.script.noise {
            Some(Noise::Silence) => return,
            Some(Noise::Speaks(words)) => {
                self.raw.extend_from_slice(words);
                self.raw_queued += words.len() as u64;
                self.ended = true;
                return;
            }
            _ => {}
        }
        self.queue();
        if !self.tls.is_handshaking() && self.raw.is_empty() {
            self.say();
        }
    }

    /// The next message, or the end.
    fn say(&mut self) {
        let said = self.report.borrow().said;
        if said < self.script.says {
            if self.dice.chance(self.script.key_updates) {
                // TLS 1.2 has no such thing.
                let _ = self.tls.refresh_traffic_keys();
            }
            let len = (self.script.says - said).min(self.script.message as u64) as usize;
            let count = self.tls.writer().write(&pattern::piece(self.heard_streams.0, said, len)).unwrap();
            self.report.borrow_mut().said += count as u64;
            self.queue();
            return;
        }
        let report = self.report.borrow();
        let waits = self.script.ending == Ending::Wait && !(report.saw_notify || report.saw_fin);
        drop(report);
        if waits {
            return;
        }
        self.ended = true;
        use Ending::{Notify, NotifyAndFin, NotifyAndGo, Wait};
        if matches!(self.script.ending, Notify | NotifyAndFin | NotifyAndGo | Wait) {
            self.tls.send_close_notify();
            self.queue();
            self.notify_end = Some(self.raw_queued);
        }
    }

    fn flush(&mut self) -> Result<(), Gone> {
        while !self.raw.is_empty() {
            match self.conduct.write(&self.raw)? {
                0 => break,
                count => drop(self.raw.drain(..count)),
            }
        }
        let mut report = self.report.borrow_mut();
        let reached = |mark: Option<u64>| mark.is_some_and(|mark| self.conduct.wrote >= mark);
        if report.proof_at.is_none() && reached(self.proof_end) {
            report.proof_at = Some(self.conduct.net.now());
        }
        report.flushed = self.conduct.wrote == self.raw_queued;
        report.notified |= reached(self.notify_end);
        Ok(())
    }

    /// What is left to do when everything is said, or the server has ended it.
    fn act_on_end(&mut self) -> Poll<()> {
        let (alert, fin, notified) = {
            let report = self.report.borrow();
            (report.saw_alert.is_some() || report.saw_nonsense.is_some(), report.saw_fin, report.saw_notify)
        };
        let done = self.ended && self.raw.is_empty();
        // After an orderly end of the server's a client may still have its own to say.
        if fin && (done || !notified) || alert && self.raw.is_empty() {
            return Poll::Ready(());
        }
        let mute = matches!(self.script.noise, Some(Noise::Speaks(_) | Noise::Silence));
        if !done || mute || self.report.borrow().left.is_some() {
            return Poll::Pending;
        }
        match self.script.ending {
            Ending::Notify | Ending::Wait => Poll::Pending,
            Ending::NotifyAndFin => {
                self.conduct.end.finish();
                Poll::Pending
            }
            Ending::Fin => {
                self.note_left(How::Fin);
                self.conduct.end.finish();
                Poll::Pending
            }
            Ending::Stay => {
                self.note_left(How::Stall);
                Poll::Pending
            }
            Ending::NotifyAndGo | Ending::Go => {
                self.note_left(How::Close);
                Poll::Ready(())
            }
            Ending::Reset => {
                self.note_left(How::Reset);
                self.conduct.end.reset(3);
                Poll::Ready(())
            }
        }
    }

    fn conclude(&mut self) {
        let mut report = self.report.borrow_mut();
        report.wrote = self.conduct.wrote;
        report.over = true;
        if report.left != Some(Left::Vanished) {
            self.conduct.end.close();
        }
    }
}
