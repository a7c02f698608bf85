//! How clients and backends carry bytes: in pieces and bites, with pauses, until their script cuts them off.

use super::script::{Cut, How, Talk, When};
use crate::sys::scripted::{Came, Dice, Gone, Net, PeerEnd};
use std::time::Duration;

/// One end of a connection as its owner uses it.
pub struct Conduct {
    pub net: Net,
    pub end: PeerEnd,
    talk: Talk,
    cut: Option<Cut>,
    dice: Dice,
    pub wrote: u64,
    pub read: u64,
    write_at: Duration,
    read_at: Duration,
    deaf_until: Option<Duration>,
    /// When it is given up, if nothing has ended it before.
    patience: Duration,
}

/// Longer than any timeout of the process under test: who waits so long was forgotten.
pub const PATIENCE: Duration = Duration::from_secs(90);

impl Conduct {
    pub fn new(net: Net, end: PeerEnd, talk: Talk, cut: Option<Cut>, dice: Dice) -> Conduct {
        let now = net.now();
        let cut = cut.map(|cut| match cut.when {
            When::At(after) => Cut { when: When::At(now + after), ..cut },
            _ => cut,
        });
        Conduct {
            end,
            talk,
            cut,
            dice,
            wrote: 0,
            read: 0,
            write_at: now,
            read_at: now,
            deaf_until: None,
            patience: now + PATIENCE,
            net,
        }
    }

    /// The cut, once its time has come.
    pub fn cut(&mut self) -> Option<How> {
        let cut = self.cut?;
        let due = match cut.when {
            When::Wrote(bytes) => self.wrote >= bytes,
            When::Read(bytes) => self.read >= bytes,
            When::At(moment) => self.due(moment),
        };
        due.then(|| {
            self.cut = None;
            cut.how
        })
    }

    /// What came, if it is time to look.
    pub fn read(&mut self) -> Option<Came> {
        let deaf = self.talk.deaf.filter(|(after, _)| self.read >= *after && self.deaf_until.is_none());
        if let Some((_, time)) = deaf {
            self.deaf_until = Some(self.net.now() + time);
        }
        let until = self.deaf_until.map_or(self.read_at, |deaf| deaf.max(self.read_at));
        if !self.due(until) {
            return None;
        }
        let mut bite = self.talk.bite;
        if let Some(Cut { when: When::Read(bytes), .. }) = self.cut {
            bite = bite.min((bytes.saturating_sub(self.read) as usize).max(1));
        }
        let came = self.end.try_read(bite)?;
        if let Came::Bytes(bytes) = &came {
            self.read += bytes.len() as u64;
            self.read_at = self.net.now() + self.some(self.talk.rest);
            self.progress();
        }
        Some(came)
    }

    /// Writes what may be written now of `bytes`; how many it were.
    pub fn write(&mut self, bytes: &[u8]) -> Result<usize, Gone> {
        if !self.due(self.write_at) {
            return Ok(0);
        }
        let mut piece = bytes.len().min(self.talk.piece);
        if let Some(Cut { when: When::Wrote(until), .. }) = self.cut {
            piece = piece.min(until.saturating_sub(self.wrote) as usize);
        }
        let count = self.end.try_write(&bytes[..piece])?;
        if count > 0 {
            self.wrote += count as u64;
            self.write_at = self.net.now() + self.some(self.talk.pause);
            self.progress();
        }
        Ok(count)
    }

    /// No pauses between reads any more.
    pub fn hurry(&mut self) {
        (self.talk.rest, self.talk.deaf, self.deaf_until) = (Duration::ZERO, None, None);
        self.read_at = self.net.now();
    }

    /// Whether it has waited for too long.
    pub fn is_out_of_patience(&self) -> bool {
        self.due(self.patience)
    }

    fn progress(&mut self) {
        self.patience = self.net.now() + PATIENCE;
    }

    fn some(&mut self, most: Duration) -> Duration {
        Duration::from_nanos(self.dice.below(most.as_nanos() as u64 + 1))
    }

    /// Whether a moment has come; asks to be looked at again then if not.
    fn due(&self, moment: Duration) -> bool {
        let due = self.net.now() >= moment;
        if !due {
            self.net.wake_at(moment);
        }
        due
    }

    /// Carries a cut out. False: the end stays open and does nothing.
    pub fn carry_out(&mut self, how: How) -> bool {
        let kept = self.dice.below(3) as usize;
        match how {
            How::Reset => self.end.reset(kept),
            How::Close => self.end.close(),
            How::Vanish(patience) => self.end.vanish(patience),
            How::Fin => {
                self.end.finish();
                return false;
            }
            How::Stall => return false,
        }
        true
    }
}
