//! A line for each request, to standard error or a file: the combined format, or JSON.

use std::{
    fmt::Display,
    fs::File,
    io::Write,
    path::{Path, PathBuf},
    sync::{PoisonError, RwLock},
};

use uncork::Access;

use super::{
    Failure,
    logs::{json, timestamp},
    settings::AccessLog,
    values::AccessFormat,
};

/// Where the lines go. Loops write at once: on a file that costs about a microsecond, and a pipe that nobody reads stops
/// the loop, as it stops everybody who writes to it.
pub(crate) struct AccessLines(RwLock<Place>);

struct Place {
    format: AccessFormat,
    file: Option<File>,
}

impl AccessLines {
    pub(crate) fn open(settings: &AccessLog) -> Result<Self, Failure> {
        Place::open(settings).map(|place| Self(RwLock::new(place)))
    }

    /// Whether it could be opened, as far as that is seen without making a file.
    pub(crate) fn check(settings: &AccessLog) -> Result<(), Failure> {
        let dir = settings.file.parent().filter(|dir| *dir != Path::new(""));
        if settings.format == AccessFormat::Off || settings.file.exists() {
            // Opened to append, and nothing is appended.
            return Place::open(settings).map(drop);
        }
        match dir.map(std::fs::metadata) {
            None => Ok(()),
            Some(Ok(dir)) if dir.is_dir() => Ok(()),
            Some(Ok(_)) => Err(cant_write(settings, &"its directory is none")),
            Some(Err(error)) => Err(cant_write(settings, &error)),
        }
    }

    /// Opens it again: the file may have been moved away, or the settings changed. If that fails, it stays as it was.
    pub(crate) fn reopen(&self, settings: &AccessLog) -> Result<(), Failure> {
        let place = Place::open(settings)?;
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = place;
        Ok(())
    }

    pub(crate) fn write(&self, access: &Access<'_>) {
        let place = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let line = match place.format {
            AccessFormat::Off => return,
            AccessFormat::Combined => format!("{access}\n"),
            AccessFormat::Json => as_json(access),
        };
        // One call, and the system appends it as a whole. A full disk is no reason not to serve.
        let _ = match &place.file {
            Some(file) => (&*file).write_all(line.as_bytes()),
            None => std::io::stderr().lock().write_all(line.as_bytes()),
        };
    }
}

impl Place {
    fn open(settings: &AccessLog) -> Result<Self, Failure> {
        let to_file = settings.format != AccessFormat::Off && settings.file != PathBuf::new();
        let file = to_file.then(|| File::options().append(true).create(true).open(&settings.file)).transpose();
        let file = file.map_err(|error| cant_write(settings, &error))?;
        Ok(Self { format: settings.format, file })
    }
}

fn cant_write(settings: &AccessLog, error: &dyn Display) -> Failure {
    Failure::config(format!("can't write --access-log-file {}: {error}", settings.file.display()))
}

fn as_json(access: &Access<'_>) -> String {
    let text = |bytes: &[u8]| json(&String::from_utf8_lossy(bytes));
    let mut line = format!("{{\"time\":\"{}\"", timestamp(access.ended));
    line += &format!(",\"request\":{}", json(&access.id.to_string()));
    match access.peer.ip() {
        Some(ip) => line += &format!(",\"client\":\"{ip}\""),
        None => line += ",\"client\":\"unix:\"",
    }
    if let Some(head) = access.head {
        line += &format!(",\"method\":{},\"target\":{}", json(head.method()), json(head.target()));
        line += &format!(",\"protocol\":\"HTTP/1.{}\"", head.minor_version());
        for (key, name) in [("host", "host"), ("referer", "referer"), ("user_agent", "user-agent")] {
            if let Some(value) = head.headers().get(name) {
                line += &format!(",\"{key}\":{}", text(value));
            }
        }
    }
    let duration = access.ended.duration_since(access.began).unwrap_or_default().as_secs_f64();
    line += &format!(
        ",\"status\":{},\"sent\":{},\"received\":{},\"seconds\":{duration:.3},\"end\":{}}}\n",
        access.status,
        access.written,
        access.received,
        json(&access.why.to_string())
    );
    line
}
