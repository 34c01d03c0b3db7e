//! Several relays that serve the same sessions, streams and tunnels: the nodes of the settings, and the listener for
//! them.

use std::{net::SocketAddr, time::Duration};

use serde::Serialize;
use uncork::{
    Action, Limits, Listen, Request, Running, Server, Tls, TlsClient,
    relay::nodes::{NodeListener, NodeState, Nodes, NodesConfig},
};

use super::{Failure, admin, directory, files, json, listen, metrics::Page, services::Services, settings::Settings};

/// Longest field that a node adds to a request, in bytes.
const FIELD: usize = 512;

/// Interval of the questions to other nodes. It is shorter than the time that the client keeps an idle connection, so
/// that the metric has the time of a hop without connecting.
const INTERVAL: Duration = Duration::from_secs(5);

/// Returns the nodes of the settings, if this relay is one, and what replaces the certificate that it shows to others.
pub(crate) fn nodes(settings: &Settings) -> Result<Option<(Nodes, Option<TlsClient>)>, Failure> {
    let own = &settings.node;
    let invalid = |message: &str| Failure::config(format!("[node] {message}"));
    if own.id.0.is_empty() {
        let others = [&own.key_file, &own.tls_cert, &own.tls_key, &own.tls_ca];
        let is_set = !own.listen.0.is_empty() || !own.nodes.is_empty();
        return match is_set || others.iter().any(|file| !file.as_os_str().is_empty()) {
            true => Err(invalid("id is missing: the other settings of this section need it")),
            false => Ok(None),
        };
    }
    if own.listen.0.is_empty() {
        return Err(invalid("listen is missing: the other nodes need an address"));
    }
    if own.key_file.as_os_str().is_empty() {
        return Err(invalid("key-file is missing: openssl rand -base64 48 makes a key"));
    }
    let files = [&own.tls_cert, &own.tls_key, &own.tls_ca].map(|file| !file.as_os_str().is_empty());
    if files.contains(&true) && files.contains(&false) {
        return Err(invalid(
            "tls-cert, tls-key and tls-ca belong together: a node shows its certificate on both sides",
        ));
    }
    let has_tls = files.contains(&true);
    if let Some(node) = own.nodes.iter().find(|node| node.url().starts_with("https://") != has_tls) {
        let expected = if has_tls { "https with tls-cert" } else { "http without tls-cert" };
        return Err(invalid(&format!("invalid URL {:?}: expected {expected}", node.url())));
    }
    let tls = if has_tls { Some(client(settings)?) } else { None };
    let config = NodesConfig {
        id: own.id.0.clone(),
        key: key(settings)?,
        nodes: own.nodes.iter().map(|node| (node.id().to_owned(), node.url().to_owned())).collect(),
        tls: tls.clone(),
        ..NodesConfig::default()
    };
    Nodes::new(config).map(|nodes| Some((nodes, tls))).map_err(|error| invalid(&error.to_string()))
}

/// Reads the key, without white space at its ends.
fn key(settings: &Settings) -> Result<Vec<u8>, Failure> {
    let file = settings.node.key_file.clone();
    let what = format!("--node-key-file {}", file.display());
    let read = files::with_timeout(&what, move || std::fs::read(file)).map_err(Failure::config)?;
    let key = read.map_err(|error| Failure::config(format!("cannot read {what}: {error}")))?;
    Ok(key.trim_ascii().to_vec())
}

/// Returns the certificate that this node shows to others, and those that it trusts.
fn client(settings: &Settings) -> Result<TlsClient, Failure> {
    let own = &settings.node;
    let ca = own.tls_ca.clone();
    listen::load("--node-", &own.tls_cert, &own.tls_key, move |cert, key| {
        TlsClient::builder().roots(&ca)?.certificate(cert, key)?.build()
    })
}

/// Returns the certificate of the listener for other nodes, if there is one.
pub(crate) fn certificate(settings: &Settings) -> Result<Option<Tls>, Failure> {
    let own = &settings.node;
    if own.id.0.is_empty() || own.tls_cert.as_os_str().is_empty() {
        return Ok(None);
    }
    let ca = own.tls_ca.clone();
    let tls = listen::load("--node-", &own.tls_cert, &own.tls_key, move |cert, key| {
        Tls::builder().pem(cert, key)?.client_certificates(&ca, true)?.build()
    });
    tls.map(Some)
}

