//! The web page, in front of all services.
//!
//! ```text
//!   GET  /             the page; for clients that do not accept HTML, curl commands as text
//!   POST /qr           a link of this page as a QR code
//!   GET  /favicon.svg
//!   GET  /robots.txt
//!   any other          None: a service responds
//! ```
//!
//! The page is one document with its style and its script, which is put together from `script/` at compile time. It
//! uses the rendezvous: the sender's page sends `POST /stream` and PUT, the receiver's browser sends GET, and both poll
//! `/status`. The server has no code for it. A download begins in a hidden frame, and the browser then handles it like
//! any other. If the frame loads a document, the download was rejected.
//!
//! The sender's page creates a second stream and waits for it with GET. The receiver's page finds its id in the first
//! stream's status, and sends an empty PUT when the link was opened. It costs the relay a suspended request. A program
//! that previews links runs no script, so it reports nothing.
//!
//! **Security.** The page runs only its own script: the policy names it by its hash, and the page never builds markup
//! from strings. It reflects nothing of a request. Uploaded content cannot run with this origin: the rendezvous ensures
//! that for every download (`RendezvousConfig::neutral`). This module rejects service workers, which could intercept
//! the relay's pages. The link's secret follows its `#`, and the QR code is requested in a body, so neither is logged
//! before it is used.

// From the file server; the relay uses neither ranges nor dates.
#[path = "../../files/conditions.rs"]
#[allow(dead_code)]
mod conditions;
mod document;
pub(crate) mod qr;

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use uncork::{Action, Request, Response};

use self::{
    conditions::{Validators, Verdict, judge},
    document::Document,
};

/// The paths of the page.
pub(crate) const PATHS: &[&str] = &["/", "/qr", "/favicon.svg", "/robots.txt"];

/// What the page needs to know about the services.
#[derive(Clone, Debug)]
pub(crate) struct PageConfig {
    /// Base path of the rendezvous, if it is enabled.
    pub(crate) rendezvous: Option<String>,
    /// Default lifetime of a stream.
    pub(crate) ttl: Duration,
    /// Lifetime of the streams of the page's links.
    pub(crate) link: Duration,
    /// Base path of the session relay, if it is enabled.
    pub(crate) sessions: Option<String>,
}

/// The page. Clones share the same page.
#[derive(Clone, Debug)]
pub(crate) struct Page(Arc<RwLock<Arc<Shared>>>);

#[derive(Debug)]
struct Shared {
    config: PageConfig,
    document: Document,
}

impl Shared {
    fn new(config: PageConfig) -> Self {
        let document = Document::new(&config);
        Self { config, document }
    }
}

impl Page {
    pub(crate) fn new(config: PageConfig) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(Shared::new(config)))))
    }

    /// Rebuilds the page for other services.
    pub(crate) fn reconfigure(&self, config: PageConfig) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(Shared::new(config));
    }

    fn shared(&self) -> Arc<Shared> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Responds to requests for the page; `None` for all others. Must be called before the services.
    pub(crate) fn respond(&self, req: &Request<'_>) -> Option<Action> {
        if req.header("service-worker").is_some() {
            return Some(Response::text("Service workers are not allowed.\n").with_status(403).into());
        }
        let is_get = matches!(req.method(), "GET" | "HEAD");
        Some(match req.path() {
            "/" | "/favicon.svg" | "/robots.txt" if !is_get => not_allowed("GET, HEAD").into(),
            "/" if wants_html(req) => self.document(req).into(),
            "/" => document::usage(req, &self.shared().config).into(),
            "/favicon.svg" => image(include_str!("favicon.svg")).header("Cache-Control", "max-age=86400").into(),
            "/robots.txt" => Response::text("User-agent: *\nAllow: /$\nDisallow: /\n").into(),
            "/qr" if req.method() == "POST" => qr::respond(req),
            "/qr" => not_allowed("POST").into(),
            _ => return None,
        })
    }

    fn document(&self, req: &Request<'_>) -> Response {
        let document = &self.shared().document;
        let verdict = judge(req.headers(), &Validators { etag: Some(document.etag.clone()), modified: None });
        let status = match verdict {
            Verdict::Go => 200,
            Verdict::NotModified => 304,
            Verdict::Failed => 412,
        };
        let response = Response::new(status)
            .header("Cache-Control", "no-cache")
            .header("Vary", "Accept")
            .header("ETag", &document.etag)
            .header("Content-Security-Policy", &document.policy)
            .header("X-Content-Type-Options", "nosniff")
            .header("Referrer-Policy", "no-referrer")
            .header("Cross-Origin-Opener-Policy", "same-origin")
            .header("Cross-Origin-Resource-Policy", "same-origin");
        match verdict {
            Verdict::NotModified => response,
            Verdict::Failed => response.header("Content-Type", "text/plain").body("The page has changed.\n"),
            Verdict::Go => response.header("Content-Type", "text/html; charset=utf-8").body(document.html.clone()),
        }
    }
}

/// Returns `true` if the client lists `text/html`, as browsers do; `*/*`, as from curl, is not enough.
fn wants_html(req: &Request<'_>) -> bool {
    let names = |value: &[u8]| value.split(|b| matches!(b, b',' | b';')).any(|t| t.trim_ascii() == b"text/html");
    req.headers().iter().any(|(name, value)| name.eq_ignore_ascii_case("accept") && names(value))
}

fn not_allowed(allow: &str) -> Response {
    Response::text("Method not allowed.\n").with_status(405).header("Allow", allow)
}

/// Returns an SVG with a policy that keeps it from loading or running anything, even if it is opened by itself.
fn image(svg: impl Into<uncork::Body>) -> Response {
    Response::new(200)
        .header("Content-Type", "image/svg+xml")
        .header("Content-Security-Policy", "default-src 'none'; sandbox")
        .header("X-Content-Type-Options", "nosniff")
        .header("Cross-Origin-Resource-Policy", "same-origin")
        .body(svg)
}
