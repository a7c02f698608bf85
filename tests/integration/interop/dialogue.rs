//! Drives a program through its pipes: says something, waits for the answer, then closes its input so that it takes its
//! leave by itself.

use crate::world::process::Output;
use crate::world::wait::{SOON, uninterrupted, until};
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

/// Runs `command`, writes `say`, waits until `answer` has come on its standard output or it has ended, closes its input
/// and waits for its end.
pub fn talk(command: &mut Command, say: &str, answer: &str) -> Output {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (out, err) = (collect(child.stdout.take().unwrap()), collect(child.stderr.take().unwrap()));
    let mut stdin = child.stdin.take().unwrap();
    let say = say.to_owned();
    // On a thread of its own: a program that does not read while it writes would otherwise hold us both.
    let writer = std::thread::spawn(move || {
        let _ = stdin.write_all(say.as_bytes());
        stdin
    });
    let answered = until(SOON, || text(&out.0).contains(answer) || child.try_wait().unwrap().is_some());
    if !answered {
        let _ = child.kill();
        panic!("{command:?} gave no answer: {}\n{}", text(&out.0), text(&err.0));
    }
    drop(writer.join().unwrap());
    let code = wait_end(&mut child).unwrap_or_else(|| panic!("{command:?} did not end: {}", text(&out.0)));
    for reader in [out.1, err.1] {
        reader.join().unwrap();
    }
    Output { code, stdout: text(&out.0), stderr: text(&err.0) }
}

type Collected = (Arc<Mutex<Vec<u8>>>, std::thread::JoinHandle<()>);

fn collect(mut stream: impl Read + Send + 'static) -> Collected {
    let all: Arc<Mutex<Vec<u8>>> = Arc::default();
    let sink = all.clone();
    let reader = std::thread::spawn(move || {
        let mut buffer = [0u8; 16 << 10];
        while let Ok(read @ 1..) = uninterrupted(|| stream.read(&mut buffer)) {
            sink.lock().unwrap().extend_from_slice(&buffer[..read]);
        }
    });
    (all, reader)
}

fn text(bytes: &Mutex<Vec<u8>>) -> String {
    String::from_utf8_lossy(&bytes.lock().unwrap()).into_owned()
}

/// The exit code, `Some(None)` after a signal; `None`, and the end of it, where it does not end by itself.
fn wait_end(child: &mut Child) -> Option<Option<i32>> {
    if !until(SOON, || child.try_wait().unwrap().is_some()) {
        let _ = child.kill();
        let _ = child.wait();
        return None;
    }
    Some(child.wait().unwrap().code())
}
