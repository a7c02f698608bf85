//! The trial: what this kernel's TLS can be trusted with, found out on loopback pairs and not by its version number. It
//! takes some milliseconds, once in a process.

use super::super::splice::Pipe;
use super::keys::{self, Cipher, Direction, Keys, Version};
use super::message::{self, ALERT, HANDSHAKE, Record};
use super::{attach, given_to_tcp};
use std::fmt;
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use zeroize::Zeroizing;

/// How long one step may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// The step that fails where the module is missing.
const ATTACHING: &str = "attaching to a socket";
/// Bytes of a message of several records.
const LONG: usize = 40_000;

/// What the kernel may be trusted with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trust {
    release: String,
    /// By version and cipher, in the order of their `ALL`.
    passed: [[bool; 3]; 2],
    rekeys: bool,
    /// What was not passed, and why.
    failures: Vec<String>,
    loaded: bool,
    /// A connection over loopback could be made, to try anything on.
    connected: bool,
}

/// The trial's result, which the first caller waits for.
pub fn trust() -> &'static Trust {
    static TRUST: OnceLock<Trust> = OnceLock::new();
    TRUST.get_or_init(Trust::try_out)
}

impl Trust {
    /// Whether connections of this version and suite may be handed over. TLS 1.3 only where keys can be changed: a client
    /// may do so at any time.
    pub fn takes(&self, version: Version, cipher: Cipher) -> bool {
        self.passed[version as usize][cipher as usize] && (version == Version::Tls12 || self.rekeys)
    }

    /// Whether what is sent on connections of this version and suite may be sealed, by whoever can do without changing the
    /// keys where the kernel cannot.
    pub fn seals(&self, version: Version, cipher: Cipher) -> bool {
        self.passed[version as usize][cipher as usize]
    }

    /// Whether [`Trust::seals`] holds for anything.
    pub fn seals_any(&self) -> bool {
        self.passed.iter().flatten().any(|passed| *passed)
    }

    /// Whether keys can be changed.
    pub fn changes_keys(&self) -> bool {
        self.rekeys
    }

    /// Whether anything may be handed over.
    pub fn takes_any(&self) -> bool {
        Version::ALL.iter().any(|version| Cipher::ALL.iter().any(|cipher| self.takes(*version, *cipher)))
    }

    /// Whether the kernel does all that `ktls = "require"` asks: both AES-GCM suites of TLS 1.3, with changes of keys.
    pub fn takes_tls13(&self) -> bool {
        [Cipher::Aes128Gcm, Cipher::Aes256Gcm].iter().all(|cipher| self.takes(Version::Tls13, *cipher))
    }

    /// What to do where [`Trust::takes_tls13`] is false.
    pub fn advice(&self) -> &'static str {
        match (self.loaded, self.rekeys) {
            _ if !self.connected => {
                "the trial needs TCP over 127.0.0.1: bring it up with `ip link set lo up`, or write ktls = \"auto\""
            }
            (false, _) => {
                "load the kernel's module with `modprobe tls` (it needs CONFIG_TLS) and name it in \
                 /etc/modules-load.d/tls.conf for the next boot, or write ktls = \"auto\""
            }
            (true, false) => "run Linux 6.14 or later, which can change the keys of TLS 1.3, or write ktls = \"auto\"",
            (true, true) => "load the ciphers' modules with `modprobe -a gcm aesni_intel`, or write ktls = \"auto\"",
        }
    }

    fn try_out() -> Trust {
        let release = rustix::system::uname().release().to_string_lossy().into_owned();
        let (passed, rekeys, failures, loaded, connected) = Default::default();
        let mut trust = Trust { release, passed, rekeys, failures, loaded, connected };
        match Pair::new() {
            Ok(_) => (trust.connected, trust.loaded) = (true, true),
            Err(failure) => {
                trust.connected = failure.step == ATTACHING;
                trust.failures.push(failure.to_string());
                return trust;
            }
        }
        for version in Version::ALL {
            for cipher in Cipher::ALL {
                match suite(version, cipher) {
                    Ok(()) => trust.passed[version as usize][cipher as usize] = true,
                    Err(failure) => trust.failures.push(format!("{} {}: {failure}", name(version), suite_name(cipher))),
                }
            }
        }
        match change_of_keys() {
            Ok(()) => trust.rekeys = true,
            Err(failure) => trust.failures.push(format!("TLS 1.3 change of keys: {failure}")),
        }
        trust
    }
}

