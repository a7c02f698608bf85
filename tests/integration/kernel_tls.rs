//! What kernel TLS can do wrong, seen from both ends. The same tests hold for the user-space path, where they run
//! everywhere; `tests/vm` runs them in kernels that have TLS and says which path each version must take there.

use crate::hostile::raw::{Kit, Raw};
use crate::hostile::record::{ALERT, DATA, HANDSHAKE, Sealer, VERSIONS, Version};
use crate::world::World;
use crate::world::backend::{Backend, Conversation, End, Script, echo, swallow};
use crate::world::client::{ClientSpec, Ending, TLS12, TLS13};
use crate::world::config::ConfigText;
use crate::world::process::run;
use crate::world::server::{Server, command, hooked};
use crate::world::wait::{SOON, until};
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The path that connections of this version must take here, if anybody says so.
fn path_of(version: Version) -> Option<String> {
    crate::world::path_of(if version == Version::Tls12 { "1.2" } else { "1.3" })
}

/// Whether the kernel has keys of such connections here.
fn in_kernel(version: Version) -> bool {
    path_of(version).is_some_and(|path| path != "user")
}

/// Whether what we send on TLS 1.3 is under keys that this kernel cannot change: `COUNTERSIGN_TEST_KEYS=fixed`.
fn keys_are_fixed() -> bool {
    std::env::var("COUNTERSIGN_TEST_KEYS").is_ok_and(|keys| keys == "fixed")
}

/// The way of the bytes of a direction (`in` or `out`) of a connection that took this path, if not the path's own:
/// `COUNTERSIGN_TEST_BYTES=in=user,out=splice`.
fn bytes_path(direction: &str, path: &str) -> String {
    let ways = std::env::var("COUNTERSIGN_TEST_BYTES").ok().filter(|_| path != "user").unwrap_or_default();
    let way = ways.split(',').find_map(|way| way.strip_prefix(direction)?.strip_prefix('='));
    way.unwrap_or(path).to_owned()
}

/// An open connection through a server before an echoing backend.
fn opened(world: &World, server: &Server, version: Version) -> (Raw, Sealer) {
    Kit::new(&world.pki, version).open(server.address())
}

/// Lets an attacker in by one echo, and then only reads: a backend that writes may meet a reset before it reads it.
fn welcome() -> Script {
    Arc::new(|mut conversation: Conversation| {
        if let Some(bytes) = conversation.read() {
            conversation.send(&bytes);
        }
        conversation.drain();
    })
}

/// Holds how the connection numbered `index` ended at the backend and in the audit.
fn assert_end(server: &Server, backend: &Backend, index: usize, raw: &Raw, (end, reason): (End, &str), what: &str) {
    assert_eq!(backend.wait_end(index).end, Some(end), "{what}");
    let line = server.audit_of(raw.address(), "closed");
    assert_eq!(line["close_reason"], reason, "{what}: {line}");
}

#[test]
fn the_audit_and_the_metrics_tell_the_path() {
    let world = World::new();
    let backend = Backend::tcp(echo());
    let server = world.serve(&ConfigText::new(&backend.server).admin());
    for (version, versions) in [(Version::Tls12, TLS12), (Version::Tls13, TLS13)] {
        let mut client = ClientSpec::new(&world.pki).versions(versions).connect(server.address());
        client.handshake().unwrap();
        client.echo(&[7; 100_000]).unwrap();
        client.close_notify();
        assert_eq!(client.read_to_end(), (Vec::new(), Ending::CloseNotify));
        let line = server.audit_of(client.address, "closed");
        let path = line["path"].as_str().unwrap().to_owned();
        if let Some(wanted) = path_of(version) {
            assert_eq!(path, wanted, "{line}");
        }
        for direction in ["in", "out"] {
            let path = bytes_path(direction, &path);
            let series = format!("countersign_bytes_total{{direction=\"{direction}\",path=\"{path}\"}}");
            assert!(server.metric(&series) >= 100_000.0, "{series}");
        }
    }
    assert_eq!(server.stop(), 0);
}

