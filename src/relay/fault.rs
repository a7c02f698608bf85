//! Panics, standstills and used-up keys on demand, for the tests that show that a panic ends one connection alone, that a
//! worker that hangs is found out, and what becomes of used-up keys. Debug builds have them, release builds do not.

use std::sync::OnceLock;

/// Names the connections that are to panic: with the value `boom.example`, a client that asks for the server name
/// `transfer.boom.example` makes its connection panic at the point `transfer`.
const VARIABLE: &str = "COUNTERSIGN_TEST_PANIC_SNI";

/// Panics if the environment asks for it at this point of this client's connection.
pub(super) fn panic_if_asked(point: &str, sni: Option<&str>) {
    static NAME: OnceLock<Option<String>> = OnceLock::new();
    let name = NAME.get_or_init(|| std::env::var(VARIABLE).ok().filter(|name| !name.is_empty()));
    let (Some(name), Some(sni)) = (name, sni) else { return };
    let asked = sni.strip_suffix(name.as_str()).and_then(|rest| rest.strip_suffix('.'));
    assert!(asked != Some(point), "{VARIABLE} asks for a panic at the point {point}");
}

/// Names the connections that are to stop their worker: with the value `hang.example`, a client that asks for the server
/// name `transfer.hang.example` makes the worker hang at the point `transfer`.
const HANG_VARIABLE: &str = "COUNTERSIGN_TEST_HANG_SNI";

/// As good as for ever, and yet a test that forgets its server leaves none behind.
const HANGS: std::time::Duration = std::time::Duration::from_secs(120);

/// Stops this thread if the environment asks for it at this point of this client's connection.
pub(super) fn hang_if_asked(point: &str, sni: Option<&str>) {
    static NAME: OnceLock<Option<String>> = OnceLock::new();
    let name = NAME.get_or_init(|| std::env::var(HANG_VARIABLE).ok().filter(|name| !name.is_empty()));
    let (Some(name), Some(sni)) = (name, sni) else { return };
    if sni.strip_suffix(name.as_str()).and_then(|rest| rest.strip_suffix('.')) == Some(point) {
        std::thread::sleep(HANGS);
    }
}

/// Makes keys on the kernel path used up after so many records, for the tests that show what happens then.
const RECORDS: &str = "COUNTERSIGN_TEST_RECORDS_MAX";

/// The limit of records that the environment asks for.
pub(super) fn records_max() -> Option<u64> {
    static RECORDS_MAX: OnceLock<Option<u64>> = OnceLock::new();
    *RECORDS_MAX.get_or_init(|| std::env::var(RECORDS).ok().and_then(|number| number.parse().ok()))
}
