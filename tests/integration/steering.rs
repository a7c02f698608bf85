//! `runtime.steering`: which worker gets a connection. Clients on loopback say by their own CPU which CPU takes the packet.

use crate::world::World;
use crate::world::backend::{Backend, echo};
use crate::world::client::{Client, ClientSpec};
use crate::world::config::ConfigText;
use crate::world::server::Server;
use std::net::SocketAddr;

/// This many from each CPU to each address.
const EACH: usize = 8;

/// Connections of clients that run on `cpu`, all let in.
fn made_on(cpu: usize, world: &World, address: SocketAddr) -> Vec<Client> {
    assert!(core_affinity::set_for_current(core_affinity::CoreId { id: cpu }));
    let spec = ClientSpec::new(&world.pki);
    let mut clients: Vec<Client> = (0..EACH).map(|_| spec.connect(address)).collect();
    clients.iter_mut().for_each(|client| client.echo(b"from here").unwrap());
    clients
}

/// Connections open on each worker.
fn by_worker(server: &Server) -> Vec<u64> {
    let status = server.ctl_json(&["status"]);
    let workers = status["workers"].as_array().unwrap();
    workers.iter().map(|worker| worker["connections"].as_u64().unwrap()).collect()
}

/// Two CPUs that this process may use.
fn two_cpus() -> Option<[usize; 2]> {
    let cpus: Vec<usize> = core_affinity::get_core_ids().unwrap_or_default().iter().map(|core| core.id).collect();
    let [.., first, second] = cpus[..] else {
        println!("skipped: one CPU alone");
        return None;
    };
    Some([first, second])
}

#[test]
fn with_steering_by_cpu_each_worker_gets_what_its_cpu_took_on_addresses_of_a_reload_too() {
    let Some([first, second]) = two_cpus() else { return };
    let world = World::new();
    let backend = Backend::tcp(echo());
    let mut config = ConfigText::new(&backend.server).admin();
    config = config.runtime(&format!("cpus = \"{first},{second}\"\npin = true\nsteering = \"cpu\""));
    let server = world.serve(&config);
    let _one = made_on(second, &world, server.address());
    assert_eq!(by_worker(&server), [0, 8]);
    let _two = made_on(first, &world, server.address());
    assert_eq!(by_worker(&server), [8, 8]);

    config.listeners[0].lines = "address = [\"127.0.0.1:0\", \"127.0.0.2:0\"]".to_owned();
    config.write(world.path());
    server.ctl_done(&["reload"]);
    let status = server.ctl_json(&["status"]);
    let addresses = status["listeners"][0]["addresses"].as_array().unwrap();
    let mut addresses = addresses.iter().map(|address| address.as_str().unwrap());
    let added: SocketAddr = addresses.find(|address| address.starts_with("127.0.0.2:")).unwrap().parse().unwrap();
    let _three = made_on(first, &world, added);
    assert_eq!(by_worker(&server), [16, 8]);
    let _four = made_on(second, &world, server.address());
    assert_eq!(by_worker(&server), [16, 16]);
    assert!(!server.process.stderr.text().contains("WARN"), "{}", server.process.stderr.text());
}

#[test]
fn steering_by_cpu_without_pinned_workers_is_told_and_serves_by_hash() {
    let world = World::new();
    let backend = Backend::tcp(echo());
    let server = world.serve(&ConfigText::new(&backend.server).runtime("pin = false\nsteering = \"cpu\""));
    server.logged("steering = \"cpu\" needs workers that keep to their CPUs", 1);
    ClientSpec::new(&world.pki).connect(server.address()).echo(b"served all the same").unwrap();
    assert_eq!(server.stop(), 0);
}