#[test]
fn require_serves_where_the_kernel_does_it_all_and_else_exits_71_with_what_to_do() {
    if std::env::var("COUNTERSIGN_TEST_LISTENER").is_ok() {
        println!("skipped: it is about the process, whatever its listeners do");
        return;
    }
    let world = World::new();
    let backend = Backend::tcp(echo());
    // Over epoll it is refused for another reason.
    let config = ConfigText::new(&backend.server).runtime("engine = \"auto\"\nktls = \"require\"");
    let path = config.write(world.path());
    let check = run(command(world.path()).args(["check", "-c"]).arg(&path));
    if in_kernel(Version::Tls13) {
        assert_eq!(world.serve(&config).stop(), 0);
        return;
    }
    assert!(check.text().contains("kernel TLS"), "{}", check.text());
    if std::path::Path::new("/sys/module/tls").exists() && path_of(Version::Tls13).is_none() {
        println!("skipped: nobody says what this kernel does");
        return;
    }
    let output = run(command(world.path()).args(["run", "-c"]).arg(&path));
    assert_eq!(output.code, Some(71), "{}", output.text());
    assert!(["modprobe tls", "6.14"].iter().any(|help| output.stderr.contains(help)), "{}", output.text());
}

#[test]
fn over_epoll_it_is_not_used_and_requiring_it_exits_71_with_what_to_do() {
    let world = World::new();
    let backend = Backend::tcp(echo());
    let config = |ktls: &str| ConfigText::new(&backend.server).admin().runtime(&format!("engine = \"epoll\"\n{ktls}"));
    let output = run(command(world.path()).args(["run", "-c"]).arg(config("ktls = \"require\"").write(world.path())));
    assert_eq!(output.code, Some(71), "{}", output.text());
    assert!(output.stderr.contains("io_uring") && output.stderr.contains("ktls = \"auto\""), "{}", output.text());
    let server = world.serve(&config("ktls = \"auto\""));
    server.any_path();
    let mut client = ClientSpec::new(&world.pki).connect(server.address());
    client.echo(b"in user space").unwrap();
    assert_eq!(server.audit_of(client.address, "accepted")["path"], "user");
}

#[test]
fn empty_records_are_neither_an_end_nor_in_the_way() {
    let world = World::new();
    let (server, backend) = world.serve_before(echo());
    for (index, version) in VERSIONS.into_iter().enumerate() {
        let (mut raw, mut sealer) = opened(&world, &server, version);
        let mut bytes = Vec::new();
        for round in 0..40u8 {
            (0..round % 4).for_each(|_| bytes.extend(sealer.seal(DATA, &[])));
            bytes.extend(sealer.seal(DATA, &[round]));
        }
        raw.send(&bytes).unwrap();
        assert_eq!(raw.client.read_exactly(40).unwrap(), (0..40).collect::<Vec<u8>>());
        // One alone, with time to be taken for an end.
        raw.send(&sealer.seal(DATA, &[])).unwrap();
        std::thread::sleep(Duration::from_millis(100));
        raw.send(&sealer.seal(DATA, b"still there")).unwrap();
        assert_eq!(raw.client.read_exactly(11).unwrap(), b"still there");
        raw.send(&[sealer.seal(DATA, &[]), sealer.seal(ALERT, &[1, 0])].concat()).unwrap();
        assert_end(&server, &backend, index, &raw, (End::Fin, "done"), "close_notify behind an empty record");
    }
}

