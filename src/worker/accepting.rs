//! Taking connections off listening sockets, as long as there is room.

use super::counters::Counters;
use super::gauges::{Gauges, Pause, Places, Room};
use super::host::{Tenancy, WorkerHost};
use super::plan::Plan;
use crate::config::{ListenAddress, limits};
use crate::relay::{EndSignal, Entry, Host, Live, serve};
use crate::sys::{self, Acceptor, Socket};
use crate::wire::audit::{CloseReason, Event};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::net::{SocketAddr, TcpListener};
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// Between two looks whether a full listener has room again.
const FULL_PAUSE: Duration = Duration::from_millis(10);
/// After the kernel had no descriptor or memory: the first pause, doubled up to the last.
const SHORTAGE_PAUSE: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(500));

/// Which address of which listener a socket is for, as the configuration names them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ListenKey {
    pub listener: Arc<str>,
    pub address: ListenAddress,
}

/// A listening socket for another process, or from one.
#[derive(Debug)]
pub struct Lent {
    pub listener: Arc<str>,
    /// As the configuration names it.
    pub address: SocketAddr,
    /// Which worker has it.
    pub worker: usize,
    pub socket: TcpListener,
}

/// A bound socket for one worker.
pub(super) type Listening = (ListenKey, TcpListener);

/// What becomes of a listening socket that its worker gives up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Parting {
    /// It closes, once everybody is taken who waits in its queue or is about to: a close would reset them.
    Emptied,
    /// It lives on in another process, which takes from its queue, or will.
    LivesOn,
}

/// For whom a worker accepts, and on what.
pub(super) struct Gate {
    /// Replaced by a reload; a connection keeps what it began with.
    plan: RefCell<Rc<Plan>>,
    doors: RefCell<Vec<Rc<Door>>>,
}

/// One listening socket's loop.
struct Door {
    key: ListenKey,
    /// Index of the listener in the present plan.
    listener: Cell<usize>,
    /// The socket once more, for its options, for as long as it is accepted on.
    socket: RefCell<Option<TcpListener>>,
    keepalive: Cell<Duration>,
    stop: EndSignal,
    parting: Cell<Parting>,
    /// When the log last said that the listener is full.
    said_full: Cell<Option<Instant>>,
}

impl Gate {
    /// A gate that accepts for `plan` on `sockets`.
    pub fn open(plan: Rc<Plan>, sockets: Vec<Listening>) -> Rc<Gate> {
        let gate = Rc::new(Gate { plan: RefCell::new(plan), doors: RefCell::default() });
        gate.add(sockets);
        gate
    }

    /// The newest plan.
    pub fn plan(&self) -> Rc<Plan> {
        self.plan.borrow().clone()
    }

    /// Accepts for `plan` from now on: sockets that it no longer names stop, `sockets` join.
    pub fn replace(self: &Rc<Self>, plan: Rc<Plan>, sockets: Vec<Listening>) {
        let place = |key: &ListenKey| {
            let listeners = &plan.snapshot.config().listeners;
            listeners.iter().position(|known| known.name == key.listener && known.addresses.contains(&key.address))
        };
        self.doors.borrow_mut().retain(|door| match place(&door.key) {
            Some(listener) => {
                door.listener.set(listener);
                door.keep_alive(plan.snapshot.config().listeners[listener].tcp_keepalive);
                true
            }
            None => {
                // What it was given up for: its address is gone from the configuration.
                door.stop.end(CloseReason::Drained);
                false
            }
        });
        *self.plan.borrow_mut() = plan.clone();
        self.add(sockets);
    }

    /// Duplicates of all sockets that are accepted on and were bound by us.
    pub fn lend(&self) -> Vec<Lent> {
        let worker = self.plan().worker.index;
        let lend = |door: &Rc<Door>| {
            // Those of the service manager go on as they came, once each.
            let address = door.key.address.ip()?;
            let socket = door.socket.borrow().as_ref()?.try_clone().ok()?;
            Some(Lent { listener: door.key.listener.clone(), address, worker, socket })
        };
        self.doors.borrow().iter().filter_map(lend).collect()
    }

    /// Ends all accept loops.
    pub fn stop(&self, parting: Parting) {
        for door in self.doors.borrow_mut().drain(..) {
            if door.key.address.ip().is_some() {
                door.parting.set(parting);
            }
            door.stop.end(CloseReason::Drained);
        }
    }

    fn add(self: &Rc<Self>, sockets: Vec<Listening>) {
        let plan = self.plan();
        for (key, socket) in sockets {
            let listeners = &plan.snapshot.config().listeners;
            let Some(listener) = listeners.iter().position(|known| known.name == key.listener) else { continue };
            let parting = match key.address {
                ListenAddress::Ip(_) => Parting::Emptied,
                // The service manager keeps it: whoever waits there is for the next process.
                ListenAddress::Systemd(_) => Parting::LivesOn,
            };
            let door = Rc::new(Door {
                key,
                // Without it the socket keeps the options that it was bound with.
                socket: RefCell::new(socket.try_clone().ok()),
                keepalive: Cell::new(listeners[listener].tcp_keepalive),
                listener: Cell::new(listener),
                stop: EndSignal::default(),
                parting: Cell::new(parting),
                said_full: Cell::default(),
            });
            self.doors.borrow_mut().push(door.clone());
            let acceptor = Acceptor::new(plan.reactor(), socket);
            let open = OpenDoor::of(&plan);
            let gate = self.clone();
            plan.reactor().spawn(async move {
                accept_loop(gate, door, acceptor).await;
                drop(open);
            });
        }
    }

