//! Whatever the text is, the answer is a configuration or faults that can be printed; never a panic.

use super::super::{Config, Examined, dn, forms, keys};
use super::LEAST;
use proptest::prelude::*;

const EXAMPLE: &str = include_str!("contract.toml");

/// Values of every type, well formed and not.
fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<i64>().prop_map(|number| number.to_string()),
        any::<bool>().prop_map(|truth| truth.to_string()),
        Just("1.5".to_owned()),
        Just("1979-05-27".to_owned()),
        Just("[]".to_owned()),
        Just("[[], {}]".to_owned()),
        Just("{}".to_owned()),
        "[a-z0-9:*./@=,+\\-]{0,12}".prop_map(|text| format!("{text:?}")),
        "[a-z0-9:*./]{0,12}".prop_map(|text| format!("[{text:?}, {text:?}]")),
        "[0-9]{1,22}(ms|s|m|h|d|KiB|MiB|GiB)?".prop_map(|text| format!("{text:?}")),
        "\\PC{0,8}".prop_map(|text| format!("'{}'", text.replace('\'', ""))),
    ]
}

fn check(text: &str) {
    let Examined { config, found } = Examined::of_text(text, None);
    for fault in &found {
        let printed = fault.to_string();
        assert!(!printed.contains('\n'), "{printed:?}");
    }
    assert!(config.is_some() || !found.is_empty());
}

proptest! {
    #[test]
    fn any_text_is_answered(text in "\\PC{0,200}") {
        check(&text);
    }

    #[test]
    fn any_bytes_within_the_example_are_answered(
        at in 0..EXAMPLE.len(), length in 0..40usize, bytes in proptest::collection::vec(any::<u8>(), 0..12),
    ) {
        let mut text = EXAMPLE.as_bytes().to_vec();
        text.splice(at..(at + length).min(EXAMPLE.len()), bytes);
        check(&String::from_utf8_lossy(&text));
    }

    #[test]
    fn any_value_of_any_key_is_answered(
        table in 0..keys::TABLES.len(), key in any::<proptest::sample::Index>(), value in value(),
    ) {
        let (table, known) = keys::TABLES[table];
        let key = known[key.index(known.len())];
        let text = match table {
            "" => format!("{key} = {value}\n{LEAST}"),
            "listener" | "site" | "backend" => LEAST.replace(&format!("[[{table}]]"), &format!("[[{table}]]\n{key} = {value}")),
            "listener.limits" => LEAST.replace("[[site]]", &format!("[{table}]\n{key} = {value}\n[[site]]")),
            "site.certificate" => LEAST.replace("key = \"server.key\"", &format!("{key} = {value}")),
            "site.client" => LEAST.replace("[site.client]", &format!("[site.client]\n{key} = {value}")),
            "site.client.allow" => LEAST.replace("[site.client]", &format!("[site.client]\nallow = [{{ {key} = {value} }}]")),
            "site.client.authority" => LEAST.replace("trust = ", &format!("[[{table}]]\n{key} = {value}\nq = ")),
            "site.tls" | "site.http" => LEAST.replace("[site.client]", &format!("[{table}]\n{key} = {value}\n[site.client]")),
            "backend.health" => format!("{LEAST}[{table}]\n{key} = {value}\n"),
            _ => format!("[{table}]\n{key} = {value}\n{LEAST}"),
        };
        check(&text);
    }

    #[test]
    fn a_duration_that_is_taken_says_how_long_it_is(days in 0..3000u64, hours in 0..24u64, seconds in 0..60u64) {
        let expected = ((days * 24 + hours) * 3600) + seconds;
        let text = format!("{days}d{hours}h{seconds}s");
        prop_assert_eq!(forms::duration(&text).unwrap().as_secs(), expected);
    }

    #[test]
    fn any_name_is_parsed_or_refused(text in "\\PC{0,40}|([CNOU]{1,2}=[ a-c\\\\\"+,;#]{0,6}[,+]){1,4}") {
        let _ = dn::check(&text);
    }
}

#[test]
fn nesting_without_end_is_refused_and_not_followed() {
    for text in [
        format!("a{} = 1", ".a".repeat(100_000)),
        format!("a = {}", "[".repeat(100_000)),
        format!("[a{}]", ".a".repeat(100_000)),
    ] {
        assert!(Config::from_text(&text, None).is_err());
    }
}

#[test]
fn thousands_of_faults_are_said_in_bounded_room() {
    let text: String = (0..20_000).map(|number| format!("k{number} = 1\n")).collect();
    let faults = super::faults_of(&text);
    assert_eq!(faults.len(), super::super::limits::FAULTS_MAX + 1);
}
