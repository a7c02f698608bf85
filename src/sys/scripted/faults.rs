//! How badly the kernel behaves.

use super::dice::Dice;
use std::time::Duration;

/// Chances are in a thousand, drawn for each operation when it starts, unless said otherwise.
#[derive(Debug, Clone)]
pub struct Faults {
    /// A completion comes late, by up to `latest`.
    pub late: u32,
    pub latest: Duration,
    /// How long bytes are under way at most.
    pub network: Duration,
    /// A receive brings fewer bytes than there are; a send takes fewer than it was given.
    pub short: u32,
    /// EINTR or EAGAIN.
    pub interrupted: u32,
    /// ENOBUFS though there are buffers.
    pub no_buffer: u32,
    /// A cancelled operation completes as if it had not been, where it can.
    pub cancel_races: u32,
    /// A multishot accept ends after a connection.
    pub accept_ends: u32,
    /// EMFILE, ENFILE, ENOBUFS, ENOMEM, ECONNABORTED, EINTR from accept.
    pub accept_fails: u32,
    /// The loop wakes for nothing, or sleeps a little too long.
    pub wakes_badly: u32,
    /// EMFILE, ENFILE, ENOBUFS, ENOMEM from `socket`.
    pub socket_fails: u32,
    /// A connect to a server that is there fails all the same.
    pub connect_fails: u32,
    /// ECONNRESET, ETIMEDOUT, EHOSTUNREACH: the connection breaks under a receive or send.
    pub severs: u32,
    /// ENOMEM, ENOBUFS or EIO from a send, ENOMEM or EIO from a receive; the connection itself lives.
    pub fails: u32,
    /// A call panics, as if a fault of ours had come up in the task that made it.
    pub panics: u32,
    /// Descriptors of the process under test.
    pub descriptors_max: usize,
    /// A closed descriptor's number is used again at once, as Linux does; else never, so that late use is found.
    pub reuses_numbers: bool,
    pub canary: Option<Canary>,
}

/// A deliberate fault of the kernel, to show that the checks see one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Canary {
    /// A receive loses its last byte.
    LosesByte,
    /// A receive brings a byte twice.
    RepeatsByte,
    /// A buffer is handed out that somebody still holds.
    LendsBufferTwice,
    /// The last completion of a multishot accept says that more follow.
    ForgetsEnd,
    /// A reset goes out as an orderly end.
    SoftensReset,
    /// A send says all and takes less.
    SendsLess,
}

impl Canary {
    pub const ALL: [Canary; 6] = [
        Canary::LosesByte,
        Canary::RepeatsByte,
        Canary::LendsBufferTwice,
        Canary::ForgetsEnd,
        Canary::SoftensReset,
        Canary::SendsLess,
    ];
}

impl Faults {
    /// A kernel that does everything at once, whole and in order.
    pub fn none() -> Faults {
        Faults {
            late: 0,
            latest: Duration::ZERO,
            network: Duration::from_micros(50),
            short: 0,
            interrupted: 0,
            no_buffer: 0,
            cancel_races: 0,
            accept_ends: 0,
            accept_fails: 0,
            wakes_badly: 0,
            socket_fails: 0,
            connect_fails: 0,
            severs: 0,
            fails: 0,
            panics: 0,
            descriptors_max: usize::MAX,
            reuses_numbers: true,
            canary: None,
        }
    }

    /// What a connection must not notice: lateness, disorder, shortness, interruption, shortage that passes.
    pub fn harmless(dice: &mut Dice) -> Faults {
        let mut some = |most| if dice.chance(500) { dice.below(most) as u32 } else { 0 };
        let (late, short, interrupted, no_buffer) = (some(600), some(800), some(200), some(200));
        let (cancel_races, accept_ends, accept_fails, wakes_badly) = (some(1000), some(500), some(300), some(300));
        Faults {
            late,
            latest: Duration::from_micros(dice.any_size(50_000)),
            network: Duration::from_micros(1 + dice.any_size(100_000)),
            short,
            interrupted,
            no_buffer,
            cancel_races,
            accept_ends,
            accept_fails,
            wakes_badly,
            reuses_numbers: dice.chance(500),
            ..Faults::none()
        }
    }

    /// All of it.
    pub fn wild(dice: &mut Dice) -> Faults {
        let harmless = Faults::harmless(dice);
        let mut some = |most| if dice.chance(500) { dice.below(most) as u32 } else { 0 };
        let (socket_fails, connect_fails, severs, fails) = (some(300), some(300), some(30), some(30));
        let panics = if dice.chance(100) { dice.below(200) as u32 } else { 0 };
        let descriptors_max = if dice.chance(200) { 1 + dice.below(8) as usize } else { usize::MAX };
        Faults { socket_fails, connect_fails, severs, fails, panics, descriptors_max, ..harmless }
    }

    pub(super) fn lateness(&self, dice: &mut Dice) -> Duration {
        if dice.chance(self.late) { scaled(self.latest, dice) } else { Duration::ZERO }
    }

    /// How long a parcel is under way: never no time at all.
    pub(super) fn journey(&self, dice: &mut Dice) -> Duration {
        Duration::from_nanos(500) + scaled(self.network, dice)
    }
}

fn scaled(most: Duration, dice: &mut Dice) -> Duration {
    Duration::from_nanos(dice.below(most.as_nanos() as u64 + 1))
}
