//! Taking connections off one listening socket, as long as there is room.

use super::gauges::Gauges;
use super::host::{Tenancy, WorkerHost};
use crate::relay::{EndSignal, Entry, Host, serve};
use crate::sys::{Acceptor, Socket};
use crate::wire::audit::CloseReason;
use std::cell::{Cell, RefCell};
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

/// Between two looks whether a full listener has room again.
const FULL_PAUSE: Duration = Duration::from_millis(10);
/// After the kernel had no descriptor or memory: the first pause, doubled up to the last.
const SHORTAGE_PAUSE: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(500));

/// For whom the accept loops of a worker accept, and until when.
pub(super) struct Gate {
    pub stopped: Cell<bool>,
    /// Replaced by a reload; a connection keeps what it began with.
    pub entries: RefCell<Vec<Arc<Entry>>>,
    pub gauges: Vec<Arc<Gauges>>,
    stops: RefCell<Vec<Rc<EndSignal>>>,
}

impl Gate {
    pub fn new(entries: Vec<Arc<Entry>>, gauges: Vec<Arc<Gauges>>) -> Gate {
        Gate { stopped: Cell::new(false), entries: RefCell::new(entries), gauges, stops: RefCell::default() }
    }

    /// Ends all accept loops.
    pub fn stop(&self) {
        self.stopped.set(true);
        self.stops.borrow().iter().for_each(|stop| stop.end(CloseReason::Drained));
    }
}

/// Accepts for one listener until the gate stops it.
pub(super) async fn accept_loop(host: Rc<WorkerHost>, gate: Rc<Gate>, listener: usize, mut acceptor: Acceptor) {
    let stop = Rc::new(EndSignal::default());
    gate.stops.borrow_mut().push(stop.clone());
    let mut pause = SHORTAGE_PAUSE.0;
    while !gate.stopped.get() {
        if gate.gauges[listener].full() {
            wait_for_room(&host, &gate, listener, &mut acceptor).await;
            continue;
        }
        let next = async { Some(acceptor.accept().await) };
        let stopped = async {
            stop.asked().await;
            None
        };
        match futures_lite::future::or(next, stopped).await {
            None => break,
            Some(Ok(socket)) => {
                pause = SHORTAGE_PAUSE.0;
                start(&host, &gate, listener, socket);
            }
            Some(Err(error)) if is_shortage(&error) => {
                host.counters.accept_paused.increment();
                if pause == SHORTAGE_PAUSE.0 {
                    tracing::warn!(%error, "accepting pauses: the system has no room for another connection; raise \
                        the descriptor limit (LimitNOFILE=) or lower listener.limits.connections");
                }
                sleep(&host, pause).await;
                pause = (pause * 2).min(SHORTAGE_PAUSE.1);
            }
            // The client was gone before it was taken.
            Some(Err(_)) => {}
        }
    }
    while let Some(socket) = acceptor.stop().await {
        start(&host, &gate, listener, socket);
    }
}

/// Stops taking connections until the listener has room; those that came meanwhile wait in the kernel's queue.
async fn wait_for_room(host: &Rc<WorkerHost>, gate: &Rc<Gate>, listener: usize, acceptor: &mut Acceptor) {
    while let Some(socket) = acceptor.stop().await {
        start(host, gate, listener, socket);
    }
    host.counters.accept_paused.increment();
    while gate.gauges[listener].full() && !gate.stopped.get() {
        sleep(host, FULL_PAUSE).await;
    }
    acceptor.resume();
}

async fn sleep(host: &WorkerHost, pause: Duration) {
    host.reactor().sleep_until(host.reactor().now() + pause).await;
}

fn is_shortage(error: &std::io::Error) -> bool {
    use std::io::ErrorKind;
    // ENFILE, EMFILE, ENOBUFS have no stable kind; by number on Linux.
    matches!(error.raw_os_error(), Some(23 | 24 | 105)) || error.kind() == ErrorKind::OutOfMemory
}

fn start(host: &Rc<WorkerHost>, gate: &Rc<Gate>, listener: usize, socket: Socket) {
    if host.audit_refuses() {
        socket.reset_on_close();
        return;
    }
    let entry = gate.entries.borrow()[listener].clone();
    let (place, handshake) = gate.gauges[listener].enter();
    let (live, tenancy) = host.admit(&entry, place, handshake);
    let conn_id = live.conn_id;
    let connection = serve(host.clone(), entry, socket, live);
    let host = host.clone();
    host.clone().reactor().spawn(async move {
        let tenancy: Tenancy = tenancy;
        if (CatchPanic { future: Box::pin(connection) }).await.is_err() {
            host.counters.task_panics.increment();
            tracing::error!(%conn_id, "a fault of ours ended this connection alone; please report it");
        }
        drop(tenancy);
    });
}

/// A future whose panic ends it and nothing else. What it leaves behind are the worker's shared cells, which every
/// borrow leaves whole: guards of `RefCell` unwind.
struct CatchPanic<F> {
    future: Pin<Box<F>>,
}

impl<F: Future> Future for CatchPanic<F> {
    type Output = Result<F::Output, ()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let future = self.future.as_mut();
        match std::panic::catch_unwind(AssertUnwindSafe(|| future.poll(cx))) {
            Ok(poll) => poll.map(Ok),
            Err(_) => Poll::Ready(Err(())),
        }
    }
}
