//! Fetches a URL: the outgoing client, blocking, with the body streamed to standard output.
//!
//!     cargo run --release --example fetch -- https://example.com/
//!     cargo run --release --example fetch -- -i -X PUT -H 'Content-Type: text/plain' -d hello http://127.0.0.1:8080/
//!
//! Exit codes: 0 for an answer below 400, 1 for another answer, 2 if there is none, or not all of it.

use std::{
    fs,
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use clap::Parser;
use uncork::{
    TlsClient,
    client::{Client, Error, Request},
};

/// Fetches a URL and writes the body of the answer to standard output
#[derive(Parser)]
struct Args {
    /// What to fetch: http://… or https://…
    url: String,

    /// The method [default: GET, or POST if there is a body]
    #[arg(short = 'X', long)]
    method: Option<String>,

    /// A header field, as often as you like
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    headers: Vec<String>,

    /// The body to send; @FILE sends a file
    #[arg(short, long)]
    data: Option<String>,

    /// Write status and header fields first
    #[arg(short, long)]
    include: bool,

    /// Follow so many redirects at the most
    #[arg(short, long, value_name = "N", default_value_t = 0)]
    redirects: u8,

    /// Seconds for the whole of it
    #[arg(short, long, value_name = "SECONDS")]
    timeout: Option<u64>,

    /// Call whoever listens on this Unix socket
    #[arg(long, value_name = "PATH")]
    unix: Option<PathBuf>,

    /// Believe servers with certificates signed by these (PEM) instead of the system's
    #[arg(long, value_name = "FILE")]
    roots: Option<PathBuf>,
}

impl Args {
    fn call(&self) -> Result<Request, String> {
        let method = self.method.as_deref().unwrap_or(if self.data.is_some() { "POST" } else { "GET" });
        let mut call = Request::new(method, &self.url).max_redirects(self.redirects);
        for line in &self.headers {
            let (name, value) = line.split_once(':').ok_or_else(|| format!("{line:?} is no NAME: VALUE"))?;
            call = call.header(name, value);
        }
        if let Some(seconds) = self.timeout {
            call = call.timeout(Duration::from_secs(seconds));
        }
        if let Some(path) = &self.unix {
            call = call.unix(path);
        }
        Ok(match self.data.as_deref().map(|data| data.strip_prefix('@').ok_or(data)) {
            None => call,
            Some(Ok(file)) => call.body(fs::read(file).map_err(|error| format!("{file}: {error}"))?),
            Some(Err(data)) => call.body(data.to_owned()),
        })
    }
}

fn run(args: &Args) -> Result<bool, String> {
    let mut client = Client::builder().user_agent(concat!("uncork-fetch/", env!("CARGO_PKG_VERSION")));
    if let Some(file) = &args.roots {
        let tls = TlsClient::builder().roots(file).and_then(uncork::TlsClientBuilder::build);
        client = client.tls(tls.map_err(|error| error.to_string())?);
    }
    let mut answer = client.build().open_blocking(args.call()?).map_err(|error: Error| error.to_string())?;
    let mut out = io::stdout().lock();
    if args.include {
        let mut head = format!("{}\n", answer.status()).into_bytes();
        for (name, value) in answer.headers().iter() {
            head.extend_from_slice(&[name.as_bytes(), b": ", value, b"\n"].concat());
        }
        head.push(b'\n');
        out.write_all(&head).map_err(|error| error.to_string())?;
    }
    let copied = io::copy(&mut answer, &mut out).and_then(|_| out.flush());
    copied.map_err(|error| error.to_string())?;
    Ok(answer.status() < 400)
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("fetch: {error}");
            ExitCode::from(2)
        }
    }
}
