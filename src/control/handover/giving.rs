//! The old process: starts the new one, hands everything over, and lets go when the new one serves.

use super::frame::{Channel, Kind};
use super::helper::Helper;
use super::{Described, Offer, Resumption, VERSION};
use crate::config::{Config, limits};
use crate::control::desk::Desk;
use crate::control::notify::notify;
use crate::control::service::Service;
use crate::control::state::{self, Generation};
use crate::sys;
use crate::tls::TicketKeys;
use crate::trust::{Blocks, KnownChain};
use crate::wire::audit::Record;
use sd_notify::NotifyState;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, SystemTime};
use zeroize::Zeroizing;

/// What is said of a new process that did not get as far.
const ENDED: &str = "the new process ended before it served; its own words are in the log";

/// A new process that serves and waits for the word to go on alone. Dropped without it, it is ended.
pub struct Heir {
    channel: Channel,
    helper: Arc<Helper>,
    pub pid: u32,
    let_go: bool,
}

/// The new process goes on alone; this one has nothing left to do but to let its connections end.
pub struct HandedOver {
    pub pid: u32,
    channel: Channel,
}

/// All that goes over, gathered.
pub struct Estate {
    offer: Offer,
    descriptors: Vec<OwnedFd>,
    keys: Option<Zeroizing<Vec<u8>>>,
    chains: Vec<u8>,
}

impl Estate {
    /// Gathers it; waits for the workers' answers.
    pub fn of<S: Service>(desk: &Desk<S>) -> Estate {
        let bequest = desk.service.bequeath();
        let (mut sockets, mut descriptors) = (Vec::new(), Vec::new());
        for lent in bequest.sockets {
            let (name, address, worker) = (lent.listener.to_string(), lent.address, lent.worker);
            sockets.push(Described::Listener { name, address, worker });
            descriptors.push(OwnedFd::from(lent.socket));
        }
        for one in bequest.passed {
            if let Ok(socket) = one.socket {
                sockets.push(Described::Passed { name: one.name });
                descriptors.push(OwnedFd::from(socket));
            }
        }
        for (described, descriptor) in desk.doors.lend() {
            sockets.push(described);
            descriptors.push(descriptor);
        }
        let offer = Offer {
            version: VERSION,
            program: state::VERSION.to_owned(),
            pid: std::process::id(),
            sockets,
            blocks: (*desk.service.blocks()).clone(),
            resumption: Resumption::of(&desk.service.counters()),
        };
        let keys = desk.service.ticket_keys().as_deref().and_then(TicketKeys::export);
        Estate { offer, descriptors, keys, chains: encode(&bequest.chains) }
    }

    fn send(&self, channel: &Channel) -> io::Result<()> {
        channel.send(Kind::OFFER, &serde_json::to_vec(&self.offer)?, &[])?;
        for some in self.descriptors.chunks(sys::DESCRIPTORS_MAX) {
            let some: Vec<_> = some.iter().map(AsFd::as_fd).collect();
            channel.send(Kind::DESCRIPTORS, b"", &some)?;
        }
        if let Some(keys) = &self.keys {
            channel.send(Kind::KEYS, keys, &[])?;
        }
        channel.send(Kind::CHAINS, &self.chains, &[])?;
        channel.send(Kind::END, b"", &[])
    }
}

impl Heir {
    /// Starts the new process and waits until it serves; blocks. The channel's other holder may end it meanwhile.
    ///
    /// # Errors
    /// Why there is none: for the log. What was started has ended.
    pub fn bring_up(
        estate: &Estate,
        helper: Arc<Helper>,
        (ours, theirs): (Channel, UnixStream),
    ) -> Result<Heir, String> {
        let pid = helper.start(theirs.into())?;
        // Ended by its drop wherever this goes wrong.
        let mut heir = Heir { channel: ours, helper, pid, let_go: false };
        heir.wait_until_it_serves(estate).map_err(|problem| {
            heir.let_go = true;
            heir.channel.end();
            format!("{problem}; {}", heir.helper.end_program())
        })?;
        Ok(heir)
    }

