//! `backend NAME SERVER ready|drain|down`.

use super::{Answer, ServerState};
use crate::control::desk::Desk;
use crate::control::service::Service;
use crate::worker::Wanted;
use serde_json::json;

impl<S: Service> Desk<S> {
    /// In force with the next connection on every worker. Stays over reloads as long as the server does, not over a
    /// restart.
    pub(super) fn set_server(&self, backend: &str, server: &str, state: ServerState) -> Answer {
        let generation = self.state.generation();
        let backends = &generation.config.backends;
        let Some(b) = backends.iter().position(|known| *known.name == *backend) else {
            let names: Vec<&str> = backends.iter().map(|known| &*known.name).collect();
            return Answer::refused(format!("there is no backend {backend:?}; there are: {}", names.join(", ")));
        };
        let servers: Vec<String> = backends[b].servers.iter().map(ToString::to_string).collect();
        let place = servers.iter().position(|known| known == server);
        let Some((s, standing)) = place.and_then(|s| Some((s, generation.standings.get(b)?.get(s)?))) else {
            let servers = servers.join(", ");
            return Answer::refused(format!("backend {backend} has no server {server:?}; it has: {servers}"));
        };
        standing.want(state.into());
        let open: u64 = generation.counters.iter().filter_map(|c| c.server(b, s)).map(|c| c.active.value()).sum();
        let mut text = match state {
            ServerState::Ready if standing.is_down() => format!("{backend} {server} is ready, but its checks fail\n"),
            ServerState::Ready => format!("{backend} {server} is ready\n"),
            ServerState::Drain => format!("{backend} {server} drains: no new connections, {open} stay\n"),
            ServerState::Down => format!("{backend} {server} is down: no new connections, {open} stay, no checks\n"),
        };
        let left = generation.standings[b].iter().filter(|standing| standing.takes_connections()).count();
        if left == 0 {
            tracing::error!(backend, "no server of this backend takes connections: its clients are turned away");
            text.push_str("no server of this backend takes connections now: its clients are turned away\n");
        }
        let word = Wanted::from(state).word();
        let data =
            json!({ "backend": backend, "server": server, "state": word, "connections": open, "servers_left": left });
        Answer::told(text, &data)
    }
}

impl From<ServerState> for Wanted {
    fn from(state: ServerState) -> Wanted {
        match state {
            ServerState::Ready => Wanted::Ready,
            ServerState::Drain => Wanted::Drain,
            ServerState::Down => Wanted::Down,
        }
    }
}
