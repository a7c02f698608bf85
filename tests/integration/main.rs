//! The integration tests: one file a behaviour, each test in a world of its own.

#![forbid(unsafe_code)]
// A test that cannot set its world up has failed: the panic is its report.
#![allow(clippy::unwrap_used)]

mod activation;
mod admin;
mod audit;
mod backends;
mod blocks;
mod check;
mod clients;
mod clock;
mod confinement;
mod ctl;
mod deadlines;
mod demo;
mod descriptors;
mod endings;
mod exit_codes;
mod explain;
mod generations;
mod hand_over;
mod hostile;
mod integrity;
mod interop;
mod kernel_tls;
mod layering;
mod limits;
mod load_compare;
mod log;
mod many_connections;
mod monitoring;
mod path_bomb;
mod pki_tool;
mod proxy_header;
mod proxy_inbound;
mod proxy_programs;
mod refusals;
mod reload;
mod resumption;
mod running;
mod servers;
mod service_manager;
mod shutdown;
mod soak;
mod steering;
mod ticket_secrets;
mod tls_options;
mod top;
mod trust;
mod tuning;
mod units;
mod world;
