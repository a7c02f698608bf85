//! Which worker gets a connection: by hash, or the one on the CPU that took its first packet.

use super::accepting::Listening;
use crate::config;
use crate::sys;

/// How the listening sockets of the workers are steered.
#[derive(Debug)]
pub(super) struct Steering {
    /// The CPU of each worker; `None`: by hash.
    cpus: Option<Vec<usize>>,
}

impl Steering {
    /// What was `wanted`, if each worker keeps to a CPU; `cpus` has those that the workers are pinned to.
    pub fn choose(wanted: config::Steering, cpus: &[Option<usize>]) -> Steering {
        if wanted == config::Steering::Hash {
            return Steering { cpus: None };
        }
        let cpus: Option<Vec<usize>> = cpus.iter().copied().collect();
        if cpus.is_none() {
            tracing::warn!(
                "steering = \"cpu\" needs workers that keep to their CPUs, and these do not; connections are spread by \
                 hash. Write pin = true under [runtime], or leave steering out"
            );
        }
        Steering { cpus }
    }

    /// Steers new sockets; `sockets` has those of each worker, in the order in which the groups were joined.
    pub fn apply(&self, sockets: &[Vec<Listening>]) {
        let Some(cpus) = &self.cpus else { return };
        // One member's program is that of its group.
        for (key, socket) in sockets.first().into_iter().flatten() {
            if key.address.ip().is_none() {
                // A program would stay on them for whoever is started next.
                tracing::warn!(listener = %key.listener, "sockets of systemd are spread by hash, whatever steering says");
                continue;
            }
            if let Err(error) = sys::steer_by_cpu(socket, cpus) {
                tracing::warn!(
                    %error,
                    listener = %key.listener,
                    address = %key.address,
                    "the kernel does not steer by CPU; connections to this address are spread by hash"
                );
            }
        }
    }
}
