//! Why one operation failed, sorted by who is to blame, and counted by kind.

use std::collections::BTreeMap;
use std::{fmt, io};

use crate::load::limits;

/// Why one operation failed.
#[derive(Debug)]
pub enum Failure {
    /// Nobody listens there.
    Refused,
    /// The peer reset the connection.
    Reset,
    /// The peer ended the connection in the middle: no answer, no close_notify.
    Ended,
    /// The operation took longer than `--timeout`, and its connection was closed.
    TimedOut,
    /// The peer sent a fatal alert: this is how a server refuses a client.
    Alert(rustls::AlertDescription),
    /// We do not trust the server's certificate.
    Certificate(rustls::CertificateError),
    /// Any other complaint of the TLS library, ours about the peer.
    Tls(rustls::Error),
    /// The answer is not what an echo backend would send.
    Mismatch,
    /// An HTTP answer that is none.
    BadHttp(&'static str),
    /// An HTTP status other than 2xx.
    Status(u16),
    /// This machine ran out of something: ports, descriptors, memory. The harness's limit, not the target's.
    Local(io::Error),
    /// Any other I/O error.
    Io(io::Error),
}

impl Failure {
    /// A short stable name; the report counts failures by it.
    pub fn kind(&self) -> String {
        match self {
            Failure::Refused => "connection_refused".to_owned(),
            Failure::Reset => "reset".to_owned(),
            Failure::Ended => "ended".to_owned(),
            Failure::TimedOut => "timeout".to_owned(),
            Failure::Alert(alert) => format!("alert:{}", alert_name(*alert)),
            Failure::Certificate(_) => "server_certificate".to_owned(),
            Failure::Tls(_) => "tls".to_owned(),
            Failure::Mismatch => "mismatch".to_owned(),
            Failure::BadHttp(_) => "bad_http".to_owned(),
            Failure::Status(status) => format!("status:{status}"),
            Failure::Local(_) => "local".to_owned(),
            Failure::Io(_) => "io".to_owned(),
        }
    }

    /// Whether a run is pointless: what fails here fails for a reason that lies before the server's decision.
    pub fn forbids_a_run(&self) -> bool {
        matches!(self, Failure::Refused | Failure::TimedOut | Failure::Certificate(_) | Failure::Local(_))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Refused => f.write_str("connection refused: is the server running, and on this port?"),
            Failure::Reset => f.write_str("the server reset the connection"),
            Failure::Ended => f.write_str("the server ended the connection without an answer"),
            Failure::TimedOut => f.write_str("no answer in time; is this a TLS port? (--timeout gives it longer)"),
            Failure::Alert(alert) => write!(f, "the server refused with alert {}", alert_name(*alert)),
            Failure::Certificate(why) => write!(
                f,
                "the server's certificate is not trusted ({why:?}); give its issuer with --ca FILE, its name with --sni NAME, or \
                 --insecure"
            ),
            Failure::Tls(why) => write!(f, "TLS: {why}"),
            Failure::Mismatch => f.write_str("the answer is not the request; is the backend an echo (or use --http)?"),
            Failure::BadHttp(why) => write!(f, "not an HTTP/1.1 answer: {why}; is the backend an HTTP server?"),
            Failure::Status(status) => write!(f, "HTTP status {status}; name a path that exists with --http=PATH"),
            Failure::Local(why) => {
                write!(f, "this machine ran out of something: {why}; see `ulimit -n`, or use fewer connections")
            }
            Failure::Io(why) => write!(f, "{why}"),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        /// EMFILE, ENFILE, EADDRNOTAVAIL, ENOBUFS, ENOMEM: numbers of Linux, which std has no kinds for.
        const LOCAL: [i32; 5] = [24, 23, 99, 105, 12];
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Failure::Refused,
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Failure::Reset,
            io::ErrorKind::UnexpectedEof => Failure::Ended,
            _ if error.raw_os_error().is_some_and(|n| LOCAL.contains(&n)) => Failure::Local(error),
            _ => Failure::Io(error),
        }
    }
}

impl From<rustls::Error> for Failure {
    fn from(error: rustls::Error) -> Failure {
        match error {
            rustls::Error::AlertReceived(alert) => Failure::Alert(alert),
            rustls::Error::InvalidCertificate(why) => Failure::Certificate(why),
            other => Failure::Tls(other),
        }
    }
}

/// The alert's name as RFC 8446 writes it.
fn alert_name(alert: rustls::AlertDescription) -> String {
    let camel = match alert {
        rustls::AlertDescription::UnknownCA => return "unknown_ca".to_owned(),
        rustls::AlertDescription::BadRecordMac => return "bad_record_mac".to_owned(),
        rustls::AlertDescription::Unknown(number) => return number.to_string(),
        known => format!("{known:?}"),
    };
    let mut name = String::new();
    for c in camel.chars() {
        if c.is_ascii_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(c.to_ascii_lowercase());
    }
    name
}

/// Failures by kind, bounded whatever a peer makes up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Failures(BTreeMap<String, u64>);

impl Failures {
    pub fn count(&mut self, kind: String) {
        self.add(kind, 1);
    }

    pub fn merge(&mut self, other: &Failures) {
        for (kind, n) in &other.0 {
            self.add(kind.clone(), *n);
        }
    }

    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        self.0.iter().map(|(kind, n)| (kind.as_str(), *n))
    }

    fn add(&mut self, kind: String, n: u64) {
        let full = self.0.len() >= limits::ERROR_KINDS_MAX && !self.0.contains_key(&kind);
        *self.0.entry(if full { "other".to_owned() } else { kind }).or_default() += n;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::AlertDescription;

    #[test]
    fn alerts_bear_the_names_of_the_standard() {
        assert_eq!(Failure::Alert(AlertDescription::UnknownCA).kind(), "alert:unknown_ca");
        assert_eq!(Failure::Alert(AlertDescription::CertificateRequired).kind(), "alert:certificate_required");
        assert_eq!(Failure::Alert(AlertDescription::UnrecognisedName).kind(), "alert:unrecognised_name");
        assert_eq!(Failure::Alert(AlertDescription::Unknown(200)).kind(), "alert:200");
    }

    #[test]
    fn running_out_of_ports_is_our_fault_and_a_reset_is_the_peers() {
        assert_eq!(Failure::from(io::Error::from_raw_os_error(99)).kind(), "local");
        assert_eq!(Failure::from(io::Error::from_raw_os_error(104)).kind(), "reset");
        assert_eq!(Failure::from(io::Error::from_raw_os_error(111)).kind(), "connection_refused");
    }

    #[test]
    fn kinds_are_bounded_and_nothing_is_lost() {
        let mut failures = Failures::default();
        for n in 0..1000 {
            failures.count(format!("status:{n}"));
        }
        assert_eq!(failures.total(), 1000);
        assert_eq!(failures.iter().count(), limits::ERROR_KINDS_MAX + 1);
    }
}
