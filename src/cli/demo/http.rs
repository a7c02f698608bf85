//! As much of HTTP/1.1 as the demonstration's backend needs: a request's head, and its body thrown away.

use crate::config::limits;
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt};

/// A request whose body is still to come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub method: String,
    pub path: String,
    pub body: Body,
    /// Whether the client waits for `100 Continue`.
    pub waits: bool,
    /// Whether another request may follow.
    pub keep_alive: bool,
}

/// How long a body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    Length(u64),
    Chunked,
}

/// Why a request is not answered as asked; the number is the status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    BadRequest = 400,
    TooLarge = 413,
    HeadTooLarge = 431,
}

impl Refused {
    /// The status line's text.
    pub fn status(self) -> &'static str {
        match self {
            Refused::BadRequest => "400 Bad Request",
            Refused::TooLarge => "413 Content Too Large",
            Refused::HeadTooLarge => "431 Request Header Fields Too Large",
        }
    }
}

/// Reads the head that `input` begins with: the request and the head's length; `None` if there is more to come.
pub fn head(input: &[u8]) -> Result<Option<(Request, usize)>, Refused> {
    let mut headers = [httparse::EMPTY_HEADER; limits::DEMO_HEADERS_MAX];
    let mut parsed = httparse::Request::new(&mut headers);
    let length = match parsed.parse(input) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) if input.len() >= limits::DEMO_HEAD_BYTES_MAX => {
            return Err(Refused::HeadTooLarge);
        }
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(Refused::HeadTooLarge),
        Err(_) => return Err(Refused::BadRequest),
    };
    let field = |name: &str| values(parsed.headers, name);
    let request = Request {
        method: parsed.method.unwrap_or_default().to_owned(),
        path: parsed.path.unwrap_or_default().to_owned(),
        body: body(&field("content-length"), &field("transfer-encoding"))?,
        waits: field("expect").iter().any(|value| value.eq_ignore_ascii_case("100-continue")),
        keep_alive: parsed.version == Some(1) && !field("connection").iter().any(|value| has_token(value, "close")),
    };
    Ok(Some((request, length)))
}

fn values<'h>(headers: &[httparse::Header<'h>], name: &str) -> Vec<&'h str> {
    let of_name = headers.iter().filter(|header| header.name.eq_ignore_ascii_case(name));
    // A value that is no text matches nothing that we look for.
    of_name.map(|header| std::str::from_utf8(header.value).unwrap_or("?").trim()).collect()
}

fn has_token(value: &str, token: &str) -> bool {
    value.split(',').any(|part| part.trim().eq_ignore_ascii_case(token))
}

/// RFC 9112 section 6.3, refusing whatever could be read in two ways.
fn body(lengths: &[&str], encodings: &[&str]) -> Result<Body, Refused> {
    match (lengths, encodings) {
        ([], []) => Ok(Body::Length(0)),
        ([length], []) if !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit()) => {
            match length.parse() {
                Ok(length) if length <= limits::DEMO_BODY_BYTES_MAX => Ok(Body::Length(length)),
                _ => Err(Refused::TooLarge),
            }
        }
        ([], [encoding]) if encoding.eq_ignore_ascii_case("chunked") => Ok(Body::Chunked),
        _ => Err(Refused::BadRequest),
    }
}

/// Bytes read from a connection and not used yet.
#[derive(Debug)]
pub struct Input<R> {
    source: R,
    pub buffer: Vec<u8>,
}

impl<R: AsyncRead + Unpin> Input<R> {
    pub fn new(source: R) -> Input<R> {
        Input { source, buffer: Vec::new() }
    }

    /// Reads some more; false at the end.
    pub async fn fill(&mut self) -> io::Result<bool> {
        let read = tokio::time::timeout(limits::DEMO_READ_TIME_MAX, self.source.read_buf(&mut self.buffer));
        Ok(read.await.map_err(|_| io::ErrorKind::TimedOut)?? > 0)
    }

    /// Throws a body away.
    pub async fn skip_body(&mut self, body: Body) -> io::Result<Result<(), Refused>> {
        match body {
            Body::Length(length) => self.skip(length).await.map(Ok),
            Body::Chunked => self.skip_chunks().await,
        }
    }

    /// Throws `n` bytes away.
    async fn skip(&mut self, mut n: u64) -> io::Result<()> {
        loop {
            let here = usize::try_from(n).unwrap_or(usize::MAX).min(self.buffer.len());
            self.buffer.drain(..here);
            n -= here as u64;
            if n == 0 {
                return Ok(());
            }
            self.fill_or_fail().await?;
        }
    }

    async fn skip_chunks(&mut self) -> io::Result<Result<(), Refused>> {
        let mut total = 0u64;
        loop {
            let size = loop {
                match httparse::parse_chunk_size(&self.buffer) {
                    Ok(httparse::Status::Complete((used, size))) => {
                        self.buffer.drain(..used);
                        break size;
                    }
                    Ok(httparse::Status::Partial) if self.buffer.len() < limits::DEMO_HEAD_BYTES_MAX => {
                        self.fill_or_fail().await?;
                    }
                    Ok(httparse::Status::Partial) | Err(_) => return Ok(Err(Refused::BadRequest)),
                }
            };
            if size == 0 {
                return self.skip_trailers().await;
            }
            total = total.saturating_add(size);
            if total > limits::DEMO_BODY_BYTES_MAX {
                return Ok(Err(Refused::TooLarge));
            }
            self.skip(size).await?;
            if !self.skip_line_end().await? {
                return Ok(Err(Refused::BadRequest));
            }
        }
    }

    /// Throws the line end after a chunk away; false if something else is there.
    async fn skip_line_end(&mut self) -> io::Result<bool> {
        while self.buffer.len() < 2 {
            self.fill_or_fail().await?;
        }
        let is_line_end = self.buffer.starts_with(b"\r\n");
        self.buffer.drain(..2);
        Ok(is_line_end)
    }

    async fn skip_trailers(&mut self) -> io::Result<Result<(), Refused>> {
        let mut left = limits::DEMO_HEAD_BYTES_MAX;
        loop {
            let Some(end) = self.buffer.windows(2).position(|pair| pair == b"\r\n") else {
                if self.buffer.len() >= left {
                    return Ok(Err(Refused::HeadTooLarge));
                }
                self.fill_or_fail().await?;
                continue;
            };
            self.buffer.drain(..end + 2);
            if end == 0 {
                return Ok(Ok(()));
            }
            left = left.saturating_sub(end + 2);
        }
    }

    async fn fill_or_fail(&mut self) -> io::Result<()> {
        if self.fill().await? { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }
}
