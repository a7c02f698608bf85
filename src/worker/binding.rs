//! From the addresses of listeners to sockets for each worker: bound here, handed over, or passed by the service manager.

use super::accepting::{Lent, ListenKey, Listening};
use super::start_error::StartError;
use crate::config::{ListenAddress, Listener, limits};
use crate::sys::{self, ListenOptions, Passed};
use std::io;
use std::net::{SocketAddr, TcpListener};

/// For each worker its new sockets, and the addresses that all workers then listen on.
#[derive(Debug)]
pub(super) struct Bound {
    pub sockets: Vec<Vec<Listening>>,
    pub addresses: Vec<(ListenKey, SocketAddr)>,
}

/// Where sockets come from that are not bound here.
pub(super) struct Sources<'a> {
    /// What is listened on already, and goes on.
    pub known: &'a [(ListenKey, SocketAddr)],
    /// From the process before.
    pub inherited: Vec<Lent>,
    /// From the service manager.
    pub passed: &'a [Passed],
}

/// Finds or binds what `listeners` name and is not known yet, for each of `workers`.
pub(super) fn bind(listeners: &[Listener], mut sources: Sources<'_>, workers: usize) -> Result<Bound, StartError> {
    let mut bound = Bound { sockets: (0..workers).map(|_| Vec::new()).collect(), addresses: Vec::new() };
    find_others(listeners, &sources)?;
    for listener in listeners {
        let options = ListenOptions { keepalive: listener.tcp_keepalive, backlog: limits::ACCEPT_QUEUE };
        for address in &listener.addresses {
            let key = ListenKey { listener: listener.name.clone(), address: address.clone() };
            let before = bound.addresses.len();
            bound.addresses.extend(sources.known.iter().filter(|(known, _)| *known == key).cloned());
            if bound.addresses.len() > before {
                continue;
            }
            match address {
                ListenAddress::Ip(ip) => bound.own(&mut sources.inherited, key, *ip, options)?,
                ListenAddress::Systemd(name) => bound.passed(sources.passed, &key, name, options)?,
            }
        }
    }
    Ok(bound)
}

impl Bound {
    /// One socket a worker, those of the process before first.
    fn own(
        &mut self,
        inherited: &mut Vec<Lent>,
        key: ListenKey,
        wanted: SocketAddr,
        options: ListenOptions,
    ) -> Result<(), StartError> {
        let fault = |error| failed(&key, error);
        let mut address = wanted;
        let heirlooms = heirlooms(inherited, &key, wanted);
        if let Some(first) = heirlooms.first() {
            address = first.local_addr().map_err(fault)?;
        }
        let (found, workers) = (heirlooms.len(), self.sockets.len());
        // With fewer workers than there were, some accept on several: each socket has a queue of its own.
        for (number, socket) in heirlooms.into_iter().enumerate() {
            sys::set_keepalive(&socket, options.keepalive).map_err(fault)?;
            self.sockets[number % workers].push((key.clone(), socket));
        }
        for own in self.sockets.iter_mut().skip(found) {
            let socket = sys::listen(address, options).map_err(fault)?;
            // The first worker resolves port 0 for all.
            address = socket.local_addr().map_err(fault)?;
            own.push((key.clone(), socket));
        }
        self.addresses.push((key, address));
        Ok(())
    }

    /// Every socket of that name, address by address. Each has at least one worker and each worker at least one of them:
    /// where they are fewer than the workers, several accept on the same.
    fn passed(
        &mut self,
        passed: &[Passed],
        key: &ListenKey,
        name: &str,
        options: ListenOptions,
    ) -> Result<(), StartError> {
        let fault = |error| failed(key, error);
        let workers = self.sockets.len();
        for (address, group) in by_address(passed, key, name)? {
            for socket in &group {
                sys::adopt(socket, options).map_err(fault)?;
            }
            for number in 0..group.len().max(workers) {
                let socket = group[number % group.len()].try_clone().map_err(fault)?;
                self.sockets[number % workers].push((key.clone(), socket));
            }
            if group.len() < workers {
                let sockets = group.len();
                tracing::info!(
                    listener = %key.listener, %address, sockets, workers,
                    "the workers share what systemd opened; with ReusePort=yes and a ListenStream= line for each worker, \
                     each has a queue of its own"
                );
            }
            self.addresses.push((key.clone(), address));
        }
        Ok(())
    }
}

/// Fails where another process listens on an address, before any of ours is bound: a trial cannot tell ours from others,
/// and 127.0.0.1 may well stand beside 0.0.0.0.
fn find_others(listeners: &[Listener], sources: &Sources<'_>) -> Result<(), StartError> {
    let inherited = sources.inherited.iter().map(|lent| &lent.socket);
    let passed = sources.passed.iter().filter_map(|one| one.socket.as_ref().ok());
    let ours = inherited.chain(passed).filter_map(|socket| socket.local_addr().ok());
    let ours: Vec<SocketAddr> = sources.known.iter().map(|(_, bound)| *bound).chain(ours).collect();
    let meets = |one: SocketAddr, other: SocketAddr| {
        let every = one.ip().is_unspecified() || other.ip().is_unspecified();
        one.port() == other.port() && one.is_ipv4() == other.is_ipv4() && (every || one.ip() == other.ip())
    };
    for listener in listeners {
        let new = |address: &SocketAddr| address.port() != 0 && !ours.iter().any(|own| meets(*own, *address));
        for address in listener.addresses.iter().filter_map(ListenAddress::ip).filter(new) {
            let key = || ListenKey { listener: listener.name.clone(), address: ListenAddress::Ip(address) };
            sys::probe_address(address).map_err(|error| failed(&key(), error))?;
        }
    }
    Ok(())
}

