//! What the contract promises and the program does not do yet: such a key is refused, never ignored. A line goes when
//! its behaviour comes.

use super::walk::{Table, Value};

/// When a key is refused, and what to do about it.
struct Pending {
    /// Dotted, without indices.
    key: &'static str,
    refused: Refused,
    help: &'static str,
}

/// Which values of a key need what is not there.
enum Refused {
    Any,
    /// These alone.
    Words(&'static [&'static str]),
}

use Refused::{Any, Words};

#[rustfmt::skip]
const PENDING: &[Pending] = &[
    Pending { key: "site.protocol", refused: Words(&["http"]), help: "leave it out, or write \"tcp\"" },
    Pending { key: "site.http", refused: Any, help: "leave the table out" },
];

/// Refuses what is pending. Comes after the forms were checked: a value at fault has been spoken of already.
pub(super) fn refuse(root: &Table<'_>) {
    for pending in PENDING {
        for value in root.find(pending.key) {
            if !value.place.has_fault_below() && pending.refused.holds(&value) {
                value.place.fault("is not yet supported", pending.help);
            }
        }
    }
}

impl Refused {
    fn holds(&self, value: &Value<'_>) -> bool {
        match self {
            Any => true,
            Words(words) => value.as_text().is_some_and(|text| words.contains(&text)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{LEAST, faults_of};
    use super::*;

    /// A value of each pending key that is refused, and one that is not (if there is any).
    fn examples(key: &str) -> (&'static str, Option<&'static str>) {
        match key {
            "site.protocol" => ("\"http\"", Some("\"tcp\"")),
            "site.http" => ("{}", None),
            _ => unreachable!("{key}"),
        }
    }

    /// The least configuration with one more key.
    fn with(key: &str, value: &str) -> String {
        let (table, name) = key.rsplit_once('.').unwrap();
        match table {
            "listener" | "site" | "backend" => {
                LEAST.replace(&format!("[[{table}]]"), &format!("[[{table}]]\n{name} = {value}"))
            }
            _ => format!("[{table}]\n{name} = {value}\n{LEAST}"),
        }
    }

    #[test]
    fn refuses_each_pending_key_by_name_and_takes_its_harmless_values() {
        for pending in PENDING {
            let (refused, taken) = examples(pending.key);
            let faults = faults_of(&with(pending.key, refused));
            let fault = faults.iter().find(|fault| fault.key == pending.key).expect(pending.key);
            assert_eq!(fault.message, "is not yet supported", "{fault}");
            assert_eq!(faults.len(), 1, "{faults:?}");
            if let Some(taken) = taken {
                assert_eq!(faults_of(&with(pending.key, taken)), [], "{}", pending.key);
            }
        }
    }

    #[test]
    fn a_malformed_pending_key_gets_the_fault_of_its_form() {
        for pending in PENDING {
            let faults = faults_of(&with(pending.key, "1.5"));
            assert_eq!(faults.len(), 1, "{faults:?}");
            assert_ne!(faults[0].message, "is not yet supported", "{}", pending.key);
        }
    }
}
