//! Opens the file of a request's path, only below the root.
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

/// The choice of the files of a directory that are served.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shown {
    /// `true` to serve names that begin with a dot. (`.well-known` is always served, RFC 8615.)
    pub(crate) hidden: bool,
    /// `true` to serve files that only their owner may read.
    pub(crate) private: bool,
    /// Files that are never served: the program's own keys, certificates and tokens.
    pub(crate) secrets: Vec<PathBuf>,
}

/// A directory, and the choice of its files that are served.
#[derive(Clone, Debug)]
pub(crate) struct Root {
    dir: PathBuf,
    shown: Arc<Shown>,
}

/// The file or directory of a path.
#[derive(Debug)]
pub(crate) enum Found {
    File(File, Facts),
    Dir(OwnedFd),
}

/// The error of a path that cannot be served.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum PathError {
    /// The path is invalid.
    Malformed,
    /// The file does not exist, or is hidden.
    NotFound,
    /// The file exists, but is private, not readable, or neither a file nor a directory.
    Forbidden,
    /// The system failed with this error (too many open files, for instance). The file may exist.
    Unavailable(i32),
}

impl From<io::Error> for PathError {
    fn from(error: io::Error) -> Self {
        let code = error.raw_os_error().unwrap_or(libc::EIO);
        match code {
            libc::ENOENT | libc::ENOTDIR | libc::ELOOP | libc::ENAMETOOLONG => Self::NotFound,
            // This file system does not allow such a name, for instance one that is not UTF-8.
            libc::EILSEQ | libc::EINVAL => Self::NotFound,
            libc::EACCES | libc::EPERM => Self::Forbidden,
            code => Self::Unavailable(code),
        }
    }
}

impl From<rustix::io::Errno> for PathError {
    fn from(error: rustix::io::Errno) -> Self {
        io::Error::from(error).into()
    }
}

/// Metadata of a file or directory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts {
    kind: FileType,
    mode: u32,
    device: u64,
    pub(crate) inode: u64,
    /// In bytes.
    pub(crate) len: u64,
    /// `true` if the file has blocks on a disk. Files that the kernel generates have none, and neither have empty ones.
    pub(crate) has_blocks: bool,
    /// `None` if the time cannot be represented.
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

    /// Returns `true` if only the owner may read the file, or list or enter the directory.
    fn is_private(&self) -> bool {
        self.mode & if self.is_dir() { 0o055 } else { 0o044 } == 0
    }
}

/// Converts seconds since (or before) 1970 and nanoseconds, which always count forward.
fn time(seconds: i64, nanos: u64) -> Option<SystemTime> {
    let whole = Duration::from_secs(seconds.unsigned_abs());
    let second = match seconds < 0 {
        true => SystemTime::UNIX_EPOCH.checked_sub(whole),
        false => SystemTime::UNIX_EPOCH.checked_add(whole),
    };
    second?.checked_add(Duration::from_nanos(nanos))
}

/// The path of a request, split into names.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Segments {
    pub(crate) names: Vec<OsString>,
    /// `true` if the path ends with "/": it names a directory.
    pub(crate) dir: bool,
}

impl Segments {
    /// Parses the path of an origin-form target. Each segment is decoded once, after the path was split: an
    /// encoded slash never becomes a separator, and `%252e` is a name with a percent sign in it.
    pub(crate) fn parse(path: &str) -> Result<Self, PathError> {
        let rest = path.strip_prefix('/').ok_or(PathError::Malformed)?;
        if rest.is_empty() {
            return Ok(Self { names: Vec::new(), dir: true });
        }
        let (rest, dir) = rest.strip_suffix('/').map_or((rest, false), |rest| (rest, true));
        let mut names = Vec::new();
        // Empty segments are invalid: `//host/` must not become a redirect to another host.
        for segment in rest.split('/') {
            let name = decode(segment)?;
            if !is_name(&name) {
                return Err(PathError::Malformed);
            }
            names.push(OsString::from_vec(name));
        }
        Ok(Self { names, dir })
    }

