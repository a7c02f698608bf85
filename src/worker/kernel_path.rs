//! Whether connections may take the kernel path, by what the operator wants and what this kernel does. Not yet, but in
//! debug builds that ask for it, which is how its tests run.

use super::engine::Engine;
use super::start_error::StartError;
use crate::config::Ktls;
use crate::sys::ktls;

/// Switches the kernel path on in debug builds.
#[cfg(debug_assertions)]
const VARIABLE: &str = "COUNTERSIGN_TEST_KERNEL_PATH";

/// Whether keys may be given to the kernel.
pub(super) fn is_used(wanted: Ktls) -> bool {
    wanted != Ktls::Off && is_asked_for() && ktls::trust().takes_any()
}

/// What the operator is told: what the kernel's TLS is trusted with, or why it is not used.
pub fn words(wanted: Ktls) -> String {
    match wanted {
        Ktls::Off => "off".to_owned(),
        _ if !is_asked_for() => "not used by this version: all bytes go through user space".to_owned(),
        Ktls::Auto | Ktls::Require => ktls::trust().to_string(),
    }
}

#[cfg(debug_assertions)]
fn is_asked_for() -> bool {
    std::env::var_os(VARIABLE).is_some()
}

#[cfg(not(debug_assertions))]
fn is_asked_for() -> bool {
    false
}

/// Says what the kernel's TLS is trusted with.
///
/// # Errors
/// It is required, and this kernel does not do it all.
pub(super) fn look(wanted: Ktls, engine: Engine) -> Result<(), StartError> {
    let trust = match (wanted, engine) {
        (Ktls::Off, _) => return Ok(()),
        _ if !is_asked_for() => return Ok(()),
        (Ktls::Auto, Engine::Epoll) => {
            tracing::info!("kernel TLS is not used over epoll; it is over io_uring");
            return Ok(());
        }
        (Ktls::Require, Engine::Epoll) => {
            let advice = "let this process use io_uring, or write ktls = \"auto\"";
            return Err(StartError::KernelTls { found: "it goes over io_uring, and epoll serves".to_owned(), advice });
        }
        (Ktls::Auto | Ktls::Require, Engine::IoUring) => ktls::trust(),
    };
    if wanted == Ktls::Require && !trust.takes_tls13() {
        return Err(StartError::KernelTls { found: trust.to_string(), advice: trust.advice() });
    }
    match trust.takes_any() {
        true => tracing::info!("kernel TLS is used for what it was found to do: {trust}"),
        false => tracing::info!("kernel TLS is not used, all bytes go through user space: {trust}"),
    }
    Ok(())
}
