//! One CPU's loop and what it is given: the [`Snapshot`], commands, queues back to the control thread.

#![forbid(unsafe_code)]

pub mod audit_queue;
pub mod counters;
