//! The audit's writer: one thread that takes records from the queue and writes them as lines, many at once.
//!
//! It may block for as long as a disk or a pipe does; the queue's bound is what workers notice of that. It sleeps
//! while there is nothing to write. It runs without `[audit]` too: refusals are remembered all the same.

mod journal;
mod target;

pub use target::Target;

use super::refusals::Refusals;
use crate::config::limits;
use crate::wire::audit::{self, Record};
use crate::worker::audit_queue::AuditQueue;
use std::io;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

/// Far longer than anything sleeps undisturbed: a push, a close or a request to reopen wakes the writer.
const UNTIL_WOKEN: Duration = Duration::from_secs(24 * 3600);

/// The running writer.
#[derive(Debug)]
pub struct Writer {
    queue: Arc<AuditQueue>,
    order: Arc<Mutex<Option<Order>>>,
    thread: thread::Thread,
    ended: Mutex<mpsc::Receiver<()>>,
}

/// What the writer is to do once it has written what it holds.
#[derive(Debug)]
enum Order {
    /// Open the same target anew.
    Reopen,
    /// Go on with another one, or with none.
    Write(Option<Target>),
}

impl Writer {
    /// Starts the thread. Without a target records are taken and not written.
    pub fn start(target: Option<Target>, queue: Arc<AuditQueue>, refusals: Arc<Refusals>) -> io::Result<Writer> {
        let order = Arc::new(Mutex::new(None));
        let (ending, ended) = mpsc::channel();
        queue.keep_refusals_alone(target.is_none());
        let mut lines = Lines::new(target, Arc::clone(&queue), refusals, Arc::clone(&order));
        let thread = thread::Builder::new().name("audit".into()).spawn(move || {
            lines.run();
            // Nobody listens any more where the process gave up waiting.
            let _ = ending.send(());
        })?;
        Ok(Writer { queue, order, thread: thread.thread().clone(), ended: Mutex::new(ended) })
    }

    /// Opens the file anew, for whoever moved it away.
    pub fn reopen(&self) {
        let mut order = self.order();
        // A target that is about to be taken was opened just now.
        if order.is_none() {
            *order = Some(Order::Reopen);
        }
        drop(order);
        self.thread.unpark();
    }

    /// Writes to another target from now on, or to none.
    pub fn write_to(&self, target: Option<Target>) {
        let alone = target.is_none();
        *self.order() = Some(Order::Write(target));
        self.queue.keep_refusals_alone(alone);
        self.thread.unpark();
    }

    fn order(&self) -> std::sync::MutexGuard<'_, Option<Order>> {
        self.order.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes the queue and waits until all is written, for `patience`. False if some of it is not.
    pub fn finish(&self, patience: Duration) -> bool {
        self.queue.close();
        self.thread.unpark();
        self.ended.lock().unwrap_or_else(PoisonError::into_inner).recv_timeout(patience).is_ok()
    }
}

/// Lines on their way to the target.
#[derive(Debug)]
struct Lines {
    target: Option<Target>,
    queue: Arc<AuditQueue>,
    refusals: Arc<Refusals>,
    order: Arc<Mutex<Option<Order>>>,
    batch: Vec<u8>,
    /// Bytes of the batch that are written.
    written: usize,
    /// When the log last told of a failure.
    told: Option<Instant>,
    /// When the queue was first seen closed with the target failing.
    closing_since: Option<Instant>,
}

impl Lines {
    fn new(
        target: Option<Target>,
        queue: Arc<AuditQueue>,
        refusals: Arc<Refusals>,
        order: Arc<Mutex<Option<Order>>>,
    ) -> Lines {
        Lines { target, queue, refusals, order, batch: Vec::new(), written: 0, told: None, closing_since: None }
    }

    fn run(&mut self) {
        loop {
            self.collect();
            match self.write() {
                Ok(()) if self.queue.is_finished() => return,
                // What was taken before the order is where it was to go.
                Ok(()) => self.obey(),
                Err(error) => {
                    self.tell(&error);
                    if self.gives_up() {
                        return;
                    }
                    thread::park_timeout(limits::AUDIT_RETRY);
                    self.open_anew();
                    self.obey();
                }
            }
        }
    }