/// The certificates between nodes, which can be renewed while they are in use.
pub(crate) struct NodeTls {
    nodes: Nodes,
    url: String,
    server: Tls,
    client: TlsClient,
}

impl NodeTls {
    /// Returns the URL of the listener for other nodes, and its certificate.
    pub(crate) fn listener(&self) -> (String, Tls) {
        (self.url.clone(), self.server.clone())
    }

    /// Reads the certificates again, those of the authority too. New connections have them, in both directions.
    pub(crate) fn renew(&self, settings: &Settings) -> Result<(), Failure> {
        // Both are read before either is in use.
        let Some(server) = certificate(settings)? else { return Ok(()) };
        let client = client(settings)?;
        // As a whole: a session that began with a certificate of the old authority must not be resumed.
        self.server.replace(&server);
        self.client.replace(&client);
        self.nodes.close_idle();
        Ok(())
    }
}

/// The open listener for other nodes.
pub(crate) struct OpenNode {
    server: Server,
    url: String,
    tls: Option<Tls>,
}

/// Opens the listener for other nodes, if this relay is one.
pub(crate) fn bind(settings: &Settings) -> Result<Option<OpenNode>, Failure> {
    let own = &settings.node;
    if own.id.0.is_empty() {
        return Ok(None);
    }
    let listen =
        Listen::tcp(&*own.listen.0).map_err(|error| Failure::system_message(format!("--node-listen: {error}")))?;
    let tls = certificate(settings)?;
    let (listen, scheme) = match &tls {
        None => (listen, "http"),
        Some(tls) => (listen.tls(tls.clone()), "https"),
    };
    let addr = listen.local_addr().map_or_else(|| own.listen.0.clone(), |addr: SocketAddr| addr.to_string());
    if scheme == "http" && !own.listen.0.parse::<SocketAddr>().is_ok_and(|addr| addr.ip().is_loopback()) {
        log::warn!("other nodes send clients' data to {addr} without TLS: restrict access to that network");
    }
    Ok(Some(OpenNode { server: Server::new().listen(listen), url: format!("{scheme}://{addr}"), tls }))
}

impl OpenNode {
    /// Returns the certificates between nodes, if there are any.
    pub(crate) fn tls(&self, services: &Services) -> Option<NodeTls> {
        let (nodes, client) = (services.nodes.clone()?, services.node_client.clone()?);
        Some(NodeTls { nodes, url: self.url.clone(), server: self.tls.clone()?, client })
    }

    /// Serves other nodes. Their clients' addresses were counted where they connect.
    pub(crate) fn start(
        self,
        nodes: &Nodes,
        services: &Services,
        threads: usize,
        limits: Limits,
    ) -> Result<Running, Failure> {
        let mut listener = NodeListener::new(nodes.clone());
        if let Some(sessions) = &services.sessions {
            listener = listener.sessions(sessions);
        }
        if let Some(rendezvous) = &services.rendezvous {
            listener = listener.rendezvous(rendezvous);
        }
        if let Some(gateway) = services.gateway.as_ref().filter(|_| services.directory.is_some()) {
            listener = listener.gateway(gateway);
        }
        if let Some(tunnel) = &services.tunnel {
            listener = listener.tunnel(tunnel);
        }
        let limits = Limits { connections_per_address: usize::MAX, head: limits.head.saturating_add(FIELD), ..limits };
        let running = self.server.limits(limits).threads(threads, listener);
        let running = running.map_err(|error| Failure::system(&"cannot start the listener for nodes", &error))?;
        if let (Some(tunnel), Some(on)) = (&services.tunnel, running.loops().first()) {
            tunnel.start_directory(on);
        }
        if let Some(on) = running.loops().first() {
            nodes.watch(on, INTERVAL);
        }
        let others: Vec<String> = nodes.others().iter().map(|node| format!("{} at {}", node.id, node.url)).collect();
        let others = if others.is_empty() { "none".to_owned() } else { others.join(", ") };
        log::info!("node {}: listening for other nodes on {}; other nodes: {others}", nodes.id(), self.url);
        Ok(running)
    }
}

