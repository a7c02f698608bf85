//! `runtime.watch`: whether files changed since they were last loaded, and have come to rest.

use crate::config::Config;
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What tells one state of a file from the next; `None` where there is none. A path through symbolic links counts as
/// what it leads to.
type Print = Option<(u64, u64, u64, (i64, i64), (i64, i64))>;

/// Files and their state at one look.
pub type Prints = BTreeMap<PathBuf, Print>;

/// Looks at files; blocks for as long as their disk does.
pub fn look<'a>(paths: impl IntoIterator<Item = &'a Path>) -> Prints {
    paths.into_iter().map(|path| (path.to_owned(), print(path))).collect()
}

/// Looks at all files that a configuration is made of.
pub fn look_at(config: &Config) -> Prints {
    look(config.files())
}

fn print(path: &Path) -> Print {
    let of = std::fs::metadata(path).ok()?;
    Some((of.dev(), of.ino(), of.len(), (of.mtime(), of.mtime_nsec()), (of.ctime(), of.ctime_nsec())))
}

/// What was loaded last, and what was seen since.
#[derive(Debug)]
pub struct Watch(Mutex<Seen>);

#[derive(Debug)]
struct Seen {
    /// As the files were when they were last loaded, well or not.
    loaded: Prints,
    /// Other than that, at the last look.
    changing: Option<Prints>,
}

impl Watch {
    /// Begins with files that were loaded as they were then.
    pub fn new(loaded: Prints) -> Watch {
        Watch(Mutex::new(Seen { loaded, changing: None }))
    }

    /// Which files to look at.
    pub fn paths(&self) -> Vec<PathBuf> {
        self.seen().loaded.keys().cloned().collect()
    }

    /// What the look at [`Watch::paths`] found: true where it is another state than the loaded one, and the same as at
    /// the look before, so that nobody is writing. A load that fails is not tried again before something changes.
    pub fn is_due(&self, found: Prints) -> bool {
        let mut seen = self.seen();
        // Loaded since, from other files: the next look will tell.
        if !found.keys().eq(seen.loaded.keys()) {
            return false;
        }
        let due = seen.changing.as_ref() == Some(&found);
        seen.changing = Some(found).filter(|found| *found != seen.loaded);
        due && seen.changing.is_some()
    }

    /// The files were loaded, or could not be: this is how they were when that began.
    pub fn loaded(&self, prints: Prints) {
        *self.seen() = Seen { loaded: prints, changing: None };
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// A directory with the file `a`, and how to look at it and at `b`.
    fn world() -> (tempfile::TempDir, impl Fn() -> Prints) {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        fs::write(&a, "one").unwrap();
        (dir, move || look([a.as_path(), b.as_path()]))
    }

    #[test]
    fn a_change_is_due_once_it_has_come_to_rest() {
        let (dir, look) = world();
        let watch = Watch::new(look());
        assert!(!watch.is_due(look()), "nothing changed");
        fs::write(dir.path().join("a"), "three").unwrap();
        assert!(!watch.is_due(look()), "seen for the first time");
        fs::write(dir.path().join("a"), "seventeen").unwrap();
        assert!(!watch.is_due(look()), "still being written");
        assert!(watch.is_due(look()));
        watch.loaded(look());
        assert!(!watch.is_due(look()), "loaded");
    }

    #[test]
    fn a_state_that_failed_to_load_is_tried_again_only_after_another_change() {
        let (dir, look) = world();
        let watch = Watch::new(look());
        fs::write(dir.path().join("a"), "broken").unwrap();
        assert!(!watch.is_due(look()) && watch.is_due(look()));
        watch.loaded(look());
        assert!(!watch.is_due(look()) && !watch.is_due(look()));
        fs::write(dir.path().join("b"), "that was missing").unwrap();
        assert!(!watch.is_due(look()) && watch.is_due(look()));
    }

    #[test]
    fn a_file_replaced_by_one_of_the_same_length_and_a_link_set_anew_are_changes() {
        let (dir, look) = world();
        let watch = Watch::new(look());
        fs::write(dir.path().join("new"), "two").unwrap();
        fs::rename(dir.path().join("new"), dir.path().join("a")).unwrap();
        assert!(!watch.is_due(look()) && watch.is_due(look()));
        watch.loaded(look());
        fs::write(dir.path().join("version2"), "two").unwrap();
        fs::remove_file(dir.path().join("a")).unwrap();
        std::os::unix::fs::symlink("version2", dir.path().join("a")).unwrap();
        assert!(!watch.is_due(look()) && watch.is_due(look()));
    }

    #[test]
    fn a_change_that_is_taken_back_is_none() {
        let (dir, look) = world();
        let watch = Watch::new(look());
        fs::write(dir.path().join("b"), "x").unwrap();
        assert!(!watch.is_due(look()));
        fs::remove_file(dir.path().join("b")).unwrap();
        assert!(!watch.is_due(look()) && !watch.is_due(look()));
    }

    #[test]
    fn a_look_that_was_overtaken_by_a_load_says_nothing() {
        let (dir, look_at_both) = world();
        let watch = Watch::new(look_at_both());
        watch.loaded(look([dir.path().join("a").as_path()]));
        assert!(!watch.is_due(look_at_both()) && !watch.is_due(look_at_both()));
    }
}
