//! How a connection on the kernel path is closed before both directions ended in order (contract section 3).

use super::super::Host;
use super::super::end::Cause;
use super::Records;
use super::transfer::KernelRemains;
use crate::config::limits;
use crate::sys::ktls::ALERT;
use crate::sys::{Interest, Socket};
use std::io;
use std::rc::Rc;
use std::time::Duration;

/// Closes both sockets as the cause demands.
pub(in super::super) async fn finish<H: Host>(
    host: &Rc<H>,
    client: Socket,
    backend: Socket,
    cause: Cause,
    remains: KernelRemains,
) {
    let KernelRemains { upward_done, downward_done, mid_way, records } = remains;
    if !upward_done {
        // The client's bytes ended in no orderly way, and the backend must not take it for one.
        backend.reset_on_close();
    }
    drop(backend);
    match cause {
        Cause::Truncated => {}
        Cause::Tls { our_alert: None, peer_alert: None, .. } if !downward_done => client.reset_on_close(),
        Cause::Tls { our_alert: Some(_), .. } if !downward_done => say_goodbye(host, &client, &records).await,
        Cause::BackendReset | Cause::ClientReset => client.reset_on_close(),
        _ if mid_way => client.reset_on_close(),
        Cause::Asked(_) if !downward_done => match records.send(&client, ALERT, &[1, 0]) {
            Ok(()) => say_goodbye(host, &client, &records).await,
            Err(_) => client.reset_on_close(),
        },
        Cause::Tls { .. } | Cause::Asked(_) => {}
    }
}

/// After a last alert or close_notify: waits until TCP has it, ends our direction, and swallows what the client still
/// sends, for a bounded time and amount: a close with unread bytes would be a reset.
async fn say_goodbye<H: Host>(host: &Rc<H>, client: &Socket, records: &Records) {
    let pause = Duration::from_millis(limits::KERNEL_TLS_PAUSE_MS);
    let flushed = async {
        while !records.is_flushed().unwrap_or(true) {
            host.reactor().sleep_until(host.reactor().now() + pause).await;
        }
    };
    let deadline = host.reactor().now() + host.goodbye_time();
    if host.reactor().until(deadline, flushed).await.is_none() || client.shutdown_send().is_err() {
        client.reset_on_close();
        return;
    }
    let swallow = async {
        let mut left = limits::GOODBYE_BYTES_MAX;
        let mut buffer = host.shelf().take();
        buffer.resize(limits::TLS_PLAIN_BYTES_MAX, 0);
        let mut misses = 0;
        while left > 0 {
            match records.swallow(client, &mut buffer) {
                Ok(Some(count)) => left = left.saturating_sub(count.max(1)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    misses += 1;
                    if client.ready(Interest::Read).await.is_err() {
                        break;
                    }
                    // A socket whose reading side broke stays ready and has nothing: the client is to go by itself.
                    if misses > limits::KERNEL_TLS_MISSES_MAX {
                        host.reactor().sleep_until(host.reactor().now() + pause).await;
                    }
                }
                Ok(None) | Err(_) => break,
            }
        }
        host.shelf().give(buffer);
    };
    host.reactor().until(deadline, swallow).await;
}
