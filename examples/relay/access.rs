//! A line for each request, to standard error or a file: the combined format, or JSON.

use std::{
    fmt::Display,
    fs::File,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};

use uncork::AccessRecord;

use super::{
    Failure,
    logs::{json, timestamp},
    settings::AccessLog,
    values::AccessFormat,
};

/// The least time between two lines in the log that say that lines are lost.
const BETWEEN: Duration = Duration::from_secs(60);

/// Where the lines go. Loops write at once, which on a file costs about a microsecond, and never wait: a line that a full
/// disk, or a FIFO whose reader is slow or gone, does not take is lost and counted. (Standard error is not ours alone, and
/// stays as it is: a pipe there that nothing reads stops the loop.)
pub(crate) struct AccessLines {
    sink: RwLock<Sink>,
    lost: AtomicU64,
}

struct Sink {
    format: AccessFormat,
    file: Option<Mutex<Output>>,
}

struct Output {
    file: File,
    /// The end of a line of which only the beginning was taken.
    rest: Vec<u8>,
    /// The lines lost since the last one that was written, if the log says that there are such.
    failing: Option<u64>,
    /// When the log last said so.
    told: Option<SystemTime>,
}

impl AccessLines {
    pub(crate) fn open(settings: &AccessLog) -> Result<Self, Failure> {
        Sink::open(settings).map(|sink| Self { sink: RwLock::new(sink), lost: AtomicU64::new(0) })
    }

    /// Whether it could be opened, as far as that is seen without making a file.
    pub(crate) fn check(settings: &AccessLog) -> Result<(), Failure> {
        let dir = settings.file.parent().filter(|dir| *dir != Path::new(""));
        if settings.format == AccessFormat::Off || settings.file.exists() {
            // Opened to append, and nothing is appended.
            return Sink::open(settings).map(drop);
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
        let sink = Sink::open(settings)?;
        *self.sink.write().unwrap_or_else(PoisonError::into_inner) = sink;
        Ok(())
    }

    /// The lines that could not be written.
    pub(crate) fn lost(&self) -> u64 {
        self.lost.load(Relaxed)
    }

    pub(crate) fn write(&self, access: &AccessRecord<'_>) {
        let sink = self.sink.read().unwrap_or_else(PoisonError::into_inner);
        let line = match sink.format {
            AccessFormat::Off => return,
            AccessFormat::Combined => format!("{access}\n"),
            AccessFormat::Json => as_json(access),
        };
        let written = match &sink.file {
            Some(file) => file.lock().unwrap_or_else(PoisonError::into_inner).line(line.as_bytes(), access.ended),
            // One call, and the system appends it as a whole.
            None => io::stderr().lock().write_all(line.as_bytes()).is_ok(),
        };
        if !written {
            self.lost.fetch_add(1, Relaxed);
        }
    }
}

impl Sink {
    fn open(settings: &AccessLog) -> Result<Self, Failure> {
        let to_file = settings.format != AccessFormat::Off && settings.file != PathBuf::new();
        // A FIFO is opened and written to without waiting for its reader; of a file, the system asks no patience.
        let mut options = File::options();
        options.append(true).create(true).custom_flags(libc::O_NONBLOCK);
        let file = to_file.then(|| options.open(&settings.file)).transpose().map_err(|error| {
            if error.raw_os_error() == Some(libc::ENXIO) {
                return cant_write(settings, &"it is a FIFO that nothing reads, or a socket");
            }
            cant_write(settings, &error)
        })?;
        let output = |file| Mutex::new(Output { file, rest: Vec::new(), failing: None, told: None });
        Ok(Self { format: settings.format, file: file.map(output) })
    }
}

impl Output {
    /// Writes a line, or the beginning of it: the rest then goes before the next one. Whether there was a place for it.
    fn line(&mut self, line: &[u8], now: SystemTime) -> bool {
        let taken = self.write_rest().and_then(|()| retried(&self.file, line));
        match taken {
            Ok(n) => {
                self.rest.extend_from_slice(line.get(n..).unwrap_or_default());
                // What stops it says so with the next line.
                let _ = self.write_rest();
                if let Some(lost) = self.failing.take() {
                    log::warn!("the access log is written again; {lost} lines were lost");
                }
                true
            }
            Err(error) => {
                let told = self.told.and_then(|told| now.duration_since(told).ok());
                if self.failing.is_none() && told.is_none_or(|past| past >= BETWEEN) {
                    log::warn!("lines of the access log are lost: {error}");
                    (self.failing, self.told) = (Some(0), Some(now));
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

/// One write, which no signal interrupts.
fn retried(mut file: &File, bytes: &[u8]) -> io::Result<usize> {
    loop {
        match file.write(bytes) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

fn cant_write(settings: &AccessLog, error: &dyn Display) -> Failure {
    Failure::config(format!("can't write --access-log-file {}: {error}", settings.file.display()))
}

fn as_json(access: &AccessRecord<'_>) -> String {
    let text = |bytes: &[u8]| json(&String::from_utf8_lossy(bytes));
    let mut line = format!("{{\"time\":\"{}\"", timestamp(access.ended));
    line += &format!(",\"request\":{}", json(&access.id.to_string()));
    match access.peer.ip() {
        Some(ip) => line += &format!(",\"client\":\"{ip}\""),
        None => line += ",\"client\":\"unix:\"",
    }
    if let Some(head) = access.head {
        line += &format!(",\"method\":{},\"target\":{}", json(head.method()), json(head.target()));
        line += &format!(",\"protocol\":\"{}\"", head.version());
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
        json(&access.reason.to_string())
    );
    line
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
        assert!(Sink::open(&settings(&path)).is_err_and(|error| error.0.contains("FIFO that nothing reads")));
        // What reads from it, without waiting for a writer.
        let mut reader = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(&path).expect("opened");
        let sink = Sink::open(&settings(&path)).ok().and_then(|sink| sink.file).expect("opened");
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
