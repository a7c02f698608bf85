//! What everybody in a simulation does, rolled from its seed: clients, backends, the kernel's faults, the operator.

use super::fixture::{Asks, Fixture, LISTENERS, SiteFacts};
use super::identities::{Offer, Version, Who, some_client};
use crate::sys::BufferSizes;
use crate::sys::scripted::{Dice, Faults, Mode};
use std::time::Duration;

/// One simulation.
#[derive(Debug, Clone)]
pub struct Script {
    pub mood: Mood,
    pub faults: Faults,
    pub buffers: BufferSizes,
    pub tasks_per_turn: usize,
    pub listener: usize,
    pub clients: Vec<ClientScript>,
    /// In their order; nothing comes behind an [`Order::Exit`].
    pub orders: Vec<(Duration, Order)>,
    /// When somebody sets the wall clock, and by how many seconds.
    pub jump: Option<(Duration, i64)>,
}

/// How bad a world it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    /// Everybody keeps to the rules; the kernel does only what must not be noticed.
    Calm,
    /// Clients and backends do what they like.
    Rough,
    /// The kernel too.
    Wild,
}

/// What the operator does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    StopAccepting,
    /// Every connection is asked to end.
    EndAll,
    /// A reload of what there was at the beginning.
    Reload,
    /// A reload whose trust the good client's CA is not in.
    Distrust,
    /// The good client is shut out.
    Block,
    Unblock,
    /// The worker ends, open connections or not.
    Exit,
}

#[derive(Debug, Clone)]
pub struct ClientScript {
    /// Index of the site; each client has one of its own, so that the backend tells whose connection it is.
    pub site: usize,
    pub who: Who,
    pub version: Version,
    pub offer: Offer,
    pub resumes: bool,
    pub name: Name,
    pub start: Duration,
    pub talk: Talk,
    /// Bytes of plaintext to send, and how many at a time.
    pub says: u64,
    pub message: usize,
    /// A KeyUpdate before a message, in a thousand.
    pub key_updates: u32,
    pub ending: Ending,
    pub cut: Option<Cut>,
    pub noise: Option<Noise>,
    pub backend: BackendScript,
}

/// The name a client asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Name {
    Right,
    Unknown,
    Missing,
}

/// How bytes are carried over a connection.
#[derive(Debug, Clone, Copy)]
pub struct Talk {
    /// Unread and under way at most: toward the process under test, toward its peer.
    pub windows: (usize, usize),
    /// Bytes written at a time, then a pause of at most so long.
    pub piece: usize,
    pub pause: Duration,
    /// Bytes read at a time, then a pause of at most so long.
    pub bite: usize,
    pub rest: Duration,
    /// After so many bytes nothing is read for so long.
    pub deaf: Option<(u64, Duration)>,
}

/// What a client does once it has said everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// close_notify, then reads to the end.
    Notify,
    /// close_notify and FIN, then reads to the end.
    NotifyAndFin,
    /// Waits for the server's close_notify before it sends its own.
    Wait,
    /// close_notify and a close at once: what still comes is answered with RST.
    NotifyAndGo,
    /// FIN without close_notify, then reads to the end.
    Fin,
    /// A close without close_notify.
    Go,
    Reset,
    /// Nothing at all, until it is ended.
    Stay,
}

/// An end in the middle of things.
#[derive(Debug, Clone, Copy)]
pub struct Cut {
    pub when: When,
    pub how: How,
}

#[derive(Debug, Clone, Copy)]
pub enum When {
    /// Bytes on the wire, handshake included.
    Wrote(u64),
    Read(u64),
    At(Duration),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    Reset,
    Close,
    Fin,
    /// The network is gone; our side hears of it after this time, or never.
    Vanish(Duration),
    /// Says and reads nothing any more.
    Stall,
}

