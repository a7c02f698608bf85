//! `[[site]]`: what a client finds behind a name. Its clients' part is in `client`.

use super::ciphers::{self, Versions};
use super::client;
use super::listener::{Named, resolve};
use super::model::*;
use super::report::Problem;
use super::walk::{Place, Table, Value};
use super::{forms, hosts, keys};
use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

/// A site whose references hold, with where it stands and where each of its names does.
pub(super) struct Draft<'a> {
    pub table: Table<'a>,
    pub names: Vec<Place<'a>>,
    pub site: Site,
}

/// Reads one site. `None` where it names no listener or backend that is there.
pub(super) fn read<'a>(
    table: &Table<'a>,
    listeners: &[Named<'_, Listener>],
    backends: &[Named<'_, Backend>],
) -> Option<Draft<'a>> {
    let listener = resolve(table, "listener", listeners);
    let backend = resolve(table, "backend", backends);
    let (places, names) = read_names(table);
    let mut protocol = Protocol::Tcp;
    table.set(&mut protocol, "protocol", |value| value.word(&[("tcp", Protocol::Tcp), ("http", Protocol::Http)]));
    let given = table.get("name").and_then(|value| value.parse("a name in quotes", forms::name));
    let (alpn, certificates) = (read_alpn(table), read_certificates(table));
    let (tls, client) = (read_tls(table), client::read(table));
    check_http(table, protocol);
    let (listener, backend) = (listener?, backend?);
    let name = match (given, names.first()) {
        (Some(name), _) => Arc::from(name),
        (None, Some(name)) => Arc::from(name.to_string()),
        (None, None) => listeners[listener].item.name.clone(),
    };
    let line = Some(table.place.line());
    let site = Site { name, listener, names, protocol, backend, alpn, certificates, tls, client, line };
    Some(Draft { table: table.clone(), names: places, site })
}

fn read_names<'a>(table: &Table<'a>) -> (Vec<Place<'a>>, Vec<SiteName>) {
    let wanted = "names in quotes, such as [\"api.bank.example\", \"*.partners.bank.example\"]";
    let Some(value) = table.get("names") else { return Default::default() };
    let Some(values) = value.texts(wanted) else { return Default::default() };
    if values.is_empty() {
        value.place.fault("is empty", "leave it out for a site that takes every other name");
    }
    let (mut places, mut names) = (Vec::new(), Vec::new());
    let mut seen = HashSet::new();
    for value in values {
        let Some(name) = value.parse("a DNS name in quotes", hosts::site_name) else { continue };
        if !seen.insert(name.clone()) {
            value.place.warn(format!("{name} stands in the list twice"), "leave one of them out");
            continue;
        }
        places.push(value.place);
        names.push(name);
    }
    (places, names)
}

fn read_alpn(table: &Table<'_>) -> Vec<Vec<u8>> {
    let wanted = "protocols in quotes, such as [\"h2\", \"http/1.1\"]";
    let Some(values) = table.get("alpn").and_then(|value| value.texts(wanted)) else { return Vec::new() };
    let mut protocols: Vec<Vec<u8>> = Vec::new();
    for value in values {
        let protocol = value.parse(wanted, |text| match text.len() {
            // The length of a protocol's name is one byte on the wire, and zero is not allowed.
            1..=255 => Ok(text.as_bytes().to_vec()),
            0 => Err("is empty".into()),
            _ => Err("is longer than 255 bytes".into()),
        });
        match protocol {
            Some(protocol) if protocols.contains(&protocol) => {
                value.place.fault("stands in the list twice", "leave one of them out");
            }
            Some(_) if protocols.len() == ALPN_MAX => {
                value.place.fault(format!("there are more than {ALPN_MAX}"), "leave some out")
            }
            Some(protocol) => protocols.push(protocol),
            None => {}
        }
    }
    protocols
}

/// Protocols of one site: as many as fit a ClientHello many times over.
const ALPN_MAX: usize = 32;
const CERTIFICATE_WANTED: &str = "certificate = [{ chain = \"server.pem\", key = \"server.key\" }]";

fn read_certificates(table: &Table<'_>) -> Vec<CertificateFiles> {
    let Some(value) = table.demand("certificate", &format!("write {CERTIFICATE_WANTED}")) else { return Vec::new() };
    let entries = match value.is_table() {
        true => vec![value.clone()],
        false => value.list(CERTIFICATE_WANTED).unwrap_or_default(),
    };
    if entries.is_empty() && !value.place.has_fault_below() {
        value.place.fault("is empty", format!("write {CERTIFICATE_WANTED}"));
    }
    let mut files = Vec::with_capacity(entries.len());
    for entry in &entries {
        let Some(entry) = entry.inline(keys::CERTIFICATE, CERTIFICATE_WANTED) else { continue };
        let chain = entry
            .demand("chain", "write the PEM file of the certificate and its intermediates")
            .and_then(|value| value.path());
        let key = entry
            .demand("key", "write the PEM file of the private key; one file may be both")
            .and_then(|value| value.path());
        let ocsp: Option<PathBuf> = entry.get("ocsp").and_then(|value| value.path());
        if let (Some(chain), Some(key)) = (chain, key) {
            let pair = CertificateFiles { chain, key, ocsp };
            if files.contains(&pair) {
                entry.place.warn("repeats a certificate of this site", "leave one of them out");
            }
            files.push(pair);
        }
    }
    files
}

