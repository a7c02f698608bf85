//! The demonstration's backend: answers each request with what the terminator told it about the client. A thread of
//! its own, so that it stands where any backend would: behind a socket.

use super::http::{self, Input, Refused, Request};
use super::identity::Identity;
use crate::config::limits;
use crate::wire::proxy::{self, Parsed};
use serde::Serialize;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::Semaphore;

/// What one request is answered with.
#[derive(Debug, Serialize)]
struct Answer<'a> {
    method: &'a str,
    path: &'a str,
    #[serde(flatten)]
    identity: &'a Identity,
}

/// Starts it on a free port of the loopback and answers where.
pub fn start() -> io::Result<SocketAddr> {
    let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    socket.set_nonblocking(true)?;
    let address = socket.local_addr()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("demo-backend".into()).spawn(move || runtime.block_on(accept(socket)))?;
    Ok(address)
}

async fn accept(socket: TcpListener) {
    let listener = match tokio::net::TcpListener::from_std(socket) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "the demonstration's backend cannot listen; start it again"),
    };
    let places = Arc::new(Semaphore::new(limits::DEMO_CONNECTIONS_MAX));
    // The semaphore is never closed, so that there is always a place to wait for.
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        match listener.accept().await {
            Ok((stream, _)) => drop(tokio::spawn(async move {
                if let Err(error) = serve(stream).await {
                    tracing::debug!(%error, "a connection to the demonstration's backend ended early");
                }
                drop(place);
            })),
            Err(_) => tokio::time::sleep(limits::ADMIN_ACCEPT_PAUSE).await,
        }
    }
}

/// One connection: the PROXY header, then requests one after the other.
async fn serve(stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (input, mut output) = stream.into_split();
    let mut input = Input::new(input);
    let identity = read_identity(&mut input).await?;
    loop {
        let request = match http::head(&input.buffer) {
            Ok(Some((request, length))) => {
                input.buffer.drain(..length);
                request
            }
            Ok(None) => {
                if !input.fill().await? {
                    return Ok(());
                }
                continue;
            }
            Err(refused) => return refuse(&mut output, refused).await,
        };
        if request.waits {
            output.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
        }
        if let Err(refused) = input.skip_body(request.body).await? {
            return refuse(&mut output, refused).await;
        }
        output.write_all(&answer(&request, &identity)?).await?;
        if !request.keep_alive {
            return output.shutdown().await;
        }
    }
}

/// Reads the header that the terminator sends first. Without a whole one nobody is believed anything.
async fn read_identity(input: &mut Input<OwnedReadHalf>) -> io::Result<Identity> {
    loop {
        match proxy::parse(&input.buffer).map_err(io::Error::other)? {
            Parsed::Header(header) => {
                let identity = Identity::of(&header, &input.buffer);
                input.buffer.drain(..header.len);
                return Ok(identity);
            }
            Parsed::NeedMore if input.fill().await? => {}
            Parsed::NeedMore => return Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

async fn refuse(output: &mut OwnedWriteHalf, refused: Refused) -> io::Result<()> {
    let head = format!("HTTP/1.1 {}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", refused.status());
    output.write_all(head.as_bytes()).await?;
    output.shutdown().await
}

fn answer(request: &Request, identity: &Identity) -> io::Result<Vec<u8>> {
    let mut body = serde_json::to_vec_pretty(&Answer { method: &request.method, path: &request.path, identity })?;
    body.push(b'\n');
    let connection = if request.keep_alive { "keep-alive" } else { "close" };
    let mut answer = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: {connection}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    if request.method != "HEAD" {
        answer.extend_from_slice(&body);
    }
    Ok(answer)
}

#[cfg(test)]
mod tests;