    /// Returns the encoded path, in the one spelling that redirects use.
    pub(crate) fn encoded(&self) -> String {
        self.names.iter().fold(String::new(), |path, name| path + "/" + &encode(name))
    }
}

fn decode(segment: &str) -> Result<Vec<u8>, PathError> {
    let bytes = segment.as_bytes();
    let hex = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_hexdigit);
    if (0..bytes.len()).any(|at| bytes[at] == b'%' && !(hex(at + 1) && hex(at + 2))) {
        return Err(PathError::Malformed);
    }
    Ok(percent_decode_str(segment).collect())
}

/// Encodes a segment for a link; no character of the result is special in a URL or in HTML.
pub(crate) fn encode(name: &OsStr) -> String {
    const SET: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
    percent_encode(name.as_bytes(), SET).to_string()
}

/// Returns `true` if this is the name of a directory entry. A backslash is an ordinary character.
fn is_name(name: &[u8]) -> bool {
    !matches!(name, b"" | b"." | b"..") && !name.iter().any(|b| matches!(b, b'/' | 0))
}

/// Opens a directory only for lookups where the system allows it: it need not be readable.
#[cfg(any(target_os = "linux", target_os = "android"))]
const DIRECTORY: OFlags = OFlags::DIRECTORY.union(OFlags::PATH).union(OFlags::CLOEXEC);
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const DIRECTORY: OFlags = OFlags::DIRECTORY.union(OFlags::CLOEXEC);

/// Does not follow links, wait for the other end of a FIFO, or acquire a controlling terminal.
const FILE: OFlags = OFlags::NOFOLLOW.union(OFlags::NONBLOCK).union(OFlags::NOCTTY).union(OFlags::CLOEXEC);

impl Root {
    /// Opens a directory.
    ///
    /// # Errors
    /// If it is not a directory, or cannot be read.
    pub(crate) fn new(dir: &Path, shown: Shown) -> io::Result<Self> {
        fs::read_dir(dir)?;
        Ok(Self { dir: std::path::absolute(dir)?, shown: Arc::new(shown) })
    }

    /// Returns `true` if files of this name are served.
    pub(crate) fn shows(&self, name: &OsStr) -> bool {
        let name = name.as_bytes();
        is_name(name) && (self.shown.hidden || !name.starts_with(b".") || name == b".well-known")
    }

    /// Finds the file or directory with these names.
    pub(crate) fn find(&self, names: &[OsString]) -> Result<Found, PathError> {
        if !names.iter().all(|name| self.shows(name)) {
            return Err(PathError::NotFound);
        }
        let secrets = self.secrets();
        match self.walk(&self.dir, names.iter().map(OsString::as_os_str), &secrets)? {
            Some(found) => Ok(found),
            None => self.find_by_link(names, &secrets),
        }
    }

    /// Finds a file whose path has a symbolic link. The target must be below the root, too. The response reveals
    /// nothing about targets outside.
    #[cold]
    fn find_by_link(&self, names: &[OsString], secrets: &[(u64, u64)]) -> Result<Found, PathError> {
        let hide = |error: io::Error| match PathError::from(error) {
            PathError::Forbidden => PathError::NotFound,
            other => other,
        };
        let root = fs::canonicalize(&self.dir)?;
        let real = fs::canonicalize(names.iter().fold(root.clone(), |path, name| path.join(name))).map_err(hide)?;
        // By components: `/srv/www-private` does not start with `/srv/www`.
        let below = real.strip_prefix(&root).map_err(|_| PathError::NotFound)?;
        // A link in the real path was created just now; it is not followed.
        self.walk(&root, below.iter(), secrets)?.ok_or(PathError::NotFound)
    }

