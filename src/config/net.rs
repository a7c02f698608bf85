//! Addresses and networks: where we listen, whom we believe, where backends are.

use super::limits;
use super::model::{ListenAddress, Server};
use super::report::Problem;
use ipnet::IpNet;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

/// What to write where an address to listen on is wanted.
pub(super) const LISTEN_WANTED: &str =
    "IP:port in quotes, such as \"0.0.0.0:8443\" or \"[::]:8443\", or \"systemd:NAME\" for sockets of a socket unit";
/// What to write where a server is wanted.
pub(super) const SERVER_WANTED: &str = "IP:port or unix:PATH in quotes, such as \"127.0.0.1:9000\"";

/// Where a listener listens: an address, or the name of the service manager's sockets.
pub(super) fn listen(text: &str) -> Result<ListenAddress, Problem> {
    match text.strip_prefix("systemd:") {
        Some(name) => passed_name(name).map(|()| ListenAddress::Systemd(name.into())),
        None => own(text).map(ListenAddress::Ip),
    }
}

/// A name that `FileDescriptorName=` of a socket unit can have (systemd.socket(5)).
fn passed_name(name: &str) -> Result<(), Problem> {
    let help =
        "write the FileDescriptorName= of the socket unit, by default the unit's name: \"systemd:countersign.socket\"";
    if name.is_empty() {
        return Err(Problem::new("there is no name behind \"systemd:\"", help));
    }
    if name.len() > limits::PASSED_NAME_BYTES_MAX
        || !name.bytes().all(|byte| matches!(byte, b' '..=b'~') && byte != b':')
    {
        return Err(Problem::new(format!("{name:?} is no name that systemd gives to a socket"), help));
    }
    Ok(())
}

/// An address to listen on. Port 0 lets the kernel choose.
pub(super) fn own(text: &str) -> Result<SocketAddr, Problem> {
    if let Some(port) = text.strip_prefix("*:").or_else(|| text.strip_prefix(':')) {
        let help = format!("write \"0.0.0.0:{port}\" for IPv4, \"[::]:{port}\" for IPv6, or both");
        return Err(Problem::new(format!("{text:?} names no address"), help));
    }
    let address = socket(text)?;
    match address.ip() {
        // The kernel would take it for IPv4, and our IPv6 sockets take IPv6 alone.
        IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some() => Err(Problem::new(
            format!("{text:?} is an IPv4 address in the form of IPv6"),
            format!("write \"{}\"", SocketAddr::new(ip.to_canonical(), address.port())),
        )),
        _ => Ok(address),
    }
}

/// A server of a backend: `IP:port`, or `unix:PATH` with the path relative to `base`.
pub(super) fn server(text: &str, base: &Path) -> Result<Server, Problem> {
    if let Some(path) = text.strip_prefix("unix:") {
        if path.starts_with('@') {
            return Err(Problem::new("abstract sockets are not supported", "write the path of a socket file"));
        }
        return Ok(Server::Unix(unix_path(path, base)?));
    }
    if text.starts_with('/') {
        return Err(Problem::new(
            format!("{text:?} is neither IP:port nor unix:PATH"),
            format!("write \"unix:{text}\""),
        ));
    }
    let address = socket(text)?;
    if address.port() == 0 {
        return Err(format!("{text:?} has port 0, where nothing can be reached").into());
    }
    if address.ip().to_canonical().is_unspecified() {
        return Err(Problem::new(
            format!("{} is an address to listen on, not one to reach", address.ip()),
            format!("write \"127.0.0.1:{}\"", address.port()),
        ));
    }
    Ok(Server::Tcp(address))
}

/// The path of a unix socket, absolute and no longer than the kernel takes.
pub(super) fn unix_path(text: &str, base: &Path) -> Result<std::path::PathBuf, Problem> {
    if text.is_empty() {
        return Err("the path of the socket is empty".into());
    }
    let path = base.join(text);
    let bytes = path.as_os_str().len();
    if bytes > limits::UNIX_PATH_BYTES_MAX {
        let max = limits::UNIX_PATH_BYTES_MAX;
        return Err(Problem::new(
            format!("{:?} has {bytes} bytes, and the path of a socket may have {max}", path.display()),
            "write a shorter path",
        ));
    }
    Ok(path)
}

/// A network in CIDR form, or one address.
pub(super) fn network(text: &str) -> Result<IpNet, Problem> {
    let network = match text.parse::<IpAddr>() {
        Ok(address) => IpNet::from(address),
        Err(_) => text.parse::<IpNet>().map_err(|_| format!("{text:?} is not a network"))?,
    };
    if network != network.trunc() {
        let help = format!("write \"{}\"", network.trunc());
        return Err(Problem::new(format!("{text:?} has bits set behind its prefix"), help));
    }
    Ok(network)
}

