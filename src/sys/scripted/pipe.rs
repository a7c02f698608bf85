//! A connection in memory: two ways of bytes, each with latency and a bounded window, ended by FIN, RST or silence.
//! What it does at an end follows Linux: a close with unread bytes is a reset; bytes before a reset can still be read;
//! an error is told once and is end of file afterwards.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

/// Who holds an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The process under test.
    Ours,
    /// The world around it.
    Peer,
}

impl Side {
    pub(super) fn other(self) -> Side {
        match self {
            Side::Ours => Side::Peer,
            Side::Peer => Side::Ours,
        }
    }
}

/// A connection.
#[derive(Debug)]
pub(super) struct Pipe {
    pub tcp: bool,
    /// Our address and the peer's; `None` for unix sockets.
    pub addresses: Option<(SocketAddr, SocketAddr)>,
    pub facts: Facts,
    ends: [End; 2],
    /// By the side that sends.
    ways: [Way; 2],
    /// The path is gone: nothing arrives any more.
    silent: bool,
}

/// What happened on a connection that its scripts did not ask for, and how much of it we saw.
#[derive(Debug, Clone, Copy, Default)]
pub struct Facts {
    /// Bytes that were handed to our side, those of a cancelled receive apart.
    pub read_by_us: u64,
    /// Failures that end a connection, injected by the kernel.
    pub harm: u32,
    /// When our side accepted it; the other way round it is unknown.
    pub taken_at: Option<Duration>,
}

#[derive(Debug, Default)]
struct End {
    closed: bool,
    /// Not told yet.
    error: Option<i32>,
    /// Reset by either side: nothing can be sent.
    broken: bool,
    /// When silence becomes an error here.
    gives_up_at: Option<Duration>,
}

#[derive(Debug)]
struct Way {
    transit: VecDeque<(Duration, Parcel)>,
    transit_bytes: usize,
    inbox: VecDeque<u8>,
    window: usize,
    fin_sent: bool,
    fin_arrived: bool,
    last_arrival: Duration,
}

#[derive(Debug)]
enum Parcel {
    Bytes(Vec<u8>),
    Fin,
    Reset,
}

/// What an end can receive now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Readable {
    Bytes(usize),
    Error(i32),
    End,
    Nothing,
}

/// How an end may be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Close {
    Orderly,
    /// SO_LINGER 0.
    Abort,
}

impl Pipe {
    /// `windows` bound what is under way and unread: toward us, toward the peer.
    pub fn new(tcp: bool, addresses: Option<(SocketAddr, SocketAddr)>, windows: (usize, usize)) -> Pipe {
        let way = |window| Way {
            transit: VecDeque::new(),
            transit_bytes: 0,
            inbox: VecDeque::new(),
            window,
            fin_sent: false,
            fin_arrived: false,
            last_arrival: Duration::ZERO,
        };
        let (toward_us, toward_peer) = windows;
        let (ends, facts) = Default::default();
        Pipe { tcp, addresses, facts, ends, ways: [way(toward_peer), way(toward_us)], silent: false }
    }

    /// What `side` can receive.
    pub fn readable(&self, side: Side) -> Readable {
        let (end, way) = (self.end(side), &self.ways[side.other() as usize]);
        match (way.inbox.len(), end.error) {
            (0, Some(error)) => Readable::Error(error),
            (0, None) if way.fin_arrived || end.broken => Readable::End,
            (0, None) => Readable::Nothing,
            (bytes, _) => Readable::Bytes(bytes),
        }
    }

    /// Takes `count` bytes that were announced as readable.
    pub fn take(&mut self, side: Side, count: usize) -> Vec<u8> {
        let inbox = &mut self.ways[side.other() as usize].inbox;
        let (front, back) = inbox.as_slices();
        let bytes = match count.checked_sub(front.len()) {
            None | Some(0) => front[..count].to_vec(),
            Some(rest) => [front, &back[..rest]].concat(),
        };
        inbox.drain(..count);
        bytes
    }

    /// Errors are told once.
    pub fn error_told(&mut self, side: Side) {
        self.end_mut(side).error = None;
    }

    /// How many bytes `side` could send now; an error if it never will.
    pub fn room(&self, side: Side) -> Result<usize, i32> {
        let (end, way) = (self.end(side), &self.ways[side as usize]);
        match end.error {
            Some(error) => Err(error),
            None if end.broken || way.fin_sent => Err(libc::EPIPE),
            None => Ok(way.window.saturating_sub(way.inbox.len() + way.transit_bytes)),
        }
    }

    /// Sends bytes for which there is room.
    pub fn send(&mut self, side: Side, bytes: &[u8], arrival: Duration) {
        let way = &mut self.ways[side as usize];
        way.transit_bytes += bytes.len();
        way.post(arrival, Parcel::Bytes(bytes.to_vec()));
    }

