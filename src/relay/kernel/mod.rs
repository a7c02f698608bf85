//! The kernel path: after the handshake the keys go to the kernel, and bytes move between the sockets through pipes,
//! without visiting user space. What the user-space path promises holds here too: order, back-pressure, half-closes, and
//! that no truncation looks like an orderly end.
//!
//! Each direction by itself may have its records opened or sealed here instead, if the listener says so. A connection never
//! comes back: what the kernel cannot do ends it with a reason.

mod downward;
mod ending;
mod exact;
mod records;
mod transfer;
mod upward;

pub(super) use ending::finish;
pub(super) use exact::{peek, take_away};
use records::{By, Records};
pub(super) use transfer::KernelTransfer;

use super::{Entry, Host};
use crate::config::{Directions, Splice};
use crate::sys::Socket;
use crate::sys::ktls::{Cipher, Direction, Keys, Trust, Version};
use crate::tls::{Bulk, KernelSession, Session, Stay, TrafficKeys};
use crate::wire::audit::Path;
use std::rc::Rc;

/// Which way a connection goes from here.
pub(super) enum Way {
    User(Box<Session>),
    Kernel(Box<Entered>),
    /// The keys were taken out, and the kernel did not take them: what the operator reads.
    Lost(String),
}

/// A connection whose keys the kernel has.
pub(super) struct Entered {
    pub records: Records,
    pub session: KernelSession,
    /// Bytes go through pipes, where pipes can be had.
    pub by_pipes: bool,
}

impl Entered {
    /// The way of its bytes, for the audit.
    pub fn path(&self) -> Path {
        let all = [Direction::Transmit, Direction::Receive].iter().all(|way| self.records.by(*way) == By::Kernel);
        if self.by_pipes && all { Path::Splice } else { Path::Ktls }
    }
}

/// Gives the connection to the kernel if it can be done without losing a byte.
pub(super) fn enter<H: Host>(
    host: &Rc<H>,
    entry: &Entry,
    (client, backend): (&Socket, &Socket),
    session: Session,
) -> Way {
    let user = |session, why: Option<Stay>| {
        if let Some(why) = why {
            host.stayed(why);
        }
        Way::User(Box::new(session))
    };
    if !session.may_leave() {
        return user(session, None);
    }
    let Some(port) = client.kernel_tls() else { return user(session, None) };
    let (tls13, bulk) = match session.leaving() {
        Ok(suite) => suite,
        Err(why) => return user(session, Some(why)),
    };
    let Some(shares) = shares(entry.kernel.ktls, port.trust(), (version_of(tls13), cipher_of(bulk))) else {
        return user(session, Some(Stay::Suite));
    };
    if port.attach().is_err() {
        return user(session, Some(Stay::Refused));
    }
    let departed = match session.into_kernel(host.reactor().now()) {
        Ok(departed) => departed,
        Err(failure) => return Way::Lost(failure.detail),
    };
    let (records, session) = match Records::new(port, bulk, shares, departed) {
        Ok(records) => records,
        Err(detail) => return Way::Lost(detail),
    };
    // Of what `splice` must not wait for, the pipe's side alone goes by its own flag.
    if let Err(error) = client.make_nonblocking().and_then(|()| backend.make_nonblocking()) {
        return Way::Lost(format!("the connection's sockets cannot be made non-blocking: {error}"));
    }
    let by_pipes = entry.kernel.splice != Splice::Off;
    Way::Kernel(Box::new(Entered { records, session, by_pipes }))
}

/// Who seals and who opens. What TLS 1.3 needs of a kernel, it needs for what is received: a client may change its keys at
/// any time. What we send goes under the same keys until the client asks for others, which is rare; so a kernel that cannot
/// change keys may seal where the operator asks for just that, and the client that asks for others is sent away.
fn shares(wanted: Directions, trust: &Trust, (version, cipher): (Version, Cipher)) -> Option<(By, By)> {
    let (suits, shares) = match wanted {
        Directions::Off => return None,
        Directions::Auto | Directions::Both => (trust.takes(version, cipher), (By::Kernel, By::Kernel)),
        Directions::Transmit => (trust.seals(version, cipher), (By::Kernel, By::Us)),
        Directions::Receive => (trust.takes(version, cipher), (By::Us, By::Kernel)),
    };
    suits.then_some(shares)
}

fn version_of(tls13: bool) -> Version {
    if tls13 { Version::Tls13 } else { Version::Tls12 }
}

fn cipher_of(bulk: Bulk) -> Cipher {
    match bulk {
        Bulk::Aes128Gcm => Cipher::Aes128Gcm,
        Bulk::Aes256Gcm => Cipher::Aes256Gcm,
        Bulk::ChaCha20Poly1305 => Cipher::ChaCha20Poly1305,
    }
}

fn keys_of(keys: &TrafficKeys) -> Keys {
    Keys {
        version: version_of(keys.tls13),
        cipher: cipher_of(keys.bulk),
        key: keys.key.clone(),
        iv: keys.iv,
        sequence: keys.sequence,
    }
}
