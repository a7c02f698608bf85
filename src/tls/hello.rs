//! Collects the ClientHello until rustls has parsed it whole, to learn the name that chooses the site.
//!
//! The parsing is rustls's own (a throw-away [`Acceptor`] over a copy of the first bytes), never ours: a hello may come
//! in many records, and what we route by must be what the handshake later uses. Each byte is shown to it once.

use super::failure::{Failure, Stage, alert_in, alert_of, detail_of, plaintext_alert, reason_of};
use crate::config::limits;
use crate::trust::Reason;
use rustls::server::Acceptor;
use rustls::{AlertDescription, Error, PeerIncompatible};

/// The first bytes of a connection.
#[derive(Default)]
pub(super) struct Hello {
    acceptor: Acceptor,
    bytes: Vec<u8>,
}

/// A whole ClientHello.
#[derive(Default)]
pub(super) struct Greeting {
    /// Lower case.
    pub sni: Option<String>,
    /// All bytes so far, what came behind the hello included.
    pub bytes: Vec<u8>,
}

impl Hello {
    /// Takes the next bytes. `None`: more are needed. On failure `out` gets the alert.
    pub(super) fn feed(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<Option<Greeting>, Box<Failure>> {
        let room = limits::CLIENT_HELLO_BYTES_MAX - self.bytes.len();
        let shown = input.len().min(room);
        self.bytes.extend_from_slice(&input[..shown]);
        let mut unread = &input[..shown];
        while !unread.is_empty() {
            if self.acceptor.read_tls(&mut unread).is_err() {
                return Err(too_long(out));
            }
            match self.acceptor.accept() {
                Ok(None) => {}
                Ok(Some(accepted)) => {
                    let sni = accepted.client_hello().server_name().map(str::to_ascii_lowercase);
                    let mut bytes = std::mem::take(&mut self.bytes);
                    bytes.extend_from_slice(&input[shown..]);
                    return Ok(Some(Greeting { sni, bytes }));
                }
                Err((error, mut alert)) => {
                    let mut record = Vec::new();
                    // Writing into a vector does not fail.
                    let _ = alert.write_all(&mut record);
                    return Err(self.refuse(&error, record, out));
                }
            }
        }
        if shown < input.len() { Err(too_long(out)) } else { Ok(None) }
    }

    /// Whether a hello has begun.
    pub(super) fn has_begun(&self) -> bool {
        !self.bytes.is_empty()
    }

    fn refuse(&self, error: &Error, mut record: Vec<u8>, out: &mut Vec<u8>) -> Box<Failure> {
        if record.is_empty() || self.is_of_an_old_version(error) {
            record = plaintext_alert(self.alert_for(error)).to_vec();
        }
        out.extend_from_slice(&record);
        let mut failure = Failure::new(reason_of(error, Stage::Hello), &detail_of(error));
        if failure.reason == Reason::NotTls {
            failure.detail = format!("{}: {}", self.what_it_looks_like(), failure.detail);
        }
        failure.our_alert = alert_in(&record);
        Box::new(failure)
    }

    fn alert_for(&self, error: &Error) -> u8 {
        match self.is_of_an_old_version(error) {
            true => u8::from(AlertDescription::ProtocolVersion),
            false => alert_of(error),
        }
    }

    /// Clients of TLS 1.1 and older send no signature_algorithms, which rustls misses before it looks at the version.
    /// They are told what is wrong with them; this chooses an alert, nothing more.
    fn is_of_an_old_version(&self, error: &Error) -> bool {
        let missing = Error::PeerIncompatible(PeerIncompatible::SignatureAlgorithmsExtensionRequired);
        *error == missing && self.bytes.get(9..11).is_some_and(|version| version < &[3, 3][..])
    }

    fn what_it_looks_like(&self) -> &'static str {
        match &self.bytes[..] {
            [b'S', b'S', b'H', ..] => "SSH on a TLS port, it seems",
            [b'P', b'R', b'O', b'X', b'Y', b' ', ..] | [b'\r', b'\n', b'\r', b'\n', 0, ..] => {
                "a PROXY header from a peer that accept_proxy_from does not name, it seems"
            }
            [b'A'..=b'Z', b'A'..=b'Z', ..] => "plain HTTP on a TLS port, it seems",
            [0x80..=0xff, ..] => "an SSL 2 hello, or no TLS at all",
            [0x16, ..] => "the first message is no ClientHello that can be read",
            _ => "the client does not speak TLS",
        }
    }
}

fn too_long(out: &mut Vec<u8>) -> Box<Failure> {
    let alert = u8::from(AlertDescription::DecodeError);
    out.extend_from_slice(&plaintext_alert(alert));
    let detail = format!("no whole ClientHello within {} bytes", limits::CLIENT_HELLO_BYTES_MAX);
    let mut failure = Failure::new(Reason::NotTls, &detail);
    failure.our_alert = Some(alert);
    Box::new(failure)
}
