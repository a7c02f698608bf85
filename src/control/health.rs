//! Active health checks: each server of a backend with `[backend.health]` is connected to every `interval`, on the control
//! thread. What they find is written where every worker reads it. Servers count as up until checked, and the first check
//! alone may take one down, as in HAProxy: a server that is away at the start is found out within one interval.

use super::desk::Desk;
use super::service::Service;
use super::state::{Generation, State};
use crate::config::{Health, ProxyProtocol, Server, limits};
use crate::wire::proxy;
use crate::worker::{Standing, Wanted};
use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;

/// What is checked, and how; a change of any part of it begins anew.
#[derive(Debug, Clone, PartialEq)]
struct Patient {
    backend: Arc<str>,
    server: Server,
    health: Health,
    proxy_protocol: ProxyProtocol,
}

impl<S: Service> Desk<S> {
    /// Checks the servers of the present generation, without end.
    pub async fn check_backends(self: Arc<Self>) {
        let mut checks = Checks { room: Arc::new(Semaphore::new(limits::CHECKS_AT_ONCE_MAX)), tasks: HashMap::new() };
        loop {
            // Made first, so that no change is missed.
            let changed = self.state.replaced.notified();
            checks.follow(&self.state);
            changed.await;
        }
    }
}

/// The checks under way, one task for each server.
struct Checks {
    /// So many at once: descriptors are reserved for no more.
    room: Arc<Semaphore>,
    tasks: HashMap<(Arc<str>, Server), (Patient, AbortHandle)>,
}

impl Checks {
    /// Begins what the present generation wants and is not done yet, ends what it does not want.
    fn follow(&mut self, state: &Arc<State>) {
        let generation = state.generation();
        let mut wanted = patients(&generation);
        self.tasks.retain(|key, (patient, task)| {
            let stays = wanted.get(key).is_some_and(|(wanted, _)| wanted == patient);
            match stays {
                true => drop(wanted.remove(key)),
                false => task.abort(),
            }
            stays
        });
        for (key, (patient, standing)) in wanted {
            let task = tokio::spawn(watch(patient.clone(), standing, state.clone(), self.room.clone()));
            self.tasks.insert(key, (patient, task.abort_handle()));
        }
    }
}

fn patients(generation: &Generation) -> HashMap<(Arc<str>, Server), (Patient, Arc<Standing>)> {
    let mut patients = HashMap::new();
    for (backend, standings) in generation.config.backends.iter().zip(&generation.standings) {
        let Some(health) = &backend.health else { continue };
        for (server, standing) in backend.servers.iter().zip(standings) {
            let patient = Patient {
                backend: backend.name.clone(),
                server: server.clone(),
                health: health.clone(),
                proxy_protocol: backend.proxy_protocol,
            };
            patients.insert((backend.name.clone(), server.clone()), (patient, standing.clone()));
        }
    }
    patients
}

/// Checks one server, without end.
async fn watch(patient: Patient, standing: Arc<Standing>, state: Arc<State>, room: Arc<Semaphore>) {
    let mut pulse = Pulse::new(standing.is_down());
    let mut ticks = tokio::time::interval(patient.health.interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if standing.wanted() == Wanted::Down {
            // Whoever brings it back says that it works; the first check may say otherwise.
            standing.set_down(false);
            pulse = Pulse::new(false);
            continue;
        }
        // Never closed.
        let Ok(_place) = room.acquire().await else { return };
        let result = check(&patient).await;
        if let Err(error) = &result
            && is_ours(error)
        {
            tracing::warn!(%error, backend = %patient.backend, server = %patient.server, "a health check could not be made; this \
                says nothing about the server. Raise the limits of this process (LimitNOFILE=)");
            continue;
        }
        if let Some(up) = pulse.beat(result.is_ok(), &patient.health) {
            standing.set_down(!up);
            tell(&patient, result.err(), &state);
        }
    }
}

/// How a server did lately.
struct Pulse {
    up: bool,
    /// Checks in a row that said the contrary of `up`.
    contrary: u32,
    /// The first check of a server that counts as up unproven is enough to take it down.
    unproven: bool,
}

