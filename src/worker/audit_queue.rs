//! Audit records on their way from the workers to the thread that writes them. Bounded; a push never blocks.

use crate::config::limits;
use crate::wire::audit::{Event, Record};
use crossbeam::queue::ArrayQueue;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::Thread;
use std::time::Duration;

/// Many producers, one writer thread.
#[derive(Debug)]
pub struct AuditQueue {
    records: ArrayQueue<Record>,
    sleeping: AtomicBool,
    writer: OnceLock<Thread>,
    dropped: AtomicU64,
    closed: AtomicBool,
    failing: AtomicBool,
    refusals_alone: AtomicBool,
}

impl Default for AuditQueue {
    fn default() -> Self {
        AuditQueue {
            records: ArrayQueue::new(limits::AUDIT_QUEUE_MAX),
            sleeping: AtomicBool::new(false),
            writer: OnceLock::new(),
            dropped: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            failing: AtomicBool::new(false),
            refusals_alone: AtomicBool::new(false),
        }
    }
}

impl AuditQueue {
    /// Hands a record over; one that finds no room is dropped and counted.
    pub fn push(&self, record: Record) {
        if self.refusals_alone.load(Ordering::Relaxed) && !is_refusal(&record) {
            return;
        }
        if self.records.push(record).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        self.wake();
    }

    /// Said by the writer: nothing is written, so that records other than refusals are left out and cost nothing.
    pub fn keep_refusals_alone(&self, alone: bool) {
        self.refusals_alone.store(alone, Ordering::Relaxed);
    }

    /// Counts records that the writer took but could not write.
    pub fn count_dropped(&self, n: u64) {
        self.dropped.fetch_add(n, Ordering::Relaxed);
    }

    /// Records lost so far.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Whether a push would be dropped now.
    pub fn is_full(&self) -> bool {
        self.records.is_full()
    }

    /// Said by the writer: whether its last write failed.
    pub fn set_failing(&self, failing: bool) {
        self.failing.store(failing, Ordering::Relaxed);
    }

    /// Whether the audit cannot be kept now: the last write failed, or there is no room. What new connections are
    /// refused by where `audit.on_full` is `refuse`.
    pub fn is_failing(&self) -> bool {
        self.failing.load(Ordering::Relaxed) || self.is_full()
    }

    /// Whether no more records will come.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// The writer's side: the next record, if there is one now.
    pub fn pop(&self) -> Option<Record> {
        self.records.pop()
    }

    /// No more records will come: the writer ends once it has taken what is here.
    pub fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.wake();
    }

    /// The writer's side: the next record, waiting for one up to `patience`. `None` after that time, or when closed and
    /// empty ([`AuditQueue::is_finished`] tells which). Call from one thread alone.
    pub fn take(&self, patience: Duration) -> Option<Record> {
        if let Some(record) = self.records.pop() {
            return Some(record);
        }
        self.writer.get_or_init(std::thread::current);
        self.sleeping.store(true, Ordering::SeqCst);
        // A record pushed between the pop above and the store is seen here; one pushed later wakes us.
        if self.records.is_empty() && !self.closed.load(Ordering::SeqCst) {
            std::thread::park_timeout(patience);
        }
        self.sleeping.store(false, Ordering::SeqCst);
        self.records.pop()
    }

    /// Closed, and everything was taken.
    pub fn is_finished(&self) -> bool {
        self.closed.load(Ordering::SeqCst) && self.records.is_empty()
    }

    fn wake(&self) {
        // The queue's own push is sequentially consistent enough on x86 and ARM only together with this fence.
        std::sync::atomic::fence(Ordering::SeqCst);
        if self.sleeping.swap(false, Ordering::SeqCst)
            && let Some(writer) = self.writer.get()
        {
            writer.unpark();
        }
    }
}

fn is_refusal(record: &Record) -> bool {
    matches!(record, Record::Connection(connection) if connection.event == Event::Refused)
}
