//! The gateway between WebSocket and HTTP. A `Gateway` keeps WebSocket clients connected for an application that speaks
//! only HTTP. It is compatible with the applications of kuiperbelt.
//!
//! ```text
//!   browser ══WebSocket══▶ ┌─────────┐ ──POST connect, establish, receive, close──▶ ┌─────────────┐
//!   browser ══WebSocket══▶ │ Gateway │                                              │ application │
//!   browser ══WebSocket══▶ └─────────┘ ◀──POST /send, /close; GET /stats, /ping──── └─────────────┘
//! ```
//!
//! The application gives each client a key when it connects, and names clients by their keys from then on. The gateway
//! posts each message of a client to the application. The application posts messages for clients to `/send`, and names
//! any number of them.
//!
//! `/stats` and `/ping` accept any method. `/send` and `/close` accept POST only, in which `Content-Range` has no
//! meaning and is ignored (RFC 9110 §14.4). The docs of [`Gateway`] have the whole protocol.
//!
//! | file | content |
//! |---|---|
//! | `config` | the configuration, and its file |
//! | `connect` | the life of a client: from its request to connect to its end |
//! | `session` | one client's session, and its queue of messages |
//! | `key`, `lease`, `claims` | the key of a session; its lease, if there are several nodes |
//! | `send`, `delivery` | the calls that send; one message to many sessions |
//! | `locate`, `confirm` | which node has a key; one that is not in the directory |
//! | `stats`, `presence` | the calls that ask: the counters; which clients are connected |
//! | `all_nodes` | the numbers of all nodes |
//! | `node_message` | messages between nodes, as bytes |
//! | `remote`, `owner` | messages to and from other nodes, and what the directory tells |
//! | `registry` | all sessions, by their keys |
//! | `limits` | how many sessions and bytes each address has |
//! | `application` | the calls to the application |
//! | `calls` | how many of them run at once, and for which clients |
//! | `wire` | the responses, byte for byte |
//! | `upstream` | requests that are not the gateway's own, for the application |
//! | `counters`, `access` | statistics, and the log of requests |
//! | `printable` | text of a peer, for the log |
//! | `shared` | the part that all clones share |
//! | here | which module handles which request |
//!
//! **Locking.** The registry has a lock, held for one access to a map. Each session has one, held for a few operations
//! on its queue. No lock is held while application code or a call runs.
//!
//! **Differences from kuiperbelt**, on purpose:
//! - Handshake and origin are checked before the application is called.
//! - A session is registered before it is established, so that the application can send to it during the callback. It
//!   is removed if the application does not agree.
//! - A key that is used again closes the older connection (with 4000), and never the newer one.
//! - The close callback is for the key, not for each connection that had it.
//! - Timeouts include the whole response.
//! - Messages and everything else have limits, of which one address has only a share.
//! - `/close` ends a connection with a Close frame (1000).
//! - The application chooses the sub-protocol.
//! - A message of a client has a `Content-Length`.
//! - A client cannot send the fields that the gateway sets, in any spelling.
//! - Text is UTF-8 in both directions.
//! - A server that stops closes with 1001, and calls the close callback for every client.

mod access;
#[cfg(feature = "directory")]
mod all_nodes;
mod application;
mod calls;
mod claims;
mod config;
#[cfg(feature = "directory")]
mod confirm;
mod connect;
mod counters;
mod delivery;
mod key;
mod lease;
mod limits;
#[cfg(feature = "directory")]
mod locate;
#[cfg(feature = "directory")]
mod node_message;
#[cfg(feature = "directory")]
mod owner;
mod presence;
mod printable;
mod registry;
#[cfg(feature = "directory")]
mod remote;
mod send;
mod session;
mod shared;
mod stats;
mod upstream;
mod wire;

use std::{fmt, sync::Arc};

use uncork::{Action, Handler, Request};

use super::config::ConfigError;
#[cfg(feature = "directory")]
use super::nodes::Directory;

use self::{access::ParsedRequest, shared::Shared};
pub use self::{
    config::{
        GatewayCallbacks, GatewayConfig, GatewayFile, GatewayLimits, GatewayPaths, GatewayUpstream, OriginPolicy,
    },
    counters::GatewayStats,
};

