//! Which socket of a SO_REUSEPORT group takes a connection: by default the kernel spreads them by a hash of the addresses;
//! with [`steer_by_cpu`] the CPU that took the packet decides.
//!
//! The kernel numbers the sockets of a group in the order of their `listen`, and asks the program, a classic BPF one, for
//! such a number. A number that no socket has means the hash (Linux net/core/sock_reuseport.c, 4.5 and later).

use std::io;
use std::net::TcpListener;
use std::os::fd::AsRawFd;

/// What a program says where it does not care: no socket has this number.
const NO_SOCKET: u32 = u32::MAX;
/// Where a program finds the number of the CPU that it runs on.
const CURRENT_CPU: u32 = (libc::SKF_AD_OFF + libc::SKF_AD_CPU) as u32;

/// From now on a connection whose first packet `cpus[n]` takes goes to the `n`th socket of the group that `member` belongs
/// to; those of other CPUs are spread by hash.
///
/// # Errors
/// What setsockopt says: EINVAL for more CPUs than a program has room for (2047), ENOPROTOOPT where there is no such option.
pub fn steer_by_cpu(member: &TcpListener, cpus: &[usize]) -> io::Result<()> {
    let mut steps = program(cpus);
    let len = u16::try_from(steps.len()).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    let program = libc::sock_fprog { len, filter: steps.as_mut_ptr() };
    // SAFETY: the option takes a `sock_fprog` of this size, and copies the `len` steps that it points to during the call.
    let result = unsafe {
        libc::setsockopt(
            member.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_REUSEPORT_CBPF,
            (&raw const program).cast(),
            size_of::<libc::sock_fprog>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The CPU's number, compared with each that is known.
fn program(cpus: &[usize]) -> Vec<libc::sock_filter> {
    let step = |code: u32, if_not: u8, value: u32| libc::sock_filter { code: code as u16, jt: 0, jf: if_not, k: value };
    let answer = |number: u32| step(libc::BPF_RET | libc::BPF_K, 0, number);
    let load = step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, CURRENT_CPU);
    let mut steps = vec![load];
    for (number, cpu) in (0..).zip(cpus) {
        let equal = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
        steps.extend([step(equal, 1, *cpu as u32), answer(number)]);
    }
    steps.push(answer(NO_SOCKET));
    steps
}

#[cfg(test)]
mod tests {
    use super::super::affinity::{allowed_cpus, pin_to};
    use super::super::{ListenOptions, listen};
    use super::*;
    use std::net::{SocketAddr, TcpStream};
    use std::time::Duration;

    /// Sockets of one group, in the order of their `listen`.
    fn group(members: usize) -> (SocketAddr, Vec<TcpListener>) {
        let options = ListenOptions { keepalive: Duration::ZERO, backlog: 64 };
        let mut address: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let mut sockets = Vec::new();
        for _ in 0..members {
            let socket = listen(address, options).unwrap();
            socket.set_nonblocking(true).unwrap();
            address = socket.local_addr().unwrap();
            sockets.push(socket);
        }
        (address, sockets)
    }

    /// How many of `count` connections made on `cpu` each socket got.
    fn made_on(cpu: usize, count: usize, address: SocketAddr, sockets: &[TcpListener]) -> Vec<usize> {
        let make = move || {
            assert!(pin_to(cpu));
            (0..count).map(|_| TcpStream::connect(address).unwrap()).collect::<Vec<_>>()
        };
        let _connections = std::thread::spawn(make).join().unwrap();
        sockets.iter().map(|socket| std::iter::from_fn(|| socket.accept().ok()).count()).collect()
    }

    #[test]
    fn the_cpu_that_took_the_packet_chooses_the_socket_whatever_its_number() {
        let cpus = allowed_cpus();
        let [first, second, ..] = cpus[..] else {
            println!("skipped: one CPU alone");
            return;
        };
        for order in [[first, second], [second, first]] {
            let (address, sockets) = group(2);
            steer_by_cpu(&sockets[1], &order).unwrap();
            assert_eq!(made_on(order[0], 20, address, &sockets), [20, 0]);
            assert_eq!(made_on(order[1], 20, address, &sockets), [0, 20]);
        }
    }

    #[test]
    fn a_cpu_without_a_socket_of_its_own_is_spread_by_hash() {
        let (address, sockets) = group(2);
        // No machine has these, and the last is behind all real ones.
        steer_by_cpu(&sockets[0], &[100_000, 100_001]).unwrap();
        let got = made_on(allowed_cpus()[0], 64, address, &sockets);
        assert_eq!(got.iter().sum::<usize>(), 64);
        assert!(got.iter().all(|count| *count > 0), "{got:?}");
    }

    #[test]
    fn more_cpus_than_a_program_has_room_for_are_refused() {
        let (_, sockets) = group(1);
        steer_by_cpu(&sockets[0], &(0..2047).collect::<Vec<_>>()).unwrap();
        let error = steer_by_cpu(&sockets[0], &(0..2048).collect::<Vec<_>>()).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
    }
}
