//! Clients that vanish with a reset at every step of a connection's life.

use super::raw::{Kit, Raw};
use super::record::{ALERT, DATA};
use super::siege::{Bounds, Siege};
use crate::world::wait::{SOON, repeated, until};
use std::time::Duration;

/// At each step, so often.
const TIMES: usize = 10;

const STEPS: [&str; 10] = [
    "connected",
    "half a hello sent",
    "a hello sent, no answer read",
    "the server's flight read",
    "half its own flight sent",
    "its whole flight sent",
    "data sent",
    "half a record sent",
    "a megabyte sent, its echo not read",
    "close_notify sent",
];

/// One client up to this step.
fn up_to(siege: &mut Siege, kit: &Kit, step: usize) -> Raw {
    let what = STEPS[step];
    if step < 3 {
        let mut raw = kit.connect(siege.address());
        let cut = [0, raw.hello.len() / 2, raw.hello.len()][step];
        let bytes = raw.hello[..cut].to_vec();
        raw.send(&bytes).unwrap();
        match step {
            0 => siege.silent(raw.address()),
            // Whether the bytes or the reset is seen first is a race: without bytes there is nothing to write down.
            _ => siege.perhaps(raw.address()),
        }
        return raw;
    }
    if step < 6 {
        let mut raw = kit.greet(siege.address());
        let messages = raw.flight();
        let flight = raw.flight_of(&messages);
        let cut = [0, flight.len() / 2, flight.len()][step - 3];
        raw.send(&flight[..cut]).unwrap();
        siege.either(raw.address(), what);
        return raw;
    }
    let (mut raw, mut sealer) = kit.open(siege.address());
    siege.admitted(raw.address(), what);
    let bytes = match step {
        6 => sealer.seal(DATA, b"data"),
        7 => sealer.seal(DATA, &[1; 8000])[..4000].to_vec(),
        8 => (0..64).flat_map(|_| sealer.seal(DATA, &[1; 16 << 10])).collect(),
        _ => sealer.seal(ALERT, &[1, 0]),
    };
    // The echo of a megabyte that nobody reads stops the writing somewhere; so far is enough.
    raw.client.tcp.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
    let _ = raw.send(&bytes);
    raw
}

#[test]
fn a_reset_at_any_step_ends_that_connection_alone_and_leaves_nothing_behind() {
    let mut siege = Siege::lay();
    siege.server.any_path();
    let counted = siege.server.process.shows_descriptors();
    let before = if counted { siege.server.process.descriptors() } else { 0 };
    for kit in Kit::both(&siege.world.pki) {
        for step in 0..STEPS.len() {
            for _ in 0..repeated(TIMES) {
                up_to(&mut siege, &kit, step).reset();
            }
        }
    }
    // The probe's own connection comes and goes meanwhile.
    let left = until(SOON, || siege.metric("countersign_connections_active") <= 1.0);
    assert!(left, "{} connections are left", siege.metric("countersign_connections_active"));
    if counted {
        let closed = until(SOON, || siege.server.process.descriptors() <= before + 4);
        assert!(closed, "{} descriptors, {before} before", siege.server.process.descriptors());
    }
    siege.end("resets", &Bounds { cpu: Duration::from_secs(10), memory_kib: 24 << 10 });
}
