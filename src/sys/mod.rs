//! The kernel, and the only `unsafe` of the program: ring and epoll, buffers, sockets, timers, CPU affinity.
//!
//! Everything above speaks to [`Reactor`], [`Socket`], [`Acceptor`] and [`Lease`]. Behind them stands a [`Kernel`]:
//! io_uring, epoll where that is forbidden, and a scripted one in simulations. What holds for all of them:
//!
//! - A buffer or descriptor that an operation uses belongs to the operation until its last completion, whatever
//!   becomes of the future that started it.
//! - Dropping a future cancels its operation. What the operation still brings (bytes in a buffer, an accepted
//!   descriptor) is given back, never leaked; bytes so lost are lost, so only a connection that ends may do it.
//! - Completions carry a generation: one that comes late never reaches a newer operation.
//! - Calls on a socket past the kernel (kernel TLS, splice) may stand beside its operations: [`Socket::ready`] looks anew
//!   each time, over either engine, and what epoll's memory says of a socket errs only toward one try too many.
//!
//! What [`ktls`] and [`splice`] do is tried on real kernels by `tests/vm/run`.

mod acceptor;
mod activation;
pub mod affinity;
mod buffers;
mod clock;
mod direct;
mod epoll;
mod helper;
mod kernel;
pub mod ktls;
pub mod limits;
mod listen;
mod missing;
mod operation;
mod pages;
mod passing;
mod reactor;
mod remote;
mod runtime;
mod sandbox;
#[cfg(test)]
pub mod scripted;
mod socket;
pub mod splice;
mod steering;
mod timers;
mod uring;

pub use acceptor::Acceptor;
pub use activation::{Passed, passed_sockets};
pub use buffers::{BufferSizes, Lease, Size};
pub use clock::thread_cpu_time;
pub use epoll::{Epoll, EpollOptions};
pub use helper::split_off;
pub use kernel::{Completion, End, Family, Kernel, Operation, Token, Wait};
pub use listen::{ListenOptions, adopt, listen, probe_address, set_keepalive};
pub use missing::Missing;
pub use passing::{DESCRIPTORS_MAX, inherited_socket, receive_with, send_with};
pub use reactor::Reactor;
pub use remote::{Remote, Woken};
pub use runtime::Runtime;
pub use sandbox::{Confined, Reach, confine, give_up_files};
pub use socket::{Address, Interest, Socket};
pub use steering::steer_by_cpu;
pub use timers::Sleep;
pub use uring::{RingOptions, Uring, probe};

#[cfg(test)]
mod canary;
#[cfg(test)]
mod tests;
