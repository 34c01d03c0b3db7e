//! A form with a file input: the chosen files are stored in a directory.
//!
//!     mkdir -p target/uploads
//!     cargo run --release --example upload -- --directory target/uploads
//!     # in another terminal, or open http://127.0.0.1:8080/:
//!     curl -F file=@Cargo.toml http://127.0.0.1:8080/
//!     curl -T README.md http://127.0.0.1:8080/files/
//!     cmp Cargo.toml target/uploads/Cargo.toml
//!     cmp README.md target/uploads/README.md
//!
//! A browser sends the form as `multipart/form-data`, without a script; `curl -T` sends one file as the body of a PUT.
//! A body goes through a pipe to a thread, which may block while it writes: memory does not grow with the file. A file
//! gets its name when it is complete, and never replaces another one.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use clap::Parser;
use uncork::{
    Action, PipeReader, Request, Response,
    form::{FormError, FormLimits, FormParser, FormReader},
};

mod common;

const PAGE: &str = r#"<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Upload</title>
<h1>Upload</h1>
<form method="post" enctype="multipart/form-data">
<input type="file" name="file" multiple required> <button>Send</button>
</form>
"#;

/// Capacity of the pipe of one upload, in bytes.
const PIPE_BUFFER: usize = 256 * 1024;

/// Stores the files that a browser or curl sends.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// Directory of the stored files
    #[arg(long, value_name = "DIR")]
    directory: PathBuf,

    #[command(flatten)]
    serve: common::ServeArgs,
}

fn main() -> ExitCode {
    let Args { directory, serve } = Args::parse();
    if !directory.is_dir() {
        eprintln!("error: --directory {}: not a directory", directory.display());
        return ExitCode::from(2);
    }
    let directory: Arc<Path> = directory.into();
    common::serve(&serve, move |req: &mut Request<'_>| respond(req, &directory))
}

fn respond(req: &mut Request<'_>, directory: &Arc<Path>) -> Action {
    let path = req.decoded_path();
    let name = path.as_deref().and_then(|path| path.strip_prefix("/files/"));
    match (req.method(), req.path(), name) {
        ("GET" | "HEAD", "/", _) => Response::html(PAGE).into(),
        ("POST", "/", _) => match FormParser::of_request(req, FormLimits::default()) {
            Ok(parser) => receive(req, directory.clone(), |body, directory| store_form(parser, body, directory)),
            Err(error) => Response::from(error).into(),
        },
        ("PUT", _, Some(name)) => match safe_name(name) {
            Some(name) => receive(req, directory.clone(), move |body, directory| store_put(&name, body, directory)),
            None => Response::text("invalid name\n").with_status(400).into(),
        },
        (_, "/", _) => Response::new(405).header("Allow", "GET, HEAD, POST").into(),
        (_, _, Some(_)) => Response::new(405).header("Allow", "PUT").into(),
        _ => Response::text("not found\n").with_status(404).into(),
    }
}

/// Returns a name of one file that is in the directory itself and not hidden; `None` if nothing is left of it.
fn safe_name(name: &str) -> Option<String> {
    let is_safe = |c: char| c.is_alphanumeric() || " -_.,+()".contains(c);
    let name: String = name.chars().map(|c| if is_safe(c) { c } else { '_' }).collect();
    let name = name.trim_matches(['.', ' ']);
    // Most file systems allow 255 bytes.
    (!name.is_empty() && name.len() <= 255).then(|| name.to_owned())
}

/// Receives the body. A thread calls `work` with it, and responds.
fn receive(
    req: &mut Request<'_>,
    directory: Arc<Path>,
    work: impl FnOnce(&mut PipeReader, &Path) -> io::Result<Response> + Send + 'static,
) -> Action {
    let (inlet, outlet) = uncork::pipe(PIPE_BUFFER);
    let ticket = req.ticket();
    let work = move || {
        let response = match work(&mut outlet.reader(), &directory) {
            Ok(response) => response,
            // The client has disconnected, or the engine responds: a 413 for too many bytes, for example.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return,
            Err(error) => match FormError::of_io(&error) {
                Some(error) => error.into(),
                None => {
                    log::warn!("cannot store an upload: {error}");
                    Response::text("cannot store the file\n").with_status(500)
                }
            },
        };
        // An error: the client has disconnected.
        let _ = ticket.respond(response);
    };
    match thread::Builder::new().name("upload".into()).spawn(work) {
        Ok(_) => Action::Receive(Box::new(inlet)),
        Err(_) => Response::text("too many uploads\n").with_status(503).into(),
    }
}

/// Stores the body of a PUT.
fn store_put(name: &str, body: &mut impl Read, directory: &Path) -> io::Result<Response> {
    let (status, line) = store(name, body, directory)?;
    Ok(Response::text(line).with_status(status))
}

/// Stores the files of a form, one after the other. The response has a line for each of them, and its status is that of
/// the first that cannot be stored.
fn store_form(parser: FormParser, body: &mut impl Read, directory: &Path) -> io::Result<Response> {
    let mut form = FormReader::new(parser, body);
    let (mut failure, mut lines) = (None, String::new());
    while let Some(field) = form.next_field()? {
        // Empty if the user has chosen no file.
        let Some(name) = field.filename().filter(|name| !name.is_empty()) else { continue };
        // Old browsers send a path.
        let name = name.rsplit(['/', '\\']).next().unwrap_or_default();
        let (status, line) = match safe_name(name) {
            Some(name) => store(&name, &mut form, directory)?,
            None => (400, "invalid name\n".to_owned()),
        };
        lines += &line;
        if status != 201 {
            failure.get_or_insert(status);
        }
    }
    if lines.is_empty() {
        return Ok(Response::text("the form has no file\n").with_status(400));
    }
    Ok(Response::text(lines).with_status(failure.unwrap_or(201)))
}

/// Stores a file, and returns a status and a line about it.
fn store(name: &str, content: &mut impl Read, directory: &Path) -> io::Result<(u16, String)> {
    match write(name, content, directory) {
        Ok(bytes) => Ok((201, format!("{name}: stored {bytes} bytes\n"))),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            Ok((409, format!("{name}: there is a file of that name\n")))
        }
        Err(error) => Err(error),
    }
}

/// Stores a complete file under that name, and an incomplete one not at all. Returns its length.
fn write(name: &str, content: &mut impl Read, directory: &Path) -> io::Result<u64> {
    let path = directory.join(name);
    if path.symlink_metadata().is_ok() {
        return Err(io::ErrorKind::AlreadyExists.into()); // before the file is received
    }
    let (temporary, mut file) = Temporary::new(directory)?;
    let length = io::copy(content, &mut file)?;
    file.sync_all()?;
    // Unlike a renaming, a new link does not replace a file that was stored meanwhile.
    fs::hard_link(&temporary.0, path)?;
    Ok(length)
}

/// The first name of a file, which is removed at the end.
struct Temporary(PathBuf);

impl Temporary {
    fn new(directory: &Path) -> io::Result<(Self, File)> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        loop {
            let name = format!(".upload-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
            let path = directory.join(name);
            match File::create_new(&path) {
                Ok(file) => return Ok((Self(path), file)),
                // Of a process that was killed.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.0) {
            log::warn!("cannot remove {}: {error}", self.0.display());
        }
    }
}
