//! The operator's log: standard error, text or JSON, written by a thread of its own.
//!
//! A worker that logs must never wait for a pipe that nobody reads, so lines go through a bounded channel; those that
//! find no room are counted, and the count is said once lines go through again.

use crate::config::{self, LogFormat, limits};
use std::io::{self, IsTerminal, Write};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender, TrySendError};
use std::thread;
use std::time::Duration;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::fmt::{self, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{Registry, reload};

/// Where log lines go; clones share one thread.
#[derive(Debug, Clone)]
pub struct LogLines {
    sender: SyncSender<Entry>,
    lost: Arc<AtomicU64>,
    /// Escape sequences are let through, because a terminal shows them as colours.
    colours: bool,
}

#[derive(Debug)]
enum Entry {
    Line(Vec<u8>),
    /// Answer when all before it is written.
    Flush(SyncSender<()>),
}

/// Changes what is logged, while it is. Does nothing where the process had a log of its own already.
#[derive(Clone, Default)]
pub struct LogLevel(Option<SetLevel>);

type SetLevel = Arc<dyn Fn(LevelFilter) + Send + Sync>;

impl LogLevel {
    /// Takes one of the configuration's words.
    pub fn set_level(&self, word: &str) {
        if let Some(set) = &self.0 {
            set(level_of(word));
        }
    }
}

fn level_of(word: &str) -> LevelFilter {
    LevelFilter::from_str(word).unwrap_or(LevelFilter::INFO)
}

/// Starts the log as the configuration says and makes it the process's own. Where the process has one already (`demo`
/// in a test), that one stays.
pub fn start(log: &config::Log) -> io::Result<(LogLines, LogLevel)> {
    let lines = LogLines::to(io::stderr(), io::stderr().is_terminal())?;
    let (filter, handle) = reload::Layer::new(level_of(&log.level));
    let layer = fmt::layer().with_target(false).with_ansi(lines.colours).with_writer(lines.clone());
    let registry = Registry::default().with(filter);
    // An error means that there is one already.
    let ours = match log.format {
        LogFormat::Text => tracing::subscriber::set_global_default(registry.with(layer)),
        LogFormat::Json => tracing::subscriber::set_global_default(registry.with(layer.json().flatten_event(true))),
    };
    let set: SetLevel = Arc::new(move |level| drop(handle.reload(level)));
    let level = ours.ok().map(|()| set);
    Ok((lines, LogLevel(level)))
}

/// Sends panics to the log too: a worker's must not wait for standard error.
pub fn take_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let payload = panic.payload();
        let text = payload.downcast_ref::<&str>().copied();
        let payload = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message");
        tracing::error!(place, payload, "a fault of ours: please report it");
    }));
}

impl LogLines {
    /// Lines written to `output` by a new thread.
    fn to(output: impl Write + Send + 'static, colours: bool) -> io::Result<LogLines> {
        let (sender, receiver) = mpsc::sync_channel(limits::LOG_LINES_MAX);
        let lost = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&lost);
        thread::Builder::new().name("log".into()).spawn(move || write_lines(output, &receiver, &counted))?;
        Ok(LogLines { sender, lost, colours })
    }

    /// Waits until all lines so far are written, for `patience`.
    pub fn flush(&self, patience: Duration) {
        let (done, finished) = mpsc::sync_channel(1);
        // With no room, the output is blocked: there is nothing to wait for.
        if self.sender.try_send(Entry::Flush(done)).is_ok() {
            let _ = finished.recv_timeout(patience);
        }
    }
}

impl<'a> MakeWriter<'a> for LogLines {
    type Writer = LogLines;

    fn make_writer(&'a self) -> LogLines {
        self.clone()
    }
}

impl Write for LogLines {
    /// Takes one whole line, as tracing-subscriber hands them over.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match self.sender.try_send(Entry::Line(one_line(line, self.colours))) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.lost.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The line without control characters inside: nothing that a peer or a file says can begin a line of its own.
fn one_line(line: &[u8], colours: bool) -> Vec<u8> {
    const ESCAPE: u8 = 0x1b;
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let mut clean = Vec::with_capacity(line.len() + 1);
    clean.extend(line.iter().map(|byte| match byte {
        &ESCAPE if colours => ESCAPE,
        byte if byte.is_ascii_control() => b' ',
        byte => *byte,
    }));
    clean.push(b'\n');
    clean
}

fn write_lines(mut output: impl Write, receiver: &Receiver<Entry>, lost: &AtomicU64) {
    while let Ok(entry) = receiver.recv() {
        match entry {
            // A log that cannot be written has nowhere to complain.
            Entry::Line(line) => drop(output.write_all(&line)),
            Entry::Flush(done) => drop(done.send(())),
        }
        let lost = lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            drop(writeln!(output, "{lost} log lines lost: standard error took none for a while"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader, Read};

    const PATIENCE: Duration = Duration::from_secs(20);

    #[test]
    fn a_line_goes_out_whole_and_nothing_inside_it_begins_another() {
        assert_eq!(one_line(b"sni=a\nFORGED\x1b[31m\r\n", false), b"sni=a FORGED [31m \n");
        assert_eq!(one_line(b"\x1b[31mred\n", true), b"\x1b[31mred\n");
    }

    #[test]
    fn a_blocked_log_blocks_nobody_and_says_later_how_much_was_lost() {
        let (reader, writer) = io::pipe().unwrap();
        let mut lines = LogLines::to(writer, false).unwrap();
        let mut sent = 0;
        while lines.lost.load(Ordering::Relaxed) == 0 {
            lines.write_all(b"0123456789\n").unwrap();
            sent += 1;
            assert!(sent < 10_000_000, "the channel has no bound");
        }
        lines.flush(Duration::from_millis(1));
        let reading = thread::spawn(move || {
            let mut text = String::new();
            BufReader::new(reader).read_to_string(&mut text).unwrap();
            text
        });
        drop(lines);
        let text = reading.join().unwrap();
        let whole = text.lines().filter(|line| *line == "0123456789").count();
        let told = |line: &str| line.split_once(" log lines lost")?.0.parse::<usize>().ok();
        let lost: usize = text.lines().filter_map(told).sum();
        assert!(lost > 0);
        assert_eq!(whole + lost, sent, "each line is written or counted");
    }

    #[test]
    fn flush_returns_only_when_the_lines_before_it_are_out() {
        let (reader, writer) = io::pipe().unwrap();
        let mut lines = LogLines::to(writer, false).unwrap();
        lines.write_all(b"first\n").unwrap();
        lines.flush(PATIENCE);
        let mut line = String::new();
        BufReader::new(reader).read_line(&mut line).unwrap();
        assert_eq!(line, "first\n");
    }
}
