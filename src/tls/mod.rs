//! rustls put together: sites, certificates, tickets, the session over the unbuffered API.

#![forbid(unsafe_code)]

/// Why a ticket was not taken; the connection then did a full handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Declined {
    Epoch,
    Blocked,
    Expired,
    UnknownKey,
    Sni,
    AuthAge,
}

impl Declined {
    /// All of them, in the order of `resumption_declined` counters.
    pub const ALL: [Declined; 6] =
        [Declined::Epoch, Declined::Blocked, Declined::Expired, Declined::UnknownKey, Declined::Sni, Declined::AuthAge];

    /// The metric's label value.
    pub fn code(self) -> &'static str {
        match self {
            Declined::Epoch => "epoch",
            Declined::Blocked => "blocked",
            Declined::Expired => "expired",
            Declined::UnknownKey => "unknown_key",
            Declined::Sni => "sni",
            Declined::AuthAge => "auth_age",
        }
    }
}
