//! The log on standard error, as text or JSON. Its level can be changed while the program runs.

use std::{collections::BTreeMap, io::Write, sync::RwLock, time::SystemTime};

use env_filter::Filter;
use humantime::format_rfc3339_millis;
use log::{
    Log, Metadata, Record,
    kv::{Error, Key, Value, VisitSource},
};
use serde::Serialize;

use super::{
    json,
    lock::{read, write},
    values::LogFormat,
};

struct Logger(RwLock<State>);

struct State {
    filter: Option<Filter>,
    level: String,
    format: LogFormat,
}

static LOGGER: Logger = Logger(RwLock::new(State { filter: None, level: String::new(), format: LogFormat::Text }));

/// Installs the logger.
pub(crate) fn init(level: &str, format: LogFormat) -> Result<(), String> {
    change(level, format)?;
    log::set_logger(&LOGGER).map_err(|error| error.to_string())
}

/// Changes level and format.
pub(crate) fn change(level: &str, format: LogFormat) -> Result<(), String> {
    let filter = parse_level(level)?;
    let max_level = filter.filter();
    *write(&LOGGER.0) = State { filter: Some(filter), level: level.trim().to_owned(), format };
    log::set_max_level(max_level);
    Ok(())
}

/// Returns the level, as it was written, and the format.
pub(crate) fn current() -> (String, LogFormat) {
    let state = read(&LOGGER.0);
    (state.level.clone(), state.format)
}

/// Parses a log level, as `warn` or `warn,uncork::relay=debug`.
pub(crate) fn parse_level(level: &str) -> Result<Filter, String> {
    let level = level.trim();
    let is_valid = |part: &str| {
        let level = part.rsplit('=').next().unwrap_or_default().trim();
        !part.trim().is_empty() && level.parse::<log::LevelFilter>().is_ok()
    };
    if !level.split(',').all(is_valid) {
        return Err(format!(
            "invalid log level {level:?}: expected off, error, warn, info, debug or trace; or warn,uncork::relay=debug"
        ));
    }
    let mut builder = env_filter::Builder::new();
    // A line for each call of the gateway's application: only for those who ask for it.
    builder.filter_module("uncork::relay::access", log::LevelFilter::Warn);
    builder.try_parse(level).map_err(|error| error.to_string())?;
    Ok(builder.build())
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let state = read(&self.0);
        state.filter.as_ref().is_some_and(|filter| filter.enabled(metadata))
    }

    fn log(&self, record: &Record<'_>) {
        let state = read(&self.0);
        if !state.filter.as_ref().is_some_and(|filter| filter.matches(record)) {
            return;
        }
        let line = line(record, state.format, now());
        // Standard error may be closed; the program runs on.
        let _ = std::io::stderr().lock().write_all(line.as_bytes());
    }

    fn flush(&self) {}
}

/// One line of the log, as JSON has it.
#[derive(Serialize)]
struct Line<'a> {
    time: String,
    level: String,
    target: &'a str,
    message: String,
    #[serde(flatten)]
    fields: Fields,
}

/// The key-value pairs of a record, as text.
#[derive(Default, Serialize)]
struct Fields(BTreeMap<String, String>);

impl Fields {
    fn of(record: &Record<'_>) -> Self {
        let mut fields = Self::default();
        // A value that cannot be visited is missing; the line is still written.
        let _ = record.key_values().visit(&mut fields);
        fields
    }

    /// Returns ` key=value` for each pair.
    fn text(&self) -> String {
        self.0.iter().map(|(key, value)| format!(" {}={}", plain(key), quoted(&plain(value)))).collect()
    }
}

impl<'kvs> VisitSource<'kvs> for Fields {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), Error> {
        // In JSON, a member of the line itself must not be there twice.
        let is_own = matches!(key.as_str(), "time" | "level" | "target" | "message");
        let key = if is_own { format!("{key}_") } else { key.to_string() };
        self.0.insert(key, value.to_string());
        Ok(())
    }
}

