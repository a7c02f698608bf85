use super::*;
use crate::config::{AuditTarget, limits};
use crate::wire::audit::Record;
use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::SystemTime;

const PATIENCE: Duration = Duration::from_secs(20);

fn record(command: &str) -> Record {
    Record::Admin {
        ts: SystemTime::UNIX_EPOCH,
        uid: 0,
        pid: 1,
        command: command.to_owned(),
        ok: true,
        result: String::new(),
    }
}

fn open(path: &Path) -> Target {
    Target::open(&AuditTarget::File(path.to_owned())).unwrap()
}

fn start(target: Target, queue: &Arc<AuditQueue>) -> io::Result<Writer> {
    Writer::start(Some(target), Arc::clone(queue), Arc::default())
}

/// Looks at `done` until it holds.
fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < PATIENCE, "waited in vain for {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// The `command` of each line; panics on a line that is not whole.
fn commands(text: &str) -> Vec<String> {
    let command = |line: &str| {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        line["command"].as_str().unwrap().to_owned()
    };
    text.lines().map(command).collect()
}

#[test]
fn every_record_pushed_before_the_end_is_in_the_file_in_order() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("audit.jsonl");
    let queue = Arc::new(AuditQueue::default());
    let writer = start(open(&path), &queue).unwrap();
    let sent: Vec<String> = (0..5000).map(|i| format!("c{i}")).collect();
    for command in &sent {
        queue.push(record(command));
    }
    assert!(writer.finish(PATIENCE));
    assert_eq!(commands(&fs::read_to_string(&path).unwrap()), sent);
    assert_eq!(queue.dropped(), 0);
}

#[test]
fn a_record_is_written_while_the_process_runs_on() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("audit.jsonl");
    let queue = Arc::new(AuditQueue::default());
    let writer = start(open(&path), &queue).unwrap();
    for expected in 1..=3 {
        queue.push(record("x"));
        wait_for("the line", || fs::read_to_string(&path).unwrap().lines().count() == expected);
    }
    assert!(writer.finish(PATIENCE));
}

#[test]
fn a_new_file_is_not_for_everybody_to_read() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("audit.jsonl");
    open(&path);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o137, 0);
}

#[test]
fn an_existing_file_is_appended_to() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("audit.jsonl");
    for command in ["first", "second"] {
        let queue = Arc::new(AuditQueue::default());
        let writer = start(open(&path), &queue).unwrap();
        queue.push(record(command));
        assert!(writer.finish(PATIENCE));
    }
    assert_eq!(commands(&fs::read_to_string(&path).unwrap()), ["first", "second"]);
}

#[test]
fn a_file_that_was_moved_away_is_opened_anew_on_request_and_not_before() {
    let directory = tempfile::tempdir().unwrap();
    let (path, moved) = (directory.path().join("audit.jsonl"), directory.path().join("audit.jsonl.1"));
    let queue = Arc::new(AuditQueue::default());
    let writer = start(open(&path), &queue).unwrap();
    queue.push(record("one"));
    wait_for("the first line", || fs::read_to_string(&path).unwrap().lines().count() == 1);
    fs::rename(&path, &moved).unwrap();
    queue.push(record("two"));
    wait_for("the second line", || fs::read_to_string(&moved).unwrap().lines().count() == 2);
    writer.reopen();
    wait_for("the new file", || path.exists());
    queue.push(record("three"));
    assert!(writer.finish(PATIENCE));
    assert_eq!(commands(&fs::read_to_string(&path).unwrap()), ["three"]);
    assert_eq!(commands(&fs::read_to_string(&moved).unwrap()), ["one", "two"]);
}

/// A writer whose target is the write end of a pipe.
fn on_a_pipe(queue: &Arc<AuditQueue>) -> (Writer, std::io::PipeReader) {
    let (reader, writer) = std::io::pipe().unwrap();
    let target = Target::Stdout(File::from(std::os::fd::OwnedFd::from(writer)));
    (start(target, queue).unwrap(), reader)
}

#[test]
fn a_blocked_pipe_blocks_no_worker_and_what_finds_no_room_is_counted() {
    let queue = Arc::new(AuditQueue::default());
    let (writer, mut reader) = on_a_pipe(&queue);
    let mut pushed = 0u64;
    while queue.dropped() == 0 {
        queue.push(record("x"));
        pushed += 1;
        assert!(pushed < 10_000_000, "the queue has no bound");
    }
    // The first one may have been dropped while the writer was only slow.
    wait_for("a queue without room, which is what refuses connections", || {
        queue.push(record("x"));
        pushed += 1;
        queue.is_failing()
    });
    let reading = thread::spawn(move || {
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        text
    });
    assert!(writer.finish(PATIENCE));
    let written = commands(&reading.join().unwrap()).len() as u64;
    assert_eq!(written + queue.dropped(), pushed, "each record is written or counted");
}

