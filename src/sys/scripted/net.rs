//! The world around the process under test: clients that knock at its listening sockets, servers that it connects to,
//! as tasks that live on the kernel's clock.

use super::super::buffers::BufferSizes;
use super::super::kernel::Kernel;
use super::super::socket::Address;
use super::dice::Dice;
use super::faults::Faults;
use super::files::File;
use super::kernel::Scripted;
use super::pipe::{Close, Facts, Pipe, Readable, Side};
use super::state::{Door, Mode, Server, State};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, SystemTime};

/// A task, and whether the world is over only when it is.
type Task = (Pin<Box<dyn Future<Output = ()>>>, bool);

/// What the kernel and the world share.
pub(super) struct Shared {
    pub state: RefCell<State>,
    tasks: RefCell<Vec<Task>>,
    newborn: RefCell<Vec<Task>>,
}

impl Shared {
    /// Tasks that have not ended, servers apart.
    pub fn waiting(&self) -> usize {
        let (tasks, newborn) = (self.tasks.borrow(), self.newborn.borrow());
        tasks.iter().chain(newborn.iter()).filter(|(_, counts)| *counts).count()
    }

    /// Polls every task of the world, if anything changed for any: they wait for conditions, not for wakers.
    pub fn poll_world(&self) {
        let stirred = std::mem::take(&mut self.state.borrow_mut().stirred);
        if !stirred && self.newborn.borrow().is_empty() {
            return;
        }
        let mut tasks = std::mem::take(&mut *self.tasks.borrow_mut());
        tasks.append(&mut self.newborn.borrow_mut());
        let mut polled = 0;
        let cx = &mut Context::from_waker(Waker::noop());
        while polled < tasks.len() {
            match tasks[polled].0.as_mut().poll(cx) {
                Poll::Ready(()) => drop(tasks.swap_remove(polled)),
                Poll::Pending => polled += 1,
            }
            tasks.append(&mut self.newborn.borrow_mut());
        }
        *self.tasks.borrow_mut() = tasks;
    }
}

/// The world's handle; clones are the same world.
#[derive(Clone)]
pub struct Net(Rc<Shared>);

/// A server of the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerId(usize);

impl ServerId {
    #[cfg(test)]
    pub(super) fn first() -> ServerId {
        ServerId(0)
    }
}

impl Net {
    /// A world in which nothing has happened yet, and a wall clock that shows `wall`.
    pub fn new(seed: u64, faults: Faults, buffers: BufferSizes, wall: SystemTime) -> Net {
        let state = State::new(Dice::new(seed), faults, buffers, wall);
        let (tasks, newborn) = Default::default();
        Net(Rc::new(Shared { state: RefCell::new(state), tasks, newborn }))
    }

    /// Its kernel, for one reactor.
    pub fn kernel(&self) -> Box<dyn Kernel> {
        Box::new(Scripted(self.0.clone()))
    }

    /// A listening socket for that reactor.
    ///
    /// # Errors
    /// EMFILE and its kind: a real descriptor stands for it.
    pub fn listen(&self, address: SocketAddr) -> io::Result<TcpListener> {
        let place = std::fs::File::open("/dev/null")?;
        let listener = TcpListener::from(std::os::fd::OwnedFd::from(place));
        let state = &mut *self.0.state.borrow_mut();
        state.files.register(listener.as_raw_fd(), File::Door(state.doors.len()));
        state.doors.push(Door { address, backlog: VecDeque::new(), open: true });
        Ok(listener)
    }

    /// A server that can be connected to. `windows` bound what is unread: by us, by the server.
    pub fn serve(&self, address: Address, mode: Mode, windows: (usize, usize)) -> ServerId {
        let state = &mut *self.0.state.borrow_mut();
        state.servers.push(Server { address, mode, backlog: VecDeque::new(), windows, attempts: Vec::new() });
        ServerId(state.servers.len() - 1)
    }

    /// The next connection to a server.
    pub async fn accept(&self, server: ServerId) -> PeerEnd {
        let pipe = self.when(move |state| state.servers[server.0].backlog.pop_front()).await;
        PeerEnd { net: self.clone(), pipe }
    }

    /// From now on it meets connects in this way.
    pub fn turn_server(&self, server: ServerId, mode: Mode) {
        let state = &mut *self.0.state.borrow_mut();
        state.servers[server.0].mode = mode;
        state.trace(|| format!("      server {} {mode:?}", server.0));
    }

