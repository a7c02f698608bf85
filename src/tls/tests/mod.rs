//! Handshakes with real rustls clients, in memory. Time is whatever the test says.

mod client;
mod clock;
mod handshakes;
mod kernel;
mod layer;
mod loading;
mod pki;
mod records;
mod refusals;
mod resumption;
mod sites;
pub(super) mod support;
