//! One simulation: a whole worker on a scripted kernel, with clients on one side and backends on the other.

use super::backend::{self, BackendReport, Reports};
use super::client::{self, ClientReport};
use super::fixture::{Fixture, LISTENERS};
use super::pki::BEGIN;
use super::script::{Order, Script, Turn};
use crate::sys::scripted::{Dice, Net, ServerId};
use crate::sys::{Address, Runtime};
use crate::trust::{Block, Blocked, Blocks, SharedChainCache};
use crate::wire::audit::{CloseReason, ConnectionRecord, Record};
use crate::worker::accepting::{ListenKey, Parting};
use crate::worker::counters::Counters;
use crate::worker::gauges::Gauges;
use crate::worker::snapshot::Snapshot;
use crate::worker::standing::standings;
use crate::worker::thread::{Command, Mailbox, Publication, Setup, Shared, Worker};
use arc_swap::ArcSwap;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant, UNIX_EPOCH};

/// A simulation that is not over by then has a connection that does not end.
const TIME_MAX: Duration = Duration::from_secs(1800);
/// How long a worker that is to end may wait for its connections.
const EXIT_PATIENCE: Duration = Duration::from_secs(5);
/// How long a drain lets idle connections be.
const DRAIN: Duration = Duration::from_secs(60);

/// Who blocks name.
const GOOD_IDENTITY: &str = "cn:client";

/// What is left of a simulation when it is over.
pub struct Aftermath {
    pub script: Script,
    pub fixture: Rc<Fixture>,
    pub clients: Vec<Aftermaths>,
    pub records: Vec<ConnectionRecord>,
    pub counters: Arc<Counters>,
    pub gauges: Vec<Arc<Gauges>>,
    /// What the kernel complains of, what was not given back, what did not end.
    pub complaints: Vec<String>,
    pub turns: u64,
    pub time: Duration,
    /// Panics that the kernel made in tasks of the process under test.
    pub panics: u64,
}

/// A client and what its backend saw of it.
pub struct Aftermaths {
    pub client: ClientReport,
    /// In the order in which they came.
    pub backends: Vec<BackendReport>,
    /// When connects to its backend were started.
    pub attempts: Vec<Duration>,
}

struct Resident {
    client: Rc<RefCell<ClientReport>>,
    backends: Reports,
    servers: Vec<ServerId>,
}

/// Plays a script.
pub fn play(seed: u64, script: Script, fixture: &Rc<Fixture>, traced: bool) -> Aftermath {
    let wall = UNIX_EPOCH + Duration::from_secs(BEGIN);
    let dice = &mut Dice::new(seed ^ 0x5eed);
    let net = Net::new(dice.roll(), script.faults.clone(), script.buffers, wall);
    if traced {
        net.trace_all();
    }
    let runtime = Runtime::new(net.kernel(), script.tasks_per_turn);
    let stage = Stage::new(&net, &runtime, &script, fixture);
    let residents: Vec<Resident> =
        (0..script.clients.len()).map(|number| move_in(&net, fixture, number, &script, dice)).collect();
    operate(&net, &script, &stage, fixture);
    let mut complaints = stage.turn_to_the_end(&net, &runtime);
    let Stage { worker, operator: Operator { counters, gauges, .. } } = stage;
    drop((worker, runtime));
    net.go_on(TIME_MAX);
    complaints.extend(net.violations());
    complaints.extend(net.leaks());
    let clients = residents.iter().map(|resident| collect(&net, resident)).collect();
    let records = std::iter::from_fn(|| fixture.audit.pop()).filter_map(connection).collect();
    let (turns, time, panics) = (net.turns(), net.now(), net.panics());
    net.end_tasks();
    Aftermath { script, fixture: fixture.clone(), clients, records, counters, gauges, complaints, turns, time, panics }
}

fn connection(record: Record) -> Option<ConnectionRecord> {
    match record {
        Record::Connection(record) => Some(*record),
        _ => None,
    }
}

/// The process under test.
struct Stage {
    worker: Worker,
    operator: Operator,
}

impl Stage {
    fn new(net: &Net, runtime: &Runtime, script: &Script, fixture: &Fixture) -> Stage {
        let snapshot = fixture.snapshot.clone();
        let counters = Arc::new(Counters::for_config(snapshot.config()));
        let gauge = |facts: &super::fixture::ListenerFacts| Gauges::new(facts.connections, facts.handshakes);
        let gauges: Vec<_> = LISTENERS.iter().map(gauge).collect();
        let mailbox = Mailbox::new().unwrap();
        let blocks = Arc::<ArcSwap<Blocks>>::default();
        let facts = &LISTENERS[script.listener];
        let address: std::net::SocketAddr = facts.address.parse().unwrap();
        let key = ListenKey { listener: facts.name.into(), address: address.into() };
        let setup = Setup {
            index: 0,
            cpu: None,
            shared: Shared {
                chains: Arc::new(SharedChainCache::new()),
                blocks: blocks.clone(),
                audit: Some(fixture.audit.clone()),
            },
            mailbox: mailbox.clone(),
            first: Publication {
                standings: standings(snapshot.config(), None),
                snapshot,
                counters: counters.clone(),
                gauges: gauges.clone(),
                sockets: vec![(key, net.listen(address).unwrap())],
            },
        };
        let woken = mailbox.listen(runtime).unwrap();
        let worker = Worker::start(setup, runtime, woken);
        Stage { worker, operator: Operator { mailbox, counters, gauges, blocks, exits: Rc::default() } }
    }

