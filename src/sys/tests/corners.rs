//! What is told once, found late, or left behind: where an engine over readiness could differ from one over completions.

use super::*;
use socket2::SockRef;
use std::os::unix::net::UnixStream;
use std::sync::mpsc;

over_both! {
    bytes_and_the_end_that_come_together_are_both_told,
    a_reset_is_an_error_and_no_end,
    urgent_data_hide_nothing_behind_them,
    a_send_that_finds_no_room_goes_on_when_there_is,
    a_send_that_is_given_up_leaves_nothing_behind,
    a_send_on_a_connection_that_broke_fails_and_does_not_wait,
    a_burst_of_connections_is_taken_whole,
    who_knocks_waits_in_the_queue_until_taken_one_by_one,
    a_number_that_is_used_again_hears_nothing_of_its_predecessor,
    nobody_turns_over_what_nobody_reads,
    a_listener_that_others_hold_too_is_forgotten_with_its_acceptor,
    a_full_unix_backlog_is_waited_for,
    readiness_is_looked_at_anew_and_by_several_at_once,
}

/// A server's first exchange, after which its kernel knows the socket.
async fn acquainted(server: &Socket) {
    assert_eq!(&*server.receive(Size::Small).await.unwrap().unwrap(), b"hello");
    server.send(b"!".to_vec()).await.0.unwrap();
}

/// The client's side of it.
fn acquaint(client: &mut TcpStream) {
    client.write_all(b"hello").unwrap();
    client.read_exact(&mut [0]).unwrap();
}

/// A connection whose client does as told in a thread of its own, after the first exchange.
fn acquainted_pair(runtime: &Runtime, client: impl FnOnce(TcpStream) + Send + 'static) -> Socket {
    let (server, mut stream) = pair(runtime);
    std::thread::spawn(move || {
        acquaint(&mut stream);
        client(stream);
    });
    let known = server.clone();
    run(runtime, async move { acquainted(&known).await });
    server
}

fn bytes_and_the_end_that_come_together_are_both_told(engine: Engine) {
    let runtime = engine();
    for _ in 0..20 {
        let server = acquainted_pair(&runtime, |mut client| {
            client.write_all(b"last words").unwrap();
            client.shutdown(std::net::Shutdown::Write).unwrap();
            client.read_to_end(&mut Vec::new()).unwrap();
        });
        run(&runtime, async move {
            let mut came = Vec::new();
            while let Some(lease) = server.receive(Size::Small).await.unwrap() {
                came.extend_from_slice(&lease);
            }
            assert_eq!(came, b"last words");
            // The end stays the end.
            assert!(server.receive(Size::Small).await.unwrap().is_none());
        });
    }
}

fn a_reset_is_an_error_and_no_end(engine: Engine) {
    let runtime = engine();
    let server = acquainted_pair(&runtime, |client| {
        SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
    });
    run(&runtime, async move {
        let error = server.receive(Size::Small).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    });
}

fn urgent_data_hide_nothing_behind_them(engine: Engine) {
    let runtime = engine();
    let server = acquainted_pair(&runtime, |mut client| {
        client.write_all(b"before").unwrap();
        SockRef::from(&client).send_out_of_band(b"!").unwrap();
        client.write_all(b" and behind").unwrap();
        client.read_to_end(&mut Vec::new()).unwrap();
    });
    run(&runtime, async move {
        let mut came = Vec::new();
        while came.len() < b"before and behind".len() {
            came.extend_from_slice(&server.receive(Size::Small).await.unwrap().unwrap());
        }
        assert_eq!(came, b"before and behind");
    });
}

/// More than the buffers of both ends hold.
const MUCH: usize = 32 << 20;

fn a_send_that_finds_no_room_goes_on_when_there_is(engine: Engine) {
    let runtime = engine();
    let (go, wait) = mpsc::channel();
    let (told, count) = mpsc::channel();
    let server = acquainted_pair(&runtime, move |mut client| {
        wait.recv().unwrap();
        let mut came = Vec::new();
        client.read_to_end(&mut came).unwrap();
        told.send(came).unwrap();
    });
    let bytes: Vec<u8> = (0..MUCH).map(|i| (i % 251) as u8).collect();
    let sent = bytes.clone();
    let reactor = runtime.reactor().clone();
    reactor.spawn({
        let reactor = reactor.clone();
        async move {
            reactor.sleep_until(reactor.now() + Duration::from_millis(10)).await;
            go.send(()).unwrap();
        }
    });
    run(&runtime, async move {
        server.send(sent).await.0.unwrap();
        server.shutdown_send().unwrap();
    });
    assert!(count.recv_timeout(Duration::from_secs(10)).unwrap() == bytes, "the bytes changed on their way");
}

