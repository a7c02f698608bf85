//! One or two connections before a run: is anybody there, what is negotiated, and how does the server show that it let us in.

use std::rc::Rc;
use std::sync::Arc;

use rustls::ProtocolVersion;

use crate::load::connection::{Acceptance, Connection, Negotiated};
use crate::load::failure::Failure;
use crate::load::worker::{Acceptances, Plan, Worker};
use crate::load::{Refusal, drive, exit, limits};

/// What the probe found.
#[derive(Clone, Debug)]
pub struct Findings {
    pub negotiated: Option<Negotiated>,
    pub acceptance: Acceptances,
    /// Whether a second connection was resumed.
    pub resumes: bool,
    /// A refusal that does not stop the run: the run counts it.
    pub refused: Option<String>,
}

/// Tries the target out, on a thread of its own. A target that cannot be reached or trusted ends the run here.
pub fn probe(plan: &Arc<Plan>) -> Result<Findings, Refusal> {
    let plan = plan.clone();
    let thread = std::thread::spawn(move || {
        drive::runtime(async move {
            let worker = Rc::new(Worker::new(0, plan, Arc::default()));
            let keeper = tokio_uring::spawn(worker.watch.clone().keep());
            let findings = look(&worker).await;
            keeper.abort();
            findings
        })
    });
    match thread.join() {
        Ok(Ok(Ok(findings))) => Ok(findings),
        Ok(Ok(Err(failure))) => Err(Refusal::new(exit::UNAVAILABLE, failure.to_string())),
        Ok(Err(refusal)) => Err(refusal),
        Err(_) => Err(Refusal::new(exit::INTERNAL, "the probe died; what it said stands above, please report it")),
    }
}

async fn look(worker: &Rc<Worker>) -> Result<Findings, Failure> {
    let config = worker.plan.clients.remembering(0);
    let first = match visit(worker, config.clone()).await {
        Ok(visit) => visit,
        Err(failure) if failure.forbids_a_run() => return Err(failure),
        Err(failure) => {
            return Ok(Findings {
                negotiated: None,
                acceptance: worker.plan.acceptance,
                resumes: false,
                refused: Some(failure.to_string()),
            });
        }
    };
    // The second one tells whether a resumed handshake, too, ends with a ticket.
    let second = visit(worker, config).await.ok().filter(|visit| visit.resumed);
    let by = |ticket: bool| if ticket { Acceptance::Ticket } else { Acceptance::Close };
    Ok(Findings {
        negotiated: Some(first.negotiated),
        acceptance: Acceptances {
            full: by(first.ticket),
            resumed: by(second.as_ref().is_some_and(|visit| visit.ticket)),
        },
        resumes: second.is_some(),
        refused: None,
    })
}

struct Visit {
    negotiated: Negotiated,
    ticket: bool,
    resumed: bool,
}

async fn visit(worker: &Rc<Worker>, config: Arc<rustls::ClientConfig>) -> Result<Visit, Failure> {
    let connection = Connection::open(worker, config, 0).await?;
    let (negotiated, resumed) = (connection.negotiated(), connection.resumed());
    let ticket = if connection.version() == Some(ProtocolVersion::TLSv1_3) {
        connection.ticket_within(limits::PROBE_TICKET_WAIT).await?
    } else {
        true
    };
    if ticket {
        connection.close().await;
    }
    Ok(Visit { negotiated, ticket, resumed })
}
