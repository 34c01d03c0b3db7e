//! The relay: a program one can put on the internet. One sends a file into a session, the other takes it out:
//!
//!     cargo run --release --example relay
//!
//!     U=http://127.0.0.1:8080
//!     S=$U$(curl -s -c jar.txt -o /dev/null -w '%header{location}' -X PUT $U/cama/session)
//!     curl -X POST -T photo.jpg $S &       # the guest sends: the URL is all it needs
//!     curl -b jar.txt -o copy.jpg $S       # the host receives: the cookie makes it the host
//!     cmp photo.jpg copy.jpg
//!
//! HTTPS: `--tls-cert cert.pem --tls-key key.pem`, or `--tls-self-made` for trying out. All flags: `--help`. A file of all settings, with comments:
//! `--print-config`.
//!
//! ```text
//!   flags, file ──▶ config ──▶ settings ──▶ run ──▶ listen ──▶ site: services, a page for people
//!                        (values, fitting)   │
//!                                            ├──▶ admin: metrics, health, who is there, certificates
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
mod files;
mod fitting;
mod listen;
mod logs;
mod metrics;
mod notify;
mod page;
mod run;
mod services;
mod settings;
mod site;
mod tunnel;
mod values;

use std::{fmt::Display, io, process::ExitCode};

/// Why it can't serve: what to say, and the exit code. 1 is the system's refusal, 2 a wrong setting (as clap has it).
#[derive(Debug)]
pub(crate) struct Failure(String, u8);

impl Failure {
    fn config(what: String) -> Self {
        Self(what, 2)
    }

    fn system_words(what: String) -> Self {
        Self(what, 1)
    }

    fn system(what: &dyn Display, error: &io::Error) -> Self {
        Self(format!("{what}: {error}"), 1)
    }
}

fn main() -> ExitCode {
    match program() {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure(what, code)) => {
            eprintln!("error: {what}");
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
        println!("the settings are fine");
        return Ok(());
    }
    run::run(settings, flags, listen::Inherited::take()?)
}
