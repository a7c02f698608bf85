//! One `[[backend]]`: where plaintext goes, and what is told along with it.

use super::model::*;
use super::walk::{Table, Value, Zero};
use super::{defaults, keys, nearest, net};
use std::sync::Arc;

pub(super) fn read(table: &Table<'_>, name: Arc<str>) -> Backend {
    let mut backend = Backend {
        name,
        servers: Vec::new(),
        balance: defaults::BALANCE,
        connect_timeout: defaults::CONNECT_TIMEOUT,
        proxy_protocol: ProxyProtocol::Off,
        proxy_tlvs: ProxyTlvs::default(),
        allow_remote: false,
        health: None,
    };
    table.set(&mut backend.allow_remote, "allow_remote", |value| value.boolean());
    if let Some(value) = table.demand("servers", "write servers = [\"127.0.0.1:9000\"] or [\"unix:/run/ledger.sock\"]")
    {
        backend.servers = read_servers(&value, backend.allow_remote);
    }
    table.set(&mut backend.balance, "balance", |value| {
        value.word(&[
            ("least_connections", Balance::LeastConnections),
            ("round_robin", Balance::RoundRobin),
            ("identity_hash", Balance::IdentityHash),
        ])
    });
    table.set(&mut backend.connect_timeout, "connect_timeout", |value| value.duration(Zero::Refused));
    table.set(&mut backend.proxy_protocol, "proxy_protocol", |value| {
        value.word(&[("off", ProxyProtocol::Off), ("v1", ProxyProtocol::V1), ("v2", ProxyProtocol::V2)])
    });
    table.set(&mut backend.proxy_tlvs, "proxy_tlvs", |value| read_tlvs(&value));
    if backend.proxy_protocol != ProxyProtocol::V2 && backend.proxy_tlvs != ProxyTlvs::default() {
        let help = "write proxy_protocol = \"v2\", or leave `proxy_tlvs` out";
        table.place_of("proxy_tlvs").warn("has no effect: only PROXY v2 carries TLVs", help);
    }
    backend.health = table.get("health").and_then(|value| value.table(keys::HEALTH)).map(|table| read_health(&table));
    backend
}

fn read_servers(value: &Value<'_>, allow_remote: bool) -> Vec<Server> {
    let Some(values) = value.texts("a list of servers, such as [\"127.0.0.1:9000\"]") else { return Vec::new() };
    if values.is_empty() {
        value.place.fault("is empty", format!("write {}", net::SERVER_WANTED));
    }
    let mut servers: Vec<Server> = Vec::with_capacity(values.len());
    let mut seen = std::collections::HashSet::new();
    for value in &values {
        let Some(server) = value.parse(net::SERVER_WANTED, |text| net::server(text, value.place.base())) else {
            continue;
        };
        if let Server::Tcp(address) = &server
            && !allow_remote
            && !net::is_loopback(address.ip())
        {
            let help = "use a server of this host, or write allow_remote = true if the network between is trusted";
            value.place.fault(format!("plaintext would leave this host for {address}"), help);
        }
        if !seen.insert(server.clone()) {
            value.place.fault(format!("{server} stands in the list twice"), "leave one of them out");
        }
        servers.push(server);
    }
    servers
}

fn read_tlvs(value: &Value<'_>) -> Option<ProxyTlvs> {
    const KNOWN: &[&str] = &["alpn", "authority", "unique_id", "ssl", "crc32c", "client_cert"];
    let mut tlvs =
        ProxyTlvs { alpn: false, authority: false, unique_id: false, ssl: false, crc32c: false, client_cert: false };
    for value in value.texts("a list of TLVs, such as [\"alpn\", \"ssl\"]")? {
        let text = value.text("the name of a TLV in quotes")?;
        let tlv = match text {
            "alpn" => &mut tlvs.alpn,
            "authority" => &mut tlvs.authority,
            "unique_id" => &mut tlvs.unique_id,
            "ssl" => &mut tlvs.ssl,
            "crc32c" => &mut tlvs.crc32c,
            "client_cert" => &mut tlvs.client_cert,
            _ => {
                value.place.fault(format!("{text:?} is not a known TLV"), nearest::advice(text, KNOWN));
                continue;
            }
        };
        if std::mem::replace(tlv, true) {
            value.place.fault(format!("{text:?} stands in the list twice"), "leave one of them out");
        }
    }
    Some(tlvs)
}

fn read_health(table: &Table<'_>) -> Health {
    let mut health = Health::default();
    table.set(&mut health.interval, "interval", |value| value.duration(Zero::Refused));
    table.set(&mut health.timeout, "timeout", |value| value.duration(Zero::Refused));
    table.set(&mut health.rise, "rise", |value| value.number(1, u32::from(u16::MAX)));
    table.set(&mut health.fall, "fall", |value| value.number(1, u32::from(u16::MAX)));
    health
}
