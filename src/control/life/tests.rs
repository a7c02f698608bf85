use super::*;
use crate::config::{Admin, Audit, AuditTarget, OnFull};
use crate::control::fixture;
use crate::control::reload::Loaded;
use crate::control::service::scripted::Scripted;
use crate::control::state::Facts;
use crate::worker::counters::Counters;
use std::cell::RefCell;
use std::fs;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

fn loaded() -> Load<()> {
    Arc::new(|_, _| Ok(Loaded { snapshot: Arc::new(()), facts: Facts::default(), warnings: Vec::new() }))
}

fn audited(path: &Path) -> Config {
    let mut config = fixture::config();
    config.audit = Some(Audit { target: AuditTarget::File(path.to_owned()), on_full: OnFull::Drop });
    config.runtime.drain_timeout = Duration::from_millis(30);
    config
}

fn service(config: &Config, connections: u64) -> Scripted {
    let mut service = Scripted::with_connections(connections);
    let address: SocketAddr = "127.0.0.1:8443".parse().unwrap();
    service.addresses = vec![(Arc::from("public"), address), (Arc::from("public"), address)];
    service.counters = (0..2).map(|_| Arc::new(Counters::for_config(config))).collect();
    service
}

/// Signals that come as soon as the process serves.
fn scripted(asked: &[Asked]) -> impl FnOnce(&mpsc::Sender<Asked>) -> io::Result<()> {
    move |sender| {
        asked.iter().for_each(|asked| sender.try_send(*asked).unwrap());
        Ok(())
    }
}

fn audit_lines(path: &Path) -> Vec<serde_json::Value> {
    fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_run_that_drains_exits_0_and_its_audit_tells_start_and_stop() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("audit.jsonl");
    let config = audited(&path);
    let service = service(&config, 0);
    let said = Rc::new(RefCell::new(None));
    let saying = Rc::clone(&said);
    let options = Options {
        announce: Some(Box::new(move |ready| *saying.borrow_mut() = Some(ready.clone()))),
        ..Options::default()
    };
    let code =
        run_with(config, options, loaded(), |_, _, _, _| Ok(service), scripted(&[Asked::ReopenLogs, Asked::Stop]));
    assert_eq!(code, 0);
    let lines = audit_lines(&path);
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0]["event"], "start");
    assert_eq!(lines[0]["digest"], "ab".repeat(32));
    assert_eq!(lines[1]["event"], "stop");
    assert_eq!(lines[1]["drained"], true);
    let ready = said.borrow().clone().unwrap().to_string();
    let expected = format!(
        "ready listeners=public=127.0.0.1:8443;partners= workers=2 engine=epoll pid={} config=/etc/countersign/countersign.toml",
        std::process::id()
    );
    assert_eq!(ready, expected);
}

#[test]
fn connections_cut_at_the_deadline_make_it_exit_1() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("audit.jsonl");
    let config = audited(&path);
    let service = service(&config, 3);
    let options = Options { announce: Some(Box::new(|_| ())), ..Options::default() };
    let code = run_with(config, options, loaded(), |_, _, _, _| Ok(service), scripted(&[Asked::Stop]));
    assert_eq!(code, 1);
    assert_eq!(audit_lines(&path)[1]["connections_cut"], 3);
}

#[test]
fn nothing_is_bound_before_the_audit_can_be_written() {
    let config = audited(Path::new("/nonexistent/audit.jsonl"));
    let start = |_: Arc<()>, _: Arc<AuditQueue>, _: Blocks, _: Given<'_>| -> Result<Scripted, StartFailure> {
        panic!("started")
    };
    assert_eq!(run_with(config, Options::default(), loaded(), start, scripted(&[])), 78);
}

#[test]
fn faults_found_in_files_end_the_start_with_their_code() {
    let load: Load<()> = Arc::new(|_, _| Err(vec![Fault::config("site.certificate", "not PEM", "give a PEM file")]));
    let start = |_: Arc<()>, _: Arc<AuditQueue>, _: Blocks, _: Given<'_>| -> Result<Scripted, StartFailure> {
        panic!("started")
    };
    assert_eq!(run_with(fixture::config(), Options::default(), load, start, scripted(&[])), 78);
}

#[test]
fn an_admin_address_in_use_ends_the_start_with_69() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut config = fixture::config();
    config.admin = Some(Admin { http: taken.local_addr().ok(), probe: None, socket: None, allow_remote: false });
    let service = service(&config, 0);
    assert_eq!(run_with(config, Options::default(), loaded(), |_, _, _, _| Ok(service), scripted(&[])), 69);
}

#[test]
fn the_ready_line_tells_the_ports_that_port_0_became() {
    let mut config = fixture::config();
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    config.admin = Some(Admin { http: Some(any), probe: Some(any), socket: None, allow_remote: false });
    let service = service(&config, 0);
    let announce = |ready: &Ready| {
        assert!(ready.admin.is_some_and(|address| address.port() != 0));
        assert!(ready.probe.is_some_and(|address| address.port() != 0));
        assert!(ready.to_string().contains(&format!(" admin={} ", ready.admin.unwrap())));
    };
    let options = Options { announce: Some(Box::new(announce)), ..Options::default() };
    assert_eq!(run_with(config, options, loaded(), |_, _, _, _| Ok(service), scripted(&[Asked::Stop])), 0);
}
