//! Every bound of the program, in one place. Bounds that the operator sets have their defaults in the contract;
//! these are the ones that no key changes.

use std::time::Duration;

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
/// Seconds by which clocks of hosts (and of workers) may differ when a ticket's time of issue is looked at.
pub const TICKET_CLOCK_SKEW_SECS: u64 = 60;
/// Bytes that a secret shared by a fleet has at least.
pub const TICKET_SECRET_BYTES_MIN: usize = 32;
/// Bytes of the longest TLS record: header, 2^14 bytes of plaintext and what encryption may add (RFC 5246 section 6.2.3).
pub const TLS_RECORD_BYTES_MAX: usize = 5 + (16 << 10) + 2048;
/// Candidate paths that one presented chain may cost.
pub const PATHS_TRIED_MAX: usize = 4;
/// Issuers that the search for candidate paths may try.
pub const PATH_STEPS_MAX: usize = 256;
/// Intermediates of a path that the search looks at, so that a path past `max_depth` (at most 6) can be told from none.
pub const PATH_INTERMEDIATES_SEARCHED_MAX: usize = 8;
/// Anchors of one site that share a name and differ in their key: each may cost a candidate path one signature.
pub const ANCHORS_SAME_NAME_MAX: usize = 16;
/// Extensions of a certificate or CRL; real ones have about ten.
pub const EXTENSIONS_MAX: usize = 64;
/// Attributes of a distinguished name; real ones have about five.
pub const NAME_ATTRIBUTES_MAX: usize = 128;
/// Alternative names of a certificate: each rule may look at each, before anybody has vouched for them.
pub const ALTERNATIVE_NAMES_MAX: usize = 512;
/// Bytes of a URI that a wildcard is tried on; a SPIFFE identity has at most 2048.
pub const URI_MATCHED_BYTES_MAX: usize = 4096;
/// Bytes of a reason's detail.
pub const REASON_DETAIL_BYTES_MAX: usize = 1024;
/// Bytes of one name inside a detail.
pub const REASON_NAME_BYTES_MAX: usize = 200;
/// Bytes of an identity; a SPIFFE identity has at most 2048. A longer name is not used: the certificate's digest is.
pub const IDENTITY_BYTES_MAX: usize = 2100;
/// Bytes of the list of names in CertificateRequest: its length field has 16 bits.
pub const ADVERTISED_BYTES_MAX: usize = 65_535;
/// Bytes of that list from which on it is unwise: some clients read no more in one record.
pub const ADVERTISED_BYTES_WISE: usize = 16 << 10;
/// Certificates and CRLs of one file.
pub const PEM_BLOCKS_MAX: usize = 16_384;
/// Blocks in force.
pub const BLOCKS_MAX: usize = 100_000;
/// Entries of a worker's own chain cache.
pub const CHAIN_CACHE_WORKER_ENTRIES_MAX: usize = 4096;
/// Entries of a worker's cache for chains with superfluous certificates.
pub const CHAIN_CACHE_UNTIDY_ENTRIES_MAX: usize = 64;
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
/// Descriptors that one turn of an epoll loop hears of.
pub const EPOLL_EVENTS_PER_TURN: usize = 256;
/// Connections that one turn of a loop takes from one listener: over epoll, and near a limit.
pub const EPOLL_ACCEPTS_PER_TURN: usize = 64;
/// Tasks polled before the loop looks at the kernel again.
pub const TASKS_PER_TURN_MAX: usize = 256;
/// Sites of one configuration.
pub const SITES_MAX: usize = 4096;
/// Bytes of a PROXY header from a balancer in front of us: HAProxy's own buffer, so that no sender is longer in practice.
pub const PROXY_HEADER_BYTES_MAX: usize = 16 << 10;
/// Bytes of the AUTHORITY TLV that we send; HAProxy refuses longer ones.
pub const PROXY_AUTHORITY_BYTES_MAX: usize = 255;
/// Bytes of one text in the SSL TLV that we send; HAProxy refuses an SSL TLV past 1 KiB.
pub const PROXY_TEXT_BYTES_MAX: usize = 512;
/// Bytes of one text in an audit line, escapes counted; a SPIFFE identity has at most 2048.
pub const AUDIT_TEXT_BYTES_MAX: usize = 2100;
/// Bytes of one list in an audit line (`san`), escapes counted.
pub const AUDIT_LIST_BYTES_MAX: usize = 8 << 10;
/// Bytes of one audit line, newline included: follows from the two above, and stays below journald's 48 KiB.
pub const AUDIT_LINE_BYTES_MAX: usize = 40 << 10;
/// Between looks at how many connections are left, while draining.
pub const DRAIN_LOOK_AGAIN: Duration = Duration::from_millis(20);
/// For a new process to come up and take over: CRLs of a million entries take seconds to load.
pub const HAND_OVER_TIME_MAX: Duration = Duration::from_secs(300);
/// For each single word between the two processes.
pub const HAND_OVER_WORD_TIME_MAX: Duration = Duration::from_secs(10);
/// Bytes of one message between them: the blocks are the longest.
pub const HAND_OVER_BYTES_MAX: usize = BLOCKS_FILE_BYTES_MAX as usize;
/// Verified chains that are handed over, and their bytes.
pub const HANDED_CHAINS_MAX: usize = 4096;
pub const HANDED_CHAINS_BYTES_MAX: usize = 16 << 20;
/// For judging them anew.
pub const HANDED_CHAINS_TIME_MAX: Duration = Duration::from_secs(2);
/// The share of resumed handshakes after a hand-over is told once there were so many, or after this time.
pub const AFTER_HAND_OVER: (u64, Duration) = (1000, Duration::from_secs(60));
/// For how long more the service manager is asked for patience at a time while the process drains.
pub const STOP_EXTENSION: Duration = Duration::from_secs(15);
/// Between looks at a worker that does not turn, while the watchdog waits.
pub const WATCHDOG_LOOK_AGAIN: Duration = Duration::from_millis(20);
/// After a listening socket was told to begin no further connection: for the last part of those handshakes of TCP that
/// had begun, before the socket closes.
pub const LAST_ARRIVALS: Duration = Duration::from_millis(200);
/// Nothing has moved on a connection for so long, and nobody waits for an answer: a drain may end it before its deadline.
pub const IDLE_QUIET: Duration = Duration::from_secs(2);
/// A draining worker looks for idle connections this often, or less often in a long drain.
pub const IDLE_LOOK: Duration = Duration::from_millis(100);
/// Looks for idle connections in a drain, at most.
pub const IDLE_LOOKS_MAX: u32 = 1000;
/// What a duration that no clock can hold is taken for.
pub const NEVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
/// For the workers to end once they were told to.
pub const WORKERS_END_TIME_MAX: Duration = Duration::from_secs(5);
/// Bytes of audit lines written at once.
pub const AUDIT_BATCH_BYTES_MAX: usize = 128 << 10;
/// Between attempts to write audit lines after one failed.
pub const AUDIT_RETRY: Duration = Duration::from_secs(1);
/// After a batch, so that a busy writer takes records by the batch and workers need not wake it for each.
pub const AUDIT_PAUSE: Duration = Duration::from_millis(2);
/// For writing what is left of the audit when the process ends.
pub const AUDIT_END_TIME_MAX: Duration = Duration::from_secs(3);
/// Between two log lines about one lasting fault.
pub const LOG_FAULT_EVERY: Duration = Duration::from_secs(60);
/// Lines of the operator's log waiting to be written.
pub const LOG_LINES_MAX: usize = 4096;
/// For writing what is left of the log when the process ends.
pub const LOG_END_TIME_MAX: Duration = Duration::from_secs(2);
/// Connections to one admin address; the oldest gives way to the next.
pub const ADMIN_CONNECTIONS_MAX: usize = 64;
/// Bytes of the head of an admin request.
pub const ADMIN_HEAD_BYTES_MAX: usize = 16 << 10;
/// Header fields of an admin request.
pub const ADMIN_HEADERS_MAX: usize = 64;
/// For the head of an admin request, and between requests.
pub const ADMIN_HEAD_TIME_MAX: Duration = Duration::from_secs(30);
/// After accepting an admin connection failed.
pub const ADMIN_ACCEPT_PAUSE: Duration = Duration::from_millis(200);
/// Sites and listeners up to which metrics are shown that are still zero.
pub const ZERO_SERIES_MAX: usize = 16;
/// Listeners of one configuration.
pub const LISTENERS_MAX: usize = 256;
/// Backends of one configuration.
pub const BACKENDS_MAX: usize = 4096;
/// Faults said of one configuration; further ones are counted.
pub const FAULTS_MAX: usize = 200;
/// Longest duration that a key takes: ten years, far from where adding it to a clock overflows.
pub const DURATION_MAX: std::time::Duration = std::time::Duration::from_secs(3650 * 86400);
/// Highest CPU number, as in the kernel's fixed-size CPU set.
pub const CPU_NUMBER_MAX: usize = 1023;
/// Bytes of a unix socket's path: `sun_path` without its final zero.
pub const UNIX_PATH_BYTES_MAX: usize = 107;
/// Bytes of the name of a passed socket, as systemd bounds it.
pub const PASSED_NAME_BYTES_MAX: usize = 255;
/// Sockets that the service manager may pass.
pub const PASSED_SOCKETS_MAX: usize = 4096;
/// Bytes of the name of a listener, site, backend or rule: they become labels and log fields.
pub const NAME_BYTES_MAX: usize = 128;
/// Bytes of a text that a rule compares with.
pub const RULE_TEXT_BYTES_MAX: usize = 4096;
/// Bytes of a serial number in a rule. RFC 5280 allows 20; some CAs make longer ones.
pub const SERIAL_BYTES_MAX: usize = 64;
/// Longest life of a ticket: RFC 8446, section 4.6.1.
pub const TICKET_LIFETIME_MAX: std::time::Duration = std::time::Duration::from_secs(7 * 86400);
/// Older ticket keys that may be kept: each costs a try on tickets of unknown keys.
pub const TICKET_KEYS_KEPT_MAX: u32 = 64;
/// Bounds of `client_chain_bytes`: a lone small certificate, and what a handshake message can carry in rustls.
pub const CLIENT_CHAIN_BYTES: (u64, u64) = (1 << 10, 64 << 10);
/// Highest `client_chain_certificates`.
pub const CLIENT_CHAIN_CERTIFICATES_MAX: u32 = 64;
/// Highest `max_depth`: webpki walks no further.
pub const CHAIN_DEPTH_MAX: u32 = 6;
/// How long a client may take to read why it was refused.
pub const GOODBYE_MS_MAX: u64 = 2000;
/// The same where all are cut: a drain's deadline has passed, or somebody asked to stop a second time.
pub const GOODBYE_CUT_MS_MAX: u64 = 200;
/// Bytes swallowed from such a client meanwhile.
pub const GOODBYE_BYTES_MAX: usize = 256 << 10;
/// TLS replies waiting for a client that does not read, before it is read no further.
pub const REPLY_BYTES_MAX: usize = 16 << 10;
/// How often such a connection is looked at again.
pub const REPLY_POLL_MS: u64 = 20;
/// Plaintext bytes of the longest TLS record.
pub const TLS_PLAIN_BYTES_MAX: usize = 16 << 10;
/// Pipes of a worker for kernel TLS: bytes of each, how many empty ones are kept, how many may be in use at once. More
/// connections than that go through user space for the moment.
pub const PIPE_BYTES: usize = 256 << 10;
pub const PIPES_KEPT_MAX: usize = 64;
pub const PIPES_USED_MAX: usize = 256;
/// Bytes moved into a pipe before it is emptied.
pub const PIPE_FILL_BYTES: usize = 64 << 10;
/// Keys are changed so many records before their limit: more than a pipeful can be, and the sixteenth part of AES-GCM's.
pub const RECORDS_MARGIN: u64 = 1 << 20;
/// Bytes of a handshake looked at at once, where the kernel may take over behind it.
pub const HANDSHAKE_PEEK_BYTES: usize = 4 << 10;
/// Times in a row that a socket on the kernel path may be ready for nothing before the loop pauses, and how long.
pub const KERNEL_TLS_MISSES_MAX: u32 = 3;
pub const KERNEL_TLS_PAUSE_MS: u64 = 20;
/// Empty records in a row, KeyUpdates in a row without data, warnings, and wishes to renegotiate that a client may send on
/// the kernel path: what rustls allows in user space.
pub const EMPTY_RECORDS_MAX: u32 = 32;
pub const KEY_UPDATES_BARE_MAX: u32 = 32;
pub const WARNINGS_MAX: u32 = 4;
pub const RENEGOTIATIONS_DECLINED_MAX: u32 = 1;
/// KeyUpdates of a client beyond a burst are read no faster than one in a period; one without data before it counts twice.
pub const KEY_UPDATES_BURST_MAX: u32 = 100;
pub const KEY_UPDATE_PERIOD: Duration = Duration::from_millis(100);
/// An open connection's certificate is looked at again at least this often.
pub const EXPIRY_LOOK_SECONDS_MAX: u64 = 600;
/// Lines about single connections that one worker may write to the operator's log in a second.
pub const LOG_LINES_PER_SECOND_MAX: u32 = 50;
/// Length of a listener's accept queue asked for; net.core.somaxconn caps it.
pub const ACCEPT_QUEUE: i32 = 4096;
/// Places left from which on connections are counted before they are taken, one by one, so that those past a limit wait in
/// the kernel's queue. Below it the kernel takes them by itself: it would need to bring more than this between two turns of a
/// loop to pass the limit, and those would be held unserved.
pub const SCARCE_ROOM: u32 = 512;
/// Descriptors kept free for files, admin and rings when "auto" connections are counted.
pub const DESCRIPTORS_RESERVED: u64 = 128;
/// Memory that one connection may cost, sockets included, when "auto" connections are counted.
pub const CONNECTION_BYTES: u64 = 40 << 10;
/// Connections to the demonstration's backend.
pub const DEMO_CONNECTIONS_MAX: usize = 256;
/// Bytes of a request's head, of a chunk's, and of trailers, at the demonstration's backend.
pub const DEMO_HEAD_BYTES_MAX: usize = 16 << 10;
/// Header fields of a request to the demonstration's backend.
pub const DEMO_HEADERS_MAX: usize = 100;
/// Bytes of a request's body, which the demonstration's backend throws away.
pub const DEMO_BODY_BYTES_MAX: u64 = 64 << 20;
/// For more bytes of a request, or another request, to come to the demonstration's backend.
pub const DEMO_READ_TIME_MAX: Duration = Duration::from_secs(60);
/// Open connections that one turn of a worker's loop judges again after a change of policy.
pub const REJUDGED_PER_TURN: usize = 16;
/// For a worker's loop to turn after it was woken, before it counts as stuck. Below a kubelet's patience of a second.
pub const WORKER_TURN_TIME_MAX: Duration = Duration::from_millis(700);
/// How long a backend may take to end after its client said goodbye and vanished.
pub const GONE_CLIENT_MS: u64 = 1000;
/// Clients of the admin socket at once; the oldest gives way to the next.
pub const CTL_CONNECTIONS_MAX: usize = 64;
/// Bytes of a request over the admin socket: a chain of 64 KiB as PEM inside JSON, and room.
pub const CTL_REQUEST_BYTES_MAX: usize = 256 << 10;
/// Bytes of an answer that `ctl` takes.
pub const CTL_ANSWER_BYTES_MAX: usize = 64 << 20;
/// For a request over the admin socket to come, and for its answer to be taken.
pub const CTL_TIME_MAX: Duration = Duration::from_secs(30);
/// How long `ctl` waits for a reload: CRLs of a million entries take seconds.
pub const CTL_RELOAD_TIME_MAX: Duration = Duration::from_secs(600);
/// Bytes of the reason that an operator gives for a block.
pub const BLOCK_WHY_BYTES_MAX: usize = 500;
/// Bytes of the file that keeps the blocks: all of them with the longest texts.
pub const BLOCKS_FILE_BYTES_MAX: u64 = 256 << 20;
/// The blocks are looked through for those that ran out at least this often.
pub const BLOCKS_LOOK_TIME_MAX: Duration = Duration::from_secs(600);
/// Refused attempts that are remembered.
pub const REFUSALS_KEPT_MAX: usize = 4096;
/// Bytes of one text of a remembered refusal.
pub const REFUSAL_TEXT_BYTES_MAX: usize = 1024;
/// Connections that `ctl sessions` lists.
pub const SESSIONS_SHOWN_MAX: usize = 1000;
/// Identities that `ctl identities` lists.
pub const IDENTITIES_SHOWN_MAX: usize = 10_000;
/// Connections that one turn of a worker's loop looks at for such a list.
pub const SESSIONS_PER_TURN: usize = 256;
/// For the workers to answer a question about their connections.
pub const WORKER_ANSWER_TIME_MAX: Duration = Duration::from_secs(5);
/// Client certificates that a worker remembers between two questions of the control thread.
pub const SIGHTINGS_MAX: usize = 4096;
/// Client certificates that the control thread remembers.
pub const CLIENTS_KEPT_MAX: usize = 50_000;
/// The workers are asked for them at least this often.
pub const CLIENTS_LOOK_EVERY: Duration = Duration::from_secs(60);
/// For them to answer; what comes later is kept for the next question.
pub const CLIENTS_ANSWER_TIME_MAX: Duration = Duration::from_millis(500);
/// Bytes of a client's name in a label or list.
pub const CLIENT_TEXT_BYTES_MAX: usize = 256;
/// Clients whose certificate's end is a series of its own: those that run out first.
pub const CLIENTS_EXPORTED_MAX: usize = 100;
/// What runs out first, in the status.
pub const STATUS_EXPIRIES_MAX: usize = 20;
/// Busiest clients, in the status.
pub const STATUS_IDENTITIES_MAX: usize = 50;
/// Shortest time between two looks at watched files.
pub const WATCH_MIN: Duration = Duration::from_millis(100);
/// Sources of full handshakes that a listener keeps count of: 2 MiB where there is a limit.
pub const SOURCES_TRACKED_MAX: usize = 65_536;
/// Steps of resumed handshakes that one turn of a worker's loop runs. A resumed handshake took 92 microseconds of CPU time in
/// TLS, mostly in two steps (`countersign_handshake_cpu_seconds`, P-256, X25519MLKEM768, a chain in the cache; benches/README.md).
pub const RESUMED_STEPS_PER_TURN: usize = 2;
/// Steps of full handshakes that one turn of a worker's loop runs. One took 176 microseconds in two steps, and a chain that is
/// not in the cache adds up to 170 to the second: so a turn of a storm holds open connections up for 0.2 milliseconds,
/// seldom 0.4. More steps would make them wait longer; the turn itself costs a hundredth of one.
pub const FULL_STEPS_PER_TURN: usize = 1;
/// Health checks under way at once: each needs a descriptor of those that are reserved.
pub const CHECKS_AT_ONCE_MAX: usize = 32;
