//! Collects what is wrong and unwise, with the place of each: the whole file is read before anything is said.

use super::fault::{Fault, FaultKind};
use super::limits;
use super::mentions::Mentions;
use std::cell::{Cell, RefCell};
use std::path::{Path, PathBuf};

/// Faults and warnings of one configuration text.
pub(super) struct Report {
    file: Option<PathBuf>,
    /// Where relative paths start.
    base: PathBuf,
    /// Offset of the first byte of each line.
    line_starts: Vec<usize>,
    found: RefCell<Vec<Fault>>,
    /// Faults past [`limits::FAULTS_MAX`], counted and not kept.
    more: Cell<usize>,
    mentions: RefCell<Mentions>,
}

/// A value that is not what it should be. `help` replaces the reader's own advice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    pub message: String,
    pub help: Option<String>,
}

impl Problem {
    pub fn new(message: impl Into<String>, help: impl Into<String>) -> Problem {
        Problem { message: message.into(), help: Some(help.into()) }
    }
}

impl From<&str> for Problem {
    fn from(message: &str) -> Problem {
        Problem { message: message.to_owned(), help: None }
    }
}

impl From<String> for Problem {
    fn from(message: String) -> Problem {
        Problem { message, help: None }
    }
}

impl Report {
    pub fn new(text: &str, file: Option<&Path>) -> Report {
        let line_starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Report {
            file: file.map(Path::to_owned),
            base: directory_of(file),
            line_starts,
            found: RefCell::default(),
            more: Cell::default(),
            mentions: RefCell::default(),
        }
    }

    /// Where relative paths start: absolute, if the working directory is known.
    pub fn base(&self) -> &Path {
        &self.base
    }

    /// Line, from 1, that the byte at this offset is on.
    pub fn line_of(&self, offset: usize) -> usize {
        self.line_starts.partition_point(|start| *start <= offset).max(1)
    }

    pub fn push(&self, fault: Fault) {
        let mut found = self.found.borrow_mut();
        if found.len() >= limits::FAULTS_MAX {
            self.more.set(self.more.get() + 1);
            return;
        }
        found.push(Fault { file: fault.file.or_else(|| self.file.clone()), ..fault });
    }

    /// Remembers which line names this file.
    pub fn note_path(&self, path: &Path, key: &str, line: usize) {
        self.mentions.borrow_mut().note(path, key, line);
    }

    /// All that was noted so far.
    pub fn take_mentions(&self) -> Mentions {
        self.mentions.take()
    }

    /// Whether something was found wrong at this key or below it.
    pub fn has_fault_under(&self, key: &str) -> bool {
        self.found.borrow().iter().any(|fault| {
            fault.kind != FaultKind::Warning
                && fault.key.strip_prefix(key).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        })
    }

    pub fn has_faults(&self) -> bool {
        self.more.get() > 0 || self.found.borrow().iter().any(|fault| fault.kind != FaultKind::Warning)
    }

    /// Everything found, in the order of the file.
    pub fn into_found(self) -> Vec<Fault> {
        let more = self.more.get();
        let mut found = self.found.into_inner();
        found.sort_by_key(|fault| fault.line.unwrap_or(usize::MAX));
        if more > 0 {
            let message = format!("{more} more faults are not shown");
            found.push(Fault { file: self.file, ..Fault::config("", &message, "mend the ones above and check again") });
        }
        found
    }
}

/// The directory that relative paths of this file start at.
fn directory_of(file: Option<&Path>) -> PathBuf {
    let parent = file.and_then(Path::parent).filter(|parent| !parent.as_os_str().is_empty());
    let directory = parent.unwrap_or(Path::new("."));
    // Fails only where there is no working directory any more: then opening the file says so with its name.
    std::path::absolute(directory).unwrap_or_else(|_| directory.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_count_from_one_and_offsets_past_the_end_are_on_the_last() {
        let report = Report::new("a\nbc\n\nd", None);
        let lines: Vec<usize> = [0, 1, 2, 4, 5, 6, 99].into_iter().map(|at| report.line_of(at)).collect();
        assert_eq!(lines, [1, 1, 2, 2, 3, 4, 4]);
        assert_eq!(Report::new("", None).line_of(0), 1);
    }

    #[test]
    fn keeps_a_bounded_number_of_faults_and_counts_the_rest() {
        let report = Report::new("", None);
        for _ in 0..limits::FAULTS_MAX + 5 {
            report.push(Fault::config("k", "m", "h"));
        }
        let found = report.into_found();
        assert_eq!(found.len(), limits::FAULTS_MAX + 1);
        assert!(found.last().is_some_and(|last| last.message.starts_with("5 more")));
    }

    #[test]
    fn a_fault_below_a_key_counts_for_it_and_one_beside_it_does_not() {
        let report = Report::new("", None);
        report.push(Fault::config("site.client.allow[2].dns", "m", "h"));
        report.push(Fault::warning("site.names", "m", "h"));
        assert!(report.has_fault_under("site.client.allow"));
        assert!(!report.has_fault_under("site.client.all"));
        assert!(!report.has_fault_under("site.names"));
    }
}
