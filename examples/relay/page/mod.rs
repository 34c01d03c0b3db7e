//! The page for people, in front of whatever else is served.
//!
//! ```text
//!   GET  /             the page; for whoever does not ask for HTML, the curl lines as text
//!   POST /qr           a link of this page as a QR code
//!   GET  /favicon.svg
//!   GET  /robots.txt
//!   anything else      is not answered here
//! ```
//!
//! The page is one document with its style and its script, which is put together of `script/` when it is compiled. It
//! speaks to the rendezvous: `POST /stream`, PUT by the page of the sender, GET by the browser of the receiver, `/status`
//! by both. The server knows nothing of it. A download begins in a frame that stays empty, and is the browser's from then
//! on; if something is shown in there, it was refused.
//!
//! **What cannot happen.** The page runs nothing but its own script: the policy names it by its hash, and the page makes
//! no markup of strings. Nothing of a request is reflected in it. What others have sent does not run in this origin's
//! name: the rendezvous sees to that with every download (`RendezvousConfig::neutral`), and here, whatever is behind,
//! no script becomes a service worker of this origin, since then it would stand between the relay and its pages. The
//! link's secret is behind its `#`, and the QR code is asked for in a body: neither stands in a log before it is used.

// Of the file server; the relay has no ranges and no times.
#[path = "../../files/conditions.rs"]
#[allow(dead_code)]
mod conditions;
mod document;
mod qr;

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use uncork::{Action, Request, Response};

use self::{
    conditions::{Validators, Verdict, judge},
    document::Document,
};

/// Everything it answers.
pub(crate) const PATHS: &[&str] = &["/", "/qr", "/favicon.svg", "/robots.txt"];

/// What the page has to know of the services beside it.
#[derive(Clone, Debug)]
pub(crate) struct PageConfig {
    /// Base path of the rendezvous, if there is one.
    pub(crate) rendezvous: Option<String>,
    /// How long a stream's sides have to meet if nothing else is asked for.
    pub(crate) ttl: Duration,
    /// How long those of the page's links have.
    pub(crate) link: Duration,
    /// Base path of the session relay, if there is one.
    pub(crate) sessions: Option<String>,
}

/// The page. Clones are one page.
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

    /// From now on it is that of such services.
    pub(crate) fn reconfigure(&self, config: PageConfig) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(Shared::new(config));
    }

    fn shared(&self) -> Arc<Shared> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// To be asked before anything else is. `None`: the request is not the page's affair.
    pub(crate) fn respond(&self, req: &Request<'_>) -> Option<Action> {
        if req.header("service-worker").is_some() {
            return Some(Response::text("Nothing here is a service worker.\n").with_status(403).into());
        }
        let asks = matches!(req.method(), "GET" | "HEAD");
        Some(match req.path() {
            "/" | "/favicon.svg" | "/robots.txt" if !asks => not_allowed("GET, HEAD").into(),
            "/" if wants_html(req) => self.document(req).into(),
            "/" => document::usage(req, &self.shared().config).into(),
            "/favicon.svg" => image(include_str!("favicon.svg")).header("Cache-Control", "max-age=86400").into(),
            "/robots.txt" => Response::text("User-agent: *\nAllow: /$\nDisallow: /\n").into(),
            "/qr" if req.method() == "POST" => qr::answer(req),
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

/// Whoever shows pages says so. `*/*`, as from curl, is no wish for one.
fn wants_html(req: &Request<'_>) -> bool {
    let names = |value: &[u8]| value.split(|b| matches!(b, b',' | b';')).any(|t| t.trim_ascii() == b"text/html");
    req.headers().iter().any(|(name, value)| name.eq_ignore_ascii_case("accept") && names(value))
}

fn not_allowed(allow: &str) -> Response {
    Response::text("This is asked for in another way.\n").with_status(405).header("Allow", allow)
}

/// An SVG: shown, it may not even be styled from outside; opened by itself, it runs nothing.
fn image(svg: impl Into<uncork::Body>) -> Response {
    Response::new(200)
        .header("Content-Type", "image/svg+xml")
        .header("Content-Security-Policy", "default-src 'none'; sandbox")
        .header("X-Content-Type-Options", "nosniff")
        .header("Cross-Origin-Resource-Policy", "same-origin")
        .body(svg)
}
