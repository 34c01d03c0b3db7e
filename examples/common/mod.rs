//! Code that the examples share: flags, TLS, the three modes, signals, logging.
//!
//! An example flattens [`ServeArgs`] into its own flags and calls [`serve`] with any handler. An example with its own
//! flags for listeners uses [`RunArgs`] and [`run`] instead.

pub(crate) mod certificate;
pub(crate) mod descriptors;
mod signals;
pub(crate) mod stderr_log;

use std::{
    fmt::Display,
    io::{self, Write},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use clap::ValueEnum;
use signal_hook::{
    consts::{SIGINT, SIGTERM},
    iterator::Signals,
};
use uncork::{Handler, Limits, Listen, Server};

use descriptors::Needs;

/// Flags for the listener and the server, for most examples.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Server")]
pub(crate) struct ServeArgs {
    /// Address and port to listen on; port 0 is chosen by the system
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    pub(crate) listen: String,

    #[command(flatten)]
    pub(crate) run: RunArgs,

    /// Bytes of one request's body; k, M, G and T multiply by 1024 [default: 1G]
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    pub(crate) max_body: Option<u64>,

    /// Write a line for each request to standard error, in the combined log format
    #[arg(long)]
    access_log: bool,
}

/// Flags for the server.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Server")]
pub(crate) struct RunArgs {
    /// Event loop
    #[arg(long, value_enum, default_value_t = Mode::Threads)]
    mode: Mode,

    /// Loops of mode `threads` [default: one per processor]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,

    /// Certificate chain in PEM, the server's certificate first; enables HTTPS
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,

    /// Private key in PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,

    /// For tests: HTTPS with a self-signed certificate for localhost, kept in this directory (cert.pem, key.pem) and
    /// made if missing [default: uncork in $XDG_STATE_HOME or ~/.local/state]
    #[arg(long, value_name = "DIR", conflicts_with = "tls_cert")]
    tls_self_made: Option<Option<PathBuf>>,

    /// Connections in total [default: 65536]
    #[arg(long, value_name = "N")]
    connections: Option<usize>,

    /// Connections from one address: at most half of all, fewer when few are free; 0 for no limit [default: 16384]
    #[arg(long, value_name = "N")]
    connections_per_address: Option<usize>,

    /// Time for requests to finish after the first SIGINT or SIGTERM; a second signal stops at once
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    shutdown_timeout: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// By the engine, in threads of its own: one loop each
    Threads,
    /// By the program, in a loop of its own
    External,
    /// In one thread per connection
    ThreadPerConnection,
}

/// An error that ends the program: message and exit code. The code is 1 for an error of the system, 2 for a wrong flag
/// (as in clap).
pub(crate) struct Failure(pub(crate) String, pub(crate) u8);

impl Failure {
    pub(crate) fn system(text: impl Display) -> impl FnOnce(io::Error) -> Self {
        move |error| Self(format!("{text}: {error}"), 1)
    }
}

/// Serves until a signal stops the program, and prints the address once it is ready. Warnings and the access log go to
/// standard error; `RUST_LOG=debug` logs more.
#[allow(dead_code, reason = "some examples have their own flags")]
pub(crate) fn serve<H: Handler + Clone + Send + 'static>(args: &ServeArgs, handler: H) -> ExitCode {
    stderr_log::init("warn");
    let limits = args.run.limits();
    let limits = Limits { body: args.max_body.unwrap_or(limits.body), ..limits };
    let configure = |server: Server| match args.access_log {
        true => server.limits(limits).access_log(|access| eprintln!("{access}")),
        false => server.limits(limits),
    };
    exit(listen(&args.listen).and_then(|listen| run(listen, configure, &args.listen, &args.run, handler)))
}

/// Prints an error, if there is one, and returns the exit code.
pub(crate) fn exit(result: Result<(), Failure>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure(text, code)) => {
            eprintln!("error: {text}");
            ExitCode::from(code)
        }
    }
}

/// Binds the address of the flag `--listen`.
pub(crate) fn listen(addr: &str) -> Result<Listen, Failure> {
    Listen::tcp(addr).map_err(|error| match error.kind() {
        io::ErrorKind::InvalidInput => Failure(format!("--listen {addr}: {error}"), 2),
        _ => Failure(error.to_string(), 1),
    })
}

/// Serves until a signal stops the program, with the TLS of the flags and the settings of `configure`. `name` is
/// printed for a server without an IP address.
pub(crate) fn run<H>(
    listen: Listen,
    configure: impl FnOnce(Server) -> Server,
    name: &str,
    args: &RunArgs,
    handler: H,
) -> Result<(), Failure>
where
    H: Handler + Clone + Send + 'static,
{
    let server = configure(Server::new().listen(with_tls(listen, args)?));
    // First, so that an early signal is not lost.
    let signals = Signals::new([SIGINT, SIGTERM]).map_err(Failure::system("cannot handle signals"))?;
    let cannot_start = Failure::system("cannot start");
    match args.mode {
        Mode::External => {
            let external = server.external(handler).map_err(cannot_start)?;
            signals::stop_on(signals, external.stop_handle(), args.shutdown_timeout())
                .map_err(Failure::system("cannot start a thread"))?;
            print_address(args, external.local_addr(), name);
            external.run().map_err(Failure::system("cannot wait for events"))
        }
        Mode::Threads | Mode::ThreadPerConnection => {
            let running = match args.mode {
                Mode::ThreadPerConnection => server.thread_per_connection(handler),
                _ => server.threads(args.loops(), handler),
            };
            let running = running.map_err(cannot_start)?;
            signals::stop_on(signals, running.stop_handle(), args.shutdown_timeout())
                .map_err(Failure::system("cannot start a thread"))?;
            print_address(args, running.local_addr(), name);
            running.join().map_err(Failure::system("stopped"))
        }
    }
}

