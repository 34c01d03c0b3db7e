//! What the examples share: the same flags, and a server that runs until it is told to stop.

use std::{io, num::NonZero, path::PathBuf, process::ExitCode, thread, time::Duration};

use clap::ValueEnum;
use signal_hook::{
    consts::{SIGINT, SIGTERM},
    iterator::Signals,
};
use uncork::{Handler, Limits, Server, Stopper};

/// How long requests under way may take to end after the first signal. A second one ends everything at once.
const GRACE: Duration = Duration::from_secs(10);

/// Flags of every example; flatten them into your own.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Args {
    /// Where to listen; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    pub(crate) listen: String,
    /// Who waits for the network
    #[arg(long, value_enum, default_value_t = Mode::Threads)]
    pub(crate) mode: Mode,
    /// Loops, each in a thread of its own, in mode `threads` [default: one for each processor]
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<NonZero<u8>>,
    /// Speak HTTPS: the certificate and its chain, PEM
    #[cfg(feature = "tls")]
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// The certificate's private key, PEM
    #[cfg(feature = "tls")]
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_key: Option<PathBuf>,
}

#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// The server, in threads of its own
    Threads,
    /// The program, in the loop of its main thread
    External,
    /// One thread for each connection; the handler may block
    ThreadPerConnection,
}

/// Serves until SIGINT or SIGTERM; a failure is said on standard error.
pub(crate) fn serve<H: Handler + Clone + Send + 'static>(args: Args, handler: H) -> ExitCode {
    serve_with(args, Limits::default(), handler)
}

/// The same with other limits than the default ones.
pub(crate) fn serve_with<H: Handler + Clone + Send + 'static>(args: Args, limits: Limits, handler: H) -> ExitCode {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("warn")).init();
    match run(&args, limits, handler) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run<H: Handler + Clone + Send + 'static>(args: &Args, limits: Limits, handler: H) -> io::Result<()> {
    if args.threads.is_some() && args.mode != Mode::Threads {
        return Err(io::Error::other("--threads is for --mode threads"));
    }
    let mut server = Server::bind(&*args.listen)
        .map_err(|error| io::Error::new(error.kind(), format!("--listen {}: {error}", args.listen)))?
        .limits(limits);
    let mut scheme = "http";
    #[cfg(feature = "tls")]
    if let (Some(cert), Some(key)) = (&args.tls_cert, &args.tls_key) {
        server = server.tls(uncork::Tls::pem(cert, key).map_err(io::Error::other)?);
        scheme = "https";
    }
    // Before anybody can know that we are here: a signal is never too early.
    let signals = Signals::new([SIGINT, SIGTERM])?;
    let ready = server.addr().map(|addr| format!("listening on {scheme}://{addr}")).unwrap_or_default();
    match args.mode {
        Mode::Threads => {
            let count = args.threads.map_or_else(processors, |n| n.get().into());
            let running = server.threads(count, handler)?;
            println!("{ready}");
            stop_at(signals, running.stopper())?;
            running.join()
        }
        Mode::ThreadPerConnection => {
            let running = server.thread_per_connection(handler)?;
            println!("{ready}");
            stop_at(signals, running.stopper())?;
            running.join()
        }
        Mode::External => {
            let mut server = server.external(handler)?;
            println!("{ready}");
            stop_at(signals, server.stopper())?;
            while !server.is_done() {
                let _ = server.wait(None)?; // it remembers by itself how long to sleep
            }
            Ok(())
        }
    }
}

fn processors() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// Stops the server gracefully at the first signal, and at once at the second.
fn stop_at(mut signals: Signals, stopper: Stopper) -> io::Result<()> {
    let wait = move || {
        for (count, _) in signals.forever().enumerate() {
            if count == 0 { stopper.graceful(GRACE) } else { stopper.stop() }
        }
    };
    thread::Builder::new().name("signals".into()).spawn(wait)?;
    Ok(())
}