#[test]
fn an_end_without_close_notify_is_a_truncation_wherever_it_falls() {
    let world = World::new();
    let (server, backend) = world.serve_before(welcome());
    let mut index = 0;
    for version in VERSIONS {
        type Last = fn(&mut Sealer) -> Vec<u8>;
        let ways: [(&str, Last); 5] = [
            ("nothing", |_| Vec::new()),
            ("an empty record", |sealer| sealer.seal(DATA, &[])),
            ("a part of a header", |sealer| sealer.seal(DATA, b"cut")[..3].to_vec()),
            ("all but the last byte of a record", |sealer| {
                let record = sealer.seal(DATA, b"cut");
                record[..record.len() - 1].to_vec()
            }),
            ("a record and a part of the next", |sealer| {
                let whole = sealer.seal(DATA, &[3; 9000]);
                [whole, sealer.seal(DATA, &[4; 9000])[..5000].to_vec()].concat()
            }),
        ];
        for (what, last) in ways {
            let (mut raw, mut sealer) = opened(&world, &server, version);
            raw.send(&last(&mut sealer)).unwrap();
            raw.finish();
            assert_end(&server, &backend, index, &raw, (End::Reset, "truncated"), &format!("{what}, {version:?}"));
            assert_ne!(raw.ending(), Ending::CloseNotify, "{what}");
            index += 1;
        }
    }
}

#[test]
fn a_fatal_alert_of_the_client_is_no_orderly_end() {
    let world = World::new();
    let (server, backend) = world.serve_before(welcome());
    for (index, version) in VERSIONS.into_iter().enumerate() {
        let (mut raw, mut sealer) = opened(&world, &server, version);
        raw.send(&[sealer.seal(DATA, b"data"), sealer.seal(ALERT, &[2, 80])].concat()).unwrap();
        assert_end(&server, &backend, index, &raw, (End::Reset, "tls_error"), "a fatal alert");
        assert_eq!(server.audit_of(raw.address(), "closed")["peer_alert"], 80);
    }
}

#[test]
fn nothing_behind_a_broken_record_reaches_the_backend() {
    let world = World::new();
    let (server, backend) = world.serve_before(welcome());
    for (index, version) in VERSIONS.into_iter().enumerate() {
        let (mut raw, mut sealer) = opened(&world, &server, version);
        let mut spoilt = sealer.seal(DATA, b"spoilt");
        *spoilt.last_mut().unwrap() ^= 1;
        let bytes = [sealer.seal(DATA, b"behind"), sealer.seal(ALERT, &[1, 0])].concat();
        raw.send(&[spoilt, bytes].concat()).unwrap();
        assert_end(&server, &backend, index, &raw, (End::Reset, "tls_error"), "a broken record");
        assert_eq!(backend.seen(index).received, b"let in");
    }
}

#[test]
fn padding_is_taken_off_and_a_record_of_nothing_else_is_refused() {
    let world = World::new();
    let (server, backend) = world.serve_before(echo());
    let (mut raw, mut sealer) = opened(&world, &server, Version::Tls13);
    // Data, its content type, zeroes: the last of them stands where `seal` puts the type.
    raw.send(&sealer.seal(0, &[&b"padded"[..], &[DATA], &[0; 500]].concat())).unwrap();
    assert_eq!(raw.client.read_exactly(6).unwrap(), b"padded");
    raw.send(&sealer.seal(0, &[0; 300])).unwrap();
    assert_end(&server, &backend, 0, &raw, (End::Reset, "tls_error"), "a record of zeroes");
}

#[test]
fn half_a_record_behind_finished_is_not_lost() {
    let world = World::new();
    let (server, _backend) = world.serve_before(echo());
    for version in VERSIONS {
        let kit = Kit::new(&world.pki, version);
        for cut in [0, 1, 4, 5, 6, 20, 900] {
            let mut raw = kit.greet(server.address());
            let messages = raw.flight();
            let mut bytes = raw.flight_of(&messages);
            let mut sealer = raw.data_sealer();
            let first = sealer.seal(DATA, b"whole");
            let second = sealer.seal(DATA, &[b'x'; 1000]);
            bytes.extend(&first);
            bytes.extend(&second[..cut]);
            raw.send(&bytes).unwrap();
            // Time to hand the connection over with what there is.
            std::thread::sleep(Duration::from_millis(50));
            raw.send(&second[cut..]).unwrap();
            raw.client.handshake().unwrap();
            let echoed = raw.client.read_exactly(1005).unwrap();
            assert_eq!((&echoed[..5], &echoed[5..]), (&b"whole"[..], &[b'x'; 1000][..]), "{version:?}, cut at {cut}");
            if let Some(wanted) = path_of(version) {
                assert_eq!(server.audit_of(raw.address(), "accepted")["path"], wanted.as_str(), "cut at {cut}");
            }
            raw.reset();
        }
    }
}

