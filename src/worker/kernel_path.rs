//! Whether connections may take the kernel path, by what the operator wants and what this kernel does.

use super::engine::Engine;
use super::start_error::StartError;
use crate::config::{Directions, Ktls, Listener};
use crate::sys::ktls;

/// Whether keys may be given to the kernel.
pub(super) fn is_used(wanted: Ktls) -> bool {
    wanted != Ktls::Off && ktls::trust().takes_any()
}

/// Whether a listener's connections may give keys to the kernel.
pub(super) fn may_leave(wanted: Ktls, listener: &Listener) -> bool {
    match listener.kernel.ktls {
        Directions::Off => false,
        Directions::Transmit => wanted != Ktls::Off && ktls::trust().seals_any(),
        Directions::Receive | Directions::Both | Directions::Auto => is_used(wanted),
    }
}

/// What the operator is told: what the kernel's TLS is trusted with, or why it is not used.
pub fn words(wanted: Ktls) -> String {
    match wanted {
        Ktls::Off => "off".to_owned(),
        Ktls::Auto | Ktls::Require => ktls::trust().to_string(),
    }
}

/// Why a run would refuse to start here, and what to do about it.
pub fn lack(wanted: Ktls) -> Option<(String, &'static str)> {
    let required = (wanted == Ktls::Require).then(ktls::trust);
    required.filter(|trust| !trust.takes_tls13()).map(|trust| (trust.to_string(), trust.advice()))
}

/// Says what the kernel's TLS is trusted with.
///
/// # Errors
/// It is required, and this kernel does not do it all.
pub(super) fn look(wanted: Ktls, engine: Engine) -> Result<(), StartError> {
    let trust = match (wanted, engine) {
        (Ktls::Off, _) => return Ok(()),
        (Ktls::Auto, Engine::Epoll) => {
            tracing::info!("kernel TLS is not used over epoll");
            return Ok(());
        }
        (Ktls::Require, Engine::Epoll) => {
            let advice = "let this process use io_uring, or write ktls = \"auto\"";
            return Err(StartError::KernelTls { found: "it goes over io_uring, and epoll serves".to_owned(), advice });
        }
        (Ktls::Auto | Ktls::Require, Engine::IoUring) => ktls::trust(),
    };
    if let Some((found, advice)) = lack(wanted) {
        return Err(StartError::KernelTls { found, advice });
    }
    match trust.takes_any() {
        true => tracing::info!("kernel TLS is used for what it was found to do: {trust}"),
        false => tracing::info!("kernel TLS is not used, all bytes go through user space: {trust}"),
    }
    Ok(())
}
