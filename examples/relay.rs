//! The relays, ready to run. The rendezvous: one sends a file to a stream, the other takes it out.
//!
//!     cargo run --release --example relay
//!
//!     U=http://127.0.0.1:8080
//!     S=$U/stream/$(curl -s -X POST $U/stream | cut -d '"' -f 4)
//!     curl -T photo.jpg $S &
//!     curl -o copy.jpg $S
//!     cmp photo.jpg copy.jpg
//!
//! The session relay: the same in both directions, for as long as the session lives.
//!
//!     S=$U$(curl -s -c jar.txt -o /dev/null -w '%header{location}' -X PUT $U/cama/session)
//!     curl -X POST -T photo.jpg $S &       # the guest sends: the URL is all it needs
//!     curl -b jar.txt -o copy.jpg $S       # the host receives: the cookie makes it the host
//!     cmp photo.jpg copy.jpg
//!
//! HTTPS: `--tls-cert cert.pem --tls-key key.pem`. All flags: `--help`.

mod common;
#[path = "relay/page/mod.rs"]
mod page;

use std::{process::ExitCode, time::Duration};

use clap::Parser;
use uncork::{
    Action, Handler, Request, Response,
    relay::{InvalidConfig, Rendezvous, RendezvousConfig, SessionConfig, SessionRelay},
};

use page::{Page, PageConfig};

/// Two peers exchange HTTP bodies through a URL: POST /stream, then PUT and GET /stream/ID; or PUT /cama/session, then
/// POST and GET what its Location says.
#[derive(Debug, Parser)]
#[command(name = "relay", after_help = "Open the address in a browser to send a file or a text to another device.")]
struct Args {
    #[command(flatten)]
    serve: common::ServeArgs,
    #[command(flatten)]
    relay: RelayArgs,

    #[command(flatten)]
    rendezvous: RendezvousArgs,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Rendezvous")]
struct RendezvousArgs {
    /// How long the sides of a stream have to meet
    #[arg(long, value_name = "SECONDS", default_value_t = RendezvousConfig::default().ttl.as_secs())]
    rendezvous_ttl: u64,

    /// The most a client can ask for with ?ttl=N
    #[arg(long, value_name = "SECONDS", default_value_t = RendezvousConfig::default().ttl_max.as_secs())]
    rendezvous_ttl_max: u64,

    /// How long /status tells of a stream that is over
    #[arg(long, value_name = "SECONDS", default_value_t = RendezvousConfig::default().record.as_secs())]
    rendezvous_record: u64,
}

impl RendezvousArgs {
    fn config(&self, body: u64, allow_origins: Vec<String>) -> RendezvousConfig {
        RendezvousConfig {
            ttl: Duration::from_secs(self.rendezvous_ttl),
            ttl_max: Duration::from_secs(self.rendezvous_ttl_max),
            record: Duration::from_secs(self.rendezvous_record),
            body,
            allow_origins,
            ..RendezvousConfig::default()
        }
    }
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Session relay")]
struct RelayArgs {
    /// Path under which the relay lives
    #[arg(long, value_name = "PATH", default_value = "/cama")]
    base_path: String,

    /// Sessions in all
    #[arg(long, value_name = "N", default_value_t = SessionConfig::default().sessions)]
    sessions: usize,

    /// Sessions allocated by one address
    #[arg(long, value_name = "N", default_value_t = SessionConfig::default().sessions_per_address)]
    sessions_per_address: usize,

    /// Sessions one address may allocate in a minute, over a long time; 0 for no limit
    #[arg(long, value_name = "N", default_value_t = SessionConfig::default().allocations_per_minute)]
    allocations_per_minute: u32,

    /// Sessions one address may allocate at once
    #[arg(long, value_name = "N", default_value_t = SessionConfig::default().allocation_burst)]
    allocation_burst: u32,

