//! The scripted kernel tells right from wrong: an echo over it works under every harmless fault, and each broken promise
//! is seen.

use super::super::kernel::{Kernel, Operation, Token, Wait};
use super::super::{Acceptor, Address, BufferSizes, Reactor, Runtime, Size, Socket};
use super::*;
use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, UNIX_EPOCH};

/// Seeds of the long loops. Miri is a thousand times slower, and looks for something else.
const SEEDS: u64 = if cfg!(miri) { 2 } else { 300 };
/// Bytes that each client sends.
const MESSAGE: usize = if cfg!(miri) { 600 } else { 2000 };

const BUFFERS: BufferSizes = BufferSizes { small: (4, 256), large: (2, 1024) };

fn net(seed: u64, faults: Faults) -> Net {
    Net::new(seed, faults, BUFFERS, UNIX_EPOCH + Duration::from_secs(1_700_000_000))
}

fn address(port: u16) -> std::net::SocketAddr {
    ([127, 0, 0, 1], port).into()
}

async fn echo(socket: Socket) {
    while let Ok(Some(lease)) = socket.receive(Size::Small).await {
        let bytes = lease.to_vec();
        drop(lease);
        if socket.send(bytes).await.0.is_err() {
            return;
        }
    }
    let _ = socket.shutdown_send();
}

async fn accept_and_echo(reactor: Rc<Reactor>, mut acceptor: Acceptor, connections: usize) {
    let mut left = connections;
    while left > 0 {
        if let Ok(socket) = acceptor.accept().await {
            reactor.spawn(echo(socket));
            left -= 1;
        } else {
            reactor.sleep_until(reactor.now() + Duration::from_millis(5)).await;
        }
    }
}

/// Sends `message`, ends in order, and notes what came back.
async fn client(net: Net, message: Vec<u8>, came: Rc<RefCell<Vec<Vec<u8>>>>) {
    let end = net.connect(address(9), address(443), (300, 300)).await.unwrap();
    let (mut sent, mut back) = (0, Vec::new());
    loop {
        if sent < message.len() {
            sent += end.try_write(&message[sent..]).unwrap();
            if sent == message.len() {
                end.finish();
            }
        }
        match end.try_read(100) {
            Some(Came::Bytes(bytes)) => back.extend(bytes),
            Some(Came::End) => break,
            Some(Came::Reset) => panic!("a reset for an orderly client"),
            None => net.sleep(Duration::from_millis(1)).await,
        }
    }
    end.close();
    came.borrow_mut().push(back);
}

/// Runs until all tasks of the world are over and the reactor is at rest; returns what the world complains of.
fn echo_run(seed: u64, faults: Faults) -> (Vec<Vec<u8>>, Vec<String>) {
    const CLIENTS: usize = 3;
    let net = net(seed, faults);
    let runtime = Runtime::new(net.kernel(), 16);
    let acceptor = Acceptor::new(runtime.reactor(), net.listen(address(443)).unwrap());
    runtime.reactor().spawn(accept_and_echo(runtime.reactor().clone(), acceptor, CLIENTS));
    let came = Rc::new(RefCell::new(Vec::new()));
    for number in 0..CLIENTS {
        let message = (0..MESSAGE).map(|i| (i * 7 + number) as u8).collect();
        net.spawn(client(net.clone(), message, came.clone()));
    }
    let result = runtime.run_until(|| net.tasks() == 0 || net.now() > Duration::from_secs(600));
    drop(runtime);
    let mut violations = net.violations();
    violations.extend(net.leaks());
    violations.extend(result.err().map(|error| error.to_string()));
    net.end_tasks();
    (came.take(), violations)
}

#[test]
fn an_echo_is_whole_under_every_harmless_fault() {
    for seed in 0..SEEDS {
        let (came, violations) = echo_run(seed, Faults::harmless(&mut Dice::new(seed)));
        assert_eq!(violations, Vec::<String>::new(), "seed {seed}");
        let firsts: Vec<u8> = came.iter().map(|bytes| bytes[0]).collect();
        assert_eq!(came.len(), 3, "seed {seed}: {firsts:?}");
        for bytes in came {
            let number = usize::from(bytes[0]);
            let whole: Vec<u8> = (0..MESSAGE).map(|i| (i * 7 + number) as u8).collect();
            assert!(bytes == whole, "seed {seed}: bytes changed");
        }
    }
}

#[test]
fn a_seed_repeats_itself() {
    let run = |seed| {
        let net = net(seed, Faults::harmless(&mut Dice::new(seed)));
        let runtime = Runtime::new(net.kernel(), 16);
        let acceptor = Acceptor::new(runtime.reactor(), net.listen(address(443)).unwrap());
        runtime.reactor().spawn(accept_and_echo(runtime.reactor().clone(), acceptor, 1));
        net.spawn(client(net.clone(), vec![1; MESSAGE], Rc::default()));
        runtime.run_until(|| net.tasks() == 0).unwrap();
        (net.now(), net.turns())
    };
    assert_eq!(run(7), run(7));
    assert_ne!(run(7), run(8));
}

/// A kernel with one connected socket, without a reactor.
fn connected(net: &Net) -> (Box<dyn Kernel>, i32) {
    let mut kernel = net.kernel();
    let server = net.serve(Address::Ip(address(80)), Mode::Answers, (64, 64));
    let socket = kernel.socket(super::super::Family::V4).unwrap();
    let target = socket2::SockAddr::from(address(80));
    let operation = Operation::Connect { socket, address: target.as_ptr().cast(), len: target.len() };
    // SAFETY: the address lives until the end of this function, past the completion.
    unsafe { kernel.start(Token(1), operation) };
    let mut completions = Vec::new();
    kernel.turn(Wait::Forever, &mut completions).unwrap();
    assert_eq!((completions.len(), completions[0].result), (1, 0));
    assert_eq!(net.attempts(server).len(), 1);
    (kernel, socket)
}