#[test]
fn keys_change_in_both_directions_while_bytes_flow() {
    let world = World::new();
    let (server, _backend) = world.serve_before(echo());
    let (mut raw, mut sealer) = opened(&world, &server, Version::Tls13);
    for round in 0..60u8 {
        let mut bytes = sealer.seal(DATA, &[round; 3000]);
        bytes.extend(sealer.seal(HANDSHAKE, &[24, 0, 0, 1, if keys_are_fixed() { 0 } else { round % 2 }]));
        sealer.update();
        bytes.extend(sealer.seal(DATA, &[round; 5000]));
        // Cut anywhere, in two segments.
        let cut = usize::from(round) * 131 % bytes.len();
        raw.send(&bytes[..cut]).unwrap();
        raw.send(&bytes[cut..]).unwrap();
        assert_eq!(raw.client.read_exactly(8000).unwrap(), [round; 8000], "round {round}");
    }
    raw.send(&sealer.seal(ALERT, &[1, 0])).unwrap();
    assert_eq!(raw.ending(), Ending::CloseNotify);
    assert_eq!(server.audit_of(raw.address(), "closed")["close_reason"], "done");
}

#[test]
fn a_client_that_asks_for_keys_which_the_kernel_cannot_change_is_told_and_the_audit_says_why() {
    if !keys_are_fixed() {
        println!("skipped: nobody says that keys are fixed here");
        return;
    }
    let world = World::new();
    let (server, backend) = world.serve_before(welcome());
    let (mut raw, mut sealer) = opened(&world, &server, Version::Tls13);
    raw.send(&sealer.seal(HANDSHAKE, &[24, 0, 0, 1, 1])).unwrap();
    assert_eq!(raw.ending(), Ending::Alert(80));
    assert_end(&server, &backend, 0, &raw, (End::Reset, "tls_error"), "a wish for new keys");
    let line = server.audit_of(raw.address(), "closed");
    assert!(line["reason_detail"].as_str().unwrap().contains("cannot change"), "{line}");
    assert_eq!(line["our_alert"], 80, "{line}");
}

#[test]
fn a_client_that_sends_half_a_record_and_waits_costs_no_time() {
    let world = World::new();
    let (server, _backend) = world.serve_before(echo());
    let mut waiting = Vec::new();
    for version in VERSIONS {
        for cut in [1, 5, 60] {
            let (mut raw, mut sealer) = opened(&world, &server, version);
            let record = sealer.seal(DATA, &[1; 100]);
            raw.send(&record[..cut]).unwrap();
            waiting.push((raw, record[cut..].to_vec()));
        }
    }
    std::thread::sleep(Duration::from_millis(300));
    let (before, start) = (server.process.cpu_time(), Instant::now());
    std::thread::sleep(Duration::from_secs(2));
    let (spent, wall) = (server.process.cpu_time() - before, start.elapsed());
    assert!(spent < wall / 4, "{spent:?} of CPU in {wall:?} for six clients that do nothing");
    for (mut raw, rest) in waiting {
        raw.send(&rest).unwrap();
        assert_eq!(raw.client.read_exactly(100).unwrap(), [1; 100]);
    }
}