impl Pulse {
    fn new(down: bool) -> Pulse {
        Pulse { up: !down, contrary: 0, unproven: !down }
    }

    /// Takes one result; `Some` when it changed what the server counts as.
    fn beat(&mut self, ok: bool, health: &Health) -> Option<bool> {
        let unproven = std::mem::replace(&mut self.unproven, false);
        if ok == self.up {
            self.contrary = 0;
            return None;
        }
        self.contrary += 1;
        let enough = if self.up { health.fall } else { health.rise };
        if self.contrary < enough && !unproven {
            return None;
        }
        self.up = ok;
        self.contrary = 0;
        Some(ok)
    }
}

/// To the log, with what is left of the backend.
fn tell(patient: &Patient, error: Option<io::Error>, state: &State) {
    let (backend, server) = (&patient.backend, &patient.server);
    let generation = state.generation();
    let place = generation.config.backends.iter().position(|known| known.name == *backend);
    let standings = place.and_then(|place| generation.standings.get(place));
    let left = standings.map_or(0, |of| of.iter().filter(|standing| standing.takes_connections()).count());
    match error {
        None => tracing::info!(%backend, %server, servers_left = left, "backend server is up again"),
        Some(error) if left > 0 => {
            tracing::warn!(%backend, %server, %error, servers_left = left, "backend server is down");
        }
        Some(error) => tracing::error!(
            %backend, %server, %error,
            "backend server is down, and it was the last: clients of this backend are turned away until one is up"
        ),
    }
}

/// One connection, with the header that a server behind PROXY protocol waits for.
async fn check(patient: &Patient) -> io::Result<()> {
    let mut header = Vec::new();
    match patient.proxy_protocol {
        ProxyProtocol::Off => {}
        // v1 has no word for a connection of our own.
        ProxyProtocol::V1 => proxy::write_v1_unknown(&mut header),
        ProxyProtocol::V2 => proxy::write_local(&mut header),
    }
    let attempt = async {
        match &patient.server {
            Server::Tcp(address) => TcpStream::connect(address).await?.write_all(&header).await,
            Server::Unix(path) => UnixStream::connect(path).await?.write_all(&header).await,
        }
    };
    let timeout = patient.health.timeout;
    match tokio::time::timeout(timeout, attempt).await {
        Ok(result) => result,
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {timeout:?}"))),
    }
}

/// Linux's numbers for what has no stable [`io::ErrorKind`].
const ENFILE: i32 = 23;
const EMFILE: i32 = 24;
const ENOMEM: i32 = 12;
const EADDRNOTAVAIL: i32 = 99;
const ENOBUFS: i32 = 105;

/// Whether an error tells of this process, and not of the server: no descriptor, no memory, no local port.
fn is_ours(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(ENFILE | EMFILE | ENOMEM | EADDRNOTAVAIL | ENOBUFS))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn health(rise: u32, fall: u32) -> Health {
        Health { interval: Duration::from_secs(2), timeout: Duration::from_secs(1), rise, fall }
    }

    fn told(pulse: &mut Pulse, results: &[bool], health: &Health) -> Vec<Option<bool>> {
        results.iter().map(|ok| pulse.beat(*ok, health)).collect()
    }

    #[test]
    fn a_server_falls_and_rises_by_results_in_a_row() {
        let (mut pulse, health) = (Pulse::new(false), health(2, 3));
        let results = [true, false, false, true, false, false, false, false, true, false, true, true];
        let mut expected = [None; 12];
        expected[6] = Some(false);
        expected[11] = Some(true);
        assert_eq!(told(&mut pulse, &results, &health), expected);
    }

    #[test]
    fn the_first_check_of_all_takes_a_server_down_by_itself() {
        let (mut pulse, health) = (Pulse::new(false), health(1, 3));
        assert_eq!(
            told(&mut pulse, &[false, true, false, false, false], &health),
            [Some(false), Some(true), None, None, Some(false)]
        );
    }

    #[test]
    fn a_server_known_to_be_down_has_to_rise() {
        let (mut pulse, health) = (Pulse::new(true), health(2, 3));
        assert_eq!(told(&mut pulse, &[true, true], &health), [None, Some(true)]);
    }
}
