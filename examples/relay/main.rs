//! The relay: a program for the public internet. One client sends a file into a session, another receives it:
//!
//!     cargo run --release --example relay
//!     # in another terminal:
//!     U=http://127.0.0.1:8080
//!     JAR=$(mktemp)
//!     S=$U$(curl -s -c $JAR -o /dev/null -w '%header{location}' -X PUT $U/cama/session)
//!     curl -X POST -T README.md $S &       # the guest sends: the URL is all it needs
//!     curl -b $JAR -o copy.txt $S          # the host receives: the cookie makes it the host
//!     cmp README.md copy.txt
//!
//! HTTPS: `--tls-cert cert.pem --tls-key key.pem`, or `--tls-self-made` for tests. `--help` lists all flags, and
//! `--print-config` prints a file of all settings with comments.
//!
//! ```text
//!   flags, file ──▶ config ──▶ settings ──▶ run ──▶ listen ──▶ site: services, the web page
//!                        (values, fitting)   │   (inherited)
//!                                            ├──▶ nodes: the listener for other relays
//!                                            ├──▶ admin: metrics, health, lists, certificates
//!                                            └──▶ signals: stop, reload        logs, access, notify (systemd)
//! ```

mod access;
mod addresses;
mod admin;
mod certificates;
#[path = "../common/mod.rs"]
#[allow(dead_code, reason = "the other examples' flags")]
mod common;
mod config;
mod directory;
mod files;
mod fitting;
mod inherited;
mod json;
mod listen;
mod lock;
mod logs;
mod metrics;
mod nodes;
mod notify;
mod page;
mod run;
mod services;
mod settings;
mod site;
mod tunnel;
mod values;

use std::{fmt::Display, io, process::ExitCode};

/// An error that ends the program: message and exit code. The code is 1 for an error of the system, 2 for a wrong
/// setting (as in clap).
#[derive(Debug)]
pub(crate) struct Failure(String, u8);

impl Failure {
    fn config(message: String) -> Self {
        Self(message, 2)
    }

    fn system_message(message: String) -> Self {
        Self(message, 1)
    }

    fn system(what: &dyn Display, error: &io::Error) -> Self {
        Self(format!("{what}: {error}"), 1)
    }
}

fn main() -> ExitCode {
    match program() {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure(message, code)) => {
            eprintln!("error: {message}");
            ExitCode::from(code)
        }
    }
}

fn program() -> Result<(), Failure> {
    let flags = config::command().get_matches();
    let settings = config::load(&flags)?;
    if flags.get_flag("print-config") {
        print!("{}", config::print(&settings));
        return Ok(());
    }
    if flags.get_flag("check-config") {
        run::check_strictly(&settings)?;
        println!("configuration OK");
        return Ok(());
    }
    run::run(settings, flags, inherited::Inherited::take()?)
}