impl fmt::Display for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.loaded {
            let why = self.failures.join("; ");
            return write!(f, "kernel {} has no TLS: its module is not loaded, or was not built ({why})", self.release);
        }
        let taken = |version| {
            let ciphers = Cipher::ALL.into_iter().filter(|cipher| self.takes(version, *cipher));
            let names: Vec<_> = ciphers.map(suite_name).collect();
            if names.is_empty() { "none".to_owned() } else { names.join(" ") }
        };
        write!(f, "kernel {}: TLS 1.3 {}; TLS 1.2 {}", self.release, taken(Version::Tls13), taken(Version::Tls12))?;
        for failure in &self.failures {
            write!(f, "; {failure}")?;
        }
        match self.seals(Version::Tls13, Cipher::Aes128Gcm) && !self.rekeys {
            true => write!(f, "; a listener's ktls = \"tx\" seals TLS 1.3 all the same"),
            false => Ok(()),
        }
    }
}

fn name(version: Version) -> &'static str {
    match version {
        Version::Tls12 => "TLS 1.2",
        Version::Tls13 => "TLS 1.3",
    }
}

fn suite_name(cipher: Cipher) -> &'static str {
    match cipher {
        Cipher::Aes128Gcm => "AES-128-GCM",
        Cipher::Aes256Gcm => "AES-256-GCM",
        Cipher::ChaCha20Poly1305 => "ChaCha20-Poly1305",
    }
}

/// A step that did not go as it must.
#[derive(Debug)]
struct Failure {
    step: &'static str,
    what: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.step, self.what)
    }
}

fn at(step: &'static str) -> impl Fn(io::Error) -> Failure {
    move |error| Failure { step, what: error.to_string() }
}

/// Both ends of a loopback connection, with the kernel's TLS layer and no keys yet.
struct Pair {
    sender: TcpStream,
    receiver: TcpStream,
}

impl Pair {
    fn new() -> Result<Pair, Failure> {
        let made = (|| {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
            let sender = TcpStream::connect_timeout(&listener.local_addr()?, PATIENCE)?;
            let receiver = accepted(&listener, sender.local_addr()?)?;
            sender.set_write_timeout(Some(PATIENCE))?;
            Ok((sender, receiver))
        })();
        let (sender, receiver) = made.map_err(at("a connection over loopback"))?;
        attach(sender.as_raw_fd()).map_err(at(ATTACHING))?;
        attach(receiver.as_raw_fd()).map_err(at(ATTACHING))?;
        Ok(Pair { sender, receiver })
    }

    fn install(&self, keys: &Keys) -> Result<(), Failure> {
        keys.install(self.sender.as_raw_fd(), Direction::Transmit).map_err(at("keys to send with"))?;
        keys.install(self.receiver.as_raw_fd(), Direction::Receive).map_err(at("keys to receive with"))
    }

