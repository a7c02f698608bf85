//! What every connection writes and counts: PROXY headers, audit lines, counters.

use std::hint::black_box;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use countersign::config::ProxyTlvs;
use countersign::stats::{Counter, Histogram};
use countersign::trust::Reason;
use countersign::wire::audit::{self, CloseReason, ConnectionId, ConnectionRecord, Event, Path, Record, TlsFacts};
use countersign::wire::proxy;
use criterion::Criterion;

pub fn counters(criterion: &mut Criterion) {
    let (counter, histogram) = (Counter::default(), Histogram::default());
    let mut group = criterion.benchmark_group("stats");
    group.bench_function("counter", |b| b.iter(|| black_box(&counter).increment()));
    group.bench_function("histogram", |b| b.iter(|| black_box(&histogram).record(black_box(417))));
    group.finish();
}

fn addresses() -> (SocketAddr, SocketAddr) {
    ("203.0.113.7:51234".parse().expect("an address"), "192.0.2.10:443".parse().expect("an address"))
}

pub fn proxy(criterion: &mut Criterion) {
    let (source, destination) = addresses();
    let ssl = proxy::Ssl {
        version: "1.3",
        cn: Some("settlement.partner.example"),
        cipher: "TLS_AES_128_GCM_SHA256",
        sig_alg: Some("ecdsa-with-SHA256"),
        key_alg: Some("EC256"),
        group: Some("X25519"),
        sig_scheme: Some("ecdsa_secp256r1_sha256"),
        presence: proxy::Presence::Full,
        verify: 0,
    };
    let header = proxy::Header {
        source,
        destination,
        alpn: Some(b"http/1.1"),
        authority: Some("api.bank.example"),
        unique_id: ConnectionId([7; 16]),
        ssl: Some(ssl),
        client_cert: None,
    };
    let usual =
        ProxyTlvs { alpn: true, authority: true, unique_id: true, ssl: true, crc32c: false, client_cert: false };
    let mut out = Vec::with_capacity(1024);
    let mut group = criterion.benchmark_group("proxy");
    for (name, wanted) in [("write_v2", usual), ("write_v2_crc32c", ProxyTlvs { crc32c: true, ..usual })] {
        group.bench_function(name, |b| {
            b.iter(|| {
                out.clear();
                proxy::write_v2(black_box(&header), wanted, &mut out);
            })
        });
    }
    let written = out.clone();
    group.bench_function("parse_v2", |b| b.iter(|| proxy::parse(black_box(&written))));
    group.bench_function("write_v1", |b| {
        b.iter(|| {
            out.clear();
            proxy::write_v1(black_box(source), destination, &mut out);
        })
    });
    group.finish();
}

pub fn audit(criterion: &mut Criterion) {
    let record = ConnectionRecord {
        ts: SystemTime::UNIX_EPOCH,
        conn_id: ConnectionId([7; 16]),
        event: Event::Closed,
        listener: "public".into(),
        site: Some("payments".into()),
        client: addresses().0,
        sni: Some("api.bank.example".to_owned()),
        alpn: Some(b"http/1.1".to_vec()),
        tls: Some(TlsFacts { version: "1.3", cipher: "TLS_AES_128_GCM_SHA256", group: Some("X25519"), resumed: false }),
        leaf: None,
        chain_len: 2,
        proven: true,
        identity: Some("uri:spiffe://bank.example/payments/a".into()),
        rule: Some("uri=spiffe://bank.example/payments/*".into()),
        reason: Reason::Ok,
        reason_detail: String::new(),
        verify: 0,
        epoch: 3,
        our_alert: None,
        peer_alert: None,
        handshake_micros: 512,
        backend: Some(Arc::from("ledger/127.0.0.1:9000")),
        path: Path::User,
        bytes_in: 1024,
        bytes_out: 4096,
        close_reason: Some(CloseReason::Done),
        duration_micros: 123_456,
    };
    let record = Record::Connection(Box::new(record));
    let mut out = Vec::with_capacity(4096);
    criterion.bench_function("audit/line", |b| {
        b.iter(|| {
            out.clear();
            audit::write_line(black_box(&record), &mut out);
        })
    });
}
