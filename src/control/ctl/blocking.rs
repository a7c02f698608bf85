//! `block`, `unblock`, `blocked`, and the end of blocks that were made for a time.

use super::commands::GIVING;
use super::{Answer, Peer, Selector};
use crate::config::{self, limits};
use crate::control::desk::Desk;
use crate::control::service::Service;
use crate::control::text::moment;
use crate::trust::{Block, Blocked, Blocks};
use rustls_pki_types::UnixTime;
use std::fmt;
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The kinds of an identity, as the audit prints them.
const KINDS: [&str; 6] = ["name:", "uri:", "dns:", "email:", "cn:", "sha256:"];

impl<S: Service> Desk<S> {
    pub(super) async fn block(
        self: &Arc<Self>,
        client: &Selector,
        for_seconds: Option<u64>,
        why: Option<String>,
        peer: Peer,
    ) -> Answer {
        let what = match client.checked() {
            Ok(what) => what,
            Err(problem) => return Answer::refused(problem),
        };
        if why.as_ref().is_some_and(|why| why.len() > limits::BLOCK_WHY_BYTES_MAX) {
            return Answer::refused(format!("the reason is longer than {} bytes", limits::BLOCK_WHY_BYTES_MAX));
        }
        let since = now();
        let until = for_seconds.map(|seconds| since.saturating_add(i64::try_from(seconds).unwrap_or(i64::MAX)));
        let block = Block { what, until, since, by: format!("uid {}", peer.uid), why };
        match self.change(|blocks| blocks.with(block)).await {
            Err(problem) => Answer::refused(problem),
            Ok(stored) => {
                let until = until.map(|until| format!(" until {}", of_unix(until))).unwrap_or_default();
                self.stored(format!("blocked {client}{until}; its connections end now"), "forgets the block", stored)
            }
        }
    }

    pub(super) async fn unblock(self: &Arc<Self>, client: &Selector) -> Answer {
        let what = match client.checked() {
            Ok(what) => what,
            Err(problem) => return Answer::refused(problem),
        };
        let removed = self.change(|blocks| {
            let next = blocks.without(&what);
            let none =
                || format!("{client} is not blocked; `ctl blocked` lists what is, and a block ends as it was made");
            if next.len() < blocks.len() { Ok(next) } else { Err(none()) }
        });
        match removed.await {
            Err(problem) => Answer::refused(problem),
            // Without a place nothing of the block is left that a restart could find.
            Ok(_) if !self.book.is_kept() => Answer::done(format!("unblocked {client}")),
            Ok(stored) => self.stored(format!("unblocked {client}"), "brings the block back", stored),
        }
    }

    pub(super) fn blocked(&self) -> Answer {
        let blocks = self.service.blocks();
        let mut text: String = blocks.iter().map(line).collect();
        if blocks.is_empty() {
            text.push_str("nobody is blocked\n");
        }
        if !self.book.is_kept() && !blocks.is_empty() {
            text.push_str("a restart forgets these: runtime.state_dir is not set\n");
        }
        Answer::told(text, &blocks)
    }

    /// Takes blocks that ran out off the list.
    pub async fn purge_now(self: &Arc<Self>) {
        let purged = self.change(|blocks| {
            let next = self.block_ends.in_force(blocks, Instant::now(), now());
            if next.len() < blocks.len() { Ok(next) } else { Err(String::new()) }
        });
        if let Ok(Err(error)) = purged.await {
            tracing::warn!(%error, "blocks that ran out are still on disk; they have no effect");
        }
    }

    /// How long it is until the next block runs out.
    pub fn until_a_block_ends(&self) -> Duration {
        self.block_ends.next(&self.service.blocks(), Instant::now(), now()).unwrap_or(Duration::MAX)
    }

    /// Makes the next list from the present one, puts it in force, then stores it. `Err`: nothing was changed.
    async fn change(
        self: &Arc<Self>,
        next: impl FnOnce(&Blocks) -> Result<Blocks, String>,
    ) -> Result<io::Result<()>, String> {
        let (count, blocks) = {
            let mut count = self.blocking.lock().unwrap_or_else(PoisonError::into_inner);
            if self.giving.load(Ordering::SeqCst) {
                return Err(GIVING.to_owned());
            }
            let blocks = next(&self.service.blocks())?;
            self.service.set_blocks(blocks.clone());
            // Meets what is new while the wall clock is the one that its end was reckoned by.
            let _ = self.block_ends.next(&blocks, Instant::now(), now());
            self.state.note_blocks(blocks.len());
            *count += 1;
            (*count, blocks)
        };
        self.blocks_changed.notify_one();
        self.elder.tell_blocks(&blocks);
        let desk = Arc::clone(self);
        let stored = tokio::task::spawn_blocking(move || desk.book.store(count, &blocks)).await;
        Ok(stored.unwrap_or_else(|error| Err(io::Error::other(error))))
    }

