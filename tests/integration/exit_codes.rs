//! Exit codes, as scripts and service managers rely on them; each failure says what to do.

use crate::world::World;
use crate::world::backend::{Backend, echo};
use crate::world::config::ConfigText;
use crate::world::pki::{Credential, KeyKind, LeafSpec, SERVER_NAME};
use crate::world::process::{Output, needs, run};
use crate::world::server::{Server, binary, command};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

fn countersign(dir: &Path, arguments: &[&str]) -> Output {
    run(command(dir).args(arguments))
}

/// `run` with this configuration, where it cannot come to serve.
fn failing(world: &World, config: &ConfigText) -> Output {
    config.write(world.path());
    let output = countersign(world.path(), &["run", "-c", "countersign.toml"]);
    assert!(!output.text().contains("panicked"), "{}", output.text());
    output
}

/// The program without one capability, so that root meets the limits that others do.
fn without(capability: &str, dir: &Path) -> Option<Command> {
    let root = std::fs::metadata("/proc/self").is_ok_and(|meta| std::os::unix::fs::MetadataExt::uid(&meta) == 0);
    if !root {
        return Some(command(dir));
    }
    if !needs("setpriv") {
        return None;
    }
    let mut command = Command::new("setpriv");
    let dropped: Vec<String> = capability.split(',').map(|name| format!("-{name}")).collect();
    let list = dropped.join(",");
    command.args(["--bounding-set", &list, "--inh-caps", &list]).arg(binary()).current_dir(dir);
    Some(command)
}

#[test]
fn usage_faults_exit_64_and_help_and_version_0() {
    let world = World::new();
    let code = |arguments: &[&str]| countersign(world.path(), arguments).code;
    for wrong in [&["run", "--no-such-flag"][..], &["no-such-command"], &["--no-such-flag"], &["check"], &["run"]] {
        assert_eq!(code(wrong), Some(64), "{wrong:?}");
    }
    for right in [&["--help"][..], &["--version"], &["run", "--help"], &["check", "--help"]] {
        assert_eq!(code(right), Some(0), "{right:?}");
    }
    assert!(countersign(world.path(), &["--version"]).stdout.contains(env!("CARGO_PKG_VERSION")));
}

#[test]
fn a_bad_configuration_exits_78_and_names_the_place() {
    let world = World::new();
    let output = countersign(world.path(), &["run", "-c", "absent.toml"]);
    assert_eq!(output.code, Some(78), "{}", output.text());
    assert!(output.stderr.contains("absent.toml"), "{}", output.stderr);

    let output = failing(&world, &ConfigText::new("127.0.0.1:9").limits("idle_timeot = \"5s\""));
    assert_eq!(output.code, Some(78), "{}", output.text());
    for part in ["idle_timeot", "idle_timeout", "countersign.toml:"] {
        assert!(output.stderr.contains(part), "{part} in {}", output.stderr);
    }
    let output = failing(&world, &ConfigText::new("127.0.0.1:9").limits("idle_timeout = 5"));
    assert_eq!(output.code, Some(78), "{}", output.text());
}

#[test]
fn what_is_promised_but_not_built_is_refused_and_never_ignored() {
    let world = World::new();
    let plain = || ConfigText::new("127.0.0.1:9");
    let cases = [
        ("protocol", plain().site("protocol = \"http\"")),
        ("watch", plain().runtime("watch = \"5s\"")),
        ("state_dir", plain().runtime("state_dir = \"state\"")),
    ];
    for (key, config) in cases {
        config.write(world.path());
        let output = countersign(world.path(), &["check", "-c", "countersign.toml"]);
        if output.code == Some(0) {
            println!("{key} is built");
            continue;
        }
        assert_eq!(output.code, Some(78), "{key}: {}", output.text());
        assert!(output.text().contains("not yet supported"), "{key}: {}", output.text());
    }
}

#[test]
fn a_file_that_is_missing_or_wrong_exits_78_and_is_named() {
    let world = World::new();
    let good = || ConfigText::new("127.0.0.1:9");
    let replaced = |from: &str, to: &str| {
        let mut config = good();
        config.sites[0].lines = config.sites[0].lines.replace(from, to);
        config.sites[0].client = config.sites[0].client.replace(from, to);
        config
    };
    world.write("empty.pem", "");
    world.write("noise.pem", "-----BEGIN CERTIFICATE-----\nnoise\n-----END CERTIFICATE-----\n");
    world.pki.server_ca.leaf(&LeafSpec::server(&[SERVER_NAME], KeyKind::Ecdsa)).write(world.path(), "other");
    let cases = [
        ("absent.pem", replaced("server.pem", "absent.pem")),
        ("absent.key", replaced("server.key", "absent.key")),
        ("absent.pem", replaced("clients-ca.pem", "absent.pem")),
        ("empty.pem", replaced("clients-ca.pem", "empty.pem")),
        ("noise.pem", replaced("clients-ca.pem", "noise.pem")),
        ("empty.pem", replaced("server.pem", "empty.pem")),
        ("other.key", replaced("server.key", "other.key")),
        ("empty.pem", good().client("crls = [\"empty.pem\"]")),
        ("absent.crl", good().client("crls = [\"absent.crl\"]")),
    ];
    for (file, config) in cases {
        let output = failing(&world, &config);
        assert_eq!(output.code, Some(78), "{file}: {}", output.text());
        assert!(output.stderr.contains(file), "{file}: {}", output.stderr);
    }
}