    fn wait_until_it_serves(&self, estate: &Estate) -> Result<(), String> {
        let went = |what: &str, error: &io::Error| format!("{what}: {error}");
        self.channel.patience(Some(limits::HAND_OVER_WORD_TIME_MAX)).map_err(|error| went("no socket", &error))?;
        estate.send(&self.channel).map_err(|error| went("the new process did not take the sockets", &error))?;
        self.channel.patience(Some(limits::HAND_OVER_TIME_MAX)).map_err(|error| went("no socket", &error))?;
        loop {
            match self.channel.receive() {
                Ok(Some(frame)) if frame.kind == Kind::SERVING => return Ok(()),
                Ok(Some(frame)) if frame.kind == Kind::REFUSED => {
                    return Err(String::from_utf8_lossy(&frame.bytes).into_owned());
                }
                Ok(Some(_)) => {}
                Ok(None) => return Err(ENDED.to_owned()),
                // So it looks where it ended without reading what was sent to it.
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Err(ENDED.to_owned()),
                Err(error) => return Err(went("the new process did not come up in time", &error)),
            }
        }
    }

    /// Lets it go on alone, with the blocks of this moment.
    ///
    /// # Errors
    /// It is gone.
    pub fn let_go(mut self, blocks: &Blocks) -> io::Result<HandedOver> {
        self.channel.patience(Some(limits::HAND_OVER_WORD_TIME_MAX))?;
        self.channel.send(Kind::GO, &serde_json::to_vec(blocks)?, &[])?;
        self.let_go = true;
        Ok(HandedOver { pid: self.pid, channel: self.channel.again()? })
    }
}

impl Drop for Heir {
    fn drop(&mut self) {
        if !self.let_go {
            self.channel.end();
            tracing::warn!("the new process is not needed: {}", self.helper.end_program());
        }
    }
}

impl HandedOver {
    /// Does what the new process says of blocks and reloads, for the connections that are still here; on a thread of its
    /// own, for as long as both live.
    pub fn follow<S: Service>(self, desk: Arc<Desk<S>>) {
        let follow = move || {
            if self.channel.patience(None).is_err() {
                return;
            }
            while let Ok(Some(frame)) = self.channel.receive() {
                match frame.kind {
                    Kind::BLOCKS => match serde_json::from_slice(&frame.bytes) {
                        Ok(blocks) => desk.service.set_blocks(blocks),
                        Err(error) => tracing::error!(%error, "blocks of the new process are not understood"),
                    },
                    Kind::RELOADED => desk.judge_anew(),
                    _ => {}
                }
            }
        };
        if let Err(error) = std::thread::Builder::new().name("follower".to_owned()).spawn(follow) {
            tracing::error!(%error, "blocks and reloads of the new process do not reach the connections of this one");
        }
    }
}

impl<S: Service> Desk<S> {
    /// Starts a new process and resolves when it serves and waits for the word. Dropped before that, the new process is
    /// ended.
    ///
    /// # Errors
    /// Why there is none. Everything goes on here as it was.
    pub async fn bring_up_heir(self: &Arc<Self>, helper: Arc<Helper>) -> Result<Heir, String> {
        let failed = |error: io::Error| format!("no socket pair: {error}");
        let (ours, theirs) = UnixStream::pair().map_err(failed)?;
        let ours = Channel::new(ours);
        let mut ended = EndsUnless { channel: ours.again().map_err(failed)?, done: false };
        let desk = Arc::clone(self);
        let coming = tokio::task::spawn_blocking(move || {
            let estate = Estate::of(&*desk);
            Heir::bring_up(&estate, helper, (ours, theirs))
        });
        let heir = coming.await.unwrap_or_else(|_| Err("a fault of ours: the log says where".to_owned()));
        ended.done = true;
        heir
    }

