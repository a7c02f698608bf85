//! Which server of a backend the next connection gets. Each worker counts for itself: nothing is shared.

use super::counters::Counters;
use super::standing::{Standing, Standings};
use crate::config::Balance;
use crate::relay::{Backend, Seat};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A server whose last connect failed is tried after the others for this long.
const SHUNNED: Duration = Duration::from_secs(1);

/// How far a client is from a server, the same on every worker and host: the nearest server is its own (rendezvous
/// hashing, so that a server more or less moves only the clients that it concerns).
fn affinity(who: &str, label: &str) -> u64 {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, format!("{who}\0{label}").as_bytes());
    digest.as_ref().iter().take(8).fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

/// One worker's view of all backends.
#[derive(Debug)]
pub(super) struct Balancer {
    backends: RefCell<Vec<Vec<ServerState>>>,
    turn: Cell<usize>,
    counters: Arc<Counters>,
}

#[derive(Debug)]
struct ServerState {
    standing: Arc<Standing>,
    active: Rc<Cell<usize>>,
    shunned_until: Option<Instant>,
}

/// A server taken for one connection.
#[derive(Debug)]
pub(super) struct ServerSeat {
    backend: usize,
    server: usize,
    active: Rc<Cell<usize>>,
    counters: Arc<Counters>,
}

impl Seat for ServerSeat {
    fn server(&self) -> usize {
        self.server
    }
}

impl Drop for ServerSeat {
    fn drop(&mut self) {
        self.active.set(self.active.get().saturating_sub(1));
        if let Some(counters) = self.counters.server(self.backend, self.server) {
            counters.active.decrement();
        }
    }
}

impl Balancer {
    /// `first_turn` differs from worker to worker, so that they do not all begin with the same server.
    pub fn new(standings: Standings, first_turn: usize, counters: Arc<Counters>) -> Balancer {
        let state = |standing| ServerState { standing, active: Rc::default(), shunned_until: None };
        let backends = standings.into_iter().map(|of| of.into_iter().map(state).collect()).collect();
        Balancer { backends: RefCell::new(backends), turn: Cell::new(first_turn), counters }
    }

    /// A server not among `tried` that takes connections: those that answered last first, then by the backend's rule.
    /// A server that active checks hold to be down, or that an operator took out, gets none, be it the only one.
    pub fn choose(
        &self,
        index: usize,
        backend: &Backend,
        who: Option<&str>,
        tried: &[usize],
        now: Instant,
    ) -> Option<ServerSeat> {
        let backends = self.backends.borrow();
        let states = &backends[index];
        let count = backend.servers.len().min(states.len());
        let start = self.turn.get();
        self.turn.set(start.wrapping_add(1));
        let in_turn = (0..count).map(|i| start.wrapping_add(i) % count);
        let rank = |server: &usize| {
            let state = &states[*server];
            let shunned = state.shunned_until.is_some_and(|until| until > now);
            let load = match (backend.balance, who) {
                (Balance::LeastConnections, _) => state.active.get() as u64,
                (Balance::IdentityHash, Some(who)) => affinity(who, &backend.servers[*server].label),
                _ => 0,
            };
            (shunned, load)
        };
        let server = in_turn
            .filter(|server| !tried.contains(server) && states[*server].standing.takes_connections())
            .min_by_key(rank)?;
        let active = states[server].active.clone();
        active.set(active.get() + 1);
        if let Some(counters) = self.counters.server(index, server) {
            counters.active.increment();
        }
        Some(ServerSeat { backend: index, server, active, counters: self.counters.clone() })
    }

    /// A connect failed.
    pub fn failed(&self, backend: usize, server: usize, now: Instant) {
        if let Some(state) = self.backends.borrow_mut().get_mut(backend).and_then(|states| states.get_mut(server)) {
            state.shunned_until = Some(now + SHUNNED);
        }
    }

