//! What must be true of every simulation: contract section 3 from the outside, the audit, the counters.

use super::backend::BackendReport;
use super::client::{ClientReport, address_of};
use super::fixture::{Asks, HANDSHAKE_TIMEOUT, IDLE_TIMEOUT, SiteFacts};
use super::identities::Who;
use super::pki::BEGIN;
use super::script::{ClientScript, Ending, Kind, Mood, Name, Noise, Order};
use super::world::Aftermath;
use crate::config::ProxyProtocol;
use crate::sys::Address;
use crate::trust::Reason;
use crate::wire::audit::{CloseReason, ConnectionRecord, Event};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What is wrong; nothing if all is well.
pub fn judge(aftermath: &Aftermath) -> Vec<String> {
    let mut wrong = aftermath.complaints.clone();
    for number in 0..aftermath.clients.len() {
        let case = Case::new(aftermath, number);
        wrong.extend(case.judge().into_iter().map(|what| format!("client {number}: {what}")));
    }
    wrong.extend(judge_counters(aftermath));
    wrong
}

/// Notes a sentence where its condition does not hold.
struct Complaints(Vec<String>);

impl Complaints {
    fn unless(&mut self, holds: bool, sentence: impl Into<String>) {
        if !holds {
            self.0.push(sentence.into());
        }
    }
}

/// One client, all that is known of it.
struct Case<'a> {
    aftermath: &'a Aftermath,
    script: &'a ClientScript,
    site: &'a SiteFacts,
    number: usize,
    client: &'a ClientReport,
    attempts: &'a [Duration],
    backends: &'a [BackendReport],
    records: Vec<&'a ConnectionRecord>,
    /// The backend's connection that the audit names.
    used: Option<&'a BackendReport>,
}

/// Ends that our side asks for: close_notify may come in the middle of things.
const ASKED: [CloseReason; 4] =
    [CloseReason::IdleTimeout, CloseReason::Drained, CloseReason::BackendUnavailable, CloseReason::NoLongerAdmitted];

/// A block or a reload has reached every connection by then.
const BITES_IN: Duration = Duration::from_secs(1);

/// A time in which the operator wants a client out.
struct Shut {
    from: Duration,
    until: Option<Duration>,
    reason: Reason,
}

impl Shut {
    /// Whether every connection must have felt it.
    fn lasts(&self) -> bool {
        self.until.is_none_or(|until| until > self.from + BITES_IN)
    }

    /// Whether nobody may be served at this time.
    fn bites_at(&self, at: Duration) -> bool {
        at > self.from + BITES_IN && self.until.is_none_or(|until| at < until)
    }

    /// Whether somebody may be refused for it who is told so at this time: the handshake was judged a little earlier.
    fn holds_at(&self, ts: SystemTime) -> bool {
        let at = since_begin(ts);
        at >= self.from && self.until.is_none_or(|until| at <= until + HANDSHAKE_TIMEOUT)
    }
}

/// By the wall clock of a world in which nobody sets it.
fn since_begin(ts: SystemTime) -> Duration {
    ts.duration_since(UNIX_EPOCH + Duration::from_secs(BEGIN)).unwrap_or_default()
}

