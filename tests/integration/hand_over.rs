//! SIGUSR2: a new process takes over from the old one, and nobody who connects notices.

use crate::world::World;
use crate::world::backend::{Backend, echo};
use crate::world::client::{Client, ClientSpec, Ending, TLS12, TLS13, Tickets};
use crate::world::config::ConfigText;
use crate::world::http::try_get;
use crate::world::manager::Manager;
use crate::world::pki::SERVER_NAME;
use crate::world::server::{Server, binary};
use crate::world::wait::{SOON, until, until_some};
use std::net::SocketAddr;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

/// The process that took over; ended with the test.
pub struct Successor {
    pid: u32,
}

impl Successor {
    /// Waits for the `ready` line that comes after `before` earlier ones.
    fn after(server: &Server, before: usize) -> Successor {
        let ready = || {
            let lines = server.process.stderr.all();
            lines.into_iter().filter(|line| line.starts_with("ready ")).nth(before)
        };
        let line = until_some(Duration::from_secs(60), ready)
            .unwrap_or_else(|| panic!("nobody took over:\n{}", server.process.stderr.text()));
        let pid = line.split_whitespace().find_map(|word| word.strip_prefix("pid=")).unwrap().parse().unwrap();
        assert_ne!(pid, server.process.id());
        Successor { pid }
    }

    fn signal(&self, name: &str) {
        assert!(Command::new("kill").arg(format!("-{name}")).arg(self.pid.to_string()).status().unwrap().success());
    }

    fn is_there(&self) -> bool {
        std::fs::read_to_string(format!("/proc/{}/stat", self.pid)).is_ok_and(|stat| !stat.contains(") Z "))
    }

    /// SIGTERM, and a wait for the end.
    pub fn stop(self) {
        self.signal("TERM");
        assert!(until(SOON, || !self.is_there()), "process {} does not end", self.pid);
    }
}

impl Drop for Successor {
    fn drop(&mut self) {
        if self.is_there() {
            let _ = Command::new("kill").arg("-KILL").arg(self.pid.to_string()).status();
        }
    }
}

/// Tells the process to hand over, and waits for the one that takes over.
pub fn handed_over(server: &Server) -> Successor {
    let before = server.process.stderr.all().iter().filter(|line| line.starts_with("ready ")).count();
    server.process.signal("USR2");
    Successor::after(server, before)
}

/// How the old process ended. Its output goes on: the new one writes it.
pub fn exit_code(server: &mut Server) -> i32 {
    let status = until_some(SOON, || server.process.ended()).expect("the old process does not end");
    status.code().unwrap()
}

/// Runs `act` while clients connect all the time, with and without tickets, and a probe asks `/readyz`; nothing of that
/// may fail. Visits and how many of them were resumed are counted.
fn under_load(world: &World, server: &Server, act: impl FnOnce(&AtomicUsize)) -> (usize, usize) {
    struct StopAtEnd<'a>(&'a AtomicBool);
    impl Drop for StopAtEnd<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }
    let (stop, visits, resumed) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    let admin: SocketAddr = server.ready_value("admin").unwrap().parse().unwrap();
    std::thread::scope(|scope| {
        let _stop = StopAtEnd(&stop);
        for versions in [TLS12, TLS13] {
            for keeps_tickets in [false, true] {
                let (stop, visits, resumed) = (&stop, &visits, &resumed);
                scope.spawn(move || {
                    let mut spec = ClientSpec::new(&world.pki).versions(versions);
                    if keeps_tickets {
                        spec = spec.tickets(&Tickets::new());
                    }
                    let config = spec.build();
                    let mut first = true;
                    while !stop.load(Ordering::SeqCst) {
                        let mut client = Client::connect(&config, SERVER_NAME, server.address());
                        client.echo(b"under load").unwrap();
                        client.close_notify();
                        assert_eq!(client.read_to_end().1, Ending::CloseNotify);
                        assert_eq!(client.resumed(), keeps_tickets && !first, "{versions:?}");
                        first = false;
                        visits.fetch_add(1, Ordering::SeqCst);
                        resumed.fetch_add(usize::from(client.resumed()), Ordering::SeqCst);
                    }
                });
            }
        }
        let stopped = &stop;
        scope.spawn(move || {
            while !stopped.load(Ordering::SeqCst) {
                let answer = try_get(admin, "/readyz").map(|(status, _)| status);
                assert!(matches!(answer, Some(200)), "/readyz: {answer:?}");
            }
        });
        act(&visits);
    });
    (visits.into_inner(), resumed.into_inner())
}