/// One node, as the list has it.
#[derive(Serialize)]
struct Entry<'a> {
    node: &'a str,
    /// None: this node.
    url: Option<&'a str>,
    responds: bool,
    version: Option<&'a str>,
    sessions: Option<u64>,
    streams: Option<u64>,
    origin_connections: Option<u64>,
    clock_ahead_ms: Option<i64>,
    round_trip_seconds: Option<f64>,
    forwarded: u64,
    failed: u64,
    error: Option<&'a str>,
    /// Of this node.
    directory: Option<directory::Entry>,
}

/// Asks all nodes, and responds with a list of them as JSON: this one first, then the others with what was forwarded to
/// them.
pub(crate) fn respond(nodes: &Nodes, services: &Services, req: &mut Request<'_>) -> Action {
    let (ticket, id, now) = (req.ticket(), nodes.id(), req.now());
    let sessions = services.sessions.as_ref().map(|sessions| sessions.counts(now).sessions as u64);
    let streams = services.rendezvous.as_ref().map(|rendezvous| rendezvous.counts(now));
    let streams = streams.map(|counts| (counts.waiting + counts.running) as u64);
    let origins = services.tunnel.as_ref().map(|tunnel| tunnel.counts().connections);
    let own_directory = services.directory.as_ref().map(directory::entry);
    nodes.ask(req, move |others| {
        let own = Entry {
            node: &id,
            url: None,
            responds: true,
            version: Some(env!("CARGO_PKG_VERSION")),
            sessions,
            streams,
            origin_connections: origins,
            clock_ahead_ms: None,
            round_trip_seconds: None,
            forwarded: 0,
            failed: 0,
            error: None,
            directory: own_directory,
        };
        let list = json::list(std::iter::once(own).chain(others.iter().map(|node| {
            let report = node.report.as_ref();
            Entry {
                node: &node.id,
                url: Some(&node.url),
                responds: report.is_some(),
                version: report.map(|report| report.version.as_str()),
                sessions: report.map(|report| report.sessions),
                streams: report.map(|report| report.streams),
                origin_connections: report.and_then(|report| report.origin_connections),
                clock_ahead_ms: report.map(|report| report.clock_ahead),
                round_trip_seconds: report.and(node.times.last).map(|time| json::rounded(time, 6)),
                forwarded: node.forwarded,
                failed: node.failed,
                error: node.error.as_deref(),
                directory: None,
            }
        })));
        // An error means that the client has disconnected.
        let _ = ticket.respond(admin::as_json(list));
    });
    Action::Suspend
}

pub(crate) fn write_metrics(page: &mut Page, nodes: &Nodes) {
    let counts = nodes.counts();
    page.counter("node_forwarded_total", "Requests that were forwarded to other nodes", counts.forwarded);
    page.counter("node_failed_total", "Forwarded requests without a response of the other node", counts.failed);
    page.counter("node_forwarded_bytes_total", "Bytes of the bodies of forwarded requests and responses", counts.bytes);
    page.counter("node_accepted_total", "Requests of other nodes that were accepted", counts.accepted);
    let name = "node_rejected_total";
    page.family(name, "counter", "Requests that no node should have sent, by reason");
    for (reason, count) in &counts.rejected {
        page.sample(name, &format!("{{reason=\"{reason}\"}}"), count);
    }
    times(page, &nodes.others());
}

/// Writes the time of a hop to each node.
fn times(page: &mut Page, others: &[NodeState]) {
    let name = "node_question_duration_seconds";
    page.family(name, "histogram", "Time until another node responds to a question that needs no wait, every 5 s");
    for NodeState { id, times, .. } in others {
        // Each bucket includes the ones before it.
        let mut count = 0;
        for (bound, responses) in &times.buckets {
            count += responses;
            let labels = format!("{{node=\"{id}\",le=\"{}\"}}", bound.as_secs_f64());
            page.sample("node_question_duration_seconds_bucket", &labels, count);
        }
        let (labels, sum) = (format!("{{node=\"{id}\"}}"), times.sum.as_secs_f64());
        page.sample(
            "node_question_duration_seconds_bucket",
            &format!("{{node=\"{id}\",le=\"+Inf\"}}"),
            times.count.max(count),
        );
        page.sample("node_question_duration_seconds_sum", &labels, sum);
        page.sample("node_question_duration_seconds_count", &labels, times.count.max(count));
    }
    let name = "node_questions_failed_total";
    page.family(name, "counter", "Such questions without a response within 1 s, by node");
    for NodeState { id, times, .. } in others {
        page.sample(name, &format!("{{node=\"{id}\"}}"), times.failed);
    }
}
