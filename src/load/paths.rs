//! By which path a Countersign under measurement moved its bytes, from its `/metrics`: through user space, or by the kernel's
//! TLS and splice. For loopback and trusted networks: the page is plain HTTP.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};

use serde::Serialize;

use crate::load::{Refusal, exit, limits};

/// Plaintext bytes, both directions together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Paths {
    pub user: u64,
    /// Sealed and opened by the kernel, carried through user space.
    pub ktls: u64,
    pub splice: u64,
}

impl Paths {
    /// Asks the server whose admin address this is.
    pub fn ask(address: &str) -> Result<Paths, Refusal> {
        let refused = |what: &str| {
            let message = format!("--metrics {address}: {what}; name what the server's [admin] has as http");
            Refusal::new(exit::UNAVAILABLE, message)
        };
        let page = fetch(address).map_err(|error| refused(&error.to_string()))?;
        Paths::parse(&page).ok_or_else(|| refused("no countersign_bytes_total there"))
    }

    fn parse(page: &str) -> Option<Paths> {
        let (mut paths, mut known) = (Paths::default(), false);
        for line in page.lines().filter_map(|line| line.strip_prefix("countersign_bytes_total{")) {
            let (labels, value) = line.split_once("} ")?;
            let bytes = value.trim().parse::<f64>().ok()? as u64;
            let path = labels.split(',').find_map(|label| label.strip_prefix("path=\""))?;
            match path.trim_end_matches('"') {
                "user" => paths.user += bytes,
                "ktls" => paths.ktls += bytes,
                "splice" => paths.splice += bytes,
                _ => {}
            }
            known = true;
        }
        known.then_some(paths)
    }

    /// What moved since `before`.
    pub fn since(self, before: Paths) -> Paths {
        Paths {
            user: self.user.saturating_sub(before.user),
            ktls: self.ktls.saturating_sub(before.ktls),
            splice: self.splice.saturating_sub(before.splice),
        }
    }

    /// The shares, in words: those that moved anything.
    pub fn words(self) -> String {
        let all = [("user", self.user), ("ktls", self.ktls), ("splice", self.splice)];
        let total: u64 = all.iter().map(|(_, bytes)| bytes).sum();
        let share = |bytes: u64| 100.0 * bytes as f64 / total.max(1) as f64;
        let moved = all.iter().filter(|(_, bytes)| *bytes > 0);
        let words: Vec<_> = moved.map(|(name, bytes)| format!("{name} {:.1} %", share(*bytes))).collect();
        if words.is_empty() { "no bytes moved".to_owned() } else { words.join(", ") }
    }
}

fn fetch(address: &str) -> std::io::Result<String> {
    let place = address.to_socket_addrs()?.next().ok_or(std::io::ErrorKind::NotFound)?;
    let mut stream = TcpStream::connect_timeout(&place, limits::METRICS_PATIENCE)?;
    stream.set_read_timeout(Some(limits::METRICS_PATIENCE))?;
    stream.set_write_timeout(Some(limits::METRICS_PATIENCE))?;
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut page = Vec::new();
    stream.take(limits::METRICS_BYTES_MAX).read_to_end(&mut page)?;
    Ok(String::from_utf8_lossy(&page).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    const PAGE: &str = "# TYPE countersign_bytes_total counter\n\
        countersign_bytes_total{direction=\"in\",path=\"user\"} 10\n\
        countersign_bytes_total{direction=\"out\",path=\"user\"} 5\n\
        countersign_bytes_total{direction=\"in\",path=\"splice\"} 45\n";

    #[test]
    fn bytes_are_summed_by_path_and_told_as_shares() {
        let paths = Paths::parse(PAGE).unwrap();
        assert_eq!(paths, Paths { user: 15, ktls: 0, splice: 45 });
        assert_eq!(paths.words(), "user 25.0 %, splice 75.0 %");
        assert_eq!(paths.since(paths).words(), "no bytes moved");
        assert_eq!(Paths::parse("something_else 1\n"), None);
    }

    #[test]
    fn a_page_is_fetched_and_what_is_none_is_refused_with_what_to_name() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = std::thread::spawn(move || {
            for body in [PAGE, "hello\n"] {
                let (mut stream, _) = listener.accept().unwrap();
                let mut heard = Vec::new();
                while !heard.ends_with(b"\r\n\r\n") {
                    let mut byte = [0];
                    stream.read_exact(&mut byte).unwrap();
                    heard.extend(byte);
                }
                assert!(heard.starts_with(b"GET /metrics HTTP/1.1\r\n"));
                write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
            }
        });
        assert_eq!(Paths::ask(&address).unwrap().splice, 45);
        let refusal = Paths::ask(&address).unwrap_err();
        assert!(refusal.to_string().contains("[admin]"), "{refusal}");
        server.join().unwrap();
        assert_eq!(Paths::ask(&address).unwrap_err().code, exit::UNAVAILABLE);
    }
}
