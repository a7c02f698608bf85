//! Waiting with a bound: every wait of the suite is a loop on a condition with a deadline, never a fixed sleep.

use std::io::{ErrorKind, Result};
use std::time::{Duration, Instant};

/// How long anything that should happen at once may take on a slow, busy machine.
pub const SOON: Duration = Duration::from_secs(20);

/// Pause between two looks at a condition.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// How many times slower than a machine of today this one is: `tests/vm` says so of an emulated one.
pub fn slowness() -> u32 {
    std::env::var("COUNTERSIGN_TEST_SLOWNESS").map_or(1, |times| times.parse().expect("a number"))
}

/// How often to do again what each time shows the same: less often on a slow machine.
pub fn repeated(times: usize) -> usize {
    times.div_ceil(slowness() as usize)
}

/// Looks at `condition` until it gives a value; `None` once `limit` has passed.
pub fn until_some<T>(limit: Duration, mut condition: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + limit * slowness();
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

/// One read of a socket with a time limit, and again where it was interrupted: the kernel restarts it by itself only
/// without a limit, and any stop of this process (a debugger, a frozen container) interrupts it.
pub fn uninterrupted<T>(mut read: impl FnMut() -> Result<T>) -> Result<T> {
    loop {
        match read() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}