    /// Waits for the receiver and reads once.
    fn receive(&self, into: &mut [u8]) -> io::Result<Record> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match message::receive(self.receiver.as_raw_fd(), into) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => await_readable(&self.receiver, deadline)?,
                other => return other,
            }
        }
    }

    fn expect_data(&self, step: &'static str, wanted: &[u8]) -> Result<(), Failure> {
        let (mut bytes, mut read) = (vec![0; wanted.len()], 0);
        while read < wanted.len() {
            match self.receive(&mut bytes[read..]).map_err(at(step))? {
                Record::Data(count) if count > 0 => read += count,
                other => return Err(Failure { step, what: format!("{other:?} in place of data") }),
            }
        }
        if bytes == wanted { Ok(()) } else { Err(Failure { step, what: "other bytes came out".to_owned() }) }
    }

    fn expect_control(&self, step: &'static str, wanted: (u8, &[u8])) -> Result<(), Failure> {
        let mut bytes = [0; 64];
        let record = self.receive(&mut bytes).map_err(at(step))?;
        let (kind, body) = wanted;
        match record {
            Record::Control { kind: found, len } if (found, &bytes[..len]) == (kind, body) => Ok(()),
            other => Err(Failure { step, what: format!("{other:?} in place of a record of type {kind}") }),
        }
    }
}

fn await_readable(socket: &impl AsRawFd, deadline: Instant) -> io::Result<()> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(io::ErrorKind::TimedOut.into());
    }
    let mut wanted = libc::pollfd { fd: socket.as_raw_fd(), events: libc::POLLIN | libc::POLLRDHUP, revents: 0 };
    // SAFETY: one pollfd, and the count says one.
    let ready = unsafe { libc::poll(&mut wanted, 1, left.as_millis() as libc::c_int) };
    match io::Error::last_os_error() {
        // Whoever waits looks again; a signal is no verdict on the kernel.
        error if ready < 0 && error.kind() != io::ErrorKind::Interrupted => Err(error),
        _ => Ok(()),
    }
}

/// Takes the connection that comes from `own`: somebody else on this host may have been quicker to connect.
fn accepted(listener: &TcpListener, own: SocketAddr) -> io::Result<TcpStream> {
    let deadline = Instant::now() + PATIENCE;
    listener.set_nonblocking(true)?;
    loop {
        match listener.accept() {
            Ok((receiver, from)) if from == own => return Ok(receiver),
            Ok(_) if Instant::now() < deadline => {}
            Ok(_) => return Err(io::ErrorKind::TimedOut.into()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => await_readable(listener, deadline)?,
            Err(error) => return Err(error),
        }
    }
}

fn keys(version: Version, cipher: Cipher, seed: u8, sequence: u64) -> Keys {
    let bytes = if cipher == Cipher::Aes128Gcm { 16 } else { 32 };
    let key = Zeroizing::new((0..bytes).map(|at| seed.wrapping_mul(31) ^ at).collect());
    Keys { version, cipher, key, iv: [seed; 12], sequence }
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 7 + at / 251) as u8).collect()
}

/// Data, control records, splice both ways, numbers of records, and the account of what TCP was given.
fn suite(version: Version, cipher: Cipher) -> Result<(), Failure> {
    let mut pair = Pair::new()?;
    let base = given_to_tcp(pair.sender.as_raw_fd()).map_err(at("bytes given to TCP"))?;
    let keys = keys(version, cipher, 5, 3);
    pair.install(&keys)?;
    pair.receiver.set_nonblocking(true).map_err(at("making a socket non-blocking"))?;
    let mut pipe = Pipe::new(LONG).map_err(at("a pipe"))?;
    match pipe.fill_raw(pair.receiver.as_raw_fd(), LONG) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
        other => return Err(Failure { step: "splice before anything came", what: format!("{other:?}") }),
    }
    pair.sender.write_all(b"hello").map_err(at("sending"))?;
    pair.expect_data("receiving", b"hello")?;
    message::send(pair.sender.as_raw_fd(), ALERT, &[1, 90]).map_err(at("sending an alert"))?;
    refuses_control_records(&pair, &mut pipe)?;
    pair.expect_control("receiving an alert", (ALERT, &[1, 90]))?;
    spliced(&mut pair, &mut pipe)?;
    let expected = keys.sequence + 2;
    let (sent, received) = (
        keys::sequence(pair.sender.as_raw_fd(), Direction::Transmit, cipher).map_err(at("number of records sent"))?,
        keys::sequence(pair.receiver.as_raw_fd(), Direction::Receive, cipher)
            .map_err(at("number of records received"))?,
    );
    if sent != received || sent < expected + 2 * (LONG as u64 >> 14) {
        return Err(Failure { step: "numbers of records", what: format!("{sent} sent, {received} received") });
    }
    let plain = 5 + 2 + 2 * LONG as u64;
    let sealed = base + plain + (sent - keys.sequence) * keys.record_overhead();
    let given = given_to_tcp(pair.sender.as_raw_fd()).map_err(at("bytes given to TCP"))?;
    match given == sealed {
        true => Ok(()),
        false => Err(Failure { step: "bytes given to TCP", what: format!("{given} in place of {sealed}") }),
    }
}

