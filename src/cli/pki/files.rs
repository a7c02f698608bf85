//! Files that appear whole or not at all. A key has mode 0600 from its first byte; nothing that exists is overwritten
//! unless asked; a set of files is written aside completely before the first of them takes its name.

use super::failure::PkiError;
use super::keys;
use crate::config::limits;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// What to do where a file of that name is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Overwrite {
    No,
    Yes,
}

/// Who may read a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Readers {
    Owner,
    Everybody,
}

/// Files written under temporary names; [`Staged::commit`] gives them their own. Dropped, it leaves nothing behind.
#[derive(Debug, Default)]
pub(super) struct Staged {
    files: Vec<StagedFile>,
}

#[derive(Debug)]
struct StagedFile {
    temporary: PathBuf,
    path: PathBuf,
    overwrite: Overwrite,
}

impl Staged {
    /// Writes `bytes` aside, to become `path`.
    pub(super) fn put(
        &mut self,
        path: &Path,
        bytes: &[u8],
        readers: Readers,
        overwrite: Overwrite,
    ) -> Result<(), PkiError> {
        if overwrite == Overwrite::No && path.symlink_metadata().is_ok() {
            return Err(PkiError::taken(path));
        }
        let temporary = temporary_name(path)?;
        let mode = match readers {
            Readers::Owner => 0o600,
            Readers::Everybody => 0o644,
        };
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&temporary)
            .map_err(|error| PkiError::io(&temporary, &error))?;
        // From here on the temporary file is removed by `drop`, whatever fails.
        self.files.push(StagedFile { temporary, path: path.to_owned(), overwrite });
        file.write_all(bytes).and_then(|()| file.sync_all()).map_err(|error| PkiError::io(path, &error))
    }

    /// Gives every file its name, in the order of [`Staged::put`]. Where one cannot be published, those before it that
    /// were new are taken back.
    pub(super) fn commit(self) -> Result<(), PkiError> {
        for (at, file) in self.files.iter().enumerate() {
            if let Err(error) = file.publish() {
                for published in self.files[..at].iter().filter(|file| file.overwrite == Overwrite::No) {
                    let _ = fs::remove_file(&published.path);
                }
                return Err(PkiError::io(&file.path, &error));
            }
        }
        Ok(())
    }
}

impl StagedFile {
    fn publish(&self) -> io::Result<()> {
        match self.overwrite {
            Overwrite::Yes => fs::rename(&self.temporary, &self.path),
            Overwrite::No => self.publish_new(),
        }
    }

    /// A link fails where the name is taken, in one step; a rename would replace it. The temporary name goes with
    /// `drop`. File systems without links (FAT, some network ones) get a look and a rename.
    fn publish_new(&self) -> io::Result<()> {
        match fs::hard_link(&self.temporary, &self.path) {
            Err(error) if matches!(error.kind(), io::ErrorKind::Unsupported | io::ErrorKind::PermissionDenied) => {
                if self.path.symlink_metadata().is_ok() {
                    return Err(io::ErrorKind::AlreadyExists.into());
                }
                fs::rename(&self.temporary, &self.path)
            }
            other => other,
        }
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        for file in &self.files {
            // Gone already where it was renamed.
            let _ = fs::remove_file(&file.temporary);
        }
    }
}

/// Beside `path`, so that a rename stays within one file system.
fn temporary_name(path: &Path) -> Result<PathBuf, PkiError> {
    let Some(name) = path.file_name() else {
        return Err(PkiError::usage(format!("{}: no file name", path.display()), "name a file with --out"));
    };
    let unique = hex::encode(keys::random::<8>()?);
    Ok(path.with_file_name(format!(".{}.{unique}.tmp", name.to_string_lossy())))
}

/// A whole file of bounded size.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, PkiError> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(limits::PEM_BYTES_MAX + 1).read_to_end(&mut bytes))
        .map_err(|error| PkiError::io(path, &error))?;
    if bytes.len() as u64 > limits::PEM_BYTES_MAX {
        return Err(PkiError::broken_file(path, "longer than 16 MiB", "name a certificate's file"));
    }
    Ok(bytes)
}

/// Waits until no other command works on the CA in `dir`, and keeps others out while the value lives. The kernel lets
/// go of it when the process ends, however it ends.
pub(super) fn lock(dir: &Path) -> Result<File, PkiError> {
    let path = dir.join(".lock");
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(|error| PkiError::io(&path, &error))?;
    file.lock().map_err(|error| PkiError::io(&path, &error))?;
    Ok(file)
}