    /// When each connect to a server was started.
    pub fn attempts(&self, server: ServerId) -> Vec<Duration> {
        self.0.state.borrow().servers[server.0].attempts.clone()
    }

    /// Knocks at a listening socket; `None` where nobody listens. The kernel answers, whether or not anybody accepts.
    pub async fn connect(&self, from: SocketAddr, to: SocketAddr, windows: (usize, usize)) -> Option<PeerEnd> {
        let journey = {
            let state = &mut *self.0.state.borrow_mut();
            state.arrival() - state.now
        };
        self.sleep(journey).await;
        let state = &mut *self.0.state.borrow_mut();
        let door = state.doors.iter().position(|door| door.open && door.address == to)?;
        let pipe = state.pipes.len();
        state.pipes.push(Pipe::new(true, Some((to, from)), windows));
        state.doors[door].backlog.push_back(pipe);
        state.trace(|| format!("      client {from} is connection {pipe}"));
        Some(PeerEnd { net: self.clone(), pipe })
    }

    /// Starts a task of the world.
    pub fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        self.0.newborn.borrow_mut().push((Box::pin(task), true));
    }

    /// Starts a task that goes on for as long as the others do: it waits for what they bring about.
    pub fn spawn_server(&self, task: impl Future<Output = ()> + 'static) {
        self.0.newborn.borrow_mut().push((Box::pin(task), false));
    }

    /// Tasks of the world that have not ended, servers apart.
    pub fn tasks(&self) -> usize {
        self.0.waiting()
    }

    /// Connections that nobody has accepted yet.
    pub fn knocking(&self) -> usize {
        self.0.state.borrow().doors.iter().map(|door| door.backlog.len()).sum()
    }

    /// Sockets that the process has open, those that it accepted and does not serve yet among them.
    pub fn sockets(&self) -> usize {
        self.0.state.borrow().files.sockets().count()
    }

    /// Ends all tasks of the world where they are. They hold the world: without this it is never freed.
    pub fn end_tasks(&self) {
        let tasks = std::mem::take(&mut *self.0.tasks.borrow_mut());
        let newborn = std::mem::take(&mut *self.0.newborn.borrow_mut());
        drop((tasks, newborn));
    }

    /// Time since the start.
    pub fn now(&self) -> Duration {
        self.0.state.borrow().now
    }

    pub fn wall(&self) -> SystemTime {
        self.0.state.borrow().wall()
    }

    /// Somebody sets the wall clock.
    pub fn jump_wall(&self, seconds: i64) {
        let state = &mut *self.0.state.borrow_mut();
        state.wall += seconds;
        state.trace(|| format!("      the wall clock jumps by {seconds} s"));
    }

    /// Resolves after some time.
    pub async fn sleep(&self, time: Duration) {
        let until = self.now() + time;
        std::future::poll_fn(|_| {
            self.wake_at(until);
            if self.now() >= until { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// Has all tasks of the world polled at that moment.
    pub fn wake_at(&self, moment: Duration) {
        let state = &mut *self.0.state.borrow_mut();
        if moment > state.now {
            state.alarms.insert(moment);
        }
    }

    /// What happened on a connection, by its number.
    pub fn facts(&self, connection: usize) -> Facts {
        self.0.state.borrow().pipes[connection].facts
    }

    /// Breaches of the kernel's rules so far.
    pub fn violations(&self) -> Vec<String> {
        self.0.state.borrow().violations.clone()
    }

    /// What the process under test has not given back; to be asked when it is over.
    pub fn leaks(&self) -> Vec<String> {
        self.0.state.borrow().leaks()
    }

    /// Prints every step from now on.
    pub fn trace_all(&self) {
        self.0.state.borrow_mut().traced = true;
    }

    pub fn trace(&self, line: impl FnOnce() -> String) {
        self.0.state.borrow().trace(line);
    }

    /// Panics that calls of the kernel made in their callers' tasks.
    pub fn panics(&self) -> u64 {
        self.0.state.borrow().panics
    }

    /// Lets the world go on without a process under test, until all its tasks have ended or at most for `time`.
    pub fn go_on(&self, time: Duration) {
        let until = self.now() + time;
        while self.tasks() > 0 {
            self.0.state.borrow_mut().settle();
            self.0.poll_world();
            let state = &mut *self.0.state.borrow_mut();
            match state.next_moment() {
                Some(moment) if moment <= until => state.now = moment,
                _ => return,
            }
        }
    }

    /// Turns of the loop so far.
    pub fn turns(&self) -> u64 {
        self.0.state.borrow().turns
    }

    async fn when<T>(&self, mut condition: impl FnMut(&mut State) -> Option<T>) -> T {
        std::future::poll_fn(|_| condition(&mut self.0.state.borrow_mut()).map_or(Poll::Pending, Poll::Ready)).await
    }
}

/// The world's end of a connection. Left alone it stays open: its owner closes it.
pub struct PeerEnd {
    net: Net,
    pipe: usize,
}

/// What came.
#[derive(Debug, PartialEq, Eq)]
pub enum Came {
    Bytes(Vec<u8>),
    /// FIN.
    End,
    /// RST.
    Reset,
}

/// The connection is reset.
#[derive(Debug, PartialEq, Eq)]
pub struct Gone;

impl PeerEnd {
    /// A number for traces and facts.
    pub fn number(&self) -> usize {
        self.pipe
    }

    /// What happened on it so far.
    pub fn facts(&self) -> Facts {
        self.net.facts(self.pipe)
    }

    /// At most `most` bytes, if anything is there.
    pub fn try_read(&self, most: usize) -> Option<Came> {
        self.with(|pipe, _| match pipe.readable(Side::Peer) {
            Readable::Nothing => None,
            Readable::Error(_) => Some(Came::Reset),
            Readable::End if pipe.is_broken(Side::Peer) => Some(Came::Reset),
            Readable::End => Some(Came::End),
            Readable::Bytes(available) => Some(Came::Bytes(pipe.take(Side::Peer, available.min(most.max(1))))),
        })
    }

    /// Waits for something.
    pub async fn read(&self, most: usize) -> Came {
        std::future::poll_fn(|_| self.try_read(most).map_or(Poll::Pending, Poll::Ready)).await
    }

    /// As many of `bytes` as there is room for.
    pub fn try_write(&self, bytes: &[u8]) -> Result<usize, Gone> {
        self.with(|pipe, arrival| {
            let count = pipe.room(Side::Peer).map_err(|_| Gone)?.min(bytes.len());
            if count > 0 {
                pipe.send(Side::Peer, &bytes[..count], arrival);
            }
            Ok(count)
        })
    }

    /// All of them.
    pub async fn write(&self, bytes: &[u8]) -> Result<(), Gone> {
        let mut done = 0;
        std::future::poll_fn(|_| match self.try_write(&bytes[done..]) {
            Err(gone) => Poll::Ready(Err(gone)),
            Ok(count) => {
                done += count;
                if done == bytes.len() { Poll::Ready(Ok(())) } else { Poll::Pending }
            }
        })
        .await
    }

    /// FIN.
    pub fn finish(&self) {
        self.net.trace(|| format!("      {} FIN", self.pipe));
        // A reset connection has nothing left to end.
        let _ = self.with(|pipe, arrival| pipe.fin(Side::Peer, arrival));
    }

    /// RST. Of what is still under way, `kept` parcels arrive before it.
    pub fn reset(&self, kept: usize) {
        self.net.trace(|| format!("      {} RST", self.pipe));
        self.with(|pipe, arrival| pipe.close(Side::Peer, Close::Abort, kept, arrival));
    }

    /// As `close(2)` does it: RST if something is unread, else FIN.
    pub fn close(&self) {
        self.net.trace(|| format!("      {} close", self.pipe));
        self.with(|pipe, arrival| pipe.close(Side::Peer, Close::Orderly, usize::MAX, arrival));
    }

    /// The path is cut: nothing arrives any more, and our side gives up after `patience`.
    pub fn vanish(&self, patience: Duration) {
        self.net.trace(|| format!("      {} falls silent", self.pipe));
        let at = self.net.now() + patience;
        self.with(|pipe, _| pipe.fall_silent(at));
    }

    /// Whether RST came or went.
    pub fn is_broken(&self) -> bool {
        self.with(|pipe, _| pipe.is_broken(Side::Peer))
    }

    fn with<T>(&self, call: impl FnOnce(&mut Pipe, Duration) -> T) -> T {
        let state = &mut *self.net.0.state.borrow_mut();
        let arrival = state.arrival();
        call(&mut state.pipes[self.pipe], arrival)
    }
}
