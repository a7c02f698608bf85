//! The new process: takes what the old one hands over, says when it serves, and goes on alone when it is told to.

use super::frame::{Channel, Kind};
use super::helper::Helper;
use super::{Described, Offer, Resumption, VARIABLE, VERSION};
use crate::config::limits;
use crate::control::failure::{Exit, StartFailure};
use crate::sys::{self, Passed};
use crate::trust::{Blocks, KnownChain, PolicyId};
use crate::worker::{Inheritance, Lent};
use rustls_pki_types::CertificateDer;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use zeroize::Zeroizing;

/// What a process that can hand over begins with. Made before it has threads.
#[derive(Debug)]
pub struct Succession {
    /// `None`: it cannot hand over, for this reason.
    pub helper: Result<Arc<Helper>, String>,
    /// The process before, where this one was started to take over from it.
    pub predecessor: Option<Predecessor>,
    /// What the service manager passed to this process.
    pub passed: Vec<Passed>,
}

/// What a process begins with that others made.
#[derive(Debug, Default)]
pub struct Given<'a> {
    /// The process before.
    pub legacy: Option<&'a mut Legacy>,
    /// The service manager: its sockets.
    pub passed: Vec<Passed>,
}

impl Succession {
    /// Splits the helper off and looks whether this process is to take over. Only before there are threads.
    ///
    /// # Errors
    /// It is to take over, and cannot.
    pub fn prepare() -> Result<Succession, StartFailure> {
        let helper =
            match std::process::id() {
                1 => Err("this is process 1 of its container, whose end is the container's; start a new container"
                    .to_owned()),
                _ => Helper::split_off().map(Arc::new).map_err(|error| format!("there is no helper: {error}")),
            };
        let predecessor = match std::env::var(VARIABLE) {
            Ok(number) => Some(Predecessor::of(&number)?),
            Err(_) => None,
        };
        let passed = passed_sockets(std::process::id()).map_err(|problem| {
            StartFailure::new(Exit::Config, format!("the sockets of systemd cannot be taken: {problem}"))
        })?;
        Ok(Succession { helper, predecessor, passed })
    }
}

/// The process before, until it lets go.
#[derive(Debug)]
pub struct Predecessor {
    channel: Channel,
}

/// What the process before hands over.
#[derive(Debug)]
pub struct Legacy {
    pub from: u32,
    pub blocks: Blocks,
    pub resumption: Resumption,
    pub keys: Option<Zeroizing<Vec<u8>>>,
    sockets: Vec<(Described, OwnedFd)>,
    chains: Vec<KnownChain>,
}

/// What the service manager passed to the process `pid`. Once, before descriptors are opened.
pub(super) fn passed_sockets(pid: u32) -> Result<Vec<Passed>, String> {
    sys::passed_sockets(pid, |key| std::env::var(key).ok(), limits::PASSED_SOCKETS_MAX)
}

fn failed(problem: impl std::fmt::Display) -> StartFailure {
    StartFailure::new(Exit::Internal, format!("taking over from the process before: {problem}"))
}

impl Predecessor {
    fn of(number: &str) -> Result<Predecessor, StartFailure> {
        let number = number.parse().map_err(|_| failed(format!("{VARIABLE}={number} is no descriptor; unset it")))?;
        let stream = sys::inherited_socket(number)
            .map_err(|error| failed(format!("{VARIABLE}={number} is not its socket: {error}; unset it")))?;
        Ok(Predecessor { channel: Channel::new(stream) })
    }

    /// Everything that is handed over; blocks until it is here.
    pub fn read(&self) -> Result<Legacy, StartFailure> {
        self.channel.patience(Some(limits::HAND_OVER_WORD_TIME_MAX)).map_err(failed)?;
        let (mut offer, mut descriptors) = (None, Vec::new());
        let (mut keys, mut chains) = (None, Vec::new());
        loop {
            let frame = self.channel.receive().map_err(failed)?.ok_or_else(|| failed("it ended"))?;
            match frame.kind {
                Kind::OFFER => offer = Some(self.understood(&frame.bytes)?),
                Kind::DESCRIPTORS => descriptors.extend(frame.descriptors),
                Kind::KEYS => keys = Some(frame.bytes),
                Kind::CHAINS => chains = decode(&frame.bytes),
                Kind::END => break,
                _ => {}
            }
        }
        let offer = offer.ok_or_else(|| failed("it offered nothing"))?;
        if offer.sockets.len() != descriptors.len() {
            return Err(self.refuse("the sockets do not match the offer"));
        }
        let sockets = offer.sockets.into_iter().zip(descriptors).collect();
        let Offer { pid: from, blocks, resumption, .. } = Offer { sockets: Vec::new(), ..offer };
        Ok(Legacy { from, blocks, resumption, keys, sockets, chains })
    }

    fn understood(&self, bytes: &[u8]) -> Result<Offer, StartFailure> {
        #[derive(serde::Deserialize)]
        struct Form {
            version: u32,
        }
        let form: Form = serde_json::from_slice(bytes).map_err(|error| self.refuse(&error.to_string()))?;
        if form.version != VERSION {
            let problem = format!(
                "it offers form {}, and this program knows {VERSION}; restart the service to change to this program",
                form.version
            );
            return Err(self.refuse(&problem));
        }
        serde_json::from_slice(bytes).map_err(|error| self.refuse(&error.to_string()))
    }