    /// Turns until the world is over and no connection is left, then ends the worker.
    fn turn_to_the_end(&self, net: &Net, runtime: &Runtime) -> Vec<String> {
        let mut complaints = Vec::new();
        let host = self.worker.host.clone();
        let exits = self.operator.exits.clone();
        // A listener that became full may hold whom a burst brought: in no table, and yet to be served.
        let rest = || net.tasks() == 0 && net.knocking() == 0 && host.table.borrow().is_empty() && net.sockets() == 0;
        let over = || rest() || exits.get() || net.now() > TIME_MAX;
        if let Err(error) = runtime.run_until(over) {
            complaints.push(error.to_string());
        }
        if !rest() && !exits.get() {
            let connections = host.table.borrow().len();
            complaints.push(format!("at the end {connections} connections are open, {} tasks wait", net.tasks()));
        }
        drop(host);
        if !exits.get() {
            self.operator.mailbox.send(Command::Exit { at_latest: runtime.reactor().now() + EXIT_PATIENCE });
        }
        let cut = self.worker.turn_until_over(runtime);
        if cut > 0 && !exits.get() {
            complaints.push(format!("{cut} connections were cut"));
        }
        complaints
    }
}

/// Starts a client and the servers of its site.
fn move_in(net: &Net, fixture: &Rc<Fixture>, number: usize, script: &Script, dice: &mut Dice) -> Resident {
    let own = &script.clients[number];
    let site = &fixture.sites[own.site];
    let resident = Resident { client: Rc::default(), backends: Rc::default(), servers: Vec::new() };
    let mut servers = Vec::new();
    for (index, (address, mode)) in site.servers.iter().zip(&own.backend.servers).enumerate() {
        let server = net.serve(Address::clone(address), *mode, own.backend.talk.windows);
        servers.push(server);
        if let Some(Turn { at, mode, .. }) = own.backend.turn.filter(|turn| turn.server == index) {
            let net = net.clone();
            net.clone().spawn_server(async move {
                net.sleep(at).await;
                net.turn_server(server, mode);
            });
        }
        net.spawn_server(backend::serve(
            net.clone(),
            (index, server),
            site.clone(),
            number,
            own.backend.clone(),
            dice.fork(),
            resident.backends.clone(),
        ));
    }
    let report = resident.client.clone();
    net.spawn(client::live(net.clone(), fixture.clone(), number, own.clone(), dice.fork(), report));
    Resident { servers, ..resident }
}

/// What the operator does, at its time.
fn operate(net: &Net, script: &Script, stage: &Stage, fixture: &Rc<Fixture>) {
    let (orders, operator) = (script.orders.clone(), stage.operator.clone());
    let (fixture, start) = (fixture.clone(), stage.worker.host.reactor.now() - net.now());
    let given = net.clone();
    // By one operator: orders that fall due together are given in their order.
    net.spawn(async move {
        let begin = given.now();
        for (after, order) in orders {
            given.sleep((begin + after).saturating_sub(given.now())).await;
            given.trace(|| format!("      the operator orders {order:?}"));
            let patience = if after.as_micros().is_multiple_of(2) { Duration::ZERO } else { EXIT_PATIENCE };
            operator.exits.set(operator.exits.get() || order == Order::Exit);
            operator.give(order, start + given.now() + patience, &fixture);
        }
    });
    if let Some((after, seconds)) = script.jump {
        let net = net.clone();
        net.clone().spawn(async move {
            net.sleep(after).await;
            net.jump_wall(seconds);
        });
    }
}

/// What the control thread has of a worker.
#[derive(Clone)]
struct Operator {
    mailbox: Mailbox,
    counters: Arc<Counters>,
    gauges: Vec<Arc<Gauges>>,
    blocks: Arc<ArcSwap<Blocks>>,
    /// The worker was told to end.
    exits: Rc<Cell<bool>>,
}

impl Operator {
    /// `at_latest` is when the loop ends on [`Order::Exit`].
    fn give(&self, order: Order, at_latest: Instant, fixture: &Fixture) {
        let command = match order {
            Order::StopAccepting => Command::StopAccepting(Parting::Emptied, at_latest + DRAIN),
            Order::Exit => Command::Exit { at_latest },
            Order::EndAll => Command::EndAll(CloseReason::Drained),
            Order::Reload => self.publish(&fixture.reloaded, fixture),
            Order::Distrust => self.publish(&fixture.distrusting, fixture),
            Order::Block => {
                let what = Blocked::Identity(GOOD_IDENTITY.to_owned());
                let block = Block { what, until: None, since: 0, by: "simulation".to_owned(), why: None };
                self.blocks.store(Arc::new(Blocks::default().with(block).unwrap()));
                Command::Rejudge
            }
            Order::Unblock => {
                self.blocks.store(Arc::default());
                Command::Rejudge
            }
        };
        self.mailbox.send(command);
    }

    fn publish(&self, snapshot: &Arc<Snapshot>, fixture: &Fixture) -> Command {
        let counters = Arc::new(self.counters.next(fixture.snapshot.config(), snapshot.config()));
        let (snapshot, gauges) = (snapshot.clone(), self.gauges.clone());
        let standings = standings(snapshot.config(), None);
        let publication = Publication { snapshot, counters, gauges, standings, sockets: Vec::new() };
        Command::Publish(Box::new(publication), mpsc::channel().0)
    }
}

fn collect(net: &Net, resident: &Resident) -> Aftermaths {
    let mut client = resident.client.take();
    client.facts = client.connection.map(|connection| net.facts(connection)).unwrap_or_default();
    let mut backends: Vec<_> = resident.backends.take().into_iter().map(|report| report.take()).collect();
    backends.iter_mut().for_each(|backend| backend.facts = net.facts(backend.connection));
    let mut attempts: Vec<Duration> = resident.servers.iter().flat_map(|server| net.attempts(*server)).collect();
    attempts.sort();
    Aftermaths { client, backends, attempts }
}
