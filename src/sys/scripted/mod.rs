//! A kernel that a seed directs, for simulations: it completes operations late, short, out of order, cancelled, or with
//! errors; its connections are pipes in memory, its clock is virtual, and it holds the reactor to its promises.
//!
//! What it checks, beside what a test asks of it: no descriptor is closed under an operation or used after its close;
//! no two sends or receives race on one socket; the memory of a send does not change under way; a buffer that was given
//! back is not written to and does not come back twice; at the end nothing is left ([`Net::leaks`]).
//!
//! `kernel` is what the reactor sees, `net` what the world around it uses, `state` and `serve` are what lies between.

mod buffers;
mod dice;
mod faults;
mod files;
mod flight;
mod kernel;
mod net;
mod pipe;
mod serve;
mod state;

pub use dice::Dice;
pub use faults::{Canary, Faults};
pub use net::{Came, Gone, Net, PeerEnd, ServerId};
pub use pipe::Facts;
pub use state::Mode;

#[cfg(test)]
mod tests;