#[test]
fn used_up_keys_are_changed_in_tls_13_and_end_a_connection_of_tls_12() {
    const VARIABLE: &str = "COUNTERSIGN_TEST_RECORDS_MAX";
    let wanted = VERSIONS.map(in_kernel);
    if !wanted[0] || !hooked(VARIABLE) {
        println!("skipped: the limit can be set for the kernel path alone, and of a debug build");
        return;
    }
    let world = World::new();
    const TOTAL: usize = 8 << 20;
    let script: Script = Arc::new(|mut conversation: Conversation| {
        if conversation.send(&vec![9; TOTAL]) {
            conversation.finish();
        }
    });
    let backend = Backend::tcp(script);
    let path = ConfigText::new(&backend.server).admin().write(world.path());
    let mut command = command(world.path());
    command.env(VARIABLE, "128").args(["run", "-c"]).arg(&path);
    let server = Server::from_command(world.path(), &mut command);
    let mut client = ClientSpec::new(&world.pki).versions(TLS12).connect(server.address());
    client.handshake().unwrap();
    let (bytes, ending) = client.read_to_end();
    assert!(bytes.len() < TOTAL && matches!(ending, Ending::Reset | Ending::Fin), "{} {ending:?}", bytes.len());
    let line = server.audit_of(client.address, "closed");
    assert!(line["reason_detail"].as_str().unwrap().contains("used up"), "{line}");
    if wanted[1] {
        let mut client = ClientSpec::new(&world.pki).versions(TLS13).connect(server.address());
        client.handshake().unwrap();
        let (bytes, ending) = client.read_to_end();
        if keys_are_fixed() {
            assert!(bytes.len() < TOTAL && ending != Ending::CloseNotify, "{} {ending:?}", bytes.len());
            let line = server.audit_of(client.address, "closed");
            assert!(line["reason_detail"].as_str().unwrap().contains("cannot change"), "{line}");
            return;
        }
        assert_eq!((bytes.len(), ending), (TOTAL, Ending::CloseNotify));
        assert!(bytes.iter().all(|byte| *byte == 9));
        let changes = server.metric("countersign_keyupdates_total{direction=\"out\"}");
        assert!((4.0..20.0).contains(&changes), "{changes}");
    }
}

#[test]
fn where_no_pipe_can_be_had_bytes_go_through_user_space_and_arrive_all_the_same() {
    let world = World::new();
    let backend = Backend::tcp(echo());
    let server = world.serve(&ConfigText::new(&backend.server).admin());
    let id = Pid::from_raw(server.process.id() as i32);
    for versions in [TLS12, TLS13] {
        // Two numbers are left: for the client's socket and the backend's.
        let known = prlimit(id, Resource::Nofile, getrlimit(Resource::Nofile)).unwrap();
        let current = Some(server.process.free_descriptors().nth(1).unwrap() + 1);
        prlimit(id, Resource::Nofile, Rlimit { current, ..known }).unwrap();
        let mut client = ClientSpec::new(&world.pki).versions(versions).connect(server.address());
        client.handshake().unwrap();
        client.echo(&[5; 300_000]).unwrap();
        prlimit(id, Resource::Nofile, known).unwrap();
        client.close_notify();
        assert_eq!(client.read_to_end(), (Vec::new(), Ending::CloseNotify));
        let line = server.audit_of(client.address, "closed");
        assert_eq!((line["bytes_in"].as_u64(), line["bytes_out"].as_u64()), (Some(300_000), Some(300_000)), "{line}");
    }
    if path_of(Version::Tls12).as_deref() == Some("splice") {
        assert!(server.metric("countersign_bytes_total{direction=\"in\",path=\"ktls\"}") > 0.0);
        assert!(server.metric("countersign_path_demotions_total{reason=\"pipes\"}") >= 1.0);
    }
    assert_eq!(server.stop(), 0);
}

