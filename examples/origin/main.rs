//! Publishes a directory or a local server from behind NAT or a firewall. It connects to the proxy of a reverse tunnel
//! and serves requests through that connection. (The proxy is `relay` with a `[tunnel]` section.)
//!
//! ```sh form
//! export UNCORK_TOKEN=…
//! cargo run --release --example origin -- --proxy proxy.example:8443 --host app.example --root .
//! cargo run --release --example origin -- --proxy proxy.example:8443 --host app.example \
//!     --forward http://127.0.0.1:3000
//! ```
//!
//! To try it, with both ends on one machine:
//!
//!     cargo build --release --example relay --example origin
//!     export UNCORK_TOKEN=$(openssl rand -hex 32)
//!     HASH=$(printf %s $UNCORK_TOKEN | sha256sum | cut -d ' ' -f 1)
//!     CERT=~/.local/state/uncork/cert.pem
//!     cargo run --release --example relay -- --listen 127.0.0.1:8443 --tls-self-made \
//!         --tunnel-token "app $HASH app.example" &
//!     until test -s $CERT; do sleep 1; done
//!     cargo run --release --example origin -- --proxy localhost:8443 --ca $CERT --host app.example --root . &
//!     curl --fail --retry 60 --retry-delay 1 --retry-connrefused --cacert $CERT \
//!         -H 'Host: app.example' https://localhost:8443/README.md
//!
//! From a directory, files that only their owner may read are not served (unless `--serve-private` is set). Neither are
//! the token, the key and the certificates that the flags name.
//!
//! The program logs the state of its connections to standard error. SIGTERM and SIGINT shut it down: it notifies the
//! proxy and finishes requests in progress within `--shutdown-timeout`. A second signal stops it at once.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use clap::{ArgGroup, Parser, ValueEnum};
use signal_hook::{
    consts::{SIGINT, SIGTERM},
    iterator::Signals,
};
use uncork::{
    Action, Request, TlsClient,
    relay::{
        Via,
        tunnel::{StartError, Tunnel, TunnelEvent},
    },
};

use self::{
    files::{Files, Shown},
    forward::Forward,
};

#[path = "../common/descriptors.rs"]
#[allow(dead_code, reason = "the limits of a server")]
mod descriptors;
#[path = "../files/mod.rs"]
mod files;
mod forward;
#[path = "../common/signals.rs"]
mod signals;
#[path = "../common/stderr_log.rs"]
mod stderr_log;
mod upgraded_stream;

/// The environment variable of the token.
const TOKEN: &str = "UNCORK_TOKEN";

/// Publishes a directory or a local server through the proxy of a reverse tunnel.
///
/// Set the token by --token-file or the environment variable UNCORK_TOKEN: other users of this machine can read a
/// command line.
#[derive(Parser)]
#[command(version, group(ArgGroup::new("what").required(true).args(["root", "forward"])))]
struct Args {
    /// Host and port where the proxy accepts origin servers [default port: 443]
    #[arg(long, value_name = "NAME[:PORT]")]
    proxy: String,
    /// Host to publish: app.example, *.dev.example, app.example/part; may be repeated
    ///
    /// [default: all hosts of the token]
    #[arg(long, value_name = "NAME")]
    host: Vec<String>,
    /// Serve this directory
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Serve files whose name begins with a dot, too
    #[arg(long, requires = "root")]
    hidden: bool,
    /// Serve files that only their owner may read, too (mode 0600, or in a directory of mode 0700)
    #[arg(long, requires = "root")]
    serve_private: bool,
    /// Forward requests to this server, as in http://127.0.0.1:3000
    #[arg(long, value_name = "URL")]
    forward: Option<String>,
    /// Concurrent requests at that server; one more gets 503 [default: as many as the tunnel allows, 512 for each
    /// connection]
    #[arg(long, value_name = "N", requires = "forward", value_parser = clap::value_parser!(u32).range(1..))]
    forward_requests: Option<u32>,
    /// Name in the Via field of forwarded requests; no other program in the chain may use it [default: a random one]
    #[arg(long, value_name = "NAME", requires = "forward")]
    via: Option<String>,

