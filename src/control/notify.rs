//! Words to the service manager.

use super::admin::still_worker;
use super::state::State;
use crate::config::limits;
use sd_notify::NotifyState;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Tells the service manager, where there is one.
pub fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "the service manager cannot be told; is NOTIFY_SOCKET reachable?");
    }
}

/// Asks for patience while the process drains, again and again: the time that a unit allows for a stop need not be as
/// long as the drain. Ends with the runtime.
pub async fn ask_for_time() {
    let each = u32::try_from(limits::STOP_EXTENSION.as_micros()).unwrap_or(u32::MAX);
    loop {
        notify(&[NotifyState::ExtendTimeoutUsec(each)]);
        tokio::time::sleep(limits::STOP_EXTENSION / 3).await;
    }
}

/// Feeds the service manager's watchdog for as long as every worker turns. Ends with the runtime.
///
/// The control thread feeds, so that its own standstill starves the watchdog too.
pub async fn feed_watchdog(state: Arc<State>, patience: Duration) {
    feed(state, patience / 2, || notify(&[NotifyState::Watchdog])).await;
}

/// Calls `fed` every `interval`, each time after every worker has turned since. One that does not turn is asked again at
/// once: it may have been slow, and the rest of the watchdog's patience is for that.
async fn feed(state: Arc<State>, interval: Duration, fed: impl Fn()) {
    let mut told: Option<Instant> = None;
    loop {
        let begun = tokio::time::Instant::now();
        match still_worker(&state).await {
            None => {
                fed();
                tokio::time::sleep_until(begun + interval).await;
            }
            Some(worker) => {
                if told.is_none_or(|told| told.elapsed() >= limits::LOG_FAULT_EVERY) {
                    told = Some(Instant::now());
                    tracing::error!(worker, "a worker does not turn: the watchdog is not fed; please report this");
                }
                // `still_worker` has taken its time already, unless nobody turns because nobody can be woken.
                tokio::time::sleep(limits::WATCHDOG_LOOK_AGAIN).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::fixture;
    use crate::worker::counters::Counters;
    use std::cell::Cell;
    use std::sync::atomic::{AtomicBool, Ordering};

    /// Two workers, of which the second turns when woken only while `turns` holds.
    fn state(turns: &Arc<AtomicBool>) -> Arc<State> {
        let config = Arc::new(fixture::config());
        let counters: Vec<_> = (0..2).map(|_| Arc::new(Counters::for_config(&config))).collect();
        let mut state = State::new(fixture::generation(config, counters.clone()), None);
        let turns = Arc::clone(turns);
        state.waker = Some(Arc::new(move || {
            counters[0].turns.increment();
            if turns.load(Ordering::SeqCst) {
                counters[1].turns.increment();
            }
        }));
        Arc::new(state)
    }

    #[test]
    fn the_watchdog_is_fed_while_every_worker_turns_and_starves_while_one_does_not() {
        let turns = Arc::new(AtomicBool::new(true));
        let fed = Cell::new(0);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let feeding = feed(state(&turns), Duration::from_millis(5), || fed.set(fed.get() + 1));
            let watching = async {
                while fed.get() < 3 {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                turns.store(false, Ordering::SeqCst);
                // One look may be under way.
                tokio::time::sleep(Duration::from_millis(50)).await;
                let before = fed.get();
                tokio::time::sleep(limits::WORKER_TURN_TIME_MAX * 2).await;
                assert_eq!(fed.get(), before);
                turns.store(true, Ordering::SeqCst);
                while fed.get() < before + 3 {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            };
            tokio::select! {
                () = feeding => {}
                () = watching => {}
            }
        });
    }
}
