//! Fetches a URL with the blocking client and streams the body to standard output.
//!
//!     cargo run --release --example echo
//!     # in another terminal:
//!     cargo run --release --example fetch -- -d @README.md http://127.0.0.1:8080/
//!     cargo run --release --example fetch -- -i -X PUT -H 'Content-Type: text/plain' -d hello http://127.0.0.1:8080/
//!
//! Any other URL will do, such as `https://example.com/`.
//! Exit codes: 0 for a status below 400, 1 for another status, 2 if there is no response or it is truncated.

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

/// Fetches a URL and writes the body of the response to standard output
#[derive(Parser)]
struct Args {
    /// URL to fetch: http://… or https://…
    url: String,

    /// Method [default: GET, or POST if there is a body]
    #[arg(short = 'X', long)]
    method: Option<String>,

    /// Header field; may be repeated
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    headers: Vec<String>,

    /// Body to send; @FILE sends a file
    #[arg(short, long)]
    data: Option<String>,

    /// Write status and header fields first
    #[arg(short, long)]
    include: bool,

    /// Maximum number of redirects to follow
    #[arg(short, long, value_name = "N", default_value_t = 0)]
    redirects: u8,

    /// Timeout for the whole request and response
    #[arg(short, long, value_name = "SECONDS", value_parser = timeout)]
    timeout: Option<Duration>,

    /// Connect to this Unix socket
    #[arg(long, value_name = "PATH")]
    unix: Option<PathBuf>,

    /// Trust server certificates signed by these (PEM) instead of the system's
    #[arg(long, value_name = "FILE")]
    roots: Option<PathBuf>,
}

impl Args {
    fn request(&self) -> Result<Request, String> {
        let method = self.method.as_deref().unwrap_or(if self.data.is_some() { "POST" } else { "GET" });
        let mut request = Request::new(method, &self.url).max_redirects(self.redirects);
        for line in &self.headers {
            let (name, value) =
                line.split_once(':').ok_or_else(|| format!("invalid header field {line:?}: expected NAME: VALUE"))?;
            request = request.header(name, value);
        }
        if let Some(timeout) = self.timeout {
            request = request.timeout(timeout);
        }
        if let Some(path) = &self.unix {
            request = request.unix(path);
        }
        Ok(match self.data.as_deref().map(|data| data.strip_prefix('@').ok_or(data)) {
            None => request,
            Some(Ok(file)) => request.body(fs::read(file).map_err(|error| format!("{file}: {error}"))?),
            Some(Err(data)) => request.body(data.to_owned()),
        })
    }
}

/// Parses a timeout. Without the flag there is none for the whole request, so 0 would have no meaning of its own.
fn timeout(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().filter(|seconds| *seconds > 0);
    seconds.map(Duration::from_secs).ok_or_else(|| "expected whole seconds, 1 or more".to_owned())
}

fn run(args: &Args) -> Result<bool, String> {
    let mut client = Client::builder().user_agent(concat!("uncork-fetch/", env!("CARGO_PKG_VERSION")));
    if let Some(file) = &args.roots {
        let tls = TlsClient::builder().roots(file).and_then(uncork::TlsClientBuilder::build);
        client = client.tls(tls.map_err(|error| error.to_string())?);
    }
    let mut response = client.build().open_blocking(args.request()?).map_err(|error: Error| error.to_string())?;
    let mut out = io::stdout().lock();
    if args.include {
        let mut head = format!("{}\n", response.status()).into_bytes();
        for (name, value) in response.headers().iter() {
            head.extend_from_slice(&[name.as_bytes(), b": ", value, b"\n"].concat());
        }
        head.push(b'\n');
        out.write_all(&head).map_err(|error| error.to_string())?;
    }
    let copied = io::copy(&mut response, &mut out).and_then(|_| out.flush());
    copied.map_err(|error| error.to_string())?;
    Ok(response.status() < 400)
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