/// A client that breaks the protocol.
#[derive(Debug, Clone, Copy)]
pub enum Noise {
    /// Says something else than TLS.
    Speaks(&'static [u8]),
    /// A bit flips at this place of the wire.
    Flips(u64),
    /// Nothing but the TCP connection: a health check.
    Silence,
}

#[derive(Debug, Clone)]
pub struct BackendScript {
    /// Each server's way with connects.
    pub servers: Vec<Mode>,
    /// A server that goes down or comes up.
    pub turn: Option<Turn>,
    pub kind: Kind,
    /// Bytes that it says of its own.
    pub says: u64,
    pub talk: Talk,
    pub accepts_after: Duration,
    pub cut: Option<Cut>,
}

/// A server changes its way with connects.
#[derive(Debug, Clone, Copy)]
pub struct Turn {
    pub at: Duration,
    pub server: usize,
    pub mode: Mode,
}

/// What a backend does with a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Says back what it hears; FIN after the client's.
    Echo,
    /// Hears everything; FIN after the client's.
    Sink,
    /// Says its bytes and FIN, and hears to the end.
    Source,
    /// Hears to the end, then says its bytes and FIN.
    Answer,
    /// Says its bytes and closes: what still comes is answered with RST.
    Brief,
    /// Neither says nor hears anything.
    Mute,
}

/// By how many seconds somebody sets the wall clock.
const JUMPS: [i64; 5] = [-86_400, -3600, 90, 7200, 86_400];

/// While things happen, mostly.
fn sometime(dice: &mut Dice) -> Duration {
    Duration::from_micros(dice.any_size(30_000_000))
}

impl Script {
    pub fn roll(seed: u64, fixture: &Fixture) -> Script {
        let dice = &mut Dice::new(seed);
        let mood = dice.pick(&[Mood::Calm, Mood::Calm, Mood::Rough, Mood::Rough, Mood::Wild]);
        let faults = match mood {
            Mood::Wild => Faults::wild(dice),
            Mood::Rough | Mood::Calm if dice.chance(900) => Faults::harmless(dice),
            Mood::Rough | Mood::Calm => Faults::none(),
        };
        let buffers = BufferSizes {
            small: (dice.pick(&[1, 2, 8]), dice.pick(&[64, 512, 4096])),
            large: (dice.pick(&[1, 4]), dice.pick(&[4096, 16 << 10])),
        };
        let listener = usize::from(dice.chance(250));
        debug_assert!(listener < LISTENERS.len());
        let mut sites = fixture.sites_of(listener);
        dice.shuffle(&mut sites);
        let count = dice.pick(&[1, 1, 1, 1, 2, 2, 3, 4]);
        let clients =
            sites.iter().take(count).map(|site| ClientScript::roll(dice, *site, &fixture.sites[*site], mood)).collect();
        let disturbed = mood != Mood::Calm;
        let orders = some_orders(dice, mood);
        let jump = (disturbed && dice.chance(50)).then(|| (sometime(dice), dice.pick(&JUMPS)));
        let tasks_per_turn = dice.pick(&[1, 2, 256]);
        Script { mood, faults, buffers, tasks_per_turn, listener, clients, orders, jump }
    }

    /// Whether the operator gives this order at any time.
    pub fn orders(&self, order: Order) -> bool {
        self.orders.iter().any(|(_, given)| *given == order)
    }
}

fn some_orders(dice: &mut Dice, mood: Mood) -> Vec<(Duration, Order)> {
    use Order::{Block, Distrust, EndAll, Exit, Reload, StopAccepting, Unblock};
    let calm = mood == Mood::Calm;
    let count = match dice.below(1000) {
        0..50 => 1,
        50..200 if !calm => 1,
        200..260 if !calm => 2 + dice.below(3),
        _ => 0,
    };
    let choice: &[Order] = match calm {
        true => &[Reload],
        false => &[StopAccepting, EndAll, EndAll, Exit, Reload, Reload, Distrust, Distrust, Block, Block, Unblock],
    };
    let mut orders: Vec<_> = (0..count).map(|_| (sometime(dice), dice.pick(choice))).collect();
    orders.sort_by_key(|(at, _)| *at);
    if let Some(exit) = orders.iter().position(|(_, order)| *order == Exit) {
        orders.truncate(exit + 1);
    }
    orders
}