impl<'a> Case<'a> {
    fn new(aftermath: &'a Aftermath, number: usize) -> Case<'a> {
        let script = &aftermath.script.clients[number];
        let site = &aftermath.fixture.sites[script.site];
        let after = &aftermath.clients[number];
        let address = address_of(number);
        let records: Vec<_> = aftermath.records.iter().filter(|record| record.client == address).collect();
        let label = records.iter().find_map(|record| record.backend.as_deref());
        let place = label.and_then(|label| site.servers.iter().position(|server| label.ends_with(&text_of(server))));
        let used = place.and_then(|place| after.backends.iter().find(|backend| backend.server == place));
        let (client, backends, attempts) = (&after.client, &after.backends[..], &after.attempts[..]);
        Case { aftermath, script, site, number, client, attempts, backends, records, used }
    }

    fn judge(&self) -> Vec<String> {
        let mut complaints = Complaints(Vec::new());
        self.judge_audit(&mut complaints);
        self.judge_admission(&mut complaints);
        self.judge_bytes(&mut complaints);
        self.judge_client_end(&mut complaints);
        self.judge_backend_end(&mut complaints);
        self.judge_reason(&mut complaints);
        self.judge_refusal(&mut complaints);
        self.judge_shuts(&mut complaints);
        self.judge_calm(&mut complaints);
        complaints.0
    }

    fn closed(&self) -> Option<CloseReason> {
        self.records.iter().find(|record| record.event == Event::Closed).and_then(|record| record.close_reason)
    }

    fn refused(&self) -> Option<&ConnectionRecord> {
        self.records.iter().find(|record| record.event == Event::Refused).copied()
    }

    /// Whether the policy admits it, if it speaks TLS at all.
    fn is_admissible(&self) -> bool {
        let right = self.script.name == Name::Right;
        right
            && match (self.script.who, self.site.asks) {
                (_, Asks::Nothing) | (Who::Good, _) | (Who::Nobody, Asks::Optional) => true,
                (Who::Stranger | Who::Expired | Who::Impostor, _) | (Who::Nobody, Asks::Require) => false,
            }
    }

    /// It did nothing but its part, and nobody broke its connection.
    fn client_is_blameless(&self) -> bool {
        let orderly = matches!(self.script.ending, Ending::Notify | Ending::NotifyAndFin | Ending::Wait);
        orderly && self.client.left.is_none() && self.script.noise.is_none() && self.client.facts.harm == 0
    }

    fn backend_is_blameless(&self) -> bool {
        let kind = matches!(self.script.backend.kind, Kind::Echo | Kind::Sink | Kind::Source | Kind::Answer);
        kind && self.script.backend.cut.is_none() && self.used.is_none_or(|used| used.facts.harm == 0)
    }

    /// One pair of lines or one refusal for whoever spoke, none for who did not.
    fn judge_audit(&self, complaints: &mut Complaints) {
        let events: Vec<Event> = self.records.iter().map(|record| record.event).collect();
        let spoke = self.client.facts.read_by_us > 0;
        let exits = self.aftermath.script.orders(Order::Exit);
        let fits = match events[..] {
            [] => !spoke || exits,
            // Lost with the worker, and counted by the one who ended it.
            [Event::Accepted] if exits => true,
            [Event::Refused] => spoke,
            [Event::Accepted, Event::Closed] => spoke,
            // Nothing was chosen to tell of in an `accepted` line.
            [Event::Closed] => {
                use CloseReason::{BackendUnavailable, Drained, NoLongerAdmitted};
                matches!(self.closed(), Some(BackendUnavailable | Drained | NoLongerAdmitted))
            }
            _ => false,
        };
        complaints.unless(fits, format!("its audit lines are {events:?}, bytes read {}", self.client.facts.read_by_us));
        for record in &self.records {
            let site = record.site.as_deref();
            complaints.unless(site.is_none_or(|name| name == self.site.name), format!("the audit says site {site:?}"));
        }
    }

    /// Nobody reaches a backend who is not admitted, nor before his proof.
    fn judge_admission(&self, complaints: &mut Complaints) {
        if !self.is_admissible() || matches!(self.script.noise, Some(Noise::Speaks(_) | Noise::Silence)) {
            complaints.unless(self.attempts.is_empty(), "a backend was reached by a client that must not be admitted");
            complaints.unless(self.closed().is_none(), "a client was admitted that must not be");
        }
        let first = self.attempts.first();
        let early = first.is_some_and(|first| self.client.proof_at.is_none_or(|proof| proof > *first));
        let proof = self.client.proof_at;
        complaints.unless(!early, format!("a connect at {first:?} came before the client's last word at {proof:?}"));
        complaints.unless(self.backends.len() <= self.attempts.len(), "more connections than connects");
    }

    /// Everything arrives once and in order, as far as it arrives.
    fn judge_bytes(&self, complaints: &mut Complaints) {
        let client = self.client;
        complaints.unless(client.wrong_at.is_none(), format!("it heard a wrong byte at {:?}", client.wrong_at));
        let said = self.used.map_or(0, |used| used.said);
        complaints.unless(client.heard <= said, format!("it heard {} bytes of {said}", client.heard));
        for backend in self.backends {
            let (wrong, bad) = (backend.wrong_at, &backend.bad_header);
            complaints.unless(wrong.is_none(), format!("its backend heard a wrong byte at {wrong:?}"));
            complaints.unless(bad.is_none(), format!("its backend got a bad PROXY header: {bad:?}"));
            complaints.unless(backend.heard <= client.said, "its backend heard more than it said");
            let headed = self.site.proxy == ProxyProtocol::Off || backend.heard == 0 || backend.header.is_some();
            complaints.unless(headed, "its backend heard bytes before a PROXY header");
            let source = backend.header.flatten();
            let right = source.is_none_or(|source| source == address_of(self.number));
            complaints.unless(right, format!("the PROXY header says {source:?}"));
            let is_used = self.used.is_some_and(|used| std::ptr::eq(used, backend));
            let silent = backend.heard == 0 && backend.header.is_none();
            complaints.unless(is_used || silent, "a backend that the audit does not name was spoken to");
        }
        for record in &self.records {
            complaints.unless(record.bytes_in <= client.said, "the audit counts more bytes than it said");
            complaints.unless(record.bytes_out <= said, "the audit counts more bytes than its backend said");
        }
    }

    /// close_notify and resets toward the client.
    fn judge_client_end(&self, complaints: &mut Complaints) {
        let client = self.client;
        complaints.unless(!client.forgotten, "it waited for an end that did not come");
        let garbled = client.saw_nonsense.is_none() || self.script.noise.is_some();
        complaints.unless(garbled, format!("it was sent broken TLS: {:?}", client.saw_nonsense));
        let reason = self.closed();
        let asked = reason.is_some_and(|reason| ASKED.contains(&reason));
        let whole = self.used.is_some_and(|used| used.finished && used.said == client.heard);
        complaints.unless(
            !client.saw_notify || asked || whole,
            format!("it was told of an orderly end ({reason:?}) that its backend did not make"),
        );
        let listens = client.left.is_none() && client.facts.harm == 0 && !client.saw_notify;
        if reason == Some(CloseReason::BackendReset) && listens {
            complaints.unless(client.saw_reset, "its backend's reset did not reach it as one");
        }
    }

    /// FIN and resets toward the backend.
    fn judge_backend_end(&self, complaints: &mut Complaints) {
        let Some(used) = self.used else { return };
        let (client, reason) = (self.client, self.closed());
        complaints.unless(!used.forgotten, "its backend waited for an end that did not come");
        let whole = client.notified && used.heard == client.said;
        let unix = self.site.servers.iter().any(|server| matches!(server, Address::Unix(_)));
        // A unix socket has only the end of file; the audit tells the difference.
        let told = unix && !matches!(reason, Some(CloseReason::Done));
        complaints.unless(
            !used.saw_fin || whole || told,
            format!("its backend was told of an orderly end ({reason:?}) that it did not make"),
        );
        let broken = [CloseReason::Truncated, CloseReason::ClientReset, CloseReason::TlsError];
        let listens = self.backend_is_blameless() && used.over && !unix && !used.saw_fin;
        if reason.is_some_and(|reason| broken.contains(&reason)) && listens {
            complaints.unless(used.saw_reset, format!("its end ({reason:?}) did not reach its backend as a reset"));
        }
    }

    /// The audit's reason is true.
    fn judge_reason(&self, complaints: &mut Complaints) {
        let Some(closed) = self.records.iter().find(|record| record.event == Event::Closed) else { return };
        let Some(reason) = closed.close_reason else { return complaints.unless(false, "closed without a reason") };
        let script = &self.aftermath.script;
        let true_word = match reason {
            CloseReason::Done => self.is_done(closed),
            // A flipped bit in a length swallows what comes behind; a client that is cut off may have sent half a notice.
            CloseReason::Truncated => !self.client.notified || self.script.noise.is_some() || self.script.cut.is_some(),
            CloseReason::ClientReset => !self.client_is_blameless(),
            CloseReason::BackendReset => !self.backend_is_blameless(),
            CloseReason::TlsError => self.script.noise.is_some(),
            CloseReason::IdleTimeout => closed.duration_micros >= IDLE_TIMEOUT.as_micros() as u64,
            // Idle connections are ended once nobody is let in any more.
            CloseReason::Drained => script.orders(Order::EndAll) || script.orders(Order::StopAccepting),
            CloseReason::BackendUnavailable => script.mood == Mood::Wild || !self.script.backend.is_reliable(),
            CloseReason::NoLongerAdmitted => !self.shuts().is_empty(),
            CloseReason::Internal => self.aftermath.panics > 0,
            CloseReason::MaxAge | CloseReason::CertificateExpired => false,
        };
        complaints.unless(true_word, format!("it was not so that it ended as {reason:?}"));
    }

    fn is_done(&self, closed: &ConnectionRecord) -> bool {
        let Some(used) = self.used else { return false };
        let client = self.client;
        let counted = closed.bytes_in == client.said && closed.bytes_out == used.said;
        let told = !self.client_is_blameless() || client.saw_notify && client.heard == used.said;
        counted && told && client.notified && used.finished
    }

    /// Who is refused is told so, and why is written down.
    fn judge_refusal(&self, complaints: &mut Complaints) {
        let Some(refused) = self.refused() else { return };
        let script = &self.aftermath.script;
        if refused.reason == Reason::Timeout {
            let late = refused.duration_micros >= HANDSHAKE_TIMEOUT.as_micros() as u64;
            return complaints.unless(late || !script.orders.is_empty(), "a handshake was cut off before its time");
        }
        if refused.reason == Reason::Internal {
            return complaints.unless(self.aftermath.panics > 0, "it was refused for a fault of ours");
        }
        let quiet = self.client.left.is_none() && self.client.facts.harm == 0;
        if !quiet || self.script.noise.is_some() {
            return;
        }
        let clock_jumps = script.jump.is_some();
        let shuts = self.shuts();
        let mut shuts = shuts.iter().filter(|shut| clock_jumps || shut.holds_at(refused.ts));
        let shut = shuts.any(|shut| shut.reason == refused.reason);
        let expected = match (self.script.name, self.script.who) {
            (Name::Unknown | Name::Missing, _) => Reason::SniUnknown,
            (_, Who::Stranger) => Reason::UnknownIssuer,
            (_, Who::Nobody) => Reason::NoCert,
            // A block bites on the certificate that is shown, whoever shows it, and so does distrust.
            (_, Who::Good | Who::Impostor | Who::Expired) if shut => refused.reason,
            (_, Who::Expired) => Reason::Expired,
            (_, Who::Impostor) => Reason::BadSignature,
            (_, Who::Good) => Reason::Ok,
        };
        let (came, alert) = (refused.reason, refused.our_alert);
        complaints.unless(came == expected, format!("it was refused for {came:?}, not for {expected:?}"));
        // Who is told to end at once gives nobody time to read why: the close resets what was not read.
        let orders = &self.aftermath.script;
        let cut = orders.orders(Order::Exit) || orders.orders(Order::EndAll);
        let cut_short = cut && self.client.saw_reset && self.client.saw_alert.is_none();
        complaints.unless(
            self.client.saw_alert == alert || cut_short,
            format!("it was sent alert {alert:?} and saw {:?}", self.client.saw_alert),
        );
    }

    /// When the operator has this client's certificate shut out, and as what.
    fn shuts(&self) -> Vec<Shut> {
        let shown = matches!(self.script.who, Who::Good | Who::Impostor | Who::Expired);
        if !shown || self.site.asks == Asks::Nothing {
            return Vec::new();
        }
        let mut shuts = Vec::new();
        let (mut blocked, mut distrusted) = (None, None);
        for (at, order) in self.aftermath.script.orders.iter().copied() {
            let (open, reason) = match order {
                Order::Block | Order::Unblock => (&mut blocked, Reason::IdentityBlocked),
                Order::Distrust | Order::Reload => (&mut distrusted, Reason::UnknownIssuer),
                Order::StopAccepting | Order::EndAll | Order::Exit => continue,
            };
            match order {
                Order::Block | Order::Distrust => drop(open.get_or_insert(at)),
                _ => shuts.extend(open.take().map(|from| Shut { from, until: Some(at), reason })),
            }
        }
        shuts.extend(blocked.map(|from| Shut { from, until: None, reason: Reason::IdentityBlocked }));
        shuts.extend(distrusted.map(|from| Shut { from, until: None, reason: Reason::UnknownIssuer }));
        shuts
    }

    /// Nobody is served who is shut out.
    fn judge_shuts(&self, complaints: &mut Complaints) {
        if self.aftermath.script.jump.is_some() || self.script.who != Who::Good {
            return;
        }
        let of = |event: Event| self.records.iter().find(|record| record.event == event).map(|record| record.ts);
        let closed = of(Event::Closed);
        for shut in self.shuts() {
            let reason = shut.reason;
            let tried = self.attempts.iter().any(|at| shut.bites_at(*at));
            complaints.unless(!tried, format!("a backend was connected to for it in spite of {reason:?}"));
            // Who is in his handshake is judged at its end, when he still has no backend.
            let Some(accepted) = of(Event::Accepted) else { continue };
            let bites = |ts: SystemTime| shut.bites_at(since_begin(ts));
            complaints.unless(!bites(accepted), format!("it was accepted in spite of {reason:?}"));
            complaints.unless(!closed.is_some_and(bites), format!("it ended too late for {reason:?}"));
            let outlives = closed.is_some_and(|ts| shut.until.is_some_and(|until| since_begin(ts) >= until));
            let through = outlives && shut.lasts() && since_begin(accepted) <= shut.from;
            complaints.unless(!through, format!("it lived through {reason:?}"));
        }
    }

    /// Where everybody keeps to the rules and the kernel does no harm, everything arrives and ends in order.
    fn judge_calm(&self, complaints: &mut Complaints) {
        if self.aftermath.script.mood != Mood::Calm {
            return;
        }
        let (client, reason) = (self.client, self.closed());
        complaints.unless(client.facts.harm == 0, "the kernel did harm");
        let Some(used) = self.used else { return complaints.unless(false, "it was not served") };
        let up = used.saw_fin && used.heard == client.said && client.said == self.script.says;
        let down = client.saw_notify && client.heard == used.said && used.finished;
        complaints.unless(
            up && down && reason == Some(CloseReason::Done),
            format!("it kept to the rules and ended as {reason:?}"),
        );
    }
}

fn text_of(address: &Address) -> String {
    match address {
        Address::Ip(ip) => ip.to_string(),
        Address::Unix(path) => path.display().to_string(),
    }
}

/// Gauges are back at zero; sums agree with the audit.
fn judge_counters(aftermath: &Aftermath) -> Vec<String> {
    let mut complaints = Complaints(Vec::new());
    let counters = &aftermath.counters;
    let active: u64 = counters.listeners.iter().map(|listener| listener.active.value()).sum();
    let shaking: u64 = counters.listeners.iter().map(|listener| listener.handshakes_in_flight.value()).sum();
    let seated: u64 = counters.backends.iter().flatten().map(|server| server.active.value()).sum();
    complaints.unless((active, shaking, seated) == (0, 0, 0), format!("gauges stand at {active} {shaking} {seated}"));
    let places: Vec<_> = aftermath.gauges.iter().map(|gauges| gauges.counts()).collect();
    complaints.unless(places.iter().all(|counts| *counts == (0, 0)), format!("places taken: {places:?}"));
    complaints.unless(counters.task_panics.value() == aftermath.panics, "a task panicked of itself");
    // A worker that ends with open connections and a panic leave sums behind that no line tells of.
    let lost = aftermath.script.orders(Order::Exit) || aftermath.panics > 0;
    let closed = || aftermath.records.iter().filter(|record| record.event == Event::Closed);
    let (bytes_in, bytes_out) = (closed().map(|r| r.bytes_in).sum(), closed().map(|r| r.bytes_out).sum());
    let counted = (counters.bytes_in.value(), counters.bytes_out.value());
    complaints.unless(
        counted == (bytes_in, bytes_out) || lost && counted.0 >= bytes_in && counted.1 >= bytes_out,
        format!("{counted:?} bytes counted, {bytes_in} and {bytes_out} told"),
    );
    let refusals = aftermath.records.iter().filter(|record| record.event == Event::Refused).count() as u64;
    let failures = |counters: &[crate::stats::Counter]| counters.iter().map(|counter| counter.value()).sum::<u64>();
    let by_site: u64 = counters.sites.iter().map(|site| failures(&site.failures)).sum();
    let by_listener: u64 = counters.listeners.iter().map(|listener| failures(&listener.failures)).sum();
    complaints
        .unless(by_site + by_listener == refusals, format!("{refusals} refusals, {} counted", by_site + by_listener));
    let handshakes: u64 = counters
        .listeners
        .iter()
        .flat_map(|listener| listener.handshakes.iter().flatten().flatten())
        .map(|counter| counter.value())
        .sum();
    let admitted = closed().count() as u64;
    complaints.unless(
        handshakes == admitted || lost && handshakes > admitted,
        format!("{admitted} admitted, {handshakes} handshakes counted"),
    );
    complaints.0
}
