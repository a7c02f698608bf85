//! The flag form makes what a file with the same values makes.

use super::super::{Admin, Config, Flags, Server};
use super::taken;
use std::path::PathBuf;

fn flags() -> Flags {
    Flags {
        listen: vec!["127.0.0.1:0".to_owned()],
        backend: "127.0.0.1:9000".to_owned(),
        certificate: PathBuf::from("/etc/countersign/server.pem"),
        key: PathBuf::from("/etc/countersign/server.key"),
        client_ca: PathBuf::from("/etc/countersign/clients-ca.pem"),
        admin: None,
    }
}

#[track_caller]
fn refused(flags: &Flags, flag: &str, words: &str) {
    let faults = Config::from_flags(flags).unwrap_err();
    assert_eq!(faults.len(), 1, "{faults:#?}");
    assert_eq!(faults[0].key, flag);
    assert!(faults[0].to_string().contains(words), "{}", faults[0]);
}

#[test]
fn flags_make_the_same_as_the_least_file() {
    let from_flags = Config::from_flags(&flags()).unwrap();
    let mut from_file = taken(super::LEAST);
    from_file.sites[0].line = None;
    from_file.sites[0].client.authorities[0].line = None;
    assert_eq!(from_flags.listeners, from_file.listeners);
    assert_eq!(from_flags.sites, from_file.sites);
    assert_eq!(from_flags.backends, from_file.backends);
    assert_eq!(from_flags.runtime, from_file.runtime);
    assert_eq!(from_flags.tickets, from_file.tickets);
    assert_eq!((from_flags.admin, from_flags.audit), (None, None));
}

#[test]
fn the_backend_may_be_a_unix_socket_and_admin_is_on_if_asked_for() {
    let flags = Flags { backend: "unix:/run/app.sock".to_owned(), admin: Some("127.0.0.1:0".to_owned()), ..flags() };
    let config = Config::from_flags(&flags).unwrap();
    assert_eq!(config.backends[0].servers, [Server::Unix(PathBuf::from("/run/app.sock"))]);
    let http = Some("127.0.0.1:0".parse().unwrap());
    assert_eq!(config.admin, Some(Admin { http, probe: None, socket: None, allow_remote: false }));
}

#[test]
fn each_flag_is_refused_by_its_name() {
    refused(&Flags { listen: vec![], ..flags() }, "--listen", "is missing");
    refused(&Flags { listen: vec!["8443".to_owned()], ..flags() }, "--listen", "not IP:port");
    refused(&Flags { listen: vec!["127.0.0.1:1".to_owned(); 2], ..flags() }, "--listen", "given twice");
    refused(&Flags { backend: "ledger:9000".to_owned(), ..flags() }, "--backend", "names are not looked up");
    refused(&Flags { backend: "192.0.2.1:9000".to_owned(), ..flags() }, "--backend", "leave this host");
    refused(&Flags { admin: Some("0.0.0.0:9180".to_owned()), ..flags() }, "--admin", "reached from other hosts");
    refused(&Flags { key: PathBuf::new(), ..flags() }, "--key", "is empty");
    let same = Flags { listen: vec!["127.0.0.1:9000".to_owned()], ..flags() };
    refused(&same, "--backend", "address of --listen");
}

#[test]
fn all_faults_of_the_flags_are_said_at_once() {
    let bad = Flags { listen: vec!["x".to_owned()], backend: "y".to_owned(), ..flags() };
    let keys: Vec<String> = Config::from_flags(&bad).unwrap_err().into_iter().map(|fault| fault.key).collect();
    assert_eq!(keys, ["--listen", "--backend"]);
}
