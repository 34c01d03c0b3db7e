//! Serves a directory.
//!
//!     cargo run --release --example fileserver -- --root .
//!     curl http://127.0.0.1:8080/
//!     curl http://127.0.0.1:8080/Cargo.toml -r 0-99 -i
//!
//! Listings, types, ranges, conditional requests, and no way out of the root (`../files/path.rs`). On a plain connection the
//! system sends a file by itself, without its bytes passing through this process.
//!
//! What only its owner may read is not served (`--serve-private` does), and neither are the keys and certificates that the
//! flags name, wherever links to them are.
//!
//! Opening a file may wait for the disk, and the other connections of that loop with it, as in other file servers that
//! don't keep threads for this. `--mode thread-per-connection` is for file systems where that hurts.

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
    /// The directory
    #[arg(long, value_name = "DIR", default_value = ".")]
    root: PathBuf,
    /// Serve what begins with a dot, too. (`.well-known` is served in any case.)
    #[arg(long)]
    hidden: bool,
    /// Serve what only its owner may read, too (mode 0600, or in a directory of mode 0700)
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
    Files::new(&args.root, shown).map_err(Failure::system(format!("can't serve {}", args.root.display())))
}
