//! From accept to an admitted client, under one absolute deadline.

use super::{Account, Entry, Host, Limit, Live, arrival, kernel};
use crate::config::limits;
use crate::sys::{self, Lease, Size, Socket};
use crate::tls::{Cost, Failure, QuotaPlace, Session, Status};
use crate::trust::Reason;
use rustls_pki_types::UnixTime;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::{Duration, UNIX_EPOCH};

/// A finished handshake and what the client sent behind it. Handed on in a box: futures keep room for each move.
pub(super) struct Greeted {
    pub session: Session,
    pub early: Vec<u8>,
    /// The client's close_notify came with its first bytes.
    pub peer_closed: bool,
    /// CPU time that TLS took.
    pub cpu: Duration,
    /// Counts the connection for its identity as long as it is held.
    pub place: Option<QuotaPlace>,
}

/// A handshake that did not end well; the account tells how.
pub(super) struct Refused {
    /// Whether anything came from the client at all: a TCP health check sends nothing.
    pub spoke: bool,
    /// An alert was sent, and the client needs a moment to read it: [`say_goodbye`].
    pub alerted: bool,
}

/// The reactor's wall clock as TLS wants it.
pub(super) fn unix_now<H: Host>(host: &H) -> UnixTime {
    UnixTime::since_unix_epoch(host.reactor().wall().duration_since(UNIX_EPOCH).unwrap_or_default())
}

/// Runs the handshake. On failure the alert has been sent.
pub(super) async fn handshake<H: Host>(
    host: &Rc<H>,
    entry: &Entry,
    client: &Socket,
    account: &mut Account,
    live: &Live,
) -> Result<Box<Greeted>, Refused> {
    let deadline = account.accepted_at() + entry.limits.handshake_timeout;
    let mut talk = Talk::new(&**host, entry);
    let run = live.signal.unless(talk.arrive(host, entry, client, account, live));
    let outcome = host.reactor().until(deadline, run).await;
    let (spoke, alerted) = (talk.spoke, talk.failed);
    match outcome {
        Some(Ok(Ok((early, peer_closed)))) => {
            let place = talk.session.take_place();
            let greeted = Greeted { session: talk.session, early, peer_closed, cpu: talk.cpu, place };
            return Ok(Box::new(greeted));
        }
        Some(Ok(Err(()))) => {}
        Some(Err(_)) => account.refused(Reason::Timeout, "the process is stopping and the handshake was not done"),
        None if live.client.get().is_none() => {
            account.refused(Reason::Timeout, "the PROXY header was not whole within handshake_timeout");
        }
        None => account.refused(
            Reason::Timeout,
            "the handshake was not done within handshake_timeout; a slow network, or a client that waits for something",
        ),
    }
    Err(Refused { spoke, alerted })
}

struct Talk {
    session: Session,
    spoke: bool,
    failed: bool,
    cpu: Duration,
    /// The ClientHello is whole.
    heard: bool,
    /// A full handshake was taken off what its source may begin.
    charged: bool,
    /// Whether the client has more connections than it may was looked at.
    looked: bool,
    /// Bytes that the last step used up and that are in the socket still.
    peeked: usize,
    /// What the handshake ran into.
    limit: Limit,
}

impl Talk {
    fn new<H: Host>(host: &H, entry: &Entry) -> Talk {
        let session = Session::new(entry.sites.clone(), host.environment()).with_quota(host.quota(entry));
        let (spoke, failed, heard, charged, looked, peeked, cpu) = Default::default();
        Talk { session, spoke, failed, cpu, heard, charged, looked, peeked, limit: Limit::ConnectionsPerIdentity }
    }

    /// Learns who comes, then speaks TLS with them.
    async fn arrive<H: Host>(
        &mut self,
        host: &Rc<H>,
        entry: &Entry,
        client: &Socket,
        account: &mut Account,
        live: &Live,
    ) -> Result<(Vec<u8>, bool), ()> {
        let mut first = Vec::new();
        if arrival::is_proxied(entry, account.client()) {
            first = arrival::read_header(client, account, &mut self.spoke).await?;
        }
        let _ = live.client.set(account.client());
        self.run(host, entry, client, account, first).await
    }

    /// Feeds what comes, `first` before all, until the session is open; plaintext behind the handshake is returned.
    async fn run<H: Host>(
        &mut self,
        host: &Rc<H>,
        entry: &Entry,
        client: &Socket,
        account: &mut Account,
        first: Vec<u8>,
    ) -> Result<(Vec<u8>, bool), ()> {
        let mut early = Vec::new();
        let mut waiting = Some(first).filter(|first| !first.is_empty()).map(Input::Kept);
        loop {
            let input = match waiting.take() {
                Some(input) => input,
                None => self.receive(host, client, account).await?,
            };
            let mut out = host.shelf().take();
            let fed = self.step(host, entry, account.client().ip(), input, (&mut early, &mut out)).await;
            let taken = kernel::take_away(client, std::mem::take(&mut self.peeked));
            if let (Err(error), Ok(_)) = (&taken, &fed) {
                account.refused(Reason::TcpReset, &format!("the connection broke during the handshake: {error}"));
                return Err(());
            }
            #[cfg(debug_assertions)]
            super::fault::panic_if_asked("handshake", self.session.sni());
            if let Err(failure) = &fed {
                if failure.reason == Reason::RateLimited {
                    host.limited(self.limit);
                }
                account.failed(failure);
                self.failed = true;
            }
            if !out.is_empty() {
                let (sent, out) = client.send(out).await;
                host.shelf().give(out);
                if let (Err(error), Ok(_)) = (&sent, &fed) {
                    account.refused(Reason::TcpReset, &format!("the connection broke during the handshake: {error}"));
                    return Err(());
                }
            }
            match fed {
                Ok(Status::Handshaking) => {}
                Ok(Status::Open) => return Ok((early, false)),
                Ok(Status::PeerClosed) => return Ok((early, true)),
                Err(_) => return Err(()),
            }
        }
    }