    /// A connect worked.
    pub fn answered(&self, backend: usize, server: usize) {
        if let Some(state) = self.backends.borrow_mut().get_mut(backend).and_then(|states| states.get_mut(server)) {
            state.shunned_until = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ProxyProtocol, ProxyTlvs};
    use crate::relay::Server;
    use crate::sys::Address;
    use crate::worker::standing::Wanted;

    fn backend(balance: Balance) -> Backend {
        let server =
            |i: u16| Server { address: Address::Ip(([127, 0, 0, 1], i).into()), label: format!("b/{i}").into() };
        let none = ProxyTlvs {
            alpn: false,
            authority: false,
            unique_id: false,
            ssl: false,
            crc32c: false,
            client_cert: false,
        };
        Backend {
            name: "b".into(),
            servers: (0..3).map(server).collect(),
            connect_timeout: Duration::from_secs(1),
            proxy_protocol: ProxyProtocol::Off,
            proxy_tlvs: none,
            balance,
        }
    }

    fn balancer() -> Balancer {
        over(&vec![(0..3).map(|_| Arc::default()).collect()])
    }

    fn over(standings: &Standings) -> Balancer {
        Balancer::new(standings.clone(), 0, Arc::new(Counters::new(0, &[3])))
    }

    #[test]
    fn a_server_that_is_down_or_drained_gets_no_connection_until_it_is_back() {
        let standings: Standings = vec![(0..3).map(|_| Arc::default()).collect()];
        for balance in [Balance::RoundRobin, Balance::LeastConnections, Balance::IdentityHash] {
            let (balancer, backend, now) = (over(&standings), backend(balance), Instant::now());
            let chosen = || balancer.choose(0, &backend, Some("cn:acme"), &[], now).map(|seat| seat.server);
            standings[0][0].set_down(true);
            standings[0][2].want(Wanted::Drain);
            assert!((0..6).all(|_| chosen() == Some(1)), "{balance:?}");
            standings[0][1].want(Wanted::Down);
            assert_eq!(chosen(), None, "not even as the last resort");
            standings[0][0].set_down(false);
            assert_eq!(chosen(), Some(0));
            standings[0].iter().for_each(|standing| standing.want(Wanted::Ready));
        }
    }

    #[test]
    fn round_robin_takes_each_server_in_turn() {
        let (balancer, backend, now) = (balancer(), backend(Balance::RoundRobin), Instant::now());
        let seats: Vec<_> = (0..6).map(|_| balancer.choose(0, &backend, None, &[], now).unwrap().server).collect();
        assert_eq!(seats, [0, 1, 2, 0, 1, 2]);
    }

    #[test]
    fn least_connections_prefers_the_emptiest_server() {
        let (balancer, backend, now) = (balancer(), backend(Balance::LeastConnections), Instant::now());
        let seats: Vec<_> = (0..3).map(|_| balancer.choose(0, &backend, None, &[], now).unwrap()).collect();
        let mut taken: Vec<_> = seats.iter().map(|seat| seat.server).collect();
        taken.sort();
        assert_eq!(taken, [0, 1, 2]);
        let freed = seats[1].server;
        drop(seats.into_iter().nth(1));
        let next = balancer.choose(0, &backend, None, &[], now).unwrap();
        assert!([0, 1, 2].contains(&next.server) && freed < 3);
    }

    #[test]
    fn a_server_that_failed_is_last_until_it_answers() {
        let (balancer, backend, now) = (balancer(), backend(Balance::RoundRobin), Instant::now());
        balancer.failed(0, 0, now);
        let chosen: Vec<_> = (0..4).map(|_| balancer.choose(0, &backend, None, &[], now).unwrap().server).collect();
        assert!(!chosen.contains(&0));
        assert_eq!(balancer.choose(0, &backend, None, &[1, 2], now).unwrap().server, 0, "better than nobody");
        balancer.answered(0, 0);
        let chosen: Vec<_> = (0..3).map(|_| balancer.choose(0, &backend, None, &[], now).unwrap().server).collect();
        assert!(chosen.contains(&0));
    }

    #[test]
    fn identity_hash_gives_each_client_its_own_server_on_every_worker() {
        let (one, other, backend, now) = (balancer(), balancer(), backend(Balance::IdentityHash), Instant::now());
        let mut used = std::collections::HashSet::new();
        for client in 0..50 {
            let who = format!("uri:spiffe://bank.example/{client}");
            let server = one.choose(0, &backend, Some(&who), &[], now).unwrap().server;
            assert_eq!(server, other.choose(0, &backend, Some(&who), &[], now).unwrap().server);
            assert_eq!(server, one.choose(0, &backend, Some(&who), &[], now).unwrap().server);
            assert_ne!(server, one.choose(0, &backend, Some(&who), &[server], now).unwrap().server, "the next one");
            used.insert(server);
        }
        assert_eq!(used.len(), 3, "all servers have clients");
    }

    #[test]
    fn nobody_is_left_when_all_were_tried() {
        let (balancer, backend) = (balancer(), backend(Balance::RoundRobin));
        assert!(balancer.choose(0, &backend, None, &[0, 1, 2], Instant::now()).is_none());
    }
}
