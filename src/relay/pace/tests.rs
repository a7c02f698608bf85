use super::*;
use crate::sys::scripted::{Faults, Net};
use crate::sys::{Acceptor, BufferSizes, Runtime, Size};
use std::time::{Duration, UNIX_EPOCH};

const PER_TURN: StepsPerTurn = StepsPerTurn { resumed: 2, full: 1 };

/// What ran, and in which turn.
type Log = Rc<RefCell<Vec<(Instant, &'static str)>>>;

fn world() -> (Net, Runtime, Rc<Pacer>, Log) {
    let faults = Faults { short: 1000, ..Faults::none() };
    let net = Net::new(1, faults, BufferSizes { small: (8, 64), large: (1, 64) }, UNIX_EPOCH);
    let runtime = Runtime::new(net.kernel(), 1000);
    let pacer = Pacer::new(runtime.reactor().clone(), PER_TURN);
    (net, runtime, pacer, Log::default())
}

fn step(runtime: &Runtime, pacer: &Rc<Pacer>, log: &Log, cost: Cost, name: &'static str) {
    let (reactor, pacer, log) = (runtime.reactor().clone(), pacer.clone(), log.clone());
    runtime.reactor().spawn(async move {
        pacer.begin(cost).await;
        log.borrow_mut().push((reactor.now(), name));
    });
}

/// Lets the loop turn so often, then as long as tasks are ready.
fn turn(runtime: &Runtime, turns: usize) {
    let mut left = turns;
    let ticking = runtime.reactor().clone();
    runtime.reactor().spawn(async move {
        for _ in 0..turns + 1 {
            ticking.next_turn().await;
        }
    });
    runtime
        .run_until(|| {
            left = left.wrapping_sub(1);
            left == usize::MAX
        })
        .unwrap();
}

fn names(log: &Log) -> Vec<&'static str> {
    log.borrow().iter().map(|(_, name)| *name).collect()
}

#[test]
fn a_lone_handshake_does_not_wait() {
    let (_net, runtime, pacer, log) = world();
    step(&runtime, &pacer, &log, Cost::Full, "full");
    step(&runtime, &pacer, &log, Cost::Resumed, "resumed");
    turn(&runtime, 0);
    assert_eq!(names(&log), ["full", "resumed"]);
}

#[test]
fn in_a_storm_each_turn_runs_its_share_and_resumptions_go_first() {
    let (_net, runtime, pacer, log) = world();
    for _ in 0..6 {
        step(&runtime, &pacer, &log, Cost::Full, "full");
    }
    for _ in 0..5 {
        step(&runtime, &pacer, &log, Cost::Resumed, "resumed");
    }
    turn(&runtime, 10);
    let order = ["full", "resumed", "resumed", "resumed", "resumed", "full", "resumed", "full", "full", "full", "full"];
    assert_eq!(names(&log), order);
    let log = log.borrow();
    for (moment, _) in log.iter() {
        let of = |name| log.iter().filter(|entry| *entry == &(*moment, name)).count();
        assert!(of("full") <= PER_TURN.full && of("resumed") <= PER_TURN.resumed);
    }
}

#[test]
fn whoever_gave_up_costs_nobody_a_step() {
    let (_net, runtime, pacer, log) = world();
    step(&runtime, &pacer, &log, Cost::Full, "first");
    let given_up = pacer.clone();
    let reactor = runtime.reactor().clone();
    runtime.reactor().spawn(async move {
        futures_lite::future::or(given_up.begin(Cost::Full), reactor.next_turn()).await;
    });
    turn(&runtime, 0);
    step(&runtime, &pacer, &log, Cost::Full, "second");
    turn(&runtime, 3);
    assert_eq!(names(&log), ["first", "second"]);
    assert!(!pacer.queue.borrow().releasing);
}

#[test]
fn bytes_of_open_connections_come_before_handshakes_in_every_turn() {
    let (net, runtime, pacer, log) = world();
    let mut acceptor = Acceptor::new(runtime.reactor(), net.listen(([127, 0, 0, 1], 443).into()).unwrap());
    let (reactor, open) = (runtime.reactor().clone(), log.clone());
    runtime.reactor().spawn(async move {
        let socket = acceptor.accept().await.unwrap();
        while let Ok(Some(_)) = socket.receive(Size::Small).await {
            open.borrow_mut().push((reactor.now(), "bytes"));
        }
    });
    let client = net.clone();
    net.spawn(async move {
        let end = client.connect(([127, 0, 0, 1], 9).into(), ([127, 0, 0, 1], 443).into(), (4096, 4096)).await.unwrap();
        end.try_write(&[7; 4000]).unwrap();
        client.sleep(Duration::from_secs(1)).await;
        end.close();
    });
    for _ in 0..50 {
        step(&runtime, &pacer, &log, Cost::Full, "full");
        step(&runtime, &pacer, &log, Cost::Resumed, "resumed");
    }
    // The storm begins when the bytes are there.
    let later = runtime.reactor().now() + Duration::from_millis(1);
    let storm = (runtime.reactor().clone(), pacer.clone(), log.clone());
    runtime.reactor().spawn(async move {
        let (reactor, pacer, log) = storm;
        reactor.sleep_until(later).await;
        for _ in 0..50 {
            let (own, pacer, log) = (reactor.clone(), pacer.clone(), log.clone());
            reactor.spawn(async move {
                pacer.begin(Cost::Full).await;
                log.borrow_mut().push((own.now(), "full"));
            });
        }
    });
    turn(&runtime, 400);
    let log = log.borrow();
    let mixed = log.windows(2).filter(|pair| pair[0].0 == pair[1].0 && pair[0].1 == "bytes" && pair[1].1 == "full");
    assert!(mixed.count() > 0, "bytes and handshakes met in no turn: {log:?}");
    let wrong = log.windows(2).find(|pair| pair[0].0 == pair[1].0 && pair[0].1 != "bytes" && pair[1].1 == "bytes");
    assert_eq!(wrong, None);
}
