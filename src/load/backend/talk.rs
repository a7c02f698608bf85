//! One connection of the backend, from its first byte to its last.

use std::io;
use std::net::Shutdown;
use std::rc::Rc;

use tokio_uring::net::TcpStream;

use crate::load::args::BackendMode;
use crate::load::backend::Manner;
use crate::load::backend::proxy::{Header, header};
use crate::load::limits;

/// Buffers grow when a receive fills them: a connection that says little holds little.
const BUFFER_SIZES: [usize; 3] = [4 * 1024, 32 * 1024, limits::BULK_BYTES];

/// Serves one connection. Errors end it, silently: they are the peer's, and the harness at the other end counts them.
pub async fn talk(stream: TcpStream, manner: Manner) {
    let mut reader = Reader { stream: Rc::new(stream), size: 0, kept: Vec::new() };
    if manner.proxy && !reader.skip_proxy_header().await {
        return;
    }
    let _ = match manner.mode {
        BackendMode::Echo => echo(&mut reader).await,
        BackendMode::Sink => sink(&mut reader).await,
        BackendMode::Stream => stream_and_sink(&mut reader).await,
        BackendMode::Http => http(&mut reader, &manner).await,
    };
}

/// The receiving side, with what came behind a header and was not yet looked at.
struct Reader {
    stream: Rc<TcpStream>,
    size: usize,
    kept: Vec<u8>,
}

impl Reader {
    /// Receives into `buffer` (a new one is made where it is too small); empty at the end.
    async fn receive(&mut self, mut buffer: Vec<u8>) -> io::Result<Vec<u8>> {
        if !self.kept.is_empty() {
            return Ok(std::mem::take(&mut self.kept));
        }
        let size = BUFFER_SIZES[self.size];
        buffer.clear();
        if buffer.capacity() < size {
            buffer = Vec::with_capacity(size);
        }
        let (result, buffer) = self.stream.read(buffer).await;
        if result? >= size && self.size + 1 < BUFFER_SIZES.len() {
            self.size += 1;
        }
        Ok(buffer)
    }

    async fn skip_proxy_header(&mut self) -> bool {
        let mut seen = Vec::new();
        loop {
            match self.receive(Vec::new()).await {
                Ok(bytes) if !bytes.is_empty() => seen.extend_from_slice(&bytes),
                _ => return false,
            }
            match header(&seen) {
                Header::Partial => {}
                Header::Absent => return false,
                Header::Complete(length) => {
                    self.kept = seen.split_off(length);
                    return true;
                }
            }
        }
    }
}

async fn echo(reader: &mut Reader) -> io::Result<()> {
    let mut buffer = Vec::new();
    loop {
        buffer = reader.receive(buffer).await?;
        if buffer.is_empty() {
            return Ok(());
        }
        let (result, back) = reader.stream.write_all(buffer).await;
        result?;
        buffer = back;
    }
}

async fn sink(reader: &mut Reader) -> io::Result<()> {
    let mut buffer = Vec::new();
    loop {
        buffer = reader.receive(buffer).await?;
        if buffer.is_empty() {
            return Ok(());
        }
    }
}

/// Sends without end and reads; the client's end ends both.
async fn stream_and_sink(reader: &mut Reader) -> io::Result<()> {
    static ZEROS: [u8; limits::BULK_BYTES] = [0; limits::BULK_BYTES];
    let stream = reader.stream.clone();
    let sending = async {
        while stream.write_all(&ZEROS[..]).await.0.is_ok() {}
        // A client that is gone is no longer read from.
        let _ = stream.shutdown(Shutdown::Both);
    };
    let receiving = async {
        let outcome = sink(reader).await;
        let _ = stream.shutdown(Shutdown::Both);
        outcome
    };
    tokio::join!(sending, receiving).1
}

/// Answers each request with the same bytes, whatever it asks for.
async fn http(reader: &mut Reader, manner: &Manner) -> io::Result<()> {
    let (mut pending, mut buffer) = (Vec::new(), Vec::new());
    loop {
        buffer = reader.receive(buffer).await?;
        if buffer.is_empty() {
            return Ok(());
        }
        pending.extend_from_slice(&buffer);
        let mut answer = Vec::new();
        let outcome = loop {
            match request_ends_at(&pending) {
                Ok(Some(end)) => {
                    pending.drain(..end);
                    answer.extend_from_slice(&manner.answer);
                }
                Ok(None) => break Ok(()),
                Err(error) => {
                    answer.extend_from_slice(
                        b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
                    );
                    break Err(error);
                }
            }
        };
        if !answer.is_empty() {
            reader.stream.write_all(answer).await.0?;
        }
        if outcome.is_err() {
            // The answer first, then the end: a plain close would reset what the client still sends, and the answer with it.
            reader.stream.shutdown(Shutdown::Write)?;
            return sink(reader).await;
        }
    }
}

/// Where the request at the start of `bytes` ends; `None` while more are needed.
fn request_ends_at(bytes: &[u8]) -> io::Result<Option<usize>> {
    let bad = || io::Error::from(io::ErrorKind::InvalidData);
    let mut fields = [httparse::EMPTY_HEADER; limits::HTTP_FIELDS_MAX];
    let mut request = httparse::Request::new(&mut fields);
    let head = match request.parse(bytes) {
        Ok(httparse::Status::Complete(head)) => head,
        Ok(httparse::Status::Partial) if bytes.len() < limits::HTTP_HEAD_BYTES_MAX => return Ok(None),
        _ => return Err(bad()),
    };
    let mut length = 0usize;
    for field in request.headers.iter() {
        if field.name.eq_ignore_ascii_case("content-length") {
            length = std::str::from_utf8(field.value).ok().and_then(|v| v.trim().parse().ok()).ok_or_else(bad)?;
        } else if field.name.eq_ignore_ascii_case("transfer-encoding") {
            // A backend for measuring takes plain requests; it need not understand every one.
            return Err(bad());
        }
    }
    let end = head.checked_add(length).filter(|_| length as u64 <= limits::SIZE_MAX).ok_or_else(bad)?;
    Ok((bytes.len() >= end).then_some(end))
}
