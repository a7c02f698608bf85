//! `[site.client]`: which clients a site asks for, and whom it admits.

use super::model::*;
use super::report::Problem;
use super::walk::{Table, Value, Zero};
use super::{keys, limits, rule};
use std::collections::HashSet;
use std::path::PathBuf;

const TRUST_HELP: &str = "write trust = [\"clients-ca.pem\"], the certificates of the CAs whose clients may come";

pub(super) fn read(site: &Table<'_>) -> Client {
    let mut client = Client::default();
    let table = match site.get("client") {
        Some(value) => value.table(keys::CLIENT),
        None => {
            let client = site.place.missing("client.trust");
            client.fault("is missing", format!("{TRUST_HELP}, in [site.client]"));
            None
        }
    };
    let Some(table) = table else { return client };
    table.set(&mut client.auth, "auth", |value| {
        value.word(&[
            ("require", Auth::Require),
            ("optional", Auth::Optional),
            ("request", Auth::Request),
            ("pin", Auth::Pin),
            ("off", Auth::Off),
        ])
    });
    table.set(&mut client.advertise, "advertise", |value| read_advertise(&value));
    table.set(&mut client.intermediates, "intermediates", |value| value.paths());
    table.set(&mut client.crl_scope, "crl_scope", |value| {
        value.word(&[("chain", CrlScope::Chain), ("leaf", CrlScope::Leaf)])
    });
    table.set(&mut client.max_depth, "max_depth", |value| {
        value.number(0, limits::CHAIN_DEPTH_MAX).and_then(|depth| usize::try_from(depth).ok())
    });
    let authorities = read_authorities(&table);
    check(&table, client.auth, &authorities);
    if client.auth != Auth::Off {
        client.authorities = authorities.into_iter().map(|(_, authority)| authority).collect();
    }
    client
}

fn read_advertise(value: &Value<'_>) -> Option<Advertise> {
    let wanted = "\"trust\", \"none\" or a list of files such as [\"ca-list.pem\"]";
    if value.as_text().is_some() {
        return value.parse(wanted, |text| match text {
            "trust" => Ok(Advertise::Trust),
            "none" => Ok(Advertise::None),
            _ => Err(Problem::new(format!("{text:?} is not known"), format!("write {wanted}"))),
        });
    }
    value.list(wanted)?;
    let files = value.paths()?;
    if files.is_empty() {
        value.place.fault("is empty", "write \"none\" to name no CA");
        return None;
    }
    Some(Advertise::Files(files))
}

/// The authorities and their tables, or the short form as the only one.
fn read_authorities<'a>(client: &Table<'a>) -> Vec<(Table<'a>, Authority)> {
    let Some(value) = client.get("authority") else { return vec![(client.clone(), read_authority(client))] };
    for both in keys::AUTHORITY.1.iter().filter_map(|key| client.get(key)) {
        let help = "move it into a [[site.client.authority]], or write none of those";
        both.place.fault("stands beside [[site.client.authority]], which takes its place", help);
    }
    let tables = value.tables(keys::AUTHORITY).unwrap_or_default();
    if tables.is_empty() && !value.place.has_fault_below() {
        value.place.fault("is empty", "leave it out, or write a table with trust");
    }
    let authorities: Vec<_> = tables.into_iter().map(|table| (table.clone(), read_authority(&table))).collect();
    refuse_shared_trust(&authorities);
    authorities
}

/// A client is judged by the authority that its chain ends in: there must be only one.
fn refuse_shared_trust(authorities: &[(Table<'_>, Authority)]) {
    let mut seen: HashSet<&PathBuf> = HashSet::new();
    for (table, authority) in authorities {
        // A file twice in one authority is only warned of.
        let own: HashSet<&PathBuf> = authority.trust.iter().collect();
        if let Some(shared) = own.iter().find(|file| seen.contains(**file)) {
            let message = format!("{} is the trust of two authorities: which one judges?", shared.display());
            table.place_of("trust").fault(message, "give each anchor one authority");
        }
        seen.extend(own);
    }
}

fn read_authority(table: &Table<'_>) -> Authority {
    let mut authority = Authority { line: Some(table.place.line()), ..Authority::default() };
    table.set(&mut authority.trust, "trust", |value| read_files_once(&value));
    table.set(&mut authority.crls, "crls", |value| read_files_once(&value));
    table.set(&mut authority.crl_missing, "crl_missing", |value| {
        value.word(&[("refuse", CrlMissing::Refuse), ("allow", CrlMissing::Allow)])
    });
    table.set(&mut authority.crl_expired, "crl_expired", |value| match value.as_text() {
        Some("refuse") => Some(CrlExpired::Refuse),
        Some("allow") => Some(CrlExpired::Allow),
        Some(text) if text.starts_with(|c: char| c.is_ascii_digit()) => {
            value.duration(Zero::Refused).map(CrlExpired::Grace)
        }
        _ => value.parse("\"refuse\", \"allow\" or a grace such as \"24h\"", |text| {
            Err(format!("{text:?} is not known").into())
        }),
    });
    table.set(&mut authority.allow, "allow", |value| rule::read_rules(&value).map(Some));
    table.set(&mut authority.deny, "deny", |value| rule::read_rules(&value));
    authority
}

fn read_files_once(value: &Value<'_>) -> Option<Vec<PathBuf>> {
    let files = value.paths()?;
    let mut seen = HashSet::new();
    if let Some(twice) = files.iter().find(|file| !seen.insert(*file)) {
        value.place.warn(format!("{} stands in the list twice", twice.display()), "leave one of them out");
    }
    Some(files)
}

/// What the keys say together.
fn check(client: &Table<'_>, auth: Auth, authorities: &[(Table<'_>, Authority)]) {
    match auth {
        Auth::Require | Auth::Optional => {
            for (table, authority) in authorities {
                demand_trust(table, authority);
                check_rules(table, authority);
                check_crls(table, authority);
            }
        }
        Auth::Request => warn_unused(client, &["allow"], "auth = \"request\" lets every client in"),
        Auth::Pin => check_pin(client, authorities),
        Auth::Off => {
            let never = &["trust", "intermediates", "crls", "allow", "deny", "authority"];
            warn_unused(client, never, "auth = \"off\" asks no client for a certificate");
        }
    }
}

