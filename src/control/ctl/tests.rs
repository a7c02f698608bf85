//! The conversation over a real socket, with scripted workers.

use super::*;
use crate::config::{Config, Fault, limits};
use crate::control::audit::Writer;
use crate::control::block_book::BlockBook;
use crate::control::desk::Desk;
use crate::control::fixture;
use crate::control::reload::{Load, Loaded};
use crate::control::service::Service;
use crate::control::service::scripted::Scripted;
use crate::control::signals::Asked;
use crate::control::state::{Facts, State};
use crate::control::watch::{self, Watch};
use crate::worker::audit_queue::AuditQueue;
use crate::worker::counters::Counters;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::sync::{Notify, mpsc};

/// A desk with its socket, in a directory of its own.
struct World {
    dir: tempfile::TempDir,
    desk: Arc<Desk<Scripted>>,
    asked: mpsc::Receiver<Asked>,
    _file: socket::SocketFile,
}

/// What loading says; tests change it.
type Faults = Arc<Mutex<Vec<Fault>>>;

fn desk(config: Config, faults: &Faults) -> (Desk<Scripted>, mpsc::Receiver<Asked>) {
    let config = Arc::new(config);
    let (asked, heard) = mpsc::channel(4);
    let queue = Arc::new(AuditQueue::default());
    let counters: Vec<_> = vec![Arc::new(Counters::for_config(&config))];
    let (book, _) = BlockBook::open(config.runtime.state_dir.as_deref()).unwrap();
    let faults = Arc::clone(faults);
    let load: Load<()> = Arc::new(move |_, _| match faults.lock().unwrap().clone() {
        none if none.is_empty() => Ok(Loaded { snapshot: Arc::new(()), facts: Facts::default(), warnings: Vec::new() }),
        faults => Err(faults),
    });
    let desk = Desk {
        confinement: Default::default(),
        state: Arc::new(State::new(fixture::generation(Arc::clone(&config), counters), Some(Arc::clone(&queue)))),
        service: Arc::new(Scripted::with_connections(3)),
        writer: Writer::start(None, queue, Arc::default()).unwrap(),
        log: Default::default(),
        refusals: Arc::default(),
        book,
        blocking: Mutex::default(),
        block_ends: Default::default(),
        blocks_changed: Notify::default(),
        watch: Watch::new(watch::look_at(&config)),
        load,
        asked,
        reloading: tokio::sync::Mutex::default(),
        reload_is_waiting: AtomicBool::default(),
        turning: Mutex::default(),
        doors: Default::default(),
        giving: AtomicBool::default(),
        elder: Default::default(),
    };
    (desk, heard)
}

/// Runs `test` with a server that was configured as `change` says.
fn with_server(change: impl FnOnce(&mut Config, &Path), test: impl AsyncFnOnce(&mut World, Faults)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let dir = tempfile::tempdir().unwrap();
        let mut config = fixture::config();
        config.file = None;
        change(&mut config, dir.path());
        let faults = Faults::default();
        let (desk, asked) = desk(config, &faults);
        let desk = Arc::new(desk);
        let Ok(Opened::Socket(file)) = open(&dir.path().join("admin.sock"), &desk, None) else { panic!("no socket") };
        let mut world = World { dir, desk, asked, _file: file };
        let patience = std::time::Duration::from_secs(60);
        tokio::time::timeout(patience, test(&mut world, faults)).await.unwrap();
    });
}

impl World {
    fn socket(&self) -> PathBuf {
        self.dir.path().join("admin.sock")
    }

    /// Sends a line, and reads one.
    async fn raw(&self, line: &str) -> Value {
        let mut stream = BufReader::new(UnixStream::connect(self.socket()).await.unwrap());
        // The server may close before it has read all of it.
        let _ = stream.get_mut().write_all(format!("{line}\n").as_bytes()).await;
        let mut answer = String::new();
        stream.read_line(&mut answer).await.unwrap();
        serde_json::from_str(&answer).unwrap()
    }

    async fn ask(&self, request: &Request) -> Value {
        self.raw(&serde_json::to_string(request).unwrap()).await
    }
}

fn block(client: Selector) -> Request {
    Request::Block { client, for_seconds: None, why: None }
}

fn identity(text: &str) -> Selector {
    Selector::Identity(text.to_owned())
}

