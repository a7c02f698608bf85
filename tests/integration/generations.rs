//! What a reload replaces is given back, however many there are.

use crate::world::World;
use crate::world::backend::{Backend, echo};
use crate::world::client::ClientSpec;
use crate::world::config::ConfigText;
use crate::world::wait::{SOON, until};

#[test]
fn the_memory_of_old_generations_returns() {
    const ENTRIES: u64 = 20_000;
    let world = World::new();
    let backend = Backend::tcp(echo());
    let revoked: Vec<u64> = (0x10_0000..0x10_0000 + ENTRIES).collect();
    let lists = [1, 2].map(|number| world.pki.client_ca.crl(number, &revoked));
    world.write("clients.crl", &lists[0]);
    let server = world.serve(&ConfigText::new(&backend.server).admin().client("crls = [\"clients.crl\"]"));
    // A connection of an old generation does not keep more of it than it needs.
    let mut open = ClientSpec::new(&world.pki).connect(server.address());
    open.echo(b"open").unwrap();
    let reload = |number: usize| {
        world.write("clients.crl", &lists[number % 2]);
        server.ctl_done(&["reload"]);
    };
    (0..8).for_each(reload);
    let before = server.process.resident_kib();
    (0..32).for_each(reload);
    let grown = || server.process.resident_kib().saturating_sub(before);
    // One list in memory is more than a megabyte.
    assert!(until(SOON, || grown() < 16 << 10), "{} KiB more after 32 reloads", grown());
    open.echo(b"still here").unwrap();
    drop(open);
    assert_eq!(server.stop(), 0);
}
