//! A small chat: an application that uses only HTTP, a gateway in front of it, and a page.
//!
//!     cargo run --release --example chat      # then open http://127.0.0.1:8080/ in two windows
//!     # in another terminal: may a user have this name?
//!     curl -i 'http://127.0.0.1:8080/name?ann'
//!
//! ```text
//!   page ══WebSocket══▶ gateway ──POST connect, establish, receive, close──▶ app.rs
//!   page ◀═════════════ gateway ◀──────────POST /send ────────────────────── app.rs
//! ```
//!
//! A page that cannot connect asks for the reason at `/name`, since a browser hides the response that rejects a
//! WebSocket.
//!
//! Both run in this program and have only each other's address, so they could run on two machines. `app.rs` is the
//! whole application.

use std::{process::ExitCode, time::Duration};

use clap::Parser;
use uncork::{
    Action, Handler, Limits, Request, Response, Server,
    client::{self, Client},
    relay::{Gateway, GatewayCallbacks, GatewayConfig, GatewayLimits, OriginPolicy},
};

#[path = "../common/mod.rs"]
mod common;
use common::Failure;

mod app;

/// Timeout of a request to the application.
const CALLBACK_TIMEOUT: Duration = Duration::from_secs(10);

/// A small chat in the browser.
#[derive(Debug, Parser)]
#[command(name = "chat", version)]
struct Args {
    #[command(flatten)]
    serve: common::ServeArgs,
}

/// The gateway, and the page.
#[derive(Clone)]
struct Site {
    gateway: Gateway,
    client: Client,
    /// URL at which the application says whether a name is free.
    names: String,
}

impl Handler for Site {
    fn request(&mut self, req: &mut Request<'_>) -> Action {
        match (req.method(), req.path()) {
            ("GET" | "HEAD", "/") => page().into(),
            ("GET", "/name") => self.ask(req),
            // The application uses another listener.
            (_, path) if path == self.gateway.config().path.connect => self.gateway.handle(req),
            _ => Response::text("Not found.\n").with_status(404).into(),
        }
    }

    fn stopping(&mut self) {
        self.gateway.stopping();
    }
}

impl Site {
    /// Asks the application whether a user of this name may connect, and passes its response on.
    fn ask(&self, req: &mut Request<'_>) -> Action {
        let url = format!("{}?{}", self.names, req.query().unwrap_or_default());
        let (call, ticket) = (client::Request::get(&url).timeout(CALLBACK_TIMEOUT), req.ticket());
        self.client.send_collect(&req.loop_handle(), call, 4096, move |result| {
            let response = match result {
                Ok(whole) => Response::new(whole.status).header("Content-Type", "text/plain").body(whole.body),
                Err(_) => Response::text("The application cannot be reached.\n").with_status(502),
            };
            let _ = ticket.respond(response.header("Cache-Control", "no-store"));
        });
        Action::Suspend
    }
}

fn page() -> Response {
    Response::new(200)
        .header("Content-Type", "text/html; charset=utf-8")
        .header(
            "Content-Security-Policy",
            "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; \
             frame-ancestors 'none'",
        )
        .header("X-Content-Type-Options", "nosniff")
        .header("Cache-Control", "no-cache")
        .body(include_str!("page.html"))
}

fn main() -> ExitCode {
    let args = Args::parse();
    match start() {
        Ok(site) => common::serve(&args.serve, site),
        error => common::exit(error.map(drop)),
    }
}

/// Starts the application and the gateway's listener for it, each on a loopback port of its own, and returns the site.
fn start() -> Result<Site, Failure> {
    let cannot_start = |error| Failure::system("cannot start the application")(error);
    let (application, internal) = (common::listen("127.0.0.1:0")?, common::listen("127.0.0.1:0")?);
    let [application_addr, internal_addr] =
        [&application, &internal].map(|listen| listen.local_addr().map(|addr| addr.to_string()));
    let url = |path: &str| format!("http://{}{path}", application_addr.as_deref().unwrap_or_default());

    let config = GatewayConfig {
        endpoint: internal_addr.unwrap_or_default(),
        callback: GatewayCallbacks {
            connect: url("/connect"),
            establish: url("/establish"),
            receive: url("/receive"),
            close: url("/close"),
            timeout: Some(CALLBACK_TIMEOUT),
        },
        // Pages of other sites must not connect.
        origin_policy: OriginPolicy::SameOrigin,
        // A suspended window must not delay the others.
        send_queue_size: 64,
        send_timeout: Some(Duration::from_millis(500)),
        limits: GatewayLimits { message: 4096, ..GatewayLimits::default() },
        ..GatewayConfig::default()
    };
    let limits = config.server_limits(Limits::default());
    let gateway = Gateway::new(config).map_err(|error| Failure(error.to_string(), 1))?;

    Server::new().listen(internal).limits(limits).threads(1, gateway.clone()).map_err(cannot_start)?;
    Server::new().listen(application).threads(1, app::Chat::default()).map_err(cannot_start)?;
    Ok(Site { gateway, client: Client::default(), names: url("/name") })
}
