//! The Date field's value, formatted once a second.

use std::{
    io::Write,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// The last second of the year 9999: the last one of an IMF-fixdate.
const LAST: u64 = 253_402_300_799;

/// The current date as an IMF-fixdate (RFC 9110 §5.6.7), `Sun, 06 Nov 1994 08:49:37 GMT`. Each loop has one. It is read
/// for every response and formatted once per second.
#[derive(Clone, Debug)]
pub struct DateCache {
    /// The first time for which the text is right,
    from: SystemTime,
    /// and the first for which it is not.
    until: SystemTime,
    text: [u8; 29],
}

impl DateCache {
    /// Returns the date at `wall`; this module reads no clock. Times before 1970 and after 9999 are clamped.
    #[inline]
    pub fn at(&mut self, wall: SystemTime) -> &[u8; 29] {
        if wall < self.from || wall >= self.until {
            self.format(wall);
        }
        &self.text
    }

    #[cold]
    fn format(&mut self, wall: SystemTime) {
        let second = wall.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()).min(LAST);
        self.from = UNIX_EPOCH + Duration::from_secs(second);
        self.until = self.from + Duration::from_secs(1);
        let date = httpdate::HttpDate::from(self.from);
        // It always has 29 bytes. More would be left out.
        let _ = write!(&mut self.text[..], "{date}");
    }
}

impl Default for DateCache {
    fn default() -> Self {
        Self { from: UNIX_EPOCH, until: UNIX_EPOCH, text: *b"Thu, 01 Jan 1970 00:00:00 GMT" }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_and_clamps() {
        let mut cache = DateCache::default();
        let mut at = |secs| String::from_utf8_lossy(cache.at(UNIX_EPOCH + Duration::from_secs(secs))).into_owned();
        assert_eq!(at(0), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(at(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(at(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(at(784_111_778), "Sun, 06 Nov 1994 08:49:38 GMT");
        assert_eq!(at(LAST + 5), "Fri, 31 Dec 9999 23:59:59 GMT");
        assert_eq!(cache.at(UNIX_EPOCH - Duration::from_secs(1)), b"Thu, 01 Jan 1970 00:00:00 GMT");
    }
}
