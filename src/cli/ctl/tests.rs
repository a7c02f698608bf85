use super::*;
use clap::Parser;

#[derive(Debug, Parser)]
struct Program {
    #[command(flatten)]
    ctl: CtlArgs,
}

fn parse(line: &str) -> Result<CtlArgs, clap::Error> {
    Program::try_parse_from(std::iter::once("ctl").chain(line.split_whitespace())).map(|program| program.ctl)
}

fn request(line: &str) -> Request {
    request_of(parse(line).unwrap().command).unwrap_or_else(|_| panic!("{line}"))
}

#[test]
fn options_stand_before_or_after_the_command() {
    for line in ["--socket /x --json status", "status --socket /x --json", "--json status --socket /x"] {
        let args = parse(line).unwrap();
        assert_eq!((args.socket, args.json), (Some(PathBuf::from("/x")), true), "{line}");
    }
    assert_eq!(parse("tickets rotate -c c.toml").unwrap().config, Some(PathBuf::from("c.toml")));
}

#[test]
fn a_block_names_exactly_one_client() {
    let serial = Selector::Serial { serial: "03A5B1".into(), issuer: Some("CN=X".into()) };
    assert_eq!(
        request("block --serial 03A5B1 --issuer CN=X --for 90s --why lost"),
        Request::Block { client: serial.clone(), for_seconds: Some(90), why: Some("lost".into()) }
    );
    assert_eq!(request("unblock --serial 03A5B1 --issuer CN=X"), Request::Unblock { client: serial });
    let spki = Selector::SpkiSha256("ab".into());
    assert_eq!(request("block --spki ab --for 1ms"), Request::Block { client: spki, for_seconds: Some(1), why: None });
    for line in [
        "block",
        "block --sha256 a --identity cn:b",
        "block --issuer CN=X",
        "block --issuer CN=X --sha256 a",
        "unblock",
    ] {
        assert!(parse(line).is_err(), "{line}");
    }
}

#[test]
fn a_backends_server_is_named_with_what_is_wanted_of_it() {
    let (backend, server, state) = ("ledger".into(), "127.0.0.1:9000".into(), ServerState::Drain);
    assert_eq!(request("backend ledger 127.0.0.1:9000 drain"), Request::Backend { backend, server, state });
    for line in ["backend ledger drain", "backend ledger 127.0.0.1:9000", "backend ledger 127.0.0.1:9000 off"] {
        assert!(parse(line).is_err(), "{line}");
    }
}

#[test]
fn durations_are_those_of_the_configuration() {
    assert_eq!(request("drain"), Request::Drain { timeout_ms: None });
    assert_eq!(request("drain 1m30s"), Request::Drain { timeout_ms: Some(90_000) });
    assert!(parse("drain soon").is_err());
    let last_seconds = Some(3600);
    let wanted = Request::Refusals { client: Some([192, 0, 2, 1].into()), sha256: None, identity: None, last_seconds };
    assert_eq!(request("refusals --client 192.0.2.1 --last 1h"), wanted);
}

#[test]
fn nobody_at_the_socket_exits_69() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("none.sock");
    let line = format!("status --socket {}", missing.display());
    assert_eq!(ctl(parse(&line).unwrap()), exit::UNAVAILABLE);
    let dead = dir.path().join("dead.sock");
    drop(std::os::unix::net::UnixListener::bind(&dead).unwrap());
    assert_eq!(ctl(parse(&format!("reload --socket {}", dead.display())).unwrap()), exit::UNAVAILABLE);
}

#[test]
fn a_server_that_closes_without_an_answer_or_answers_nonsense_exits_69() {
    for answer in ["", "nonsense\n", "{\"ok\":true"] {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("a.sock");
        let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let serving = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
        });
        assert_eq!(
            ctl(parse(&format!("status --socket {}", socket.display())).unwrap()),
            exit::UNAVAILABLE,
            "{answer}"
        );
        serving.join().unwrap();
    }
}

#[test]
fn a_configuration_without_an_admin_socket_or_without_a_file_exits_78() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("c.toml");
    std::fs::write(&file, "[runtime]\n").unwrap();
    assert_eq!(ctl(parse(&format!("-c {} status", file.display())).unwrap()), exit::CONFIG);
    assert_eq!(ctl(parse(&format!("-c {}/none status", dir.path().display())).unwrap()), exit::CONFIG);
    assert_eq!(ctl(parse(&format!("explain {}/none.pem", dir.path().display())).unwrap()), exit::CONFIG);
}

#[test]
fn text_from_the_server_cannot_drive_the_terminal() {
    assert_eq!(plain("a\u{1b}[31mb\nc"), "a [31mb\nc\n");
    assert_eq!(plain(""), "");
}
