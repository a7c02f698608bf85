//! The scenario file of `mix`: which clients come, in which shares.

use std::path::Path;
use std::time::Duration;

use toml::{Table, Value};

use crate::load::{Refusal, exit, limits, units};

/// A whole file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mix {
    /// Clients at a time, where the command line does not say.
    pub connections: usize,
    pub parts: Vec<Part>,
}

/// One kind of client, and how many of a hundred (or of the sum of all shares) are of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    pub share: u64,
    pub behaviour: Behaviour,
}

/// What a client does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Behaviour {
    /// Connects with a full handshake, asks, leaves.
    New(Visit),
    /// The same, resuming its last session.
    Resumed(Visit),
    /// Stays, and asks with a pause behind each answer.
    LongLived { size: usize, pause: Duration },
    /// Connects and sends one request in pieces, with a pause before each.
    Slow { size: usize, piece: usize, pause: Duration },
    /// Sends half a ClientHello and waits for what the server does.
    HalfHandshake { hold: Duration },
    /// Comes with a certificate that no trusted CA issued.
    WrongCertificate,
    /// Asks for new keys again and again, with no data between.
    KeyUpdates { updates: usize },
}

/// What a client asks while it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Visit {
    pub requests: usize,
    pub size: usize,
}

const KINDS: [&str; 7] = ["new", "resumed", "long_lived", "slow", "half_handshake", "wrong_certificate", "key_updates"];

impl Behaviour {
    pub fn name(&self) -> &'static str {
        match self {
            Behaviour::New(_) => "new",
            Behaviour::Resumed(_) => "resumed",
            Behaviour::LongLived { .. } => "long_lived",
            Behaviour::Slow { .. } => "slow",
            Behaviour::HalfHandshake { .. } => "half_handshake",
            Behaviour::WrongCertificate => "wrong_certificate",
            Behaviour::KeyUpdates { .. } => "key_updates",
        }
    }

    /// Whether a good server ends such a client: then its end is no failure, and its operations are no throughput.
    pub fn is_hostile(&self) -> bool {
        matches!(self, Behaviour::HalfHandshake { .. } | Behaviour::WrongCertificate | Behaviour::KeyUpdates { .. })
    }
}

/// Reads and checks the file.
pub fn read(path: &Path) -> Result<Mix, Refusal> {
    let shown = path.display();
    let text = match std::fs::metadata(path).and_then(|m| Ok((m.len(), std::fs::read_to_string(path)?))) {
        Ok((length, text)) if length <= limits::MIX_BYTES_MAX => text,
        Ok(_) => return Err(Refusal::new(exit::CONFIG, format!("{shown}: longer than 64 KiB; is this a scenario?"))),
        Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => {
            return Err(Refusal::new(exit::PERMISSION, format!("{shown} may not be read; make it readable")));
        }
        Err(e) => {
            let message = format!("{shown}: {e}; benches/mix.toml is an example to start from");
            return Err(Refusal::new(exit::CONFIG, message));
        }
    };
    parse(&text).map_err(|why| Refusal::new(exit::CONFIG, format!("{shown}: {why}")))
}

fn parse(text: &str) -> Result<Mix, String> {
    let table: Table = text.parse().map_err(|e: toml::de::Error| e.to_string().trim_end().to_owned())?;
    known(&table, &["connections", "client"], "the file")?;
    let connections = match table.get("connections") {
        None => limits::MIX_CONNECTIONS_DEFAULT,
        Some(value) => number(value, limits::CONNECTIONS_MAX).map_err(|why| format!("connections: {why}"))?,
    };
    let clients = match table.get("client") {
        Some(Value::Array(clients)) if clients.len() <= limits::MIX_PARTS_MAX => clients,
        Some(Value::Array(_)) => return Err(format!("at most {} [[client]] tables are taken", limits::MIX_PARTS_MAX)),
        Some(_) => return Err("client: write each kind as a table of its own, [[client]]".to_owned()),
        None => return Err("no [[client]] in it; write one table for each kind of client".to_owned()),
    };
    let mut parts = Vec::new();
    for (n, client) in clients.iter().enumerate() {
        let table = client.as_table().ok_or("client: write each kind as a table of its own, [[client]]")?;
        parts.push(part(table).map_err(|why| format!("client {}: {why}", n + 1))?);
    }
    Ok(Mix { connections, parts })
}