    /// Opens one name after the other, each in the directory before it. It does not follow links, even ones that
    /// replace a directory meanwhile, so it cannot leave the root. Returns `None` if there is a link in the path.
    ///
    /// Only regular files are opened: a FIFO would block, and opening a device may have effects.
    fn walk<'n>(
        &self,
        root: &Path,
        names: impl Iterator<Item = &'n OsStr>,
        secrets: &[(u64, u64)],
    ) -> Result<Option<Found>, PathError> {
        let mut dir = openat(CWD, root, DIRECTORY, Mode::empty())?;
        let mut names = names.peekable();
        while let Some(name) = names.next() {
            let seen = metadata(&dir, name)?;
            match seen.kind {
                FileType::Symlink => return Ok(None),
                FileType::Directory => {
                    dir = openat(&dir, name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty())?;
                    self.admit(name, &Facts::of(&fstat(&dir)?), secrets)?;
                }
                FileType::RegularFile if names.peek().is_none() => {
                    self.admit(name, &seen, secrets)?;
                    let file = openat(&dir, name, FILE, Mode::empty())?;
                    // From the opened file: the name may have been replaced meanwhile.
                    let facts = Facts::of(&fstat(&file)?);
                    if facts.kind != FileType::RegularFile {
                        return Err(PathError::Forbidden);
                    }
                    self.admit(name, &facts, secrets)?;
                    return Ok(Some(Found::File(file.into(), facts)));
                }
                _ if names.peek().is_none() => return Err(PathError::Forbidden),
                _ => return Err(PathError::NotFound),
            }
        }
        Ok(Some(Found::Dir(dir)))
    }

    /// Returns device and inode of each secret file. They are read each time, since a renewed certificate is another
    /// file of the same name. Hard and symbolic links to a secret have the same numbers.
    fn secrets(&self) -> Vec<(u64, u64)> {
        let secrets = self.shown.secrets.iter();
        secrets.filter_map(|path| fs::metadata(path).ok()).map(|meta| (meta.dev(), meta.ino())).collect()
    }

    /// Returns `true` if the file is neither secret nor private. The first private file is logged, so that an operator
    /// learns the reason for missing files.
    fn is_served(&self, name: &OsStr, facts: &Facts, secrets: &[(u64, u64)]) -> bool {
        if secrets.contains(&(facts.device, facts.inode)) {
            return false;
        }
        let served = self.shown.private || !facts.is_private();
        static LOGGED: AtomicBool = AtomicBool::new(false);
        if !served && !LOGGED.swap(true, Ordering::Relaxed) {
            log::warn!(
                "{name:?} is not served: only its owner may read it (--serve-private serves such files; logged once)"
            );
        }
        served
    }

    fn admit(&self, name: &OsStr, facts: &Facts, secrets: &[(u64, u64)]) -> Result<(), PathError> {
        if self.is_served(name, facts, secrets) { Ok(()) } else { Err(PathError::Forbidden) }
    }

    /// Returns the entries of a directory that are served themselves, at most `max`, and `false` if there are more.
    /// `dir` is the result of [`find`](Self::find) for the names in `at`.
    pub(crate) fn list(
        &self,
        dir: &OwnedFd,
        at: &[OsString],
        max: usize,
    ) -> Result<(Vec<(OsString, Facts)>, bool), PathError> {
        let secrets = self.secrets();
        let mut entries = Vec::new();
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
        for entry in Dir::new(openat(dir, c".", flags, Mode::empty())?)? {
            let entry = entry?;
            let name = OsStr::from_bytes(CStr::to_bytes(entry.file_name()));
            if !self.shows(name) {
                continue;
            }
            if entries.len() == max {
                return Ok((entries, false));
            }
            if let Some(facts) = self.entry(dir, at, name, &secrets)? {
                entries.push((name.to_owned(), facts));
            }
        }
        Ok((entries, true))
    }

    /// Returns the metadata of an entry, or `None` if it is not served.
    fn entry(
        &self,
        dir: &OwnedFd,
        at: &[OsString],
        name: &OsStr,
        secrets: &[(u64, u64)],
    ) -> Result<Option<Facts>, PathError> {
        let found = metadata(dir, name).and_then(|facts| match facts.kind {
            FileType::Symlink => match self.find_by_link(&[at, &[name.to_owned()]].concat(), secrets)? {
                Found::File(_, facts) => Ok(facts),
                Found::Dir(dir) => Ok(Facts::of(&fstat(&dir)?)),
            },
            FileType::RegularFile | FileType::Directory if self.is_served(name, &facts, secrets) => Ok(facts),
            _ => Err(PathError::NotFound),
        });
        match found {
            Ok(facts) => Ok(Some(facts)),
            Err(PathError::Unavailable(code)) => Err(PathError::Unavailable(code)),
            Err(_) => Ok(None),
        }
    }
}

