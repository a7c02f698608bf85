//! Counts changes of keys (KeyUpdate, RFC 8446 section 4.6.3). rustls tells of none, but it makes a cipher for each key: so
//! each suite's is wrapped, and notes for the thread that another was made.

use rustls::ConnectionTrafficSecrets;
use rustls::crypto::cipher::{
    AeadKey, Iv, MessageDecrypter, MessageEncrypter, Tls13AeadAlgorithm, UnsupportedOperationError,
};
use std::cell::Cell;

/// Changes of keys on an open connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KeyChanges {
    /// Of those that we send with.
    pub ours: u32,
    /// Of those that the client sends with.
    pub clients: u32,
}

/// Ciphers that a handshake of TLS 1.3 makes in each direction: for the rest of the handshake, and for data.
const OF_HANDSHAKE: u32 = 2;

thread_local! {
    /// Made so far, by any connection of this thread.
    static MADE: Cell<KeyChanges> = const { Cell::new(KeyChanges { ours: 0, clients: 0 }) };
}

/// Ciphers made for one connection and not yet told of.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Made(KeyChanges);

impl Made {
    /// What `call`, which is one of this connection's into rustls, makes.
    pub fn during<T>(&mut self, call: impl FnOnce() -> T) -> T {
        let before = MADE.get();
        let result = call();
        let after = MADE.get();
        self.0.ours += after.ours.wrapping_sub(before.ours);
        self.0.clients += after.clients.wrapping_sub(before.clients);
        result
    }

    /// The changes since the last time.
    pub fn take_changes(&mut self) -> KeyChanges {
        let beyond = |made: &mut u32| {
            let changes = made.saturating_sub(OF_HANDSHAKE);
            *made -= changes;
            changes
        };
        KeyChanges { ours: beyond(&mut self.0.ours), clients: beyond(&mut self.0.clients) }
    }
}

/// The same cipher with notes.
pub(super) struct Noting(pub &'static dyn Tls13AeadAlgorithm);

impl Tls13AeadAlgorithm for Noting {
    fn encrypter(&self, key: AeadKey, iv: Iv) -> Box<dyn MessageEncrypter> {
        let made = MADE.get();
        MADE.set(KeyChanges { ours: made.ours.wrapping_add(1), ..made });
        self.0.encrypter(key, iv)
    }

    fn decrypter(&self, key: AeadKey, iv: Iv) -> Box<dyn MessageDecrypter> {
        let made = MADE.get();
        MADE.set(KeyChanges { clients: made.clients.wrapping_add(1), ..made });
        self.0.decrypter(key, iv)
    }

    fn key_len(&self) -> usize {
        self.0.key_len()
    }

    fn extract_keys(&self, key: AeadKey, iv: Iv) -> Result<ConnectionTrafficSecrets, UnsupportedOperationError> {
        self.0.extract_keys(key, iv)
    }

    fn fips(&self) -> bool {
        self.0.fips()
    }
}
