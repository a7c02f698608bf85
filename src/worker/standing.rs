//! What the control thread knows and wants of each backend server, for all workers to read with every choice.

use crate::config::Config;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

/// What an operator wants of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// New connections, as long as it is up.
    Ready,
    /// No new connections; it is still checked.
    Drain,
    /// No new connections, and no checks.
    Down,
}

impl Wanted {
    /// Each once.
    pub const ALL: [Wanted; 3] = [Wanted::Ready, Wanted::Drain, Wanted::Down];

    /// As it is typed and printed.
    pub fn word(self) -> &'static str {
        match self {
            Wanted::Ready => "ready",
            Wanted::Drain => "drain",
            Wanted::Down => "down",
        }
    }
}

/// One server. The control thread writes; nobody waits for anybody.
#[derive(Debug, Default)]
pub struct Standing {
    wanted: AtomicU8,
    /// By active checks: false until they have failed.
    down: AtomicBool,
}

/// Those of all servers of all backends, by index.
pub type Standings = Vec<Vec<Arc<Standing>>>;

impl Standing {
    pub fn wanted(&self) -> Wanted {
        Wanted::ALL
            .into_iter()
            .find(|wanted| *wanted as u8 == self.wanted.load(Ordering::Relaxed))
            .unwrap_or(Wanted::Ready)
    }

    pub fn want(&self, wanted: Wanted) {
        self.wanted.store(wanted as u8, Ordering::Relaxed);
    }

    /// Whether active checks say that it is down.
    pub fn is_down(&self) -> bool {
        self.down.load(Ordering::Relaxed)
    }

    pub fn set_down(&self, down: bool) {
        self.down.store(down, Ordering::Relaxed);
    }

    /// Whether new connections may go there.
    pub fn takes_connections(&self) -> bool {
        self.wanted() == Wanted::Ready && !self.is_down()
    }
}

/// Those of `new`: servers that `old` had keep theirs, by the names of backend and server.
pub(super) fn standings(new: &Config, old: Option<(&Config, &Standings)>) -> Standings {
    let known = |backend: &str, server: &crate::config::Server| {
        let (config, standings) = old?;
        let b = config.backends.iter().position(|known| *known.name == *backend)?;
        let s = config.backends[b].servers.iter().position(|known| known == server)?;
        standings.get(b)?.get(s).cloned()
    };
    let of = |backend: &crate::config::Backend| {
        let each = backend.servers.iter().map(|server| {
            let standing = known(&backend.name, server).unwrap_or_default();
            // Where nobody checks any more, nobody would ever find it up again.
            if backend.health.is_none() {
                standing.set_down(false);
            }
            standing
        });
        each.collect()
    };
    new.backends.iter().map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(backends: &str) -> Config {
        let text = format!(
            "[[listener]]\naddress = [\"127.0.0.1:0\"]\n[[site]]\nbackend = \"a\"\ncertificate = [{{ chain = \"c\", key = \"k\" }}]\n\
             [site.client]\ntrust = [\"t\"]\n{backends}"
        );
        Config::from_text(&text, None).unwrap()
    }

    #[test]
    fn a_server_that_stays_keeps_what_is_wanted_and_known_of_it() {
        let old = config("[[backend]]\nname = \"a\"\nservers = [\"127.0.0.1:1\", \"127.0.0.1:2\"]\nhealth = {}\n");
        let before = standings(&old, None);
        assert!(before[0].iter().all(|server| server.takes_connections()));
        before[0][0].want(Wanted::Drain);
        before[0][1].set_down(true);
        let new = config(
            "[[backend]]\nname = \"a\"\nservers = [\"127.0.0.1:3\", \"127.0.0.1:2\", \"127.0.0.1:1\"]\nhealth = {}\n",
        );
        let after = standings(&new, Some((&old, &before)));
        assert_eq!(after[0][2].wanted(), Wanted::Drain);
        assert!(after[0][1].is_down() && after[0][0].takes_connections());
    }

    #[test]
    fn a_server_that_is_not_checked_any_more_is_up_again() {
        let old = config("[[backend]]\nname = \"a\"\nservers = [\"127.0.0.1:1\"]\nhealth = {}\n");
        let before = standings(&old, None);
        before[0][0].set_down(true);
        let new = config("[[backend]]\nname = \"a\"\nservers = [\"127.0.0.1:1\"]\n");
        assert!(standings(&new, Some((&old, &before)))[0][0].takes_connections());
    }
}
