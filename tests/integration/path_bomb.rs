//! Chains made to be expensive cost the server next to nothing: whoever wants to may send them, with no key that
//! anybody trusts.

use crate::world::World;
use crate::world::backend::echo;
use crate::world::client::{ClientSpec, Ending};
use crate::world::pki::{Ca, Credential, LeafSpec};
use crate::world::server::Server;
use std::time::Duration;

const ATTEMPTS: u32 = 50;

/// CPU time that the server used for `ATTEMPTS` refusals of this client.
fn cost(server: &Server, world: &World, credential: &Credential) -> Duration {
    let config = ClientSpec::with(&world.pki, credential).build();
    let before = server.process.cpu_time();
    for _ in 0..ATTEMPTS {
        let mut client =
            crate::world::client::Client::connect(&config, crate::world::pki::SERVER_NAME, server.address());
        let ending = client.refusal();
        assert!(matches!(ending, Ending::Alert(46 | 48 | 51)), "{ending:?}");
        server.audit_of(client.address, "refused");
    }
    server.process.cpu_time() - before
}

/// A leaf and ten authorities that all have the same name and all could have signed each other.
fn same_name_bomb(name: &str, count: usize) -> Credential {
    let authorities: Vec<Ca> = (0..count).map(|_| Ca::root(name)).collect();
    let rest: Vec<_> = authorities.iter().map(|ca| &ca.der).collect();
    authorities[0].leaf(&LeafSpec::client("bomb")).with_rest(&rest)
}

#[test]
fn fifty_path_bombs_cost_little_more_than_fifty_ordinary_refusals() {
    let world = World::new();
    let config = |certificates: u32| {
        let backend = "127.0.0.1:9";
        let limits = format!("client_chain_certificates = {certificates}\nclient_chain_bytes = \"64KiB\"");
        crate::world::config::ConfigText::new(backend).limits(&limits).client("max_depth = 6")
    };
    // Both within what the message may hold, so that the search itself is what bounds the cost.
    let server = world.serve(&config(16));
    let stranger = Ca::root("Somebody else").leaf(&LeafSpec::client("stranger"));
    let ordinary = cost(&server, &world, &stranger);
    let bombs = [
        ("ten of one name", same_name_bomb("Bomb", 10)),
        ("ten that name the real anchor", same_name_bomb("Test client CA", 10)),
        ("fifteen that name the real anchor", same_name_bomb("Test client CA", 15)),
    ];
    for (what, bomb) in bombs {
        let bombed = cost(&server, &world, &bomb);
        println!("{ATTEMPTS} ordinary refusals {ordinary:?}, {ATTEMPTS} of {what} {bombed:?}");
        // Unbounded, one of them costs 180 ms and more: 9 s for all.
        assert!(bombed < ordinary * 4 + Duration::from_millis(500), "{what}: {bombed:?} against {ordinary:?}");
    }
    assert_eq!(server.stop(), 0);
}

#[test]
fn more_certificates_than_the_message_may_hold_are_refused_unseen() {
    let world = World::new();
    let (server, backend) = world.serve_before(echo());
    let bomb = same_name_bomb("Test client CA", 10);
    let mut client = ClientSpec::with(&world.pki, &bomb).connect(server.address());
    assert_eq!(client.refusal(), Ending::Alert(46));
    assert_eq!(server.audit_of(client.address, "refused")["reason"], "chain_too_big");
    assert_eq!(backend.connections(), 0);
}
