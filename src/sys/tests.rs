//! The reactor over both real kernels, with real sockets: each test once over io_uring and once over epoll.

use super::*;
use std::cell::Cell;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::rc::Rc;
use std::time::{Duration, Instant};

const BUFFERS: BufferSizes = BufferSizes { small: (4, 1024), large: (2, 64 << 10) };

type Engine = fn() -> Runtime;

fn over_io_uring() -> Runtime {
    let options = RingOptions { entries: 64, completions: 256, buffers: BUFFERS };
    Runtime::new(Box::new(Uring::new(options).unwrap()), 64)
}

fn over_epoll() -> Runtime {
    // Few events and accepts a turn, so that tests come past these bounds.
    let options = EpollOptions { events: 4, accepts: 2, buffers: BUFFERS };
    Runtime::new(Box::new(Epoll::new(options).unwrap()), 64)
}

/// Each function once over each kernel.
macro_rules! over_both {
    ($($name:ident,)*) => {
        mod on_io_uring {
            $(#[test]
            fn $name() {
                super::$name(super::over_io_uring);
            })*
        }

        mod on_epoll {
            $(#[test]
            fn $name() {
                super::$name(super::over_epoll);
            })*
        }
    };
}

mod corners;

over_both! {
    bytes_come_and_go_and_the_end_is_told,
    a_dropped_receive_is_cancelled_and_its_descriptor_closes,
    more_receivers_than_buffers_all_get_their_bytes,
    another_thread_wakes_the_loop,
    a_refused_connect_is_an_error_and_a_taken_one_is_not,
    timers_fire_in_order_and_dropped_ones_do_not,
    a_runtime_that_ends_leaves_no_operation_in_flight,
}

/// Runs `task` to its end, at most ten seconds.
fn run<T: 'static>(runtime: &Runtime, task: impl Future<Output = T> + 'static) -> T {
    let result = Rc::new(Cell::new(None));
    let slot = result.clone();
    runtime.reactor().spawn(async move { slot.set(Some(task.await)) });
    let late = Instant::now() + Duration::from_secs(10);
    let reactor = runtime.reactor().clone();
    // A timer of its own, so that a hang fails instead of sleeping for ever.
    reactor.spawn({
        let reactor = reactor.clone();
        async move { reactor.sleep_until(late).await }
    });
    let mut value = None;
    runtime
        .run_until(|| {
            value = result.take();
            assert!(Instant::now() < late, "the task did not end");
            value.is_some()
        })
        .unwrap();
    value.unwrap()
}

fn pair(runtime: &Runtime) -> (Socket, TcpStream) {
    let listener =
        listen("127.0.0.1:0".parse().unwrap(), ListenOptions { keepalive: Duration::ZERO, backlog: 16 }).unwrap();
    let address = listener.local_addr().unwrap();
    let mut acceptor = Acceptor::new(runtime.reactor(), listener);
    let client = TcpStream::connect(address).unwrap();
    (run(runtime, async move { acceptor.accept().await.unwrap() }), client)
}

fn bytes_come_and_go_and_the_end_is_told(engine: Engine) {
    let runtime = engine();
    let (socket, mut client) = pair(&runtime);
    client.write_all(b"hello").unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    let server = socket.clone();
    run(&runtime, async move {
        let lease = server.receive(Size::Small).await.unwrap().unwrap();
        assert_eq!(&*lease, b"hello");
        assert!(server.receive(Size::Small).await.unwrap().is_none());
        let (sent, _) = server.send(b"answer".to_vec()).await;
        sent.unwrap();
        server.shutdown_send().unwrap();
    });
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "answer");
}

fn a_dropped_receive_is_cancelled_and_its_descriptor_closes(engine: Engine) {
    let runtime = engine();
    let (socket, mut client) = pair(&runtime);
    let reactor = runtime.reactor().clone();
    run(&runtime, async move {
        let soon = reactor.now() + Duration::from_millis(5);
        assert!(reactor.until(soon, socket.receive(Size::Small)).await.is_none());
        drop(socket);
        // The close comes with the cancelled operation's completion.
        reactor.sleep_until(reactor.now() + Duration::from_millis(5)).await;
    });
    client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    assert_eq!(client.read(&mut [0; 1]).unwrap(), 0, "the socket was closed");
}

