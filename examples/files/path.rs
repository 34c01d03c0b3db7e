//! From a request's path to a file below the root, and to nothing else.
//!
//! ```text
//!   /docs/a%20b.txt ──split at "/", decode each once──▶ ["docs", "a b.txt"] ──each opened in the one before──▶ file
//!                       └─ no "..", "/", NUL, hidden name                      └─ not a link, not private
//!                                                                                 a link ──▶ real path, once more
//! ```
//!
//! The root itself is opened for each request. It may be a link that a deployment moves to the next release.

use std::{
    ffi::{CStr, OsStr, OsString},
    fs::{self, File},
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::{
            ffi::{OsStrExt, OsStringExt},
            fs::MetadataExt,
        },
    },
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, percent_encode};
use rustix::{
    fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat, fstat, openat, statat},
    path::Arg,
};

/// What is served of a directory.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shown {
    /// Also names that begin with a dot. (`.well-known` is served in any case, RFC 8615.)
    pub(crate) hidden: bool,
    /// Also what only its owner may read.
    pub(crate) private: bool,
    /// Files that are never served: the program's own keys, certificates and tokens.
    pub(crate) secrets: Vec<PathBuf>,
}

/// A directory, and what of it is served.
#[derive(Clone, Debug)]
pub(crate) struct Root {
    dir: PathBuf,
    shown: Arc<Shown>,
}

/// What a path leads to.
#[derive(Debug)]
pub(crate) enum Found {
    File(File, Facts),
    Dir(OwnedFd),
}

/// Why a path leads nowhere.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// It breaks the rules for paths.
    Malformed,
    /// There is nothing, or nothing that is to be seen.
    NotFound,
    /// It is there, but it is private, or the system does not let us read it, or it is neither a file nor a directory.
    Forbidden,
    /// The system cannot say at the moment, with this error: too many open files, for instance. It may well be there.
    Unavailable(i32),
}

impl From<io::Error> for Refused {
    fn from(error: io::Error) -> Self {
        let code = error.raw_os_error().unwrap_or(libc::EIO);
        match code {
            libc::ENOENT | libc::ENOTDIR | libc::ELOOP | libc::ENAMETOOLONG => Self::NotFound,
            // No file of this file system can have such a name: one that is not UTF-8, for instance.
            libc::EILSEQ | libc::EINVAL => Self::NotFound,
            libc::EACCES | libc::EPERM => Self::Forbidden,
            code => Self::Unavailable(code),
        }
    }
}

impl From<rustix::io::Errno> for Refused {
    fn from(error: rustix::io::Errno) -> Self {
        io::Error::from(error).into()
    }
}

/// What the system knows of a file or directory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts {
    kind: FileType,
    mode: u32,
    device: u64,
    pub(crate) inode: u64,
    /// In bytes.
    pub(crate) len: u64,
    /// Whether it has room on a disk. Files that the system makes as they are read have none, and neither have empty ones.
    pub(crate) has_blocks: bool,
    /// `None`: a time that cannot be expressed.
    pub(crate) modified: Option<SystemTime>,
}

impl Facts {
    #[allow(clippy::unnecessary_cast, reason = "the types differ between systems")]
    fn of(stat: &Stat) -> Self {
        Self {
            kind: FileType::from_raw_mode(stat.st_mode as _),
            mode: stat.st_mode as u32,
            device: stat.st_dev as u64,
            inode: stat.st_ino as u64,
            len: u64::try_from(stat.st_size).unwrap_or(0),
            has_blocks: stat.st_blocks as u64 > 0,
            modified: time(stat.st_mtime as i64, stat.st_mtime_nsec as u64),
        }
    }

    pub(crate) fn is_dir(&self) -> bool {
        self.kind == FileType::Directory
    }

    /// Whether only its owner may read it; of a directory, only its owner may list or enter it.
    fn is_private(&self) -> bool {
        self.mode & if self.is_dir() { 0o055 } else { 0o044 } == 0
    }
}

/// Seconds since 1970 or before, and nanoseconds that go forward in either case.
fn time(seconds: i64, nanos: u64) -> Option<SystemTime> {
    let whole = Duration::from_secs(seconds.unsigned_abs());
    let second = match seconds < 0 {
        true => SystemTime::UNIX_EPOCH.checked_sub(whole),
        false => SystemTime::UNIX_EPOCH.checked_add(whole),
    };
    second?.checked_add(Duration::from_nanos(nanos))
}