/// Whether plaintext sent there stays on this host.
pub(super) fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

fn socket(text: &str) -> Result<SocketAddr, Problem> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    if let Ok(address) = text.parse::<IpAddr>() {
        let help = match address {
            IpAddr::V4(_) => format!("write \"{address}:\" and the port"),
            // Without brackets the port reads as the address's last part.
            IpAddr::V6(_) => "write an IPv6 address in brackets and the port behind them: \"[::1]:8443\"".to_owned(),
        };
        return Err(Problem::new(format!("{text:?} has no port"), help));
    }
    if let Some(port) = text.strip_prefix("localhost:") {
        let help = format!("write \"127.0.0.1:{port}\"");
        return Err(Problem::new(format!("{text:?} has a name where an IP address belongs"), help));
    }
    if text.contains("://") {
        return Err(format!("{text:?} is a URL, not IP:port").into());
    }
    Err(format!("{text:?} is not IP:port (names are not looked up)").into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    #[test]
    fn takes_addresses_of_both_families_and_port_zero() {
        for text in ["127.0.0.1:0", "0.0.0.0:8443", "[::]:8443", "[::1]:0", "[fe80::1%2]:443"] {
            assert_eq!(listen(text), Ok(ListenAddress::Ip(text.parse().unwrap())));
        }
    }

    #[test]
    fn refuses_addresses_that_are_not_ip_and_port() {
        for text in [
            "",
            "8443",
            ":8443",
            "*:8443",
            "localhost:8443",
            "::1:8443",
            "1.2.3.4",
            "1.2.3.4:65536",
            "http://1.2.3.4:80",
        ] {
            assert!(listen(text).is_err(), "{text:?}");
        }
        let problem = listen("fe80::1:8443").unwrap_err();
        assert!(problem.help.unwrap().contains("in brackets"));
    }

    #[test]
    fn sockets_of_the_service_manager_have_names_that_it_gives() {
        for name in ["public", "countersign.socket", "a b", &"x".repeat(limits::PASSED_NAME_BYTES_MAX)] {
            assert_eq!(listen(&format!("systemd:{name}")), Ok(ListenAddress::Systemd(name.into())));
        }
        for name in ["", "a:b", "a\n", "ü", &"x".repeat(limits::PASSED_NAME_BYTES_MAX + 1)] {
            assert!(listen(&format!("systemd:{name}")).is_err(), "{name:?}");
        }
        assert!(own("systemd:public").is_err());
    }

    #[test]
    fn servers_are_addresses_that_can_be_reached_or_socket_files() {
        let base = Path::new("/etc/countersign");
        assert_eq!(server("127.0.0.1:9000", base), Ok(Server::Tcp(([127, 0, 0, 1], 9000).into())));
        assert_eq!(server("unix:run/a.sock", base), Ok(Server::Unix(PathBuf::from("/etc/countersign/run/a.sock"))));
        assert_eq!(server("unix:/run/a.sock", base), Ok(Server::Unix(PathBuf::from("/run/a.sock"))));
        for text in ["unix:", "unix:@name", "/run/a.sock", "0.0.0.0:9000", "[::]:9000", "127.0.0.1:0", "ledger:9000"] {
            assert!(server(text, base).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_socket_path_fits_the_kernel_to_the_byte() {
        let longest = format!("/{}", "x".repeat(limits::UNIX_PATH_BYTES_MAX - 1));
        assert!(unix_path(&longest, Path::new("/")).is_ok());
        assert!(unix_path(&format!("{longest}x"), Path::new("/")).is_err());
        // A relative one counts with its directory.
        assert!(unix_path(&longest[1..], Path::new("/long")).is_err());
    }

    #[test]
    fn networks_have_no_bits_behind_the_prefix() {
        assert_eq!(network("10.0.0.0/8"), Ok("10.0.0.0/8".parse().unwrap()));
        assert_eq!(network("2001:db8::/32"), Ok("2001:db8::/32".parse().unwrap()));
        assert_eq!(network("192.0.2.1"), Ok("192.0.2.1/32".parse().unwrap()));
        for text in ["", "10.0.0.1/8", "10.0.0.0/33", "10.0.0.0/8/8", "example.org", "10.0.0.0/-1"] {
            assert!(network(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_mapped_loopback_address_is_loopback() {
        for (text, loopback) in
            [("127.9.9.9", true), ("::1", true), ("::ffff:127.0.0.1", true), ("10.0.0.1", false), ("::", false)]
        {
            assert_eq!(is_loopback(text.parse().unwrap()), loopback, "{text}");
        }
    }
}