fn failed(key: &ListenKey, error: io::Error) -> StartError {
    StartError::Bind { listener: key.listener.to_string(), address: key.address.clone(), error }
}

/// The sockets of that name, sorted by what they are bound to.
fn by_address<'a>(
    passed: &'a [Passed],
    key: &ListenKey,
    name: &str,
) -> Result<Vec<(SocketAddr, Vec<&'a TcpListener>)>, StartError> {
    let listener = || key.listener.to_string();
    let mut groups: Vec<(SocketAddr, Vec<&TcpListener>)> = Vec::new();
    for one in passed.iter().filter(|one| one.name == name) {
        let unfit = |problem: &String| StartError::Unfit {
            listener: listener(),
            name: name.to_owned(),
            problem: problem.clone(),
        };
        let socket = one.socket.as_ref().map_err(unfit)?;
        let address = socket.local_addr().map_err(|error| failed(key, error))?;
        match groups.iter_mut().find(|(known, _)| *known == address) {
            Some((_, group)) => group.push(socket),
            None => groups.push((address, vec![socket])),
        }
    }
    if groups.is_empty() {
        let mut names: Vec<String> = passed.iter().map(|one| format!("{:?}", one.name)).collect();
        names.sort_unstable();
        names.dedup();
        return Err(StartError::NotPassed { listener: listener(), name: name.to_owned(), passed: names });
    }
    Ok(groups)
}

/// Takes out of `inherited` what belongs to `key`, by worker: the sockets of its listener and address as they are written,
/// else those that are bound to the address.
fn heirlooms(inherited: &mut Vec<Lent>, key: &ListenKey, wanted: SocketAddr) -> Vec<TcpListener> {
    let by_name = |lent: &Lent| lent.listener == key.listener && lent.address == wanted;
    let by_address = |lent: &Lent| lent.socket.local_addr().is_ok_and(|bound| bound == wanted);
    let named = inherited.iter().any(by_name);
    let mut found: Vec<Lent> =
        inherited.extract_if(.., |lent| if named { by_name(lent) } else { by_address(lent) }).collect();
    found.sort_by_key(|lent| lent.worker);
    found.into_iter().map(|lent| lent.socket).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;
    use std::sync::Arc;

    const OPTIONS: ListenOptions = ListenOptions { keepalive: std::time::Duration::ZERO, backlog: 16 };

    fn group(name: &str, count: usize) -> Vec<Passed> {
        let mut address = "127.0.0.1:0".parse().unwrap();
        let one = |_| {
            let socket = sys::listen(address, OPTIONS).unwrap();
            address = socket.local_addr().unwrap();
            Passed { name: name.to_owned(), socket: Ok(socket) }
        };
        (0..count).map(one).collect()
    }

    fn spread(passed: &[Passed], workers: usize) -> Result<Bound, StartError> {
        let mut bound = Bound { sockets: (0..workers).map(|_| Vec::new()).collect(), addresses: Vec::new() };
        let key = ListenKey { listener: Arc::from("public"), address: ListenAddress::Systemd("web".into()) };
        bound.passed(passed, &key, "web", OPTIONS).map(|()| bound)
    }

    /// Which of the passed sockets each worker has: duplicates share what is set on one of them.
    fn who_has_what(passed: &[Passed], bound: &Bound) -> Vec<Vec<usize>> {
        for (number, one) in passed.iter().enumerate() {
            let keepalive = std::time::Duration::from_secs(100 + number as u64);
            sys::set_keepalive(one.socket.as_ref().unwrap(), keepalive).unwrap();
        }
        let number_of = |socket: &TcpListener| {
            assert!(socket.as_raw_fd() > 2);
            socket2::SockRef::from(socket).tcp_keepalive_time().unwrap().as_secs() as usize - 100
        };
        bound.sockets.iter().map(|own| own.iter().map(|(_, socket)| number_of(socket)).collect()).collect()
    }

    #[test]
    fn every_socket_has_a_worker_and_every_worker_a_socket() {
        for (sockets, workers, wanted) in [
            (1, 3, vec![vec![0], vec![0], vec![0]]),
            (2, 3, vec![vec![0], vec![1], vec![0]]),
            (2, 2, vec![vec![0], vec![1]]),
            (3, 2, vec![vec![0, 2], vec![1]]),
        ] {
            let passed = group("web", sockets);
            let bound = spread(&passed, workers).unwrap();
            assert_eq!(who_has_what(&passed, &bound), wanted);
            assert_eq!(bound.addresses.len(), 1);
        }
    }

    #[test]
    fn one_name_may_have_several_addresses() {
        let mut passed = group("web", 2);
        passed.extend(group("web", 1));
        passed.extend(group("other", 1));
        let bound = spread(&passed, 2).unwrap();
        assert_eq!(who_has_what(&passed, &bound), [[0, 2], [1, 2]]);
        assert_eq!(bound.addresses.len(), 2);
    }

    #[test]
    fn a_name_that_was_not_passed_and_a_socket_of_another_kind_are_refused_in_words() {
        let told = spread(&group("other", 2), 1).unwrap_err();
        assert_eq!(told.exit_code(), 78);
        assert!(told.to_string().contains("those that were passed are \"other\";"), "{told}");
        assert!(spread(&[], 1).unwrap_err().to_string().contains("none were passed"));
        let unfit = [Passed { name: "web".to_owned(), socket: Err("is a unix socket; write so".to_owned()) }];
        assert!(spread(&unfit, 1).unwrap_err().to_string().ends_with("it is a unix socket; write so"));
    }
}
