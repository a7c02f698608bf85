//! The wall clock of the real program jumps a day there and back while it serves: who gets in is decided by the clock of that
//! moment, what is timed goes on by the other clock. libfaketime sets the clock, of the program alone.

use crate::world::World;
use crate::world::backend::{Backend, echo};
use crate::world::client::{Client, ClientSpec, Ending, TLS12, TLS13, Tickets};
use crate::world::config::ConfigText;
use crate::world::pki::{Ca, Credential, LeafSpec, SERVER_NAME, chain_pem};
use crate::world::server::{Server, command};
use crate::world::wait::{SOON, until};
use std::path::PathBuf;
use std::sync::Arc;
use time::{Duration, OffsetDateTime};

/// The library, where Debian puts it.
fn libfaketime() -> Option<PathBuf> {
    let of = |entry: std::fs::DirEntry| entry.path().join("faketime/libfaketimeMT.so.1");
    let found = std::fs::read_dir("/usr/lib").ok()?.flatten().map(of).find(|path| path.exists());
    if found.is_none() {
        println!("skipped: libfaketime is not installed");
    }
    found
}

struct Clocked {
    world: World,
    server: Server,
    backend: Backend,
    ca: Ca,
    began: OffsetDateTime,
}

impl Clocked {
    fn start(library: PathBuf) -> Clocked {
        let world = World::new();
        let backend = Backend::tcp(echo());
        let now = OffsetDateTime::now_utc();
        // Valid at all the times that the clock will show.
        let ca = world.pki.client_ca.intermediate_with("Old CA", |params| params.not_before = now - Duration::days(90));
        world.write("old-ca.pem", &chain_pem(std::slice::from_ref(&ca.der)));
        let mut config = ConfigText::new(&backend.server).limits("handshake_timeout = \"1s\"").admin();
        config.sites[0].client = "trust = [\"old-ca.pem\"]".to_owned();
        let config = config.write(world.path());
        let clock = world.write("clock", "");
        let mut command = command(world.path());
        command.arg("run").arg("-c").arg(config).env("LD_PRELOAD", library).env("FAKETIME", "%");
        // Of a file only its time is read: workers may open none.
        command
            .env("FAKETIME_FOLLOW_FILE", clock)
            .env("FAKETIME_NO_CACHE", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        let server = Server::from_command(world.path(), &mut command);
        Clocked { world, server, backend, ca, began: now }
    }

    /// The clock now shows so many days more, or fewer, than it should.
    fn wrong_by(&self, days: i64) {
        let clock = std::fs::File::options().write(true).open(self.world.path().join("clock")).unwrap();
        // What the library adds is the time since the program began.
        let began = std::time::SystemTime::from(self.began + Duration::days(days));
        clock.set_modified(began).unwrap();
        let right = || OffsetDateTime::now_utc().unix_timestamp() + days * 86_400;
        let shown = || self.server.metric("process_clock_time_seconds") as i64;
        assert!(until(SOON, || shown().abs_diff(right()) < 600), "libfaketime does not set the clock");
    }

    /// A client whose certificate is valid from so many hours ago until in so many, by the right clock.
    fn credential(&self, name: &str, hours: (i64, i64)) -> Credential {
        let now = OffsetDateTime::now_utc();
        let spec = LeafSpec::client(name).valid(now - Duration::hours(hours.0), now + Duration::hours(hours.1));
        self.ca.leaf(&spec)
    }

    fn client(&self, credential: &Credential) -> (Arc<rustls::ClientConfig>, Arc<Tickets>) {
        let tickets = Tickets::new();
        (ClientSpec::with(&self.world.pki, credential).tickets(&tickets).build(), tickets)
    }

    fn visit(&self, config: &Arc<rustls::ClientConfig>) -> (Result<(), Ending>, Client) {
        let mut client = Client::connect(config, SERVER_NAME, self.server.address());
        (client.echo(b"let me in"), client)
    }

    fn let_in(&self, who: &Credential, when: &str) {
        for versions in [TLS12, TLS13] {
            let config = ClientSpec::with(&self.world.pki, who).versions(versions).build();
            assert_eq!(self.visit(&config).0, Ok(()), "{when} {versions:?}");
        }
    }

    fn shut_out(&self, who: &Credential, alert: u8, reason: &str) {
        for versions in [TLS12, TLS13] {
            let config = ClientSpec::with(&self.world.pki, who).versions(versions).build();
            let mut client = Client::connect(&config, SERVER_NAME, self.server.address());
            assert_eq!(client.refusal(), Ending::Alert(alert), "{reason} {versions:?}");
            assert_eq!(self.server.audit_of(client.address, "refused")["reason"], reason);
        }
    }
}

#[test]
fn a_clock_a_day_ahead_or_behind_lets_nobody_in_ends_no_deadline_and_lifts_no_block() {
    let Some(library) = libfaketime() else { return };
    let clocked = Clocked::start(library);
    // Good at any time; runs out before tomorrow; was not valid yesterday.
    let steady = clocked.credential("steady", (1000, 1000));
    let brief = clocked.credential("brief", (1000, 12));
    let young = clocked.credential("young", (12, 1000));
    let blocked = clocked.credential("blocked", (1000, 1000));
    clocked.server.ctl_done(&["block", "--identity", "cn:blocked", "--for", "1h"]);
    let (config, tickets) = clocked.client(&steady);
    let (came, mut open) = clocked.visit(&config);
    assert_eq!(came, Ok(()));
    for who in [&steady, &brief, &young] {
        clocked.let_in(who, "by the right clock");
    }
    let (brief_again, _) = clocked.client(&brief);
    assert_eq!(clocked.visit(&brief_again).0, Ok(()));

    clocked.wrong_by(1);
    clocked.let_in(&steady, "a day ahead");
    clocked.shut_out(&brief, 45, "expired");
    clocked.shut_out(&blocked, 49, "identity_blocked");
    // Its ticket opens nothing either.
    assert_eq!(clocked.visit(&brief_again).0, Err(Ending::Alert(45)));
    assert!(tickets.count() > 0);
    let (came, late) = clocked.visit(&config);
    assert!(came.is_ok() && !late.resumed(), "a ticket of yesterday is too old");
    open.echo(b"open connections go on").unwrap();

    clocked.wrong_by(-1);
    tickets.keep_newest();
    let (came, early) = clocked.visit(&config);
    assert!(came.is_ok() && !early.resumed(), "a ticket of a time to come");
    clocked.shut_out(&young, 45, "not_yet_valid");
    clocked.shut_out(&blocked, 49, "identity_blocked");
    clocked.let_in(&brief, "a day behind");
    // What is timed goes by the clock that does not jump.
    let mut silent = Client::connect(&config, SERVER_NAME, clocked.server.address());
    assert_ne!(silent.read_to_end().1, Ending::Silence, "handshake_timeout");
    open.echo(b"still").unwrap();

    clocked.wrong_by(0);
    for who in [&steady, &brief, &young] {
        clocked.let_in(who, "by the right clock again");
    }
    clocked.shut_out(&blocked, 49, "identity_blocked");
    open.echo(b"to the end").unwrap();
    drop((open, late, early));
    assert!(clocked.backend.connections() > 0);
    assert_eq!(clocked.server.metric("countersign_task_panics_total{worker=\"0\"}"), 0.0);
    assert_eq!(clocked.server.stop(), 0);
}
