//! How connections end: an orderly end stays orderly, a truncation and a reset never look like one.

use crate::world::backend::{
    Backend, Conversation, End, answer_after_end, echo, reset_after_first_bytes, send_then_finish, swallow,
};
use crate::world::client::{Client, ClientSpec, Ending, TLS12, TLS13, Tickets};
use crate::world::config::ConfigText;
use crate::world::pki::SERVER_NAME;
use crate::world::server::Server;
use crate::world::{World, goes_by_kernel};
use rustls::ClientConfig;
use std::io::Write;
use std::sync::Arc;

const BOTH: [&[&rustls::SupportedProtocolVersion]; 2] = [TLS12, TLS13];

#[test]
fn a_clients_close_notify_is_fin_and_the_answer_still_comes_back() {
    let world = World::new();
    let (server, backend) = world.serve_before(answer_after_end(b"after the end"));
    for (index, versions) in BOTH.into_iter().enumerate() {
        let mut client = ClientSpec::new(&world.pki).versions(versions).connect(server.address());
        client.handshake().unwrap();
        client.send(b"all there is").unwrap();
        client.close_notify();
        assert_eq!(client.read_to_end(), (b"after the end".to_vec(), Ending::CloseNotify));
        let seen = backend.wait_end(index);
        assert_eq!((seen.received.as_slice(), seen.end), (&b"all there is"[..], Some(End::Fin)));
        let line = server.audit_of(client.address, "closed");
        assert_eq!((line["bytes_in"].as_u64(), line["bytes_out"].as_u64()), (Some(12), Some(13)), "{line}");
    }
    assert_eq!(server.stop(), 0);
}

#[test]
fn a_close_notify_with_fin_behind_it_is_an_orderly_end_too() {
    let world = World::new();
    let (server, backend) = world.serve_before(answer_after_end(b"after the end"));
    server.any_path();
    let mut client = ClientSpec::new(&world.pki).connect(server.address());
    client.handshake().unwrap();
    client.send(b"all there is").unwrap();
    client.close_notify();
    client.finish_tcp();
    assert_eq!(client.read_to_end(), (b"after the end".to_vec(), Ending::CloseNotify));
    assert_eq!(backend.wait_end(0).end, Some(End::Fin));
}

#[test]
fn a_backends_fin_is_close_notify_and_the_client_may_still_speak() {
    let world = World::new();
    for unix in [false, true] {
        let script = send_then_finish(b"hello and goodbye");
        let backend = if unix { Backend::unix(world.path(), script) } else { Backend::tcp(script) };
        let server = world.serve(&ConfigText::new(&backend.server));
        let mut client = ClientSpec::new(&world.pki).connect(server.address());
        client.handshake().unwrap();
        assert_eq!(client.read_to_end(), (b"hello and goodbye".to_vec(), Ending::CloseNotify));
        client.send(b"still speaking").unwrap();
        assert_eq!(backend.wait_bytes(0, 14), b"still speaking");
        client.close_notify();
        assert_eq!(backend.wait_end(0).end, Some(End::Fin));
        assert_eq!(server.stop(), 0);
    }
}

#[test]
fn a_truncation_is_a_reset_at_a_tcp_backend() {
    let world = World::new();
    let (server, backend) = world.serve_before(swallow());
    for (index, versions) in BOTH.into_iter().enumerate() {
        let mut client = ClientSpec::new(&world.pki).versions(versions).connect(server.address());
        client.handshake().unwrap();
        client.send(b"half of it").unwrap();
        backend.wait_bytes(index, 10);
        client.finish_tcp();
        let seen = backend.wait_end(index);
        assert_eq!((seen.received.as_slice(), seen.end), (&b"half of it"[..], Some(End::Reset)));
        assert_eq!(server.audit_of(client.address, "closed")["close_reason"], "truncated");
    }
}