fn demand_trust(table: &Table<'_>, authority: &Authority) {
    let place = table.place_of("trust");
    if authority.trust.is_empty() && !place.has_fault_below() {
        place.fault(if table.get("trust").is_some() { "is empty" } else { "is missing" }, TRUST_HELP);
    }
}

fn check_rules(table: &Table<'_>, authority: &Authority) {
    let place = table.place_of("allow");
    let Some(allow) = &authority.allow else { return };
    if allow.is_empty() && !place.has_fault_below() {
        place.warn("is empty, and so admits nobody", "leave it out to admit every verified client");
    }
    let denied: HashSet<&[Condition]> = authority.deny.iter().map(|rule| &rule.conditions[..]).collect();
    for rule in allow {
        let place = place.on_line(rule.line);
        if denied.contains(&rule.conditions[..]) {
            place.warn("a rule of `deny` says the same, and wins", "leave one of them out");
        }
    }
}

fn check_crls(table: &Table<'_>, authority: &Authority) {
    if authority.crls.is_empty() {
        for key in ["crl_missing", "crl_expired"] {
            let is_default = matches!(table.get(key).and_then(|value| value.as_text()), None | Some("refuse"));
            if !is_default {
                table.place_of(key).warn("has no effect without `crls`", "leave it out, or write the files of CRLs");
            }
        }
        return;
    }
    if authority.crl_missing == CrlMissing::Allow {
        let help = "write \"refuse\", or make it sure that each CA has a CRL here";
        table.place_of("crl_missing").warn("lets clients of a CA without CRL in unchecked", help);
    }
    if authority.crl_expired == CrlExpired::Allow {
        let help = "write a grace such as \"24h\"";
        table.place_of("crl_expired").warn("lets revoked clients in for as long as no new CRL comes", help);
    }
}

/// `pin` goes by certificates and keys alone: each rule has to name one.
fn check_pin(client: &Table<'_>, authorities: &[(Table<'_>, Authority)]) {
    const HELP: &str = "write allow = [{ name = \"acme\", sha256 = \"…\" }] or spki_sha256";
    if let Some(value) = client.get("authority") {
        value.place.fault("has no meaning with auth = \"pin\", which asks no CA", format!("{HELP}, in [site.client]"));
        return;
    }
    warn_unused(client, &["trust", "intermediates", "crls", "max_depth"], "auth = \"pin\" asks no CA");
    let place = client.place_of("allow");
    let rules = authorities.iter().filter_map(|(_, authority)| authority.allow.as_deref()).flatten();
    let mut count = 0;
    for rule in rules {
        count += 1;
        if !rule::is_pin(rule) {
            let message = "this rule names no certificate or key, and auth = \"pin\" verifies nothing else";
            place.on_line(rule.line).fault(message, "add sha256 or spki_sha256 to the rule");
        }
    }
    if count == 0 && !place.has_fault_below() {
        place.fault("is missing: auth = \"pin\" admits only the certificates and keys that it names", HELP);
    }
}

/// One warning for all keys that a mode never looks at.
fn warn_unused(client: &Table<'_>, keys: &[&str], because: &str) {
    let given: Vec<String> =
        keys.iter().filter(|key| client.get(key).is_some()).map(|key| format!("`{key}`")).collect();
    if !given.is_empty() {
        let message = format!("{because}: {} is not used", given.join(", "));
        client.place_of("auth").warn(message, "leave it out, or write another `auth`");
    }
}
