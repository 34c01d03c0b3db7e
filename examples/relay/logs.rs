//! What happens, line by line on standard error: as text or JSON, as much of it as was asked for. How much can be changed
//! while the program runs.

use std::{
    io::Write,
    sync::{PoisonError, RwLock},
    time::SystemTime,
};

use env_filter::Filter;
use jiff::Timestamp;
use log::{Log, Metadata, Record};

use super::values::LogFormat;

struct Logger(RwLock<State>);

struct State {
    filter: Option<Filter>,
    level: String,
    format: LogFormat,
}

static LOGGER: Logger = Logger(RwLock::new(State { filter: None, level: String::new(), format: LogFormat::Text }));

/// Begins to log.
pub(crate) fn init(level: &str, format: LogFormat) -> Result<(), String> {
    change(level, format)?;
    log::set_logger(&LOGGER).map_err(|error| error.to_string())
}

/// From now on so much is logged, in that format.
pub(crate) fn change(level: &str, format: LogFormat) -> Result<(), String> {
    let filter = understand(level)?;
    let most = filter.filter();
    *LOGGER.0.write().unwrap_or_else(PoisonError::into_inner) =
        State { filter: Some(filter), level: level.trim().to_owned(), format };
    log::set_max_level(most);
    Ok(())
}

/// How much is logged, in the words it was asked for, and in which format.
pub(crate) fn current() -> (String, LogFormat) {
    let state = LOGGER.0.read().unwrap_or_else(PoisonError::into_inner);
    (state.level.clone(), state.format)
}

/// What is meant by `warn` or `warn,uncork::relay=debug`.
pub(crate) fn understand(level: &str) -> Result<Filter, String> {
    let level = level.trim();
    let fine = |part: &str| {
        let word = part.rsplit('=').next().unwrap_or_default().trim();
        !part.trim().is_empty() && word.parse::<log::LevelFilter>().is_ok()
    };
    if !level.split(',').all(fine) {
        return Err(format!(
            "{level:?} is no log level: off, error, warn, info, debug, trace; or warn,uncork::relay=debug"
        ));
    }
    let mut builder = env_filter::Builder::new();
    builder.try_parse(level).map_err(|error| error.to_string())?;
    Ok(builder.build())
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let state = self.0.read().unwrap_or_else(PoisonError::into_inner);
        state.filter.as_ref().is_some_and(|filter| filter.enabled(metadata))
    }

    fn log(&self, record: &Record<'_>) {
        let state = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if !state.filter.as_ref().is_some_and(|filter| filter.matches(record)) {
            return;
        }
        let line = line(record, state.format, now());
        // Nobody may be listening to us; that is no reason not to go on.
        let _ = std::io::stderr().lock().write_all(line.as_bytes());
    }

    fn flush(&self) {}
}

fn line(record: &Record<'_>, format: LogFormat, now: SystemTime) -> String {
    let (time, level, target) = (timestamp(now), record.level(), record.target());
    let words = record.args().to_string();
    let mut pairs = Pairs::default();
    // The visitor never fails.
    let _ = record.key_values().visit(&mut pairs);
    match format {
        LogFormat::Json => {
            let (target, words, level) = (json(target), json(&words), level.as_str().to_ascii_lowercase());
            let pairs: String = pairs.0.iter().map(|(key, value)| format!(",{}:{}", json(key), json(value))).collect();
            format!("{{\"time\":\"{time}\",\"level\":\"{level}\",\"target\":{target},\"message\":{words}{pairs}}}\n")
        }
        // What peers have said may be among the words: it stays in its line.
        LogFormat::Text => {
            let pairs: String = pairs.0.iter().map(|(key, value)| format!(" {key}={value}")).collect();
            format!("{time} {level:5} {target}: {}\n", (words + &pairs).replace(char::is_control, " "))
        }
    }
}

/// The key-value pairs of a record.
#[derive(Default)]
struct Pairs(Vec<(String, String)>);

impl<'kvs> log::kv::VisitSource<'kvs> for Pairs {
    fn visit_pair(&mut self, key: log::kv::Key<'kvs>, value: log::kv::Value<'kvs>) -> Result<(), log::kv::Error> {
        self.0.push((key.to_string(), value.to_string()));
        Ok(())
    }
}

/// Text as JSON has it.
pub(crate) fn json(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') => {
                c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| out.push_str(&format!("\\u{unit:04x}")));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// `2026-11-20T12:00:00.000Z` (RFC 3339).
pub(crate) fn timestamp(at: SystemTime) -> String {
    Timestamp::try_from(at).map_or_else(|_| "-".to_owned(), |at| format!("{at:.3}"))
}

#[expect(clippy::disallowed_methods, reason = "a log line has a time, and is nobody's turn")]
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
        let say = |format| {
            let words = "a \"b\"\r\n\u{1b}[0m é";
            let args = format_args!("{words}");
            line(&Record::builder().args(args).level(Level::Warn).target("x").build(), format, SystemTime::UNIX_EPOCH)
        };
        assert_eq!(say(LogFormat::Text), "1970-01-01T00:00:00.000Z WARN  x: a \"b\"   [0m é\n");
        assert_eq!(
            say(LogFormat::Json),
            "{\"time\":\"1970-01-01T00:00:00.000Z\",\"level\":\"warn\",\"target\":\"x\",\
             \"message\":\"a \\\"b\\\"\\r\\n\\u001b[0m é\"}\n"
        );
    }

    #[test]
    fn levels_are_understood_or_named() {
        for good in ["warn", "DEBUG", "off", "warn,uncork::relay=debug", " info\n"] {
            assert!(understand(good).is_ok(), "{good}");
        }
        for bad in ["", "loud", "warn,uncork::relay=loud", "warn,,info"] {
            assert!(understand(bad).is_err(), "{bad}");
        }
    }
}
