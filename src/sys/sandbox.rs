//! What a thread, and every thread and program that it starts from then on, may still do with files (Landlock). It can be
//! narrowed further and never widened.
//!
//! Looking at paths (stat, readlink) and connecting to unix sockets are not restricted, nor is what is open already.

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus,
    Scope, path_beneath_rules,
};
use std::path::PathBuf;

/// All that is asked for; an older kernel does what it knows of it.
const NEWEST: ABI = ABI::V6;

/// What may still be opened. Directories stand for all beneath them; what does not exist is left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reach {
    pub reads: Vec<PathBuf>,
    /// To read, write, make and remove files and sockets in.
    pub writes: Vec<PathBuf>,
    /// Unix sockets without a path, of others.
    pub abstract_sockets: bool,
}

/// How much of that the kernel does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Confined {
    Wholly,
    /// An older kernel.
    Partly,
    /// It has no Landlock, or a filter forbids it.
    Not,
}

/// Confines this thread and what it starts to `reach`: no other file is read or written, no program executed, no process
/// outside signalled.
///
/// # Errors
/// What the kernel refuses though it has Landlock; nothing has changed then.
pub fn confine(reach: &Reach) -> Result<Confined, String> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let made = AccessFs::MakeReg | AccessFs::MakeSock | AccessFs::MakeDir | AccessFs::RemoveFile;
    let write = read | AccessFs::WriteFile | AccessFs::Truncate | made;
    let scopes = match reach.abstract_sockets {
        true => BitFlags::from(Scope::Signal),
        false => Scope::from_all(NEWEST),
    };
    let ruled = || -> Result<_, RulesetError> {
        Ruleset::default()
            .handle_access(AccessFs::from_all(NEWEST))?
            .scope(scopes)?
            .create()?
            .add_rules(path_beneath_rules(&reach.reads, read))?
            .add_rules(path_beneath_rules(&reach.writes, write))?
            .restrict_self()
    };
    ruled().map(|status| confined(status.ruleset)).map_err(|error| error.to_string())
}

/// Confines this thread to no file at all, and to TCP ports that others bind.
///
/// # Errors
/// As with [`confine`].
pub fn give_up_files() -> Result<Confined, String> {
    let ruled = || -> Result<_, RulesetError> {
        Ruleset::default()
            .handle_access(AccessFs::from_all(NEWEST))?
            .handle_access(AccessNet::BindTcp)?
            .create()?
            .restrict_self()
    };
    ruled().map(|status| confined(status.ruleset)).map_err(|error| error.to_string())
}

fn confined(status: RulesetStatus) -> Confined {
    match status {
        RulesetStatus::FullyEnforced => Confined::Wholly,
        RulesetStatus::PartiallyEnforced => Confined::Partly,
        RulesetStatus::NotEnforced => Confined::Not,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::io::ErrorKind;
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::process::Command;

    /// Does something on a thread of its own; false, with a word, where the kernel has no Landlock.
    fn confined_to(reach: Reach, act: impl FnOnce() + Send + 'static) {
        let confined = std::thread::spawn(move || {
            let confined = confine(&reach).unwrap();
            if confined != Confined::Not {
                act();
            }
            confined
        });
        if confined.join().unwrap() == Confined::Not {
            println!("skipped: the kernel has no Landlock");
        }
    }

    #[test]
    fn what_is_within_reach_is_read_and_written_and_nothing_else_whoever_asks() {
        let world = tempfile::tempdir().unwrap();
        let at = |name: &str| world.path().join(name);
        for dir in ["read", "write", "neither"] {
            fs::create_dir(at(dir)).unwrap();
            fs::write(at(dir).join("file"), "text").unwrap();
        }
        std::os::unix::fs::symlink(at("neither/file"), at("write/link")).unwrap();
        let (read, write, neither) = (at("read"), at("write"), at("neither"));
        let reach = Reach { reads: vec![read.clone(), at("missing")], writes: vec![write.clone()], ..Reach::default() };
        confined_to(reach, move || {
            let denied =
                |result: std::io::Result<()>| assert_eq!(result.unwrap_err().kind(), ErrorKind::PermissionDenied);
            assert_eq!(fs::read_to_string(read.join("file")).unwrap(), "text");
            denied(fs::write(read.join("file"), "other"));
            denied(fs::write(read.join("new"), "other"));
            fs::write(write.join("new"), "other").unwrap();
            fs::rename(write.join("new"), write.join("file")).unwrap();
            fs::remove_file(write.join("file")).unwrap();
            drop(UnixListener::bind(write.join("socket")).unwrap());
            denied(fs::read(neither.join("file")).map(drop));
            denied(fs::write(neither.join("file"), "other"));
            denied(fs::write(write.join("link"), "other"));
            denied(UnixListener::bind(neither.join("socket")).map(drop));
            denied(Command::new("/bin/true").status().map(drop));
            let heir = std::thread::spawn(move || fs::read(neither.join("file")).map(drop));
            denied(heir.join().unwrap());
        });
        assert_eq!(fs::read_to_string(at("neither/file")).unwrap(), "text");
    }

    #[test]
    fn without_files_connections_are_still_made_and_nothing_is_opened_or_bound() {
        let world = tempfile::tempdir().unwrap();
        let (file, socket) = (world.path().join("file"), world.path().join("socket"));
        fs::write(&file, "text").unwrap();
        let (unix, tcp) = (UnixListener::bind(&socket).unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
        let address = tcp.local_addr().unwrap();
        let worker = std::thread::spawn(move || {
            let confined = give_up_files().unwrap();
            TcpStream::connect(address).unwrap();
            UnixStream::connect(&socket).unwrap();
            tcp.accept().unwrap();
            unix.accept().unwrap();
            (confined, fs::read(&file).is_ok(), TcpListener::bind("127.0.0.1:0").is_ok())
        });
        match worker.join().unwrap() {
            (Confined::Wholly, read, bound) => assert_eq!((read, bound), (false, false)),
            (Confined::Partly, read, _) => assert!(!read),
            (Confined::Not, ..) => println!("skipped: the kernel has no Landlock"),
        }
    }
}
