//! A directory, as a handler: files with ranges and conditional requests, and listings. What `fileserver` serves on a
//! listener, `origin` serves through a tunnel.
//!
//! Opening a file may wait for the disk, and the other connections of that loop with it, as in other file servers that
//! don't keep threads for this.

pub(crate) mod conditions;
pub(crate) mod listing;
pub(crate) mod path;

use std::{
    fs::{File, Metadata},
    io,
    os::unix::fs::MetadataExt,
    path::Path,
    time::SystemTime,
};

use uncork::{Request, Response};

use self::{
    conditions::{Part, Validators, Verdict},
    path::{Found, Refused, Root, Segments},
};

/// Serves what is below a directory.
#[derive(Clone)]
pub(crate) struct Files(Root);

impl Files {
    /// What begins with a dot is served if it is `hidden` that is asked for. (`.well-known` in any case.)
    pub(crate) fn new(dir: &Path, hidden: bool) -> io::Result<Self> {
        Root::new(dir, hidden).map(Self)
    }

    pub(crate) fn respond(&self, req: &Request<'_>) -> Response {
        respond(&self.0, req).header("X-Content-Type-Options", "nosniff")
    }
}

const ALLOW: &str = "GET, HEAD, OPTIONS";

fn respond(root: &Root, req: &Request<'_>) -> Response {
    match req.method() {
        "GET" | "HEAD" => get(root, req).unwrap_or_else(|why| match why {
            Refused::Malformed => Response::text("This is no path of a file.\n").status(400),
            Refused::NotFound => Response::text("There is nothing here.\n").status(404),
            Refused::Forbidden => Response::text("This is not for you.\n").status(403),
        }),
        "OPTIONS" => Response::new(204).header("Allow", ALLOW),
        _ => Response::text("Files are only read here.\n").status(405).header("Allow", ALLOW),
    }
}

fn get(root: &Root, req: &Request<'_>) -> Result<Response, Refused> {
    let at = Segments::parse(req.path())?;
    match root.find(&at)? {
        Found::File(..) if at.dir => Err(Refused::NotFound),
        Found::File(file, facts) => {
            let name = at.names.last().map_or(Path::new(""), Path::new);
            Ok(send(req, file, &facts, name)?)
        }
        Found::Dir(_) if !at.dir => {
            // Spelled by us, so that it begins with one slash and a name: never a way to another host.
            let query = req.query().map_or(String::new(), |query| format!("?{query}"));
            let to = format!("{}/{query}", at.encoded());
            Ok(Response::text(format!("It is over there: {to}\n")).status(301).header("Location", to))
        }
        Found::Dir(dir) => match root.find_in(&dir, "index.html") {
            Ok(Found::File(file, facts)) => Ok(send(req, file, &facts, "index.html".as_ref())?),
            Err(Refused::Forbidden) => Err(Refused::Forbidden),
            _ => Ok(Response::new(200)
                .header("Content-Type", "text/html; charset=utf-8")
                .header("Content-Security-Policy", listing::POLICY)
                .header("Cache-Control", "no-cache")
                .body(listing::page(root, &dir, &at)?)),
        },
    }
}

fn send(req: &Request<'_>, file: File, facts: &Metadata, name: &Path) -> io::Result<Response> {
    let len = facts.len();
    let modified = facts.modified()?.max(SystemTime::UNIX_EPOCH);
    let validators = Validators::new(len, modified, facts.ino(), req.now().wall);
    let described = |response: Response| {
        response
            .header("ETag", &validators.etag)
            .header("Last-Modified", httpdate::fmt_http_date(validators.modified))
            .header("Accept-Ranges", "bytes")
    };
    match conditions::judge(req.headers(), &validators) {
        Verdict::Go => {}
        Verdict::NotModified => return Ok(described(Response::new(304))),
        Verdict::Failed => return Ok(described(Response::text("It has changed.\n").status(412))),
    }
    // Ranges are defined for GET alone (RFC 9110 §14.2).
    let part = if req.method() == "GET" { conditions::part(req.headers(), &validators, len) } else { Part::Whole };
    let response = match part {
        Part::Whole => Response::file(file, 0..len),
        Part::Range(from, to) => {
            Response::file(file, from..to).status(206).header("Content-Range", format!("bytes {from}-{}/{len}", to - 1))
        }
        Part::None => {
            let words = format!("It has {len} bytes, and none of these.\n");
            return Ok(Response::text(words).status(416).header("Content-Range", format!("bytes */{len}")));
        }
    };
    Ok(described(response).header("Content-Type", content_type(name)))
}

fn content_type(name: &Path) -> String {
    let mime = mime_guess::from_path(name).first_or_octet_stream();
    // What isn't UTF-8 by now is rare, and what has no charset is guessed at by browsers.
    if mime.type_() == mime_guess::mime::TEXT { format!("{mime}; charset=utf-8") } else { mime.to_string() }
}