#[test]
fn a_block_is_in_force_listed_and_taken_away_again() {
    with_server(
        |_, _| {},
        async |world, _| {
            let acme = || identity("uri:spiffe://bank.example/acme");
            let why = Some("lost laptop".to_owned());
            let answer = world.ask(&Request::Block { client: acme(), for_seconds: Some(3600), why }).await;
            assert_eq!(answer["ok"], true, "{answer}");
            assert!(answer["text"].as_str().unwrap().contains("a restart forgets"), "{answer}");
            assert_eq!(world.desk.service.blocks().len(), 1);
            let blocked = world.ask(&Request::Blocked).await;
            assert_eq!(blocked["data"][0]["identity"], "uri:spiffe://bank.example/acme");
            assert_eq!(blocked["data"][0]["why"], "lost laptop");
            assert!(blocked["text"].as_str().unwrap().contains("lost laptop"), "{blocked}");
            assert_eq!(world.ask(&Request::Unblock { client: acme() }).await["ok"], true);
            assert!(world.desk.service.blocks().is_empty());
            let again = world.ask(&Request::Unblock { client: acme() }).await;
            assert_eq!(again["ok"], false, "{again}");
        },
    );
}

#[test]
fn selectors_are_taken_in_every_spelling_and_refused_with_what_to_write() {
    with_server(
        |_, _| {},
        async |world, _| {
            let colons = "AB:".repeat(32);
            let issuer = Some("CN=Partner CA,O=Bank".to_owned());
            for good in [
                Selector::Serial { serial: "03A5B1".into(), issuer: None },
                Selector::Serial { serial: "0x03:a5:b1".into(), issuer },
                Selector::Sha256(colons.trim_end_matches(':').into()),
                Selector::SpkiSha256("cd".repeat(32)),
                Selector::Sha256(format!("sha256:{}", "ab".repeat(32))),
                // 0xcd 32 times, as pins of public keys are mostly written.
                Selector::SpkiSha256("zc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc0=".into()),
                identity("name:acme"),
            ] {
                let answer = world.ask(&block(good.clone())).await;
                assert_eq!(answer["ok"], true, "{good}: {answer}");
            }
            assert_eq!(world.desk.service.blocks().len(), 5, "spellings of one digest are one block");
            for (bad, help) in [
                (Selector::Serial { serial: "acme".into(), issuer: None }, "hex"),
                (Selector::Serial { serial: String::new(), issuer: None }, "hex"),
                (Selector::Serial { serial: "1".into(), issuer: Some("no name".into()) }, "no name"),
                (Selector::Sha256("abcd".into()), "64 hex digits"),
                (Selector::SpkiSha256("zc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3N".into()), "64 hex digits"),
                (identity("acme"), "uri:"),
                (identity("uri:"), "uri:"),
            ] {
                let answer = world.ask(&block(bad.clone())).await;
                assert_eq!(answer["ok"], false, "{bad}");
                assert!(answer["text"].as_str().unwrap().contains(help), "{bad}: {answer}");
            }
            assert_eq!(world.desk.service.blocks().len(), 5);
        },
    );
}

#[test]
fn blocks_are_stored_where_there_is_a_place_and_it_is_told_where_they_cannot_be() {
    with_server(
        |config, dir| config.runtime.state_dir = Some(dir.join("state")),
        async |world, _| {
            let answer = world.ask(&block(identity("cn:a"))).await;
            assert_eq!(answer["ok"], true);
            assert!(!answer["text"].as_str().unwrap().contains("restart"), "{answer}");
            let state = world.dir.path().join("state");
            assert_eq!(BlockBook::open(Some(&state)).unwrap().1.len(), 1);
            std::fs::remove_dir_all(&state).unwrap();
            let answer = world.ask(&block(identity("cn:b"))).await;
            assert_eq!(answer["ok"], false, "{answer}");
            assert!(answer["text"].as_str().unwrap().contains("could not be stored"), "{answer}");
            assert_eq!(world.desk.service.blocks().len(), 2, "it is in force all the same");
        },
    );
}

#[test]
fn without_a_place_a_restart_is_spoken_of_where_it_changes_something() {
    with_server(
        |_, _| {},
        async |world, _| {
            let blocked = world.ask(&block(identity("cn:a"))).await;
            assert!(blocked["text"].as_str().unwrap().contains("a restart forgets the block"), "{blocked}");
            let unblocked = world.ask(&Request::Unblock { client: identity("cn:a") }).await;
            assert_eq!(unblocked["ok"], true, "{unblocked}");
            assert!(!unblocked["text"].as_str().unwrap().contains("restart"), "{unblocked}");
        },
    );
}