/// The gateway between WebSocket and HTTP, a [`Handler`].
///
/// All clones are one gateway. Each loop has a clone, and a message that arrives on one loop reaches clients on all.
///
/// Served alone, it passes requests for paths other than its [own](GatewayPaths) on to the
/// [upstream](GatewayConfig::upstream), or responds with 404. To mount it in another handler, call
/// [`serves`](Self::serves) and [`handle`](Self::handle), [`forward`](Self::forward) if there is an upstream, and forward
/// [`stopping`](Handler::stopping).
///
/// A server that stops gracefully closes its clients' connections with 1001, and calls the close callback for each
/// within the grace period. [`drain_spread`](GatewayConfig::drain_spread) spreads the closes over a time, so that the
/// clients do not all connect elsewhere at once. Give the server the limits of [`GatewayConfig::server_limits`].
///
/// The rest of this page is the protocol between the gateway and the application. `examples/gateway/README.md` has it
/// with whole requests and responses, and an application of 40 lines.
///
/// # The callbacks
///
/// The gateway calls the application at the URLs of [`GatewayCallbacks`]. A call without a response within
/// [`timeout`](GatewayCallbacks::timeout) has failed.
///
/// | callback | request | response 200 | any other status, or none |
/// |---|---|---|---|
/// | connect | the client's `GET`, with its query, fields and body | the client may connect | it may not |
/// | establish | `POST` without a body | the session is open | the stream ends without a Close frame |
/// | receive | `POST` with one message | the next message may come | the message is lost, and logged |
/// | close | `POST` without a body | | it is logged |
///
/// | field | in | value |
/// |---|---|---|
/// | `X-Kuiperbelt-Session` | establish, receive, close; the response to connect | the client's key |
/// | `X-Kuiperbelt-Endpoint` | connect, establish, receive | the gateway's [`endpoint`](GatewayConfig::endpoint) |
/// | `Content-Type` | receive | `text/plain` for a text message, `application/octet-stream` for a binary one |
/// | `Content-Length` | establish, receive, close | always: bodies are not chunked |
/// | those of [`proxy_set_header`](GatewayConfig::proxy_set_header) | connect, establish, close | as configured |
///
/// [`session_header`](GatewayConfig::session_header) is another name for the first field.
///
/// **connect.** The client's query replaces that of the URL. Its fields are passed on, without those of its connection,
/// of the framing, and of the WebSocket handshake (except `Sec-WebSocket-Protocol`), and without those that the gateway
/// sets. The response 200 must have a key. Its body, if there is one, is the first message to the client, and its
/// `Sec-WebSocket-Protocol` the sub-protocol.
///
/// | response to connect | response to the client |
/// |---|---|
/// | 200 with a key | 101 |
/// | 200 without a key | 400 |
/// | another status | the same status, with the `Content-Type` and the body |
/// | none, a too large one, text that is not UTF-8, a sub-protocol that was not offered | 502 |
///
/// The application is not called for what the gateway rejects itself: a request that is not a handshake (400), a page
/// of another origin (403), a client beyond a limit (429, 503), a body of more than 64 KiB (413), and any client if the
/// URL is missing or invalid (500).
///
/// **establish.** The application can send to the client from now on. These messages follow the first message after the
/// 200; without it, they are dropped.
///
/// **receive.** The body of the response is ignored: use `/send` to respond to the client. The client is not told if
/// the message is lost. A message is never sent twice.
///
/// **close.** The session has ended, and no other client has its key. It is not called after the application's own
/// `/close`, nor after an establish callback that failed. Its timeout is 60 s at least.
///
/// **Order.** For one client: connect, establish, then its messages one at a time, each after the response to the one
/// before. The close callback does not wait for a receive callback that is in progress. Clients do not wait for each
/// other. Establish and close callbacks can be repeated if a connection to the application breaks.
///
/// # The calls
///
/// The application calls the gateway at the paths of [`GatewayPaths`].
///
/// | path | request | response |
/// |---|---|---|
/// | `/send` | `POST` with a message, and one `X-Kuiperbelt-Session` for each client | JSON |
/// | `/close` | the same, with the last message, which a Close frame (1000) follows | the same |
/// | `/stats` | any method | JSON, or lines of text with `?format=tsv`, `txt` or `text` |
/// | `/presence` | any method, with one `X-Kuiperbelt-Session` for each client, or none | JSON |
/// | `/ping` | any method | `{"result":"OK"}` |
///
/// The response comes when the message is in all queues, or has failed.
///
/// A message with `Content-Type: application/octet-stream` is binary, any other is text in UTF-8. A list with commas is
/// one key; a repeated key gets the message twice.
///
/// | status of `/send` and `/close` | body | when |
/// |---|---|---|
/// | 200 | `{"result":"OK"}` | all have it in their queues; whether a client receives it is not known |
/// | 200 | `{"errors":[{"error":…,"session":"bob"}],"result":"OK"}` | those in the list do not get it, the others do |
/// | 400 | the same list with `"result":"NG"` | with [`strict_broadcast`](GatewayConfig::strict_broadcast) |
/// | 400 | `{"errors":[{"error":"session header is missing"}],"result":"NG"}` | no key |
/// | 400 | `{"errors":[{"error":"message is not valid UTF-8"}],"result":"NG"}` | a text message |
/// | 405 | `{"errors":[{"error":"required POST method"}],"result":"NG"}` | with `Allow: POST` |
/// | 413 | `{"errors":[{"error":"message is too large"}],"result":"NG"}` | beyond [`send`](GatewayLimits::send) bytes |
/// | 500 | `{"result":"NG"}` | the body is incomplete |
///
/// The errors of a session:
///  - `kuiperbelt: session is not found`: no client has this key. With `strict_broadcast`, no client gets the message.
///  - `kuiperbelt: session is closed`: it is being closed, or the client has disconnected while the message waited.
///  - `context deadline exceeded`: its queue was full for [`send_timeout`](GatewayConfig::send_timeout).
///
/// The messages to one client arrive in the order in which they were queued. A message waits for a full queue only as
/// long as the application waits for the response.
///
/// `/stats` responds with [`GatewayStats`], in one line:
///
/// ```json
/// {"connections":1,"total_connections":2,"total_messages":6,
///  "connect_errors":0,"message_errors":0,"closing_connections":0}
/// ```
///
/// With several nodes, these are the counters of the node that is asked. `/stats?nodes=all` responds with the sums, and
/// in `nodes` with the counters of each node. A node that does not respond within 1 s is `null` there, and named in the
/// field `X-Missing-Nodes`; its counters are not in the sums. In text, the names of a node's counters begin with
/// `kuiperbelt.nodes.<id>`.
///
/// `/presence` tells which clients are connected, in the order of the keys; kuiperbelt does not have it. `node` is there
/// with several nodes only:
///
/// ```json
/// {"result":"OK","sessions":[{"connected":true,"node":"fra1","session":"ann"},{"connected":false,"session":"bob"}]}
/// ```
///
/// A client is connected from the 101 on, like for `/send`. With several nodes, it is not connected only if that is
/// certain, by the rules of `/send`. The client of a node that has just been lost may be called connected for 30 s.
///
/// | status of `/presence` | body | when |
/// |---|---|---|
/// | 200 | `{"result":"OK","sessions":[…]}` | it is known of all keys |
/// | 200 | `{"keys":12,"nodes":{"fra1":7,"ber2":5},"result":"OK"}` | no key: how many keys there are |
/// | 431 | `{"errors":[{"error":"too many session headers"}],"result":"NG"}` | more than [`targets`](GatewayLimits::targets) |
/// | 503 | `{"errors":[{"error":…,"session":"eve"}],"result":"NG","sessions":[…]}` | it is not known of those in `errors` |
///
/// The errors are `directory unavailable` and `node unavailable`; there is a `Retry-After`. In `nodes`, a node that does
/// not respond within 1 s is `null`, as in `/stats`.
///
/// # Other requests: the upstream
///
/// With [`upstream`](GatewayConfig::upstream), the application gets all requests whose paths are not the gateway's, as
/// behind any reverse proxy. Bodies, trailer fields, informational responses and `100 Continue` are passed on as they
/// come, and an upgrade to another protocol, too. Neither side is read faster than the other one takes the bytes.
///
/// | field | what the application gets |
/// |---|---|
/// | `Host` | the client's |
/// | `Via` | the client's, and this gateway's random name |
/// | `X-Forwarded-For`, `X-Forwarded-Proto`, `X-Forwarded-Host`, `Forwarded` | the client, by the request's [peer](Request::peer) and scheme; never what the client has sent |
/// | fields of the connection, and those that `Connection` lists | nothing |
/// | `X-Kuiperbelt-Session`, `X-Kuiperbelt-Endpoint`, those that [`proxy_set_header`](GatewayConfig::proxy_set_header) sets | nothing, in any spelling: only callbacks have them |
///
/// | status | when |
/// |---|---|
/// | 400 | no `Host`, or a URL with characters that must be percent-encoded |
/// | 413 | a body of more than [`upstream_body`](GatewayLimits::upstream_body) bytes |
/// | 429, 503 | too many [requests](GatewayLimits::upstream_requests) of the client's address, or in all; with `Retry-After` |
/// | 501 | `CONNECT`, `OPTIONS *` |
/// | 502 | the application cannot be reached, disconnects before its response, or responds with what is not HTTP |
/// | 504 | it does not respond within the [timeout](GatewayUpstream::timeout) |
/// | 508 | the request has passed this gateway before |
///
/// If the application disconnects in the middle of its response, the client's connection is aborted, so that a part never
/// looks like the whole; likewise in the other direction. A request is repeated only if an idle connection turns out to be
/// closed, and if that does no harm: without a body, and by an idempotent method.
///
/// If the application serves its callbacks and the upstream at the same address, clients reach the callbacks' URLs as
/// well. They cannot send the fields that callbacks have. Let `proxy_set_header` set a secret one, and check it.
#[derive(Clone)]
pub struct Gateway {
    shared: Arc<Shared>,
    /// The server of this clone is stopping. The server of another clone may continue.
    stopping: bool,
}

