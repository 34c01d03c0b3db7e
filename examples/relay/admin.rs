//! The admin listener for operators: metrics, health, lists of sessions, streams and tunnels, and the log level.
//!
//! ```text
//!   GET /metrics     Prometheus' text format            GET /sessions    sessions of the session relay, as JSON
//!   GET /health      200 while the program runs         GET /log-level   the log level
//!   GET /ready       200, or 503 while it shuts down    PUT /log-level   changes it: debug
//!   GET /stream      streams of the rendezvous          /send, /close    for the gateway's application; /stats, /presence, /ping
//!   GET /tunnels     connected origin servers, as JSON  GET /nodes       the nodes, as JSON
//! ```
//! HEAD is supported wherever GET is.
//!
//! There is no authentication: every client that reaches the listener may do all of this. On a loopback address, the
//! Host field must be an IP address or `localhost`. So a web page cannot use a browser on this machine to send requests
//! (DNS rebinding).

use std::{net::IpAddr, sync::Arc};

use serde::Serialize;
use uncork::{
    Action, Consumed, Handler, Request, Response, Tls, Upload,
    h1::Headers,
    relay::{Gateway, SessionInfo},
};

use super::{certificates, directory, json, logs, nodes, services::Services, site::Shared, tunnel};

/// Longest log level, in bytes.
const LEVEL: usize = 1024;

/// Everything on the admin listener.
#[derive(Clone)]
pub(crate) struct Admin {
    pub(crate) shared: Arc<Shared>,
    pub(crate) services: Services,
    /// The listener has a loopback address.
    pub(crate) is_local: bool,
    /// URL and certificate of each public HTTPS listener, and of the listener for other nodes.
    pub(crate) listeners: Arc<[(String, Tls)]>,
}

impl Handler for Admin {
    fn request(&mut self, req: &mut Request<'_>) -> Action {
        if self.is_local && !req.authority().is_some_and(is_own_name) {
            return text(403, "The Host field must be an IP address or localhost.").into();
        }
        let own_path = |gateway: &&Gateway| gateway.serves(req.path()) && gateway.config().path.connect != req.path();
        if let Some(gateway) = self.services.gateway.as_ref().filter(own_path) {
            return gateway.handle(req);
        }
        let get = matches!(req.method(), "GET" | "HEAD");
        match req.path() {
            "/metrics" if get => self.metrics(req).into(),
            "/health" if get => text(200, "alive").into(),
            "/ready" if get => self.ready().into(),
            "/log-level" if get => text(200, &logs::current().0).into(),
            // RFC 9110 §14.5: a server that does not support partial PUT responds with 400.
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
            "/nodes" if get => match &self.services.nodes {
                Some(nodes) => nodes::respond(nodes, &self.services, req),
                None => text(404, "There are no other nodes.").into(),
            },
            "/" if get => text(200, "/metrics /health /ready /sessions /stream /tunnels /nodes /log-level").into(),
            "/" | "/metrics" | "/health" | "/ready" | "/sessions" | "/stream" | "/tunnels" | "/nodes" => {
                Response::new(405).header("Allow", "GET, HEAD").into()
            }
            _ => text(404, "Not found.").into(),
        }
    }
}

impl Admin {
    fn ready(&self) -> Response {
        let is_degraded = self.services.directory.as_ref().is_some_and(|directory| !directory::is_ready(directory));
        match is_degraded {
            _ if !self.shared.is_ready() => text(503, "shutting down"),
            true if self.services.directory_is_required => text(503, "degraded: the directory is unavailable"),
            true => text(200, "degraded: the directory is unavailable"),
            false => text(200, "ready"),
        }
    }

    fn metrics(&self, req: &Request<'_>) -> Response {
        let mut page = self.shared.metrics.page(self.shared.is_ready());
        certificates::write_metrics(&mut page, &self.listeners);
        let lost = self.shared.access.lost();
        page.counter("access_log_lost_lines_total", "Lines of the access log that could not be written", lost);
        let Services { sessions, rendezvous, gateway, tunnel, nodes, .. } = &self.services;
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
            tunnel::write_metrics(&mut page, tunnel.counts());
            tunnel::write_directory(&mut page, tunnel);
        }
        if let Some(nodes) = nodes {
            nodes::write_metrics(&mut page, nodes);
        }
        if let Some(directory) = &self.services.directory {
            directory::write_metrics(&mut page, directory);
        }
        Response::new(200).header("Content-Type", "text/plain; version=0.0.4; charset=utf-8").body(page.0)
    }
}

fn text(status: u16, message: &str) -> Response {
    Response::text(format!("{message}\n")).with_status(status).header("Cache-Control", "no-store")
}

/// One session, as the list has it.
#[derive(Serialize)]
struct Entry<'a> {
    session: &'a str,
    owner: Option<IpAddr>,
    waiting_receivers: usize,
    waiting_senders: usize,
    transfers: usize,
    bytes: u64,
    seconds_left: u64,
}

fn list(sessions: &[SessionInfo]) -> Response {
    as_json(json::list(sessions.iter().map(|session| Entry {
        session: &session.name,
        owner: session.owner,
        waiting_receivers: session.receivers,
        waiting_senders: session.senders,
        transfers: session.transfers,
        bytes: session.bytes_relayed,
        seconds_left: session.remaining.as_secs(),
    })))
}

pub(crate) fn as_json(out: String) -> Response {
    Response::new(200).header("Content-Type", "application/json").header("Cache-Control", "no-store").body(out)
}

/// Returns `true` if the host is an IP address or `localhost`.
fn is_own_name(host: &str) -> bool {
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((v6, _)) => v6,
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}

/// The log level of a PUT, while it is received.
struct Level(Vec<u8>);

impl Upload for Level {
    fn data(&mut self, chunk: &[u8]) -> Consumed {
        self.0.extend_from_slice(chunk);
        if self.0.len() > LEVEL {
            Consumed::Stop(text(413, "A log level has at most 1024 bytes.").close().into())
        } else {
            Consumed::All
        }
    }

    fn end(self: Box<Self>, _: &Headers) -> Action {
        let level = String::from_utf8_lossy(&self.0);
        match logs::change(&level, logs::current().1) {
            Ok(()) => {
                log::info!("log level changed to {}", level.trim());
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