fn more_receivers_than_buffers_all_get_their_bytes(engine: Engine) {
    let runtime = engine();
    let pairs: Vec<_> = (0..32).map(|_| pair(&runtime)).collect();
    let (sockets, mut clients): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
    for (i, client) in clients.iter_mut().enumerate() {
        client.write_all(&[i as u8; 100]).unwrap();
    }
    let left = Rc::new(Cell::new(sockets.len()));
    for (i, socket) in sockets.into_iter().enumerate() {
        let left = left.clone();
        let reactor = runtime.reactor().clone();
        runtime.reactor().spawn(async move {
            let lease = socket.receive(Size::Small).await.unwrap().unwrap();
            // Held over a turn, so that the group runs dry.
            reactor.sleep_until(reactor.now() + Duration::from_millis(1)).await;
            assert_eq!(&*lease, &[i as u8; 100]);
            left.set(left.get() - 1);
        });
    }
    let watched = left.clone();
    let reactor = runtime.reactor().clone();
    run(&runtime, async move {
        while watched.get() > 0 {
            reactor.sleep_until(reactor.now() + Duration::from_millis(1)).await;
        }
    });
}

fn another_thread_wakes_the_loop(engine: Engine) {
    let runtime = engine();
    let remote = Remote::new().unwrap();
    let woken = remote.listen(runtime.reactor()).unwrap();
    let waker = remote.clone();
    let thread = std::thread::spawn(move || waker.wake());
    run(&runtime, async move { woken.next().await.unwrap() });
    thread.join().unwrap();
}

fn a_refused_connect_is_an_error_and_a_taken_one_is_not(engine: Engine) {
    let runtime = engine();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let good = Address::Ip(listener.local_addr().unwrap());
    let bad = {
        let gone = TcpListener::bind("127.0.0.1:0").unwrap();
        Address::Ip(gone.local_addr().unwrap())
    };
    let reactor = runtime.reactor().clone();
    run(&runtime, async move {
        Socket::connect(&reactor, &good).await.unwrap();
        let error = Socket::connect(&reactor, &bad).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
        let none = Address::Unix("/nonexistent/socket".into());
        assert_eq!(Socket::connect(&reactor, &none).await.unwrap_err().kind(), std::io::ErrorKind::NotFound);
    });
}

fn timers_fire_in_order_and_dropped_ones_do_not(engine: Engine) {
    let runtime = engine();
    let reactor = runtime.reactor().clone();
    run(&runtime, async move {
        let start = reactor.now();
        let never = reactor.sleep_until(start + Duration::from_millis(1));
        drop(never);
        reactor.sleep_until(start + Duration::from_millis(3)).await;
        assert!(reactor.now() >= start + Duration::from_millis(3));
    });
    assert_eq!(runtime.reactor().timers().take_due(Instant::now()).len(), 0);
}

fn a_runtime_that_ends_leaves_no_operation_in_flight(engine: Engine) {
    let runtime = engine();
    let (socket, client) = pair(&runtime);
    let reactor = runtime.reactor().clone();
    runtime.reactor().spawn(async move {
        let _ = socket.receive(Size::Large).await;
    });
    runtime.reactor().spawn(async {});
    run(&runtime, async {});
    assert!(reactor.in_flight() > 0);
    drop(runtime);
    assert_eq!(reactor.in_flight(), 0);
    drop(client);
}

#[test]
fn operations_outside_the_list_are_refused_by_the_kernel_itself() {
    use io_uring::{IoUring, opcode, register::Restriction};
    let mut ring: IoUring = IoUring::builder().setup_r_disabled().build(8).unwrap();
    let mut only = [Restriction::sqe_op(opcode::Recv::CODE)];
    ring.submitter().register_restrictions(&mut only).unwrap();
    ring.submitter().register_enable_rings().unwrap();
    // SAFETY: a no-op points to nothing.
    unsafe { ring.submission().push(&opcode::Nop::new().build()) }.unwrap();
    ring.submit_and_wait(1).unwrap();
    assert_eq!(ring.completion().next().unwrap().result(), -libc::EACCES);
}
