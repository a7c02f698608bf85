//! How each program is told to do the same thing: one worker, TLS 1.3 with one suite and one group, client certificates
//! demanded and verified, tickets on, logs off, bytes passed on as they are.

use std::fmt::Write;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::load::compare::peer::{Kind, NGINX_STREAM, Peer, Program};

pub const SUITE: &str = "TLS_AES_128_GCM_SHA256";
pub const GROUP: &str = "X25519";

/// Where one program runs: what it is given.
#[derive(Clone, Debug)]
pub struct Place {
    /// Its own scratch directory.
    pub directory: PathBuf,
    /// The PKI of the whole comparison.
    pub pki: PathBuf,
    pub listen: SocketAddr,
    /// Where Countersign serves its metrics.
    pub admin: SocketAddr,
    /// `IP:PORT` or `unix:PATH`.
    pub backend: String,
    pub cpu: usize,
    /// Connections that it has to bear.
    pub connections: usize,
}

impl Place {
    fn pki_file(&self, name: &str) -> String {
        self.pki.join(name).display().to_string()
    }

    fn own_file(&self, name: &str) -> String {
        self.directory.join(name).display().to_string()
    }

    fn backend_path(&self) -> Option<&str> {
        self.backend.strip_prefix("unix:")
    }
}

/// The command line that starts `peer` in `place`, its configuration written.
pub fn command(peer: &Peer, place: &Place) -> io::Result<Vec<String>> {
    let (program, path) = match &peer.kind {
        Kind::Known(program, path) => (*program, path),
        Kind::Other(words) => return others(words, place),
    };
    let (name, text, words): (&str, String, &[&str]) = match program {
        Program::Countersign => ("countersign.toml", countersign(place, "auto"), &["run", "-c", "FILE"]),
        Program::CountersignUser => ("countersign-user.toml", countersign(place, "off"), &["run", "-c", "FILE"]),
        Program::Haproxy => ("haproxy.cfg", haproxy(place)?, &["-db", "-q", "-f", "FILE"]),
        Program::Nginx => ("nginx.conf", nginx(place), &["-p", "DIRECTORY", "-c", "FILE"]),
        Program::Hitch => ("hitch.conf", hitch(place)?, &["--config=FILE"]),
        Program::Stunnel => ("stunnel.conf", stunnel(place), &["FILE"]),
        Program::Envoy => (
            "envoy.yaml",
            envoy(place),
            &["--disable-hot-restart", "--concurrency", "1", "--log-level", "critical", "-c", "FILE"],
        ),
    };
    let file = place.own_file(name);
    fs::write(&file, text)?;
    let directory = place.directory.display().to_string();
    let own = words.iter().map(|w| w.replace("FILE", &file).replace("DIRECTORY", &directory));
    Ok(std::iter::once(path.display().to_string()).chain(own).collect())
}

fn others(words: &[String], place: &Place) -> io::Result<Vec<String>> {
    let both = if words.iter().any(|w| w.contains("{certificate_and_key}")) { combined(place)? } else { String::new() };
    let values = [
        ("{listen}", place.listen.to_string()),
        ("{host}", place.listen.ip().to_string()),
        ("{port}", place.listen.port().to_string()),
        ("{backend}", place.backend.clone()),
        ("{backend_path}", place.backend_path().unwrap_or_default().to_owned()),
        ("{certificate}", place.pki_file("server.pem")),
        ("{key}", place.pki_file("server.key")),
        ("{certificate_and_key}", both),
        ("{client_ca}", place.pki_file("ca.pem")),
        ("{directory}", place.directory.display().to_string()),
    ];
    let fill = |word: &String| values.iter().fold(word.clone(), |text, (name, value)| text.replace(name, value));
    Ok(words.iter().map(fill).collect())
}

/// Chain and key in one file, for those who want them so.
fn combined(place: &Place) -> io::Result<String> {
    let file = place.own_file("server-and-key.pem");
    let text = fs::read_to_string(place.pki.join("server.pem"))? + &fs::read_to_string(place.pki.join("server.key"))?;
    write_secret(Path::new(&file), &text)?;
    Ok(file)
}

fn write_secret(path: &Path, text: &str) -> io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?.write_all(text.as_bytes())
}

fn countersign(place: &Place, ktls: &str) -> String {
    let (chain, key, ca) = (place.pki_file("server.pem"), place.pki_file("server.key"), place.pki_file("ca.pem"));
    format!(
        "[runtime]\ncpus = \"{}\"\nktls = \"{ktls}\"\n[admin]\nhttp = \"{}\"\nsocket = \"\"\n[log]\nlevel = \"error\"\n[[listener]]\nname = \"l\"\naddress = [\"{}\"]\n[[site]]\n\
         backend = \"b\"\ncertificate = [{{ chain = {chain:?}, key = {key:?} }}]\n[site.tls]\nmin_version = \"1.3\"\n\
         cipher_suites = [\"{SUITE}\"]\ngroups = [\"{GROUP}\"]\n[site.client]\ntrust = [{ca:?}]\n[[backend]]\nname = \"b\"\n\
         servers = [{:?}]\n",
        place.cpu, place.admin, place.listen, place.backend
    )
}