    /// Tells the process before why this one will not do.
    fn refuse(&self, problem: &str) -> StartFailure {
        let _ = self.channel.send(Kind::REFUSED, problem.as_bytes(), &[]);
        failed(problem)
    }

    /// Says that this process serves, and waits for the word to go on alone; the blocks of that moment come with it.
    /// Blocks for a moment.
    pub fn take_over(self) -> Result<(Blocks, Elder), StartFailure> {
        self.channel.patience(Some(limits::HAND_OVER_WORD_TIME_MAX)).map_err(failed)?;
        self.channel.send(Kind::SERVING, b"", &[]).map_err(failed)?;
        loop {
            match self.channel.receive().map_err(failed)? {
                Some(frame) if frame.kind == Kind::GO => {
                    let blocks = serde_json::from_slice(&frame.bytes).map_err(failed)?;
                    // Its ear must never hold this process up.
                    self.channel.patience(Some(Duration::from_millis(200))).map_err(failed)?;
                    return Ok((blocks, Elder(Mutex::new(Some(self.channel)))));
                }
                Some(_) => {}
                None => return Err(failed("it went on by itself")),
            }
        }
    }
}

impl Legacy {
    /// What the workers begin with.
    pub fn for_workers(&mut self) -> Inheritance {
        let (mut sockets, mut passed, mut rest) = (Vec::new(), Vec::new(), Vec::new());
        for (described, descriptor) in self.sockets.drain(..) {
            match described {
                Described::Passed { name } => {
                    passed.push(Passed { name, socket: Ok(TcpListener::from(descriptor)) });
                }
                Described::Listener { name, address, worker } => {
                    sockets.push(Lent {
                        listener: name.into(),
                        address,
                        worker,
                        socket: TcpListener::from(descriptor),
                    });
                }
                other => rest.push((other, descriptor)),
            }
        }
        self.sockets = rest;
        Inheritance { sockets, chains: std::mem::take(&mut self.chains), passed }
    }

    /// The admin socket for an address, if it was handed over.
    pub fn admin(&mut self, probe: bool, wanted: SocketAddr) -> Option<TcpListener> {
        let of = |described: &Described| match described {
            Described::AdminHttp { address } if !probe => *address == wanted,
            Described::AdminProbe { address } if probe => *address == wanted,
            _ => false,
        };
        self.take(of).map(TcpListener::from)
    }

    /// The socket at a path, if it was handed over.
    pub fn socket(&mut self, wanted: &Path) -> Option<UnixListener> {
        let of = |described: &Described| matches!(described, Described::AdminSocket { path } if path == wanted);
        self.take(of).map(UnixListener::from)
    }

    fn take(&mut self, of: impl Fn(&Described) -> bool) -> Option<OwnedFd> {
        let place = self.sockets.iter().position(|(described, _)| of(described))?;
        Some(self.sockets.swap_remove(place).1)
    }
}

/// The old process after it let go, while its connections end: it is told of blocks and reloads.
#[derive(Debug, Default)]
pub struct Elder(Mutex<Option<Channel>>);

impl Elder {
    /// These blocks count there too.
    pub fn tell_blocks(&self, blocks: &Blocks) {
        if let Ok(bytes) = serde_json::to_vec(blocks) {
            self.tell(Kind::BLOCKS, &bytes);
        }
    }

    /// Its connections are to be judged by what the files say now.
    pub fn tell_reloaded(&self) {
        self.tell(Kind::RELOADED, b"");
    }

    /// Takes the place of another one.
    pub fn set(&self, other: Elder) {
        let channel = other.0.into_inner().unwrap_or_else(PoisonError::into_inner);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = channel;
    }

    fn tell(&self, kind: Kind, bytes: &[u8]) {
        let mut channel = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let told: Option<io::Result<()>> = channel.as_ref().map(|channel| channel.send(kind, bytes, &[]));
        if let Some(Err(error)) = told {
            // It has ended, as it should sooner or later.
            tracing::debug!(%error, "the process before is gone");
            *channel = None;
        }
    }
}

/// What [`super::giving`] wrote; stops at what it cannot read.
fn decode(bytes: &[u8]) -> Vec<KnownChain> {
    let mut rest = bytes;
    std::iter::from_fn(|| next_chain(&mut rest)).take(limits::HANDED_CHAINS_MAX).collect()
}

fn next_chain(rest: &mut &[u8]) -> Option<KnownChain> {
    let (policy, bytes) = rest.split_first_chunk::<32>()?;
    let (count, mut bytes) = bytes.split_first()?;
    let mut certificates = Vec::new();
    for _ in 0..*count {
        let (len, more) = bytes.split_first_chunk::<4>()?;
        let (der, more) = more.split_at_checked(u32::from_be_bytes(*len) as usize)?;
        certificates.push(CertificateDer::from(der.to_vec()));
        bytes = more;
    }
    *rest = bytes;
    Some(KnownChain { policy: PolicyId(*policy), certificates })
}

#[cfg(test)]
pub(super) fn decoded(bytes: &[u8]) -> Vec<KnownChain> {
    decode(bytes)
}
