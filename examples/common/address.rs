//! What the shortest examples share: an address as the only argument, and errors in words.

use std::{io, process::ExitCode};

/// Calls `serve` with the address of the command line, or says how the program is used. Returns the program's status.
pub(crate) fn main(name: &str, what: &str, serve: impl FnOnce(&str) -> io::Result<()>) -> ExitCode {
    env_logger::init(); // shows errors of the application
    let addr = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8080".into());
    if addr.starts_with('-') {
        println!(
            "{what}\n\nUsage: {name} [ADDRESS:PORT]\n\nIt listens there; on 127.0.0.1:8080 if no address is given."
        );
        return if matches!(&*addr, "-h" | "--help") { ExitCode::SUCCESS } else { ExitCode::from(2) };
    }
    match serve(&addr) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
