//! What the demonstration prints: lines to paste into a shell.

use crate::cli::pki::DemoPki;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

/// All of it.
pub fn welcome(dir: &Path, pki: &DemoPki, listen: SocketAddr, admin: Option<SocketAddr>, audit: &Path) -> String {
    let to = target(listen);
    let ca = quoted(&pki.ca.to_string_lossy());
    let with = format!(
        "curl --cacert {ca} --cert {} --key {} {to}",
        quoted(&escaped_for_curl(&pki.client_chain)),
        quoted(&pki.client_key.to_string_lossy()),
    );
    let mut text = format!(
        "Certificates, configuration and audit are in {}\n\n\
         Let in, with a client certificate:\n  {with}\n\n\
         Refused, without one:\n  curl --cacert {ca} {to}\n\n\
         Who came and why they were let in or refused:\n  tail {}\n",
        dir.display(),
        quoted(&audit.to_string_lossy()),
    );
    if let Some(admin) = admin {
        text.push_str(&format!("\nCounters and state:\n  curl http://{admin}/metrics\n  curl http://{admin}/status\n"));
    }
    text.push_str("\nCtrl-C ends it.\n");
    text
}

/// The URL and how to reach it: by a name that the certificate has, without asking any resolver.
fn target(listen: SocketAddr) -> String {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    let (port, address) = match ip {
        IpAddr::V4(ip) => (listen.port(), ip.to_string()),
        IpAddr::V6(ip) => (listen.port(), format!("[{ip}]")),
    };
    format!("--resolve {} https://localhost:{port}/hello", quoted(&format!("localhost:{port}:{address}")))
}

/// The path as curl's `--cert` takes it, where a colon begins a password.
fn escaped_for_curl(path: &Path) -> String {
    path.to_string_lossy().replace('\\', "\\\\").replace(':', "\\:")
}

/// One word for a POSIX shell.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-:".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_word_stays_and_any_other_is_quoted() {
        assert_eq!(quoted("/tmp/demo-1/ca.pem"), "/tmp/demo-1/ca.pem");
        assert_eq!(quoted("/tmp/my demo"), "'/tmp/my demo'");
        assert_eq!(quoted("it's; rm -rf $HOME"), r"'it'\''s; rm -rf $HOME'");
        assert_eq!(quoted(""), "''");
    }

    #[test]
    fn the_url_is_reached_where_the_listener_is_even_if_that_is_everywhere() {
        let to = |listen: &str| target(listen.parse().unwrap());
        assert_eq!(to("127.0.0.1:8443"), "--resolve localhost:8443:127.0.0.1 https://localhost:8443/hello");
        assert_eq!(to("0.0.0.0:1"), "--resolve localhost:1:127.0.0.1 https://localhost:1/hello");
        assert_eq!(to("[::]:1"), "--resolve 'localhost:1:[::1]' https://localhost:1/hello");
    }

    #[test]
    fn a_colon_in_a_path_is_no_password_to_curl() {
        assert_eq!(escaped_for_curl(Path::new("/tmp/a:b/c.pem")), r"/tmp/a\:b/c.pem");
    }
}