    /// Ends the way of `side` in order; ENOTCONN where the connection is gone.
    pub fn fin(&mut self, side: Side, arrival: Duration) -> Result<(), i32> {
        if self.end(side).broken {
            return Err(libc::ENOTCONN);
        }
        let way = &mut self.ways[side as usize];
        if !std::mem::replace(&mut way.fin_sent, true) {
            way.post(arrival, Parcel::Fin);
        }
        Ok(())
    }

    /// Closes the end of `side`. Of what it had sent and is still under way, `kept` parcels survive a reset.
    pub fn close(&mut self, side: Side, how: Close, kept: usize, arrival: Duration) {
        let unread = !self.ways[side.other() as usize].inbox.is_empty();
        let both_ended = self.ways[side as usize].fin_sent && self.ways[side.other() as usize].fin_arrived;
        let abort = how == Close::Abort && self.tcp && !both_ended;
        self.end_mut(side).closed = true;
        if self.end(side).broken {
            return;
        }
        if unread || abort {
            self.reset(side, kept, arrival);
        } else {
            // A broken connection was excluded above.
            let _ = self.fin(side, arrival);
        }
    }

    /// Breaks the connection at one end, as a forged RST or a dying network does: the other end hears of it later.
    pub fn sever(&mut self, side: Side, arrival: Duration) {
        self.facts.harm += 1;
        self.reset(side, 0, arrival);
    }

    /// Nothing arrives any more; each end gives up at its time.
    pub fn fall_silent(&mut self, ours_gives_up: Duration) {
        self.silent = true;
        self.end_mut(Side::Ours).gives_up_at = Some(ours_gives_up);
    }

    /// Whether RST came or went.
    pub fn is_broken(&self, side: Side) -> bool {
        self.end(side).broken
    }

    fn reset(&mut self, side: Side, kept: usize, arrival: Duration) {
        self.end_mut(side).broken = true;
        let way = &mut self.ways[side as usize];
        while way.transit.len() > kept {
            if let Some((_, Parcel::Bytes(bytes))) = way.transit.pop_back() {
                way.transit_bytes -= bytes.len();
            }
        }
        way.fin_sent = true;
        way.post(arrival, Parcel::Reset);
    }

    /// Lets arrive what is due; false if nothing was. `latency` is for the resets that answer bytes to a closed end.
    pub fn settle(&mut self, now: Duration, latency: Duration) -> bool {
        if self.next_moment().is_none_or(|moment| moment > now) {
            return false;
        }
        for side in [Side::Ours, Side::Peer] {
            if self.end(side).gives_up_at.is_some_and(|at| at <= now) {
                let end = self.end_mut(side);
                (end.gives_up_at, end.broken, end.error) = (None, true, Some(libc::ETIMEDOUT));
            }
            while !self.silent && self.ways[side as usize].transit.front().is_some_and(|(at, _)| *at <= now) {
                let Some((_, parcel)) = self.ways[side as usize].transit.pop_front() else { break };
                self.arrive(side.other(), parcel, now + latency);
            }
        }
        true
    }

    fn arrive(&mut self, at: Side, parcel: Parcel, answer: Duration) {
        let way = &mut self.ways[at.other() as usize];
        let end = &mut self.ends[at as usize];
        match parcel {
            Parcel::Bytes(bytes) => {
                way.transit_bytes -= bytes.len();
                if end.broken {
                    return;
                }
                if end.closed {
                    self.reset(at, usize::MAX, answer);
                } else {
                    way.inbox.extend(bytes);
                }
            }
            Parcel::Fin => way.fin_arrived = true,
            Parcel::Reset => {
                if !std::mem::replace(&mut end.broken, true) {
                    end.error = Some(libc::ECONNRESET);
                }
            }
        }
    }

    /// When something will arrive or give up next.
    pub fn next_moment(&self) -> Option<Duration> {
        let arrivals = self.ways.iter().filter(|_| !self.silent).filter_map(|way| Some(way.transit.front()?.0));
        let ends = self.ends.iter().filter_map(|end| end.gives_up_at);
        arrivals.chain(ends).min()
    }

    fn end(&self, side: Side) -> &End {
        &self.ends[side as usize]
    }

    fn end_mut(&mut self, side: Side) -> &mut End {
        &mut self.ends[side as usize]
    }
}

impl Way {
    /// Parcels arrive in the order in which they were sent.
    fn post(&mut self, arrival: Duration, parcel: Parcel) {
        self.last_arrival = self.last_arrival.max(arrival);
        self.transit.push_back((self.last_arrival, parcel));
    }
}