#[test]
fn a_truncation_is_told_in_the_audit_where_a_unix_backend_can_only_see_the_end() {
    let world = World::new();
    let backend = Backend::unix(world.path(), swallow());
    let server = world.serve(&ConfigText::new(&backend.server));
    let mut client = ClientSpec::new(&world.pki).connect(server.address());
    client.handshake().unwrap();
    client.send(b"half of it").unwrap();
    backend.wait_bytes(0, 10);
    client.finish_tcp();
    assert_eq!(backend.wait_end(0).received, b"half of it");
    assert_eq!(server.audit_of(client.address, "closed")["close_reason"], "truncated");
}

#[test]
fn a_clients_reset_is_a_reset_at_the_backend() {
    let world = World::new();
    let (server, backend) = world.serve_before(swallow());
    let mut client = ClientSpec::new(&world.pki).connect(server.address());
    client.handshake().unwrap();
    client.send(b"half of it").unwrap();
    backend.wait_bytes(0, 10);
    let address = client.address;
    client.reset();
    assert_eq!(backend.wait_end(0).end, Some(End::Reset));
    let line = server.audit_of(address, "closed");
    assert_ne!(line["close_reason"], "done", "{line}");
}

#[test]
fn a_backends_reset_is_a_reset_at_the_client_never_close_notify() {
    let world = World::new();
    let (server, _backend) = world.serve_before(reset_after_first_bytes());
    for versions in BOTH {
        let mut client = ClientSpec::new(&world.pki).versions(versions).connect(server.address());
        client.handshake().unwrap();
        client.send(b"a request").unwrap();
        assert_eq!(client.read_to_end(), (Vec::new(), Ending::Reset));
        let line = server.audit_of(client.address, "closed");
        assert_ne!(line["close_reason"], "done", "{line}");
    }
}

#[test]
fn a_backends_reset_after_the_client_has_ended_is_no_orderly_end_either() {
    let world = World::new();
    let script = Arc::new(|mut conversation: Conversation| {
        conversation.drain();
        conversation.send(b"the first half");
        conversation.reset();
    });
    let (server, _backend) = world.serve_before(script);
    let mut client = ClientSpec::new(&world.pki).connect(server.address());
    client.handshake().unwrap();
    client.send(b"a request").unwrap();
    client.close_notify();
    let (_, ending) = client.read_to_end();
    assert_ne!(ending, Ending::CloseNotify);
}

#[test]
fn a_garbled_record_ends_the_connection_and_the_backend_sees_no_orderly_end() {
    let world = World::new();
    let (server, backend) = world.serve_before(swallow());
    let mut client = ClientSpec::new(&world.pki).connect(server.address());
    client.handshake().unwrap();
    client.send(b"good").unwrap();
    backend.wait_bytes(0, 4);
    let mut record = vec![23, 3, 3, 0, 40];
    record.extend([0x5a; 40]);
    client.tcp.write_all(&record).unwrap();
    let (_, ending) = client.read_to_end();
    // On the kernel path no alert can be sent any more.
    let mute = goes_by_kernel("1.2") && ending == Ending::Reset;
    assert!(mute || ending == Ending::Alert(20), "bad_record_mac: {ending:?}");
    assert_eq!(backend.wait_end(0).end, Some(End::Reset));
    let line = server.audit_of(client.address, "closed");
    assert_ne!(line["close_reason"], "done", "{line}");
}

/// A client whose last handshake bytes, data, and what `end` adds leave in one write.
fn all_at_once(world: &World, server: &Server, config: &Arc<ClientConfig>, end: impl Fn(&mut Client)) -> Client {
    let mut client = Client::connect(config, SERVER_NAME, server.address());
    client.tls.writer().write_all(b"behind Finished").unwrap();
    while client.tls.is_handshaking() {
        while client.tls.wants_write() {
            client.tls.write_tls(&mut client.tcp).unwrap();
        }
        client.tls.read_tls(&mut client.tcp).unwrap();
        client.tls.process_new_packets().unwrap();
    }
    end(&mut client);
    let mut bytes = Vec::new();
    while client.tls.wants_write() {
        client.tls.write_tls(&mut bytes).unwrap();
    }
    client.tcp.write_all(&bytes).unwrap();
    assert!(world.path().exists());
    client
}

