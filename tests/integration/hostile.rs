//! Hostile clients against the running program, by a record-level client of our own: after (or in) a real handshake of
//! rustls's it writes whatever records a test likes. Each test is a [`siege::Siege`]: while it lasts a probe client goes on
//! with good handshakes at a site of its own and must see no error, and at its end CPU time and memory are within bounds,
//! each attacker that spoke has exactly one audit line, and nothing reached the attacked backend but what was let in.

mod crowd;
mod flights;
mod floods;
mod hello;
mod panics;
pub mod raw;
pub mod record;
mod resets;
mod shortage;
mod siege;
mod strangers;
mod tickets;
