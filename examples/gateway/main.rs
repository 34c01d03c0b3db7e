//! The gateway between WebSocket and HTTP, as a program. It takes the configuration and the flags of "kuiperbelt"'s `ekbo`.
//!
//!     cargo run --release --example gateway -- --config examples/gateway/config.yml
//!     curl http://127.0.0.1:9180/stats
//!
//! This configuration listens on this machine only: there are no passwords, and whatever reaches `/send` can send to
//! every client. It needs an application that says who may connect: the configuration's `callback.connect`. `examples/chat` has one,
//! and a gateway beside it. Every key of the configuration is explained in `config.yml` here.

use std::{ffi::OsString, fs, net::SocketAddr, path::PathBuf, process::ExitCode};

use clap::{Parser, ValueEnum};
use uncork::{
    Server,
    relay::{Gateway, GatewayFile},
};

#[path = "../common/mod.rs"]
mod common;
use common::Failure;

/// Gives an application that speaks HTTP clients that stay connected, by WebSocket.
#[derive(Debug, Parser)]
#[command(name = "gateway", disable_version_flag = true, after_help = AFTER_HELP)]
struct Args {
    /// Configuration, in YAML
    #[arg(long, value_name = "FILE", default_value = "config.yml")]
    config: PathBuf,

    /// TCP port to listen on, instead of the configuration's; on the configuration's address, or on all
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,

    /// Unix socket to listen on, instead of a TCP port
    #[arg(long, value_name = "FILE")]
    sock: Option<PathBuf>,

    /// Address and port to listen on, instead of the configuration's
    #[arg(long, value_name = "ADDR", conflicts_with_all = ["port", "sock"])]
    listen: Option<String>,

    /// How much to write to standard error
    #[arg(long, value_enum, value_name = "LEVEL", default_value_t = Level::Info)]
    log_level: Level,

    /// Accepted, and of no effect: there is nothing here for gops to look at
    #[arg(long, value_name = "ADDR")]
    gops_addr: Option<String>,

    /// Print the version
    #[arg(long)]
    version: bool,

    #[command(flatten)]
    run: common::RunArgs,
}

const AFTER_HELP: &str = "\
The application is called as the configuration says, and calls back: with POST /send and /close, each session named by
its key in an X-Kuiperbelt-Session field of its own. GET /stats and /ping tell how it goes.

Flags may begin with one dash or with two.";

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
        Level::Debug => log::LevelFilter::Debug,
        Level::Info => log::LevelFilter::Info,
        Level::Warn => log::LevelFilter::Warn,
        Level::Error => log::LevelFilter::Error,
    };
    env_logger::Builder::new().filter_level(level).parse_default_env().init();
    common::exit(serve(&args))
}

/// `-config` is `--config`; `-h` is itself.
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
    let text = fs::read_to_string(&args.config).map_err(Failure::system(&name))?;
    let file = GatewayFile::parse(&text, |variable| std::env::var(variable).ok()).map_err(|fault| {
        let line = fault.line().map(|line| format!("{line}:")).unwrap_or_default();
        Failure(format!("{name}:{line} {}", fault.message()), 1)
    })?;
    for warning in &file.warnings {
        let line = warning.line().map(|line| format!("{line}:")).unwrap_or_default();
        log::warn!("{name}:{line} {}", warning.message());
    }

    let limits = file.config.server_limits(args.run.limits());
    let gateway = Gateway::new(file.config).map_err(|fault| Failure(format!("{name}: {fault}"), 1))?;
    let sock = args.sock.as_ref().or(file.sock.as_ref().filter(|_| args.port.is_none()));
    let (server, place) = match (&args.listen, sock) {
        (Some(addr), _) => (common::listen(addr)?, addr.clone()),
        (None, Some(sock)) => {
            let place = format!("unix:{}", sock.display());
            (Server::unix(sock).map_err(Failure::system(&place))?, place)
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
    common::run(server.limits(limits), &place, &args.run, gateway)
}

/// Of both families, if the system has both.
fn on_all_addresses(port: u16) -> Result<Server, Failure> {
    let both = Server::bind(("::", port));
    both.or_else(|_| Server::bind(("0.0.0.0", port))).map_err(|error| Failure(error.to_string(), 1))
}
