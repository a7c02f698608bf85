//! The moments at which an open connection ends by itself. Pure: clocks are arguments.

use crate::config::limits;
use crate::wire::audit::CloseReason;
use rustls_pki_types::UnixTime;
use std::time::{Duration, Instant};

/// What ends a connection though neither side does.
#[derive(Debug)]
pub(super) struct Deadlines {
    /// Longest time without a byte.
    pub idle_timeout: Duration,
    /// The client's chain runs out; by the wall clock, which jumps.
    pub not_after: Option<UnixTime>,
    /// The connection has its greatest age.
    pub oldest: Option<Instant>,
}

impl Deadlines {
    /// When to look again, at the latest; or the reason why the time is up.
    pub fn next(&self, now: Instant, wall: UnixTime, last_byte: Instant) -> Result<Instant, CloseReason> {
        let idle = last_byte + self.idle_timeout;
        if self.oldest.is_some_and(|oldest| now >= oldest) {
            return Err(CloseReason::MaxAge);
        }
        if now >= idle {
            return Err(CloseReason::IdleTimeout);
        }
        let mut next = self.oldest.map_or(idle, |oldest| oldest.min(idle));
        if let Some(not_after) = self.not_after {
            let left = not_after.as_secs().saturating_sub(wall.as_secs());
            if left == 0 {
                return Err(CloseReason::CertificateExpired);
            }
            // Looked at from time to time, for the wall clock jumps.
            next = next.min(now + Duration::from_secs(left.min(limits::EXPIRY_LOOK_SECONDS_MAX)));
        }
        Ok(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WALL: u64 = 1_800_000_000;

    fn unix(seconds: u64) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(seconds))
    }

    fn deadlines(not_after: Option<u64>, oldest: Option<Instant>) -> Deadlines {
        Deadlines { idle_timeout: Duration::from_secs(60), not_after: not_after.map(unix), oldest }
    }

    #[test]
    fn a_byte_puts_the_idle_end_off() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let deadlines = deadlines(None, None);
        assert_eq!(deadlines.next(start, unix(WALL), start), Ok(at(60)));
        assert_eq!(deadlines.next(at(59), unix(WALL), at(30)), Ok(at(90)));
        assert_eq!(deadlines.next(at(60), unix(WALL), start), Err(CloseReason::IdleTimeout));
    }

    #[test]
    fn the_greatest_age_holds_for_a_busy_connection_too() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let deadlines = deadlines(None, Some(at(100)));
        assert_eq!(deadlines.next(at(50), unix(WALL), at(50)), Ok(at(100)));
        assert_eq!(deadlines.next(at(100), unix(WALL), at(99)), Err(CloseReason::MaxAge));
    }

    #[test]
    fn the_end_of_a_certificate_is_looked_for_often_enough_for_a_clock_that_jumps() {
        let start = Instant::now();
        let long = Deadlines { idle_timeout: Duration::from_secs(1 << 30), ..deadlines(Some(WALL + 100_000), None) };
        let look = Duration::from_secs(limits::EXPIRY_LOOK_SECONDS_MAX);
        assert_eq!(long.next(start, unix(WALL), start), Ok(start + look));
        assert_eq!(long.next(start, unix(WALL + 99_999), start), Ok(start + Duration::from_secs(1)));
        assert_eq!(long.next(start, unix(WALL + 100_000), start), Err(CloseReason::CertificateExpired));
        assert_eq!(long.next(start, unix(WALL + 200_000), start), Err(CloseReason::CertificateExpired));
    }
}
