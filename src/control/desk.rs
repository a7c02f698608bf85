//! All that a running process can be asked to do, whoever asks: signals, the admin socket, a look at watched files.

use super::audit::Writer;
use super::block_book::BlockBook;
use super::block_ends::BlockEnds;
use super::confinement::Confinement;
use super::handover::{Doors, Elder};
use super::logging::LogLevel;
use super::readiness::Phase;
use super::refusals::Refusals;
use super::reload::Load;
use super::service::Service;
use super::signals::Asked;
use super::state::State;
use super::watch::{self, Watch};
use crate::config::limits;
use crate::wire::audit::Record;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, mpsc};

/// The running process as whoever asks it for something sees it.
pub struct Desk<S: Service> {
    pub state: Arc<State>,
    pub service: Arc<S>,
    pub writer: Writer,
    pub log: LogLevel,
    pub refusals: Arc<Refusals>,
    pub book: BlockBook,
    /// Counts the lists of blocks; held while one is made from the one before.
    pub blocking: Mutex<u64>,
    /// When those end that were made for a time.
    pub block_ends: BlockEnds,
    /// Told when there are other blocks.
    pub blocks_changed: Notify,
    pub watch: Watch,
    pub load: Load<S::Snapshot>,
    /// Which files a reload may name.
    pub confinement: Confinement,
    /// Where [`Asked::Drain`] goes.
    pub asked: mpsc::Sender<Asked>,
    /// One reload at a time.
    pub reloading: tokio::sync::Mutex<()>,
    /// A signal or a watched file has asked for a reload that did not begin yet.
    pub reload_is_waiting: AtomicBool,
    /// The admin sockets.
    pub doors: Doors,
    /// A new process takes over, or did: nothing is changed here any more.
    pub giving: AtomicBool,
    /// The process from which this one took over, while its connections end.
    pub elder: Elder,
    /// Held while a reload takes effect and while the process turns to draining: never both.
    pub turning: Mutex<()>,
}

impl<S: Service> Desk<S> {
    /// Reloads without an answer to anybody. Where one is waiting already, it will see what there is to see.
    pub fn reload_soon(self: &Arc<Self>) {
        if !self.reload_is_waiting.swap(true, Ordering::SeqCst) {
            let desk = Arc::clone(self);
            tokio::spawn(async move { drop(desk.reload().await) });
        }
    }

    /// Looks at the files every `interval`, without end.
    pub async fn watch(self: Arc<Self>, interval: Duration) {
        let mut ticks = tokio::time::interval(interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let desk = Arc::clone(&self);
            // A disk that does not answer holds up the looks, not the process.
            let due = tokio::task::spawn_blocking(move || {
                let paths = desk.watch.paths();
                desk.watch.is_due(watch::look(paths.iter().map(PathBuf::as_path)))
            });
            if due.await.unwrap_or(false) {
                tracing::info!("watched files have changed");
                let _ = self.reload().await;
            }
        }
    }

    /// Takes blocks that ran out off the list, without end: this is what lifts them.
    pub async fn purge_blocks(self: Arc<Self>) {
        loop {
            let left = self.until_a_block_ends();
            tokio::select! {
                () = tokio::time::sleep(left.min(limits::BLOCKS_LOOK_TIME_MAX)) => {}
                () = self.blocks_changed.notified() => continue,
            }
            self.purge_now().await;
        }
    }

    /// From here on no reload takes effect, and the probes tell that the end is near.
    pub fn turn_to_draining(&self) {
        let _no_reload = self.turning.lock().unwrap_or_else(PoisonError::into_inner);
        self.state.readiness.advance(Phase::Draining);
    }

    /// Hands a record to the audit.
    pub fn audit(&self, record: Record) {
        if let Some(queue) = &self.state.audit {
            queue.push(record);
        }
    }
}
