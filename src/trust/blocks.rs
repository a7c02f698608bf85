//! The block list: clients that an operator shut out by hand. One immutable value; changing it makes the next.

use super::admission::Identity;
use super::leaf::Leaf;
use rustls_pki_types::UnixTime;
use serde::{Deserialize, Serialize};

/// What a block names.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Blocked {
    /// Lower-case hex of the integer without leading zeros (at least two digits), under any issuer or one (RFC 4514).
    Serial {
        serial: String,
        issuer: Option<String>,
    },
    Sha256([u8; 32]),
    SpkiSha256([u8; 32]),
    /// The printed form, such as `uri:spiffe://…`.
    Identity(String),
}

/// One block.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct Block {
    pub what: Blocked,
    /// Seconds since the Unix epoch, the last one included; `None`: until it is taken away.
    pub until: Option<i64>,
    /// When it was made.
    pub since: i64,
    /// Who made it.
    pub by: String,
    pub why: Option<String>,
}

/// All blocks in force.
#[derive(Debug, Clone, Default)]
pub struct Blocks {
    list: Vec<Block>,
}

impl Blocks {
    /// Whether there is nothing to look up.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// All of them, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &Block> {
        self.list.iter()
    }

    /// The block that shuts this client out at `now`, if any.
    pub fn find(&self, leaf: &Leaf, identity: &Identity, now: UnixTime) -> Option<&Block> {
        let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        self.list.iter().filter(|block| block.holds_at(now)).find(|block| match &block.what {
            Blocked::Serial { serial, issuer } => {
                *serial == leaf.serial && issuer.as_ref().is_none_or(|issuer| *issuer == leaf.issuer)
            }
            Blocked::Sha256(digest) => *digest == leaf.sha256,
            Blocked::SpkiSha256(digest) => *digest == leaf.spki_sha256,
            Blocked::Identity(text) => text == identity.as_str(),
        })
    }

    /// The list with this block; one of the same client is replaced.
    pub fn with(&self, block: Block) -> Blocks {
        let mut next = self.without(&block.what);
        next.list.push(block);
        next
    }

    /// The list without the block of this client.
    pub fn without(&self, what: &Blocked) -> Blocks {
        Blocks { list: self.list.iter().filter(|block| block.what != *what).cloned().collect() }
    }

    /// The list without blocks that ended before `now`.
    pub fn purge(&self, now: UnixTime) -> Blocks {
        let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        Blocks { list: self.list.iter().filter(|block| block.holds_at(now)).cloned().collect() }
    }
}

impl Block {
    fn holds_at(&self, now: i64) -> bool {
        self.until.is_none_or(|until| now <= until)
    }
}

impl Serialize for Blocks {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.list.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Blocks {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Blocks, D::Error> {
        Ok(Blocks { list: Vec::deserialize(deserializer)? })
    }
}

/// The JSON form of a [`Block`]: exactly one of the first four keys.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    serial: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sha256: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    spki_sha256: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    identity: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    issuer: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    until: Option<i64>,
    since: i64,
    by: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    why: Option<String>,
}

impl From<Block> for Written {
    fn from(block: Block) -> Written {
        let mut written = Written {
            serial: None,
            sha256: None,
            spki_sha256: None,
            identity: None,
            issuer: None,
            until: block.until,
            since: block.since,
            by: block.by,
            why: block.why,
        };
        match block.what {
            Blocked::Serial { serial, issuer } => (written.serial, written.issuer) = (Some(serial), issuer),
            Blocked::Sha256(digest) => written.sha256 = Some(hex::encode(digest)),
            Blocked::SpkiSha256(digest) => written.spki_sha256 = Some(hex::encode(digest)),
            Blocked::Identity(identity) => written.identity = Some(identity),
        }
        written
    }
}

impl TryFrom<Written> for Block {
    type Error = String;

    fn try_from(written: Written) -> Result<Block, String> {
        let digest = |text: String| {
            let mut bytes = [0; 32];
            hex::decode_to_slice(&text, &mut bytes).map(|()| bytes).map_err(|_| format!("`{text}` is not a SHA-256"))
        };
        let what = match (written.serial, written.sha256, written.spki_sha256, written.identity) {
            (Some(serial), None, None, None) => Blocked::Serial { serial, issuer: written.issuer },
            (None, Some(text), None, None) => Blocked::Sha256(digest(text)?),
            (None, None, Some(text), None) => Blocked::SpkiSha256(digest(text)?),
            (None, None, None, Some(identity)) => Blocked::Identity(identity),
            _ => return Err("a block names exactly one of serial, sha256, spki_sha256 and identity".to_owned()),
        };
        Ok(Block { what, until: written.until, since: written.since, by: written.by, why: written.why })
    }
}
