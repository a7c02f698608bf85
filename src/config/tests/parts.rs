//! `[runtime]`, `[admin]`, `[audit]`, `[tickets]`, listeners, backends, and what they say together.

use super::super::*;
use super::{LEAST, instead, refused, taken, warned, with};
use std::time::Duration;

#[test]
fn runtime_takes_what_is_built() {
    let text = with(
        "runtime",
        "cpus = \"2,0\"\npin = true\nengine = \"io_uring\"\nktls = \"off\"\ndrain_delay = \"3s\"\ndrain_timeout = \"0s\"",
    );
    let runtime = taken(&text).runtime;
    assert_eq!((runtime.cpus, runtime.pin), (Cpus::List(vec![0, 2]), Pin::Always));
    assert_eq!((runtime.engine, runtime.ktls), (Engine::IoUring, Ktls::Off));
    assert_eq!((runtime.drain_delay, runtime.drain_timeout), (Duration::from_secs(3), Duration::ZERO));
    assert_eq!(taken(&with("runtime", "pin = false")).runtime.pin, Pin::Never);
}

#[test]
fn runtime_refuses_what_it_does_not_know() {
    refused(&with("runtime", "pin = \"yes\""), "runtime.pin", "write true, false or \"auto\"");
    refused(&with("runtime", "engine = \"iouring\""), "runtime.engine", "did you mean \"io_uring\"?");
    refused(&with("runtime", "cpus = \"5-2\""), "runtime.cpus", "runs backwards");
    refused(&with("runtime", "drain_timeout = 60"), "runtime.drain_timeout", "is a whole number");
}

#[test]
fn admin_is_reached_from_this_host_alone_unless_told_otherwise() {
    refused(&with("admin", "http = \"0.0.0.0:9180\""), "admin.http", "allow_remote = true");
    refused(&with("admin", "http = \"192.0.2.1:0\""), "admin.http", "allow_remote = true");
    taken(&with("admin", "http = \"0.0.0.0:9180\"\nallow_remote = true"));
    let admin = taken(&with("admin", "http = \"\"\nprobe = \"0.0.0.0:9181\"\nsocket = \"\"")).admin.unwrap();
    assert_eq!((admin.http, admin.socket), (None, None));
    assert_eq!(admin.probe, Some("0.0.0.0:9181".parse().unwrap()));
    refused(&with("admin", "probe = \"127.0.0.1:9180\""), "admin.probe", "taken by admin.http");
    refused(&with("admin", "probe = \"0.0.0.0:9180\""), "admin.probe", "cannot be bound beside 127.0.0.1:9180");
    let before = |address: &str| with("admin", "").replace("127.0.0.1:0", address);
    refused(&before("0.0.0.0:9180"), "admin.http", "cannot be bound beside 0.0.0.0:9180");
    taken(&before("[::]:9180"));
}

#[test]
fn log_and_audit_take_their_words() {
    let config = taken(&with("log", "level = \"debug\"\nformat = \"json\""));
    assert_eq!(config.log, Log { level: "debug".to_owned(), format: LogFormat::Json });
    refused(&with("log", "level = \"INFO\""), "log.level", "did you mean \"info\"?");
    let audit = taken(&with("audit", "path = \"-\"\non_full = \"refuse\"")).audit.unwrap();
    assert_eq!(audit, Audit { target: AuditTarget::Stdout, on_full: OnFull::Refuse });
    let audit = taken(&with("audit", "path = \"a.jsonl\"")).audit.unwrap();
    assert_eq!(audit.target, AuditTarget::File("/etc/countersign/a.jsonl".into()));
    refused(&with("audit", "path = \"\""), "audit.path", "leave the table [audit] out");
}

#[test]
fn tickets_live_no_longer_than_tls_allows_and_their_keys_do() {
    refused(&with("tickets", "lifetime = \"8d\"\nrotate = \"7d\""), "tickets.lifetime", "at most \"7d\"");
    refused(&with("tickets", "rotate = \"0s\""), "tickets.rotate", "may not be zero");
    refused(&with("tickets", "keep = 65"), "tickets.keep", "out of range");
    warned(&with("tickets", "keep = 0"), "tickets.lifetime", "outlive their keys");
    taken(&with("tickets", "keep = 0\nlifetime = \"1h\""));
    taken(&with("tickets", "enabled = false"));
}

