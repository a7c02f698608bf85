//! `[[listener]]` and `[[backend]]`: what the sites stand between, and the names that sites call them by.

use super::model::*;
use super::nearest::nearest;
use super::walk::{Table, Value, Zero};
use super::{defaults, forms, keys, limits, net};
use std::collections::HashMap;
use std::sync::Arc;

/// A part that sites name, and where it stands.
pub(super) struct Named<'a, T> {
    pub table: Table<'a>,
    pub item: T,
}

/// A reference from a site to a listener or a backend.
pub(super) trait HasName {
    fn name(&self) -> &Arc<str>;
}

impl HasName for Listener {
    fn name(&self) -> &Arc<str> {
        &self.name
    }
}

impl HasName for Backend {
    fn name(&self) -> &Arc<str> {
        &self.name
    }
}

/// All listeners, each with a name of its own.
pub(super) fn read_listeners<'a>(root: &Table<'a>) -> Vec<Named<'a, Listener>> {
    let tables =
        demand_tables(root, "listener", keys::LISTENER, "write a [[listener]] with address = [\"0.0.0.0:8443\"]");
    bound(&tables, limits::LISTENERS_MAX, "listeners");
    let lone = tables.len() == 1;
    let listeners: Vec<_> =
        tables.iter().map(|table| Named { table: table.clone(), item: read_listener(table, lone) }).collect();
    refuse_repeated_names(&listeners);
    listeners
}

/// All backends, each with a name of its own.
pub(super) fn read_backends<'a>(root: &Table<'a>) -> Vec<Named<'a, Backend>> {
    let tables =
        demand_tables(root, "backend", keys::BACKEND, "write a [[backend]] with servers = [\"127.0.0.1:9000\"]");
    bound(&tables, limits::BACKENDS_MAX, "backends");
    let lone = tables.len() == 1;
    let backends: Vec<_> = tables
        .iter()
        .map(|table| Named { table: table.clone(), item: super::backend::read(table, read_name(table, lone)) })
        .collect();
    refuse_repeated_names(&backends);
    backends
}

/// The part that a site names; a lone one needs no name. `None` where a fault was reported, here or before.
pub(super) fn resolve<T: HasName>(site: &Table<'_>, key: &str, parts: &[Named<'_, T>]) -> Option<usize> {
    let Some(value) = site.get(key) else {
        if parts.len() > 1 {
            site.place
                .missing(key)
                .fault("is missing", format!("there are several: write {key} = \"{}\"", parts[0].item.name()));
        }
        return (parts.len() == 1).then_some(0);
    };
    let name = value.text("a name in quotes")?;
    let found = parts.iter().position(|part| &**part.item.name() == name);
    if found.is_none() && !parts.is_empty() {
        let help = match nearest(name, parts.iter().map(|part| &**part.item.name())) {
            Some(near) => format!("did you mean {near:?}?"),
            None => format!("write the name of one that is there, such as {:?}", parts[0].item.name()),
        };
        value.place.fault(format!("there is no {key} {name:?}"), help);
    }
    found
}

pub(super) fn demand_tables<'a>(root: &Table<'a>, key: &str, keys: keys::Keys, help: &str) -> Vec<Table<'a>> {
    let tables = root.tables(key, keys);
    if tables.is_empty() && !root.place_of(key).has_fault_below() {
        root.place.missing(key).fault("is missing", help);
    }
    tables
}

