//! Rules of `allow` and `deny`: each condition is turned into the form that it is compared in.

use super::model::{Condition, Rule};
use super::report::Problem;
use super::walk::{Table, Value};
use super::{dn, forms, hosts, keys, limits};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

const LIST_WANTED: &str = "a list of rules, such as [{ uri = \"spiffe://bank.example/payments/*\" }]";

/// The rules of a list, in its order; those at fault are left out.
pub(super) fn read_rules(value: &Value<'_>) -> Option<Vec<Rule>> {
    let values = value.list(LIST_WANTED)?;
    let mut lines: HashMap<(Option<Arc<str>>, Vec<Condition>), usize> = HashMap::new();
    let mut rules = Vec::with_capacity(values.len());
    for value in values {
        let Some(rule) = read_rule(&value) else { continue };
        let line = value.place.line();
        match lines.get(&(rule.name.clone(), rule.conditions.clone())) {
            Some(first) => value.place.warn(format!("repeats the rule of line {first}"), "leave one of them out"),
            None => drop(lines.insert((rule.name.clone(), rule.conditions.clone()), line)),
        }
        rules.push(rule);
    }
    Some(rules)
}

/// Whether the rule names one certificate or key, as `auth = "pin"` demands.
pub(super) fn is_pin(rule: &Rule) -> bool {
    rule.conditions.iter().any(|condition| matches!(condition, Condition::Sha256(_) | Condition::SpkiSha256(_)))
}

fn read_rule(value: &Value<'_>) -> Option<Rule> {
    let table =
        value.inline(keys::RULE, "a rule in braces, such as { dns = \"*.partners.example\", ou = \"settlement\" }")?;
    let name = table.get("name").and_then(|value| value.parse("a name in quotes", forms::name)).map(Arc::from);
    let conditions: Vec<Condition> = keys::RULE.1.iter().filter_map(|key| read_condition(&table, key)).collect();
    if conditions.is_empty() {
        // A condition at fault has been reported; only a rule that never had one is new.
        if !keys::RULE.1.iter().any(|key| *key != "name" && table.get(key).is_some()) {
            table.place.fault(
                "has no condition, so that it would match every client",
                "add one, such as uri, dns, cn or sha256",
            );
        }
        return None;
    }
    Some(Rule { name, conditions, line: Some(value.place.line()) })
}

fn read_condition(table: &Table<'_>, key: &str) -> Option<Condition> {
    if key == "name" {
        return None;
    }
    let value = table.get(key)?;
    let condition = value.parse(wanted(key), |text| match text {
        "" => Err("is empty".into()),
        _ if text.len() > limits::RULE_TEXT_BYTES_MAX => {
            Err(format!("is longer than {} bytes", limits::RULE_TEXT_BYTES_MAX).into())
        }
        _ => condition(key, text),
    })?;
    if matches!(&condition, Condition::Cn(text) | Condition::O(text) | Condition::Ou(text) | Condition::Email(text) if text.contains('*'))
    {
        value.place.warn("a `*` stands for itself here", "use `dns` or `uri` for patterns");
    }
    Some(condition)
}

fn wanted(key: &str) -> &'static str {
    match key {
        "dns" => "one DNS name or pattern in quotes, such as \"*.partners.example\"; a second one is a second rule",
        "uri" => {
            "one URI or pattern in quotes, such as \"spiffe://bank.example/payments/*\"; a second one is a second rule"
        }
        "ip" => "one IP address in quotes",
        "serial" => "the serial number in hex, in quotes, such as \"03A5B1\"",
        "issuer" => "the issuer's name in quotes, such as \"CN=Partner Issuing CA,O=Bank,C=GB\"",
        "sha256" => "the SHA-256 of the certificate, 64 hex digits in quotes",
        "spki_sha256" => "the SHA-256 of the public key, 64 hex digits or \"sha256:<base64>\"",
        "policy_oid" => "an OID in quotes, such as \"1.3.6.1.4.1.99999.1\"",
        _ => "one value in quotes; a second one is a second rule",
    }
}

fn condition(key: &str, text: &str) -> Result<Condition, Problem> {
    Ok(match key {
        "cn" => Condition::Cn(text.to_owned()),
        "ou" => Condition::Ou(text.to_owned()),
        "o" => Condition::O(text.to_owned()),
        "dns" => Condition::Dns(hosts::dns_pattern(text)?),
        "uri" => Condition::Uri(hosts::uri_pattern(text)?),
        "email" => Condition::Email(email(text)?),
        "ip" => Condition::Ip(address(text)?),
        "serial" => Condition::Serial(serial(text)?),
        "issuer" => {
            dn::check(text)?;
            Condition::Issuer(text.to_owned())
        }
        "sha256" => Condition::Sha256(digest(text)?),
        "spki_sha256" => Condition::SpkiSha256(digest(text)?),
        "policy_oid" if is_oid(text) => Condition::PolicyOid(text.to_owned()),
        _ => return Err(format!("{text:?} is not an OID").into()),
    })
}

fn email(text: &str) -> Result<String, Problem> {
    match text.split_once('@') {
        Some((local, domain)) if !local.is_empty() && !domain.is_empty() && !text.contains(' ') && text.is_ascii() => {
            Ok(text.to_owned())
        }
        _ => Err(Problem::new(
            format!("{text:?} is not an e-mail address"),
            "write it whole, such as \"batch@partner.example\"",
        )),
    }
}

fn address(text: &str) -> Result<IpAddr, Problem> {
    if text.contains('/') {
        return Err(Problem::new(
            format!("{text:?} is a network"),
            "write one address: a certificate has addresses, not networks",
        ));
    }
    text.parse().map_err(|_| format!("{text:?} is not an IP address").into())
}

