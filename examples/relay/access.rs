//! The access log: one line for each request, to standard error or a file, in the combined format or as JSON.

use std::{
    borrow::Cow,
    fmt::Display,
    fs::File,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{
        Mutex, RwLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};

use serde::Serialize;
use uncork::AccessRecord;

use super::{
    Failure, json,
    lock::{lock, read, write},
    logs::timestamp,
    settings::AccessLog,
    values::AccessFormat,
};

/// Shortest interval between two warnings about lost lines.
const WARNING_INTERVAL: Duration = Duration::from_secs(60);

/// Writes the access log. Loops write lines themselves, which on a file costs about a microsecond, and never block. A
/// line that a full disk or a FIFO without a ready reader does not accept is lost and counted. (Standard error is
/// shared with other processes and stays in blocking mode: a full pipe there stops the loop.)
pub(crate) struct AccessLines {
    sink: RwLock<LogSink>,
    lost: AtomicU64,
}

struct LogSink {
    format: AccessFormat,
    file: Option<Mutex<Output>>,
}

struct Output {
    file: File,
    /// The end of a line whose beginning was written.
    rest: Vec<u8>,
    /// Lines lost since the last written one, if a warning reported the loss.
    failing: Option<u64>,
    /// Time of the last warning.
    warned: Option<SystemTime>,
}

impl AccessLines {
    pub(crate) fn open(settings: &AccessLog) -> Result<Self, Failure> {
        LogSink::open(settings).map(|sink| Self { sink: RwLock::new(sink), lost: AtomicU64::new(0) })
    }

    /// Rejects a file that cannot be opened, as far as this can be found out without creating it.
    pub(crate) fn check(settings: &AccessLog) -> Result<(), Failure> {
        let dir = settings.file.parent().filter(|dir| *dir != Path::new(""));
        if settings.format == AccessFormat::Off || settings.file.exists() {
            // Opened to append, and nothing is appended.
            return LogSink::open(settings).map(drop);
        }
        match dir.map(std::fs::metadata) {
            None => Ok(()),
            Some(Ok(dir)) if dir.is_dir() => Ok(()),
            Some(Ok(_)) => Err(cannot_write(settings, &"not a directory")),
            Some(Err(error)) => Err(cannot_write(settings, &error)),
        }
    }

    /// Opens the file again, since it may have been renamed or the settings may have changed. If that fails, nothing
    /// changes.
    pub(crate) fn reopen(&self, settings: &AccessLog) -> Result<(), Failure> {
        let sink = LogSink::open(settings)?;
        *write(&self.sink) = sink;
        Ok(())
    }

    /// Returns the number of lines that could not be written.
    pub(crate) fn lost(&self) -> u64 {
        self.lost.load(Relaxed)
    }

    pub(crate) fn write(&self, access: &AccessRecord<'_>) {
        let sink = read(&self.sink);
        let line = match sink.format {
            AccessFormat::Off => return,
            AccessFormat::Combined => format!("{access}\n"),
            AccessFormat::Json => as_json(access) + "\n",
        };
        let written = match &sink.file {
            Some(file) => lock(file).line(line.as_bytes(), access.ended),
            // One call, so that the system appends the line as a whole.
            None => io::stderr().lock().write_all(line.as_bytes()).is_ok(),
        };
        if !written {
            self.lost.fetch_add(1, Relaxed);
        }
    }
}

impl LogSink {
    fn open(settings: &AccessLog) -> Result<Self, Failure> {
        let to_file = settings.format != AccessFormat::Off && settings.file != PathBuf::new();
        // Opening and writing a FIFO must not wait for its reader. A regular file never blocks.
        let mut options = File::options();
        options.append(true).create(true).custom_flags(libc::O_NONBLOCK);
        let file = to_file.then(|| options.open(&settings.file)).transpose().map_err(|error| {
            if error.raw_os_error() == Some(libc::ENXIO) {
                return cannot_write(settings, &"it is a FIFO without a reader, or a socket");
            }
            cannot_write(settings, &error)
        })?;
        let output = |file| Mutex::new(Output { file, rest: Vec::new(), failing: None, warned: None });
        Ok(Self { format: settings.format, file: file.map(output) })
    }
}

impl Output {
    /// Writes a line or the beginning of it; the rest is written before the next line. Returns `true` if any of it was
    /// written.
    fn line(&mut self, line: &[u8], now: SystemTime) -> bool {
        let taken = self.write_rest().and_then(|()| retried(&self.file, line));
        match taken {
            Ok(n) => {
                self.rest.extend_from_slice(line.get(n..).unwrap_or_default());
                // An error is reported with the next line.
                let _ = self.write_rest();
                if let Some(lost) = self.failing.take() {
                    log::warn!("the access log can be written again; {lost} lines were lost");
                }
                true
            }
            Err(error) => {
                let warned = self.warned.and_then(|warned| now.duration_since(warned).ok());
                if self.failing.is_none() && warned.is_none_or(|past| past >= WARNING_INTERVAL) {
                    log::warn!("cannot write the access log, lines are lost: {error}");
                    (self.failing, self.warned) = (Some(0), Some(now));
                }
                self.failing = self.failing.map(|lost| lost + 1);
                false
            }
        }
    }

    fn write_rest(&mut self) -> io::Result<()> {
        while !self.rest.is_empty() {
            let n = retried(&self.file, &self.rest)?;
            if n == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            self.rest.drain(..n);
        }
        Ok(())
    }
}

/// Writes once, and again if a signal interrupts it.
fn retried(mut file: &File, bytes: &[u8]) -> io::Result<usize> {
    loop {
        match file.write(bytes) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

fn cannot_write(settings: &AccessLog, error: &dyn Display) -> Failure {
    Failure::config(format!("cannot write --access-log-file {}: {error}", settings.file.display()))
}

/// One request, as JSON has it.
#[derive(Serialize)]
struct Line<'a> {
    time: String,
    request: String,
    client: String,
    #[serde(flatten)]
    head: Option<HeadFields<'a>>,
    status: u16,
    sent: u64,
    received: u64,
    seconds: f64,
    end_reason: String,
}

#[derive(Serialize)]
struct HeadFields<'a> {
    method: &'a str,
    target: &'a str,
    protocol: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    referer: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_agent: Option<Cow<'a, str>>,
}

fn as_json(access: &AccessRecord<'_>) -> String {
    let head = access.head.map(|head| {
        let field = |name: &str| head.headers().get(name).map(String::from_utf8_lossy);
        HeadFields {
            method: head.method(),
            target: head.target(),
            protocol: head.version().to_string(),
            host: field("host"),
            referer: field("referer"),
            user_agent: field("user-agent"),
        }
    });
    json::line(&Line {
        time: timestamp(access.ended),
        request: access.id.to_string(),
        client: access.peer.ip().map_or_else(|| "unix:".to_owned(), |ip| ip.to_string()),
        head,
        status: access.status,
        sent: access.written,
        received: access.received,
        seconds: json::rounded(access.ended.duration_since(access.began).unwrap_or_default(), 3),
        end_reason: access.reason.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn settings(file: &Path) -> AccessLog {
        AccessLog { format: AccessFormat::Combined, file: file.to_owned() }
    }

    fn made_fifo(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("uncork-{name}-{}", std::process::id()));
        let made = std::process::Command::new("mkfifo").arg(&path).status();
        assert!(made.is_ok_and(|status| status.success()));
        path
    }

    #[test]
    fn a_fifo_is_not_waited_for_and_its_lines_stay_whole() {
        let path = made_fifo("fifo");
        assert!(LogSink::open(&settings(&path)).is_err_and(|error| error.0.contains("FIFO without a reader")));
        // What reads from it, without waiting for a writer.
        let mut reader = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(&path).expect("opened");
        let sink = LogSink::open(&settings(&path)).ok().and_then(|sink| sink.file).expect("opened");
        let mut output = sink.into_inner().expect("not poisoned");
        // Longer than what a pipe takes as a whole.
        let line = |n: usize| format!("{n:06}{}\n", "x".repeat(9_000 + n));
        let mut written = Vec::new();
        for n in 0..100 {
            if output.line(line(n).as_bytes(), SystemTime::UNIX_EPOCH) {
                written.push(n);
            }
        }
        assert!((3..50).contains(&written.len()) && output.failing.is_some(), "{written:?}");
        let mut text = String::new();
        let mut read = |text: &mut String| {
            let mut block = vec![0; 1 << 20];
            while let Ok(n @ 1..) = reader.read(&mut block) {
                text.push_str(std::str::from_utf8(&block[..n]).expect("text"));
            }
        };
        read(&mut text);
        assert!(output.line(line(100).as_bytes(), SystemTime::UNIX_EPOCH) && output.failing.is_none());
        written.push(100);
        read(&mut text);
        assert_eq!(text, written.iter().map(|n| line(*n)).collect::<String>());
        std::fs::remove_file(&path).expect("removed");
    }
}