#[test]
fn a_pipe_that_stays_blocked_does_not_hold_up_the_end() {
    let queue = Arc::new(AuditQueue::default());
    let (writer, _reader) = on_a_pipe(&queue);
    while !queue.is_full() {
        queue.push(record("x"));
    }
    let begun = Instant::now();
    assert!(!writer.finish(Duration::from_millis(50)));
    assert!(begun.elapsed() < PATIENCE);
}

#[test]
fn a_full_disk_is_noticed_kept_trying_and_counted_at_the_end() {
    let queue = Arc::new(AuditQueue::default());
    let writer = start(open(Path::new("/dev/full")), &queue).unwrap();
    assert!(!queue.is_failing());
    for _ in 0..10 {
        queue.push(record("x"));
    }
    wait_for("the failure", || queue.is_failing());
    assert!(writer.finish(limits::AUDIT_END_TIME_MAX), "gives up within its time");
    assert_eq!(queue.dropped(), 10);
}

#[test]
fn writing_goes_on_without_loss_once_there_is_room_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("audit.jsonl");
    std::os::unix::fs::symlink("/dev/full", &path).unwrap();
    let queue = Arc::new(AuditQueue::default());
    let writer = start(open(&path), &queue).unwrap();
    queue.push(record("kept"));
    wait_for("the failure", || queue.is_failing());
    fs::remove_file(&path).unwrap();
    writer.reopen();
    wait_for("the recovery", || !queue.is_failing());
    queue.push(record("next"));
    assert!(writer.finish(PATIENCE));
    assert_eq!(commands(&fs::read_to_string(&path).unwrap()), ["kept", "next"]);
    assert_eq!(queue.dropped(), 0);
}

#[test]
fn another_target_gets_what_comes_from_then_on_and_none_gets_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let (first, second) = (directory.path().join("first"), directory.path().join("second"));
    let queue = Arc::new(AuditQueue::default());
    let writer = start(open(&first), &queue).unwrap();
    queue.push(record("one"));
    wait_for("the first line", || fs::read_to_string(&first).unwrap().lines().count() == 1);
    writer.write_to(Some(open(&second)));
    // Taken only after the order: what is pushed meanwhile may go to either.
    wait_for("the second target", || {
        queue.push(record("two"));
        fs::read_to_string(&second).unwrap().lines().count() > 0
    });
    writer.write_to(None);
    queue.push(record("three"));
    assert!(writer.finish(PATIENCE));
    for path in [&first, &second] {
        assert!(!fs::read_to_string(path).unwrap().contains("three"), "what nobody keeps is not queued");
    }
    assert_eq!(queue.dropped(), 0);
}

#[test]
fn a_failing_target_that_is_taken_away_fails_no_more() {
    let queue = Arc::new(AuditQueue::default());
    let writer = start(open(Path::new("/dev/full")), &queue).unwrap();
    queue.push(record("lost"));
    wait_for("the failure", || queue.is_failing());
    writer.write_to(None);
    wait_for("the end of it", || !queue.is_failing());
    assert_eq!(queue.dropped(), 1);
    assert!(writer.finish(PATIENCE));
}

#[test]
fn a_fifo_without_a_reader_does_not_hold_up_the_start() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("fifo");
    let made = std::process::Command::new("mkfifo").arg(&path).status();
    if !made.is_ok_and(|status| status.success()) {
        return;
    }
    open(&path);
}

#[test]
fn a_path_that_cannot_be_opened_says_why_with_the_right_code() {
    let directory = tempfile::tempdir().unwrap();
    let no_directory = directory.path().join("none/audit.jsonl");
    let failure = Target::open(&AuditTarget::File(no_directory)).unwrap_err();
    assert_eq!(failure.code, 78);
    assert!(failure.message.contains("create it"), "{failure}");
    let is_directory = Target::open(&AuditTarget::File(directory.path().to_owned())).unwrap_err();
    assert_eq!(is_directory.code, 78);

    let locked = directory.path().join("locked.jsonl");
    OpenOptions::new().create(true).truncate(true).write(true).open(&locked).unwrap();
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o400)).unwrap();
    // Whoever may do everything may do this too.
    if let Err(failure) = Target::open(&AuditTarget::File(locked)) {
        assert_eq!(failure.code, 77);
    }
}

#[test]
fn a_line_cut_short_begins_again_in_another_file() {
    assert_eq!(start_of_line(b"one\ntwo\nthree\n", 0), 0);
    assert_eq!(start_of_line(b"one\ntwo\nthree\n", 2), 0);
    assert_eq!(start_of_line(b"one\ntwo\nthree\n", 4), 4);
    assert_eq!(start_of_line(b"one\ntwo\nthree\n", 6), 4);
}