    /// How long a session lives while nobody is connected to it
    #[arg(long, value_name = "SECONDS", default_value_t = SessionConfig::default().ttl.as_secs())]
    session_ttl: u64,

    /// The most a client can ask for with ?timeout=N
    #[arg(long, value_name = "SECONDS", default_value_t = SessionConfig::default().ttl_max.as_secs())]
    session_ttl_max: u64,

    /// How long a session lives at most
    #[arg(long, value_name = "SECONDS", default_value_t = SessionConfig::default().lifetime.as_secs())]
    session_lifetime: u64,

    /// How long a request waits for its partner
    #[arg(long, value_name = "SECONDS", default_value_t = SessionConfig::default().request_timeout.as_secs())]
    request_timeout: u64,

    /// The most a client can ask for with X-Timeout or ?timeout=N
    #[arg(long, value_name = "SECONDS", default_value_t = SessionConfig::default().request_timeout_max.as_secs())]
    request_timeout_max: u64,

    /// Origin whose pages may use the relay (CORS), or * for all; may be repeated
    #[arg(long, value_name = "ORIGIN")]
    allow_origin: Vec<String>,

    /// Break the receiver's connection when the sender of a chunked message is lost, instead of ending the message
    #[arg(long)]
    abort_when_cut: bool,

    /// Value of the Server field; empty for none
    #[arg(long, value_name = "NAME", default_value_t = SessionConfig::default().server)]
    server_name: String,
}

impl RelayArgs {
    fn config(self, body: u64) -> SessionConfig {
        let default = SessionConfig::default();
        SessionConfig {
            base_path: self.base_path,
            server: self.server_name,
            ttl: Duration::from_secs(self.session_ttl),
            ttl_min: default.ttl_min.min(Duration::from_secs(self.session_ttl_max)),
            ttl_max: Duration::from_secs(self.session_ttl_max),
            lifetime: Duration::from_secs(self.session_lifetime),
            request_timeout: Duration::from_secs(self.request_timeout),
            request_timeout_max: Duration::from_secs(self.request_timeout_max.max(self.request_timeout)),
            sessions: self.sessions,
            sessions_per_address: self.sessions_per_address,
            allocations_per_minute: self.allocations_per_minute,
            allocation_burst: self.allocation_burst,
            body,
            pipe: default.pipe,
            allow_origins: self.allow_origin,
            clean_when_cut: !self.abort_when_cut,
        }
    }
}

/// The relays. Around them is the page for people.
#[derive(Clone)]
struct Site {
    relay: SessionRelay,
    rendezvous: Rendezvous,
}

impl Handler for Site {
    fn request(&mut self, req: &mut Request<'_>) -> Action {
        match req.path() {
            path if self.relay.serves(path) => self.relay.handle(req),
            path if self.rendezvous.serves(path) => self.rendezvous.handle(req),
            _ => Response::text("There is nothing here.\n").status(404).into(),
        }
    }

    fn stopping(&mut self) {
        self.relay.stopping();
        self.rendezvous.stopping();
    }
}

fn main() -> ExitCode {
    let mut args = Args::parse();
    let body = *args.serve.max_body.get_or_insert(SessionConfig::default().body);
    let site = |relay: RelayArgs, rendezvous: &RendezvousArgs| -> Result<Page<Site>, InvalidConfig> {
        let rendezvous = Rendezvous::new(rendezvous.config(body, relay.allow_origin.clone()))?;
        let relay = SessionRelay::new(relay.config(body))?;
        let page = PageConfig {
            rendezvous: Some(rendezvous.config().base_path.clone()),
            ttl: rendezvous.config().ttl,
            ttl_max: rendezvous.config().ttl_max,
            sessions: Some(relay.config().base_path.clone()),
        };
        Ok(Page::new(page, Site { relay, rendezvous }))
    };
    match site(args.relay, &args.rendezvous) {
        Ok(site) => common::serve(&args.serve, site),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}