impl Gateway {
    /// Creates a gateway without clients.
    ///
    /// # Errors
    /// Returns an error if the configuration is invalid. The application is not called.
    pub fn new(config: GatewayConfig) -> Result<Self, ConfigError> {
        let config = config.checked()?;
        Ok(Self { shared: Arc::new(Shared::new(config)), stopping: false })
    }

    /// Creates a gateway on one of several nodes: `/send` and `/close` on any of them reach the clients of all. Add it to
    /// the node's listener ([`NodeListener::gateway`](crate::relay::nodes::NodeListener::gateway)), and
    /// [start](crate::relay::nodes::Directory::start) the directory when the servers run.
    ///
    /// What differs from one node:
    /// - A client's handshake waits until its key is in the directory, at most the engine's command timeout.
    /// - While the directory is unavailable, a message for a key that this node does not have gets 503, with the error
    ///   `directory unavailable` for each such key, and no client gets it.
    /// - `kuiperbelt: session is not found` means that no node has the client. If the directory does not have it, all other
    ///   nodes are asked. If one of them does not respond, the error is `node unavailable` or `directory unavailable`, until
    ///   that node is known to be lost, and the close callbacks of its clients were called.
    /// - If a client's node does not respond, the error is `node unavailable`: whether the client gets the message is not
    ///   known. With `strict_broadcast` it is 503, and no client gets the message.
    /// - If a node is lost, another one calls the close callbacks of its clients, within half a minute. So it does for
    ///   clients whose establish callback has no response yet, even if they have left. It does not for a client whose key
    ///   was not in the directory yet: that client never got its 101. Use the establish callback to count clients.
    /// - `strict_broadcast` asks the nodes before any client gets the message. A client that disconnects in between is
    ///   reported, although the others have it.
    ///
    /// # Errors
    /// Returns an error if the configuration is invalid. The application is not called.
    #[cfg(feature = "directory")]
    pub fn with_directory(config: GatewayConfig, directory: Directory) -> Result<Self, ConfigError> {
        let config = config.checked()?;
        let mut shared = Shared::new(config);
        shared.directory = Some(directory.clone());
        let shared = Arc::new(shared);
        directory.owned_by(Arc::new(owner::Owner { shared: Arc::downgrade(&shared), directory: directory.clone() }));
        Ok(Self { shared, stopping: false })
    }

