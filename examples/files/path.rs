//! From a request's path to a file below the root, and to nothing else.
//!
//! ```text
//!   /docs/a%20b.txt ──split at "/", decode each once──▶ ["docs", "a b.txt"] ──below the root──▶ real path ──▶ open
//!                       └─ no "..", "/", "\", NUL, hidden name      └─ symlinks resolved, still below it?
//! ```

use std::{
    ffi::{OsStr, OsString},
    fs::{self, File, Metadata, OpenOptions},
    io,
    os::unix::{
        ffi::{OsStrExt, OsStringExt},
        fs::OpenOptionsExt,
    },
    path::{Path, PathBuf},
};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, percent_encode};

/// What is served, and what of it.
#[derive(Clone)]
pub(crate) struct Root {
    dir: PathBuf,
    hidden: bool,
}

/// What a path leads to.
#[derive(Debug)]
pub(crate) enum Found {
    File(File, Metadata),
    /// The real path of a directory.
    Dir(PathBuf),
}

/// Why a path leads nowhere.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// It breaks the rules for paths.
    Malformed,
    /// There is nothing, or nothing that is to be seen.
    NotFound,
    /// It is there, but the system does not let us read it, or it is neither a file nor a directory.
    Forbidden,
}

impl From<io::Error> for Refused {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::PermissionDenied => Self::Forbidden,
            _ => Self::NotFound,
        }
    }
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

/// Whether it may name one entry of a directory. Backslashes separate elsewhere, and the path may have come through
/// a proxy that thinks so.
fn is_name(name: &[u8]) -> bool {
    !matches!(name, b"" | b"." | b"..") && !name.iter().any(|b| matches!(b, b'/' | b'\\' | 0))
}

impl Root {
    /// # Errors
    /// If it is no directory, or can't be read.
    pub(crate) fn new(dir: &Path, hidden: bool) -> io::Result<Self> {
        let dir = fs::canonicalize(dir)?;
        fs::read_dir(&dir)?;
        Ok(Self { dir, hidden })
    }

    /// Whether a name is served at all: hidden ones only if that was asked for, but for the one that is meant to be
    /// public (RFC 8615).
    pub(crate) fn shows(&self, name: &OsStr) -> bool {
        is_name(name.as_bytes()) && (self.hidden || !name.as_bytes().starts_with(b".") || name == ".well-known")
    }

    /// What these names lead to.
    pub(crate) fn find(&self, segments: &Segments) -> Result<Found, Refused> {
        if !segments.names.iter().all(|name| self.shows(name)) {
            return Err(Refused::NotFound);
        }
        let mut path = self.dir.clone();
        path.extend(&segments.names);
        self.open(&path)
    }

    /// The entry of that name in a directory [`find`](Self::find) has found.
    pub(crate) fn find_in(&self, dir: &Path, name: &str) -> Result<Found, Refused> {
        self.open(&dir.join(name))
    }

    /// What an entry of a listing is: only for what would also be served.
    pub(crate) fn look(&self, entry: &fs::DirEntry) -> Option<Metadata> {
        if !self.shows(&entry.file_name()) {
            return None;
        }
        let kind = entry.file_type().ok()?;
        let metadata = if kind.is_symlink() { self.real(&entry.path()).ok()?.1 } else { entry.metadata().ok()? };
        (metadata.is_file() || metadata.is_dir()).then_some(metadata)
    }

    /// The real path, without symlinks, and what is there. A link that leaves the root leads nowhere, and not a word
    /// about what may be there.
    fn real(&self, path: &Path) -> Result<(PathBuf, Metadata), Refused> {
        let real = fs::canonicalize(path)?;
        // By components: `/srv/www-private` does not start with `/srv/www`.
        if !real.starts_with(&self.dir) {
            return Err(Refused::NotFound);
        }
        let metadata = fs::symlink_metadata(&real)?;
        Ok((real, metadata))
    }

    /// Opens what is there. Only what is a plain file is opened at all: a FIFO would block, a device might do things.
    ///
    /// Between looking and opening, whoever may write below the root can put something else there. `O_NOFOLLOW` and
    /// `O_NONBLOCK` see to it that a link in the last place is not followed and that nothing blocks; against somebody
    /// who exchanges directories for links at that moment only `openat2(2)` with `RESOLVE_BENEATH` would help. Don't
    /// serve what people you distrust write to.
    fn open(&self, path: &Path) -> Result<Found, Refused> {
        let (real, metadata) = self.real(path)?;
        if metadata.is_dir() {
            return Ok(Found::Dir(real));
        }
        if !metadata.is_file() {
            return Err(Refused::Forbidden);
        }
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
        let file = OpenOptions::new().read(true).custom_flags(flags).open(real)?;
        // Of what was opened, not of what was looked at.
        let metadata = file.metadata()?;
        if metadata.is_file() { Ok(Found::File(file, metadata)) } else { Err(Refused::Forbidden) }
    }
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
            "/..%5cetc",
            "/a\\b",
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
}
