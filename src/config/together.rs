//! What no part can see alone: names that two sites claim, addresses that two sockets claim, and a catch-all that
//! asks less of clients than a named site does.

use super::listener::Named;
use super::model::*;
use super::site::Draft;
use super::walk::{Place, Table};
use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};

/// The parts that the tables made, before the checks of this module.
pub(super) struct Parts<'a> {
    pub listeners: Vec<Named<'a, Listener>>,
    pub backends: Vec<Named<'a, Backend>>,
    pub sites: Vec<Draft<'a>>,
}

pub(super) fn check(root: &Table<'_>, parts: &Parts<'_>, admin: Option<&Admin>) {
    check_addresses(root, parts, admin);
    check_site_names(&parts.sites);
    check_server_names(parts);
    check_catch_alls(parts);
    check_depths(parts);
    warn_of_idle_parts(parts);
}

/// An address serves one purpose. SO_REUSEPORT would let two listeners bind the same one and take each other's
/// connections at random.
fn check_addresses(root: &Table<'_>, parts: &Parts<'_>, admin: Option<&Admin>) {
    let mut taken: HashMap<ListenAddress, String> = HashMap::new();
    let mut claim = |address: ListenAddress, owner: String, place: &Place<'_>| {
        // The kernel gives every port 0 another number.
        if address.ip().is_some_and(|ip| ip.port() == 0) {
            return;
        }
        if let Some(other) = taken.insert(address.clone(), owner) {
            place.fault(format!("{address} is taken by {other}"), "give each its own address or port");
        }
    };
    for listener in &parts.listeners {
        for address in &listener.item.addresses {
            let owner = format!("the listener of line {}", listener.table.place.line());
            claim(address.clone(), owner, &listener.table.place_of("address"));
        }
    }
    for (key, address) in admin.iter().flat_map(|admin| [("http", admin.http), ("probe", admin.probe)]) {
        if let Some(address) = address {
            claim(address.into(), format!("admin.{key}"), &root.place_of(&format!("admin.{key}")));
        }
    }
    let bound: HashSet<SocketAddr> = taken.into_keys().filter_map(|address| address.ip()).collect();
    refuse_covered_admin(root, &bound, admin);
    warn_of_covered_addresses(&bound, &parts.listeners);
    refuse_loops(&bound, &parts.backends);
}