fn goes_on(visits: &AtomicUsize) {
    let before = visits.load(Ordering::SeqCst);
    assert!(until(SOON, || visits.load(Ordering::SeqCst) > before + 12), "clients go on");
}

#[test]
fn ten_reloads_and_two_hand_overs_under_load_fail_nobody_and_sessions_are_resumed() {
    let world = World::new();
    let backend = Backend::tcp(echo());
    let mut server = world.serve(&ConfigText::new(&backend.server).admin());
    let mut open = ClientSpec::new(&world.pki).connect(server.address());
    open.echo(b"in the first process").unwrap();
    let mut last = None;
    let (visits, resumed) = under_load(&world, &server, |visits| {
        goes_on(visits);
        for _ in 0..10 {
            server.ctl_done(&["reload"]);
        }
        goes_on(visits);
        let second = handed_over(&server);
        goes_on(visits);
        open.echo(b"still in the first process").unwrap();
        assert_eq!(server.ctl_json(&["status"])["pid"], second.pid);
        server.ctl_done(&["reload"]);
        second.signal("USR2");
        let third = Successor::after(&server, 2);
        goes_on(visits);
        assert_eq!(server.ctl_json(&["status"])["pid"], third.pid);
        assert!(until(SOON, || !second.is_there()), "the second one has nothing left to do");
        last = Some(third);
    });
    println!("{visits} visits, {resumed} resumed");
    assert!(resumed * 3 > visits, "{resumed} of {visits}");
    open.close_notify();
    assert_eq!(open.read_to_end().1, Ending::CloseNotify);
    assert_eq!(exit_code(&mut server), 0);
    let log = server.process.stderr.text();
    assert!(log.contains("handshakes resumed") && log.contains("took over"), "{log}");
    last.unwrap().stop();
    assert!(!world.path().join("admin.sock").exists(), "the last one takes it away");
}

#[test]
fn a_block_of_the_new_process_ends_connections_of_the_old_one_and_none_is_lost() {
    let world = World::new();
    let backend = Backend::tcp(echo());
    let config = ConfigText::new(&backend.server).admin().runtime("state_dir = \"state\"");
    let mut server = world.serve(&config);
    let mut open = ClientSpec::new(&world.pki).connect(server.address());
    open.echo(b"in the old process").unwrap();
    server.ctl_done(&["block", "--identity", "uri:spiffe://elsewhere.example/x", "--why", "before"]);
    let successor = handed_over(&server);
    assert_eq!(server.ctl_json(&["blocked"]).as_array().unwrap().len(), 1);
    open.echo(b"still there").unwrap();
    server.ctl_done(&["block", "--identity", "uri:spiffe://bank.example/payments/acme"]);
    assert_eq!(open.read_to_end().1, Ending::CloseNotify);
    assert_eq!(exit_code(&mut server), 0);
    assert_eq!(server.audit_of(open.address, "closed")["close_reason"], "no_longer_admitted");
    let stored = std::fs::read_to_string(world.path().join("state/blocks.json")).unwrap();
    assert!(stored.contains("elsewhere") && stored.contains("acme"), "{stored}");
    successor.stop();
}

#[test]
fn a_reload_of_the_new_process_judges_connections_of_the_old_one() {
    let world = World::new();
    let backend = Backend::tcp(echo());
    let mut server = world.serve(&ConfigText::new(&backend.server).admin());
    let mut open = ClientSpec::new(&world.pki).connect(server.address());
    open.echo(b"in the old process").unwrap();
    let successor = handed_over(&server);
    ConfigText::new(&backend.server).admin().client("allow = []").write(world.path());
    server.ctl_done(&["reload"]);
    assert_eq!(open.read_to_end().1, Ending::CloseNotify);
    assert_eq!(exit_code(&mut server), 0);
    assert_eq!(server.audit_of(open.address, "closed")["close_reason"], "no_longer_admitted");
    successor.stop();
}