#[test]
fn data_and_the_end_right_behind_finished_are_neither_lost_nor_reordered() {
    let world = World::new();
    let (server, backend) = world.serve_before(answer_after_end(b"heard you"));
    server.any_path();
    let mut index = 0;
    for versions in BOTH {
        let config = ClientSpec::new(&world.pki).versions(versions).tickets(&Tickets::new()).build();
        for resumed in [false, true] {
            let mut client = all_at_once(&world, &server, &config, |client| client.tls.send_close_notify());
            client.finish_tcp();
            assert_eq!(client.read_to_end(), (b"heard you".to_vec(), Ending::CloseNotify), "{versions:?}");
            assert_eq!(client.resumed(), resumed, "{versions:?}");
            let seen = backend.wait_end(index);
            assert_eq!((seen.received.as_slice(), seen.end), (&b"behind Finished"[..], Some(End::Fin)));
            index += 1;
        }
    }
}

#[test]
fn a_truncation_right_behind_finished_is_no_orderly_end() {
    let world = World::new();
    let (server, backend) = world.serve_before(swallow());
    server.any_path();
    let config = ClientSpec::new(&world.pki).build();
    let client = all_at_once(&world, &server, &config, |_| {});
    client.finish_tcp();
    assert_eq!(server.audit_of(client.address, "closed")["close_reason"], "truncated");
    assert_eq!(backend.wait_end(0).end, Some(End::Reset));
}

#[test]
fn all_that_a_backend_sent_before_it_closed_arrives_however_slowly_it_is_read() {
    let world = World::new();
    let much = Arc::new(|mut conversation: Conversation| {
        conversation.read();
        for _ in 0..64 {
            conversation.send(&[9; 64 << 10]);
        }
    });
    let (server, _backend) = world.serve_before(much);
    for versions in BOTH {
        let mut client = ClientSpec::new(&world.pki).versions(versions).connect(server.address());
        client.handshake().unwrap();
        client.send(b"go").unwrap();
        let mut read = 0;
        for pause in [50, 50, 50, 0] {
            std::thread::sleep(std::time::Duration::from_millis(pause));
            read += client.read().unwrap().len();
        }
        let (rest, ending) = client.read_to_end();
        assert_eq!((read + rest.len(), ending), (4 << 20, Ending::CloseNotify), "{versions:?}");
    }
}

#[test]
fn a_client_that_only_connects_and_leaves_in_order_is_seen_as_such() {
    let world = World::new();
    let (server, backend) = world.serve_before(echo());
    let mut client = ClientSpec::new(&world.pki).connect(server.address());
    client.handshake().unwrap();
    client.close_notify();
    assert_eq!(client.read_to_end(), (Vec::new(), Ending::CloseNotify));
    assert_eq!(backend.wait_end(0).end, Some(End::Fin));
    assert_eq!(server.audit_of(client.address, "closed")["close_reason"], "done");
}

#[test]
fn a_connection_that_is_over_leaves_no_descriptor_behind() {
    let world = World::new();
    let (server, _backend) = world.serve_before(echo());
    if !server.process.shows_descriptors() {
        return;
    }
    let spec = ClientSpec::new(&world.pki);
    let one = || {
        let mut client = spec.connect(server.address());
        client.echo(b"x").unwrap();
        client.close_notify();
        client.read_to_end();
    };
    one();
    let settled = crate::world::wait::until_some(crate::world::wait::SOON, || {
        let open = server.audit().iter().filter(|line| line["event"] == "closed").count();
        (open == 1).then(|| server.process.descriptors())
    });
    let before = settled.expect("the first connection ends");
    for _ in 0..50 {
        one();
    }
    // The kernel path keeps a pipe or two of each worker for reuse.
    let kept = if goes_by_kernel("1.2") { 8 } else { 0 };
    let back = crate::world::wait::until(crate::world::wait::SOON, || server.process.descriptors() <= before + kept);
    assert!(back, "{} descriptors, {before} before", server.process.descriptors());
}
