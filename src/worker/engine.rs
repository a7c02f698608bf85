//! Which kernel interface the workers stand on: the one that the operator named, or the best that this machine allows.

use super::start_error::StartError;
use crate::config::{self, limits};
use crate::sys::{self, BufferSizes, Epoll, EpollOptions, Kernel, Missing, RingOptions, Uring};
use std::fmt;

/// What all workers of this process use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    IoUring,
    Epoll,
}

const BUFFERS: BufferSizes = BufferSizes { small: limits::SMALL_BUFFERS, large: limits::LARGE_BUFFERS };

/// The sizes of every worker's ring.
const RING: RingOptions =
    RingOptions { entries: limits::RING_ENTRIES, completions: limits::RING_COMPLETIONS, buffers: BUFFERS };

/// The bounds of every worker's epoll.
const EPOLL: EpollOptions =
    EpollOptions { events: limits::EPOLL_EVENTS_PER_TURN, accepts: limits::EPOLL_ACCEPTS_PER_TURN, buffers: BUFFERS };

impl Engine {
    /// The engine for this many workers. Says in the log why where it is not the one that was hoped for.
    ///
    /// # Errors
    /// io_uring is asked for and cannot be had, or nothing can.
    pub(super) fn choose(wanted: config::Engine, workers: usize) -> Result<Engine, StartError> {
        // A sandbox may end the process for the attempt: what is not asked for is not tried.
        let tried = (wanted != config::Engine::Epoll).then(|| sys::probe(RING, workers));
        match tried {
            None => Ok(Engine::Epoll),
            Some(Ok(())) => Ok(Engine::IoUring),
            Some(Err(missing)) if wanted == config::Engine::Auto && missing.is_of_the_ring() => {
                tracing::warn!(
                    engine = %Engine::Epoll,
                    "io_uring cannot be used, and so epoll serves: {missing}. To serve over epoll without this warning, \
                     write engine = \"epoll\" under [runtime]"
                );
                Ok(Engine::Epoll)
            }
            Some(Err(missing)) => Err(StartError::Missing(missing)),
        }
    }

    /// What one worker stands on, made on its own thread.
    pub(super) fn kernel(self) -> Result<Box<dyn Kernel>, Missing> {
        Ok(match self {
            Engine::IoUring => Box::new(Uring::new(RING)?),
            Engine::Epoll => Box::new(Epoll::new(EPOLL)?),
        })
    }

    /// As the configuration names it.
    pub fn word(self) -> &'static str {
        match self {
            Engine::IoUring => "io_uring",
            Engine::Epoll => "epoll",
        }
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}