/// Replaces control characters: text from a peer must not begin another line.
fn plain(text: &str) -> String {
    text.replace(char::is_control, " ")
}

/// Quotes a value that a reader could not find the end of.
fn quoted(value: &str) -> String {
    let is_bare = !value.is_empty() && !value.contains([' ', '"']);
    if is_bare { value.to_owned() } else { format!("{value:?}") }
}

fn line(record: &Record<'_>, format: LogFormat, now: SystemTime) -> String {
    let (time, level, target) = (timestamp(now), record.level(), record.target());
    let (message, fields) = (record.args().to_string(), Fields::of(record));
    match format {
        LogFormat::Json => {
            let level = level.as_str().to_ascii_lowercase();
            json::line(&Line { time, level, target, message, fields }) + "\n"
        }
        LogFormat::Text => format!("{time} {level:5} {target}: {}{}\n", plain(&message), fields.text()),
    }
}

/// Returns a time in RFC 3339 format, as `2026-11-20T12:00:00.000Z`.
pub(crate) fn timestamp(at: SystemTime) -> String {
    format_rfc3339_millis(at).to_string()
}

#[expect(clippy::disallowed_methods, reason = "the time of a log line, outside of any loop's turn")]
fn now() -> SystemTime {
    SystemTime::now()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use log::Level;

    use super::*;

    #[test]
    fn times_have_milliseconds() {
        for (millis, text) in [(0, "1970-01-01T00:00:00.000Z"), (1_795_176_000_007, "2026-11-20T12:00:00.007Z")] {
            assert_eq!(timestamp(SystemTime::UNIX_EPOCH + Duration::from_millis(millis)), text);
        }
    }

    #[test]
    fn a_line_stays_a_line() {
        let written = |format| {
            let text = "a \"b\"\r\n\u{1b}[0m é";
            let args = format_args!("{text}");
            line(&Record::builder().args(args).level(Level::Warn).target("x").build(), format, SystemTime::UNIX_EPOCH)
        };
        assert_eq!(written(LogFormat::Text), "1970-01-01T00:00:00.000Z WARN  x: a \"b\"   [0m é\n");
        assert_eq!(
            written(LogFormat::Json),
            "{\"time\":\"1970-01-01T00:00:00.000Z\",\"level\":\"warn\",\"target\":\"x\",\
             \"message\":\"a \\\"b\\\"\\r\\n\\u001b[0m é\"}\n"
        );
    }

    #[test]
    fn key_values_are_written() {
        let written = |format| {
            let pairs = [("stream", "ab"), ("state", "a \"b\"\nc"), ("bytes", "7"), ("empty", ""), ("level", "x")];
            let record = Record::builder()
                .args(format_args!("stream ended"))
                .level(Level::Debug)
                .target("x")
                .key_values(&pairs)
                .build();
            line(&record, format, SystemTime::UNIX_EPOCH)
        };
        assert_eq!(
            written(LogFormat::Text),
            "1970-01-01T00:00:00.000Z DEBUG x: stream ended bytes=7 empty=\"\" level_=x state=\"a \\\"b\\\" c\" stream=ab\n"
        );
        assert_eq!(
            written(LogFormat::Json),
            "{\"time\":\"1970-01-01T00:00:00.000Z\",\"level\":\"debug\",\"target\":\"x\",\
             \"message\":\"stream ended\",\"bytes\":\"7\",\"empty\":\"\",\"level_\":\"x\",\
             \"state\":\"a \\\"b\\\"\\nc\",\"stream\":\"ab\"}\n"
        );
    }

    #[test]
    fn levels_are_understood_or_named() {
        for good in ["warn", "DEBUG", "off", "warn,uncork::relay=debug", " info\n"] {
            assert!(parse_level(good).is_ok(), "{good}");
        }
        for bad in ["", "loud", "warn,uncork::relay=loud", "warn,,info"] {
            assert!(parse_level(bad).is_err(), "{bad}");
        }
    }
}