#[test]
fn a_block_that_ran_out_is_taken_off_the_list() {
    with_server(
        |config, dir| config.runtime.state_dir = Some(dir.join("state")),
        async |world, _| {
            let expired = Request::Block { client: identity("cn:a"), for_seconds: Some(0), why: None };
            world.ask(&expired).await;
            world.ask(&block(identity("cn:b"))).await;
            assert!(world.desk.until_a_block_ends() <= std::time::Duration::from_secs(1));
            let purging = tokio::spawn(Arc::clone(&world.desk).purge_blocks());
            let state = world.dir.path().join("state");
            while BlockBook::open(Some(&state)).unwrap().1.len() > 1 {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
            purging.abort();
            assert_eq!(world.desk.service.blocks().len(), 1);
            assert_eq!(world.desk.until_a_block_ends(), std::time::Duration::MAX);
        },
    );
}

#[test]
fn a_reload_answers_with_every_fault_and_changes_nothing_then() {
    with_server(
        |_, _| {},
        async |world, faults| {
            *faults.lock().unwrap() =
                vec![Fault::config("a", "is wrong", "mend it"), Fault::config("b", "is wrong too", "mend it")];
            let answer = world.ask(&Request::Reload).await;
            assert_eq!(answer["ok"], false);
            let text = answer["text"].as_str().unwrap();
            assert!(text.contains("a: is wrong") && text.contains("b: is wrong too"), "{answer}");
            assert!(!world.desk.state.last_load().ok);
            assert!(world.desk.service.seen().lock().unwrap().is_empty(), "nothing was published");
            faults.lock().unwrap().clear();
            assert_eq!(world.ask(&Request::Reload).await["ok"], true);
            assert!(world.desk.state.last_load().ok);
            assert_eq!(*world.desk.service.seen().lock().unwrap(), ["publish"]);
        },
    );
}

#[test]
fn a_reload_that_workers_refuse_or_that_comes_while_draining_is_refused() {
    with_server(
        |_, _| {},
        async |world, _| {
            world.desk.service.refusing.store(true, Ordering::SeqCst);
            let answer = world.ask(&Request::Reload).await;
            assert_eq!(answer["ok"], false);
            assert!(answer["text"].as_str().unwrap().contains("in use"), "{answer}");
            world.desk.service.refusing.store(false, Ordering::SeqCst);
            world.desk.turn_to_draining();
            let answer = world.ask(&Request::Reload).await;
            assert_eq!(answer["ok"], false);
            assert!(answer["text"].as_str().unwrap().contains("draining"), "{answer}");
        },
    );
}

#[test]
fn a_drain_reaches_the_main_loop_with_its_time_and_a_second_one_is_refused() {
    with_server(
        |_, _| {},
        async |world, _| {
            let answer = world.ask(&Request::Drain { timeout_ms: Some(1500) }).await;
            assert_eq!(answer["ok"], true, "{answer}");
            let patience = std::time::Duration::from_millis(1500);
            assert_eq!(world.asked.recv().await, Some(Asked::Drain(Some(patience))));
            world.desk.turn_to_draining();
            assert_eq!(world.ask(&Request::Drain { timeout_ms: None }).await["ok"], false);
        },
    );
}

#[test]
fn what_is_no_request_is_refused_and_the_next_client_is_served() {
    with_server(
        |_, _| {},
        async |world, _| {
            for line in ["", "{", "[]", "{\"command\":\"explode\"}", "{\"command\":\"block\",\"who\":\"x\"}"] {
                assert_eq!(world.raw(line).await["ok"], false, "{line}");
            }
            let long = "x".repeat(limits::CTL_REQUEST_BYTES_MAX + 10);
            assert_eq!(world.raw(&long).await["ok"], false);
            assert_eq!(world.ask(&Request::Status).await["data"]["state"], "starting");
        },
    );
}

#[test]
fn a_client_may_ask_more_than_once_and_many_may_at_a_time() {
    with_server(
        |_, _| {},
        async |world, _| {
            let silent = UnixStream::connect(world.socket()).await.unwrap();
            let mut stream = UnixStream::connect(world.socket()).await.unwrap();
            let line = format!("{}\n", json!({ "command": "blocked" }));
            stream.write_all(line.repeat(3).as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
            let mut answers = String::new();
            stream.read_to_string(&mut answers).await.unwrap();
            assert_eq!(answers.lines().count(), 3);
            drop(silent);
        },
    );
}

#[test]
fn clients_beyond_the_bound_push_out_the_oldest() {
    with_server(
        |_, _| {},
        async |world, _| {
            let mut oldest = UnixStream::connect(world.socket()).await.unwrap();
            let mut others = Vec::new();
            for _ in 0..limits::CTL_CONNECTIONS_MAX {
                others.push(UnixStream::connect(world.socket()).await.unwrap());
            }
            let mut nothing = Vec::new();
            oldest.read_to_end(&mut nothing).await.unwrap();
            assert_eq!(world.ask(&Request::Status).await["ok"], true);
        },
    );
}

#[test]
fn a_chain_that_is_no_chain_is_refused() {
    with_server(
        |_, _| {},
        async |world, _| {
            let chain = vec!["not base64!".to_owned()];
            let answer = world.ask(&Request::Explain { listener: None, sni: None, chain }).await;
            assert_eq!(answer["ok"], false);
        },
    );
}
