//! Whether every worker's loop turns. An idle worker sleeps, so it is woken and watched; that costs a turn each time
//! that somebody asks, and nothing else.

use crate::config::limits;
use crate::control::state::State;
use std::time::Duration;
use tokio::time::Instant;

/// Between looks.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// The first worker that does not turn within its time.
pub async fn still_worker(state: &State) -> Option<usize> {
    let Some(waker) = &state.waker else { return None };
    let counters = state.generation().counters.clone();
    let turns = || counters.iter().map(|counters| counters.turns.value());
    let before: Vec<u64> = turns().collect();
    waker();
    let at_latest = Instant::now() + limits::WORKER_TURN_TIME_MAX;
    loop {
        let still = turns().zip(&before).position(|(now, before)| now == *before);
        if still.is_none() || Instant::now() >= at_latest {
            return still;
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::fixture;
    use crate::worker::counters::Counters;
    use std::sync::Arc;

    /// A state with two workers, of which those listed turn when woken.
    fn state(turning: &'static [usize]) -> State {
        let config = Arc::new(fixture::config());
        let counters: Vec<_> = (0..2).map(|_| Arc::new(Counters::for_config(&config))).collect();
        let mut state = State::new(fixture::generation(config, counters.clone()), None);
        state.waker = Some(Arc::new(move || turning.iter().for_each(|worker| counters[*worker].turns.increment())));
        state
    }

    fn asked(state: &State) -> Option<usize> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(still_worker(state))
    }

    #[test]
    fn workers_that_turn_when_woken_are_healthy() {
        assert_eq!(asked(&state(&[0, 1])), None);
    }

    #[test]
    fn a_worker_that_does_not_turn_is_named() {
        assert_eq!(asked(&state(&[0])), Some(1));
    }
}
