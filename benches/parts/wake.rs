//! What the loop costs by itself: a turn that is woken, over either engine; and what a ticket costs by itself.

use std::cell::Cell;
use std::hint::black_box;
use std::rc::Rc;
use std::time::{Duration, Instant};

use countersign::config::limits;
use countersign::sys::{BufferSizes, Epoll, EpollOptions, Kernel, Remote, RingOptions, Runtime, Uring};
use countersign::tls::TicketKeys;
use criterion::Criterion;
use rustls_pki_types::UnixTime;

const BUFFERS: BufferSizes = BufferSizes { small: limits::SMALL_BUFFERS, large: limits::LARGE_BUFFERS };

/// A task wakes its own loop by the eventfd that other threads use, waits to hear of it, and so on.
pub fn wake_up(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("wake_up");
    let ring = RingOptions { entries: limits::RING_ENTRIES, completions: limits::RING_COMPLETIONS, buffers: BUFFERS };
    let epoll = EpollOptions {
        events: limits::EPOLL_EVENTS_PER_TURN,
        accepts: limits::EPOLL_ACCEPTS_PER_TURN,
        buffers: BUFFERS,
    };
    let engines: [(&str, Option<Box<dyn Kernel>>); 2] = [
        ("io_uring", Uring::new(ring).ok().map(|kernel| Box::new(kernel) as Box<dyn Kernel>)),
        ("epoll", Epoll::new(epoll).ok().map(|kernel| Box::new(kernel) as Box<dyn Kernel>)),
    ];
    for (name, kernel) in engines {
        let Some(kernel) = kernel else {
            eprintln!("skipped: this machine gives no {name}");
            continue;
        };
        let runtime = Runtime::new(kernel, 64);
        group.bench_function(name, |b| b.iter_custom(|rounds| wakes(&runtime, rounds)));
    }
    group.finish();
}

fn wakes(runtime: &Runtime, rounds: u64) -> Duration {
    let remote = Remote::new().expect("an eventfd");
    let woken = remote.listen(runtime.reactor()).expect("a descriptor");
    let done = Rc::new(Cell::new(false));
    let is_done = done.clone();
    runtime.reactor().spawn(async move {
        for _ in 0..rounds {
            remote.wake();
            woken.next().await.expect("a wake");
        }
        done.set(true);
    });
    let start = Instant::now();
    runtime.run_until(|| is_done.get()).expect("a kernel that waits");
    start.elapsed()
}

/// Sealing and opening what rustls puts into a ticket with a chain of two certificates.
pub fn tickets(criterion: &mut Criterion) {
    let now = UnixTime::now();
    let keys = TicketKeys::random(now, Duration::from_secs(3600), 2).expect("a random source");
    let (head, body) = ([1; 96], [7; 1200]);
    let ticket = keys.seal(&head, &body, now).expect("a random source");
    let mut group = criterion.benchmark_group("ticket");
    group.bench_function("seal", |b| b.iter(|| keys.seal(black_box(&head), black_box(&body), now)));
    group.bench_function("open", |b| b.iter(|| keys.open(black_box(&ticket), now)));
    group.finish();
}