fn part(table: &Table) -> Result<Part, String> {
    let kind = table
        .get("kind")
        .and_then(Value::as_str)
        .ok_or_else(|| format!("kind is missing; one of {}", KINDS.join(", ")))?;
    let visit_keys = ["kind", "share", "requests", "size"];
    let keys: &[&str] = match kind {
        "new" | "resumed" => &visit_keys,
        "long_lived" => &["kind", "share", "size", "pause"],
        "slow" => &["kind", "share", "size", "piece", "pause"],
        "half_handshake" => &["kind", "share", "hold"],
        "wrong_certificate" => &["kind", "share"],
        "key_updates" => &["kind", "share", "updates"],
        other => return Err(format!("kind = {other:?} is none{}; one of {}", meant(other, &KINDS), KINDS.join(", "))),
    };
    known(table, keys, &format!("kind = {kind:?}"))?;
    let share = table.get("share").ok_or("share is missing; how many of a hundred clients are of this kind?")?;
    let share = number(share, 1_000_000).map_err(|why| format!("share: {why}"))? as u64;
    let visit = || {
        Ok::<Visit, String>(Visit {
            requests: count(table, "requests", 1, 1_000_000)?,
            size: size(table, "size", 1024)?,
        })
    };
    let behaviour = match kind {
        "new" => Behaviour::New(visit()?),
        "resumed" => Behaviour::Resumed(visit()?),
        "long_lived" => {
            Behaviour::LongLived { size: size(table, "size", 1024)?, pause: duration(table, "pause", Duration::ZERO)? }
        }
        "slow" => slow(table)?,
        "half_handshake" => Behaviour::HalfHandshake { hold: duration(table, "hold", Duration::from_secs(1))? },
        "wrong_certificate" => Behaviour::WrongCertificate,
        _ => Behaviour::KeyUpdates { updates: count(table, "updates", 100, 1_000_000)? },
    };
    Ok(Part { share, behaviour })
}

fn slow(table: &Table) -> Result<Behaviour, String> {
    let (size, piece) = (size(table, "size", 64)?, size(table, "piece", 1)?);
    let pause = duration(table, "pause", Duration::from_millis(50))?;
    let visit = pause.as_secs_f64() * size.div_ceil(piece) as f64;
    if visit > limits::MIX_WAIT_MAX.as_secs_f64() {
        let most = limits::MIX_WAIT_MAX;
        return Err(format!("a visit takes {visit:.0} s, at most {most:?} may be; a smaller size, or a larger piece"));
    }
    Ok(Behaviour::Slow { size, piece, pause })
}

fn known(table: &Table, keys: &[&str], place: &str) -> Result<(), String> {
    match table.keys().find(|key| !keys.contains(&key.as_str())) {
        None => Ok(()),
        Some(key) => Err(format!("{place} has no key {key:?}{}; there are {}", meant(key, keys), keys.join(", "))),
    }
}

fn meant(name: &str, known: &[&str]) -> String {
    units::nearest(name, known).map(|near| format!(" (did you mean {near:?}?)")).unwrap_or_default()
}

fn number(value: &Value, most: usize) -> Result<usize, String> {
    let number = value.as_integer().and_then(|n| usize::try_from(n).ok()).filter(|n| (1..=most).contains(n));
    number.ok_or_else(|| format!("a number from 1 to {most} is needed"))
}

fn count(table: &Table, key: &str, default: usize, most: usize) -> Result<usize, String> {
    table.get(key).map_or(Ok(default), |value| number(value, most).map_err(|why| format!("{key}: {why}")))
}

fn size(table: &Table, key: &str, default: usize) -> Result<usize, String> {
    match table.get(key) {
        None => Ok(default),
        Some(Value::Integer(n)) => units::size(&n.to_string()).map_err(|why| format!("{key}: {why}")),
        Some(Value::String(text)) => units::size(text).map_err(|why| format!("{key}: {why}")),
        Some(_) => Err(format!("{key}: write it like 1024 or \"64KiB\"")),
    }
}