impl ClientScript {
    fn roll(dice: &mut Dice, site: usize, facts: &SiteFacts, mood: Mood) -> ClientScript {
        let calm = mood == Mood::Calm;
        let who = match facts.asks {
            _ if !calm => some_client(dice),
            Asks::Optional if dice.chance(300) => Who::Nobody,
            Asks::Nothing => dice.pick(&[Who::Good, Who::Nobody]),
            Asks::Require | Asks::Optional => Who::Good,
        };
        let says = some_bytes(dice);
        let backend = BackendScript::roll(dice, facts, mood, says);
        let ending = match calm {
            true if backend.kind == Kind::Source => dice.pick(&[Ending::Notify, Ending::NotifyAndFin, Ending::Wait]),
            true => dice.pick(&[Ending::Notify, Ending::NotifyAndFin]),
            false => {
                use Ending::{Fin, Go, Notify, NotifyAndFin, NotifyAndGo, Reset, Stay, Wait};
                dice.pick(&[Notify, Notify, Notify, NotifyAndFin, Wait, Wait, NotifyAndGo, Fin, Go, Reset, Stay])
            }
        };
        let message = 1 + says / 300 + dice.any_size(20_000);
        let heard = if backend.kind == Kind::Echo { says } else { backend.says };
        ClientScript {
            site,
            who,
            version: if dice.chance(400) { Version::V12 } else { Version::V13 },
            offer: match dice.below(100) {
                0..94 => Offer::Fast,
                94..97 => Offer::Hybrid,
                _ => Offer::Retry,
            },
            resumes: dice.chance(if who == Who::Impostor { 0 } else { 800 }),
            name: match dice.below(100) {
                0..2 if !calm => Name::Unknown,
                2..4 if !calm => Name::Missing,
                _ => Name::Right,
            },
            start: Duration::from_micros(dice.any_size(2_000_000)),
            talk: Talk::roll(dice, (says + 1000, says / message), heard + 3000, calm),
            says,
            message: message as usize,
            key_updates: if dice.chance(100) { 100 } else { 0 },
            ending,
            cut: (!calm && dice.chance(350)).then(|| Cut::roll(dice, says + 2000)),
            noise: (!calm && dice.chance(100)).then(|| Noise::roll(dice, says + 2000)),
            backend,
        }
    }
}

impl BackendScript {
    fn roll(dice: &mut Dice, facts: &SiteFacts, mood: Mood, hears: u64) -> BackendScript {
        let calm = mood == Mood::Calm;
        let kind = match calm {
            true => dice.pick(&[Kind::Echo, Kind::Sink, Kind::Source, Kind::Answer]),
            false => {
                use Kind::{Answer, Brief, Echo, Mute, Sink, Source};
                dice.pick(&[Echo, Echo, Sink, Source, Source, Answer, Brief, Mute])
            }
        };
        let mut servers: Vec<Mode> = facts
            .servers
            .iter()
            .map(|_| match dice.below(100) {
                0..15 => Mode::Refuses,
                15..20 => Mode::Silent,
                _ => Mode::Answers,
            })
            .collect();
        let up = dice.below(servers.len() as u64) as usize;
        if calm || dice.chance(800) {
            servers[up] = Mode::Answers;
        }
        let turn = (!calm && dice.chance(150)).then(|| Turn {
            at: Duration::from_micros(dice.any_size(3_000_000)),
            server: dice.below(servers.len() as u64) as usize,
            mode: dice.pick(&[Mode::Answers, Mode::Refuses, Mode::Silent]),
        });
        let says = if matches!(kind, Kind::Source | Kind::Answer | Kind::Brief) { some_bytes(dice) } else { 0 };
        let writes = if kind == Kind::Echo { hears } else { says };
        BackendScript {
            servers,
            turn,
            kind,
            says,
            talk: Talk::roll(dice, (writes + 100, 0), hears + 500, calm),
            accepts_after: Duration::from_micros(dice.any_size(1_000_000)),
            cut: (!calm && dice.chance(250)).then(|| Cut::roll(dice, says + 500)),
        }
    }
}

