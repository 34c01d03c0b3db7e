//! The gateway between WebSocket and HTTP, as a program. It has the configuration and the flags of kuiperbelt's `ekbo`.
//!
//!     python3 examples/gateway/app.py
//!     # in another terminal:
//!     cargo run --release --example gateway -- --config examples/gateway/config.yml
//!     # in a third:
//!     curl http://127.0.0.1:9180/stats
//!
//! This configuration listens on this machine only: there is no authentication, and every client that reaches `/send`
//! can send to all others. It needs an application that decides which clients may connect, such as `app.py`; `README.md`
//! explains how it works and what the two send to each other. `examples/chat` has an application and a gateway in one
//! program. `config.yml` explains every key.

use std::{
    ffi::OsString,
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Parser, ValueEnum};
use uncork::{
    Listen,
    relay::{Gateway, GatewayFile},
};

#[path = "../common/mod.rs"]
mod common;
use common::Failure;

/// Keeps WebSocket clients connected for an application that speaks only HTTP.
#[derive(Debug, Parser)]
#[command(name = "gateway", disable_version_flag = true, after_help = AFTER_HELP)]
struct Args {
    /// File of settings, in YAML
    #[arg(long, value_name = "FILE", default_value = "config.yml")]
    config: PathBuf,

    /// TCP port to listen on, instead of the configuration's; on its address, or on all addresses
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,

    /// Unix socket to listen on, instead of a TCP port
    #[arg(long, value_name = "FILE")]
    sock: Option<PathBuf>,

    /// Address and port to listen on, instead of the configuration's
    #[arg(long, value_name = "ADDR", conflicts_with_all = ["port", "sock"])]
    listen: Option<String>,

    /// Log level, on standard error
    #[arg(long, value_enum, value_name = "LEVEL", default_value_t = Level::Info)]
    log_level: Level,

    /// Accepted without effect, for compatibility with ekbo
    #[arg(long, value_name = "ADDR")]
    gops_addr: Option<String>,

    /// Print the version
    #[arg(long)]
    version: bool,

    #[command(flatten)]
    run: common::RunArgs,
}

const AFTER_HELP: &str = "\
The gateway calls the application at the URLs of the configuration. The application sends with POST /send and closes with
POST /close; one X-Kuiperbelt-Session field for each session names it by its key. GET /stats returns counters, GET /ping the
state.

Flags may begin with one dash or two.";

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Level {
    Debug,
    Info,
    Warn,
    Error,
}

fn main() -> ExitCode {
    let args = Args::parse_from(std::env::args_os().map(with_two_dashes));
    if args.version {
        println!("ekbo version: {}", env!("CARGO_PKG_VERSION"));
        return ExitCode::SUCCESS;
    }
    let level = match args.log_level {
        Level::Debug => "debug",
        Level::Info => "info",
        Level::Warn => "warn",
        Level::Error => "error",
    };
    common::stderr_log::init(level);
    common::exit(serve(&args))
}

/// Returns `--config` for `-config`; `-h` stays as it is.
fn with_two_dashes(arg: OsString) -> OsString {
    match arg.to_str() {
        Some(text) if text.len() > 2 && text.starts_with('-') && !text.starts_with("--") => format!("-{text}").into(),
        _ => arg,
    }
}

fn serve(args: &Args) -> Result<(), Failure> {
    if args.port.is_some() && args.sock.is_some() {
        return Err(Failure("port and sock option is duplicate.".into(), 1));
    }
    if args.gops_addr.is_some() {
        log::warn!("--gops-addr has no effect");
    }
    let name = args.config.display();
    let text = fs::read_to_string(&args.config).map_err(|error| unreadable(&args.config, &error))?;
    let file = GatewayFile::parse(&text, |variable| std::env::var(variable).ok()).map_err(|fault| {
        let line = fault.line().map(|line| format!("{line}:")).unwrap_or_default();
        Failure(format!("{name}:{line} {}", fault.message()), 1)
    })?;
    for warning in &file.warnings {
        let line = warning.line().map(|line| format!("{line}:")).unwrap_or_default();
        log::warn!("{name}:{line} {}", warning.message());
    }

    let limits = file.config.server_limits(args.run.limits());
    let run = args.run.with_more_time(file.config.drain_spread);
    let gateway = Gateway::new(file.config).map_err(|fault| Failure(format!("{name}: {fault}"), 1))?;
    let sock = args.sock.as_ref().or(file.sock.as_ref().filter(|_| args.port.is_none()));
    let (listen, address) = match (&args.listen, sock) {
        (Some(addr), _) => (common::listen(addr)?, addr.clone()),
        (None, Some(sock)) => {
            let address = format!("unix:{}", sock.display());
            (Listen::unix(sock).map_err(|error| Failure(error.to_string(), 1))?, address)
        }
        (None, None) => {
            let port = args.port.unwrap_or(file.port);
            match file.address {
                Some(ip) => {
                    let addr = SocketAddr::from((ip, port)).to_string();
                    (common::listen(&addr)?, addr)
                }
                None => (on_all_addresses(port)?, port.to_string()),
            }
        }
    };
    common::run(listen, |server| server.limits(limits), &address, &run, gateway)
}

fn unreadable(config: &Path, error: &io::Error) -> Failure {
    let hint = match error.kind() {
        io::ErrorKind::NotFound => "; --config FILE names another one (examples/gateway/config.yml explains every key)",
        _ => "",
    };
    Failure(format!("cannot read the settings in {}: {error}{hint}", config.display()), 1)
}

/// Binds all addresses: of both families, if the system has both.
fn on_all_addresses(port: u16) -> Result<Listen, Failure> {
    let both = Listen::tcp(("::", port));
    both.or_else(|_| Listen::tcp(("0.0.0.0", port))).map_err(|error| Failure(error.to_string(), 1))
}