#[test]
fn where_the_new_program_does_not_come_up_the_old_one_goes_on_and_says_why() {
    let world = World::new();
    let backend = Backend::tcp(echo());
    let config = ConfigText::new(&backend.server).admin();
    // A copy, so that it can be "upgraded".
    let program = world.path().join("program");
    // By another process: what another test's child inherits open for writing could not be started.
    assert!(Command::new("cp").arg(binary()).arg(&program).status().unwrap().success());
    let mut by_copy = Command::new(&program);
    by_copy.current_dir(world.path()).env_remove("NOTIFY_SOCKET").arg("run").arg("-c").arg(config.write(world.path()));
    let mut server = Server::from_command(world.path(), &mut by_copy);
    let mut open = ClientSpec::new(&world.pki).connect(server.address());
    let failures = || {
        let lines = server.audit().into_iter().filter(|line| line["command"] == "hand over" && line["ok"] == false);
        lines.count()
    };
    let upgrade = |text: &str| {
        std::fs::rename(&program, world.path().join("aside")).unwrap();
        std::fs::write(&program, text).unwrap();
        assert!(Command::new("chmod").arg("755").arg(&program).status().unwrap().success());
    };
    let restore = || std::fs::rename(world.path().join("aside"), &program).unwrap();
    let (visits, _) = under_load(&world, &server, |visits| {
        std::fs::rename(world.path().join("server.key"), world.path().join("key.aside")).unwrap();
        server.process.signal("USR2");
        assert!(until(SOON, || failures() == 1), "a key is missing");
        std::fs::rename(world.path().join("key.aside"), world.path().join("server.key")).unwrap();
        goes_on(visits);
        for (count, text) in [(2, "#!/bin/sh\nexit 3\n"), (3, "not a program")] {
            upgrade(text);
            server.process.signal("USR2");
            assert!(until(SOON, || failures() == count), "{text:?}");
            restore();
            goes_on(visits);
        }
        std::fs::rename(&program, world.path().join("aside")).unwrap();
        server.process.signal("USR2");
        assert!(until(SOON, || failures() == 4), "no program at all");
        restore();
        goes_on(visits);
    });
    println!("{visits} visits");
    let status = server.ctl_done(&["status"]);
    assert!(status.contains("the last hand-over failed"), "{status}");
    open.echo(b"nothing happened").unwrap();
    drop(open);
    let successor = handed_over(&server);
    assert_eq!(exit_code(&mut server), 0);
    successor.stop();
}

#[test]
fn a_service_manager_hears_of_the_new_process_before_it_hears_from_it_and_is_fed_by_it() {
    let world = World::new();
    let manager = Manager::new(world.path());
    let backend = Backend::tcp(echo());
    let config = ConfigText::new(&backend.server).admin().write(world.path());
    let mut under = Command::new("sh");
    under
        .current_dir(world.path())
        .arg("-c")
        .arg("WATCHDOG_PID=$$ exec \"$0\" run -c \"$1\"")
        .arg(binary())
        .arg(config);
    under.env("NOTIFY_SOCKET", manager.path()).env("WATCHDOG_USEC", "1000000");
    let mut server = Server::from_command(world.path(), &mut under);
    manager.wait("WATCHDOG=1");
    manager.forget();
    let successor = handed_over(&server);
    assert_eq!(exit_code(&mut server), 0);
    manager.wait("READY=1");
    let told = manager.messages();
    let place = |what: &str| told.iter().position(|message| message.contains(what));
    assert!(place(&format!("MAINPID={}", successor.pid)).unwrap() < place("READY=1").unwrap(), "{told:?}");
    assert_eq!(place("STOPPING=1"), None, "the service does not stop: {told:?}");
    manager.forget();
    manager.wait("WATCHDOG=1");
    successor.signal("TERM");
    manager.wait("STOPPING=1");
    successor.stop();
}

#[test]
fn with_fewer_workers_the_others_accept_on_all_sockets_and_new_addresses_are_bound() {
    let world = World::new();
    let backend = Backend::tcp(echo());
    let mut config = ConfigText::new(&backend.server).admin().runtime("cpus = \"0-1\"\npin = false");
    let mut server = world.serve(&config);
    config.runtime = "drain_timeout = \"10s\"\ncpus = \"0\"\npin = false".to_owned();
    config.write(world.path());
    let successor = handed_over(&server);
    assert_eq!(exit_code(&mut server), 0);
    let tls = ClientSpec::new(&world.pki).build();
    for _ in 0..32 {
        Client::connect(&tls, SERVER_NAME, server.address()).echo(b"whichever socket").unwrap();
    }
    successor.stop();
}
