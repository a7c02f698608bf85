//! The audit's writer: one thread that takes records from the queue and writes them as lines, many at once.
//!
//! It may block for as long as a disk or a pipe does; the queue's bound is what workers notice of that. It sleeps
//! while there is nothing to write.

mod target;

pub use target::Target;

use crate::config::limits;
use crate::wire::audit;
use crate::worker::audit_queue::AuditQueue;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// Far longer than anything sleeps undisturbed: a push, a close or a request to reopen wakes the writer.
const UNTIL_WOKEN: Duration = Duration::from_secs(24 * 3600);

/// The running writer.
#[derive(Debug)]
pub struct Writer {
    queue: Arc<AuditQueue>,
    reopen: Arc<AtomicBool>,
    thread: thread::Thread,
    ended: mpsc::Receiver<()>,
}

impl Writer {
    /// Starts the thread.
    pub fn start(target: Target, queue: Arc<AuditQueue>) -> io::Result<Writer> {
        let reopen = Arc::new(AtomicBool::new(false));
        let (ending, ended) = mpsc::channel();
        let mut lines = Lines::new(target, Arc::clone(&queue), Arc::clone(&reopen));
        let thread = thread::Builder::new().name("audit".into()).spawn(move || {
            lines.run();
            // Nobody listens any more where the process gave up waiting.
            let _ = ending.send(());
        })?;
        Ok(Writer { queue, reopen, thread: thread.thread().clone(), ended })
    }

    /// Opens the file anew, for whoever moved it away.
    pub fn reopen(&self) {
        self.reopen.store(true, Ordering::SeqCst);
        self.thread.unpark();
    }

    /// Closes the queue and waits until all is written, for `patience`. False if some of it is not.
    pub fn finish(self, patience: Duration) -> bool {
        self.queue.close();
        self.thread.unpark();
        self.ended.recv_timeout(patience).is_ok()
    }
}

/// Lines on their way to the target.
#[derive(Debug)]
struct Lines {
    target: Target,
    queue: Arc<AuditQueue>,
    reopen: Arc<AtomicBool>,
    batch: Vec<u8>,
    /// Bytes of the batch that are written.
    written: usize,
    /// When the log last told of a failure.
    told: Option<Instant>,
    /// When the queue was first seen closed with the target failing.
    closing_since: Option<Instant>,
}

impl Lines {
    fn new(target: Target, queue: Arc<AuditQueue>, reopen: Arc<AtomicBool>) -> Lines {
        Lines { target, queue, reopen, batch: Vec::new(), written: 0, told: None, closing_since: None }
    }

    fn run(&mut self) {
        loop {
            self.collect();
            if self.reopen.swap(false, Ordering::SeqCst) {
                self.open_anew();
            }
            match self.write() {
                Ok(()) if self.queue.is_finished() => return,
                Ok(()) => {}
                Err(error) => {
                    self.tell(&error);
                    if self.gives_up() {
                        return;
                    }
                    thread::park_timeout(limits::AUDIT_RETRY);
                    self.open_anew();
                }
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
            audit::write_line(&record, &mut self.batch);
            if self.batch.len() >= limits::AUDIT_BATCH_BYTES_MAX {
                return;
            }
            next = self.queue.pop();
        }
    }

    /// Writes the whole batch.
    fn write(&mut self) -> io::Result<()> {
        if self.batch.is_empty() {
            return Ok(());
        }
        while self.written < self.batch.len() {
            match self.target.write(&self.batch[self.written..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => self.written += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if self.target.never_takes(&error) => self.drop_line(),
                Err(error) => return Err(error),
            }
        }
        self.batch.clear();
        self.written = 0;
        if self.told.take().is_some() {
            tracing::info!(target = %self.target, dropped = self.queue.dropped(), "the audit is written again");
        }
        self.queue.set_failing(false);
        if !self.queue.is_finished() {
            thread::sleep(limits::AUDIT_PAUSE);
        }
        Ok(())
    }

    /// Leaves out the line that comes next.
    fn drop_line(&mut self) {
        let rest = &self.batch[self.written..];
        self.written += rest.iter().position(|byte| *byte == b'\n').map_or(rest.len(), |end| end + 1);
        self.queue.count_dropped(1);
    }

    /// Opens the target again. Where that gives another file, the line that was cut short starts over in it.
    fn open_anew(&mut self) {
        match self.target.reopen() {
            Ok(target::Opened::Same) => {}
            Ok(target::Opened::Another) => self.written = start_of_line(&self.batch, self.written),
            Err(error) => self.tell(&error),
        }
    }

    /// Says once in a while that the audit is not being written.
    fn tell(&mut self, error: &io::Error) {
        self.queue.set_failing(true);
        if self.told.is_none_or(|told| told.elapsed() >= limits::LOG_FAULT_EVERY) {
            self.told = Some(Instant::now());
            tracing::error!(
                target = %self.target, %error, dropped = self.queue.dropped(),
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
        tracing::error!(lost, target = %self.target, "audit lines are lost: they could not be written before the end");
        true
    }
}

/// Where the line begins that byte `at` of `lines` belongs to.
fn start_of_line(lines: &[u8], at: usize) -> usize {
    lines[..at].iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1)
}

#[cfg(test)]
mod tests;