fn duration(table: &Table, key: &str, default: Duration) -> Result<Duration, String> {
    match table.get(key) {
        None => Ok(default),
        Some(Value::String(text)) => match units::duration(text).map_err(|why| format!("{key}: {why}"))? {
            long if long > limits::MIX_WAIT_MAX => Err(format!("{key}: at most {:?} may be", limits::MIX_WAIT_MAX)),
            some => Ok(some),
        },
        Some(_) => Err(format!("{key}: write it in quotes, like \"50ms\"")),
    }
}

impl Mix {
    /// Which part each of `lanes` clients is of: in proportion to the shares, spread evenly, and every part at least once.
    pub fn seats(&self, lanes: usize) -> Result<Vec<usize>, Refusal> {
        if lanes < self.parts.len() {
            let kinds = self.parts.len();
            return Err(Refusal::usage(format!("{lanes} clients cannot be of {kinds} kinds; raise --connections")));
        }
        // First one of each, so that a small share is there at all; then whoever is furthest behind.
        let mut seats: Vec<usize> = (0..self.parts.len()).collect();
        let mut taken = vec![1u64; self.parts.len()];
        while seats.len() < lanes {
            let behind = |n: &usize| taken[*n] as f64 / self.parts[*n].share as f64;
            let next = (0..self.parts.len()).min_by(|a, b| behind(a).total_cmp(&behind(b))).unwrap_or(0);
            taken[next] += 1;
            seats.push(next);
        }
        Ok(seats)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_a_scenario_with_every_kind_in_it() {
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/mix.toml");
        let mix = read(&example).unwrap();
        let mut names: Vec<_> = mix.parts.iter().map(|part| part.behaviour.name()).collect();
        names.sort_unstable();
        let mut kinds = KINDS;
        kinds.sort_unstable();
        assert_eq!(names, kinds);
    }

    #[test]
    fn what_is_left_out_has_a_default_and_what_is_wrong_is_refused_with_what_was_meant() {
        let mix = parse("[[client]]\nkind = \"new\"\nshare = 1").unwrap();
        assert_eq!(mix.parts[0].behaviour, Behaviour::New(Visit { requests: 1, size: 1024 }));
        for (text, said) in [
            ("", "[[client]]"),
            ("client = 3", "[[client]]"),
            ("conections = 3", "did you mean \"connections\"?"),
            ("connections = 0\n[[client]]\nkind = \"new\"\nshare = 1", "from 1 to"),
            ("[[client]]\nkind = \"new\"", "share is missing"),
            ("[[client]]\nshare = 1", "kind is missing"),
            ("[[client]]\nkind = \"resume\"\nshare = 1", "did you mean \"resumed\"?"),
            (
                "[[client]]\nkind = \"new\"\nshare = 1\nrequest = 2",
                "client 1: kind = \"new\" has no key \"request\" (did you mean \"requests\"?)",
            ),
            ("[[client]]\nkind = \"slow\"\nshare = 1\npause = 5", "in quotes"),
            ("[[client]]\nkind = \"slow\"\nshare = 1\nsize = \"1GB\"", "size: "),
            ("[[client]]\nkind = \"slow\"\nshare = -1", "share: a number"),
            ("[[client]]\nkind = \"slow\"\nshare = 1\nsize = \"4KiB\"", "a visit takes 205 s"),
            ("[[client]]\nkind = \"half_handshake\"\nshare = 1\nhold = \"1h\"", "hold: at most 60s"),
            ("[[client", "TOML"),
        ] {
            let why = parse(text).unwrap_err();
            assert!(why.contains(said), "{text:?}: {why}");
        }
    }

    #[test]
    fn shares_are_kept_and_a_small_one_is_not_forgotten() {
        let part = |share, behaviour| Part { share, behaviour };
        let visit = Visit { requests: 1, size: 1 };
        let parts = vec![
            part(90, Behaviour::New(visit)),
            part(9, Behaviour::Resumed(visit)),
            part(1, Behaviour::WrongCertificate),
        ];
        let mix = Mix { connections: 1, parts };
        let seats = mix.seats(100).unwrap();
        let of = |n| seats.iter().filter(|seat| **seat == n).count();
        assert_eq!((of(0), of(1), of(2)), (90, 9, 1));
        assert_eq!(mix.seats(3).unwrap(), [0, 1, 2]);
        assert_eq!(mix.seats(2).unwrap_err().code, exit::USAGE);
    }
}
