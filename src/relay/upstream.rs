//! Reaching a backend for an admitted client, and the header that tells it who that is.

use super::{Account, Entry, Host, Seat};
use crate::config::ProxyProtocol;
use crate::sys::{End, Socket};
use crate::tls::Established;
use crate::wire::proxy;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

/// Connects to the first server that answers, each within the backend's connect timeout. `None`: none did.
pub(super) async fn connect<H: Host>(
    host: &Rc<H>,
    entry: &Entry,
    established: &Established,
) -> Option<(Socket, H::Seat)> {
    let (index, backend) = entry.backend(&established.site);
    let mut tried = Vec::new();
    while let Some(seat) = host.choose(entry, index, established.admission.identity(), &tried) {
        let server = seat.server();
        let deadline = host.reactor().now() + backend.connect_timeout;
        let connecting = Socket::connect(host.reactor(), &backend.servers[server].address);
        let result =
            host.reactor().until(deadline, connecting).await.unwrap_or_else(|| Err(io::ErrorKind::TimedOut.into()));
        match result {
            Ok(socket) => {
                host.connected(index, server);
                return Some((socket, seat));
            }
            Err(error) => host.connect_failed(entry, index, server, &error),
        }
        tried.push(server);
    }
    host.backend_down(entry, index);
    None
}

/// Appends the PROXY header that this backend wants, if any.
pub(super) fn write_header(
    entry: &Entry,
    account: &Account,
    client: &Socket,
    established: &Established,
    out: &mut Vec<u8>,
) {
    let (_, backend) = entry.backend(&established.site);
    let own = || client.address(End::Local).unwrap_or_else(|_| unspecified(account.client()));
    let destination = account.destination().unwrap_or_else(own);
    match backend.proxy_protocol {
        ProxyProtocol::Off => {}
        ProxyProtocol::V1 => proxy::write_v1(account.client(), destination, out),
        ProxyProtocol::V2 => {
            let leaf = established.admission.leaf();
            let header = proxy::Header {
                source: account.client(),
                destination,
                alpn: established.alpn.as_deref(),
                authority: established.sni.as_deref(),
                unique_id: account.conn_id(),
                ssl: Some(ssl(established)),
                client_cert: leaf.map(|leaf| leaf.der.as_slice()),
            };
            proxy::write_v2(&header, backend.proxy_tlvs, out);
        }
    }
}

fn ssl(established: &Established) -> proxy::Ssl<'_> {
    let leaf = established.admission.leaf();
    let certificate = &established.certificate;
    proxy::Ssl {
        version: established.version,
        cn: leaf.and_then(|leaf| leaf.cn.as_deref()),
        cipher: established.cipher,
        sig_alg: Some(certificate.signature_algorithm),
        key_alg: Some(&certificate.key_algorithm),
        group: established.group,
        sig_scheme: established.signature_scheme,
        presence: match (leaf, established.resumed) {
            (None, _) => proxy::Presence::Anonymous,
            (Some(_), false) => proxy::Presence::Full,
            (Some(_), true) => proxy::Presence::Resumed,
        },
        verify: established.admission.verify(),
    }
}

/// What stands for our own address where the kernel does not tell it.
fn unspecified(like: SocketAddr) -> SocketAddr {
    match like {
        SocketAddr::V4(_) => SocketAddr::from(([0, 0, 0, 0], 0)),
        SocketAddr::V6(_) => SocketAddr::from(([0u16; 8], 0)),
    }
}
