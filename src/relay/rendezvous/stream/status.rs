//! The status of a stream: `GET <base>/stream/<id>/status`, member by member as in http-rendezvous.

use std::time::{Duration, SystemTime};

use uncork::PipeCounters;

use super::{Phase, Stream};
use crate::relay::json::JsonObject;

impl Stream {
    pub(in super::super) fn state(&self) -> &'static str {
        match &self.phase {
            Phase::Waiting if self.source.is_some() => "SRC_CONNECTED",
            Phase::Waiting if !self.receivers.is_empty() => "DST_CONNECTED",
            Phase::Waiting => "CREATED",
            Phase::Meeting | Phase::Streaming(_) => "STREAMING",
            Phase::Over { outcome, .. } => outcome.name(),
        }
    }

    pub(in super::super) fn bytes(&self) -> u64 {
        self.counters.iter().map(PipeCounters::read).max().unwrap_or(0)
    }

    /// Returns the JSON object of `/status`.
    pub(in super::super) fn status(&self, id: &str) -> String {
        let over = match &self.phase {
            Phase::Over { outcome, at, .. } => Some((outcome, *at)),
            _ => None,
        };
        let mut status = JsonObject::new().member("id", id).member("created_at", iso_8601(self.created.wall));
        if let Some((_, at)) = over {
            status = status.member("deactivated_at", iso_8601(at));
        }
        status = status.member("state", self.state()).member("active", over.is_none());
        if let Some(fault) = over.and_then(|(outcome, _)| outcome.fault()) {
            status = status.json("error", &fault.json());
        }
        for (name, fields) in [("download_headers", &self.options.download), ("upload_headers", &self.options.upload)] {
            if let Some(fields) = fields {
                status = status.json(name, &fields.json);
            }
        }
        status.member("bytes_transferred", self.bytes()).end()
    }
}

/// Formats a time as `2026-11-20T19:41:53.000Z`. A time outside the years 1970 to 9999 becomes the nearest one
/// within.
///
/// The parts come from a date of HTTP (`Fri, 20 Nov 2026 19:41:53 GMT`), whose crate knows the calendar and is a
/// dependency already.
fn iso_8601(at: SystemTime) -> String {
    const MONTHS: &str = "JanFebMarAprMayJunJulAugSepOctNovDec";
    const LAST_SECOND_OF_9999: u64 = 253_402_300_799;
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let since = since.min(Duration::new(LAST_SECOND_OF_9999, 999_999_999));
    let date = httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + since);
    let part = |range: std::ops::Range<usize>| date.get(range).unwrap_or_default();
    let month = MONTHS.find(part(8..11)).map_or(1, |at| at / 3 + 1);
    let (year, day, time, millis) = (part(12..16), part(5..7), part(17..25), since.subsec_millis());
    format!("{year}-{month:02}-{day}T{time}.{millis:03}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_iso_8601() {
        for (millis, want) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (951_868_800_000, "2000-03-01T00:00:00.000Z"),
            (1_795_203_713_007, "2026-11-20T19:41:53.007Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
            (4_102_444_799_000, "2099-12-31T23:59:59.000Z"),
            (253_402_300_800_000, "9999-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(iso_8601(SystemTime::UNIX_EPOCH + Duration::from_millis(millis)), want);
        }
    }
}