    /// Tells the service manager and the new process that the new one goes on alone.
    ///
    /// # Errors
    /// The new process is gone; everything goes on here as it was.
    pub fn let_go(&self, heir: Heir) -> Result<HandedOver, String> {
        let blocks = self.close_the_book();
        // Before the new one's own word: it counts only once it is the main process.
        notify(&[NotifyState::MainPid(heir.pid)]);
        let pid = heir.pid;
        let handed = heir.let_go(&blocks).map_err(|error| {
            notify(&[NotifyState::MainPid(std::process::id())]);
            self.book.reopen();
            format!("the new process is gone: {error}")
        })?;
        self.tell_hand_over(Ok(pid));
        Ok(handed)
    }

    /// Says everywhere that there is no new process, and why. This one goes on.
    pub fn not_handed_over<T>(&self, why: &str) -> Option<T> {
        tracing::error!("not handed over, this process goes on: {why}");
        self.tell_hand_over(Err(why.to_owned()));
        None
    }

    fn tell_hand_over(&self, outcome: Result<u32, String>) {
        let (ok, result) = match outcome {
            Ok(pid) => (true, format!("process {pid} has taken over")),
            Err(why) => (false, why),
        };
        self.state.note_hand_over(ok, &result);
        let (uid, pid) = (rustix::process::geteuid().as_raw(), i32::try_from(std::process::id()).unwrap_or(0));
        let command = "hand over".to_owned();
        self.audit(Record::Admin { ts: SystemTime::now(), uid, pid, command, ok, result });
    }

    /// Tells once, when there is something to tell, whether sessions were resumed as before.
    pub async fn tell_resumption(self: Arc<Self>, before: Resumption) {
        let (enough, at_latest) = limits::AFTER_HAND_OVER;
        let until = tokio::time::Instant::now() + at_latest;
        loop {
            tokio::time::sleep(Duration::from_millis(500)).await;
            let now = Resumption::of(&self.service.counters());
            if now.handshakes >= enough || tokio::time::Instant::now() >= until {
                tracing::info!("since the hand-over: {now}; before: {before}");
                return;
            }
        }
    }

    /// From here on nobody changes blocks here, nor stores them: the list that is in force.
    fn close_the_book(&self) -> Arc<Blocks> {
        let _nobody_changes = self.blocking.lock().unwrap_or_else(PoisonError::into_inner);
        self.giving.store(true, Ordering::SeqCst);
        self.book.close();
        self.service.blocks()
    }

    /// The connections that are still here are judged by what the files say now.
    fn judge_anew(&self) {
        let old = self.state.generation();
        let config = match &old.config.file {
            Some(file) => Config::from_file(file),
            None => Ok((*old.config).clone()),
        };
        let loaded = config.map(Arc::new).and_then(|config| {
            let loaded = (self.load)(&config, Some(&self.service.snapshot()))?;
            Ok((config, loaded))
        });
        match loaded {
            Ok((config, loaded)) => match self.service.publish(&loaded.snapshot) {
                Ok(()) => self.state.replace(Generation::of(config, loaded.facts, &*self.service)),
                Err(failure) => tracing::error!("connections are not judged anew: {failure}"),
            },
            Err(faults) => {
                for fault in faults {
                    tracing::error!("connections are not judged anew: {fault}");
                }
            }
        }
    }
}

/// Ends the channel, and with it whoever waits on it, unless all is done.
struct EndsUnless {
    channel: Channel,
    done: bool,
}

impl Drop for EndsUnless {
    fn drop(&mut self) {
        if !self.done {
            self.channel.end();
        }
    }
}

/// Policy, number of certificates, each with its length.
fn encode(chains: &[KnownChain]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for chain in chains {
        bytes.extend_from_slice(&chain.policy.0);
        bytes.push(u8::try_from(chain.certificates.len()).unwrap_or(u8::MAX));
        for der in chain.certificates.iter().take(u8::MAX.into()) {
            bytes.extend_from_slice(&(der.len() as u32).to_be_bytes());
            bytes.extend_from_slice(der);
        }
    }
    bytes
}

#[cfg(test)]
pub(super) fn encoded(chains: &[KnownChain]) -> Vec<u8> {
    encode(chains)
}