/// Big-endian, without leading zeros.
fn serial(text: &str) -> Result<Vec<u8>, Problem> {
    let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")).unwrap_or(text);
    let mut digits =
        without_colons(digits).ok_or_else(|| Problem::from(format!("{text:?} is not a serial number in hex")))?;
    if digits.len() % 2 == 1 {
        digits.insert(0, '0');
    }
    let bytes = hex::decode(&digits).map_err(|_| format!("{text:?} is not a serial number in hex"))?;
    let bytes: Vec<u8> = bytes.into_iter().skip_while(|byte| *byte == 0).collect();
    if bytes.len() > limits::SERIAL_BYTES_MAX {
        return Err(format!("is longer than {} bytes", limits::SERIAL_BYTES_MAX).into());
    }
    Ok(bytes)
}

/// A SHA-256 as a rule takes it, for whoever types one elsewhere; `Err`: what is wrong with it.
pub fn sha256_from(text: &str) -> Result<[u8; 32], String> {
    digest(text).map_err(|problem| problem.message)
}

/// SHA-256 in hex with or without colons, or in base64 of either alphabet, alone or behind `sha256:` or `sha256//`.
fn digest(text: &str) -> Result<[u8; 32], Problem> {
    let bare = text.strip_prefix("sha256:").or_else(|| text.strip_prefix("sha256//")).unwrap_or(text);
    let bytes = match bare.len() {
        64 | 95 => without_colons(bare).and_then(|digits| hex::decode(digits).ok()),
        43 => URL_SAFE_NO_PAD.decode(bare).or_else(|_| STANDARD_NO_PAD.decode(bare)).ok(),
        44 => STANDARD.decode(bare).ok(),
        _ => None,
    };
    let digest = bytes.and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
    digest.ok_or_else(|| {
        let hint = if matches!(bare.len(), 40 | 59) { " (it has the length of a SHA-1)" } else { "" };
        format!("{text:?} is not a SHA-256{hint}").into()
    })
}

/// Hex digits without the colons between their pairs; `None` if colons stand elsewhere or nothing is there.
fn without_colons(text: &str) -> Option<String> {
    if !text.contains(':') {
        return Some(text.to_owned()).filter(|text| !text.is_empty());
    }
    text.split(':').all(|pair| pair.len() == 2).then(|| text.replace(':', ""))
}

/// Dotted decimal as ASN.1 allows it.
pub(super) fn is_oid(text: &str) -> bool {
    let arcs: Vec<&str> = text.split('.').collect();
    let canonical = |arc: &&str| {
        !arc.is_empty() && arc.bytes().all(|byte| byte.is_ascii_digit()) && (arc.len() == 1 || !arc.starts_with('0'))
    };
    let second_ok = |arc: &str| arc.parse::<u32>().is_ok_and(|arc| arc < 40);
    arcs.len() >= 2
        && arcs.iter().all(canonical)
        && match arcs[0] {
            "0" | "1" => second_ok(arcs[1]),
            "2" => true,
            _ => false,
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "bfaf1f7e070f9fa8dd62905f158da73f84a1136624fbafcc9393c8f7287a69eb";

    #[test]
    fn digests_are_the_same_in_every_spelling() {
        let plain = digest(HEX).unwrap();
        let colons =
            HEX.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap()).collect::<Vec<_>>().join(":");
        let base64 = STANDARD.encode(plain);
        for text in [
            HEX.to_uppercase(),
            colons.clone(),
            colons.to_uppercase(),
            format!("sha256:{HEX}"),
            "v68ffgcPn6jdYpBfFY2nP4ShE2Yk-6_Mk5PI9yh6aes".to_owned(),
            base64.clone(),
            format!("sha256:{base64}"),
            format!("sha256//{base64}"),
        ] {
            assert_eq!(digest(&text), Ok(plain), "{text}");
        }
    }

    #[test]
    fn refuses_digests_of_other_lengths_and_alphabets() {
        let cut = &HEX[..62];
        let odd = format!("{}zz", &HEX[..62]);
        let moved = format!(":{}", &HEX[..63]);
        for text in [cut, &odd, &moved, "", "sha256:", "da39a3ee5e6b4b0d3255bfef95601890afd80709", &format!("{HEX}00")]
        {
            assert!(digest(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn serials_compare_as_integers() {
        for text in ["03A5B1", "3a5b1", "03:a5:b1", "0x03a5b1", "0000:03:A5:B1".trim_start_matches("0000:"), "0003A5B1"]
        {
            assert_eq!(serial(text), Ok(vec![3, 0xa5, 0xb1]), "{text}");
        }
        assert_eq!(serial("00"), Ok(vec![]));
        for text in ["", "0x", "xyz", "-1", "3:a5:b1", "03:a5:", "03 a5", &"ff".repeat(limits::SERIAL_BYTES_MAX + 1)] {
            assert!(serial(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn oids_are_dotted_decimal() {
        for text in ["1.3.6.1.4.1.99999.1", "2.5.29.32.0", "0.4.0.1862.1.4", "2.999"] {
            assert!(is_oid(text), "{text}");
        }
        for text in ["", "1", "1.", ".1.2", "3.1", "1.40", "1.02.3", "1.2.x", "1..2", "anyPolicy"] {
            assert!(!is_oid(text), "{text:?}");
        }
    }

    #[test]
    fn addresses_and_mail_are_single_ones() {
        assert!(address("192.0.2.1").is_ok() && address("2001:db8::1").is_ok());
        assert!(address("192.0.2.0/24").is_err() && address("192.0.2").is_err());
        assert!(email("batch@partner.example").is_ok());
        for text in ["batch", "@partner.example", "batch@", "a b@partner.example"] {
            assert!(email(text).is_err(), "{text}");
        }
    }
}
