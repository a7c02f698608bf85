//! The admin HTTP interfaces: one with every page, one with the probes alone. Answers only; nothing here changes
//! anything. Costs nothing while nobody asks.

mod health;
mod pages;

pub use health::still_worker;
pub use pages::Surface;

use super::failure::StartFailure;
use super::state::State;
use crate::config::limits;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Instant;
use tokio::net::TcpStream;
use tokio::task::AbortHandle;

/// A bound address that is not answered yet.
#[derive(Debug)]
pub struct Bound {
    socket: TcpListener,
    surface: Surface,
    pub address: SocketAddr,
}

/// Binds one of the addresses, or goes on with a socket that was handed over; `key` is the configuration's name for it.
pub fn bind(
    key: &str,
    address: SocketAddr,
    surface: Surface,
    handed: Option<TcpListener>,
) -> Result<Bound, StartFailure> {
    let failed = |error| StartFailure::of_bind(key, &address.to_string(), &error);
    let socket = handed.map_or_else(|| TcpListener::bind(address), Ok).map_err(failed)?;
    socket.set_nonblocking(true).map_err(failed)?;
    let address = socket.local_addr().map_err(failed)?;
    Ok(Bound { socket, surface, address })
}

impl Bound {
    /// Answers from now on, in the background, for as long as the runtime lives: a duplicate of the socket, and the task
    /// that accepts.
    pub fn serve(self, state: Arc<State>) -> std::io::Result<(OwnedFd, AbortHandle)> {
        let duplicate = self.socket.try_clone()?;
        let listener = tokio::net::TcpListener::from_std(self.socket)?;
        let accepting = tokio::spawn(accept(listener, self.surface, state)).abort_handle();
        Ok((duplicate.into(), accepting))
    }
}

/// Accepts without end. Where too many connections are open, the oldest gives way: whoever holds connections without
/// asking must not keep a probe from its answer.
async fn accept(listener: tokio::net::TcpListener, surface: Surface, state: Arc<State>) {
    let mut open: VecDeque<AbortHandle> = VecDeque::new();
    let mut told: Option<Instant> = None;
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                open.retain(|task| !task.is_finished());
                while open.len() >= limits::ADMIN_CONNECTIONS_MAX {
                    if let Some(oldest) = open.pop_front() {
                        oldest.abort();
                    }
                }
                open.push_back(tokio::spawn(answer(stream, surface, Arc::clone(&state))).abort_handle());
            }
            Err(error) => {
                if told.is_none_or(|told| told.elapsed() >= limits::LOG_FAULT_EVERY) {
                    told = Some(Instant::now());
                    tracing::warn!(%error, "an admin connection cannot be accepted; look at the limit of open files");
                }
                tokio::time::sleep(limits::ADMIN_ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Answers the requests of one connection.
async fn answer(stream: TcpStream, surface: Surface, state: Arc<State>) {
    let service = service_fn(move |request| {
        let state = Arc::clone(&state);
        async move { Ok::<_, Infallible>(pages::respond(surface, &state, &request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits::ADMIN_HEAD_TIME_MAX)
        .max_headers(limits::ADMIN_HEADERS_MAX)
        .max_buf_size(limits::ADMIN_HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = connection.await {
        tracing::debug!(%error, "an admin connection ended early");
    }
}

#[cfg(test)]
mod tests;
