//! `countersign demo`: a PKI, a backend and the terminator between them, to try with one line of curl. Everything is
//! in one directory, on loopback unless told otherwise, and gone with the process but for that directory.

mod backend;
mod http;
mod identity;
mod lines;

use super::{exit, pki};
use crate::config::Config;
use crate::control::{self, Options, Ready, StartFailure};
use clap::Args;
use std::fs::{self, DirBuilder};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// The configuration that the demonstration writes, and runs.
const CONFIGURATION: &str = "countersign.toml";
/// Its audit.
const AUDIT: &str = "audit.jsonl";
/// Tries to find a name for a fresh directory.
const NAMES_TRIED_MAX: u32 = 16;

/// Make a throw-away PKI and backend, and serve them to try with curl; runs until Ctrl-C.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Where to put certificates, configuration and audit; used again if it is there [default: a fresh directory]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Address to listen on; port 0 takes any free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8443")]
    listen: SocketAddr,
}

/// Runs the demonstration and answers the exit code.
pub fn demo(args: DemoArgs) -> u8 {
    let prepared = prepare(args.dir.as_deref(), args.listen);
    let (dir, pki, config) = match prepared {
        Ok(prepared) => prepared,
        Err(failure) => return failure.tell(),
    };
    let announce = move |ready: &Ready| {
        let Some(listen) = ready.listeners.iter().find_map(|(_, addresses)| addresses.first()) else { return };
        let text = lines::welcome(&dir, &pki, *listen, ready.admin, &dir.join(AUDIT));
        // Where standard output is closed there is nobody to tell.
        let _ = io::stdout().lock().write_all(text.as_bytes());
    };
    let code = control::run(config, Options { announce: Some(Box::new(announce)), ..Options::default() });
    if code == exit::UNAVAILABLE {
        eprintln!("countersign demo: `--listen 127.0.0.1:0` takes any free port");
    }
    code
}

/// Makes the directory with all that is in it, and starts the backend.
fn prepare(dir: Option<&Path>, listen: SocketAddr) -> Result<(PathBuf, pki::DemoPki, Config), StartFailure> {
    let dir = match dir {
        Some(dir) => named_directory(dir),
        None => fresh_directory(),
    }?;
    let pki = pki::demo(&dir).map_err(|error| cannot("make certificates in", &dir, &error))?;
    let backend = backend::start().map_err(|error| cannot("start the demonstration's backend for", &dir, &error))?;
    let path = dir.join(CONFIGURATION);
    let text = configuration(&dir, &pki, listen, backend);
    write_private(&path, &text).map_err(|error| cannot("write", &path, &error))?;
    let config = Config::from_text(&text, Some(&path)).map_err(|faults| StartFailure::of_faults(&faults))?;
    Ok((dir, pki, config))
}

/// The directory that was asked for, made if need be, as an absolute path: the lines that are printed must work from
/// anywhere.
fn named_directory(dir: &Path) -> Result<PathBuf, StartFailure> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .and_then(|()| dir.canonicalize())
        .map_err(|error| cannot("use", dir, &error))
}

/// A directory that nobody else made, below the system's one for temporary files.
fn fresh_directory() -> Result<PathBuf, StartFailure> {
    let parent = std::env::temp_dir();
    let seed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().subsec_nanos();
    for attempt in 0..NAMES_TRIED_MAX {
        let name = format!("countersign-demo-{}-{:x}", std::process::id(), seed.wrapping_add(attempt));
        let dir = parent.join(name);
        match DirBuilder::new().mode(0o700).create(&dir) {
            Ok(()) => return dir.canonicalize().map_err(|error| cannot("use", &dir, &error)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(cannot("make a directory in", &parent, &error)),
        }
    }
    Err(cannot("make a directory in", &parent, &io::ErrorKind::AlreadyExists.into()))
}

fn cannot(what: &str, path: &Path, error: &io::Error) -> StartFailure {
    let exit = match error.kind() {
        io::ErrorKind::PermissionDenied => control::Exit::Permission,
        _ => control::Exit::Config,
    };
    let message = format!("demo: cannot {what} {}: {error}; name another directory with --dir", path.display());
    StartFailure::new(exit, message)
}

/// Replaces a file of ours, readable for its owner alone.
fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let aside = path.with_extension("new");
    // Left over from a run that was killed.
    let _ = fs::remove_file(&aside);
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&aside)?;
    file.write_all(text.as_bytes())?;
    fs::rename(&aside, path)
}

/// The configuration, in the form in which an operator would write it.
fn configuration(dir: &Path, pki: &pki::DemoPki, listen: SocketAddr, backend: SocketAddr) -> String {
    let name = |path: &Path| {
        let name = path.strip_prefix(dir).unwrap_or(path).to_string_lossy().into_owned();
        toml::Value::String(name).to_string()
    };
    format!(
        r#"# Written by `countersign demo`, which also runs the backend; it is made anew at each start.
[runtime]
drain_timeout = "2s"

[admin]
http = "127.0.0.1:0"
socket = ""

[log]
level = "warn"

[audit]
path = "{AUDIT}"

[[listener]]
name = "demo"
address = ["{listen}"]

[[site]]
name = "demo"
backend = "demo"
certificate = [{{ chain = {chain}, key = {key} }}]

[site.client]
auth = "require"
trust = [{ca}]
allow = [{{ name = "demo-client", uri = "spiffe://countersign.example/demo-client" }}]

[[backend]]
name = "demo"
servers = ["{backend}"]
proxy_protocol = "v2"
proxy_tlvs = ["alpn", "authority", "unique_id", "ssl", "client_cert"]
"#,
        chain = name(&pki.server_chain),
        key = name(&pki.server_key),
        ca = name(&pki.ca),
    )
}

#[cfg(test)]
mod tests;
