//! Properties of every known key: a wrong type is refused by its name and line, and the walker knows no other key.

use super::super::keys;
use super::faults_of;
use std::collections::BTreeMap;

/// A configuration with one table's key set to a date, which no key takes; the line of that key.
fn with_a_date(table: &str, key: &str) -> (String, usize) {
    let mut tables: BTreeMap<&str, Vec<(&str, &str)>> = BTreeMap::from([
        ("listener", vec![("address", "[\"127.0.0.1:0\"]")]),
        ("site", vec![("certificate", "[{ chain = \"s.pem\", key = \"s.key\" }]")]),
        ("site.client", vec![("trust", "[\"ca.pem\"]")]),
        ("backend", vec![("servers", "[\"127.0.0.1:9000\"]")]),
    ]);
    let date = format!("{key} = 1979-05-27");
    let inline = format!("[{{ {date} }}]");
    let (table, key) = match table {
        "" => (table, key),
        "site.certificate" => ("site", "certificate"),
        "site.client.allow" => ("site.client", "allow"),
        _ => (table, key),
    };
    let value = if date.starts_with(&format!("{key} =")) { "1979-05-27" } else { &inline };
    let whole = if table.is_empty() { key.to_owned() } else { format!("{table}.{key}") };
    // The key takes the place of a table of that name.
    tables.retain(|name, _| *name != whole && !name.starts_with(&format!("{whole}.")));
    if table == "site.client.authority" {
        tables.remove("site.client");
    }
    let lines = tables.entry(table).or_default();
    lines.retain(|(name, _)| *name != key);
    lines.push((key, value));
    let mut text = String::new();
    for (name, lines) in &tables {
        match *name {
            "" => {}
            "listener" | "site" | "backend" | "site.client.authority" => text.push_str(&format!("[[{name}]]\n")),
            _ => text.push_str(&format!("[{name}]\n")),
        }
        for (key, value) in lines {
            text.push_str(&format!("{key} = {value}\n"));
        }
    }
    let line = 1 + text.lines().position(|line| line.contains("1979")).unwrap();
    (text, line)
}

#[test]
fn each_key_refuses_a_wrong_type_by_its_name_and_line() {
    let mut count = 0;
    for (table, known) in keys::TABLES {
        for key in *known {
            let (text, line) = with_a_date(table, key);
            let faults = faults_of(&text);
            let end = format!(".{key}");
            let fault = faults.iter().find(|fault| fault.key == *key || fault.key.ends_with(&end));
            let fault = fault.unwrap_or_else(|| panic!("{table}.{key}: {faults:#?}\n{text}"));
            assert_eq!(fault.line, Some(line), "{fault}\n{text}");
            assert!(fault.message.contains("is a date"), "{fault}");
            assert!(!fault.help.is_empty(), "{fault}");
            count += 1;
        }
    }
    assert!(count > 80, "{count} keys");
}

#[test]
fn no_table_knows_a_key_twice() {
    for (table, known) in keys::TABLES {
        let mut sorted = known.to_vec();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(sorted.len(), known.len(), "{table}");
    }
}
