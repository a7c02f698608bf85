//! As much of HTTP/1.1 as a GET over a kept connection needs: the request's bytes, and where the answer ends.

use crate::load::connection::{Connection, Received};
use crate::load::failure::Failure;
use crate::load::limits;
use crate::load::{Refusal, exit};

/// A GET of `path`; refuses what would break out of the request line.
pub fn get(path: &str, host: &str) -> Result<Vec<u8>, Refusal> {
    if !path.starts_with('/') || path.bytes().any(|b| b <= b' ' || b == 0x7f) {
        let message = format!("{path:?} is no path; it starts with / and has no spaces, such as --http=/index.html");
        return Err(Refusal::new(exit::USAGE, message));
    }
    Ok(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: countersign-load\r\nAccept: */*\r\n\r\n")
        .into_bytes())
}

/// Receives one whole answer into `answer`; whether the connection may be used again.
pub async fn read_answer(connection: &Connection, answer: &mut Vec<u8>) -> Result<bool, Failure> {
    let head = loop {
        if connection.receive(answer).await? == Received::Closed {
            return Err(Failure::Ended);
        }
        if let Some(head) = Head::parse(answer)? {
            break head;
        }
    };
    loop {
        match head.ends_at(answer)? {
            Some(end) if end == answer.len() => break,
            Some(_) => return Err(Failure::BadHttp("more bytes than the answer has")),
            None => {}
        }
        if connection.receive(answer).await? == Received::Closed {
            if head.body == Body::UntilClose {
                break;
            }
            return Err(Failure::Ended);
        }
    }
    if (200..300).contains(&head.status) { Ok(head.keep_alive) } else { Err(Failure::Status(head.status)) }
}

/// What the head of an answer says about its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Head {
    status: u16,
    /// Bytes of the head.
    length: usize,
    body: Body,
    keep_alive: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Body {
    Length(usize),
    Chunked,
    UntilClose,
}

impl Head {
    /// `None` while more bytes are needed.
    fn parse(bytes: &[u8]) -> Result<Option<Head>, Failure> {
        let mut fields = [httparse::EMPTY_HEADER; limits::HTTP_FIELDS_MAX];
        let mut response = httparse::Response::new(&mut fields);
        let length = match response.parse(bytes) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) if bytes.len() < limits::HTTP_HEAD_BYTES_MAX => return Ok(None),
            Ok(httparse::Status::Partial) => return Err(Failure::BadHttp("its head does not end")),
            Err(_) => return Err(Failure::BadHttp("its head cannot be read")),
        };
        let status = response.code.unwrap_or(0);
        let (mut body, mut keep_alive) = (Body::UntilClose, response.version == Some(1));
        for field in response.headers.iter() {
            let value = field.value.trim_ascii();
            if field.name.eq_ignore_ascii_case("content-length") && body != Body::Chunked {
                let number = std::str::from_utf8(value).ok().and_then(|v| v.parse().ok());
                body = Body::Length(number.ok_or(Failure::BadHttp("its length is no number"))?);
            } else if field.name.eq_ignore_ascii_case("transfer-encoding") && value.eq_ignore_ascii_case(b"chunked") {
                body = Body::Chunked;
            } else if field.name.eq_ignore_ascii_case("connection") && value.eq_ignore_ascii_case(b"close") {
                keep_alive = false;
            }
        }
        if status == 204 || status == 304 {
            body = Body::Length(0);
        }
        keep_alive &= body != Body::UntilClose;
        Ok(Some(Head { status, length, body, keep_alive }))
    }

    /// Where the answer ends in `bytes`, which start with its head; `None` while more are needed.
    fn ends_at(&self, bytes: &[u8]) -> Result<Option<usize>, Failure> {
        match self.body {
            Body::Length(length) => {
                let end = self.length.checked_add(length).ok_or(Failure::BadHttp("its length is absurd"))?;
                Ok((bytes.len() >= end).then_some(end))
            }
            Body::Chunked => chunks_end(bytes, self.length),
            Body::UntilClose => Ok(None),
        }
    }
}

/// Where a chunked body that starts at `at` ends. Trailers are not expected of a backend under test, and refused.
fn chunks_end(bytes: &[u8], mut at: usize) -> Result<Option<usize>, Failure> {
    loop {
        let Some(rest) = bytes.get(at..) else { return Ok(None) };
        match httparse::parse_chunk_size(rest) {
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(_) => return Err(Failure::BadHttp("a chunk's size cannot be read")),
            Ok(httparse::Status::Complete((line, 0))) => {
                return match rest.get(line..line + 2) {
                    None => Ok(None),
                    Some(b"\r\n") => Ok(Some(at + line + 2)),
                    Some(_) => Err(Failure::BadHttp("it has trailers")),
                };
            }
            Ok(httparse::Status::Complete((line, size))) => {
                let size = usize::try_from(size).ok().filter(|s| *s as u64 <= limits::SIZE_MAX);
                at += line + size.ok_or(Failure::BadHttp("a chunk is absurdly large"))? + 2;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(text: &str) -> Result<Option<usize>, Failure> {
        match Head::parse(text.as_bytes())? {
            Some(head) => head.ends_at(text.as_bytes()),
            None => Ok(None),
        }
    }

    #[test]
    fn an_answer_ends_where_its_length_or_its_last_chunk_says_and_not_before() {
        let whole = [
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
            "HTTP/1.1 204 No Content\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        ];
        for text in whole {
            assert_eq!(end(text).unwrap(), Some(text.len()), "{text}");
            for cut in 0..text.len() {
                assert_eq!(end(&text[..cut]).unwrap(), None, "{text} cut at {cut}");
            }
        }
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        for text in [
            "SSH-2.0-OpenSSH\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        ] {
            assert!(matches!(end(text), Err(Failure::BadHttp(_))), "{text}");
        }
    }

    #[test]
    fn a_server_that_closes_or_speaks_1_0_is_not_asked_twice() {
        let head = |text: &str| Head::parse(text.as_bytes()).unwrap().unwrap();
        assert!(head("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").keep_alive);
        assert!(!head("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n").keep_alive);
        assert!(!head("HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n").keep_alive);
        assert!(!head("HTTP/1.1 200 OK\r\n\r\n").keep_alive);
    }

    #[test]
    fn a_path_cannot_smuggle_a_header() {
        assert!(get("/a?b=c", "localhost").is_ok());
        for path in ["a", "/a b", "/a\r\nX: y", ""] {
            assert_eq!(get(path, "localhost").unwrap_err().code, exit::USAGE);
        }
    }
}
