//! A page with a file input: the chosen files are stored in a directory.
//!
//!     mkdir -p target/uploads
//!     cargo run --release --example upload -- --directory target/uploads
//!     # in another terminal, or open http://127.0.0.1:8080/:
//!     curl -T Cargo.toml http://127.0.0.1:8080/files/
//!     cmp Cargo.toml target/uploads/Cargo.toml
//!
//! The page sends each file as the body of a PUT, with a few lines of script: this library has no parser for
//! `multipart/form-data`. A body goes through a pipe to a thread, which may block while it writes: memory does not grow
//! with the file. It gets its name when it is complete, and never replaces another file.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use clap::Parser;
use uncork::{Action, Request, Response};

mod common;

const PAGE: &str = r#"<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Upload</title>
<h1>Upload</h1>
<form><input type="file" multiple required> <button>Send</button></form>
<pre></pre>
<script>
document.forms[0].onsubmit = async (event) => {
  event.preventDefault();
  for (const file of document.querySelector("input").files) {
    const sent = fetch("files/" + encodeURIComponent(file.name), { method: "PUT", body: file });
    const text = await sent.then((response) => response.text()).catch(String);
    document.querySelector("pre").append(text.trim() + "\n");
  }
};
</script>
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
        ("PUT", _, Some(name)) => match safe_name(name) {
            Some(name) => receive(req, directory.clone(), name),
            None => Response::text("invalid name\n").with_status(400).into(),
        },
        (_, "/", _) => Response::new(405).header("Allow", "GET, HEAD").into(),
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

/// Receives the body. A thread stores it, and responds.
fn receive(req: &mut Request<'_>, directory: Arc<Path>, name: String) -> Action {
    let (inlet, outlet) = uncork::pipe(PIPE_BUFFER);
    let ticket = req.ticket();
    let work = move || {
        let response = match store(&mut outlet.reader(), &directory, &name) {
            Ok(bytes) => Response::text(format!("{name}: stored {bytes} bytes\n")).with_status(201),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Response::text(format!("{name}: there is a file of that name\n")).with_status(409)
            }
            // The client has disconnected, or the engine responds: a 413 for too many bytes, for example.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return,
            Err(error) => {
                log::warn!("cannot store {name:?}: {error}");
                Response::text(format!("{name}: cannot store the file\n")).with_status(500)
            }
        };
        // An error: the client has disconnected.
        let _ = ticket.respond(response);
    };
    match thread::Builder::new().name("upload".into()).spawn(work) {
        Ok(_) => Action::Receive(Box::new(inlet)),
        Err(_) => Response::text("too many uploads\n").with_status(503).into(),
    }
}

/// Stores a complete body under that name, and an incomplete one not at all. Returns its length.
fn store(body: &mut impl io::Read, directory: &Path, name: &str) -> io::Result<u64> {
    let path = directory.join(name);
    if path.symlink_metadata().is_ok() {
        return Err(io::ErrorKind::AlreadyExists.into()); // before the body is received
    }
    let (temporary, mut file) = Temporary::new(directory)?;
    let length = io::copy(body, &mut file)?;
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
