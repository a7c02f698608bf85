//! Who comes: the PROXY header that a balancer in front of us must send (`accept_proxy_from`).

use super::{Account, Entry};
use crate::config::limits;
use crate::sys::{Size, Socket};
use crate::trust::Reason;
use crate::wire::proxy::{self, Parsed, Received};
use std::net::SocketAddr;

/// Whether a header is required of, and believed from, this peer.
pub(super) fn is_proxied(entry: &Entry, peer: SocketAddr) -> bool {
    let address = peer.ip().to_canonical();
    entry.accept_proxy_from.iter().any(|network| network.contains(&address))
}

/// Reads the header and enters into the account what it says. The result is what came behind it. `spoke` is set once
/// there is something that a refusal can be about: a peer that connects and goes, with a whole header or with nothing,
/// is a health check.
pub(super) async fn read_header(client: &Socket, account: &mut Account, spoke: &mut bool) -> Result<Vec<u8>, ()> {
    let mut bytes = Vec::new();
    loop {
        match client.receive(Size::Small).await {
            Ok(Some(lease)) => bytes.extend_from_slice(&lease),
            Ok(None) => {
                account.refused(Reason::NotTls, "the balancer closed the connection before its PROXY header was whole");
                return Err(());
            }
            Err(error) => {
                account.refused(Reason::TcpReset, &format!("the connection broke during the PROXY header: {error}"));
                return Err(());
            }
        }
        *spoke = true;
        match proxy::parse(&bytes) {
            Ok(Parsed::Header(Received { source, destination, len, .. })) => {
                if let Some(source) = source {
                    account.proxied(source, destination);
                }
                bytes.drain(..len);
                *spoke = !bytes.is_empty();
                return Ok(bytes);
            }
            // The parser refuses a header that claims to be longer; this bounds what is kept of one that is not there.
            Ok(Parsed::NeedMore) if bytes.len() < limits::PROXY_HEADER_BYTES_MAX => {}
            Ok(Parsed::NeedMore) => {
                account.refused(Reason::NotTls, "no whole PROXY header");
                return Err(());
            }
            Err(malformed) => {
                account.refused(Reason::NotTls, &malformed.to_string());
                return Err(());
            }
        }
    }
}