/// The path of a request, taken apart.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Segments {
    pub(crate) names: Vec<OsString>,
    /// It ended with "/", so a directory is meant.
    pub(crate) dir: bool,
}

impl Segments {
    /// Takes the path of an origin-form target apart. Each segment is decoded once, after the path was split: an
    /// encoded slash never becomes a separator, and `%252e` is a name with a percent sign in it.
    pub(crate) fn parse(path: &str) -> Result<Self, Refused> {
        let rest = path.strip_prefix('/').ok_or(Refused::Malformed)?;
        if rest.is_empty() {
            return Ok(Self { names: Vec::new(), dir: true });
        }
        let (rest, dir) = rest.strip_suffix('/').map_or((rest, false), |rest| (rest, true));
        let mut names = Vec::new();
        // What is empty between two slashes is no name: `//host/` must not come back as a redirect to another host.
        for segment in rest.split('/') {
            let name = decode(segment)?;
            if !is_name(&name) {
                return Err(Refused::Malformed);
            }
            names.push(OsString::from_vec(name));
        }
        Ok(Self { names, dir })
    }

    /// The path they make, encoded: as the one spelling that is redirected to.
    pub(crate) fn encoded(&self) -> String {
        self.names.iter().fold(String::new(), |path, name| path + "/" + &encode(name))
    }
}

fn decode(segment: &str) -> Result<Vec<u8>, Refused> {
    let bytes = segment.as_bytes();
    let hex = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_hexdigit);
    if (0..bytes.len()).any(|at| bytes[at] == b'%' && !(hex(at + 1) && hex(at + 2))) {
        return Err(Refused::Malformed);
    }
    Ok(percent_decode_str(segment).collect())
}

/// A segment as it stands in a link: nothing in it means anything to a browser or to HTML.
pub(crate) fn encode(name: &OsStr) -> String {
    const SET: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
    percent_encode(name.as_bytes(), SET).to_string()
}

/// Whether it may name one entry of a directory. A backslash is a character like any other here.
fn is_name(name: &[u8]) -> bool {
    !matches!(name, b"" | b"." | b"..") && !name.iter().any(|b| matches!(b, b'/' | 0))
}

/// Where the system can, a directory is opened only to look things up in it: it need not be readable.
#[cfg(any(target_os = "linux", target_os = "android"))]
const DIRECTORY: OFlags = OFlags::DIRECTORY.union(OFlags::PATH).union(OFlags::CLOEXEC);
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const DIRECTORY: OFlags = OFlags::DIRECTORY.union(OFlags::CLOEXEC);

/// Neither follows a link, nor waits for a FIFO's other end, nor takes a terminal over.
const FILE: OFlags = OFlags::NOFOLLOW.union(OFlags::NONBLOCK).union(OFlags::NOCTTY).union(OFlags::CLOEXEC);

impl Root {
    /// # Errors
    /// If it is not a directory, or cannot be read.
    pub(crate) fn new(dir: &Path, shown: Shown) -> io::Result<Self> {
        fs::read_dir(dir)?;
        Ok(Self { dir: std::path::absolute(dir)?, shown: Arc::new(shown) })
    }

    /// Returns `true` if a name is served at all.
    pub(crate) fn shows(&self, name: &OsStr) -> bool {
        let name = name.as_bytes();
        is_name(name) && (self.shown.hidden || !name.starts_with(b".") || name == b".well-known")
    }

    /// Finds what these names lead to.
    pub(crate) fn find(&self, names: &[OsString]) -> Result<Found, Refused> {
        if !names.iter().all(|name| self.shows(name)) {
            return Err(Refused::NotFound);
        }
        let secrets = self.secrets();
        match self.walk(&self.dir, names.iter().map(OsString::as_os_str), &secrets)? {
            Some(found) => Ok(found),
            None => self.find_by_link(names, &secrets),
        }
    }

    /// There is a link on the way: it may lead to what is below the root too, and nowhere else. Of what is elsewhere
    /// nothing is told.
    #[cold]
    fn find_by_link(&self, names: &[OsString], secrets: &[(u64, u64)]) -> Result<Found, Refused> {
        let hide = |error: io::Error| match Refused::from(error) {
            Refused::Forbidden => Refused::NotFound,
            other => other,
        };
        let root = fs::canonicalize(&self.dir)?;
        let real = fs::canonicalize(names.iter().fold(root.clone(), |path, name| path.join(name))).map_err(hide)?;
        // By components: `/srv/www-private` does not start with `/srv/www`.
        let below = real.strip_prefix(&root).map_err(|_| Refused::NotFound)?;
        // A link here was put there just now: it is not followed a second time.
        self.walk(&root, below.iter(), secrets)?.ok_or(Refused::NotFound)
    }

