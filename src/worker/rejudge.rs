//! Open connections are judged again when the policy or the list of blocks changes.

use super::host::WorkerHost;
use super::plan::Plan;
use crate::config::limits;
use crate::relay::Live;
use crate::trust::{Admission, ChainDigest, Policy, PolicyId};
use crate::wire::audit::CloseReason;
use rustls_pki_types::UnixTime;
use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::time::UNIX_EPOCH;

/// Whether a worker looks through its connections now, and whether it has to do so once more afterwards.
#[derive(Debug, Default)]
pub(super) struct Rejudging {
    running: Cell<bool>,
    again: Cell<bool>,
}

/// Ends every open connection that the newest plan and the present blocks no longer admit. One walk at a time, however
/// often it is asked for.
pub(super) fn rejudge(worker: &Rc<WorkerHost>) {
    let state = &worker.rejudging;
    state.again.set(true);
    if !state.running.replace(true) {
        worker.reactor.spawn(walk_until_done(worker.clone()));
    }
}

async fn walk_until_done(worker: Rc<WorkerHost>) {
    let _running = Running(&worker.rejudging);
    let mut ended = 0;
    while worker.rejudging.again.replace(false)
        && let Some(plan) = worker.newest_plan()
    {
        ended += walk(&worker, &plan).await;
    }
    if ended > 0 {
        tracing::info!(connections = ended, "ended connections that are no longer admitted");
    }
}

/// Over when dropped, also by a panic: the next change is not to find the way barred.
struct Running<'w>(&'w Rejudging);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.set(false);
    }
}

/// Looks at each connection once, a bounded number in each turn of the loop, so that the others keep their latency.
async fn walk(worker: &Rc<WorkerHost>, plan: &Plan) -> usize {
    let open: Vec<_> = {
        let table = worker.table.borrow();
        table.iter().map(|(_, resident)| (resident.live.clone(), resident.listener.clone())).collect()
    };
    let mut judge = Judge::new(plan);
    let (mut ended, mut evaluated) = (0, 0);
    for (count, (live, listener)) in open.into_iter().enumerate() {
        if judge.evaluations - evaluated >= limits::REJUDGED_PER_TURN || count % limits::SESSIONS_PER_TURN == 0 {
            evaluated = judge.evaluations;
            worker.reactor.next_turn().await;
        }
        if !judge.admits(&listener, &live) {
            live.signal.end(CloseReason::NoLongerAdmitted);
            ended += 1;
        }
    }
    ended
}

/// Whether `plan` and the present blocks still admit a connection's client. One in its handshake is not judged here.
pub(super) fn admits(plan: &Plan, listener: &str, live: &Live) -> bool {
    Judge::new(plan).admits(listener, live)
}

/// Whether a present block names a connection's client.
pub(super) fn is_blocked(worker: &WorkerHost, live: &Live) -> bool {
    let blocks = worker.environment.blocks.load();
    let Some(admission) = live.admission.get().filter(|_| !blocks.is_empty()) else { return false };
    match (admission.leaf(), admission.identity()) {
        (Some(leaf), Some(identity)) => blocks.find(leaf, identity).is_some(),
        _ => false,
    }
}

/// One look at the connections with one plan: what was found out about a chain holds for all that brought it.
struct Judge<'p> {
    plan: &'p Plan,
    policies: HashMap<(&'p str, &'p str), &'p Policy>,
    admitted: HashSet<(PolicyId, ChainDigest)>,
    evaluations: usize,
}

impl<'p> Judge<'p> {
    fn new(plan: &'p Plan) -> Judge<'p> {
        let config = plan.snapshot.config();
        let names = config.sites.iter().map(|site| (&*config.listeners[site.listener].name, &*site.name));
        let policies = names.zip(plan.snapshot.policies().iter().map(AsRef::as_ref)).collect();
        Judge { plan, policies, admitted: HashSet::new(), evaluations: 0 }
    }

    fn admits(&mut self, listener: &str, live: &Live) -> bool {
        let (Some(admission), Some(site)) = (live.admission.get(), live.site.get()) else { return true };
        // The site is gone, and with it whoever it admitted.
        let Some(policy) = self.policies.get(&(listener, &**site)) else { return false };
        if is_blocked(&self.plan.worker, live) {
            return false;
        }
        policy.id() == admission.policy_id() || self.admits_by(policy, admission, live)
    }

    fn admits_by(&mut self, policy: &Policy, admission: &Admission, live: &Live) -> bool {
        let key = (policy.id(), admission.digest());
        if self.admitted.contains(&key) {
            return true;
        }
        self.evaluations += 1;
        match policy.rejudge(admission, now_of(&self.plan.worker)) {
            Ok(_) => {
                self.admitted.insert(key);
                true
            }
            Err(refusal) => {
                tracing::debug!(conn_id = %live.conn_id, reason = %refusal.reason, "no longer admitted");
                false
            }
        }
    }
}

fn now_of(worker: &WorkerHost) -> UnixTime {
    UnixTime::since_unix_epoch(worker.reactor.wall().duration_since(UNIX_EPOCH).unwrap_or_default())
}
