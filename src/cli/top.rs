//! `countersign top`: a running server in the terminal, once a second, over the admin socket.
//!
//! | file | what it is |
//! |---|---|
//! | [`sample`] | the server's status, and what changed between two of them |
//! | [`screen`] | how it looks |

mod sample;
mod screen;

#[cfg(test)]
mod tests;

use super::ctl::client::{self, Silence};
use super::{ctl, exit};
use crate::config::FaultKind;
use crate::control::ctl::Request;
use clap::Args;
use ratatui::buffer::Buffer;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::layout::Rect;
use ratatui::widgets::Widget;
use sample::{Sample, View};
use screen::Screen;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, Instant};
use std::{io, thread};
use tokio::signal::unix::{SignalKind, signal};

/// Watch a running server in the terminal: load, handshakes, refusals, backends, what runs out, who is busy.
#[derive(Debug, Args)]
#[command(
    after_help = "Keys: q quits, p pauses, the arrows move through the clients. The socket is --socket, else the \
        one that the configuration given by -c names, else /run/countersign/admin.sock.\n\
        Exit codes: 0 done, 64 standard output is no terminal, 69 no server answers, 77 the socket may not be opened."
)]
pub struct TopArgs {
    /// The server's admin socket
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// The server's configuration, to find the socket by
    #[arg(short = 'c', long = "config", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print one look, over a second, as plain text, and end
    #[arg(long)]
    once: bool,
}

/// Between two looks.
const EVERY: Duration = Duration::from_secs(1);
/// What --once draws on where there is no terminal.
const PLAIN_SIZE: (u16, u16) = (80, 24);

/// Runs until a key or a signal; answers the exit code.
pub fn top(args: TopArgs) -> u8 {
    let socket = match ctl::socket_of(args.socket, args.config.as_deref()) {
        Ok(socket) => socket,
        Err(fault) => {
            eprintln!("countersign top: {fault}");
            return if fault.kind == FaultKind::Permission { exit::PERMISSION } else { exit::CONFIG };
        }
    };
    let interactive = io::stdout().is_terminal() && io::stdin().is_terminal();
    if !args.once && !interactive {
        eprintln!("countersign top: this is no terminal; `countersign top --once` prints one look as text");
        return exit::USAGE;
    }
    // Before the screen is taken: whoever names the wrong socket is told in plain lines.
    let first = match ask(&socket) {
        Ok(sample) => sample,
        Err(silence) => {
            eprintln!("countersign top: {silence}");
            return silence.exit_code();
        }
    };
    match args.once {
        true => once(&socket, first),
        false => watch(socket, first),
    }
}

fn ask(socket: &Path) -> Result<Sample, Silence> {
    let answer = client::ask(socket, &Request::Status)?;
    let data = answer.data.as_ref().map_or("{}", |data| data.get());
    serde_json::from_str(data).map_err(|error| Silence::of_form(socket, error))
}

fn once(socket: &Path, first: Sample) -> u8 {
    let begun = Instant::now();
    let mut view = View::new(first, begun);
    thread::sleep(EVERY);
    match ask(socket) {
        Ok(sample) => view.update(sample, Instant::now()),
        Err(silence) => {
            eprintln!("countersign top: {silence}");
            return silence.exit_code();
        }
    }
    let (width, height) = match io::stdout().is_terminal() {
        true => ratatui::crossterm::terminal::size().unwrap_or(PLAIN_SIZE),
        false => PLAIN_SIZE,
    };
    let mut buffer = Buffer::empty(Rect::new(0, 0, width, height));
    Screen::new(&view).render(buffer.area, &mut buffer);
    // A reader that went away misses nothing more.
    let _ = io::stdout().lock().write_all(plain(&buffer).as_bytes());
    exit::OK
}

