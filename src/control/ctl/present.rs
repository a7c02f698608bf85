//! `sessions` and `identities`: who is connected now.

use super::Answer;
use crate::config::limits;
use crate::control::clients::{self, Client};
use crate::control::desk::Desk;
use crate::control::service::Service;
use crate::control::text::{cut, moment};
use crate::wire::audit::ConnectionId;
use crate::worker::{Presence, Question, Session};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

impl<S: Service> Desk<S> {
    pub(super) async fn sessions(self: &Arc<Self>, identity: Option<String>) -> Answer {
        let present = match self.who_is_there(Question { identity }).await {
            Ok(present) => present,
            Err(problem) => return Answer::refused(problem),
        };
        let mut sessions: Vec<Session> = present.iter().flat_map(|one| one.sessions.iter().cloned()).collect();
        sessions.sort_unstable_by_key(|session| session.conn_id.0);
        sessions.truncate(limits::SESSIONS_SHOWN_MAX);
        let connections: u64 = present.iter().map(|one| one.connections).sum();
        let mut text: String = sessions.iter().map(line).collect();
        match connections.saturating_sub(sessions.len() as u64) {
            0 => text.push_str(&format!("{connections} connections\n")),
            more => text.push_str(&format!("and {more} more; --identity asks for those of one client\n")),
        }
        let sessions: Vec<Value> = sessions.iter().map(in_json).collect();
        Answer::told(text, &json!({ "connections": connections, "sessions": sessions }))
    }

    pub(super) async fn identities(self: &Arc<Self>, expiring: Option<Duration>) -> Answer {
        let present = match self.who_is_there(Question::default()).await {
            Ok(present) => present,
            Err(problem) => return Answer::refused(problem),
        };
        self.state.ask_for_clients().await;
        let mut connected: BTreeMap<&str, u64> = BTreeMap::new();
        for (identity, connections) in present.iter().flat_map(|one| &one.identities) {
            *connected.entry(identity).or_default() += connections;
        }
        let anonymous: u64 = present.iter().map(|one| one.anonymous).sum();
        let now = SystemTime::now();
        match expiring {
            None => self.connected(&connected, anonymous, now),
            Some(within) => self.not_renewed(&connected, within, now),
        }
    }

    fn connected(&self, connected: &BTreeMap<&str, u64>, anonymous: u64, now: SystemTime) -> Answer {
        let known: HashMap<String, Client> =
            self.state.clients.expiring(now).into_iter().map(|client| (client.identity.clone(), client)).collect();
        let mut text = String::new();
        let mut identities: Vec<Value> = Vec::new();
        for (identity, connections) in connected {
            let client = known.get(&cut(identity, limits::CLIENT_TEXT_BYTES_MAX));
            let ends = client.map(|client| format!("  (certificate ends {})", ends(client))).unwrap_or_default();
            text.push_str(&format!("{connections:8}  {identity}{ends}\n"));
            identities.push(identity_in_json(identity, *connections, client));
        }
        if anonymous > 0 || identities.is_empty() {
            text.push_str(&format!("{anonymous:8}  without an identity\n"));
        }
        Answer::told(text, &json!({ "identities": identities, "anonymous": anonymous }))
    }

    /// Who runs out within the time, connected or not.
    fn not_renewed(&self, connected: &BTreeMap<&str, u64>, within: Duration, now: SystemTime) -> Answer {
        let clients = self.state.clients.expiring(now);
        let end = clients::seconds(now).saturating_add_unsigned(within.as_secs());
        let mut text = String::new();
        let mut identities: Vec<Value> = Vec::new();
        for client in clients.iter().take_while(|client| client.not_after <= end).take(limits::IDENTITIES_SHOWN_MAX) {
            let connections = connected.get(client.identity.as_str()).copied().unwrap_or(0);
            text.push_str(&format!(
                "{}  {}  serial {}  issued by {}  last seen {}, {connections} connections now\n",
                ends(client),
                client.identity,
                client.serial,
                client.issuer,
                moment(client.last_seen)
            ));
            identities.push(identity_in_json(&client.identity, connections, Some(client)));
        }
        let (some, seen) = (identities.len(), clients.len());
        text.push_str(&format!("{some} of {seen} clients seen since {}\n", moment(self.state.started_at)));
        Answer::told(text, &json!({ "identities": identities, "seen": seen, "since": moment(self.state.started_at) }))
    }

    /// The answers of all workers, in time or not at all.
    async fn who_is_there(self: &Arc<Self>, question: Question) -> Result<Vec<Presence>, String> {
        let workers = self.state.generation().counters.len();
        let answers = self.service.who_is_there(&question);
        let collect = move || {
            let at_latest = Instant::now() + limits::WORKER_ANSWER_TIME_MAX;
            let mut present = Vec::new();
            while present.len() < workers {
                let left = at_latest.saturating_duration_since(Instant::now());
                present.push(answers.recv_timeout(left).ok()?);
            }
            Some(present)
        };
        let present = tokio::task::spawn_blocking(collect).await.ok().flatten();
        present.ok_or_else(|| "not every worker answered in time; try again, and see /healthz".to_owned())
    }
}

fn line(session: &Session) -> String {
    let client = session.client.map(|client| client.to_string()).unwrap_or_default();
    let identity = session.identity.as_deref().unwrap_or("without an identity");
    let since = moment(began(session.conn_id));
    format!("{since}  {client}  {}/{}  {identity}  {}\n", session.listener, session.site, session.conn_id)
}

/// When a client's certificate ends.
fn ends(client: &Client) -> String {
    let after = Duration::from_secs(client.not_after.try_into().unwrap_or(0));
    moment(UNIX_EPOCH.checked_add(after).unwrap_or(UNIX_EPOCH))
}

/// A client; what is not known of it is null.
fn identity_in_json(identity: &str, connections: u64, client: Option<&Client>) -> Value {
    json!({
        "identity": identity,
        "connections": connections,
        "not_after": client.map(ends),
        "serial": client.map(|client| &client.serial),
        "issuer": client.map(|client| &client.issuer),
        "subject": client.map(|client| &client.subject),
        "sha256": client.map(|client| hex::encode(client.sha256)),
        "last_seen": client.map(|client| moment(client.last_seen)),
    })
}

fn in_json(session: &Session) -> Value {
    let leaf = session.leaf.as_deref();
    json!({
        "conn_id": session.conn_id.to_string(),
        "since": moment(began(session.conn_id)),
        "client": session.client,
        "listener": &*session.listener,
        "site": &*session.site,
        "identity": session.identity.as_deref(),
        "subject": leaf.map(|leaf| &leaf.subject),
        "issuer": leaf.map(|leaf| &leaf.issuer),
        "serial": leaf.map(|leaf| &leaf.serial),
        "sha256": leaf.map(|leaf| hex::encode(leaf.sha256)),
        "not_after": leaf.map(|leaf| leaf.not_after),
        "epoch": session.epoch,
        "worker": session.worker,
    })
}

/// When a connection was accepted: its identifier begins with that.
fn began(id: ConnectionId) -> SystemTime {
    let millis = id.0[..6].iter().fold(0, |millis, byte| millis << 8 | u64::from(*byte));
    UNIX_EPOCH.checked_add(Duration::from_millis(millis)).unwrap_or(UNIX_EPOCH)
}