/// Returns the metadata of a name, without following links.
fn metadata(dir: impl AsFd, name: impl Arg) -> Result<Facts, PathError> {
    Ok(Facts::of(&statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(path: &str) -> Result<Vec<String>, PathError> {
        Segments::parse(path).map(|s| s.names.into_iter().map(|n| n.into_string().expect("text")).collect())
    }

    #[test]
    fn a_path_is_split_first_and_decoded_once() {
        assert_eq!(names("/"), Ok(vec![]));
        assert_eq!(names("/a"), Ok(vec!["a".into()]));
        assert_eq!(names("/a%20b/c/"), Ok(vec!["a b".into(), "c".into()]));
        assert_eq!(names("/%252e%252e/x"), Ok(vec!["%2e%2e".into(), "x".into()]));
        assert!(!Segments::parse("/a").expect("a valid path").dir);
        assert!(Segments::parse("/a/").expect("a valid path").dir && Segments::parse("/").expect("a valid path").dir);
        assert_eq!(
            names("/..%5cetc/a\\b"),
            Ok(vec!["..\\etc".into(), "a\\b".into()]),
            "a backslash is an ordinary character"
        );
        let bytes = Segments::parse("/%ff").expect("a valid path");
        assert_eq!((bytes.names[0].as_bytes(), &*bytes.encoded()), (&b"\xff"[..], "/%FF"));
    }

    #[test]
    fn invalid_paths_are_rejected() {
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
            assert_eq!(names(path), Err(PathError::Malformed), "{path}");
        }
    }

    #[test]
    fn a_path_has_one_spelling() {
        let path = Segments::parse("/a%20b/%41:%22<c").expect("a valid path");
        assert_eq!(path.encoded(), "/a%20b/A%3A%22%3Cc");
    }

    /// An existing file must not become a 404 because the system lacks a resource.
    #[test]
    fn only_a_missing_file_is_not_found() {
        for (code, expected) in [
            (libc::ENOENT, PathError::NotFound),
            (libc::ENOTDIR, PathError::NotFound),
            (libc::ELOOP, PathError::NotFound),
            (libc::ENAMETOOLONG, PathError::NotFound),
            (libc::EILSEQ, PathError::NotFound),
            (libc::EINVAL, PathError::NotFound),
            (libc::EACCES, PathError::Forbidden),
            (libc::EPERM, PathError::Forbidden),
            (libc::EMFILE, PathError::Unavailable(libc::EMFILE)),
            (libc::ENFILE, PathError::Unavailable(libc::ENFILE)),
            (libc::ENOMEM, PathError::Unavailable(libc::ENOMEM)),
            (libc::EIO, PathError::Unavailable(libc::EIO)),
            (libc::ESTALE, PathError::Unavailable(libc::ESTALE)),
        ] {
            assert_eq!(PathError::from(io::Error::from_raw_os_error(code)), expected, "{code}");
        }
    }

    #[test]
    fn times_out_of_range_do_not_panic() {
        let epoch = SystemTime::UNIX_EPOCH;
        assert_eq!(time(-1, 250_000_000), Some(epoch - Duration::from_millis(750)));
        assert_eq!(time(1, 5), Some(epoch + Duration::new(1, 5)));
        assert_eq!((time(0, 0), time(i64::MAX, 1_000_000_000)), (Some(epoch), None));
        let _ = time(i64::MIN, 0);
    }
}