    /// One step of the handshake, once its turn has come.
    async fn step<H: Host>(
        &mut self,
        host: &Rc<H>,
        entry: &Entry,
        source: IpAddr,
        mut input: Input,
        (plain, out): (&mut Vec<u8>, &mut Vec<u8>),
    ) -> Result<Status, Box<Failure>> {
        if !self.heard {
            let Some(cost) = self.session.hear(input.bytes(), unix_now(&**host), out)? else {
                return Ok(Status::Handshaking);
            };
            self.heard = true;
            // The session has it all.
            input = Input::Kept(Vec::new());
            if cost == Cost::Full {
                self.charge(&**host, entry, source, out)?;
            }
        }
        let cost = self.session.cost();
        if !host.pacer().try_begin(cost) {
            // Whoever waits holds no buffer that others receive with.
            if let Input::Fresh(lease) = input {
                input = Input::Kept(lease.to_vec());
            }
            host.pacer().begin(cost).await;
        }
        let before = sys::thread_cpu_time();
        let fed = match &mut input {
            Input::Peeked(bytes) => {
                let (fed, used) = self.session.feed_to_the_end(bytes, unix_now(&**host), plain, out);
                // Behind an error nothing is left to wait for.
                self.peeked = if fed.is_ok() { used } else { bytes.len() };
                fed
            }
            input => self.session.feed(input.bytes(), unix_now(&**host), plain, out),
        };
        self.cpu += sys::thread_cpu_time().saturating_sub(before);
        let status = fed?;
        if self.session.is_full() {
            self.charge(&**host, entry, source, out)?;
        } else if !std::mem::replace(&mut self.looked, true)
            && let Some(detail) = self.session.resumes_in_vain()
        {
            return Err(self.session.refuse(Reason::RateLimited, &detail, out));
        }
        Ok(status)
    }

    /// Takes a full handshake off what its source may begin in this second, once; refuses where nothing is left. Mostly
    /// that is before anything was computed: only a ticket of ours that is not taken makes it come later.
    fn charge<H: Host>(
        &mut self,
        host: &H,
        entry: &Entry,
        source: IpAddr,
        out: &mut Vec<u8>,
    ) -> Result<(), Box<Failure>> {
        if self.charged || host.may_begin_full(entry, source) {
            self.charged = true;
            return Ok(());
        }
        self.limit = Limit::FullHandshakesPerSource;
        let most = entry.limits.full_handshakes_per_second_per_source;
        let detail = format!(
            "this source has begun as many full handshakes as it may, {most} a second; see \
             listener.limits.full_handshakes_per_second_per_source"
        );
        Err(self.session.refuse(Reason::RateLimited, &detail, out))
    }

    async fn receive<H: Host>(&mut self, host: &Rc<H>, client: &Socket, account: &mut Account) -> Result<Input, ()> {
        // Where the kernel may take over after the handshake, nothing behind it may be read.
        let received = match self.session.reads_exactly() && client.kernel_tls().is_some() {
            true => kernel::peek(host, client).await.map(|bytes| bytes.map(Input::Peeked)),
            false => client.receive(Size::Small).await.map(|lease| lease.map(Input::Fresh)),
        };
        let detail = match received {
            Ok(Some(input)) => {
                self.spoke = true;
                return Ok(input);
            }
            Ok(None) => "the client closed the connection during the handshake".to_owned(),
            Err(error) => format!("the connection broke during the handshake: {error}"),
        };
        account.refused(Reason::TcpReset, &detail);
        Err(())
    }
}

/// What the session is fed with.
enum Input {
    Fresh(Lease),
    Kept(Vec<u8>),
    /// Still in the socket.
    Peeked(Vec<u8>),
}

impl Input {
    fn bytes(&mut self) -> &mut [u8] {
        match self {
            Input::Fresh(lease) => lease,
            Input::Kept(bytes) | Input::Peeked(bytes) => bytes,
        }
    }
}

/// After a last alert or close_notify: ends our direction and swallows what the client still sends, for a bounded time
/// and amount. A close with unread bytes would be a reset, and the client might never see why it was refused.
pub(super) async fn say_goodbye<H: Host>(host: &Rc<H>, client: &Socket) {
    if client.shutdown_send().is_err() {
        return;
    }
    let deadline = host.reactor().now() + host.goodbye_time();
    let swallow = async {
        let mut left = limits::GOODBYE_BYTES_MAX;
        while let Ok(Some(lease)) = client.receive(Size::Small).await {
            left = left.saturating_sub(lease.len());
            if left == 0 {
                break;
            }
        }
    };
    host.reactor().until(deadline, swallow).await;
}
