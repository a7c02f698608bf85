//! Whether connections may take the kernel path, by what the operator wants and what this kernel does.

use super::engine::Engine;
use super::start_error::StartError;
use crate::config::{Directions, Ktls, Listener, limits};
use crate::sys::splice::PipeBounds;
use crate::sys::{self, affinity, ktls};

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

/// The bounds of each worker's pipes: all of them together take at most half of the descriptors that there are.
pub(super) fn pipe_bounds() -> PipeBounds {
    let workers = affinity::allowed_cpus().len().max(1);
    let (capacity, kept_max) = (limits::PIPE_BYTES, limits::PIPES_KEPT_MAX);
    PipeBounds { capacity, kept_max, used_max: used_max(sys::limits::descriptor_limit(), workers) }
}

/// A pipe has two descriptors.
fn used_max(descriptors: u64, workers: usize) -> usize {
    let share = descriptors.saturating_sub(limits::DESCRIPTORS_RESERVED) / 2 / 2;
    usize::try_from(share).unwrap_or(usize::MAX).min(limits::PIPES_USED_MAX * workers) / workers
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pipes_leave_half_of_the_descriptors_to_connections() {
        assert_eq!(used_max(1 << 20, 4), limits::PIPES_USED_MAX);
        for (descriptors, workers) in [(1024, 1), (1024, 16), (300, 2), (10, 64), (0, 1)] {
            let taken = 2 * (used_max(descriptors, workers) * workers) as u64;
            assert!(2 * taken <= descriptors, "{taken} of {descriptors}");
        }
    }
}