/// Faults where there are more parts than the program is made for.
pub(super) fn bound(tables: &[Table<'_>], max: usize, what: &str) {
    if let Some(first_over) = tables.get(max) {
        first_over.place.fault(format!("there are more than {max} {what}"), "split them over several processes");
    }
}

fn read_name(table: &Table<'_>, lone: bool) -> Arc<str> {
    let wanted = "a name in quotes";
    let name = match table.get("name") {
        Some(value) => value.parse(wanted, forms::name),
        None if lone => None,
        None => {
            table.place.missing("name").fault("is missing", "there are several: give each a name");
            None
        }
    };
    // Where the name is at fault the key stands in, so that no second fault comes from the first.
    match name {
        Some(name) => Arc::from(name),
        None if lone => Arc::from(defaults::NAME),
        None => Arc::from(table.place.key()),
    }
}

fn refuse_repeated_names<T: HasName>(parts: &[Named<'_, T>]) {
    let mut lines: HashMap<&str, usize> = HashMap::new();
    for part in parts {
        let name = &**part.item.name();
        if let Some(first) = lines.insert(name, part.table.place.line()) {
            part.table
                .place_of("name")
                .fault(format!("{name:?} is the name of the one of line {first} too"), "give each a name of its own");
        }
    }
}

fn read_listener(table: &Table<'_>, lone: bool) -> Listener {
    let mut listener = Listener {
        name: read_name(table, lone),
        addresses: Vec::new(),
        accept_proxy_from: Vec::new(),
        tcp_keepalive: defaults::TCP_KEEPALIVE,
        kernel: KernelPath::default(),
        limits: Limits::default(),
    };
    if let Some(value) = table.demand("address", "write address = [\"0.0.0.0:8443\", \"[::]:8443\"]") {
        listener.addresses = read_addresses(&value);
    }
    table.set(&mut listener.accept_proxy_from, "accept_proxy_from", |value| {
        let wanted = "networks in quotes, such as [\"10.0.0.0/8\"]";
        value.texts(wanted)?.iter().map(|value| value.parse(wanted, net::network)).collect()
    });
    table.set(&mut listener.tcp_keepalive, "tcp_keepalive", |value| value.duration(Zero::Allowed));
    table.set(&mut listener.kernel.ktls, "ktls", |value| {
        let (both, auto) = (("both", Directions::Both), ("auto", Directions::Auto));
        value.word(&[("off", Directions::Off), ("tx", Directions::Transmit), ("rx", Directions::Receive), both, auto])
    });
    table.set(&mut listener.kernel.splice, "splice", |value| {
        value.word(&[("off", Splice::Off), ("on", Splice::On), ("auto", Splice::Auto)])
    });
    if let Some(limits) = table.get("limits").and_then(|value| value.table(keys::LIMITS)) {
        listener.limits = read_limits(&limits);
    }
    listener
}

fn read_addresses(value: &Value<'_>) -> Vec<ListenAddress> {
    let Some(values) = value.texts("a list of addresses, such as [\"0.0.0.0:8443\"]") else { return Vec::new() };
    if values.is_empty() {
        value.place.fault("is empty", format!("write {}", net::LISTEN_WANTED));
    }
    values.iter().filter_map(|value| value.parse(net::LISTEN_WANTED, net::listen)).collect()
}

fn read_limits(table: &Table<'_>) -> Limits {
    let mut limits = Limits::default();
    table.set(&mut limits.connections, "connections", |value| {
        if value.is_integer() {
            return value.number(1, u32::MAX).map(Some);
        }
        value.parse("\"auto\" or a whole number without quotes", |text| match text {
            "auto" => Ok(None),
            _ => Err(format!("{text:?} is not known").into()),
        })
    });
    table.set(&mut limits.handshakes_in_flight, "handshakes_in_flight", |value| value.number(1, u32::MAX));
    table.set(&mut limits.handshake_timeout, "handshake_timeout", |value| value.duration(Zero::Refused));
    table.set(&mut limits.idle_timeout, "idle_timeout", |value| value.duration(Zero::Refused));
    table.set(&mut limits.max_age, "max_age", |value| value.duration(Zero::Allowed));
    table.set(&mut limits.end_at_expiry, "end_at_expiry", |value| value.boolean());
    table.set(&mut limits.connections_per_identity, "connections_per_identity", |value| value.number(0, u32::MAX));
    let per_source = "full_handshakes_per_second_per_source";
    table.set(&mut limits.full_handshakes_per_second_per_source, per_source, |value| value.number(0, u32::MAX));
    table.set(&mut limits.client_chain_bytes, "client_chain_bytes", |value| {
        let (min, max) = limits::CLIENT_CHAIN_BYTES;
        value.size(min, max).and_then(|bytes| usize::try_from(bytes).ok())
    });
    table.set(&mut limits.client_chain_certificates, "client_chain_certificates", |value| {
        value.number(1, limits::CLIENT_CHAIN_CERTIFICATES_MAX).and_then(|count| usize::try_from(count).ok())
    });
    limits
}
