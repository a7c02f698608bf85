//! A service manager's ear: the socket that `NOTIFY_SOCKET` names.

use super::wait::{self, SOON};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Collects what it is told for as long as it lives.
pub struct Manager {
    path: PathBuf,
    messages: Arc<Mutex<Vec<String>>>,
}

impl Manager {
    /// Listens at `notify.sock` in `dir`.
    pub fn new(dir: &Path) -> Manager {
        let path = dir.join("notify.sock");
        let socket = UnixDatagram::bind(&path).unwrap();
        let messages: Arc<Mutex<Vec<String>>> = Arc::default();
        let all = Arc::downgrade(&messages);
        socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Some(all) = all.upgrade() {
                if let Ok(len) = socket.recv(&mut buffer) {
                    all.lock().unwrap().push(String::from_utf8_lossy(&buffer[..len]).into_owned());
                }
            }
        });
        Manager { path, messages }
    }

    /// For `NOTIFY_SOCKET`.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Everything so far, in the order in which it came.
    pub fn messages(&self) -> Vec<String> {
        self.messages.lock().unwrap().clone()
    }

    /// Forgets what it was told.
    pub fn forget(&self) {
        self.messages.lock().unwrap().clear();
    }

    /// Whether a message had this in it.
    pub fn heard(&self, what: &str) -> bool {
        self.messages().iter().any(|message| message.contains(what))
    }

    /// Whether one comes within that time.
    pub fn hears_within(&self, limit: Duration, what: &str) -> bool {
        wait::until(limit, || self.heard(what))
    }

    /// The first message with this in it, waited for.
    pub fn wait(&self, what: &str) -> String {
        let found = || self.messages().into_iter().find(|message| message.contains(what));
        wait::until_some(SOON, found).unwrap_or_else(|| panic!("no {what} among {:?}", self.messages()))
    }
}