impl BackendScript {
    /// Whether one of its servers answers from beginning to end.
    pub fn is_reliable(&self) -> bool {
        let turns = |server: usize| self.turn.is_some_and(|turn| turn.server == server && turn.mode != Mode::Answers);
        self.servers.iter().enumerate().any(|(server, mode)| *mode == Mode::Answers && !turns(server))
    }
}

/// Few bytes mostly, sometimes many.
fn some_bytes(dice: &mut Dice) -> u64 {
    match dice.below(100) {
        0..10 => 0,
        10..85 => dice.any_size(3000),
        85..98 => dice.any_size(40_000),
        _ => dice.any_size(200_000),
    }
}

impl Talk {
    /// `writes` and `reads` are about how many bytes there will be, `messages` how many pieces the writer makes of them by
    /// itself: a calm talk is over before anything times out.
    fn roll(dice: &mut Dice, (writes, messages): (u64, u64), reads: u64, calm: bool) -> Talk {
        let step = |dice: &mut Dice, bytes: u64| match dice.below(10) {
            0..6 => usize::MAX,
            // So small that it takes a hundred steps, not thousands.
            _ => 1 + (bytes / (1 + dice.below(100))) as usize,
        };
        let (piece, bite) = (step(dice, writes), step(dice, reads));
        let window = |dice: &mut Dice, bytes: u64| match dice.below(10) {
            0..6 => 1 << 20,
            6..8 => 2000 + (bytes / 50) as usize,
            _ if calm => 1000 + (bytes / 50) as usize,
            _ => 1 + (bytes / 50) as usize + dice.any_size(1000) as usize,
        };
        let windows = (window(dice, writes), window(dice, reads));
        let budget = if calm { 2_000_000 } else { 20_000_000 };
        let pause = |dice: &mut Dice, steps: u64| match dice.chance(500) {
            true => Duration::ZERO,
            false => Duration::from_micros(dice.any_size(budget / (1 + steps))),
        };
        let pause_of_writes = pause(dice, messages + writes / piece.min(windows.0) as u64);
        let rest = pause(dice, reads / bite.min(windows.1) as u64);
        let deaf = (!calm && dice.chance(150))
            .then(|| (dice.any_size(reads), Duration::from_micros(dice.any_size(40_000_000))));
        Talk { windows, piece, pause: pause_of_writes, bite, rest, deaf }
    }
}

impl Cut {
    fn roll(dice: &mut Dice, bytes: u64) -> Cut {
        let when = match dice.below(3) {
            0 => When::Wrote(dice.below(bytes)),
            1 => When::Read(dice.below(bytes)),
            _ => When::At(Duration::from_micros(dice.any_size(8_000_000))),
        };
        let patience = Duration::from_micros(dice.any_size(60_000_000));
        let how = dice.pick(&[How::Reset, How::Reset, How::Close, How::Fin, How::Vanish(patience), How::Stall]);
        Cut { when, how }
    }
}

impl Noise {
    fn roll(dice: &mut Dice, bytes: u64) -> Noise {
        match dice.below(10) {
            0 => Noise::Silence,
            1 => Noise::Speaks(b"GET / HTTP/1.1\r\nHost: sim.test\r\n\r\n"),
            2 => Noise::Speaks(b"SSH-2.0-OpenSSH_9.2\r\n"),
            3 => Noise::Speaks(b"\x16\x03\x01\xff\xff"),
            4 => Noise::Speaks(&[0x16, 3, 1, 0, 1, 1]),
            5 => Noise::Speaks(&[0x80, 0x2e, 1, 3, 1, 0, 0x15, 0, 0, 0, 0x10, 1, 0, 0x80]),
            6 => Noise::Flips(dice.below(bytes)),
            // Behind the handshake.
            _ => Noise::Flips(700 + dice.below(bytes)),
        }
    }
}