/// Splice must stop at a control record and leave it where it is.
fn refuses_control_records(pair: &Pair, pipe: &mut Pipe) -> Result<(), Failure> {
    let step = "splice at an alert";
    await_readable(&pair.receiver, Instant::now() + PATIENCE).map_err(at(step))?;
    match pipe.fill_raw(pair.receiver.as_raw_fd(), LONG) {
        Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EIO)) => Ok(()),
        other => Err(Failure { step, what: format!("{other:?} in place of EINVAL") }),
    }
}

/// A long message by splice into the sealing socket, and another by splice out of the opening one.
fn spliced(pair: &mut Pair, pipe: &mut Pipe) -> Result<(), Failure> {
    let (step, long) = ("splice", pattern(LONG));
    let (mut plain_in, plain_out) = std::os::unix::net::UnixStream::pair().map_err(at(step))?;
    let deadline = Instant::now() + PATIENCE;
    let mut done = 0;
    for part in long.chunks(8000) {
        plain_in.write_all(part).map_err(at(step))?;
        while done < part.len() {
            done += pipe.fill_raw(plain_out.as_raw_fd(), part.len() - done).map_err(at(step))?;
        }
        while !pipe.is_empty() {
            pipe.drain_raw(pair.sender.as_raw_fd()).map_err(at(step))?;
        }
        done = 0;
    }
    pair.expect_data("splice into kernel TLS", &long)?;
    pair.sender.write_all(&long).map_err(at(step))?;
    let (mut sink, mut got) = (vec![0; LONG], 0);
    while got < LONG {
        match pipe.fill_raw(pair.receiver.as_raw_fd(), LONG - got) {
            Ok(0) => return Err(Failure { step: "splice out of kernel TLS", what: "an end".to_owned() }),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                await_readable(&pair.receiver, deadline).map_err(at("splice out of kernel TLS"))?;
            }
            Err(error) => return Err(at("splice out of kernel TLS")(error)),
        }
        while !pipe.is_empty() {
            let moved = pipe.drain_raw(plain_in.as_raw_fd()).map_err(at(step))?;
            io::Read::read_exact(&mut &plain_out, &mut sink[got..got + moved]).map_err(at(step))?;
            got += moved;
        }
    }
    if sink == long {
        Ok(())
    } else {
        Err(Failure { step: "splice out of kernel TLS", what: "other bytes".to_owned() })
    }
}