fn a_send_that_is_given_up_leaves_nothing_behind(engine: Engine) {
    let runtime = engine();
    let (server, mut client) = pair(&runtime);
    let reactor = runtime.reactor().clone();
    let inside = reactor.clone();
    run(&runtime, async move {
        let soon = inside.now() + Duration::from_millis(10);
        assert!(inside.until(soon, server.send(vec![1; MUCH])).await.is_none());
    });
    // The kernel's last word on it closes the socket.
    runtime.run_until(|| reactor.in_flight() == 0).unwrap();
    let came = std::io::copy(&mut client, &mut std::io::sink());
    assert!(came.is_err() || came.is_ok_and(|count| count < MUCH as u64));
}

fn a_send_on_a_connection_that_broke_fails_and_does_not_wait(engine: Engine) {
    let runtime = engine();
    let (go, wait) = mpsc::channel::<()>();
    let server = acquainted_pair(&runtime, move |client| {
        wait.recv().unwrap();
        // With bytes unread this is a reset.
        drop(client);
    });
    let reactor = runtime.reactor().clone();
    run(&runtime, async move {
        let soon = reactor.now() + Duration::from_millis(10);
        assert!(reactor.until(soon, server.send(vec![1; MUCH])).await.is_none());
        go.send(()).unwrap();
        server.ready(Interest::End).await.unwrap();
        for _ in 0..3 {
            assert!(server.send(vec![1; 100]).await.0.is_err());
        }
    });
}

fn listening() -> TcpListener {
    listen("127.0.0.1:0".parse().unwrap(), ListenOptions { keepalive: Duration::ZERO, backlog: 64 }).unwrap()
}

fn a_burst_of_connections_is_taken_whole(engine: Engine) {
    let runtime = engine();
    let listener = listening();
    let address = listener.local_addr().unwrap();
    let mut acceptor = Acceptor::new(runtime.reactor(), listener);
    for _ in 0..3 {
        let clients: Vec<_> = (0..21).map(|_| TcpStream::connect(address).unwrap()).collect();
        let count = clients.len();
        acceptor = run(&runtime, async move {
            for _ in 0..count {
                acceptor.accept().await.unwrap();
            }
            acceptor
        });
    }
}

fn who_knocks_waits_in_the_queue_until_taken_one_by_one(engine: Engine) {
    let runtime = engine();
    let listener = listening();
    let address = listener.local_addr().unwrap();
    let mut acceptor = Acceptor::new(runtime.reactor(), listener);
    let reactor = runtime.reactor().clone();
    run(&runtime, async move {
        // By itself first, then by hand, then by itself again.
        let mut clients = vec![TcpStream::connect(address).unwrap()];
        acceptor.accept().await.unwrap();
        assert!(acceptor.is_taking());
        while acceptor.stop().await.is_some() {}
        assert!(!acceptor.is_taking());
        let soon = reactor.now() + Duration::from_millis(5);
        assert!(reactor.until(soon, acceptor.knocked()).await.is_none(), "nobody is there");
        assert!(acceptor.take_waiting().unwrap().is_none());
        clients.extend((0..5).map(|_| TcpStream::connect(address).unwrap()));
        for client in &clients[1..4] {
            acceptor.knocked().await.unwrap();
            let taken = acceptor.take_waiting().unwrap().unwrap();
            assert_eq!(taken.address(End::Peer).unwrap(), client.local_addr().unwrap());
            taken.send(b"x".to_vec()).await.0.unwrap();
        }
        acceptor.resume();
        for client in &clients[4..] {
            let taken = acceptor.accept().await.unwrap();
            assert_eq!(taken.address(End::Peer).unwrap(), client.local_addr().unwrap());
        }
    });
}

fn a_number_that_is_used_again_hears_nothing_of_its_predecessor(engine: Engine) {
    let runtime = engine();
    let reactor = runtime.reactor().clone();
    for _ in 0..20 {
        let old = acquainted_pair(&runtime, |mut client| {
            let _ = client.write_all(b"unheard");
        });
        drop(old);
        let (server, mut client) = pair(&runtime);
        let reactor = reactor.clone();
        run(&runtime, async move {
            let soon = reactor.now() + Duration::from_millis(2);
            assert!(reactor.until(soon, server.receive(Size::Small)).await.is_none());
            client.write_all(b"hello").unwrap();
            assert_eq!(&*server.receive(Size::Small).await.unwrap().unwrap(), b"hello");
        });
    }
}

/// Turns of a loop that has nothing to do for 50 ms.
fn turns_at_rest(runtime: &Runtime) -> usize {
    let reactor = runtime.reactor().clone();
    let over = Rc::new(Cell::new(false));
    let end = over.clone();
    reactor.spawn({
        let reactor = reactor.clone();
        async move {
            reactor.sleep_until(reactor.now() + Duration::from_millis(50)).await;
            end.set(true);
        }
    });
    let mut turns = 0;
    runtime
        .run_until(|| {
            turns += 1;
            over.get()
        })
        .unwrap();
    turns
}

