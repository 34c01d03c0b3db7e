//! The record of a request that has ended, for access logs.

use std::{fmt, time::SystemTime};

use super::Head;
use crate::base::{EndReason, PeerAddr, RequestId};

/// One finished request, as [`Server::access_log`](crate::Server::access_log) reports it. Its `Display` is the
/// combined log format of Apache and nginx.
#[derive(Debug)]
#[non_exhaustive]
pub struct AccessRecord<'a> {
    /// The request's id.
    pub id: RequestId,
    /// The client.
    pub peer: &'a PeerAddr,
    /// The request's head; `None` if it could not be parsed.
    pub head: Option<&'a Head>,
    /// The status of the response; 0 if none was sent.
    pub status: u16,
    /// Bytes of the response's body that were handed to the transport.
    pub written: u64,
    /// Bytes of the request's body that were received.
    pub received: u64,
    /// The reason for its end.
    pub reason: &'a EndReason,
    /// The time when its head was complete.
    pub began: SystemTime,
    /// The time of its end.
    pub ended: SystemTime,
}

impl fmt::Display for AccessRecord<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.peer.ip() {
            Some(ip) => write!(f, "{ip}")?,
            None => f.write_str("unix:")?,
        }
        write!(f, " - - [{}] \"", ClfDate(self.ended))?;
        match self.head {
            Some(head) => {
                write!(f, "{} {} {}", head.method(), Quoted(head.target().as_bytes()), head.version())?;
            }
            None => f.write_str("-")?,
        }
        write!(f, "\" {} {}", self.status, self.written)?;
        for name in ["referer", "user-agent"] {
            let value = self.head.and_then(|head| head.headers().get(name)).unwrap_or(b"-");
            write!(f, " \"{}\"", Quoted(value))?;
        }
        Ok(())
    }
}

/// Bytes from a peer between quotes: control bytes and quotes are escaped.
struct Quoted<'a>(&'a [u8]);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for &byte in self.0 {
            match byte {
                b'"' | b'\\' | 0..=0x1f | 0x7f.. => write!(f, "\\x{byte:02x}")?,
                _ => write!(f, "{}", char::from(byte))?,
            }
        }
        Ok(())
    }
}

/// `20/Nov/2026:12:00:00 +0000`, made of the HTTP date `Fri, 20 Nov 2026 12:00:00 GMT`.
struct ClfDate(SystemTime);

impl fmt::Display for ClfDate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let date = httpdate::fmt_http_date(self.0);
        match (date.get(5..7), date.get(8..11), date.get(12..16), date.get(17..25)) {
            (Some(day), Some(month), Some(year), Some(time)) => write!(f, "{day}/{month}/{year}:{time} +0000"),
            _ => f.write_str("-"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_date_is_that_of_the_common_log_format() {
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_176_000);
        assert_eq!(ClfDate(at).to_string(), "20/Nov/2026:12:00:00 +0000");
    }

    #[test]
    fn a_peer_cannot_forge_a_line() {
        assert_eq!(Quoted(b"a\"b\r\nc\xff").to_string(), "a\\x22b\\x0d\\x0ac\\xff");
    }
}