fn read_tls(table: &Table<'_>) -> SiteTls {
    let mut tls = SiteTls::default();
    let Some(table) = table.get("tls").and_then(|value| value.table(keys::SITE_TLS)) else { return tls };
    table.set(&mut tls.min_version, "min_version", |value| {
        value.parse("\"1.2\" or \"1.3\"", |text| match text {
            "1.2" | "TLSv1.2" => Ok(TlsVersion::Tls12),
            "1.3" | "TLSv1.3" => Ok(TlsVersion::Tls13),
            "1.0" | "1.1" | "TLSv1.0" | "TLSv1.1" | "TLSv1" => Err("versions below TLS 1.2 are not offered".into()),
            _ => Err(format!("{text:?} is not a version of TLS").into()),
        })
    });
    let suites: Vec<ciphers::Suite> =
        read_each(&table, "cipher_suites", "names of cipher suites in quotes", ciphers::suite);
    let groups =
        read_each(&table, "groups", "names of groups in quotes, such as [\"X25519\", \"secp256r1\"]", ciphers::group);
    if !suites.is_empty() {
        check_versions(&table.place_of("cipher_suites"), tls.min_version, &suites);
    }
    if !groups.is_empty()
        && tls.min_version == TlsVersion::Tls12
        && groups.iter().all(|(_, versions)| *versions == Versions::Tls13Only)
    {
        table
            .place_of("groups")
            .warn("no TLS 1.2 client can use these groups", "add X25519, or write min_version = \"1.3\"");
    }
    tls.cipher_suites = suites.iter().map(|suite| suite.iana.to_owned()).collect();
    tls.groups = groups.iter().map(|(name, _)| (*name).to_owned()).collect();
    tls
}

/// The list of a key, none of its elements twice.
fn read_each<T: PartialEq>(
    table: &Table<'_>,
    key: &str,
    wanted: &str,
    parser: fn(&str) -> Result<T, Problem>,
) -> Vec<T> {
    let mut found = Vec::new();
    for value in table.get(key).and_then(|value| value.texts(wanted)).unwrap_or_default() {
        match value.parse(wanted, parser) {
            Some(one) if found.contains(&one) => value.place.fault("stands in the list twice", "leave one of them out"),
            Some(one) => found.push(one),
            None => {}
        }
    }
    found
}

/// The suites chosen decide too which versions are left.
fn check_versions(place: &Place<'_>, min: TlsVersion, suites: &[ciphers::Suite]) {
    let has = |version| suites.iter().any(|suite| suite.version == version);
    match (min, has(TlsVersion::Tls12), has(TlsVersion::Tls13)) {
        (TlsVersion::Tls13, _, false) => {
            place.fault(
                "has no suite of TLS 1.3, and min_version allows nothing else",
                "add TLS_AES_128_GCM_SHA256, or write min_version = \"1.2\"",
            );
        }
        (TlsVersion::Tls13, true, true) => {
            place.warn("has suites of TLS 1.2, which min_version = \"1.3\" never uses", "leave them out");
        }
        (TlsVersion::Tls12, true, false) => {
            place.warn("has no suite of TLS 1.3, so that it is off", "add TLS_AES_128_GCM_SHA256 and its kind");
        }
        (TlsVersion::Tls12, false, true) => {
            place.warn(
                "has no suite of TLS 1.2, so that it is off",
                "write min_version = \"1.3\" too, so that it can be seen",
            );
        }
        _ => {}
    }
}

/// Headers that `identity_headers` chooses among and `header_names` renames.
pub(super) const IDENTITY_HEADERS: keys::Keys = (
    "site.http.header_names",
    &[
        "Client-Cert",
        "Client-Cert-Chain",
        "X-Forwarded-Client-Cert",
        "X-Client-Verify",
        "X-Client-Subject",
        "X-Client-Issuer",
        "X-Client-Serial",
        "X-Client-SHA256",
        "X-Client-X5T-S256",
        "X-Forwarded-For",
        "X-Forwarded-Proto",
        "X-Connection-Id",
    ],
);

/// The form of `[site.http]`, whose behaviour is pending.
fn check_http(table: &Table<'_>, protocol: Protocol) {
    let Some(table) = table.get("http").and_then(|value| value.table(keys::SITE_HTTP)) else { return };
    if protocol == Protocol::Tcp {
        table.place.warn("has no meaning with protocol \"tcp\"", "leave the table out, or write protocol = \"http\"");
    }
    let choices: Vec<(&str, ())> = IDENTITY_HEADERS.1.iter().map(|name| (*name, ())).collect();
    for header in table.get("identity_headers").and_then(|value| value.texts("names of headers")).unwrap_or_default() {
        header.word(&choices);
    }
    let Some(names) = table.get("header_names").and_then(|value| value.table(IDENTITY_HEADERS)) else { return };
    for header in IDENTITY_HEADERS.1 {
        check_header_name(names.get(header));
    }
}

fn check_header_name(value: Option<Value<'_>>) {
    let Some(value) = value else { return };
    value.parse("the name of a header in quotes", |text| {
        let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        if !text.is_empty() && text.chars().all(token) {
            Ok(())
        } else {
            Err(format!("{text:?} is not the name of a header").into())
        }
    });
}
