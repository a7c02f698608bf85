//! Signals as values in a channel, so that what they lead to can be tested without sending any.
//!
//! SIGPIPE needs nothing here: Rust's start-up code ignores it, and writes answer with an error.

use std::io;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

/// What a signal asks for, or somebody over the admin socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// SIGTERM, SIGINT.
    Stop,
    /// `ctl drain`: the same with a time of its own for open connections.
    Drain(Option<Duration>),
    /// SIGHUP.
    Reload,
    /// SIGUSR1.
    ReopenLogs,
    /// SIGUSR2.
    HandOver,
}

/// Signals that may wait; more of them while nobody looks say nothing new.
pub const WAITING_MAX: usize = 16;

/// Takes over the signals, within a runtime. From here on none of them ends the process by itself.
pub fn listen(sender: &mpsc::Sender<Asked>) -> io::Result<()> {
    let kinds = [
        (SignalKind::terminate(), Asked::Stop),
        (SignalKind::interrupt(), Asked::Stop),
        (SignalKind::hangup(), Asked::Reload),
        (SignalKind::user_defined1(), Asked::ReopenLogs),
        (SignalKind::user_defined2(), Asked::HandOver),
    ];
    for (kind, asked) in kinds {
        let mut stream = signal(kind)?;
        let sender = sender.clone();
        tokio::spawn(async move {
            while stream.recv().await.is_some() {
                if sender.send(asked).await.is_err() {
                    return;
                }
            }
        });
    }
    Ok(())
}