    /// Token for the proxy
    #[arg(long, value_name = "TOKEN", help_heading = "Trust", conflicts_with = "token_file")]
    token: Option<String>,
    /// Read the token from this file
    #[arg(long, value_name = "FILE", help_heading = "Trust")]
    token_file: Option<PathBuf>,
    /// Send the token as this user's password (Basic authentication), instead of as a Bearer token
    #[arg(long, value_name = "NAME", help_heading = "Trust")]
    user: Option<String>,
    /// Trust only proxies whose certificate is signed by one of these (PEM), instead of the system's
    #[arg(long, value_name = "FILE", help_heading = "Trust")]
    ca: Option<PathBuf>,
    /// Trust only a proxy with this key: SHA-256 of its SubjectPublicKeyInfo, in hexadecimal or as curl's
    /// sha256//BASE64; without --ca, any signer of its certificate is accepted
    #[arg(long, value_name = "HASH", value_parser = pin, help_heading = "Trust")]
    pin: Vec<[u8; 32]>,
    /// Client certificate for the proxy (PEM)
    #[arg(long, value_name = "FILE", requires = "key", help_heading = "Trust")]
    cert: Option<PathBuf>,
    /// Its private key (PEM)
    #[arg(long, value_name = "FILE", requires = "cert", help_heading = "Trust")]
    key: Option<PathBuf>,

    /// The proxy is spdy-proxy, which has no authentication (needs the feature `spdy`)
    #[arg(
        long = "allow-legacy-unauthenticated",
        help_heading = "Trust",
        conflicts_with_all = ["host", "token", "token_file", "user"]
    )]
    legacy: bool,

    /// Connections to the proxy
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=64))]
    connections: u16,
    /// Serve requests in HTTP/1.1 instead of HTTP/2: one at a time on each connection
    #[arg(long, conflicts_with = "legacy")]
    http1: bool,
    /// Interval of pings to a silent proxy; a connection is closed after twice as long
    #[arg(long, value_name = "SECONDS", default_value_t = 15, value_parser = clap::value_parser!(u16).range(1..))]
    ping_interval: u16,
    /// Event loop
    #[arg(long, value_enum, default_value_t = Mode::Threads)]
    mode: Mode,
    /// Loops of mode `threads` [default: one per processor]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Time for requests to finish after the first SIGTERM or SIGINT; a second signal stops at once
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    shutdown_timeout: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// By the engine, in threads of its own: one loop each
    Threads,
    /// By the program, in a loop of its own
    External,
}

/// The published site.
#[derive(Clone)]
enum Site {
    Files(Files),
    Forward(Forward),
}

impl Site {
    fn handle(&self, req: &mut Request<'_>) -> Action {
        match self {
            Self::Files(files) => files.respond(req).into(),
            Self::Forward(forward) => forward.handle(req),
        }
    }
}

/// An error that ends the program: message and exit code. The code is 1 for an error of the system, 2 for a wrong flag
/// (as in clap).
struct Failure(String, u8);

fn main() -> ExitCode {
    stderr_log::init("warn,origin=info");
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure(what, code)) => {
            eprintln!("error: {what}");
            ExitCode::from(code)
        }
    }
}

fn run(args: &Args) -> Result<(), Failure> {
    let tunnel = tunnel(args)?;
    let site = site(args, &tunnel)?;
    let handler = move |req: &mut Request<'_>| site.handle(req);
    // First, so that an early signal is not lost.
    let system = |what: &'static str| move |error: std::io::Error| Failure(format!("{what}: {error}"), 1);
    let signals = Signals::new([SIGINT, SIGTERM]).map_err(system("cannot handle signals"))?;
    let timeout = Duration::from_secs(args.shutdown_timeout.into());
    let wrong = |error: StartError| Failure(error.to_string(), 2);
    match args.mode {
        Mode::External => {
            let external = tunnel.external(handler).map_err(wrong)?;
            signals::stop_on(signals, external.stop_handle(), timeout).map_err(system("cannot start a thread"))?;
            external.run().map_err(system("cannot wait for events"))
        }
        Mode::Threads => {
            let running = match args.threads {
                Some(count) => tunnel.threads(count.into(), handler),
                None => tunnel.serve(handler),
            };
            let running = running.map_err(wrong)?;
            signals::stop_on(signals, running.stop_handle(), timeout).map_err(system("cannot start a thread"))?;
            running.join().map_err(system("stopped"))
        }
    }
}

