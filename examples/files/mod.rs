//! A handler that serves a directory: files with ranges and conditional requests, and listings. `fileserver` uses it on
//! a listener, `origin` through a tunnel.
//!
//! Opening a file may wait for the disk, and then the other connections of that loop wait, too. Other file servers
//! without threads for this do the same.

pub(crate) mod conditions;
pub(crate) mod listing;
pub(crate) mod path;

use std::{
    fs::File,
    io::{self, Read as _},
    os::unix::fs::FileExt,
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
    time::SystemTime,
};

use uncork::{Produce, Produced, Request, Response, Tx};

pub(crate) use self::path::Shown;
use self::{
    conditions::{Part, Validators, Verdict},
    path::{Facts, Found, PathError, Root, Segments},
};

/// Serves the files below a directory.
#[derive(Clone, Debug)]
pub(crate) struct Files(Root);

impl Files {
    /// Opens a directory.
    ///
    /// # Errors
    /// If it is not a directory, or cannot be read.
    pub(crate) fn new(dir: &Path, shown: Shown) -> io::Result<Self> {
        Root::new(dir, shown).map(Self)
    }

    pub(crate) fn respond(&self, req: &Request<'_>) -> Response {
        respond(&self.0, req).header("X-Content-Type-Options", "nosniff")
    }
}

const ALLOW: &str = "GET, HEAD, OPTIONS";

fn respond(root: &Root, req: &Request<'_>) -> Response {
    match req.method() {
        "GET" | "HEAD" => get(root, req).unwrap_or_else(|error| match error {
            PathError::Malformed => Response::text("Invalid path.\n").with_status(400),
            PathError::NotFound => Response::text("Not found.\n").with_status(404),
            PathError::Forbidden => Response::text("Access denied.\n").with_status(403),
            PathError::Unavailable(code) => unavailable(code, req),
        }),
        "OPTIONS" => Response::new(204).header("Allow", ALLOW),
        _ => Response::text("Only GET, HEAD and OPTIONS are supported.\n").with_status(405).header("Allow", ALLOW),
    }
}

/// Returns 503 for a file that the system cannot open now. A 404 would be wrong: caches store it.
#[cold]
fn unavailable(code: i32, req: &Request<'_>) -> Response {
    // The minute of the last log line, since every request meets the same error.
    static LOGGED: AtomicU64 = AtomicU64::new(u64::MAX);
    let minute = req.now().wall.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs() / 60);
    if LOGGED.swap(minute, Ordering::Relaxed) != minute {
        log::warn!("cannot open {:?}: {}", req.path(), io::Error::from_raw_os_error(code));
    }
    Response::text("The file cannot be read at the moment.\n").with_status(503).header("Retry-After", "1")
}

fn get(root: &Root, req: &Request<'_>) -> Result<Response, PathError> {
    let at = Segments::parse(req.path())?;
    match root.find(&at.names)? {
        Found::File(..) if at.dir => Err(PathError::NotFound),
        Found::File(file, facts) => {
            let name = at.names.last().map_or(Path::new(""), Path::new);
            Ok(send(req, file, &facts, name)?)
        }
        Found::Dir(_) if !at.dir => {
            // Encoded here, so that it begins with one slash and a name and cannot lead to another host.
            let query = req.query().map_or(String::new(), |query| format!("?{query}"));
            let to = format!("{}/{query}", at.encoded());
            Ok(Response::text(format!("Moved to {to}\n")).with_status(301).header("Location", to))
        }
        Found::Dir(dir) => match root.find(&[&*at.names, &["index.html".into()]].concat()) {
            Ok(Found::File(file, facts)) => Ok(send(req, file, &facts, "index.html".as_ref())?),
            Err(PathError::NotFound) | Ok(Found::Dir(_)) => {
                // A listing has no validators, so the conditions that need one are false.
                let response = match conditional_response(req, &Validators::default()) {
                    Some(response) => response,
                    None => Response::new(200)
                        .header("Content-Type", "text/html; charset=utf-8")
                        .header("Content-Security-Policy", listing::POLICY)
                        .body(listing::page(root, &dir, &at)?),
                };
                // A 304 must have it, too (RFC 9110 §15.4.5).
                Ok(response.header("Cache-Control", "no-cache"))
            }
            Err(error) => Err(error),
        },
    }
}