impl RunArgs {
    fn is_https(&self) -> bool {
        self.tls_cert.is_some() || self.tls_self_made.is_some()
    }

    fn shutdown_timeout(&self) -> Duration {
        Duration::from_secs(self.shutdown_timeout.into())
    }

    /// Adds this time to the one that requests have to finish. Parts of a second count as one.
    #[allow(dead_code, reason = "one example needs it")]
    pub(crate) fn with_more_time(&self, more: Duration) -> Self {
        let seconds = u32::try_from(more.as_millis().div_ceil(1000)).unwrap_or(u32::MAX);
        Self { shutdown_timeout: self.shutdown_timeout.saturating_add(seconds), ..self.clone() }
    }

    fn loops(&self) -> usize {
        match self.threads {
            Some(n) => n.into(),
            None => std::thread::available_parallelism().map_or(1, usize::from),
        }
    }

    /// Returns the directory of the self-signed certificate, if the flag is set.
    fn self_made(&self) -> Result<Option<PathBuf>, Failure> {
        let dir = self.tls_self_made.as_ref().map(|named| certificate::directory(named.as_deref()));
        dir.transpose().map_err(|error| Failure(error, 2))
    }

    /// Returns the files of these flags that must not be served.
    ///
    /// # Errors
    /// If a key would be made at or below `root`: another program that serves that directory would publish it.
    #[allow(dead_code, reason = "only examples that serve a directory need it")]
    pub(crate) fn secrets(&self, root: &Path) -> Result<Vec<PathBuf>, Failure> {
        let mut secrets: Vec<PathBuf> = [&self.tls_cert, &self.tls_key].into_iter().flatten().cloned().collect();
        if let Some(dir) = self.self_made()? {
            let below = certificate::is_below(&dir, root)
                .map_err(Failure::system(format!("cannot serve {}", root.display())))?;
            if below {
                return Err(Failure(
                    format!(
                        "--tls-self-made would write a private key below {}, which is served: choose another directory",
                        root.display()
                    ),
                    2,
                ));
            }
            let (cert, key) = certificate::files(&dir);
            secrets.extend([cert, key]);
        }
        Ok(secrets)
    }

    pub(crate) fn limits(&self) -> Limits {
        let default = Limits::default();
        let connections = self.connections.unwrap_or(default.connections);
        let per_address = self.connections_per_address.map(|n| if n == 0 { usize::MAX } else { n });
        let limits = Limits {
            connections,
            connections_per_address: per_address.unwrap_or(default.connections_per_address),
            ..default
        };
        // A loop has a selector, a wake-up descriptor and a listener. In thread-per-connection mode, a connection has
        // the first two as well.
        let (per_connection, loops) = match self.mode {
            Mode::ThreadPerConnection => (3, 1),
            Mode::External => (1, 1),
            Mode::Threads => (1, self.loops() as u64),
        };
        descriptors::fit(limits, Needs { per_connection, others: 3 * loops, outgoing: 0 })
    }
}

#[cfg(feature = "tls")]
fn with_tls(listen: Listen, args: &RunArgs) -> Result<Listen, Failure> {
    let identity = match args.self_made()? {
        Some(dir) => {
            let made = certificate::self_made(&dir).map_err(|error| Failure(error, 1))?;
            eprintln!("{}", certificate::must_trust(&made.cert));
            Some((made.cert, made.key))
        }
        None => args.tls_cert.clone().zip(args.tls_key.clone()),
    };
    match identity.map(|(cert, key)| uncork::Tls::pem(cert, key)) {
        Some(Ok(tls)) => Ok(listen.tls(tls)),
        Some(Err(error)) => Err(Failure(error.to_string(), 2)),
        None => Ok(listen),
    }
}

#[cfg(not(feature = "tls"))]
fn with_tls(listen: Listen, args: &RunArgs) -> Result<Listen, Failure> {
    match args.is_https() {
        true => Err(Failure("built without the feature `tls`".into(), 2)),
        false => Ok(listen),
    }
}

/// Prints the address. The parent process may wait for it, and may have let the system choose the port.
fn print_address(args: &RunArgs, addr: Option<SocketAddr>, name: &str) {
    let scheme = if args.is_https() { "https" } else { "http" };
    let addr = addr.map_or_else(|| name.to_owned(), |addr| addr.to_string());
    let mut out = io::stdout().lock();
    // Standard output may be closed; the program serves nevertheless.
    let _ = writeln!(out, "listening on {scheme}://{addr}").and_then(|()| out.flush());
}

/// Parses a number of bytes: `512`, `64k`, `1G`.
pub(crate) fn bytes(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match &text[digits.len()..] {
        "" => 0,
        "k" | "K" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        unit => return Err(format!("invalid unit {unit:?}: expected k, M, G or T")),
    };
    let n: u64 = digits.parse().map_err(|_| format!("invalid number of bytes {digits:?}"))?;
    n.checked_mul(1 << shift).ok_or_else(|| "too large".to_owned())
}