    /// The answer to a change that is in force, by what became of it on disk.
    fn stored(&self, done: String, restart: &str, stored: io::Result<()>) -> Answer {
        match stored {
            Ok(()) if self.book.is_kept() => Answer::done(done),
            Ok(()) => Answer::done(format!("{done}\na restart {restart}: runtime.state_dir is not set")),
            Err(error) => Answer::refused(format!(
                "{done}\nbut it could not be stored, and a restart {restart}: {error}; look at runtime.state_dir, then \
                 give the command again"
            )),
        }
    }
}

impl Selector {
    /// The same in comparable form.
    fn checked(&self) -> Result<Blocked, String> {
        match self {
            Selector::Serial { serial, issuer } => {
                let bare = serial.trim();
                let bare = bare.strip_prefix("0x").or_else(|| bare.strip_prefix("0X")).unwrap_or(bare);
                let digits = bare.bytes().filter(|byte| *byte != b':').count();
                if digits == 0 || digits > 2 * limits::SERIAL_BYTES_MAX {
                    return Err(format!(
                        "{serial:?} is no serial number; give it in hex, as `openssl x509 -serial` prints it"
                    ));
                }
                Ok(Blocked::Serial { serial: bare.to_owned(), issuer: issuer.clone() })
            }
            Selector::Sha256(text) => digest(text).map(Blocked::Sha256),
            Selector::SpkiSha256(text) => digest(text).map(Blocked::SpkiSha256),
            Selector::Identity(text) => {
                match KINDS.iter().any(|kind| text.len() > kind.len() && text.starts_with(kind)) {
                    true if text.len() <= limits::RULE_TEXT_BYTES_MAX => Ok(Blocked::Identity(text.clone())),
                    true => Err(format!("the identity is longer than {} bytes", limits::RULE_TEXT_BYTES_MAX)),
                    false => Err(format!(
                        "{text:?} has no kind; write it as the audit does: uri:…, dns:…, email:…, cn:…, name:… or sha256:…"
                    )),
                }
            }
        }
    }
}

impl fmt::Display for Selector {
    /// As it would be typed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Selector::Serial { serial, issuer: None } => write!(f, "--serial {serial}"),
            Selector::Serial { serial, issuer: Some(issuer) } => write!(f, "--serial {serial} --issuer {issuer:?}"),
            Selector::Sha256(digest) => write!(f, "--sha256 {digest}"),
            Selector::SpkiSha256(digest) => write!(f, "--spki {digest}"),
            Selector::Identity(identity) => write!(f, "--identity {identity:?}"),
        }
    }
}

/// A SHA-256 as rules take it.
pub(super) fn digest(text: &str) -> Result<[u8; 32], String> {
    config::sha256_from(text.trim()).map_err(|wrong| format!("{wrong}; give 64 hex digits, or sha256: and its base64"))
}

fn line(block: &Block) -> String {
    let what = match &block.what {
        Blocked::Serial { serial, issuer } => Selector::Serial { serial: serial.clone(), issuer: issuer.clone() },
        Blocked::Sha256(digest) => Selector::Sha256(hex::encode(digest)),
        Blocked::SpkiSha256(digest) => Selector::SpkiSha256(hex::encode(digest)),
        Blocked::Identity(identity) => Selector::Identity(identity.clone()),
    };
    let until = block.until.map(|until| format!(" until {}", of_unix(until))).unwrap_or_default();
    let why = block.why.as_ref().map(|why| format!(": {}", why.escape_debug())).unwrap_or_default();
    format!("{what}{until}  since {} by {}{why}\n", of_unix(block.since), block.by)
}

fn now() -> i64 {
    i64::try_from(UnixTime::now().as_secs()).unwrap_or(i64::MAX)
}

fn of_unix(seconds: i64) -> String {
    let since = u64::try_from(seconds).ok().and_then(|seconds| UNIX_EPOCH.checked_add(Duration::from_secs(seconds)));
    since.map_or_else(|| seconds.to_string(), |at: SystemTime| moment(at))
}
