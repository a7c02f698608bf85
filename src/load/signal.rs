//! Ctrl-C ends a run early, with a report of what was done so far; a second one ends the program.

use std::thread;

use crate::load::pace::Stop;
use crate::load::{Refusal, exit};

/// The usual status of a program that ended at SIGINT.
pub const INTERRUPTED: i32 = 130;

/// Sets `stop` at the first SIGINT or SIGTERM, and exits at the second.
pub fn stop_at_interrupt(stop: &Stop) -> Result<(), Refusal> {
    let stop = stop.clone();
    on_interrupts(move |nth| match nth {
        1 => stop.set(),
        _ => std::process::exit(INTERRUPTED),
    })
}

/// Calls `act` with 1, 2, … at each SIGINT or SIGTERM, on a thread of its own.
pub fn on_interrupts(mut act: impl FnMut(u32) + Send + 'static) -> Result<(), Refusal> {
    use tokio::signal::unix::{SignalKind, signal};
    let failed =
        |e: std::io::Error| Refusal::new(exit::OS, format!("signals cannot be received: {e}; see `ulimit -n`"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let guard = runtime.enter();
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    drop(guard);
    thread::spawn(move || {
        runtime.block_on(async {
            for nth in 1.. {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                act(nth);
            }
        });
    });
    Ok(())
}
