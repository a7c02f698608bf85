//! Every bound of the program, in one place. Bounds that the operator sets have their defaults in the contract;
//! these are the ones that no key changes.

/// Bytes of a configuration file.
pub const CONFIG_BYTES_MAX: u64 = 4 << 20;
/// Bytes of any certificate, key or OCSP file.
pub const PEM_BYTES_MAX: u64 = 16 << 20;
/// Bytes of one CRL file: a million entries are about 40 MB.
pub const CRL_BYTES_MAX: u64 = 512 << 20;
/// Bytes of TLS records that may come before the ClientHello is complete.
pub const CLIENT_HELLO_BYTES_MAX: usize = 32 << 10;
/// Tickets opened for one ClientHello; the rest count as unknown.
pub const TICKETS_TRIED_MAX: u32 = 4;
/// Bytes of plaintext state in a ticket; a longer one is not issued. rustls clients break on very long tickets.
pub const TICKET_BYTES_MAX: usize = 12 << 10;
/// Candidate paths that one presented chain may cost.
pub const PATHS_TRIED_MAX: usize = 4;
/// Name comparisons that the search for candidate paths may cost.
pub const PATH_STEPS_MAX: usize = 256;
/// Entries of a worker's own chain cache.
pub const CHAIN_CACHE_WORKER_ENTRIES_MAX: usize = 4096;
/// Entries of the chain cache that all workers share.
pub const CHAIN_CACHE_SHARED_ENTRIES_MAX: usize = 65536;
/// Audit records waiting for the writer.
pub const AUDIT_QUEUE_MAX: usize = 16384;
/// Commands waiting for one worker.
pub const COMMAND_QUEUE_MAX: usize = 1024;
/// Small receive buffers of a worker: count and bytes each.
pub const SMALL_BUFFERS: (u16, usize) = (128, 4 << 10);
/// Large receive buffers of a worker: count and bytes each. About 1 MiB stays in the cache.
pub const LARGE_BUFFERS: (u16, usize) = (16, 64 << 10);
/// Outgoing buffers a worker keeps for reuse.
pub const SEND_BUFFERS_KEPT_MAX: usize = 64;
/// Entries of the submission queue.
pub const RING_ENTRIES: u32 = 1024;
/// Entries of the completion queue.
pub const RING_COMPLETIONS: u32 = 8192;
/// Tasks polled before the loop looks at the kernel again.
pub const TASKS_PER_TURN_MAX: usize = 256;
/// Sites of one configuration.
pub const SITES_MAX: usize = 4096;
