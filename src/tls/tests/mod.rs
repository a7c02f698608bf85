//! Handshakes with real rustls clients, in memory.