    /// Returns the configuration.
    pub fn config(&self) -> &GatewayConfig {
        &self.shared.config
    }

    /// Returns the counters.
    pub fn stats(&self) -> GatewayStats {
        self.shared.counters.read()
    }

    /// Returns `true` if `path` is one of the gateway's paths.
    pub fn serves(&self, path: &str) -> bool {
        self.shared.config.path.named().iter().any(|(_, own)| *own == path)
    }

    /// Handles a request. If the path is not one of the gateway's, the [upstream](GatewayConfig::upstream) gets it; if
    /// there is none, the response is 404.
    pub fn handle(&self, req: &mut Request<'_>) -> Action {
        let Self { shared, stopping } = self;
        let path = &shared.config.path;
        let respond = |response| Action::from(ParsedRequest::of(req).log(shared, response));
        match req.path() {
            own if own == path.send => send::request(shared, req, false),
            own if own == path.connect => connect::request(shared, req, *stopping),
            own if own == path.close => send::request(shared, req, true),
            own if own == path.stats => stats::request(shared, req),
            own if own == path.presence => presence::request(shared, req),
            own if own == path.ping => respond(wire::ok()),
            _ => match self.forward(req) {
                Some(action) => action,
                None => ParsedRequest::of(req).log(shared, wire::not_found()).into(),
            },
        }
    }

    /// Passes a request on to the [upstream](GatewayConfig::upstream), whatever its path is. Returns `None` if there is
    /// none. [`handle`](Self::handle) does it for all paths that are not the gateway's own: call this in a handler that
    /// has other paths, too.
    ///
    /// The client's address and scheme are those of the request ([`Request::set_peer`], [`Request::set_https`]).
    pub fn forward(&self, req: &mut Request<'_>) -> Option<Action> {
        self.shared.upstream.as_ref().map(|upstream| upstream.request(req))
    }

    /// Handles the messages of other nodes; `None` for other paths.
    #[cfg(feature = "directory")]
    pub(in crate::relay) fn handle_node(&self, req: &mut Request<'_>) -> Option<Action> {
        remote::request(&self.shared, req)
    }
}

impl Handler for Gateway {
    fn request(&mut self, req: &mut Request<'_>) -> Action {
        self.handle(req)
    }

    fn stopping(&mut self) {
        self.stopping = true;
    }
}

impl fmt::Debug for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gateway").field("stats", &self.stats()).finish_non_exhaustive()
    }
}
