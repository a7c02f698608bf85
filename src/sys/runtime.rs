//! Tasks and their reactor: one thread's loop.

use super::kernel::Kernel;
use super::reactor::Reactor;
use async_executor::LocalExecutor;
use std::io;
use std::rc::Rc;

/// Owns the tasks. Dropping it drops them, and with them their sockets and operations.
#[derive(Debug)]
pub struct Runtime {
    executor: Option<LocalExecutor<'static>>,
    reactor: Rc<Reactor>,
    tasks_per_turn_max: usize,
}

impl Runtime {
    /// A loop over `kernel`, which looks at the kernel at least after every `tasks_per_turn_max` task polls.
    pub fn new(kernel: Box<dyn Kernel>, tasks_per_turn_max: usize) -> Runtime {
        Runtime { executor: Some(LocalExecutor::new()), reactor: Reactor::new(kernel), tasks_per_turn_max }
    }

    /// What futures use.
    pub fn reactor(&self) -> &Rc<Reactor> {
        &self.reactor
    }

    /// Turns until `done` says so; `done` is asked once a turn, after the tasks and before any sleep.
    ///
    /// # Errors
    /// What the kernel says when it can wait no more; nothing can be served after that.
    pub fn run_until(&self, mut done: impl FnMut() -> bool) -> io::Result<()> {
        loop {
            let ready = self.run_tasks();
            if done() {
                return Ok(());
            }
            self.reactor.turn(ready)?;
        }
    }

    /// Whether tasks are left that are ready.
    fn run_tasks(&self) -> bool {
        let Some(executor) = &self.executor else { return false };
        for _ in 0..self.tasks_per_turn_max {
            for task in self.reactor.take_spawned() {
                executor.spawn(task).detach();
            }
            if !executor.try_tick() {
                return false;
            }
        }
        true
    }
}

/// Turns that the end of a runtime may take to hear the last word on cancelled operations.
const LAST_TURNS_MAX: usize = 1000;

impl Drop for Runtime {
    fn drop(&mut self) {
        // Tasks first: their drops cancel their operations. Then the kernel must say its last word on each before the
        // memory that they use may go.
        drop(self.executor.take());
        drop(self.reactor.take_spawned());
        for _ in 0..LAST_TURNS_MAX {
            if self.reactor.in_flight() == 0 {
                return;
            }
            if self.reactor.turn(true).is_err() {
                break;
            }
            std::thread::yield_now();
        }
        if self.reactor.in_flight() > 0 {
            // Memory lost is better than memory that the kernel still writes to.
            std::mem::forget(self.reactor.clone());
        }
    }
}