/// Returns 304 or 412 if the request's conditions require it.
fn conditional_response(req: &Request<'_>, validators: &Validators) -> Option<Response> {
    match conditions::judge(req.headers(), validators) {
        Verdict::Go => None,
        // Only the fields that guide caches (RFC 9110 §15.4.5).
        Verdict::NotModified => Some(validated(Response::new(304), validators)),
        Verdict::Failed => Some(validated(Response::text("The file has changed.\n").with_status(412), validators)),
    }
}

fn validated(mut response: Response, validators: &Validators) -> Response {
    if let Some(etag) = &validators.etag {
        response = response.header("ETag", etag);
    }
    if let Some(date) = validators.modified.and_then(conditions::http_date) {
        response = response.header("Last-Modified", date);
    }
    response
}

fn send(req: &Request<'_>, file: File, facts: &Facts, name: &Path) -> io::Result<Response> {
    if !facts.has_blocks && is_unmeasured(&file, facts.len)? {
        let response = conditional_response(req, &Validators::default());
        let content = Unmeasured(file);
        return Ok(response
            .unwrap_or_else(|| Response::stream(content).header("Content-Type", content_type(name)))
            .header("Cache-Control", "no-store"));
    }
    let len = facts.len;
    let validators = Validators::new(len, facts.modified, facts.inode, req.now().wall);
    if let Some(response) = conditional_response(req, &validators) {
        return Ok(response);
    }
    // Ranges are defined for GET alone (RFC 9110 §14.2).
    let part = if req.method() == "GET" { conditions::part(req.headers(), &validators, len) } else { Part::Whole };
    let response = match part {
        Part::Whole => Response::file(file, 0..len),
        Part::Range(from, to) => Response::file(file, from..to)
            .with_status(206)
            .header("Content-Range", format!("bytes {from}-{}/{len}", to - 1)),
        Part::None => {
            let text = format!("The range is outside of the file, which has {len} bytes.\n");
            return Ok(Response::text(text).with_status(416).header("Content-Range", format!("bytes */{len}")));
        }
    };
    let response = validated(response, &validators).header("Accept-Ranges", "bytes");
    Ok(response.header("Content-Type", content_type(name)))
}

/// Maximum length of a file without disk blocks that is checked by reading it: more than a page of `/sys`.
const CHECKED_MAX: u64 = 64 * 1024;

/// Returns `true` if the length of a file is not that of its content. The kernel generates the content of `/proc` and
/// `/sys` when it is read; their files have the length 0 or that of a page.
#[cold]
fn is_unmeasured(file: &File, len: u64) -> io::Result<bool> {
    if len > CHECKED_MAX {
        return Ok(false); // a file of holes
    }
    let (mut first, mut read) = (vec![0; len as usize + 1], 0);
    while read < first.len() {
        match file.read_at(&mut first[read..], read as u64) {
            Ok(0) => break,
            Ok(n) => read += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(read as u64 != len)
}

/// A file of unknown length, read at the client's pace.
struct Unmeasured(File);

impl Produce for Unmeasured {
    fn produce(&mut self, out: &mut Tx<'_>) -> Produced {
        let mut piece = [0; 8 * 1024];
        while out.room() > 0 {
            let n = out.room().min(piece.len());
            match self.0.read(&mut piece[..n]) {
                Ok(0) => return Produced::End,
                Ok(n) => drop(out.write(&piece[..n])),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Produced::Abort, // the client has received a part
            }
        }
        Produced::More
    }
}

fn content_type(name: &Path) -> String {
    let mime = mime_guess::from_path(name).first_or_octet_stream();
    // RFC 9239 §6: JavaScript has this one type, modules too.
    if matches!(mime.subtype().as_str(), "javascript" | "x-javascript" | "ecmascript") {
        return "text/javascript; charset=utf-8".to_owned();
    }
    // Text in another encoding is rare, and without a charset browsers guess.
    if mime.type_() == mime_guess::mime::TEXT { format!("{mime}; charset=utf-8") } else { mime.to_string() }
}
