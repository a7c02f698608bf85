//! From accept to an admitted client, under one absolute deadline.

use super::{Account, Entry, Host, Live, arrival};
use crate::config::limits;
use crate::sys::{self, Lease, Size, Socket};
use crate::tls::{Session, Status};
use crate::trust::Reason;
use rustls_pki_types::UnixTime;
use std::rc::Rc;
use std::time::{Duration, UNIX_EPOCH};

/// A finished handshake and what the client sent behind it.
pub(super) struct Greeted {
    pub session: Session,
    pub early: Vec<u8>,
    /// The client's close_notify came with its first bytes.
    pub peer_closed: bool,
    /// CPU time that TLS took.
    pub cpu: Duration,
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
) -> Result<Greeted, Refused> {
    let deadline = account.accepted_at() + entry.limits.handshake_timeout;
    let mut talk = Talk {
        session: Session::new(entry.sites.clone(), host.environment()),
        spoke: false,
        failed: false,
        cpu: Duration::ZERO,
    };
    let run = live.signal.unless(talk.arrive(host, entry, client, account, live));
    let outcome = host.reactor().until(deadline, run).await;
    let (spoke, alerted) = (talk.spoke, talk.failed);
    match outcome {
        Some(Ok(Ok((early, peer_closed)))) => {
            return Ok(Greeted { session: talk.session, early, peer_closed, cpu: talk.cpu });
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
}

impl Talk {
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
        self.run(host, client, account, first).await
    }

    /// Feeds what comes, `first` before all, until the session is open; plaintext behind the handshake is returned.
    async fn run<H: Host>(
        &mut self,
        host: &Rc<H>,
        client: &Socket,
        account: &mut Account,
        first: Vec<u8>,
    ) -> Result<(Vec<u8>, bool), ()> {
        let mut early = Vec::new();
        let mut waiting = Some(first).filter(|first| !first.is_empty()).map(Input::Kept);
        loop {
            let mut input = match waiting.take() {
                Some(input) => input,
                None => Input::Fresh(self.receive(client, account).await?),
            };
            let mut out = host.shelf().take();
            let before = sys::thread_cpu_time();
            let fed = self.session.feed(input.bytes(), unix_now(&**host), &mut early, &mut out);
            self.cpu += sys::thread_cpu_time().saturating_sub(before);
            drop(input);
            #[cfg(debug_assertions)]
            super::fault::panic_if_asked("handshake", self.session.sni());
            if let Err(failure) = &fed {
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

    async fn receive(&mut self, client: &Socket, account: &mut Account) -> Result<Lease, ()> {
        let detail = match client.receive(Size::Small).await {
            Ok(Some(lease)) => {
                self.spoke = true;
                return Ok(lease);
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
}

impl Input {
    fn bytes(&mut self) -> &mut [u8] {
        match self {
            Input::Fresh(lease) => lease,
            Input::Kept(bytes) => bytes,
        }
    }
}

/// After a last alert or close_notify: ends our direction and swallows what the client still sends, for a bounded time
/// and amount. A close with unread bytes would be a reset, and the client might never see why it was refused.
pub(super) async fn say_goodbye<H: Host>(host: &Rc<H>, client: &Socket) {
    if client.shutdown_send().is_err() {
        return;
    }
    let deadline = host.reactor().now() + Duration::from_millis(limits::GOODBYE_MS_MAX);
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
