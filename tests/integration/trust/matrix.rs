//! The matrix of resumption: whatever happens between a client's first visit and its second, in both versions of TLS,
//! the second is what the table says, and so is its audit line. Nothing but the table differs between two cells.

use super::issue::List;
use super::stage::{CRLS, DENY, Door, OPEN, OTHER, PAYMENTS, SECOND, SERIAL, STRICT, Stage, TRUST, rewrite};
use crate::world::client::{Ending, TLS12, TLS13};
use crate::world::pki::{CLIENT_CN, CLIENT_IDENTITY};
use crate::world::wait::{SOON, until};
use rustls::SupportedProtocolVersion;
use time::{Duration, OffsetDateTime};

/// What the second visit must be.
#[derive(Debug, Clone, Copy)]
enum Must {
    Resume,
    /// A full handshake, and let in.
    ShakeHands,
    /// The alert on the wire, the reason and the X509_V number in the audit.
    Refuse(u8, &'static str, u32),
}
use Must::{Refuse, Resume, ShakeHands};

struct Row {
    /// Before the server starts.
    prepare: fn(&mut Stage),
    first: Door,
    happens: fn(&mut Stage),
    second: Door,
    must: Must,
    /// Second visits, for what depends on where the kernel sends a connection.
    times: usize,
}

fn row(must: Must) -> Row {
    Row { prepare: |_| (), first: PAYMENTS, happens: |_| (), second: PAYMENTS, must, times: 1 }
}

impl Row {
    fn prepare(self, prepare: fn(&mut Stage)) -> Row {
        Row { prepare, ..self }
    }

    fn when(self, happens: fn(&mut Stage)) -> Row {
        Row { happens, ..self }
    }

    fn from(self, first: Door) -> Row {
        Row { first, ..self }
    }

    fn at(self, second: Door) -> Row {
        Row { second, ..self }
    }

    fn times(self, times: usize) -> Row {
        Row { times, ..self }
    }