fn site(args: &Args, tunnel: &Tunnel) -> Result<Site, Failure> {
    match (&args.root, &args.forward) {
        (Some(root), _) => Files::new(root, shown(args))
            .map(Site::Files)
            .map_err(|error| Failure(format!("cannot serve {}: {error}", root.display()), 1)),
        (None, url) => {
            let wrong = |reason| Failure(reason, 2);
            let via = match &args.via {
                Some(name) => Via::named(name).map_err(|error| wrong(format!("--via {name:?}: {error}")))?,
                None => Via::random(),
            };
            let wanted = args.forward_requests.map_or(tunnel.max_requests(), |n| n as usize);
            let max = descriptors::fit_requests(wanted);
            Forward::to(url.as_deref().unwrap_or_default(), max, via).map(Site::Forward).map_err(wrong)
        }
    }
}

fn shown(args: &Args) -> Shown {
    let secrets = [&args.token_file, &args.ca, &args.cert, &args.key].into_iter().flatten().cloned().collect();
    Shown { hidden: args.hidden, private: args.serve_private, secrets }
}

fn tunnel(args: &Args) -> Result<Tunnel, Failure> {
    let hosts = if args.host.is_empty() { "all hosts of the token".to_owned() } else { args.host.join(", ") };
    let proxy = args.proxy.clone();
    let mut tunnel = Tunnel::dial(&args.proxy)
        .tls(trust(args)?)
        .connections(args.connections.into())
        .ping_interval(Duration::from_secs(args.ping_interval.into()))
        .on_event(move |event| match event {
            TunnelEvent::Up { .. } => log::info!("{event}; published: {hosts}"),
            TunnelEvent::Stopped { .. } => log::info!("{event}"),
            _ => log::warn!("--proxy {proxy}: {event}"),
        });
    for host in &args.host {
        tunnel = tunnel.host(host);
    }
    if args.legacy {
        return legacy(tunnel);
    }
    if args.http1 {
        tunnel = tunnel.http1_only();
    }
    match token(args)? {
        Some(token) => Ok(match &args.user {
            Some(user) => tunnel.user(user, &token),
            None => tunnel.token(&token),
        }),
        None if args.cert.is_some() => Ok(tunnel),
        None => Err(Failure(format!("no token: set {TOKEN}, or use --token-file or --cert"), 2)),
    }
}

#[cfg(feature = "spdy")]
fn legacy(tunnel: Tunnel) -> Result<Tunnel, Failure> {
    Ok(tunnel.allow_legacy_unauthenticated())
}

#[cfg(not(feature = "spdy"))]
fn legacy(_: Tunnel) -> Result<Tunnel, Failure> {
    Err(Failure("this program was built without SPDY: build it with `--features spdy`".into(), 2))
}

fn token(args: &Args) -> Result<Option<String>, Failure> {
    let token = match (&args.token, &args.token_file) {
        (Some(token), _) => Some(token.clone()),
        (None, Some(file)) => {
            Some(std::fs::read_to_string(file).map_err(|error| Failure(format!("{}: {error}", file.display()), 1))?)
        }
        (None, None) => std::env::var(TOKEN).ok(),
    };
    Ok(token.map(|token| token.trim().to_owned()).filter(|token| !token.is_empty()))
}

fn trust(args: &Args) -> Result<TlsClient, Failure> {
    let wrong = |error: uncork::TlsError| Failure(error.to_string(), 2);
    let mut builder = TlsClient::builder();
    match &args.ca {
        Some(file) => builder = builder.roots(file).map_err(wrong)?,
        None if args.pin.is_empty() => builder = builder.system().map_err(wrong)?,
        None => {}
    }
    for pin in &args.pin {
        builder = builder.pin(*pin);
    }
    if let (Some(cert), Some(key)) = (&args.cert, &args.key) {
        builder = builder.certificate(cert, key).map_err(wrong)?;
    }
    builder.build().map_err(wrong)
}

/// Parses 64 hexadecimal digits, with or without colons; or `sha256//` and base64.
fn pin(text: &str) -> Result<[u8; 32], String> {
    let bytes = match text.strip_prefix("sha256//") {
        Some(base64) => BASE64_STANDARD.decode(base64).map_err(|error| error.to_string())?,
        None => {
            let digits: Vec<char> = text.chars().filter(|c| *c != ':').collect();
            let pair = |pair: &[char]| u8::from_str_radix(&pair.iter().collect::<String>(), 16);
            digits
                .chunks(2)
                .map(pair)
                .collect::<Result<_, _>>()
                .map_err(|_| "expected hexadecimal digits, or sha256//BASE64")?
        }
    };
    bytes.try_into().map_err(|bytes: Vec<u8>| format!("expected 32 bytes of SHA-256, got {}", bytes.len()))
}
