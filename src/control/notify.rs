//! Words to the service manager.

use sd_notify::NotifyState;

/// Tells the service manager, where there is one.
pub fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "the service manager cannot be told; is NOTIFY_SOCKET reachable?");
    }
}
