//! A fault of ours in one connection: it ends, is counted, logged and audited, and nothing else notices.

use super::siege::{Bounds, Siege};
use crate::world::backend::{End, echo};
use crate::world::client::{Client, ClientSpec, Ending};
use crate::world::server::{Server, command, hooked};
use crate::world::wait::{SOON, until};
use serde_json::Value;
use std::time::Duration;

/// What a debug build reads, and a release build does not know.
const VARIABLE: &str = "COUNTERSIGN_TEST_PANIC_SNI";

/// At each point, so often.
const TIMES: usize = 5;

fn besieged() -> Siege {
    Siege::started(
        echo(),
        |config| config,
        |world, config| {
            let mut command = command(world.path());
            command.env(VARIABLE, "boom.example").arg("run").arg("-c").arg(config.write(world.path()));
            Server::from_command(world.path(), &mut command)
        },
    )
}

/// What became of clients that made their connection panic at `point`.
fn blow_up(siege: &Siege, point: &str) -> Vec<Client> {
    let config = ClientSpec::new(&siege.world.pki).build();
    let connect = |_| {
        let mut client = Client::connect(&config, &format!("{point}.boom.example"), siege.address());
        // The first bytes may come with the handshake's last ones, and so are not a matter of the transfer.
        let ending = client.echo(b"boom").and_then(|()| client.echo(b"boom")).expect_err("it went on after a panic");
        assert!(matches!(ending, Ending::Fin | Ending::Reset), "{point}: {ending:?}");
        client
    };
    (0..TIMES).map(connect).collect()
}

/// The one beginning (and end) of this client in the audit, and the conn_id's place in the log.
fn line_of(siege: &Siege, client: &Client, event: &str) -> Value {
    let line = siege.server.audit_of(client.address, event);
    let id = line["conn_id"].as_str().unwrap().to_owned();
    let logged =
        || siege.server.process.stderr.all().iter().any(|told| told.contains(&id) && told.contains("fault of ours"));
    assert!(until(SOON, logged), "{id} is not in the log");
    line
}

#[test]
fn a_panic_ends_its_own_connection_alone_and_is_counted_logged_and_audited() {
    if !hooked(VARIABLE) {
        println!("skipped: a release build cannot be made to panic");
        return;
    }
    let mut siege = besieged();
    for client in blow_up(&siege, "handshake") {
        let line = line_of(&siege, &client, "refused");
        assert_eq!((&line["reason"], &line["decision"]), (&"internal".into(), &"refuse".into()), "{line}");
    }
    assert_eq!(siege.backend.connections(), 0);
    for client in blow_up(&siege, "connected") {
        assert_eq!(line_of(&siege, &client, "refused")["reason"], "internal");
    }
    for client in blow_up(&siege, "transfer") {
        assert_eq!(line_of(&siege, &client, "closed")["close_reason"], "internal");
    }
    // A fault of ours is no orderly end of the client's.
    for index in 0..2 * TIMES {
        let seen = siege.backend.wait_end(index);
        assert_eq!(seen.end, Some(End::Reset), "backend connection {index}: {seen:?}");
        assert!(seen.received.len() <= if index < TIMES { 0 } else { 4 }, "backend connection {index}: {seen:?}");
    }
    siege.reached(2 * TIMES);
    assert_eq!(siege.metric("countersign_task_panics_total"), 3.0 * TIMES as f64);
    // The worker's state is whole: all that the connections held was given back. The probe's own comes and goes.
    for gauge in ["connections_active", "handshakes_in_flight", "backend_connections_active"] {
        let gauge = format!("countersign_{gauge}");
        assert!(until(SOON, || siege.metric(&gauge) <= 1.0), "{gauge} is {}", siege.metric(&gauge));
    }
    let mut server = siege.reckon("panics", &Bounds { cpu: Duration::from_secs(8), memory_kib: 48 << 10 });
    server.process.signal("TERM");
    let status = server.process.wait(SOON).expect("it does not end");
    assert_eq!(status.code(), Some(0), "{}", server.process.stderr.text());
}
