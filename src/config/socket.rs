//! Where a configuration puts the admin socket, for a program that only wants to talk to the server.

use super::{Fault, defaults, net, source};
use std::path::{Path, PathBuf};
use toml::de::{DeTable, DeValue};

/// The admin socket of the server that runs with this file; `None` where it has none. The rest of the file is not
/// looked at: it may well be broken, and the server still run with what it was before.
pub fn admin_socket_of(file: &Path) -> Result<Option<PathBuf>, Fault> {
    let text = source::read(file)?;
    let (document, errors) = DeTable::parse_recoverable(&text);
    let named = match document.get_ref().get("admin").map(|admin| admin.get_ref()) {
        Some(DeValue::Table(admin)) => admin.get("socket").map(|socket| socket.get_ref()),
        // Of a file that is not TOML nothing is certain; where the socket usually is is worth a try.
        None if errors.is_empty() => return Ok(None),
        _ => None,
    };
    match named {
        None => Ok(Some(PathBuf::from(defaults::ADMIN_SOCKET))),
        Some(DeValue::String(text)) if text.is_empty() => Ok(None),
        Some(DeValue::String(text)) => net::unix_path(text, base_of(file)).map(Some).map_err(|problem| {
            Fault::config("admin.socket", &problem.message, "name the socket with --socket").at(file)
        }),
        Some(_) => Err(Fault::config("admin.socket", "is not a path", "name the socket with --socket").at(file)),
    }
}

fn base_of(file: &Path) -> &Path {
    file.parent().unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn socket_of(text: &str) -> Result<Option<PathBuf>, Fault> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("c.toml");
        std::fs::write(&file, text).unwrap();
        let found = admin_socket_of(&file)?;
        Ok(found.map(|path| path.strip_prefix(dir.path()).map(Path::to_owned).unwrap_or(path)))
    }

    #[test]
    fn a_relative_path_is_relative_to_the_file_and_none_is_the_default() {
        assert_eq!(socket_of("[admin]\nsocket = \"a.sock\"\n").unwrap(), Some("a.sock".into()));
        assert_eq!(socket_of("[admin]\nsocket = \"/x/a.sock\"\n").unwrap(), Some("/x/a.sock".into()));
        assert_eq!(socket_of("[admin]\n").unwrap(), Some(defaults::ADMIN_SOCKET.into()));
    }

    #[test]
    fn a_server_without_admin_or_socket_has_none() {
        assert_eq!(socket_of("").unwrap(), None);
        assert_eq!(socket_of("[admin]\nsocket = \"\"\n").unwrap(), None);
    }

    #[test]
    fn a_file_that_is_broken_elsewhere_still_tells_its_socket() {
        assert_eq!(socket_of("[admin]\nsocket = \"a.sock\"\n[runtime\nx = \n").unwrap(), Some("a.sock".into()));
        assert!(socket_of("[admin]\nsocket = 5\n").is_err());
    }
}