/// The text of a buffer, without spaces at the ends of lines.
fn plain(buffer: &Buffer) -> String {
    let mut text = String::new();
    for row in buffer.area.rows() {
        let line: String = row.columns().map(|cell| buffer[(cell.x, cell.y)].symbol()).collect();
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// What the loop hears of.
enum Heard {
    Key(KeyEvent),
    Resized,
    Status(Box<Result<Sample, Silence>>),
    Stop,
}

fn watch(socket: PathBuf, first: Sample) -> u8 {
    let (to, heard) = mpsc::channel();
    let listening = listen(socket, &to);
    if let Err(error) = listening {
        eprintln!("countersign top: the system gives no thread: {error}; raise the limits of this user");
        return exit::OS;
    }
    // Also sets a panic hook that gives the terminal back first.
    let mut terminal = match ratatui::try_init() {
        Ok(terminal) => terminal,
        Err(error) => {
            ratatui::restore();
            eprintln!("countersign top: the terminal cannot be used: {error}; try another TERM, or --once");
            return exit::OS;
        }
    };
    let drawn = draw_until_stopped(&mut terminal, first, &heard);
    ratatui::restore();
    match drawn {
        Ok(()) => exit::OK,
        Err(error) => {
            eprintln!("countersign top: the terminal went away: {error}");
            exit::OS
        }
    }
}

fn draw_until_stopped(
    terminal: &mut ratatui::DefaultTerminal,
    first: Sample,
    heard: &Receiver<Heard>,
) -> io::Result<()> {
    let mut view = View::new(first, Instant::now());
    loop {
        terminal.draw(|frame| frame.render_widget(Screen::new(&view), frame.area()))?;
        // Ends with the threads that send, which is never before this one.
        match heard.recv().map_err(io::Error::other)? {
            Heard::Key(key) if is_quit(key) => return Ok(()),
            Heard::Key(key) => press(&mut view, key.code),
            Heard::Resized => {}
            Heard::Status(_) if view.paused => {}
            Heard::Status(status) => match *status {
                Ok(sample) => view.update(sample, Instant::now()),
                Err(silence) => view.lose(silence.to_string()),
            },
            Heard::Stop => return Ok(()),
        }
    }
}

fn is_quit(key: KeyEvent) -> bool {
    let control_c = key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
    control_c || matches!(key.code, KeyCode::Char('q' | 'Q') | KeyCode::Esc)
}

fn press(view: &mut View, key: KeyCode) {
    match key {
        KeyCode::Char('p' | 'P' | ' ') => view.paused = !view.paused,
        KeyCode::Down => view.scroll(1),
        KeyCode::Up => view.scroll(-1),
        KeyCode::PageDown => view.scroll(10),
        KeyCode::PageUp => view.scroll(-10),
        _ => {}
    }
}

/// Starts the threads that hear of keys, of signals and of the server. They end with the process.
fn listen(socket: PathBuf, to: &Sender<Heard>) -> io::Result<()> {
    let (keys, signals, statuses) = (to.clone(), to.clone(), to.clone());
    thread::Builder::new().name("keys".into()).spawn(move || {
        while let Ok(event) = event::read() {
            let heard = match event {
                Event::Key(key) if key.kind != KeyEventKind::Release => Heard::Key(key),
                Event::Resize(..) => Heard::Resized,
                _ => continue,
            };
            if keys.send(heard).is_err() {
                return;
            }
        }
        // The terminal is gone.
        let _ = keys.send(Heard::Stop);
    })?;
    thread::Builder::new().name("signals".into()).spawn(move || {
        if until_signal().is_ok() {
            let _ = signals.send(Heard::Stop);
        }
    })?;
    thread::Builder::new().name("status".into()).spawn(move || {
        loop {
            thread::sleep(EVERY);
            if statuses.send(Heard::Status(Box::new(ask(&socket)))).is_err() {
                return;
            }
        }
    })?;
    Ok(())
}

fn until_signal() -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut hang_up = signal(SignalKind::hangup())?;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            _ = hang_up.recv() => {}
        }
        Ok(())
    })
}