#[test]
fn a_listener_has_addresses() {
    let two = instead("[\"127.0.0.1:0\"]", "[\"127.0.0.1:0\", \"[::1]:0\"]");
    assert_eq!(taken(&two).listeners[0].addresses.len(), 2);
    assert_eq!(taken(&instead("[\"127.0.0.1:0\"]", "\"127.0.0.1:0\"")).listeners[0].addresses.len(), 1);
    refused(&instead("[\"127.0.0.1:0\"]", "[]"), "listener.address", "is empty");
    refused(&instead("address = [\"127.0.0.1:0\"]", ""), "listener.address", "is missing");
    refused(&instead("127.0.0.1:0", "localhost:8443"), "listener.address[0]", "write \"127.0.0.1:8443\"");
    refused(&LEAST.replace("[[listener]]", "[listener]"), "listener", "[[listener]], with two brackets");
    taken(&instead("[\"127.0.0.1:0\"]", "[\"0.0.0.0:8443\", \"[::]:8443\", \"127.0.0.1:8443\"]"));
    refused(&instead("127.0.0.1:0", "[::ffff:127.0.0.1]:8443"), "listener.address[0]", "write \"127.0.0.1:8443\"");
}

#[test]
fn limits_have_bounds() {
    let limits = |lines: &str| instead("[[site]]", &format!("[listener.limits]\n{lines}\n[[site]]"));
    let taken = taken(&limits("connections = 10\nclient_chain_bytes = \"64KiB\"\nidle_timeout = \"1h30m\"")).listeners;
    assert_eq!(taken[0].limits.connections, Some(10));
    assert_eq!(taken[0].limits.client_chain_bytes, 65536);
    assert_eq!(taken[0].limits.idle_timeout, Duration::from_secs(5400));
    for (line, words) in [
        ("connections = 0", "out of range"),
        ("connections = \"many\"", "\"auto\" or a whole number"),
        ("handshakes_in_flight = -1", "out of range"),
        ("handshakes_in_flight = 4294967296", "out of range"),
        ("handshake_timeout = \"0s\"", "may not be zero"),
        ("idle_timeout = \"0s\"", "may not be zero"),
        ("end_at_expiry = \"yes\"", "true or false"),
        ("client_chain_bytes = \"65KiB\"", "out of range"),
        ("client_chain_bytes = \"1000\"", "out of range"),
        ("client_chain_bytes = 32768", "should be a string"),
        ("client_chain_certificates = 0", "out of range"),
        ("client_chain_certificates = 65", "out of range"),
    ] {
        let key = format!("listener.limits.{}", line.split(' ').next().unwrap());
        refused(&limits(line), &key, words);
    }
    warned(&limits("client_chain_certificates = 4"), "site.client.max_depth", "raise client_chain_certificates");
}

#[test]
fn several_listeners_and_backends_have_names_of_their_own() {
    let second = "[[listener]]\naddress = [\"127.0.0.2:0\"]\n";
    let faults = super::faults_of(&format!("{LEAST}{second}"));
    let keys: Vec<&str> = faults.iter().map(|fault| fault.key.as_str()).collect();
    assert_eq!(keys, ["listener[0].name", "site.listener", "listener[1].name"]);
    let named = |name: &str| {
        let text = with("listener", "name = \"a\"").replace("[[site]]", "[[site]]\nlistener = \"a\"");
        format!("{text}{second}name = \"{name}\"\n")
    };
    refused(&named("a"), "listener[1].name", "is the name of the one of line 2 too");
    warned(&named("b"), "listener[1]", "no site is at this listener");
    let backends = format!("{LEAST}name = \"a\"\n[[backend]]\nname = \"b\"\nservers = [\"127.0.0.1:1\"]\n");
    refused(&backends, "site.backend", "there are several: write backend = \"a\"");
    warned(&backends.replace("[[site]]", "[[site]]\nbackend = \"a\""), "backend[1]", "no site leads to this backend");
}

#[test]
fn an_address_serves_one_purpose() {
    let second = |address: &str| {
        let site = "[[site]]\nname = \"second\"\nlistener = \"b\"\ncertificate = [{ chain = \"s\", key = \"k\" }]\nclient.trust = [\"t\"]\n";
        LEAST
            .replace("127.0.0.1:0", "127.0.0.1:8443")
            .replace("[[listener]]", "[[listener]]\nname = \"a\"")
            .replace("[[site]]", "[[site]]\nlistener = \"a\"")
            + &format!("[[listener]]\nname = \"b\"\naddress = [\"{address}\"]\n{site}")
    };
    refused(&second("127.0.0.1:8443"), "listener[1].address", "taken by the listener of line 2");
    warned(&second("0.0.0.0:8443"), "listener[0].address", "0.0.0.0:8443 is bound too");
    taken(&second("127.0.0.1:8444"));
    refused(&with("admin", "").replace("127.0.0.1:0", "127.0.0.1:9180"), "admin.http", "taken by the listener");
    refused(&instead("127.0.0.1:0", "127.0.0.1:9000"), "backend.servers", "this server itself");
    refused(&instead("127.0.0.1:0", "0.0.0.0:9000"), "backend.servers", "this server itself");
}

