use super::sample::*;
use super::*;
use serde_json::json;

/// A server with so many workers after `seconds` of work.
fn sample(seconds: u64, workers: usize) -> Sample {
    let worker = |i: usize| json!({ "connections": i, "busy_seconds_total": seconds as f64 / 2.0 });
    let status = json!({
        "version": "0.1.0", "pid": 7, "uptime_seconds": 100 + seconds, "state": "ready", "unready": null,
        "config": { "file": "/etc/countersign/countersign.toml", "last_reload_ok": true },
        "listeners": [{ "handshakes_in_flight": 3 }],
        "backends": [{ "name": "ledger", "servers": [
            { "address": "127.0.0.1:9000", "up": true, "connections": 12 },
            { "address": "unix:/run/ledger.sock", "up": false, "connect_failures_total": 4 },
            { "address": "127.0.0.1:9001", "up": true, "state": "drain", "connections": 3 },
            { "address": "127.0.0.1:9002", "up": true, "state": "down" },
        ] }],
        "workers": (0..workers).map(worker).collect::<Vec<_>>(),
        "blocks": 1,
        "totals": { "connections": 41, "connections_total": 100 + 50 * seconds, "bytes_in_total": 2_000_000 * seconds },
        "handshakes": { "full": 10 * seconds, "resumed": 40 * seconds, "hrr": 0 },
        "refusals": [{ "reason": "no_cert", "total": 900 }, { "reason": "expired", "total": 2 * seconds }],
        "expiries": [{ "kind": "crl", "name": "CN=Partner CA", "at": 1_000_000 + 7200 }],
        "identities": [
            { "identity": "name:acme", "handshakes_total": 30 * seconds, "bytes_in_total": 5_000, "expires": 2_000_000 },
            { "identity": "cn:\u{1b}[2Jevil\u{202e}", "handshakes_total": 1, "expires": 900_000 },
        ],
        "time": 1_000_000,
    });
    serde_json::from_value(status).unwrap()
}

fn view(workers: usize) -> View {
    let begun = Instant::now();
    let mut view = View::new(sample(10, workers), begun);
    view.update(sample(12, workers), begun + Duration::from_secs(2));
    view
}

fn drawn(view: &View, width: u16, height: u16) -> String {
    let mut buffer = Buffer::empty(Rect::new(0, 0, width, height));
    Screen::new(view).render(buffer.area, &mut buffer);
    plain(&buffer)
}

#[test]
fn rates_are_what_changed_in_a_second() {
    let view = view(2);
    assert_eq!((view.rates.connections, view.rates.full, view.rates.resumed), (50.0, 10.0, 40.0));
    assert_eq!((view.rates.bytes_in, &*view.rates.busy), (2e6, &[0.5, 0.5][..]));
    assert_eq!((view.rates.refusals["expired"], view.rates.refusals["no_cert"]), (2.0, 0.0));
    assert_eq!(view.rates.identities["name:acme"], 30.0);
}

#[test]
fn after_a_restart_of_the_server_nothing_is_compared() {
    let mut view = view(2);
    view.update(Sample { pid: 8, ..sample(1, 2) }, Instant::now() + Duration::from_secs(9));
    assert_eq!(view.rates, Rates { busy: vec![0.0; 2], ..Rates::default() });
}

#[test]
fn eighty_columns_and_24_lines_show_everything_that_matters() {
    let text = drawn(&view(2), 80, 24);
    for part in [
        "countersign 0.1.0 ready",
        "41 connections  +50/s",
        "in 2.0 MB/s",
        "full",
        "40",
        "expired",
        "no_cert",
        "50%",
        "ledger",
        "127.0.0.1:9000",
        "down",
        "drain",
        "off",
        "crl",
        "CN=Partner CA",
        "2 h",
        "name:acme",
        "30 ",
        "ran out",
        "q quits",
    ] {
        assert!(text.contains(part), "{part} in\n{text}");
    }
    assert!(text.find("expired").unwrap() < text.find("no_cert").unwrap(), "what happens now comes first\n{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 80));
}

#[test]
fn of_a_long_name_the_end_is_shown_too() {
    let mut view = view(2);
    view.now.identities[0].identity = "uri:spiffe://bank.example/payments/partners/settlement/acme".to_owned();
    let text = drawn(&view, 80, 24);
    assert!(text.contains("uri:spiffe:/…") && text.contains("settlement/acme "), "{text}");
    assert!(drawn(&view, 140, 24).contains(&view.now.identities[0].identity));
}

#[test]
fn no_name_steers_the_terminal() {
    let text = drawn(&view(2), 200, 60);
    assert!(!text.contains(['\u{1b}', '\u{202e}']), "{text:?}");
    assert!(text.contains("evil"), "{text}");
}

#[test]
fn every_size_is_drawn_and_many_workers_are_summed_up() {
    let view = view(300);
    for (width, height) in [(1, 1), (10, 3), (40, 10), (80, 24), (132, 43), (300, 100), (500, 8)] {
        drawn(&view, width, height);
    }
    assert!(drawn(&view, 80, 24).contains("more ≤50%"));
}

#[test]
fn a_server_that_went_away_is_said_so_over_its_last_answer() {
    let mut view = view(2);
    view.lose("nobody answers at /run/x.sock".to_owned());
    let text = drawn(&view, 80, 24);
    assert!(text.contains("no answer") && text.contains("nobody answers at") && text.contains("ledger"), "{text}");
    view.update(sample(13, 2), Instant::now() + Duration::from_secs(60));
    assert!(!drawn(&view, 80, 24).contains("no answer"));
}

#[test]
fn an_answer_of_another_version_is_drawn_too() {
    let old: Sample = serde_json::from_str("{\"version\":\"0.0.9\",\"new_field\":1}").unwrap();
    drawn(&View::new(old, Instant::now()), 80, 24);
}

#[test]
fn keys_quit_pause_and_scroll() {
    let key = |code| KeyEvent::new(code, KeyModifiers::NONE);
    assert!(is_quit(key(KeyCode::Char('q'))) && is_quit(key(KeyCode::Esc)));
    assert!(is_quit(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL)) && !is_quit(key(KeyCode::Char('c'))));
    let mut view = view(2);
    press(&mut view, KeyCode::Char('p'));
    assert!(view.paused);
    press(&mut view, KeyCode::PageDown);
    assert_eq!(view.scrolled, 1, "not past the last");
    assert!(!drawn(&view, 80, 24).contains("name:acme"));
    press(&mut view, KeyCode::Up);
    assert_eq!(view.scrolled, 0);
}
