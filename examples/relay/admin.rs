//! What operators see, on a listener of their own: counters, health, who is there, and how much is logged.
//!
//! ```text
//!   GET /metrics     Prometheus' text format        GET /sessions    the session relay's sessions, as JSON
//!   GET /health      200 while it runs              GET /log-level   how much is logged
//!   GET /ready       200, or 503 while it drains    PUT /log-level   from now on so much: debug
//!   GET /stream      the rendezvous' streams        /send, /close    the gateway's application; /stats and /ping
//!   GET /tunnels     the tunnel's origins, as JSON
//! ```
//! HEAD is answered wherever GET is.
//!
//! There are no users and no passwords here: who reaches the listener may do all of it. On a loopback address it serves
//! only who names it by an address or `localhost`, so that no web page can make a browser on this machine its messenger
//! (DNS rebinding).

use std::{net::IpAddr, sync::Arc};

use uncork::{
    Action, Consumed, Handler, Request, Response, Tls, Upload,
    h1::Headers,
    relay::{Gateway, SessionInfo},
};

use super::{
    certificates,
    logs::{self, json},
    services::Services,
    site::Shared,
    tunnel,
};

/// The longest log level anybody can mean.
const LEVEL: usize = 1024;

/// Everything on the admin listener.
#[derive(Clone)]
pub(crate) struct Admin {
    pub(crate) shared: Arc<Shared>,
    pub(crate) services: Services,
    /// It listens on a loopback address.
    pub(crate) is_local: bool,
    /// The public listeners that speak HTTPS: where, and with which certificate.
    pub(crate) listeners: Arc<[(String, Tls)]>,
}

impl Handler for Admin {
    fn request(&mut self, req: &mut Request<'_>) -> Action {
        if self.is_local && !req.authority().is_some_and(is_own_name) {
            return text(403, "This listener is asked for by its address, or as localhost.").into();
        }
        let own_path = |gateway: &&Gateway| gateway.serves(req.path()) && gateway.config().path.connect != req.path();
        if let Some(gateway) = self.services.gateway.as_ref().filter(own_path) {
            return gateway.handle(req);
        }
        let get = matches!(req.method(), "GET" | "HEAD");
        match req.path() {
            "/metrics" if get => self.metrics(req).into(),
            "/health" if get => text(200, "alive").into(),
            "/ready" if get && self.shared.is_ready() => text(200, "ready").into(),
            "/ready" if get => text(503, "draining").into(),
            "/log-level" if get => text(200, &logs::current().0).into(),
            // RFC 9110 §14.5: a part of a level is none.
            "/log-level" if req.method() == "PUT" && req.header("content-range").is_some() => {
                text(400, "Content-Range is not supported.").into()
            }
            "/log-level" if req.method() == "PUT" => Action::Receive(Box::new(Level(Vec::new()))),
            "/log-level" => Response::new(405).header("Allow", "GET, HEAD, PUT").into(),
            "/sessions" if get => match &self.services.sessions {
                Some(sessions) => list(&sessions.sessions(req.now())).into(),
                None => text(404, "The session relay is off.").into(),
            },
            "/stream" if get => match &self.services.rendezvous {
                Some(rendezvous) => rendezvous.list(req.now()).header("Cache-Control", "no-store").into(),
                None => text(404, "The rendezvous is off.").into(),
            },
            "/tunnels" if get => match &self.services.tunnel {
                Some(tunnel) => as_json(tunnel::list(&tunnel.connections())).into(),
                None => text(404, "The tunnel is off.").into(),
            },
            "/" if get => text(200, "/metrics /health /ready /sessions /stream /tunnels /log-level").into(),
            "/" | "/metrics" | "/health" | "/ready" | "/sessions" | "/stream" | "/tunnels" => {
                Response::new(405).header("Allow", "GET, HEAD").into()
            }
            _ => text(404, "There is nothing here.").into(),
        }
    }
}

impl Admin {
    fn metrics(&self, req: &Request<'_>) -> Response {
        let mut page = self.shared.metrics.page(self.shared.is_ready());
        certificates::tell(&mut page, &self.listeners);
        let lost = self.shared.access.lost();
        page.counter("access_log_lost_lines_total", "Lines of the access log that could not be written", lost);
        let Services { sessions, rendezvous, gateway, tunnel, .. } = &self.services;
        if let Some(sessions) = sessions {
            page.sessions(&sessions.sessions(req.now()), sessions.counts(req.now()));
        }
        if let Some(rendezvous) = rendezvous {
            page.rendezvous(rendezvous.counts(req.now()));
        }
        if let Some(gateway) = gateway {
            page.gateway(gateway.stats());
        }
        if let Some(tunnel) = tunnel {
            tunnel::tell(&mut page, tunnel.counts());
        }
        Response::new(200).header("Content-Type", "text/plain; version=0.0.4; charset=utf-8").body(page.0)
    }
}

fn text(status: u16, words: &str) -> Response {
    Response::text(format!("{words}\n")).with_status(status).header("Cache-Control", "no-store")
}

fn list(sessions: &[SessionInfo]) -> Response {
    let mut out = String::from("[");
    for (n, session) in sessions.iter().enumerate() {
        let comma = if n == 0 { "" } else { "," };
        let owner = session.owner.map_or_else(|| "null".to_owned(), |ip| json(&ip.to_string()));
        out += &format!(
            "{comma}\n{{\"session\":{},\"owner\":{owner},\"waiting_receivers\":{},\"waiting_senders\":{},\
             \"transfers\":{},\"bytes\":{},\"seconds_left\":{}}}",
            json(&session.name),
            session.receivers,
            session.senders,
            session.transfers,
            session.bytes_relayed,
            session.remaining.as_secs()
        );
    }
    out += "\n]\n";
    as_json(out)
}

fn as_json(out: String) -> Response {
    Response::new(200).header("Content-Type", "application/json").header("Cache-Control", "no-store").body(out)
}

/// Whether a Host field has an address in it, or `localhost`: nobody else's name leads here.
fn is_own_name(host: &str) -> bool {
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((v6, _)) => v6,
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}

/// A new log level, until it is whole.
struct Level(Vec<u8>);

impl Upload for Level {
    fn data(&mut self, chunk: &[u8]) -> Consumed {
        self.0.extend_from_slice(chunk);
        if self.0.len() > LEVEL {
            Consumed::Stop(text(413, "That is no log level.").close().into())
        } else {
            Consumed::All
        }
    }

    fn end(self: Box<Self>, _: &Headers) -> Action {
        let level = String::from_utf8_lossy(&self.0);
        match logs::change(&level, logs::current().1) {
            Ok(()) => {
                log::info!("the log level is {}", level.trim());
                text(200, level.trim()).into()
            }
            Err(error) => text(400, &error).into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_its_own_names_are_its_own() {
        for own in ["localhost", "LOCALHOST:9090", "127.0.0.1:9090", "127.0.0.1", "[::1]:9090", "[::1]"] {
            assert!(is_own_name(own), "{own}");
        }
        for other in ["example.org", "example.org:9090", "localhost.example.org", "", "127.0.0.1.example.org"] {
            assert!(!is_own_name(other), "{other}");
        }
    }
}