    fn gauges(&self, door: &Door) -> Arc<Gauges> {
        self.plan.borrow().gauges[door.listener.get()].clone()
    }
}

impl Door {
    /// Tells the operator, now and then, which limit newcomers wait for.
    fn say_full(&self, gate: &Gate, why: Pause) {
        let now = gate.plan().reactor().now();
        if self.said_full.get().is_some_and(|said| now.saturating_duration_since(said) < limits::LOG_FAULT_EVERY) {
            return;
        }
        self.said_full.set(Some(now));
        tracing::warn!(
            listener = %self.key.listener, limit = why.code(),
            "accepting pauses: the listener is full, and newcomers wait in the kernel's queue; see who holds it with \
             countersign ctl identities, or raise this limit under listener.limits"
        );
    }

    /// Connections accepted from now on are probed this often.
    fn keep_alive(&self, keepalive: Duration) {
        if self.keepalive.replace(keepalive) == keepalive {
            return;
        }
        if let Some(Err(error)) = self.socket.borrow().as_ref().map(|socket| sys::set_keepalive(socket, keepalive)) {
            tracing::warn!(%error, listener = %self.key.listener, "tcp_keepalive stays as it was");
        }
    }
}

/// Accepts on one socket until its door is shut.
async fn accept_loop(gate: Rc<Gate>, door: Rc<Door>, mut acceptor: Acceptor) {
    let mut pause = SHORTAGE_PAUSE.0;
    while door.stop.reason().is_none() {
        let room = gate.gauges(&door).room();
        if room != Room::Ample && acceptor.is_taking() {
            stop_taking(&gate, &door, &mut acceptor).await;
            continue;
        }
        if let Room::None(why) = room {
            wait_for_room(&gate, &door, why).await;
            continue;
        }
        let next = async {
            Some(match room {
                Room::Ample => take(&gate, &door, &mut acceptor).await,
                _ => take_few(&gate, &door, &acceptor).await,
            })
        };
        let stopped = async {
            door.stop.asked().await;
            None
        };
        match futures_lite::future::or(next, stopped).await {
            None => break,
            Some(Ok(())) => pause = SHORTAGE_PAUSE.0,
            Some(Err(error)) if is_shortage(&error) => {
                count_pause(&gate, Pause::Shortage);
                if pause == SHORTAGE_PAUSE.0 {
                    tracing::warn!(%error, "accepting pauses: the system has no room for another connection; raise \
                        the descriptor limit (LimitNOFILE=) or lower listener.limits.connections");
                }
                sleep(&gate, pause).await;
                pause = (pause * 2).min(SHORTAGE_PAUSE.1);
            }
            // The client was gone before it was taken.
            Some(Err(_)) => {}
        }
    }
    while let Some(socket) = acceptor.stop().await {
        start(&gate, &door, socket);
    }
    if door.parting.get() == Parting::Emptied {
        let held = empty(&gate, &door, acceptor).await;
        serve_held(&gate, &door, held).await;
    }
}

/// While there is ample room: the kernel takes connections by itself.
async fn take(gate: &Gate, door: &Door, acceptor: &mut Acceptor) -> std::io::Result<()> {
    acceptor.resume();
    let socket = acceptor.accept().await?;
    start(gate, door, socket);
    Ok(())
}

/// Near a limit: waits until somebody knocks, and takes no more than there are places. The others wait in the kernel's
/// queue, where they cost nothing and another worker or process may have them.
async fn take_few(gate: &Gate, door: &Door, acceptor: &Acceptor) -> std::io::Result<()> {
    acceptor.knocked().await?;
    for _ in 0..limits::EPOLL_ACCEPTS_PER_TURN {
        let Some(places) = gate.gauges(door).enter() else { break };
        let Some(socket) = acceptor.take_waiting()? else { break };
        start_in(gate, door, socket, places);
    }
    Ok(())
}

/// Closes a listening socket, after taking whoever waits in the kernel's queue and those whose handshake with the kernel
/// was under way. They are only held, not served: there may be no room yet, and meanwhile newcomers are to be refused.
async fn empty(gate: &Rc<Gate>, door: &Door, acceptor: Acceptor) -> VecDeque<Socket> {
    let mut held = VecDeque::new();
    if let Err(error) = acceptor.begin_no_more() {
        tracing::debug!(%error, listener = %door.key.listener, "a socket that closes cannot be told to begin no more");
    }
    take_waiting(gate, door, &acceptor, &mut held).await;
    sleep(gate, limits::LAST_ARRIVALS).await;
    take_waiting(gate, door, &acceptor, &mut held).await;
    drop(door.socket.take());
    held
}

