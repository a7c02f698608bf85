use super::*;
use crate::config::{AuditTarget, Auth, ProxyProtocol};
use std::os::unix::fs::PermissionsExt;

fn listen() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

#[test]
fn what_is_written_is_what_runs_and_asks_for_a_certificate() {
    let directory = tempfile::tempdir().unwrap();
    let (dir, _, config) = prepare(Some(directory.path()), listen()).unwrap();
    assert_eq!(config.sites[0].client.auth, Auth::Require);
    assert_eq!(config.backends[0].proxy_protocol, ProxyProtocol::V2);
    assert!(config.backends[0].proxy_tlvs.client_cert);
    assert_eq!(config.audit.as_ref().unwrap().target, AuditTarget::File(dir.join(AUDIT)));
    assert_eq!(config.listeners[0].addresses, [listen().into()]);
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    assert!(Config::from_file(&dir.join(CONFIGURATION)).is_ok());
}

#[test]
fn a_second_run_in_the_same_directory_keeps_its_certificates() {
    let directory = tempfile::tempdir().unwrap();
    let files =
        |pki: &pki::DemoPki| [&pki.ca, &pki.server_chain, &pki.client_chain].map(|path| fs::read(path).unwrap());
    let (_, first, _) = prepare(Some(directory.path()), listen()).unwrap();
    let before = files(&first);
    let (_, second, _) = prepare(Some(directory.path()), listen()).unwrap();
    assert_eq!(files(&second), before);
}

#[test]
fn keys_and_configuration_are_for_their_owner_alone() {
    let directory = tempfile::tempdir().unwrap();
    let (dir, pki, _) = prepare(Some(&directory.path().join("deep/down")), listen()).unwrap();
    for path in [&pki.server_key, &pki.client_key, &dir.join(CONFIGURATION)] {
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600, "{}", path.display());
    }
    assert_eq!(fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);
}

#[test]
fn a_directory_with_a_strange_name_still_works() {
    let directory = tempfile::tempdir().unwrap();
    let (dir, pki, _) = prepare(Some(&directory.path().join("it's \"a\": \\demo")), listen()).unwrap();
    let text = lines::welcome(&dir, &pki, "127.0.0.1:8443".parse().unwrap(), None, &dir.join(AUDIT));
    let line = text.lines().find(|line| line.contains("--key")).unwrap();
    // The shell itself says how it reads the line.
    let script = format!("curl() {{ for word; do printf '%s\\n' \"$word\"; done; }}; {line}");
    let output = std::process::Command::new("sh").arg("-c").arg(script).output().unwrap();
    let words = String::from_utf8(output.stdout).unwrap();
    assert!(words.lines().any(|word| Path::new(word) == pki.client_key), "{words}");
    assert!(words.lines().any(|word| Path::new(word) == pki.ca), "{words}");
}

#[test]
fn without_a_directory_a_fresh_one_is_made_that_only_we_can_enter() {
    let (one, other) = (fresh_directory().unwrap(), fresh_directory().unwrap());
    assert_ne!(one, other);
    for dir in [one, other] {
        assert_eq!(fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);
        fs::remove_dir(dir).unwrap();
    }
}

#[test]
fn a_directory_that_cannot_be_made_is_said_so() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let failure = prepare(Some(&file.path().join("below")), listen()).unwrap_err();
    assert!(failure.message.contains("--dir"), "{failure}");
}
