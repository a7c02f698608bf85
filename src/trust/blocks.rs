//! The block list: clients that an operator shut out by hand. One immutable value; changing it makes the next.

use super::admission::Identity;
use super::evaluate::seconds;
use super::leaf::Leaf;
use super::name::NameKey;
use super::text;
use crate::config::limits;
use rustls_pki_types::UnixTime;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::Arc;

/// What a block names.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Blocked {
    /// Hex of the integer, with or without colons, in any case; under any issuer or under one (RFC 4514 text).
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

/// All blocks in force. Looking a client up costs four lookups, however many blocks there are. Nothing here looks at a
/// clock: a block is in force until whoever keeps the list takes it off, or a clock that is wrong for a moment would let in
/// whom an operator shut out.
#[derive(Debug, Clone, Default)]
pub struct Blocks {
    list: Vec<Arc<Block>>,
    /// By what they name, the serial number without its issuer.
    by_what: HashMap<Lookup, Vec<Arc<Block>>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Lookup {
    Serial(String),
    Sha256([u8; 32]),
    SpkiSha256([u8; 32]),
    Identity(String),
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
        self.list.iter().map(|block| &**block)
    }

    /// The block that shuts this client out, if any.
    pub fn find(&self, leaf: &Leaf, identity: &Identity) -> Option<&Block> {
        if self.is_empty() {
            return None;
        }
        let lookups = [
            Lookup::Sha256(leaf.sha256),
            Lookup::SpkiSha256(leaf.spki_sha256),
            Lookup::Identity(identity.as_str().to_owned()),
            Lookup::Serial(leaf.serial.clone()),
        ];
        let mut named = lookups.iter().filter_map(|lookup| self.by_what.get(lookup)).flatten();
        named.find(|block| block.what.covers_issuer(leaf)).map(|block| &**block)
    }

    /// The list with this block; one that names the same is replaced. `Err`: the list is full, or the block names an
    /// issuer that is no name.
    pub fn with(&self, block: Block) -> Result<Blocks, String> {
        let block = block.checked()?;
        let mut list = self.list.clone();
        list.retain(|other| !other.what.is_same(&block.what));
        list.push(Arc::new(block));
        Blocks::of(list)
    }

    /// The list without the block that names this.
    pub fn without(&self, what: &Blocked) -> Blocks {
        self.keeping(|block| !block.what.is_same(what))
    }

    /// The list without blocks that ended before `now`: for one that comes from elsewhere, with nothing but a wall clock to
    /// judge it by.
    pub fn purge(&self, now: UnixTime) -> Blocks {
        self.keeping(|block| block.holds_at(seconds(now)))
    }

    /// The list with those blocks alone.
    pub fn keeping(&self, keep: impl Fn(&Block) -> bool) -> Blocks {
        let list = self.list.iter().filter(|block| keep(block)).cloned().collect();
        // Fewer than before are never too many.
        Blocks::of(list).unwrap_or_default()
    }

    fn of(list: Vec<Arc<Block>>) -> Result<Blocks, String> {
        if list.len() > limits::BLOCKS_MAX {
            return Err(format!(
                "there are {} blocks already; unblock some, or revoke those certificates",
                limits::BLOCKS_MAX
            ));
        }
        let mut by_what: HashMap<Lookup, Vec<Arc<Block>>> = HashMap::new();
        for block in &list {
            by_what.entry(block.what.lookup()).or_default().push(block.clone());
        }
        Ok(Blocks { list, by_what })
    }
}

impl Block {
    fn holds_at(&self, now: i64) -> bool {
        self.until.is_none_or(|until| now <= until)
    }

    /// The block with its serial number and issuer in comparable form.
    fn checked(mut self) -> Result<Block, String> {
        if let Blocked::Serial { serial, issuer } = &mut self.what {
            *serial = fold_serial(serial)?;
            if let Some(issuer) = issuer {
                NameKey::of_text(issuer)?;
            }
        }
        Ok(self)
    }
}

impl Blocked {
    fn lookup(&self) -> Lookup {
        match self {
            Blocked::Serial { serial, .. } => Lookup::Serial(fold_serial(serial).unwrap_or_else(|_| serial.clone())),
            Blocked::Sha256(digest) => Lookup::Sha256(*digest),
            Blocked::SpkiSha256(digest) => Lookup::SpkiSha256(*digest),
            Blocked::Identity(text) => Lookup::Identity(text.clone()),
        }
    }

    /// Two ways to write the same thing.
    fn is_same(&self, other: &Blocked) -> bool {
        self.lookup() == other.lookup() && self.issuer_key() == other.issuer_key()
    }

    fn issuer_key(&self) -> Option<NameKey> {
        match self {
            Blocked::Serial { issuer: Some(issuer), .. } => NameKey::of_text(issuer).ok(),
            _ => None,
        }
    }

    /// Whether the issuer that goes with a serial number, if one does, is this leaf's.
    fn covers_issuer(&self, leaf: &Leaf) -> bool {
        match self {
            Blocked::Serial { issuer: Some(_), .. } => {
                let ours = self.issuer_key();
                ours.is_some() && ours == leaf.issuer_key()
            }
            _ => true,
        }
    }
}

/// A serial number in hex, with or without colons and in any case, as [`Leaf::serial`] has it.
fn fold_serial(written: &str) -> Result<String, String> {
    let digits: String = written.chars().filter(|c| *c != ':').map(|c| c.to_ascii_lowercase()).collect();
    let (sign, digits) = digits.strip_prefix('-').map_or(("", digits.as_str()), |rest| ("-", rest));
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(format!("`{}` is not a serial number in hex", text::short(written)));
    }
    let digits = digits.trim_start_matches('0');
    let pad = match digits.len() {
        0 => "00",
        odd if odd % 2 == 1 => "0",
        _ => "",
    };
    Ok(format!("{sign}{pad}{digits}"))
}

impl Serialize for Blocks {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl<'de> Deserialize<'de> for Blocks {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Blocks, D::Error> {
        let list: Vec<Block> = Vec::deserialize(deserializer)?;
        Blocks::of(list.into_iter().map(Arc::new).collect()).map_err(serde::de::Error::custom)
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
        Block { what, until: written.until, since: written.since, by: written.by, why: written.why }.checked()
    }
}