fn nobody_turns_over_what_nobody_reads(engine: Engine) {
    let runtime = engine();
    let (hold, held) = mpsc::channel::<()>();
    let server = acquainted_pair(&runtime, move |mut client| {
        client.write_all(&[1; 100]).unwrap();
        client.shutdown(std::net::Shutdown::Write).unwrap();
        let _ = held.recv();
    });
    turns_at_rest(&runtime);
    assert!(turns_at_rest(&runtime) < 20);
    drop((hold, server));
}

fn a_listener_that_others_hold_too_is_forgotten_with_its_acceptor(engine: Engine) {
    let runtime = engine();
    let listener = listening();
    let (other, address) = (listener.try_clone().unwrap(), listener.local_addr().unwrap());
    let mut acceptor = Acceptor::new(runtime.reactor(), listener);
    let _first = TcpStream::connect(address).unwrap();
    run(&runtime, async move {
        acceptor.accept().await.unwrap();
        while acceptor.stop().await.is_some() {}
    });
    let _clients: Vec<_> = (0..10).map(|_| TcpStream::connect(address).unwrap()).collect();
    assert!(turns_at_rest(&runtime) < 20);
    other.set_nonblocking(true).unwrap();
    assert_eq!(std::iter::from_fn(|| other.accept().ok()).count(), 10);
}

fn a_full_unix_backlog_is_waited_for(engine: Engine) {
    let runtime = engine();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let listener = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
    listener.bind(&socket2::SockAddr::unix(&path).unwrap()).unwrap();
    listener.listen(0).unwrap();
    let _first = UnixStream::connect(&path).unwrap();
    let reactor = runtime.reactor().clone();
    let (go, wait) = mpsc::channel::<()>();
    let accepting = std::thread::spawn(move || {
        wait.recv().unwrap();
        // Held to the end: io_uring's first connect may have come through before it heard that it was given up.
        (listener.accept().unwrap(), listener.accept().unwrap(), listener)
    });
    run(&runtime, async move {
        let address = Address::Unix(path);
        let soon = reactor.now() + Duration::from_millis(20);
        let early = reactor.until(soon, Socket::connect(&reactor, &address)).await;
        assert!(early.is_none(), "{early:?}");
        let connecting = Socket::connect(&reactor, &address);
        go.send(()).unwrap();
        connecting.await.unwrap();
    });
    accepting.join().unwrap();
}

fn readiness_is_looked_at_anew_and_by_several_at_once(engine: Engine) {
    let runtime = engine();
    let (go, wait) = mpsc::channel::<()>();
    let server = acquainted_pair(&runtime, move |mut client| {
        wait.recv().unwrap();
        client.write_all(b"hello").unwrap();
        client.read_to_end(&mut Vec::new()).unwrap();
    });
    let reactor = runtime.reactor().clone();
    let never = server.clone();
    let ended = Rc::new(Cell::new(false));
    let end = ended.clone();
    reactor.spawn(async move {
        never.ready(Interest::End).await.unwrap();
        end.set(true);
    });
    run(&runtime, async move {
        let soon = reactor.now() + Duration::from_millis(5);
        assert!(reactor.until(soon, server.ready(Interest::Read)).await.is_none());
        go.send(()).unwrap();
        server.ready(Interest::Read).await.unwrap();
        server.ready(Interest::Read).await.unwrap();
        server.ready(Interest::Write).await.unwrap();
        assert_eq!(&*server.receive(Size::Small).await.unwrap().unwrap(), b"hello");
        let soon = reactor.now() + Duration::from_millis(5);
        assert!(reactor.until(soon, server.ready(Interest::Read)).await.is_none());
        assert!(!ended.get());
        server.shutdown_send().unwrap();
        // The client ends in answer, and then both directions have.
        while !ended.get() {
            reactor.sleep_until(reactor.now() + Duration::from_millis(1)).await;
        }
    });
}

#[test]
fn a_listening_socket_changes_hands_between_the_engines() {
    let listener = listening();
    let address = listener.local_addr().unwrap();
    for engine in [over_epoll, over_io_uring, over_epoll, over_io_uring] {
        let runtime = engine();
        let mut acceptor = Acceptor::new(runtime.reactor(), listener.try_clone().unwrap());
        let reactor = runtime.reactor().clone();
        run(&runtime, async move {
            let soon = reactor.now() + Duration::from_millis(5);
            assert!(reactor.until(soon, acceptor.accept()).await.is_none(), "it waits where nobody comes");
            let _client = TcpStream::connect(address).unwrap();
            acceptor.accept().await.unwrap();
            while acceptor.stop().await.is_some() {}
        });
    }
}