    /// Opens one name after the other, each in the directory before it. What is exchanged for a link meanwhile is not
    /// followed, so this does not leave the root. `None`: there is a link on the way.
    ///
    /// Only a regular file is opened as one: a FIFO would wait, a device might act.
    fn walk<'n>(
        &self,
        root: &Path,
        names: impl Iterator<Item = &'n OsStr>,
        secrets: &[(u64, u64)],
    ) -> Result<Option<Found>, Refused> {
        let mut dir = openat(CWD, root, DIRECTORY, Mode::empty())?;
        let mut names = names.peekable();
        while let Some(name) = names.next() {
            let seen = look_at(&dir, name)?;
            match seen.kind {
                FileType::Symlink => return Ok(None),
                FileType::Directory => {
                    dir = openat(&dir, name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty())?;
                    self.admit(name, &Facts::of(&fstat(&dir)?), secrets)?;
                }
                FileType::RegularFile if names.peek().is_none() => {
                    self.admit(name, &seen, secrets)?;
                    let file = openat(&dir, name, FILE, Mode::empty())?;
                    // Of what was opened, not of what was looked at.
                    let facts = Facts::of(&fstat(&file)?);
                    if facts.kind != FileType::RegularFile {
                        return Err(Refused::Forbidden);
                    }
                    self.admit(name, &facts, secrets)?;
                    return Ok(Some(Found::File(file.into(), facts)));
                }
                _ if names.peek().is_none() => return Err(Refused::Forbidden),
                _ => return Err(Refused::NotFound),
            }
        }
        Ok(Some(Found::Dir(dir)))
    }

    /// The secret files' devices and inodes at this moment: a renewed certificate is another file of the same name. Links
    /// of both kinds to a secret have its numbers.
    fn secrets(&self) -> Vec<(u64, u64)> {
        let secrets = self.shown.secrets.iter();
        secrets.filter_map(|path| fs::metadata(path).ok()).map(|meta| (meta.dev(), meta.ino())).collect()
    }

    /// Returns `true` if it is neither secret nor private. Of the first private one a word is said: a server whose files are
    /// all private would be a riddle.
    fn is_served(&self, name: &OsStr, facts: &Facts, secrets: &[(u64, u64)]) -> bool {
        if secrets.contains(&(facts.device, facts.inode)) {
            return false;
        }
        let served = self.shown.private || !facts.is_private();
        static SAID: AtomicBool = AtomicBool::new(false);
        if !served && !SAID.swap(true, Ordering::Relaxed) {
            log::warn!(
                "{name:?} is not served: only its owner may read it. --serve-private serves such files. This is said once"
            );
        }
        served
    }

    fn admit(&self, name: &OsStr, facts: &Facts, secrets: &[(u64, u64)]) -> Result<(), Refused> {
        if self.is_served(name, facts, secrets) { Ok(()) } else { Err(Refused::Forbidden) }
    }

    /// The entries of a directory that [`find`](Self::find) has found at these names, and that would be served
    /// themselves; `false` if there are more than `most`.
    pub(crate) fn list(
        &self,
        dir: &OwnedFd,
        at: &[OsString],
        most: usize,
    ) -> Result<(Vec<(OsString, Facts)>, bool), Refused> {
        let secrets = self.secrets();
        let mut entries = Vec::new();
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
        for entry in Dir::new(openat(dir, c".", flags, Mode::empty())?)? {
            let entry = entry?;
            let name = OsStr::from_bytes(CStr::to_bytes(entry.file_name()));
            if !self.shows(name) {
                continue;
            }
            if entries.len() == most {
                return Ok((entries, false));
            }
            if let Some(facts) = self.entry(dir, at, name, &secrets)? {
                entries.push((name.to_owned(), facts));
            }
        }
        Ok((entries, true))
    }

    /// `None`: it would not be served.
    fn entry(
        &self,
        dir: &OwnedFd,
        at: &[OsString],
        name: &OsStr,
        secrets: &[(u64, u64)],
    ) -> Result<Option<Facts>, Refused> {
        let found = look_at(dir, name).and_then(|facts| match facts.kind {
            FileType::Symlink => match self.find_by_link(&[at, &[name.to_owned()]].concat(), secrets)? {
                Found::File(_, facts) => Ok(facts),
                Found::Dir(dir) => Ok(Facts::of(&fstat(&dir)?)),
            },
            FileType::RegularFile | FileType::Directory if self.is_served(name, &facts, secrets) => Ok(facts),
            _ => Err(Refused::NotFound),
        });
        match found {
            Ok(facts) => Ok(Some(facts)),
            Err(Refused::Unavailable(code)) => Err(Refused::Unavailable(code)),
            Err(_) => Ok(None),
        }
    }
}