/// Next to a listener on every address, one on a single address gets what is sent there: legal, rarely meant.
fn warn_of_covered_addresses(bound: &HashSet<SocketAddr>, listeners: &[Named<'_, Listener>]) {
    for listener in listeners {
        let named = listener.item.addresses.iter().filter_map(ListenAddress::ip);
        for address in named.filter(|address| !address.ip().is_unspecified()) {
            let every = SocketAddr::new(unspecified_like(address.ip()), address.port());
            if bound.contains(&every) && !listener.item.addresses.contains(&every.into()) {
                let message = format!("{every} is bound too: connections to {address} come here, all others there");
                listener.table.place_of("address").warn(message, "use another port if this is not meant");
            }
        }
    }
}

/// Unlike listeners, the admin addresses cannot stand beside others of the same port on every address.
fn refuse_covered_admin(root: &Table<'_>, bound: &HashSet<SocketAddr>, admin: Option<&Admin>) {
    for (key, address) in admin.iter().flat_map(|admin| [("http", admin.http), ("probe", admin.probe)]) {
        let Some(address) = address.filter(|address| address.port() != 0) else { continue };
        // Of the two, `probe` is the one to change.
        let named = |other: &SocketAddr| key == "http" && admin.is_some_and(|admin| admin.probe == Some(*other));
        let others = bound.iter().filter(|other| **other != address && cover_each_other(**other, address));
        if let Some(other) = others.filter(|other| !named(other)).min() {
            let message = format!("{address} cannot be bound beside {other}: one of them is every address");
            root.place_of(&format!("admin.{key}")).fault(message, "give each its own port");
        }
    }
}

/// Whether one is every address of the other's kind, at the same port.
fn cover_each_other(one: SocketAddr, other: SocketAddr) -> bool {
    let covers =
        |one: SocketAddr, other: SocketAddr| one == SocketAddr::new(unspecified_like(other.ip()), other.port());
    covers(one, other) || covers(other, one)
}

/// A backend that is one of our own listeners would connect to itself without end.
fn refuse_loops(bound: &HashSet<SocketAddr>, backends: &[Named<'_, Backend>]) {
    for backend in backends {
        for server in &backend.item.servers {
            let Server::Tcp(address) = server else { continue };
            let every = SocketAddr::new(unspecified_like(address.ip()), address.port());
            if bound.contains(address) || (address.ip().is_loopback() && bound.contains(&every)) {
                let message = format!("{address} is an address of this server itself");
                backend.table.place_of("servers").fault(message, "write the address of the service behind it");
            }
        }
    }
}

fn unspecified_like(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
    }
}

/// A site is known by its listener and its name: audit, metrics and tickets have both.
fn check_site_names(sites: &[Draft<'_>]) {
    let mut lines: HashMap<(usize, &str), usize> = HashMap::new();
    for draft in sites {
        if let Some(first) = lines.insert((draft.site.listener, &draft.site.name), draft.table.place.line()) {
            let message = format!("{:?} is the name of the site of line {first} too", draft.site.name);
            draft.table.place_of("name").fault(message, "give each site of a listener a `name` of its own");
        }
    }
}

/// Each server name leads to one site of a listener, and so does every other name.
fn check_server_names(parts: &Parts<'_>) {
    let mut lines: HashMap<(usize, Option<&SiteName>), usize> = HashMap::new();
    for draft in &parts.sites {
        let listener = draft.site.listener;
        for (name, place) in draft.site.names.iter().zip(&draft.names) {
            if let Some(first) = lines.insert((listener, Some(name)), place.line()) {
                let message = format!("{name} leads to the site of line {first} already");
                place.fault(message, "leave it in one site of the listener");
            }
        }
        // A site whose names are all at fault is no catch-all.
        let is_catch_all = draft.site.names.is_empty() && !draft.table.place_of("names").has_fault_below();
        if is_catch_all && let Some(first) = lines.insert((listener, None), draft.table.place.line()) {
            let message = format!("the site of line {first} takes every other name of this listener already");
            draft.table.place_of("names").fault(message, "write the names that this site answers to");
        }
    }
}

/// How much a mode asks of clients.
fn strictness(auth: Auth) -> u8 {
    match auth {
        Auth::Require | Auth::Pin => 3,
        Auth::Optional => 2,
        Auth::Request => 1,
        Auth::Off => 0,
    }
}

/// A client chooses the name it sends: a catch-all that asks less is a way round the named site, and into the same
/// backend it is a way in.
fn check_catch_alls(parts: &Parts<'_>) {
    for catch_all in parts.sites.iter().filter(|draft| draft.site.names.is_empty()) {
        let site = &catch_all.site;
        let named = parts.sites.iter().map(|draft| &draft.site).filter(|other| {
            !other.names.is_empty()
                && other.listener == site.listener
                && strictness(other.client.auth) > strictness(site.client.auth)
        });
        let place = catch_all.table.place_of("client.auth");
        for stricter in named {
            let help = format!("ask as much here as {:?} does, or give this site `names`", stricter.name);
            let less = format!("this catch-all asks less of clients than the site {:?} does", stricter.name);
            if site.backend == stricter.backend {
                place.fault(format!("{less}, and both lead to the same backend: any other name is a way round"), help);
                break;
            }
            let shared = parts.backends[site.backend]
                .item
                .servers
                .iter()
                .find(|server| parts.backends[stricter.backend].item.servers.contains(server));
            match shared {
                Some(server) => {
                    place.warn(format!("{less}, and both reach {server}: any other name is a way round"), help)
                }
                None => place.warn(less, help),
            }
        }
    }
}

/// `max_depth` promises chains that the listener has to take.
fn check_depths(parts: &Parts<'_>) {
    for draft in parts.sites.iter().filter(|draft| draft.site.client.auth != Auth::Off) {
        let limit = parts.listeners[draft.site.listener].item.limits.client_chain_certificates;
        let depth = draft.site.client.max_depth;
        if depth + 1 > limit {
            let message = format!(
                "{depth} intermediates and the leaf are more than the {limit} certificates that the listener takes"
            );
            let help = "raise client_chain_certificates of the listener, or lower max_depth";
            draft.table.place_of("client.max_depth").warn(message, help);
        }
    }
}

/// What a listener asks of the kernel, and what the process may give it. Both ways of the contradiction are harmless: `off`
/// always wins, and "require" is about the machine, of which a listener may make no use.
pub(super) fn warn_of_kernel_tls(runtime: &Runtime, listeners: &[Named<'_, Listener>]) {
    for listener in listeners {
        let KernelPath { ktls, splice } = listener.item.kernel;
        let asks = !matches!(ktls, Directions::Off | Directions::Auto);
        match (runtime.ktls, ktls) {
            (Ktls::Off, _) if asks => listener.table.place_of("ktls").warn(
                "has no effect beside runtime.ktls = \"off\": all bytes go through user space",
                "write ktls = \"auto\" in [runtime], or leave this key out",
            ),
            (Ktls::Require, Directions::Off) => listener.table.place_of("ktls").warn(
                "keeps this listener in user space, while runtime.ktls = \"require\" demands a kernel that could do it",
                "write ktls = \"auto\" in [runtime], or leave this key out",
            ),
            _ => {}
        }
        if splice == Splice::On && (ktls == Directions::Off || (runtime.ktls == Ktls::Off && !asks)) {
            listener.table.place_of("splice").warn(
                "has no effect: only bytes whose keys the kernel has go through pipes",
                "leave it out, or write ktls = \"auto\" here and in [runtime]",
            );
        }
    }
}

fn warn_of_idle_parts(parts: &Parts<'_>) {
    let used = |index: usize, of: fn(&Site) -> usize| parts.sites.iter().any(|draft| of(&draft.site) == index);
    for (index, listener) in parts.listeners.iter().enumerate() {
        if !used(index, |site| site.listener) {
            listener
                .table
                .place
                .warn("no site is at this listener: it refuses every client", "leave it out, or give it a site");
        }
    }
    for (index, backend) in parts.backends.iter().enumerate() {
        if !used(index, |site| site.backend) {
            backend.table.place.warn("no site leads to this backend", "leave it out, or name it in a site");
        }
    }
}
