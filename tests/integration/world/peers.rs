//! Other people's programs: openssl, curl, nginx, HAProxy.

use super::pki::CredentialFiles;
use super::process::{Output, Process, run};
use super::wait::{self, SOON};
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};

/// `openssl` with these arguments, in `dir`; it must succeed.
pub fn openssl(dir: &Path, arguments: &[&str]) -> Output {
    let output = run(Command::new("openssl").current_dir(dir).args(arguments));
    assert_eq!(output.code, Some(0), "openssl {arguments:?}: {}", output.text());
    output
}

/// `openssl s_client`: sends `input`, waits until the server ends the connection (or `-quit` by its own), gives what it said.
pub fn s_client(dir: &Path, address: SocketAddr, arguments: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new("timeout")
        .args(["20", "openssl", "s_client", "-connect", &address.to_string(), "-servername", "localhost"])
        .args(["-CAfile", "server-ca.pem", "-verify_return_error", "-ign_eof"])
        .args(arguments)
        .current_dir(dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A refused client may be gone before it has read its input.
    let _ = child.stdin.take().unwrap().write_all(input);
    let output = child.wait_with_output().unwrap();
    Output {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// `curl` to the server under its own name, with these arguments.
pub fn curl(dir: &Path, address: SocketAddr, client: Option<&CredentialFiles>, arguments: &[&str]) -> Output {
    let mut command = Command::new("curl");
    command.current_dir(dir).args(["--silent", "--show-error", "--max-time", "15", "--cacert", "server-ca.pem"]);
    command.args(["--noproxy", "*", "--resolve", &format!("localhost:{}:127.0.0.1", address.port())]);
    if let Some(files) = client {
        command.arg("--cert").arg(&files.chain).arg("--key").arg(&files.key);
    }
    run(command.args(arguments).arg(format!("https://localhost:{}/", address.port())))
}

/// A port that was free a moment ago, for programs that cannot choose one themselves; callers try again if it is taken.
fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Starts a program that listens on a port given to it, and waits until it answers.
pub fn start_listening(make: impl Fn(u16) -> Command) -> (Process, SocketAddr) {
    for _ in 0..5 {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let mut process = Process::spawn(&mut make(address.port()));
        let listens = wait::until_some(SOON, || {
            let ended = process.ended().is_some();
            (TcpStream::connect(address).is_ok() || ended).then_some(!ended)
        });
        if listens == Some(true) {
            return (process, address);
        }
        println!("{}", process.stderr.text());
    }
    panic!("it did not start in five tries");
}

/// HAProxy as a backend that requires a PROXY header and answers every request with what it understood.
pub fn haproxy_echo(dir: &Path) -> (Process, SocketAddr) {
    start_listening(|port| {
        let config = format!(
            "global\n  maxconn 100\ndefaults\n  mode http\n  timeout client 10s\n  timeout server 10s\n  timeout connect 5s\n\
             frontend f\n  bind 127.0.0.1:{port} accept-proxy\n  http-request return status 200 content-type text/plain \
             lf-string \"src=%[src]:%[src_port] dst_port=%[dst_port] authority=%[fc_pp_authority] id=%[fc_pp_unique_id,hex]\\n\"\n"
        );
        let path = dir.join("haproxy.cfg");
        std::fs::write(&path, config).unwrap();
        let mut command = Command::new("haproxy");
        command.args(["-db", "-f"]).arg(path);
        command
    })
}

/// nginx as a backend that requires a PROXY header and answers every request with what it understood.
pub fn nginx_echo(dir: &Path) -> (Process, SocketAddr) {
    start_listening(|port| {
        let config = format!(
            "daemon off;\nmaster_process off;\npid nginx.pid;\nerror_log stderr;\nevents {{ worker_connections 64; }}\n\
             http {{\n  access_log off;\n  client_body_temp_path t1; proxy_temp_path t2; fastcgi_temp_path t3; uwsgi_temp_path t4; \
             scgi_temp_path t5;\n  server {{\n    listen 127.0.0.1:{port} proxy_protocol;\n    default_type text/plain;\n    \
             return 200 \"src=$proxy_protocol_addr:$proxy_protocol_port dst_port=$proxy_protocol_server_port\\n\";\n  }}\n}}\n"
        );
        let path = dir.join("nginx.conf");
        std::fs::write(&path, config).unwrap();
        let mut command = Command::new("nginx");
        command.args(["-e", "stderr", "-p"]).arg(dir).arg("-c").arg(path);
        command
    })
}
