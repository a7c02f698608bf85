//! Open connections are judged again when the policy or the list of blocks changes.

use super::host::WorkerHost;
use super::plan::Plan;
use crate::config::limits;
use crate::relay::Live;
use crate::trust::{Policy, Reason};
use crate::wire::audit::CloseReason;
use rustls_pki_types::UnixTime;
use std::rc::Rc;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

/// Ends every open connection that `plan` and the present blocks no longer admit. Judges a few in each turn of the
/// loop, so that the others keep their latency.
pub(super) async fn rejudge(worker: Rc<WorkerHost>, plan: Rc<Plan>) {
    let open: Vec<_> = {
        let table = worker.table.borrow();
        table.iter().map(|(_, resident)| (resident.live.clone(), resident.listener.clone())).collect()
    };
    let mut ended = 0;
    for (count, (live, listener)) in open.into_iter().enumerate() {
        if count % limits::REJUDGED_PER_TURN == limits::REJUDGED_PER_TURN - 1 {
            worker.reactor.next_turn().await;
        }
        if !admits(&plan, &listener, &live) {
            live.signal.end(CloseReason::NoLongerAdmitted);
            ended += 1;
        }
    }
    if ended > 0 {
        tracing::info!(connections = ended, "ended connections that are no longer admitted");
    }
}

/// Whether `plan` and the present blocks still admit a connection's client. One in its handshake is not judged here.
pub(super) fn admits(plan: &Plan, listener: &str, live: &Live) -> bool {
    let (Some(admission), Some(site)) = (live.admission.get(), live.site.get()) else { return true };
    let now = plan.worker.reactor.wall().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now = UnixTime::since_unix_epoch(now);
    // The site is gone, and with it whoever it admitted.
    let Some(policy) = policy_of(plan, listener, site) else { return false };
    if let (Some(leaf), Some(identity)) = (admission.leaf(), admission.identity())
        && plan.worker.environment.blocks.load().find(leaf, identity, now).is_some()
    {
        return false;
    }
    if policy.id() == admission.policy_id() {
        return true;
    }
    match policy.rejudge(admission, now) {
        Ok(_) => true,
        // What time alone changes is no withdrawal (contract section 2); `end_at_expiry` sees to certificates.
        Err(refusal) => {
            tracing::debug!(conn_id = %live.conn_id, reason = %refusal.reason, "no longer admitted");
            matches!(refusal.reason, Reason::CrlExpired | Reason::Expired)
        }
    }
}

/// The policy that the newest plan has for a site, found by names.
fn policy_of<'a>(plan: &'a Plan, listener: &str, site: &str) -> Option<&'a Arc<Policy>> {
    let config = plan.snapshot.config();
    let place = config
        .sites
        .iter()
        .position(|known| &*known.name == site && &*config.listeners[known.listener].name == listener);
    plan.snapshot.policies().get(place?)
}