#[track_caller]
fn complains(net: &Net, of: &str) {
    let violations = net.violations();
    assert!(violations.iter().any(|violation| violation.contains(of)), "{violations:?}");
}

#[test]
fn a_close_under_an_operation_is_seen() {
    let net = net(1, Faults::none());
    let (mut kernel, socket) = connected(&net);
    // SAFETY: no pointers.
    unsafe { kernel.start(Token(2), Operation::Receive { socket, group: 0 }) };
    assert_eq!(net.violations(), Vec::<String>::new());
    kernel.close(socket);
    complains(&net, "close of descriptor");
}

#[test]
fn an_operation_on_a_closed_descriptor_and_a_second_close_are_seen() {
    let net = net(1, Faults::none());
    let (mut kernel, socket) = connected(&net);
    kernel.close(socket);
    // SAFETY: no pointers.
    unsafe { kernel.start(Token(2), Operation::Receive { socket, group: 0 }) };
    complains(&net, "on a descriptor that is None");
    kernel.close(socket);
    complains(&net, "which is not open");
}

#[test]
fn two_receives_that_race_are_seen_and_one_after_a_cancelled_one_is_no_race() {
    let net = net(1, Faults::none());
    let (mut kernel, socket) = connected(&net);
    // SAFETY: no pointers.
    unsafe { kernel.start(Token(2), Operation::Receive { socket, group: 0 }) };
    kernel.cancel(Token(2));
    // SAFETY: no pointers.
    unsafe { kernel.start(Token(3), Operation::Receive { socket, group: 0 }) };
    assert_eq!(net.violations(), Vec::<String>::new());
    // SAFETY: no pointers.
    unsafe { kernel.start(Token(4), Operation::Receive { socket, group: 0 }) };
    complains(&net, "their order is chance");
}

#[test]
fn memory_that_changes_under_a_send_is_seen() {
    let net = net(1, Faults::none());
    let (mut kernel, socket) = connected(&net);
    let mut bytes = vec![5u8; 100];
    let data = bytes.as_mut_ptr();
    // SAFETY: the vector outlives the operation. That it is changed meanwhile is the point.
    unsafe { kernel.start(Token(2), Operation::Send { socket, data, len: 100 }) };
    let mut completions = Vec::new();
    kernel.turn(Wait::Not, &mut completions).unwrap();
    assert!(completions.is_empty(), "the window holds 64");
    // SAFETY: within the vector.
    unsafe { data.write(6) };
    kernel.cancel(Token(2));
    kernel.turn(Wait::Not, &mut completions).unwrap();
    assert_eq!(completions[0].result, 64);
    complains(&net, "changed under way");
    drop(bytes);
}

#[test]
fn a_buffer_that_comes_back_twice_or_is_written_to_afterwards_is_seen() {
    let net = net(1, Faults::none());
    let (mut kernel, socket) = connected(&net);
    let server = net.clone();
    net.spawn(async move {
        let end = server.accept(super::net::ServerId::first()).await;
        for _ in 0..20 {
            end.write(b"bytes").await.unwrap();
            server.sleep(Duration::from_millis(1)).await;
        }
    });
    let receive = |kernel: &mut Box<dyn Kernel>, token| {
        let mut completions = Vec::new();
        // SAFETY: no pointers.
        unsafe { kernel.start(Token(token), Operation::Receive { socket, group: 0 }) };
        while completions.is_empty() {
            kernel.turn(Wait::Forever, &mut completions).unwrap();
        }
        completions[0].buffer.unwrap()
    };
    let buffer = receive(&mut kernel, 2);
    let (memory, len) = kernel.buffer(0, buffer);
    assert_eq!(len, 256);
    kernel.recycle(0, buffer);
    assert_eq!(net.violations(), Vec::<String>::new());
    kernel.recycle(0, buffer);
    complains(&net, "came back twice");
    // SAFETY: the memory lives as long as the kernel. That it is not ours any more is the point.
    unsafe { memory.write(1) };
    for token in 3..7 {
        receive(&mut kernel, token);
    }
    complains(&net, "was written to");
    assert_eq!(net.leaks().iter().filter(|leak| leak.contains("never came back")).count(), 4);
    net.end_tasks();
}

#[test]
fn a_loop_that_waits_for_nothing_is_seen() {
    let net = net(1, Faults::none());
    let (mut kernel, socket) = connected(&net);
    net.spawn(std::future::pending());
    // SAFETY: no pointers.
    unsafe { kernel.start(Token(2), Operation::Receive { socket, group: 0 }) };
    assert!(kernel.turn(Wait::Forever, &mut Vec::new()).is_err());
    complains(&net, "nothing will ever happen again");
    net.end_tasks();
}

#[test]
fn what_is_left_at_the_end_is_told() {
    let net = net(1, Faults::none());
    let (mut kernel, socket) = connected(&net);
    assert_eq!(net.leaks().len(), 1);
    // SAFETY: no pointers.
    unsafe { kernel.start(Token(2), Operation::Receive { socket, group: 0 }) };
    assert_eq!(net.leaks().len(), 2);
    kernel.cancel(Token(2));
    kernel.turn(Wait::Not, &mut Vec::new()).unwrap();
    kernel.close(socket);
    assert_eq!(net.leaks(), Vec::<String>::new());
}