#[test]
fn a_file_that_may_not_be_read_exits_77_and_is_named() {
    let world = World::new();
    let config = ConfigText::new("127.0.0.1:9");
    config.write(world.path());
    let key = world.path().join("server.key");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o000)).unwrap();
    let Some(mut command) = without("dac_override,dac_read_search", world.path()) else { return };
    let output = run(command.args(["run", "-c", "countersign.toml"]));
    assert_eq!(output.code, Some(77), "{}", output.text());
    assert!(output.stderr.contains("server.key"), "{}", output.stderr);
}

#[test]
fn a_port_that_may_not_be_bound_exits_77() {
    let start = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap_or_default();
    if start.trim() == "0" {
        println!("skipped: every port is free for all here");
        return;
    }
    let world = World::new();
    let mut config = ConfigText::new("127.0.0.1:9");
    config.listeners[0].lines = "address = [\"127.0.0.1:81\"]".to_owned();
    config.write(world.path());
    let Some(mut command) = without("net_bind_service", world.path()) else { return };
    let output = run(command.args(["run", "-c", "countersign.toml"]));
    assert_eq!(output.code, Some(77), "{}", output.text());
    assert!(output.stderr.contains("127.0.0.1:81"), "{}", output.stderr);
}

#[test]
fn an_address_in_use_exits_69() {
    let world = World::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let mut config = ConfigText::new("127.0.0.1:9");
    config.listeners[0].lines = format!("address = [\"{address}\"]");
    let output = failing(&world, &config);
    assert_eq!(output.code, Some(69), "{}", output.text());
    assert!(output.stderr.contains(&address), "{}", output.stderr);
}

#[test]
fn an_address_that_another_instance_serves_exits_69() {
    let world = World::new();
    let (server, backend) = world.serve_before(echo());
    let mut config = ConfigText::new(&backend.server);
    config.listeners[0].lines = format!("address = [\"{}\"]", server.address());
    let second = World::new();
    let output = failing(&second, &config);
    assert_eq!(output.code, Some(69), "{}", output.text());
    let mut client = crate::world::client::ClientSpec::new(&world.pki).connect(server.address());
    client.echo(b"the first one is unharmed").unwrap();
}

#[test]
fn an_admin_address_in_use_exits_69() {
    let world = World::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut config = ConfigText::new("127.0.0.1:9");
    config.admin = Some(format!("http = \"{}\"", taken.local_addr().unwrap()));
    assert_eq!(failing(&world, &config).code, Some(69));
}

#[test]
fn a_system_without_room_for_a_worker_exits_71_and_says_what_is_lacking() {
    if !needs("prlimit") {
        return;
    }
    let world = World::new();
    ConfigText::new("127.0.0.1:9").write(world.path());
    let mut command = Command::new("prlimit");
    command.current_dir(world.path()).arg("--nofile=10:10").arg(binary()).args(["run", "-c", "countersign.toml"]);
    let output = run(&mut command);
    assert_eq!(output.code, Some(71), "{}", output.text());
    assert!(output.stderr.contains("nofile") || output.stderr.contains("ulimit"), "{}", output.stderr);
}

#[test]
fn the_flag_form_serves_without_a_file() {
    let world = World::new();
    let backend = Backend::tcp(echo());
    let mut command = command(world.path());
    command.args(["run", "--listen", "127.0.0.1:0", "--backend", &backend.server, "--certificate", "server.pem"]);
    let server =
        Server::from_command(world.path(), command.args(["--key", "server.key", "--client-ca", "clients-ca.pem"]));
    crate::world::client::ClientSpec::new(&world.pki).connect(server.address()).echo(b"x").unwrap();
    let mut anonymous = crate::world::client::ClientSpec::anonymous(&world.pki).connect(server.address());
    assert!(anonymous.echo(b"x").is_err(), "the flag form demands a certificate");
    assert_eq!(backend.connections(), 1);
    assert_eq!(server.stop(), 0);
}

#[test]
fn a_v1_server_certificate_is_refused_at_start_with_the_way_to_a_v3_one() {
    let world = World::new();
    let run = |arguments: &[&str]| crate::world::peers::openssl(world.path(), arguments);
    let ec = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
    run(&[&["req", "-x509"][..], &ec, &["-subj", "/CN=CA", "-keyout", "ca.key", "-out", "ca.pem"]].concat());
    run(&[&["req"][..], &ec, &["-subj", "/CN=localhost", "-keyout", "server.key", "-out", "s.csr"]].concat());
    run(&[
        "x509",
        "-req",
        "-in",
        "s.csr",
        "-CA",
        "ca.pem",
        "-CAkey",
        "ca.key",
        "-CAcreateserial",
        "-out",
        "server.pem",
    ]);
    if !run(&["x509", "-in", "server.pem", "-noout", "-text"]).stdout.contains("Version: 1") {
        println!("skipped: this openssl makes v3 certificates even without extensions");
        return;
    }
    let output = failing(&world, &ConfigText::new("127.0.0.1:9"));
    assert_eq!(output.code, Some(78), "{}", output.text());
    assert!(output.stderr.contains("version 3") && output.stderr.contains("-extfile"), "{}", output.stderr);
    // What else how-to texts do works: the pair is valid once it has extensions.
    world.write("ext", "subjectAltName = DNS:localhost\n");
    let sign = ["x509", "-req", "-in", "s.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"];
    run(&[&sign[..], &["-extfile", "ext", "-out", "server.pem"]].concat());
    let credential = Credential::from_files(&world.path().join("server.pem"), &world.path().join("server.key"));
    assert_eq!(credential.chain.len(), 1);
    assert_eq!(world.serve(&ConfigText::new("127.0.0.1:9")).stop(), 0);
}
