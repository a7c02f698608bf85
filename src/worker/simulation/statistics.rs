//! What simulations came to: a set of rules that nothing ever tests would be kept by anything.

use super::world::Aftermath;
use crate::wire::audit::Event;
use std::collections::BTreeMap;
use std::time::Duration;

/// How often what happened.
#[derive(Debug, Default)]
pub struct Statistics {
    counts: BTreeMap<String, u64>,
    turns: u64,
    time: Duration,
}

impl Statistics {
    pub fn add(&mut self, aftermath: &Aftermath) {
        self.turns += aftermath.turns;
        self.time += aftermath.time;
        self.count(format!("mood {:?}", aftermath.script.mood));
        aftermath.script.orders.iter().for_each(|(_, order)| self.count(format!("order {order:?}")));
        for after in &aftermath.clients {
            let client = &after.client;
            let seen = [
                ("sees close_notify", client.saw_notify),
                ("sees reset", client.saw_reset),
                ("sees alert", client.saw_alert.is_some()),
                ("sees a cut", client.saw_fin && !client.saw_notify && client.saw_alert.is_none()),
                ("is turned off", client.turned_off),
                ("is served by the next server", after.attempts.len() > 1 && !after.backends.is_empty()),
            ];
            seen.iter().filter(|(_, seen)| *seen).for_each(|(what, _)| self.count(format!("client {what}")));
            for backend in &after.backends {
                let seen = [("sees FIN", backend.saw_fin), ("sees reset", backend.saw_reset)];
                seen.iter().filter(|(_, seen)| *seen).for_each(|(what, _)| self.count(format!("backend {what}")));
            }
        }
        for record in &aftermath.records {
            match (record.event, record.close_reason) {
                (Event::Refused, _) => self.count(format!("refused {:?}", record.reason)),
                (Event::Closed, Some(reason)) => self.count(format!("closed {reason:?}")),
                (Event::Accepted, _) if record.tls.as_ref().is_some_and(|tls| tls.resumed) => {
                    self.count("accepted resumed".to_owned());
                }
                (Event::Accepted, _) => self.count("accepted full".to_owned()),
                (Event::Closed, None) => {}
            }
        }
    }

    pub fn merge(&mut self, other: &Statistics) {
        other.counts.iter().for_each(|(what, count)| *self.counts.entry(what.clone()).or_default() += count);
        self.turns += other.turns;
        self.time += other.time;
    }

    pub fn of(&self, what: &str) -> u64 {
        self.counts.get(what).copied().unwrap_or_default()
    }

    pub fn print(&self) {
        self.counts.iter().for_each(|(what, count)| eprintln!("{count:>10} {what}"));
        eprintln!("{:>10} turns, {:.0} hours of virtual time", self.turns, self.time.as_secs_f64() / 3600.0);
    }

    fn count(&mut self, what: String) {
        *self.counts.entry(what).or_default() += 1;
    }
}