fn haproxy(place: &Place) -> io::Result<String> {
    let server = place.backend_path().map_or(place.backend.clone(), |path| format!("unix@{path}"));
    Ok(format!(
        "global\n  nbthread 1\n  maxconn {}\ndefaults\n  mode tcp\n  timeout connect 5s\n  timeout client 10m\n  timeout server \
         10m\nfrontend f\n  bind {} ssl crt {} ca-file {} verify required ssl-min-ver TLSv1.3 ciphersuites {SUITE} curves \
         {GROUP}\n  default_backend b\nbackend b\n  server s {server}\n",
        place.connections + 500,
        place.listen,
        combined(place)?,
        place.pki_file("ca.pem"),
    ))
}

fn nginx(place: &Place) -> String {
    let module = NGINX_STREAM.iter().find(|module| Path::new(module).exists()).unwrap_or(&NGINX_STREAM[0]);
    // Started by root it would give its worker to a user who may not enter our directory.
    let user = if rustix::process::geteuid().is_root() { "user root;\n" } else { "" };
    let [chain, key, ca, pid] = [
        place.pki_file("server.pem"),
        place.pki_file("server.key"),
        place.pki_file("ca.pem"),
        place.own_file("nginx.pid"),
    ];
    format!(
        "load_module {module};\n{user}daemon off;\nworker_processes 1;\npid {pid};\nerror_log stderr crit;\nevents {{ \
         worker_connections {}; }}\nstream {{\n  access_log off;\n  server {{\n    listen {} ssl reuseport backlog=4096;\n    \
         proxy_pass {};\n    ssl_certificate {chain};\n    ssl_certificate_key {key};\n    ssl_client_certificate {ca};\n    \
         ssl_verify_client on;\n    ssl_verify_depth 4;\n    ssl_protocols TLSv1.3;\n    ssl_conf_command Ciphersuites \
         {SUITE};\n    ssl_ecdh_curve {GROUP};\n    ssl_session_tickets on;\n    ssl_session_timeout 2h;\n    proxy_timeout \
         10m;\n  }}\n}}\n",
        2 * place.connections + 500,
        place.listen,
        place.backend,
    )
}

fn hitch(place: &Place) -> io::Result<String> {
    // It refuses to be root unless told.
    let user = if rustix::process::geteuid().is_root() { "user = \"root\"\n" } else { "" };
    let backend = match place.backend.rsplit_once(':') {
        _ if place.backend_path().is_some() => place.backend_path().unwrap_or_default().to_owned(),
        Some((host, port)) => format!("[{host}]:{port}"),
        None => place.backend.clone(),
    };
    Ok(format!(
        "frontend = {{ host = \"{}\" port = \"{}\" }}\nbackend = \"{backend}\"\npem-file = \"{}\"\ntls-protos = TLSv1.3\n\
         ciphersuites = \"{SUITE}\"\necdh-curve = \"{GROUP}\"\nclient-verify = required\nclient-verify-ca = \"{}\"\nworkers = 1\n\
         daemon = off\nlog-level = 1\nbacklog = 4096\nkeepalive = 3600\n{user}",
        place.listen.ip(),
        place.listen.port(),
        combined(place)?,
        place.pki_file("ca.pem"),
    ))
}

fn stunnel(place: &Place) -> String {
    let backend = place.backend_path().unwrap_or(&place.backend);
    let mut text = String::from("foreground = yes\nsyslog = no\ndebug = 3\npid =\n[s]\n");
    let lines = [
        ("accept", place.listen.to_string()),
        ("connect", backend.to_owned()),
        ("cert", place.pki_file("server.pem")),
        ("key", place.pki_file("server.key")),
        ("CAfile", place.pki_file("ca.pem")),
        ("verifyChain", "yes".to_owned()),
        ("sslVersion", "TLSv1.3".to_owned()),
        ("ciphersuites", SUITE.to_owned()),
        ("curves", GROUP.to_owned()),
        ("TIMEOUTidle", "600".to_owned()),
    ];
    for (name, value) in lines {
        writeln!(text, "{name} = {value}").expect("writing to a string does not fail");
    }
    text
}

