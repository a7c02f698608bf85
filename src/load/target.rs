//! What is measured: its address, its name, and whether this program may load it at all.

use std::fmt;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};

use rustls::pki_types::ServerName;

use crate::load::{Refusal, exit};

/// A TLS server that this run may load: on loopback, or the user said `--yes-remote`.
#[derive(Clone, Debug)]
pub struct Target {
    /// As the user wrote it.
    pub written: String,
    /// The host part of it, for the Host header.
    pub host: String,
    pub address: SocketAddr,
    /// The name that is verified, and sent as SNI where it is a DNS name.
    pub name: ServerName<'static>,
}

impl Target {
    /// Resolves `written` (`HOST:PORT`) and refuses what lies outside loopback without `yes_remote`.
    pub fn resolve(written: &str, sni: Option<&str>, reach: Reach) -> Result<Target, Refusal> {
        let (host, port) = split(written)?;
        let address = resolve(host, port)?;
        reach.permit(address.ip(), written)?;
        let name = match sni {
            Some(name) => name,
            None if host.parse::<IpAddr>().is_ok_and(is_loopback) => "localhost",
            None => host,
        };
        let name = ServerName::try_from(name.to_owned())
            .map_err(|_| Refusal::usage(format!("{name:?} is no host name; give one with --sni NAME")))?;
        Ok(Target { written: written.to_owned(), host: host.to_owned(), address, name })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written)
    }
}

/// How far the user lets this program go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    LoopbackOnly,
    Anywhere,
}

impl Reach {
    pub fn new(yes_remote: bool) -> Reach {
        if yes_remote { Reach::Anywhere } else { Reach::LoopbackOnly }
    }

    /// Refuses an address that is not loopback where the user did not say `--yes-remote`.
    pub fn permit(self, ip: IpAddr, written: &str) -> Result<(), Refusal> {
        if self == Reach::Anywhere || is_loopback(ip) {
            return Ok(());
        }
        Err(Refusal::usage(format!(
            "{written} is outside loopback; add --yes-remote if that machine is yours to load, else name one on 127.0.0.0/8 or [::1]"
        )))
    }
}

/// Loopback, also as an IPv4 address mapped into IPv6.
pub fn is_loopback(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback()
}

fn split(written: &str) -> Result<(&str, u16), Refusal> {
    let wrong =
        || Refusal::usage(format!("{written:?} is no target; write HOST:PORT, such as 127.0.0.1:8443 or [::1]:8443"));
    let (host, port) = written.rsplit_once(':').ok_or_else(wrong)?;
    let port = port.parse().ok().filter(|p| *p != 0).ok_or_else(wrong)?;
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    if host.is_empty() || (bare.is_none() && host.contains([':', '/', '[', ']'])) {
        return Err(wrong());
    }
    Ok((bare.unwrap_or(host), port))
}

fn resolve(host: &str, port: u16) -> Result<SocketAddr, Refusal> {
    let failed = |why: String| {
        Refusal::new(exit::UNAVAILABLE, format!("{host} has no address ({why}); write the target as IP:PORT"))
    };
    let mut addresses = (host, port).to_socket_addrs().map_err(|e| failed(e.to_string()))?;
    addresses.next().ok_or_else(|| failed("the name resolves to nothing".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_a_target_and_the_rest_of_the_world_is_not_without_being_asked_for() {
        for local in ["127.0.0.1:1", "127.9.9.9:443", "[::1]:8443", "[::ffff:127.0.0.1]:1"] {
            assert!(Target::resolve(local, None, Reach::LoopbackOnly).is_ok(), "{local}");
        }
        for remote in ["192.0.2.1:443", "[2001:db8::1]:443", "0.0.0.0:443", "[::ffff:192.0.2.1]:443"] {
            let refusal = Target::resolve(remote, None, Reach::LoopbackOnly).unwrap_err();
            assert_eq!(refusal.code, exit::USAGE, "{remote}");
            assert!(refusal.message.contains("--yes-remote"));
            assert!(Target::resolve(remote, None, Reach::Anywhere).is_ok(), "{remote}");
        }
    }

    #[test]
    fn a_loopback_address_is_asked_for_as_localhost_and_a_given_name_wins() {
        let name = |sni| Target::resolve("127.0.0.1:1", sni, Reach::LoopbackOnly).unwrap().name;
        assert_eq!(name(None), ServerName::try_from("localhost").unwrap());
        assert_eq!(name(Some("api.bank.example")), ServerName::try_from("api.bank.example").unwrap());
        assert!(Target::resolve("127.0.0.1:1", Some("not a name"), Reach::LoopbackOnly).is_err());
    }

    #[test]
    fn what_is_no_address_is_refused_with_an_example() {
        for wrong in ["", "127.0.0.1", ":443", "127.0.0.1:0", "127.0.0.1:99999", "::1:443", "https://127.0.0.1:443"] {
            let refusal = Target::resolve(wrong, None, Reach::Anywhere).unwrap_err();
            assert!(refusal.message.contains("HOST:PORT"), "{wrong}: {}", refusal.message);
        }
    }
}
