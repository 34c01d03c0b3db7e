//! Serves a directory.
//!
//!     cargo run --release --example fileserver -- --root .
//!     # in another terminal:
//!     curl http://127.0.0.1:8080/
//!     curl http://127.0.0.1:8080/Cargo.toml -r 0-99 -i
//!
//! It has listings, content types, ranges and conditional requests, and no path leads out of the root
//! (`../files/path.rs`). On a plain connection the kernel sends files itself; their bytes do not pass through this
//! process.
//!
//! Files that only their owner may read are not served (unless `--serve-private` is set). Neither are the keys and
//! certificates that the flags name, nor links to them.
//!
//! Opening a file may wait for the disk, and then the other connections of that loop wait, too. Use
//! `--mode thread-per-connection` for slow file systems.

use std::{path::PathBuf, process::ExitCode};

use clap::Parser;
use uncork::Request;

use self::{
    common::Failure,
    files::{Files, Shown},
};

#[path = "../common/mod.rs"]
mod common;
#[path = "../files/mod.rs"]
mod files;

/// Serves a directory: files with ranges and conditional requests, and listings.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// Directory to serve
    #[arg(long, value_name = "DIR", default_value = ".")]
    root: PathBuf,
    /// Serve files whose name begins with a dot, too (`.well-known` is always served)
    #[arg(long)]
    hidden: bool,
    /// Serve files that only their owner may read, too (mode 0600, or in a directory of mode 0700)
    #[arg(long)]
    serve_private: bool,
    #[command(flatten)]
    serve: common::ServeArgs,
}

fn main() -> ExitCode {
    let args = Args::parse();
    match files(&args) {
        Ok(files) => common::serve(&args.serve, move |req: &mut Request<'_>| files.respond(req)),
        Err(failure) => common::exit(Err(failure)),
    }
}

fn files(args: &Args) -> Result<Files, Failure> {
    let secrets = args.serve.run.secrets(&args.root)?;
    let shown = Shown { hidden: args.hidden, private: args.serve_private, secrets };
    Files::new(&args.root, shown).map_err(Failure::system(format!("cannot serve {}", args.root.display())))
}
