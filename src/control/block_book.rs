//! The blocks on disk: `blocks.json` in `runtime.state_dir`, so that a restart forgets none. Without that directory they
//! live as long as the process.

use super::failure::{Exit, StartFailure};
use crate::config::{Fault, FaultKind, limits};
use crate::trust::Blocks;
use serde::{Deserialize, Serialize};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

/// The file's name in the state directory.
const FILE: &str = "blocks.json";
/// What it is written as before it takes the place of the old one.
const ASIDE: &str = "blocks.json.new";
/// The form of the file; another one is refused.
const VERSION: u32 = 1;

/// Where blocks are kept.
#[derive(Debug, Default)]
pub struct BlockBook {
    /// `None`: nowhere.
    dir: Option<PathBuf>,
    /// The newest list that was written, counted by whoever makes lists.
    written: Mutex<u64>,
    /// Another process writes here.
    closed: AtomicBool,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    version: u32,
    blocks: Blocks,
}

impl BlockBook {
    /// Reads what an earlier run left in `dir`, making the directory if only its last part is missing. Nothing there is
    /// an empty list; anything that cannot be understood is a failure, for it may hold a block.
    pub fn open(dir: Option<&Path>) -> Result<(BlockBook, Blocks), StartFailure> {
        let Some(dir) = dir else { return Ok((BlockBook::default(), Blocks::default())) };
        make(dir).map_err(|error| of_dir(dir, &error))?;
        let blocks = read(&dir.join(FILE))?;
        Ok((BlockBook { dir: Some(dir.to_owned()), ..BlockBook::default() }, blocks))
    }

    /// What is wrong with what an earlier run left, changing nothing.
    pub fn fault_of(dir: &Path) -> Option<Fault> {
        let failure = read(&dir.join(FILE)).err()?;
        let kind = if failure.code == Exit::Permission.code() { FaultKind::Permission } else { FaultKind::Config };
        Some(Fault::config("", &failure.message, "").of_kind(kind))
    }

    /// Whether a restart would know the blocks.
    pub fn is_kept(&self) -> bool {
        self.dir.is_some()
    }

    /// Writes the list, whole or not at all. `count` numbers the lists in the order in which they were made: one that is
    /// older than what was written already is left out.
    pub fn store(&self, count: u64, blocks: &Blocks) -> io::Result<()> {
        let Some(dir) = &self.dir else { return Ok(()) };
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        if count < *written || self.closed.load(Ordering::SeqCst) {
            return Ok(());
        }
        write(dir, blocks)?;
        *written = count;
        Ok(())
    }

    /// Writes no more: another process does. What is being written is written when this returns.
    pub fn close(&self) {
        let _written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        self.closed.store(true, Ordering::SeqCst);
    }

    /// Writes again: that process is gone.
    pub fn reopen(&self) {
        self.closed.store(false, Ordering::SeqCst);
    }

    /// The same at start, where a directory that cannot be written is to be told at once.
    pub fn store_first(&self, blocks: &Blocks) -> Result<(), StartFailure> {
        self.store(0, blocks).map_err(|error| of_dir(self.dir.as_deref().unwrap_or(Path::new(".")), &error))
    }
}

/// Makes the directory, if it is not there and only its last part is missing.
pub(super) fn make(dir: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(dir) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

fn write(dir: &Path, blocks: &Blocks) -> io::Result<()> {
    let aside = dir.join(ASIDE);
    // Left over where the process ended while it wrote.
    match fs::remove_file(&aside) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&aside)?;
    serde_json::to_writer_pretty(&mut file, &Stored { version: VERSION, blocks: blocks.clone() })?;
    file.write_all(b"\n")?;
    file.sync_all()?;
    fs::rename(&aside, dir.join(FILE))?;
    // The name must outlive a loss of power as well as the bytes.
    File::open(dir)?.sync_all()
}

fn read(path: &Path) -> Result<Blocks, StartFailure> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(limits::BLOCKS_FILE_BYTES_MAX).read_to_end(&mut bytes));
    match read {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Blocks::default()),
        Err(error) => return Err(of_dir(path, &error)),
    }
    let stored: Stored = serde_json::from_slice(&bytes).map_err(|error| broken(path, &error.to_string()))?;
    if stored.version != VERSION {
        return Err(broken(path, &format!("it has version {}, and this program knows {VERSION}", stored.version)));
    }
    Ok(stored.blocks)
}

fn broken(path: &Path, problem: &str) -> StartFailure {
    let message = format!(
        "runtime.state_dir: the blocks in {path} cannot be understood ({problem}), and starting without them could let a \
         blocked client in; restore the file from a backup, or mend it, or move it away to start with no blocks",
        path = path.display()
    );
    StartFailure::new(Exit::Config, message)
}

