//! From accept to an admitted client, under one absolute deadline.

use super::{Account, EndSignal, Entry, Host};
use crate::config::limits;
use crate::sys::{Size, Socket};
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
    signal: &EndSignal,
) -> Result<Greeted, Refused> {
    let deadline = account.accepted_at() + entry.limits.handshake_timeout;
    let mut talk = Talk { session: Session::new(entry.sites.clone(), host.environment()), spoke: false, failed: false };
    let run = async {
        futures_lite::future::or(async { Ok(talk.run(host, client, account).await) }, async {
            Err(signal.asked().await)
        })
        .await
    };
    let outcome = host.reactor().until(deadline, run).await;
    let (spoke, alerted) = (talk.spoke, talk.failed);
    match outcome {
        Some(Ok(Ok((early, peer_closed)))) => return Ok(Greeted { session: talk.session, early, peer_closed }),
        Some(Ok(Err(()))) => {}
        Some(Err(_)) => account.refused(Reason::Timeout, "the process is stopping and the handshake was not done"),
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
}

impl Talk {
    /// Feeds what comes until the session is open; plaintext behind the handshake is returned.
    async fn run<H: Host>(
        &mut self,
        host: &Rc<H>,
        client: &Socket,
        account: &mut Account,
    ) -> Result<(Vec<u8>, bool), ()> {
        let mut early = Vec::new();
        loop {
            let mut lease = match client.receive(Size::Small).await {
                Ok(Some(lease)) => lease,
                Ok(None) => {
                    account.refused(Reason::TcpReset, "the client closed the connection during the handshake");
                    return Err(());
                }
                Err(error) => {
                    account.refused(Reason::TcpReset, &format!("the connection broke during the handshake: {error}"));
                    return Err(());
                }
            };
            self.spoke = true;
            let mut out = host.shelf().take();
            let fed = self.session.feed(&mut lease, unix_now(&**host), &mut early, &mut out);
            drop(lease);
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