#[test]
fn the_last_bytes_before_a_backends_end_arrive_however_slowly_the_client_reads() {
    let world = World::new();
    const TOTAL: usize = 3 << 20;
    let script: Script = Arc::new(|mut conversation: Conversation| {
        let bytes: Vec<u8> = (0..TOTAL).map(|at| (at / 1000) as u8).collect();
        if conversation.send(&bytes) {
            conversation.finish();
        }
        conversation.drain();
    });
    let backend = Backend::tcp(script);
    let server = world.serve(&ConfigText::new(&backend.server));
    for versions in [TLS12, TLS13] {
        let mut client = ClientSpec::new(&world.pki).versions(versions).connect(server.address());
        socket2::SockRef::from(&client.tcp).set_recv_buffer_size(64 << 10).unwrap();
        client.handshake().unwrap();
        std::thread::sleep(Duration::from_millis(400));
        let (bytes, ending) = client.read_to_end();
        assert_eq!((bytes.len(), ending), (TOTAL, Ending::CloseNotify));
        assert!(bytes.iter().enumerate().all(|(at, byte)| *byte == (at / 1000) as u8));
        client.close_notify();
        assert_eq!(server.audit_of(client.address, "closed")["close_reason"], "done");
    }
}

#[test]
fn a_drain_ends_connections_whose_reader_is_stuck_and_does_not_make_it_look_orderly() {
    let world = World::new();
    let endless: Script = Arc::new(|mut conversation: Conversation| while conversation.send(&[7; 64 << 10]) {});
    let backend = Backend::tcp(endless);
    let mut server = world.serve(&ConfigText::new(&backend.server).replace_runtime("drain_timeout = \"1s\""));
    let mut clients: Vec<_> = [TLS12, TLS13]
        .into_iter()
        .map(|versions| {
            let mut client = ClientSpec::new(&world.pki).versions(versions).connect(server.address());
            client.handshake().unwrap();
            client.read_exactly(100_000).unwrap();
            client
        })
        .collect();
    assert!(until(SOON, || backend.connections() == 2));
    std::thread::sleep(Duration::from_millis(300));
    server.process.signal("TERM");
    assert_eq!(server.wait_exit(SOON), 1);
    for client in &mut clients {
        assert_ne!(client.read_to_end().1, Ending::CloseNotify);
    }
}

#[test]
fn a_silent_backend_behind_which_nothing_moves_costs_no_time_either() {
    let world = World::new();
    let (server, _backend) = world.serve_before(swallow());
    let clients: Vec<_> = (0..8)
        .map(|_| {
            let mut client = ClientSpec::new(&world.pki).connect(server.address());
            client.handshake().unwrap();
            client.send(b"a word").unwrap();
            client
        })
        .collect();
    std::thread::sleep(Duration::from_millis(300));
    let (before, start) = (server.process.cpu_time(), Instant::now());
    std::thread::sleep(Duration::from_secs(2));
    let (spent, wall) = (server.process.cpu_time() - before, start.elapsed());
    assert!(spent < wall / 4, "{spent:?} of CPU in {wall:?} for eight idle clients");
    drop(clients);
}

#[test]
fn urgent_data_of_a_backend_does_not_stop_what_is_behind_it_nor_look_like_its_end() {
    let world = World::new();
    for ends_at_once in [false, true] {
        let script: Script = Arc::new(move |mut conversation: Conversation| {
            conversation.send(&[1; 1000]);
            // The byte itself is in no stream, on no path.
            conversation.socket().send_out_of_band(b"!").unwrap();
            conversation.send(&[2; 5000]);
            if ends_at_once {
                conversation.finish();
            }
            conversation.drain();
        });
        let backend = Backend::tcp(script);
        let server = world.serve(&ConfigText::new(&backend.server));
        for versions in [TLS12, TLS13] {
            let mut client = ClientSpec::new(&world.pki).versions(versions).connect(server.address());
            client.handshake().unwrap();
            let bytes = client.read_exactly(6000).unwrap();
            assert_eq!((&bytes[..1000], &bytes[1000..]), (&[1; 1000][..], &[2; 5000][..]));
            client.close_notify();
            assert_eq!(client.read_to_end(), (Vec::new(), Ending::CloseNotify));
            assert_eq!(server.audit_of(client.address, "closed")["close_reason"], "done");
        }
    }
}
