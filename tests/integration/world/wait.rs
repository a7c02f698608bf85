//! Waiting with a bound: every wait of the suite is a loop on a condition with a deadline, never a fixed sleep.

use std::time::{Duration, Instant};

/// How long anything that should happen at once may take on a slow, busy machine.
pub const SOON: Duration = Duration::from_secs(20);

/// Pause between two looks at a condition.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Looks at `condition` until it gives a value; `None` once `limit` has passed.
pub fn until_some<T>(limit: Duration, mut condition: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(value) = condition() {
            return Some(value);
        }
        if Instant::now() >= deadline {
            return None;
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// The same for a yes or no.
pub fn until(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    until_some(limit, || condition().then_some(())).is_some()
}
