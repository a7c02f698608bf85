//! Whether connections may take the kernel path. Not yet, but in debug builds that ask for it, which is how its tests run.

use crate::config::Ktls;
use crate::sys::ktls;

/// Switches the kernel path on in debug builds.
#[cfg(debug_assertions)]
const VARIABLE: &str = "COUNTERSIGN_TEST_KERNEL_PATH";

/// Whether keys may be given to the kernel.
pub(super) fn is_used(wanted: Ktls) -> bool {
    wanted != Ktls::Off && is_asked_for() && ktls::trust().takes_any()
}

#[cfg(debug_assertions)]
fn is_asked_for() -> bool {
    std::env::var_os(VARIABLE).is_some()
}

#[cfg(not(debug_assertions))]
fn is_asked_for() -> bool {
    false
}
