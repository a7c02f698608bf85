//! What `explain` prints: each step, the reason, the rule that decided, what to do.

use super::Chosen;
use crate::config::{Auth, Listener};
use crate::trust::{Decision, Leaf, Outcome, Reason};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls_pki_types::UnixTime;
use serde_json::{Value, json};
use std::fmt::Write;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// An answer with what it rests on.
#[derive(Debug)]
pub struct Report<'c> {
    listener: &'c str,
    site: Option<&'c str>,
    auth: Option<Auth>,
    /// The site was taken although the client gave no name.
    assumed: bool,
    at: String,
    outcome: Answer,
}

#[derive(Debug)]
enum Answer {
    Judged(Box<Decision>),
    /// Refused before any certificate is looked at.
    NoSite(String),
}

impl<'c> Report<'c> {
    /// The answer to a client that reaches a site.
    pub fn of_decision(chosen: &Chosen<'c>, auth: Auth, decision: Decision, now: UnixTime) -> Report<'c> {
        Report {
            listener: &chosen.listener.name,
            site: Some(&chosen.site.name),
            auth: Some(auth),
            assumed: chosen.assumed,
            at: print_moment(now),
            outcome: Answer::Judged(Box::new(decision)),
        }
    }

    /// The answer to a client that reaches none.
    pub fn of_no_site(listener: &'c Listener, sni: Option<&str>, now: UnixTime) -> Report<'c> {
        let asked = match sni {
            Some(name) => format!("no site of this listener answers to {name:?}"),
            None => "the client gives no name, and this listener has no catch-all site".to_owned(),
        };
        let detail = format!("{asked}; add the name to a site, or a site without names");
        let (at, listener) = (print_moment(now), &*listener.name);
        Report { listener, site: None, auth: None, assumed: false, at, outcome: Answer::NoSite(detail) }
    }

    /// Whether the client would be let in.
    pub fn is_admitted(&self) -> bool {
        matches!(&self.outcome, Answer::Judged(decision) if decision.verdict.is_ok())
    }

    fn leaf(&self) -> Option<&Leaf> {
        let Answer::Judged(decision) = &self.outcome else { return None };
        match &decision.verdict {
            Ok(admission) => admission.leaf().map(|leaf| &**leaf),
            Err(refusal) => refusal.leaf.as_deref(),
        }
    }

    fn reason(&self) -> (Reason, &str, u32) {
        match &self.outcome {
            Answer::NoSite(detail) => (Reason::SniUnknown, detail, 0),
            Answer::Judged(decision) => match &decision.verdict {
                Ok(admission) => (admission.reason(), admission.detail(), admission.verify()),
                Err(refusal) => (refusal.reason, &refusal.detail, refusal.verify),
            },
        }
    }

    /// For people.
    pub fn in_text(&self) -> String {
        let mut text = String::new();
        self.write_text(&mut text).map_or_else(|_| String::new(), |()| text)
    }

    fn write_text(&self, out: &mut String) -> std::fmt::Result {
        if let Some(leaf) = self.leaf() {
            writeln!(out, "client  {} (serial {}), issued by {}", leaf.subject, leaf.serial, leaf.issuer)?;
            if !leaf.san.is_empty() {
                writeln!(out, "names   {}", leaf.san.join(" "))?;
            }
        }
        let mode = self.auth.map(|auth| format!(", auth = {:?}", mode(auth))).unwrap_or_default();
        writeln!(out, "site    {} of listener {}{mode}", self.site.unwrap_or("none"), self.listener)?;
        writeln!(out, "at      {}", self.at)?;
        if let Answer::Judged(decision) = &self.outcome {
            writeln!(out)?;
            for step in &decision.steps {
                let about = if step.certificate.is_empty() { "" } else { ": " };
                writeln!(out, "{:4}  {:8}  {}{about}{}", word(step.outcome), step.name, step.certificate, step.note)?;
            }
        }
        writeln!(out)?;
        let (reason, detail, verify) = self.reason();
        match &self.outcome {
            Answer::Judged(decision) if decision.verdict.is_ok() => self.write_admission(decision, out)?,
            _ => writeln!(out, "refused: {reason} (X509_V {verify}, alert {})\n  {detail}", reason.alert())?,
        }
        if self.assumed {
            writeln!(out, "note: without --sni a client gives no name and would not reach this site, which has names")?;
        }
        Ok(())
    }

    fn write_admission(&self, decision: &Decision, out: &mut String) -> std::fmt::Result {
        let Ok(admission) = &decision.verdict else { return Ok(()) };
        let identity = admission.identity().map_or("a client without identity", |identity| identity.as_str());
        writeln!(out, "let in as {identity}")?;
        match admission.rule() {
            Some(rule) => writeln!(out, "  by the rule {rule}")?,
            None => writeln!(out, "  by no rule: {}", self.why_without_rule())?,
        }
        if admission.reason() != Reason::Ok {
            let (reason, detail, verify) = self.reason();
            writeln!(out, "  although verification says {reason} (X509_V {verify}): {detail}")?;
        }
        if let Some(until) = admission.valid_until() {
            writeln!(out, "  until {} at the latest, if nothing changes", print_moment(until))?;
        }
        Ok(())
    }

    fn why_without_rule(&self) -> &'static str {
        match self.auth {
            Some(Auth::Request) => "auth = \"request\" lets everybody in whom no deny rule names",
            Some(Auth::Off) => "auth = \"off\" asks for no certificate",
            _ => "the site has no allow list, so that every verified client may enter",
        }
    }

    /// For programs.
    pub fn in_json(&self) -> Value {
        let (reason, detail, verify) = self.reason();
        let steps = match &self.outcome {
            Answer::Judged(decision) => decision.steps.iter().map(step_in_json).collect(),
            Answer::NoSite(_) => Vec::new(),
        };
        let admission = match &self.outcome {
            Answer::Judged(decision) => decision.verdict.as_ref().ok(),
            Answer::NoSite(_) => None,
        };
        json!({
            "admitted": self.is_admitted(),
            "decision": if self.is_admitted() { "admit" } else { "refuse" },
            "listener": self.listener,
            "site": self.site,
            "auth": self.auth.map(mode),
            "at": self.at,
            "identity": admission.and_then(|admission| admission.identity()).map(|identity| identity.as_str()),
            "rule": admission.and_then(|admission| admission.rule()).map(|rule| &**rule),
            "valid_until": admission.and_then(|admission| admission.valid_until()).map(print_moment),
            "reason": reason.to_string(),
            "reason_detail": detail,
            "verify": verify,
            "alert": (!self.is_admitted()).then(|| reason.alert()),
            "cert": self.leaf().map(leaf_in_json),
            "steps": steps,
        })
    }
}

fn step_in_json(step: &crate::trust::Step) -> Value {
    json!({ "step": step.name, "certificate": step.certificate, "outcome": word(step.outcome), "note": step.note })
}

fn leaf_in_json(leaf: &Leaf) -> Value {
    json!({
        "subject": leaf.subject,
        "issuer": leaf.issuer,
        "serial": leaf.serial,
        "not_before": print_seconds(leaf.not_before),
        "not_after": print_seconds(leaf.not_after),
        "sha256": hex::encode(leaf.sha256),
        "x5t_s256": URL_SAFE_NO_PAD.encode(leaf.sha256),
        "spki_sha256": hex::encode(leaf.spki_sha256),
        "san": leaf.san,
    })
}

fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Pass => "pass",
        Outcome::Fail => "fail",
        Outcome::Skipped => "skip",
    }
}

fn mode(auth: Auth) -> &'static str {
    match auth {
        Auth::Require => "require",
        Auth::Optional => "optional",
        Auth::Request => "request",
        Auth::Pin => "pin",
        Auth::Off => "off",
    }
}

fn print_moment(moment: UnixTime) -> String {
    print_seconds(i64::try_from(moment.as_secs()).unwrap_or(i64::MAX))
}

fn print_seconds(seconds: i64) -> String {
    let moment = OffsetDateTime::from_unix_timestamp(seconds).ok();
    moment.and_then(|moment| moment.format(&Rfc3339).ok()).unwrap_or_else(|| seconds.to_string())
}