fn envoy(place: &Place) -> String {
    let backend = match (place.backend_path(), place.backend.rsplit_once(':')) {
        (Some(path), _) => format!("pipe: {{ path: {path:?} }}"),
        (None, Some((host, port))) => format!("socket_address: {{ address: {host}, port_value: {port} }}"),
        (None, None) => String::new(),
    };
    let types = "type.googleapis.com/envoy.extensions";
    format!(
        "static_resources:\n  listeners:\n  - name: l\n    address: {{ socket_address: {{ address: {}, port_value: {} }} }}\n    \
         tcp_backlog_size: 4096\n    \
         filter_chains:\n    - transport_socket:\n        name: tls\n        typed_config:\n          \"@type\": \
         {types}.transport_sockets.tls.v3.DownstreamTlsContext\n          require_client_certificate: true\n          \
         common_tls_context:\n            tls_params: {{ tls_minimum_protocol_version: TLSv1_3, tls_maximum_protocol_version: \
         TLSv1_3, ecdh_curves: [{GROUP}] }}\n            tls_certificates:\n            - certificate_chain: {{ filename: {:?} \
         }}\n              private_key: {{ filename: {:?} }}\n            validation_context: {{ trusted_ca: {{ filename: {:?} }} \
         }}\n      filters:\n      - name: tcp\n        typed_config:\n          \"@type\": \
         {types}.filters.network.tcp_proxy.v3.TcpProxy\n          stat_prefix: t\n          cluster: b\n  clusters:\n  - name: \
         b\n    connect_timeout: 5s\n    type: STATIC\n    circuit_breakers: {{ thresholds: [{{ max_connections: {limit}, \
         max_pending_requests: {limit} }}] }}\n    load_assignment:\n      cluster_name: b\n      endpoints: [{{ lb_endpoints: [{{ \
         endpoint: {{ address: {{ {backend} }} }} }}] }}]\n",
        place.listen.ip(),
        place.listen.port(),
        place.pki_file("server.pem"),
        place.pki_file("server.key"),
        place.pki_file("ca.pem"),
        limit = place.connections + 500,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::compare::peer::KNOWN;

    fn place(directory: &Path) -> Place {
        for name in ["server.pem", "server.key", "ca.pem"] {
            fs::write(directory.join(name), name).unwrap();
        }
        Place {
            directory: directory.to_path_buf(),
            pki: directory.to_path_buf(),
            listen: "127.0.0.1:8443".parse().unwrap(),
            admin: "127.0.0.1:9180".parse().unwrap(),
            backend: "127.0.0.1:9000".to_owned(),
            cpu: 0,
            connections: 100,
        }
    }

    #[test]
    fn every_configuration_demands_the_same_of_clients_and_leads_to_the_backend() {
        let directory = tempfile::tempdir().unwrap();
        let tcp = place(directory.path());
        let unix = Place { backend: "unix:/run/b.sock".to_owned(), ..tcp.clone() };
        for program in KNOWN {
            let kind = Kind::Known(program, PathBuf::from("/bin/true"));
            let peer = Peer { name: program.name().to_owned(), version: String::new(), kind };
            for (place, backend) in [(&tcp, "9000"), (&unix, "/run/b.sock")] {
                let words = command(&peer, place).unwrap();
                let file = words.iter().find_map(|w| w.rfind('/').map(|_| w.trim_start_matches("--config=")));
                let file = words
                    .iter()
                    .rev()
                    .find(|w| w.contains(program.name()))
                    .map_or(file, |w| Some(w.trim_start_matches("--config=")));
                let text = fs::read_to_string(file.unwrap()).unwrap();
                for part in [backend, "8443", "ca.pem"] {
                    assert!(text.contains(part), "{part} not for {program:?} in:\n{text}");
                }
                assert!(text.contains("X25519") && !text.contains("FILE"), "{text}");
            }
        }
    }

    #[test]
    fn a_command_of_ones_own_gets_its_placeholders_filled_and_blanks_do_not_split_them() {
        let directory = tempfile::tempdir().unwrap();
        let peer = |words: &[&str]| Peer {
            name: "own".to_owned(),
            version: String::new(),
            kind: Kind::Other(words.iter().map(|w| (*w).to_owned()).collect()),
        };
        let mut place = place(directory.path());
        place.backend = "unix:/run/my b.sock".to_owned();
        let words =
            command(&peer(&["run", "{host}+{port}", "{backend}", "{backend_path}", "{unknown}"]), &place).unwrap();
        assert_eq!(words, ["run", "127.0.0.1+8443", "unix:/run/my b.sock", "/run/my b.sock", "{unknown}"]);
        let words = command(&peer(&["run", "{certificate_and_key}"]), &place).unwrap();
        assert_eq!(fs::read_to_string(&words[1]).unwrap(), "server.pemserver.key");
    }

    #[test]
    fn one_countersign_may_leave_the_records_to_the_kernel_and_the_other_not() {
        let directory = tempfile::tempdir().unwrap();
        let place = place(directory.path());
        for program in [Program::Countersign, Program::CountersignUser] {
            let kind = Kind::Known(program, PathBuf::from("/bin/true"));
            let peer = Peer { name: program.name().to_owned(), version: String::new(), kind };
            let words = command(&peer, &place).unwrap();
            let text = fs::read_to_string(words.last().unwrap()).unwrap();
            assert_eq!(text.contains("ktls = \"off\""), program == Program::CountersignUser, "{text}");
            assert!(text.contains("http = \"127.0.0.1:9180\""), "{text}");
        }
    }
}