fn of_dir(path: &Path, error: &io::Error) -> StartFailure {
    let (exit, help) = match error.kind() {
        ErrorKind::PermissionDenied => {
            (Exit::Permission, "let the user that the service runs as write there (StateDirectory= in a unit does)")
        }
        ErrorKind::NotFound => (Exit::Config, "make the directory above it (StateDirectory= in a unit does)"),
        _ => (Exit::Config, "name a directory that can be written"),
    };
    StartFailure::new(exit, format!("runtime.state_dir: {} cannot be used: {error}; {help}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trust::{Block, Blocked};
    use std::os::unix::fs::PermissionsExt;

    fn block(identity: &str) -> Block {
        let what = Blocked::Identity(identity.to_owned());
        Block { what, until: None, since: 1_800_000_000, by: "uid 0".into(), why: Some("lost laptop".into()) }
    }

    fn names(blocks: &Blocks) -> Vec<Blocked> {
        blocks.iter().map(|block| block.what.clone()).collect()
    }

    #[test]
    fn what_was_stored_is_there_after_a_restart_for_its_owner_alone() {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("state");
        let (book, none) = BlockBook::open(Some(&dir)).unwrap();
        assert!(none.is_empty() && book.is_kept());
        let blocks = none.with(block("uri:a")).unwrap();
        book.store(1, &blocks).unwrap();
        let (_, again) = BlockBook::open(Some(&dir)).unwrap();
        assert_eq!(names(&again), names(&blocks));
        assert_eq!(fs::metadata(dir.join(FILE)).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);
        assert!(!dir.join(ASIDE).exists());
        assert_eq!(BlockBook::fault_of(&dir), None);
        assert_eq!(BlockBook::fault_of(&parent.path().join("none")), None);
    }

    #[test]
    fn a_list_that_comes_late_does_not_replace_a_newer_one() {
        let dir = tempfile::tempdir().unwrap();
        let (book, none) = BlockBook::open(Some(dir.path())).unwrap();
        let (older, newer) = (none.with(block("uri:a")).unwrap(), none.with(block("uri:b")).unwrap());
        book.store(2, &newer).unwrap();
        book.store(1, &older).unwrap();
        assert_eq!(names(&BlockBook::open(Some(dir.path())).unwrap().1), names(&newer));
    }

    #[test]
    fn a_book_that_another_process_writes_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (book, none) = BlockBook::open(Some(dir.path())).unwrap();
        book.store(1, &none.with(block("uri:a")).unwrap()).unwrap();
        book.close();
        book.store(2, &none).unwrap();
        assert_eq!(BlockBook::open(Some(dir.path())).unwrap().1.len(), 1);
        book.reopen();
        book.store(2, &none).unwrap();
        assert!(BlockBook::open(Some(dir.path())).unwrap().1.is_empty());
    }

    #[test]
    fn a_write_that_was_cut_short_leaves_the_old_list_and_does_not_stand_in_the_way() {
        let dir = tempfile::tempdir().unwrap();
        let (book, none) = BlockBook::open(Some(dir.path())).unwrap();
        let blocks = none.with(block("uri:a")).unwrap();
        book.store(1, &blocks).unwrap();
        fs::write(dir.path().join(ASIDE), "{\"version\":1,\"blo").unwrap();
        let (book, again) = BlockBook::open(Some(dir.path())).unwrap();
        assert_eq!(names(&again), names(&blocks));
        book.store(1, &again).unwrap();
    }

    #[test]
    fn a_file_that_cannot_be_understood_refuses_the_start_with_78_and_says_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        for text in
            ["", "{", "{\"version\":2,\"blocks\":[]}", "{\"version\":1,\"blocks\":[{\"since\":1,\"by\":\"x\"}]}"]
        {
            fs::write(dir.path().join(FILE), text).unwrap();
            let failure = BlockBook::open(Some(dir.path())).unwrap_err();
            assert_eq!(failure.code, 78, "{text}");
            assert!(failure.message.contains("move it away"), "{failure}");
            let fault = BlockBook::fault_of(dir.path()).unwrap();
            assert_eq!((fault.kind, fault.to_string()), (FaultKind::Config, failure.message));
        }
    }

    #[test]
    fn without_a_directory_nothing_is_kept() {
        let (book, none) = BlockBook::open(None).unwrap();
        assert!(!book.is_kept());
        book.store(1, &none.with(block("uri:a")).unwrap()).unwrap();
    }

    #[test]
    fn a_directory_whose_parent_is_missing_or_that_is_a_file_refuses_the_start() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(BlockBook::open(Some(&dir.path().join("a/b"))).unwrap_err().code, 78);
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        assert_eq!(BlockBook::open(Some(&file)).unwrap_err().code, 78);
    }
}