    fn obey(&mut self) {
        let order = self.order.lock().unwrap_or_else(PoisonError::into_inner).take();
        match order {
            None => {}
            Some(Order::Reopen) => self.open_anew(),
            Some(Order::Write(target)) => {
                self.target = target;
                // The line that was cut short starts over.
                self.written = start_of_line(&self.batch, self.written);
            }
        }
    }

    /// Takes records until the batch is full, waiting only for the first. A batch that could not be written is kept
    /// and nothing is taken, so that the queue fills up and shows it.
    fn collect(&mut self) {
        if !self.batch.is_empty() {
            return;
        }
        let mut next = self.queue.take(UNTIL_WOKEN);
        while let Some(record) = next {
            if let Record::Connection(connection) = &record {
                self.refusals.note(connection);
            }
            if self.target.is_some() {
                audit::write_line(&record, &mut self.batch);
            }
            if self.batch.len() >= limits::AUDIT_BATCH_BYTES_MAX {
                return;
            }
            next = self.queue.pop();
        }
    }

    /// Writes the whole batch.
    fn write(&mut self) -> io::Result<()> {
        let Some(target) = self.target.as_mut().filter(|_| !self.batch.is_empty()) else {
            self.give_up_batch();
            return Ok(());
        };
        while self.written < self.batch.len() {
            match target.write(&self.batch[self.written..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => self.written += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if target.never_takes(&error) => {
                    self.written += length_of_line(&self.batch[self.written..]);
                    self.queue.count_dropped(1);
                }
                Err(error) => return Err(error),
            }
        }
        self.batch.clear();
        self.written = 0;
        if self.told.take().is_some() {
            tracing::info!(%target, dropped = self.queue.dropped(), "the audit is written again");
        }
        self.queue.set_failing(false);
        if !self.queue.is_finished() {
            thread::sleep(limits::AUDIT_PAUSE);
        }
        Ok(())
    }

    /// There is nowhere to write any more: what waited for it is lost, and counted.
    fn give_up_batch(&mut self) {
        let lost = self.batch[self.written..].iter().filter(|byte| **byte == b'\n').count() as u64;
        self.queue.count_dropped(lost);
        self.batch.clear();
        self.written = 0;
        self.told = None;
        self.queue.set_failing(false);
    }

    /// Opens the target again. Where that gives another file, the line that was cut short starts over in it.
    fn open_anew(&mut self) {
        let Some(target) = &mut self.target else { return };
        match target.reopen() {
            Ok(target::Opened::Same) => {}
            Ok(target::Opened::Another) => self.written = start_of_line(&self.batch, self.written),
            Err(error) => self.tell(&error),
        }
    }

    /// Says once in a while that the audit is not being written.
    fn tell(&mut self, error: &io::Error) {
        self.queue.set_failing(true);
        let Some(target) = &self.target else { return };
        if self.told.is_none_or(|told| told.elapsed() >= limits::LOG_FAULT_EVERY) {
            self.told = Some(Instant::now());
            tracing::error!(
                %target, %error, dropped = self.queue.dropped(),
                "the audit cannot be written; trying again every second, look at the disk's space and the file's owner"
            );
        }
    }

    /// Whether the process ends and there was time enough: counts what is lost then.
    fn gives_up(&mut self) -> bool {
        if !self.queue.is_closed() {
            return false;
        }
        let since = *self.closing_since.get_or_insert_with(Instant::now);
        if since.elapsed() < limits::AUDIT_RETRY {
            return false;
        }
        let mut lost = self.batch[self.written..].iter().filter(|byte| **byte == b'\n').count() as u64;
        while self.queue.pop().is_some() {
            lost += 1;
        }
        self.queue.count_dropped(lost);
        let target = self.target.as_ref().map(ToString::to_string);
        tracing::error!(lost, target, "audit lines are lost: they could not be written before the end");
        true
    }
}

/// Up to and with the end of the line that comes next.
fn length_of_line(lines: &[u8]) -> usize {
    lines.iter().position(|byte| *byte == b'\n').map_or(lines.len(), |end| end + 1)
}

/// Where the line begins that byte `at` of `lines` belongs to.
fn start_of_line(lines: &[u8], at: usize) -> usize {
    lines[..at].iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1)
}

#[cfg(test)]
mod tests;