/// What the name itself stands for, links not followed.
fn look_at(dir: impl AsFd, name: impl Arg) -> Result<Facts, Refused> {
    Ok(Facts::of(&statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(path: &str) -> Result<Vec<String>, Refused> {
        Segments::parse(path).map(|s| s.names.into_iter().map(|n| n.into_string().expect("text")).collect())
    }

    #[test]
    fn a_path_is_split_first_and_decoded_once() {
        assert_eq!(names("/"), Ok(vec![]));
        assert_eq!(names("/a"), Ok(vec!["a".into()]));
        assert_eq!(names("/a%20b/c/"), Ok(vec!["a b".into(), "c".into()]));
        assert_eq!(names("/%252e%252e/x"), Ok(vec!["%2e%2e".into(), "x".into()]));
        assert!(!Segments::parse("/a").expect("fine").dir);
        assert!(Segments::parse("/a/").expect("fine").dir && Segments::parse("/").expect("fine").dir);
        assert_eq!(names("/..%5cetc/a\\b"), Ok(vec!["..\\etc".into(), "a\\b".into()]), "the system's names");
        let bytes = Segments::parse("/%ff").expect("fine");
        assert_eq!((bytes.names[0].as_bytes(), &*bytes.encoded()), (&b"\xff"[..], "/%FF"));
    }

    #[test]
    fn what_is_no_path_is_refused() {
        for path in [
            "",
            "*",
            "a",
            "//",
            "//evil.example/",
            "/a//b",
            "/a//",
            "/.",
            "/..",
            "/../etc/passwd",
            "/a/../b",
            "/a/./b",
            "/%2e%2e/etc/passwd",
            "/%2E./x",
            "/..%2fetc",
            "/a%2Fb",
            "/a%00b",
            "/%00",
            "/%",
            "/%2",
            "/%zz",
            "/a%2",
            "/a/..",
            "/a/%2e%2e/",
        ] {
            assert_eq!(names(path), Err(Refused::Malformed), "{path}");
        }
    }

    #[test]
    fn a_path_is_spelled_one_way() {
        let path = Segments::parse("/a%20b/%41:%22<c").expect("fine");
        assert_eq!(path.encoded(), "/a%20b/A%3A%22%3Cc");
    }

    /// What is there must not become a 404 because the system is short of something.
    #[test]
    fn only_what_is_not_there_is_not_found() {
        for (code, want) in [
            (libc::ENOENT, Refused::NotFound),
            (libc::ENOTDIR, Refused::NotFound),
            (libc::ELOOP, Refused::NotFound),
            (libc::ENAMETOOLONG, Refused::NotFound),
            (libc::EILSEQ, Refused::NotFound),
            (libc::EINVAL, Refused::NotFound),
            (libc::EACCES, Refused::Forbidden),
            (libc::EPERM, Refused::Forbidden),
            (libc::EMFILE, Refused::Unavailable(libc::EMFILE)),
            (libc::ENFILE, Refused::Unavailable(libc::ENFILE)),
            (libc::ENOMEM, Refused::Unavailable(libc::ENOMEM)),
            (libc::EIO, Refused::Unavailable(libc::EIO)),
            (libc::ESTALE, Refused::Unavailable(libc::ESTALE)),
        ] {
            assert_eq!(Refused::from(io::Error::from_raw_os_error(code)), want, "{code}");
        }
    }

    #[test]
    fn times_before_1970_and_after_all_time_are_no_trouble() {
        let epoch = SystemTime::UNIX_EPOCH;
        assert_eq!(time(-1, 250_000_000), Some(epoch - Duration::from_millis(750)));
        assert_eq!(time(1, 5), Some(epoch + Duration::new(1, 5)));
        assert_eq!((time(0, 0), time(i64::MAX, 1_000_000_000)), (Some(epoch), None));
        let _ = time(i64::MIN, 0);
    }
}