    /// With the admin socket, for rows that need `ctl`.
    fn ctl(self, happens: fn(&mut Stage)) -> Row {
        self.prepare(|stage| stage.config.admin = Some("http = \"127.0.0.1:0\"\nsocket = \"admin.sock\"".to_owned()))
            .when(happens)
    }
}

macro_rules! matrix {
    ($($name:ident: $row:expr;)*) => {
        mod tls12 {
            use super::*;
            $(#[test] fn $name() { cell(TLS12, $row); })*
        }
        mod tls13 {
            use super::*;
            $(#[test] fn $name() { cell(TLS13, $row); })*
        }
    };
}

matrix! {
    resumed: row(Resume);
    full_where_there_are_no_tickets: row(ShakeHands)
        .prepare(|stage| stage.config = stage.config.clone().tickets("enabled = false"));
    // Each connection has a source port of its own, by which the kernel chooses one of two workers: that all of them
    // met the first one's worker happens once in a million runs.
    on_another_worker: row(Resume).times(20);

    after_a_reload_that_changes_nothing: row(Resume).when(|stage| stage.reload());
    after_a_crl_that_revokes_the_client: row(Refuse(44, "revoked", 23)).when(|stage| {
        stage.publish(&List::of(&[SERIAL]).number(2));
        stage.reload();
    });
    after_a_crl_that_revokes_somebody_else: row(ShakeHands).when(|stage| {
        stage.publish(&List::of(&[SERIAL + 1]).number(2));
        stage.reload();
    });
    after_the_crl_is_gone: row(Refuse(46, "crl_missing", 3)).when(|stage| {
        rewrite(&mut stage.config, CRLS, "crls = [\"partner.crl\"]");
        stage.reload();
    });
    after_removal_of_its_anchor: row(Refuse(48, "unknown_issuer", 21)).when(|stage| {
        rewrite(&mut stage.config, TRUST, "trust = [\"partner-ca.pem\"]");
        rewrite(&mut stage.config, CRLS, "crls = [\"partner.crl\"]");
        stage.reload();
    });
    after_removal_of_another_anchor: row(ShakeHands).prepare(add_third_anchor).when(|stage| {
        rewrite(&mut stage.config, ", \"third-ca.pem\"]", "]");
        stage.reload();
    });
    after_a_rule_that_denies_it: row(Refuse(49, "policy_denied", 50)).when(|stage| {
        rewrite(&mut stage.config, DENY, &format!("deny = [{{ cn = \"{CLIENT_CN}\" }}]"));
        stage.reload();
    });
    after_a_rule_that_denies_somebody_else: row(ShakeHands).when(|stage| {
        rewrite(&mut stage.config, DENY, "deny = [{ cn = \"somebody else\" }]");
        stage.reload();
    });
    after_rules_that_admit_others_alone: row(Refuse(49, "policy_denied", 50)).when(|stage| {
        rewrite(&mut stage.config, DENY, "allow = [{ cn = \"bystander\" }]");
        stage.reload();
    });

    after_a_block_of_its_identity: row(Refuse(49, "identity_blocked", 50))
        .ctl(|stage| stage.ctl(&["block", "--identity", CLIENT_IDENTITY]));
    after_a_block_of_its_serial: row(Refuse(49, "identity_blocked", 50))
        .ctl(|stage| stage.ctl(&["block", "--serial", &format!("{SERIAL:x}"), "--issuer", "CN=Test client CA"]));
    after_a_block_of_its_certificate: row(Refuse(49, "identity_blocked", 50))
        .ctl(|stage| stage.ctl(&["block", "--sha256", &stage.client.sha256()]));
    after_a_block_of_its_key: row(Refuse(49, "identity_blocked", 50))
        .ctl(|stage| stage.ctl(&["block", "--spki", &stage.client.spki_sha256()]));
    after_a_block_and_a_reload: row(Refuse(49, "identity_blocked", 50)).ctl(|stage| {
        stage.ctl(&["block", "--identity", CLIENT_IDENTITY]);
        stage.reload();
    });
    after_a_block_that_was_taken_back: row(Resume).ctl(|stage| {
        stage.ctl(&["block", "--identity", CLIENT_IDENTITY]);
        stage.ctl(&["unblock", "--identity", CLIENT_IDENTITY]);
    });
    after_a_block_of_somebody_else: row(Resume)
        .ctl(|stage| stage.ctl(&["block", "--identity", "uri:spiffe://bank.example/payments/acm"]));
    after_new_ticket_keys_of_which_two_are_kept: row(Resume).ctl(|stage| stage.ctl(&["tickets", "rotate"]));
    after_more_ticket_keys_than_are_kept: row(ShakeHands).ctl(|stage| {
        (0..3).for_each(|_| stage.ctl(&["tickets", "rotate"]));
    });

    after_its_certificate_expired: row(Refuse(45, "expired", 10))
        .prepare(|stage| stage.client_for(Duration::seconds(6)))
        .when(|stage| pass(stage.client_ends));
    after_its_crl_expired: row(Refuse(46, "crl_expired", 12))
        .prepare(|stage| publish_until(stage, OffsetDateTime::now_utc() + Duration::seconds(6)))
        .when(|stage| pass(stage.client_ends));
    after_its_crl_expired_within_the_grace: row(Resume)
        .prepare(|stage| {
            publish_until(stage, OffsetDateTime::now_utc() + Duration::seconds(6));
            rewrite(&mut stage.config, CRLS, &format!("{CRLS}\ncrl_expired = \"1h\""));
        })
        .when(|stage| pass(stage.client_ends));

    from_another_site: row(ShakeHands).at(OTHER);
    from_a_site_that_admits_more: row(Refuse(49, "policy_denied", 50)).at(STRICT);
    from_a_site_without_certificates: row(ShakeHands).from(OPEN);
    from_another_listener: row(ShakeHands).at(SECOND);
    from_another_listener_and_back: row(ShakeHands).from(SECOND);

    after_a_restart: row(ShakeHands).when(Stage::restart);
    after_a_restart_with_a_secret: row(Resume)
        .prepare(|stage| {
            stage.world.write("fleet.secret", &"s3cret! ".repeat(8));
            stage.config = stage.config.clone().tickets("secret_files = [\"fleet.secret\"]");
        })
        .when(Stage::restart);
}

fn add_third_anchor(stage: &mut Stage) {
    let third = crate::world::pki::Ca::root("Third CA");
    stage.world.write("third-ca.pem", &third.pem);
    rewrite(&mut stage.config, "\"partner-ca.pem\"]", "\"partner-ca.pem\", \"third-ca.pem\"]");
}

/// Lets the clients' CRL end then; `client_ends` keeps the moment for `pass`.
fn publish_until(stage: &mut Stage, end: OffsetDateTime) {
    stage.client_ends = end;
    stage.publish(&List::of(&[]).valid(end - Duration::days(1), end));
}

/// Waits until this moment, and the second in which it lies, are over: certificates and CRLs count in seconds.
fn pass(moment: OffsetDateTime) {
    let over = moment + Duration::seconds(1);
    assert!(until(SOON, || OffsetDateTime::now_utc() > over));
}

/// One cell of the matrix.
fn cell(versions: &'static [&'static SupportedProtocolVersion], row: Row) {
    let mut stage = Stage::new();
    (row.prepare)(&mut stage);
    if !stage.world.supports(&stage.config) {
        return;
    }
    stage.start();
    assert_eq!(stage.server().ready_value("workers"), Some("2"));
    let (client, _) = stage.brings(&stage.client, versions);
    let (bystander, _) = stage.brings(stage.bystander(), versions);
    let first = stage.visit(&client, row.first);
    assert_eq!((first.ending, first.resumed), (None, false), "the first visit: {}", first.line);
    stage.bystander_visits(&bystander);
    (row.happens)(&mut stage);
    for _ in 0..row.times {
        check(&stage, versions, &row, &client);
    }
    stage.bystander_visits(&bystander);
}

/// The second visit, and every field of its audit line that the row decides.
fn check(
    stage: &Stage,
    versions: &'static [&'static SupportedProtocolVersion],
    row: &Row,
    client: &std::sync::Arc<rustls::ClientConfig>,
) {
    let visit = stage.visit(client, row.second);
    let line = &visit.line;
    let (door, must) = (row.second, row.must);
    let alert = match must {
        Refuse(alert, ..) => Some(Ending::Alert(alert)),
        Resume | ShakeHands => None,
    };
    assert_eq!(visit.ending, alert, "{line}");
    assert_eq!((&line["site"], &line["listener"]), (&door.site.into(), &door.listener.into()), "{line}");
    assert_eq!(line["tls"]["version"], if versions == TLS12 { "1.2" } else { "1.3" }, "{line}");
    assert_eq!(line["cert"]["sha256"], stage.client.sha256(), "{line}");
    match must {
        Refuse(alert, reason, verify) => {
            let told = (line["our_alert"].as_u64(), line["reason"].as_str(), line["verify"].as_u64());
            assert_eq!(told, (Some(alert.into()), Some(reason), Some(verify.into())), "{line}");
            assert_eq!((&line["decision"], line["backend"].is_null()), (&"refuse".into(), true), "{line}");
            assert!(line["reason_detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{line}");
        }
        Resume | ShakeHands => {
            let resumed = matches!(must, Resume);
            assert_eq!((visit.resumed, &line["tls"]["resumed"]), (resumed, &resumed.into()), "{line}");
            assert_eq!((&line["decision"], &line["reason"]), (&"admit".into(), &"ok".into()), "{line}");
            assert_eq!((&line["identity"], line["verify"].as_u64()), (&CLIENT_IDENTITY.into(), Some(0)), "{line}");
            assert!(line["our_alert"].is_null() && line["cert"]["proven"] == true, "{line}");
        }
    }
}