#[test]
fn each_listener_says_what_the_kernel_may_do_for_it() {
    let kernel = |lines: &str| taken(&with("listener", lines)).listeners[0].kernel;
    assert_eq!(kernel(""), KernelPath { ktls: Directions::Auto, splice: Splice::Auto });
    assert_eq!(kernel("ktls = \"off\"").ktls, Directions::Off);
    let both = kernel("ktls = \"both\"\nsplice = \"off\"");
    assert_eq!(both, KernelPath { ktls: Directions::Both, splice: Splice::Off });
    assert_eq!(kernel("splice = \"on\"").splice, Splice::On);
    refused(&with("listener", "ktls = \"bot\""), "listener.ktls", "did you mean \"both\"?");
    refused(&with("listener", "ktls = true"), "listener.ktls", "is true or false");
    refused(&with("listener", "splice = \"always\""), "listener.splice", "\"off\" or \"on\" or \"auto\"");
}

#[test]
fn a_listener_that_contradicts_the_process_about_kernel_tls_is_warned_of() {
    let text = |runtime: &str, lines: &str| format!("[runtime]\nktls = \"{runtime}\"\n{}", with("listener", lines));
    warned(&text("off", "ktls = \"both\""), "listener.ktls", "has no effect");
    warned(&text("require", "ktls = \"off\""), "listener.ktls", "keeps this listener in user space");
    warned(&text("off", "splice = \"on\""), "listener.splice", "has no effect");
    warned(&text("auto", "ktls = \"off\"\nsplice = \"on\""), "listener.splice", "has no effect");
    for (runtime, lines) in
        [("off", ""), ("off", "ktls = \"off\""), ("auto", "ktls = \"off\""), ("require", "ktls = \"both\"")]
    {
        taken(&text(runtime, lines));
    }
}

#[test]
fn plaintext_leaves_this_host_only_when_told_to() {
    refused(&instead("127.0.0.1:9000", "192.0.2.7:9000"), "backend.servers[0]", "allow_remote = true");
    refused(&instead("127.0.0.1:9000", "[2001:db8::1]:9000"), "backend.servers[0]", "allow_remote = true");
    taken(&instead("127.0.0.1:9000", "[::1]:9000"));
    taken(&instead("127.0.0.1:9000", "192.0.2.7:9000").replace("[[backend]]", "[[backend]]\nallow_remote = true"));
}

#[test]
fn a_backend_has_servers_each_once() {
    refused(&instead("[\"127.0.0.1:9000\"]", "[]"), "backend.servers", "is empty");
    refused(&instead("servers = [\"127.0.0.1:9000\"]", ""), "backend.servers", "is missing");
    let twice = instead("[\"127.0.0.1:9000\"]", "[\"unix:a\", \"unix:a\"]");
    refused(&twice, "backend.servers[1]", "stands in the list twice");
    let backend = &taken(&instead("\"127.0.0.1:9000\"", "\"unix:run/a.sock\"")).backends[0];
    assert_eq!(backend.servers, [Server::Unix("/etc/countersign/run/a.sock".into())]);
    refused(&instead("127.0.0.1:9000", &format!("unix:{}", "x".repeat(108))), "backend.servers[0]", "a shorter path");
}

#[test]
fn every_balance_is_taken() {
    for (word, balance) in [
        ("least_connections", Balance::LeastConnections),
        ("round_robin", Balance::RoundRobin),
        ("identity_hash", Balance::IdentityHash),
    ] {
        assert_eq!(taken(&with("backend", &format!("balance = \"{word}\""))).backends[0].balance, balance);
    }
    refused(&with("backend", "balance = \"random\""), "backend.balance", "is not known");
}

#[test]
fn tlvs_are_known_ones_and_go_with_proxy_v2() {
    let v2 = with("backend", "proxy_protocol = \"v2\"\nproxy_tlvs = [\"ssl\", \"crc32c\", \"client_cert\"]");
    let tlvs =
        ProxyTlvs { alpn: false, authority: false, unique_id: false, ssl: true, crc32c: true, client_cert: true };
    assert_eq!(taken(&v2).backends[0].proxy_tlvs, tlvs);
    warned(&v2.replace("\"v2\"", "\"v1\""), "backend.proxy_tlvs", "only PROXY v2");
    warned(&with("backend", "proxy_tlvs = [\"crc32c\"]"), "backend.proxy_tlvs", "only PROXY v2");
    refused(&with("backend", "proxy_tlvs = [\"crc32\"]"), "backend.proxy_tlvs[0]", "did you mean `crc32c`?");
    refused(&with("backend", "proxy_tlvs = [\"ssl\", \"ssl\"]"), "backend.proxy_tlvs[1]", "twice");
    refused(&with("backend", "connect_timeout = \"0s\""), "backend.connect_timeout", "may not be zero");
}