/// A KeyUpdate: the receiver must stop at it, take new keys, and go on.
fn change_of_keys() -> Result<(), Failure> {
    let mut pair = Pair::new()?;
    let [old, new] = [1, 2].map(|seed| keys(Version::Tls13, Cipher::Aes128Gcm, seed, 0));
    pair.install(&old)?;
    let update = [24, 0, 0, 1, 0];
    pair.sender.write_all(b"before").map_err(at("sending"))?;
    message::send(pair.sender.as_raw_fd(), HANDSHAKE, &update).map_err(at("sending a KeyUpdate"))?;
    new.install(pair.sender.as_raw_fd(), Direction::Transmit).map_err(at("new keys to send with"))?;
    pair.sender.write_all(b"behind").map_err(at("sending under new keys"))?;
    pair.expect_data("receiving", b"before")?;
    pair.expect_control("receiving a KeyUpdate", (HANDSHAKE, &update))?;
    let early = message::receive(pair.receiver.as_raw_fd(), &mut [0; 16]);
    if early.as_ref().err().and_then(io::Error::raw_os_error) != Some(libc::EKEYEXPIRED) {
        return Err(Failure { step: "waiting for new keys", what: format!("{early:?} in place of EKEYEXPIRED") });
    }
    new.install(pair.receiver.as_raw_fd(), Direction::Receive).map_err(at("new keys to receive with"))?;
    pair.expect_data("receiving under new keys", b"behind")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_trial_ends_soon_and_says_either_what_is_taken_or_why_not() {
        let trust = trust();
        assert!(trust.takes_any() || !trust.failures.is_empty(), "{trust}");
        println!("{trust}");
    }

    #[test]
    fn without_changes_of_keys_tls_1_3_is_not_taken_and_the_advice_is_a_newer_kernel() {
        let (release, failures) = Default::default();
        let (passed, loaded, connected) = ([[true; 3]; 2], true, true);
        let mut trust = Trust { release, passed, rekeys: false, failures, loaded, connected };
        assert!(!trust.takes(Version::Tls13, Cipher::Aes128Gcm) && trust.takes(Version::Tls12, Cipher::Aes128Gcm));
        assert!(trust.seals(Version::Tls13, Cipher::Aes128Gcm) && trust.to_string().contains("\"tx\""));
        assert!(!trust.takes_tls13() && trust.advice().contains("6.14"));
        trust.rekeys = true;
        assert!(trust.takes_tls13());
        trust.loaded = false;
        assert!(trust.advice().contains("modprobe tls"));
        trust.connected = false;
        assert!(trust.advice().contains("127.0.0.1"));
    }

    /// Kernels lose bytes here when they are asked for more than there are pages for: see `Pipe::fill_records`.
    #[test]
    fn no_byte_of_a_record_is_lost_where_a_pipe_has_few_pages() {
        let cipher = Cipher::Aes128Gcm;
        let Some(version) = Version::ALL.into_iter().find(|version| trust().takes(*version, cipher)) else {
            println!("skipped: {}", trust());
            return;
        };
        for pages in [2, 3, 5, 16] {
            assert_eq!(through_few_pages(version, cipher, pages, Pipe::fill_records_raw), Ok(()), "{pages} pages");
        }
    }

    /// Short and long records, several on their way at once, so that a long one finds the pipe half full.
    fn through_few_pages(
        version: Version,
        cipher: Cipher,
        pages: usize,
        fill: fn(&mut Pipe, i32, usize) -> io::Result<usize>,
    ) -> Result<(), String> {
        let mut pair = Pair::new().unwrap();
        pair.install(&keys(version, cipher, 9, 0)).unwrap();
        let mut pipe = Pipe::new(pages << 12).unwrap();
        let (plain_in, plain_out) = std::os::unix::net::UnixStream::pair().unwrap();
        let records = [16_384, 10, 16_384, 4096, 1, 1, 1, 16_383, 12_289, 8193].map(pattern);
        records.iter().for_each(|record| pair.sender.write_all(record).unwrap());
        let (sent, mut got) = (records.concat(), Vec::new());
        while got.len() < sent.len() {
            match fill(&mut pipe, pair.receiver.as_raw_fd(), 1 << 16) {
                Ok(_) => continue,
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error.to_string()),
                Err(_) if pipe.is_empty() => await_readable(&pair.receiver, Instant::now() + PATIENCE).unwrap(),
                Err(_) => {}
            }
            while !pipe.is_empty() {
                let moved = pipe.drain_raw(plain_in.as_raw_fd()).unwrap();
                let start = got.len();
                got.resize(start + moved, 0);
                io::Read::read_exact(&mut &plain_out, &mut got[start..]).unwrap();
            }
            if got[..] != sent[..got.len()] {
                return Err(format!("other bytes within the first {}", got.len()));
            }
        }
        Ok(())
    }
}
