//! What is told of a stream: `GET <base>/stream/<id>/status`, field by field as the original has it.

use std::time::SystemTime;

use uncork::PipeCounters;

use super::{Life, Stream};

impl Stream {
    pub(in super::super) fn state(&self) -> &'static str {
        match &self.life {
            Life::Waiting if self.source.is_some() => "SRC_CONNECTED",
            Life::Waiting if !self.receivers.is_empty() => "DST_CONNECTED",
            Life::Waiting => "CREATED",
            Life::Meeting | Life::Streaming(_) => "STREAMING",
            Life::Over { outcome, .. } => outcome.name(),
        }
    }

    pub(in super::super) fn bytes(&self) -> u64 {
        self.moved.iter().map(PipeCounters::read).max().unwrap_or(0)
    }

    /// The object of `/status`.
    pub(in super::super) fn status(&self, id: &str) -> String {
        use std::fmt::Write;
        let mut json = format!("{{\"id\":\"{id}\",\"created_at\":\"{}\"", iso_8601(self.created.wall));
        let over = match &self.life {
            Life::Over { outcome, at, .. } => Some((outcome, at)),
            _ => None,
        };
        let mut add = |what: std::fmt::Arguments<'_>| {
            // Into a string: it cannot fail.
            let _ = json.write_fmt(what);
        };
        if let Some((_, at)) = over {
            add(format_args!(",\"deactivated_at\":\"{}\"", iso_8601(*at)));
        }
        add(format_args!(",\"state\":\"{}\",\"active\":{}", self.state(), over.is_none()));
        if let Some(fault) = over.and_then(|(outcome, _)| outcome.fault()) {
            add(format_args!(",\"error\":{}", fault.json()));
        }
        for (name, fields) in [("download", &self.wish.download), ("upload", &self.wish.upload)] {
            if let Some(fields) = fields {
                add(format_args!(",\"{name}_headers\":{}", fields.json));
            }
        }
        add(format_args!(",\"bytes_transferred\":{}}}", self.bytes()));
        json
    }
}

/// `2026-11-20T19:41:53.000Z`
fn iso_8601(at: SystemTime) -> String {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let (days, seconds) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    // Years begin in March here, so that the leap day is their last; 400 of them have 146,097 days.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (year, month) = (era * 400 + year + u64::from(month >= 10), if month < 10 { month + 3 } else { month - 9 });
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", since.subsec_millis())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

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
        ] {
            assert_eq!(iso_8601(SystemTime::UNIX_EPOCH + Duration::from_millis(millis)), want);
        }
    }
}
