//! The log of the examples, on standard error.

use std::{io::Write, time::SystemTime};

use env_logger::{Builder, Env};
use humantime::format_rfc3339_millis;

/// Installs the logger. The variable `RUST_LOG` takes precedence over the default filter.
pub(crate) fn init(default: &str) {
    Builder::from_env(Env::default().default_filter_or(default))
        .format(|out, record| {
            let (level, target) = (record.level(), record.target());
            writeln!(out, "{} {level:5} {target}: {}", format_rfc3339_millis(now()), record.args())
        })
        .init();
}

#[expect(clippy::disallowed_methods, reason = "the time of a log line, outside of any loop's turn")]
fn now() -> SystemTime {
    SystemTime::now()
}