async fn take_waiting(gate: &Rc<Gate>, door: &Door, acceptor: &Acceptor, held: &mut VecDeque<Socket>) {
    loop {
        match acceptor.take_waiting() {
            Ok(Some(socket)) => held.push_back(socket),
            Ok(None) => return,
            // Connections that end make room, and those that are held end only when they are served.
            Err(error) if is_shortage(&error) => {
                serve_some(gate, door, held);
                sleep(gate, SHORTAGE_PAUSE.0).await;
            }
            // The client was gone before it was taken.
            Err(_) => {}
        }
    }
}

/// Serves as many of those who are held as there are places for.
fn serve_some(gate: &Gate, door: &Door, held: &mut VecDeque<Socket>) {
    while !held.is_empty()
        && let Some(places) = gate.gauges(door).enter()
        && let Some(socket) = held.pop_front()
    {
        start_in(gate, door, socket, places);
    }
}

async fn serve_held(gate: &Rc<Gate>, door: &Door, held: VecDeque<Socket>) {
    for socket in held {
        let places = loop {
            match gate.gauges(door).enter() {
                Some(places) => break places,
                None => sleep(gate, FULL_PAUSE).await,
            }
        };
        start_in(gate, door, socket, places);
        // A full queue is served over many turns of the loop, so that open connections keep their latency.
        gate.plan().reactor().next_turn().await;
    }
}

/// Counts a socket that is accepted on, or still emptied.
struct OpenDoor(Arc<Counters>);

impl OpenDoor {
    fn of(plan: &Plan) -> OpenDoor {
        plan.counters.doors.increment();
        OpenDoor(plan.counters.clone())
    }
}

impl Drop for OpenDoor {
    fn drop(&mut self) {
        self.0.doors.decrement();
    }
}

/// Has the kernel take no more by itself. What a burst brought meanwhile is held here where it is past a limit: few, for
/// there was room for [`limits::SCARCE_ROOM`] at least when the kernel was last told to go on.
async fn stop_taking(gate: &Rc<Gate>, door: &Door, acceptor: &mut Acceptor) {
    let mut held = VecDeque::new();
    while let Some(socket) = acceptor.stop().await {
        held.push_back(socket);
    }
    serve_some(gate, door, &mut held);
    while !held.is_empty() && door.stop.reason().is_none() {
        if let Room::None(why) = gate.gauges(door).room() {
            wait_for_room(gate, door, why).await;
        }
        serve_some(gate, door, &mut held);
    }
    // Stopping: whom the kernel had accepted is served still.
    held.into_iter().for_each(|socket| start(gate, door, socket));
}

/// Pauses until the listener has room; those who come meanwhile wait in the kernel's queue.
async fn wait_for_room(gate: &Rc<Gate>, door: &Door, why: Pause) {
    count_pause(gate, why);
    door.say_full(gate, why);
    while door.stop.reason().is_none() && matches!(gate.gauges(door).room(), Room::None(_)) {
        sleep(gate, FULL_PAUSE).await;
    }
}

fn count_pause(gate: &Gate, why: Pause) {
    gate.plan().counters.accept_paused[why as usize].increment();
}

async fn sleep(gate: &Gate, pause: Duration) {
    let plan = gate.plan();
    plan.reactor().sleep_until(plan.reactor().now() + pause).await;
}

fn is_shortage(error: &std::io::Error) -> bool {
    use std::io::ErrorKind;
    // ENFILE, EMFILE, ENOBUFS have no stable kind; by number on Linux.
    matches!(error.raw_os_error(), Some(23 | 24 | 105)) || error.kind() == ErrorKind::OutOfMemory
}

/// Serves a connection that was taken already, limits or not.
fn start(gate: &Gate, door: &Door, socket: Socket) {
    start_in(gate, door, socket, gate.gauges(door).enter_anyway());
}

fn start_in(gate: &Gate, door: &Door, socket: Socket, places: Places) {
    let plan = gate.plan();
    let worker: &Rc<WorkerHost> = &plan.worker;
    if worker.audit_refuses(&plan) {
        socket.reset_on_close();
        return;
    }
    let listener = door.listener.get();
    let entry = plan.snapshot.entries()[listener].clone();
    let (live, tenancy) = worker.admit(&entry, &plan.counters, places);
    // Boxed here, not in the task: an async block would keep room for what it moves into the box.
    let connection = CatchPanic { future: Box::pin(serve(plan.clone(), entry.clone(), socket, live.clone())) };
    plan.clone().reactor().spawn(async move {
        let tenancy: Tenancy = tenancy;
        if connection.await.is_err() {
            after_panic(&plan, &entry, &live);
        }
        drop(tenancy);
    });
}

/// Counts a panic, says which connection it ended, and writes the audit line that it kept from being written.
fn after_panic(plan: &Plan, entry: &Entry, live: &Live) {
    plan.counters.task_panics.increment();
    tracing::error!(conn_id = %live.conn_id, "a fault of ours ended this connection alone; please report it");
    match live.take_unwritten() {
        Some(record) if record.event == Event::Refused => plan.refused(entry, record),
        Some(record) => plan.closed(record),
        None => {}
    }
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
