//! Envoy as a backend that reads PROXY v2: it understands the addresses, the checksum and each TLV.

use crate::world::World;
use crate::world::client::{ClientSpec, TLS12, TLS13};
use crate::world::config::ConfigText;
use crate::world::peers::start_listening;
use crate::world::pki::CLIENT_CN;
use crate::world::process::{Process, needs};
use crate::world::wait::{SOON, until_some};
use serde_json::Value;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

/// Answers each request by itself, and writes what the header said as a line of JSON when the connection ends. (Its HTTP
/// layer does not see the TLVs; its listener's log does.)
const CONFIG: &str = r#"
static_resources:
  listeners:
  - address: { socket_address: { address: 127.0.0.1, port_value: PORT } }
    enable_reuse_port: false
    access_log:
    - name: stdout
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog
        log_format:
          json_format:
            source: "%DOWNSTREAM_REMOTE_ADDRESS%"
            destination: "%DOWNSTREAM_LOCAL_ADDRESS%"
            tlvs: "%DYNAMIC_METADATA(envoy.filters.listener.proxy_protocol)%"
    listener_filters:
    - name: proxy_protocol
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol
        rules:
        - { tlv_type: 0x01, on_tlv_present: { key: alpn } }
        - { tlv_type: 0x02, on_tlv_present: { key: authority } }
        - { tlv_type: 0x05, on_tlv_present: { key: unique_id } }
        - { tlv_type: 0x20, on_tlv_present: { key: ssl } }
    filter_chains:
    - filters:
      - name: http
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: all
          use_remote_address: true
          http_filters:
          - name: router
            typed_config: { "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              response_headers_to_add:
              - header: { key: x-source, value: "%DOWNSTREAM_REMOTE_ADDRESS%" }
              routes:
              - match: { prefix: "/" }
                direct_response: { status: 200, body: { inline_string: "from envoy" } }
"#;

fn start(dir: &Path) -> (Process, SocketAddr) {
    start_listening(|port| {
        let path = dir.join("envoy.yaml");
        std::fs::write(&path, CONFIG.replace("PORT", &port.to_string())).unwrap();
        let mut command = Command::new("envoy");
        // Lines of the log are kept back for ten seconds by default.
        command.args(["--disable-hot-restart", "--concurrency", "1", "--log-level", "error"]);
        command.args(["--file-flush-interval-msec", "50", "-c"]).arg(path);
        command
    })
}

/// Envoy's way to print bytes that are no UTF-8: each of them becomes a mark.
fn as_envoy_prints(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|_| '!'));
    }
    text
}

#[test]
fn envoy_reads_addresses_checksum_and_every_tlv() {
    if !needs("envoy") {
        return;
    }
    let world = World::new();
    let (envoy, backend) = start(world.path());
    let config = ConfigText::new(&backend.to_string()).site("alpn = [\"http/1.1\"]").backend("proxy_protocol = \"v2\"");
    let tlvs = "proxy_tlvs = [\"alpn\", \"authority\", \"unique_id\", \"ssl\", \"crc32c\"]";
    let server = world.serve(&config.backend(tlvs));
    // Suites by OpenSSL's names, as HAProxy sends them.
    for (versions, version, suite) in [(TLS12, "TLSv1.2", "ECDHE-ECDSA-AES"), (TLS13, "TLSv1.3", "TLS_AES_")] {
        let mut spec = ClientSpec::new(&world.pki).versions(versions);
        spec.alpn = vec![b"http/1.1".to_vec()];
        let mut client = spec.connect(server.address());
        client.handshake().unwrap();
        client.send(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
        let (answer, _) = client.read_to_end();
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.contains("from envoy"), "{answer}");
        assert!(answer.contains(&format!("x-source: {}\r\n", client.address)), "{answer}");
        drop(client.tcp);

        let source = client.address.to_string();
        let read = until_some(SOON, || {
            let lines = envoy.stdout.all();
            lines
                .iter()
                .filter_map(|line| serde_json::from_str::<Value>(line).ok())
                .find(|line| line["source"] == source)
        });
        let read = read.unwrap_or_else(|| panic!("{source} is not in {}", envoy.stdout.text()));
        assert_eq!(read["destination"], server.address().to_string(), "{read}");
        let tlvs = &read["tlvs"];
        assert_eq!((&tlvs["alpn"], &tlvs["authority"]), (&"http/1.1".into(), &"localhost".into()), "{read}");
        let audit = server.audit_of(client.address, "accepted");
        let id = hex::decode(audit["conn_id"].as_str().unwrap()).unwrap();
        assert_eq!(tlvs["unique_id"], as_envoy_prints(&id), "{read}");
        let ssl = tlvs["ssl"].as_str().unwrap();
        assert!(ssl.starts_with("\u{7}\0\0\0\0"), "{ssl:?}");
        for part in [version, CLIENT_CN, suite] {
            assert!(ssl.contains(part), "no {part} in {ssl:?}");
        }
    }
    assert_eq!(server.stop(), 0);
}
