//! The table of all settings: key in the file, flag, default, and documentation for both.
//!
//! Each section becomes a struct that is read from the file, and a list of settings. The flags and the printed file are
//! generated from the list. A setting that neither the file nor a flag sets has its default.

use std::{
    num::{NonZeroU32, NonZeroU64, NonZeroUsize},
    path::PathBuf,
};

use clap::builder::ValueParser;
use serde::Deserialize;
use uncork::{
    Limits as EngineLimits,
    relay::{GatewayConfig, RendezvousConfig, SessionConfig, tunnel::ProxyConfig},
};

use super::{
    addresses::Network,
    listen::{self, Listen},
    values::{
        AccessFormat, AdminAddress, BalanceRule, BasePath, Bytes, ClusterNode, DirectoryUrl, Field, ForwardedField,
        Level, LogFormat, Mode, NodeAddress, NodeEntry, NodeId, Origin, OriginAddress, OriginRule, SentinelUrl,
        ServerName, Threads, TunnelToken, Url, Value, ViaName,
    },
};

/// One setting, as the flags and the printed file need it.
pub(crate) struct Setting {
    /// The table in the file; empty for none.
    pub(crate) section: &'static str,
    pub(crate) key: String,
    pub(crate) flag: &'static str,
    pub(crate) hint: &'static str,
    pub(crate) about: Vec<&'static str>,
    pub(crate) alone: Option<&'static str>,
    pub(crate) many: bool,
    /// Checks the values of the flag.
    pub(crate) check: fn(&[&str]) -> Result<(), String>,
    /// Sets the setting to the values of the flag.
    pub(crate) set: fn(&mut Settings, &[&str]) -> Result<(), String>,
    /// Returns the value as it is written in the file.
    pub(crate) show: fn(&Settings) -> String,
}

impl Setting {
    pub(crate) fn name(&self) -> String {
        if self.section.is_empty() { self.key.clone() } else { format!("{}.{}", self.section, self.key) }
    }

    /// Returns the parser of the flag's value.
    pub(crate) fn parser(&self) -> ValueParser {
        let (check, hint) = (self.check, self.hint);
        ValueParser::from(move |text: &str| match check(&[text]) {
            Ok(()) => Ok(text.to_owned()),
            Err(error) => Err(worded(hint, error)),
        })
    }

    /// Adds the unit to an error of the value, if it has one.
    pub(crate) fn worded(&self, error: String) -> String {
        worded(self.hint, error)
    }
}

fn worded(hint: &str, error: String) -> String {
    match hint {
        "SECONDS" => error.replacen("expected a number,", "expected a number of seconds,", 1),
        _ => error,
    }
}

macro_rules! settings {
    ($(
        $(#[doc = $about:literal])+
        $table:literal $field:ident: $section:ident {
            $( $(#[doc = $doc:literal])+ $key:ident: $kind:ty = $default:expr, $flag:literal $hint:literal; )*
        }
    )*) => {
        /// All settings.
        #[derive(Clone, Debug, PartialEq, Eq, Default, Deserialize)]
        #[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
        pub(crate) struct Settings {
            /// The listeners; empty for the default one.
            #[serde(deserialize_with = "listen::sections")]
            pub(crate) listen: Vec<Listen>,
            $( $(#[doc = $about])+ pub(crate) $field: $section, )*
        }

        $(
            $(#[doc = $about])+
            #[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
            #[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
            pub(crate) struct $section {
                $( $(#[doc = $doc])+ #[serde(deserialize_with = "Value::read")] pub(crate) $key: $kind, )*
            }

            impl Default for $section {
                fn default() -> Self {
                    Self { $($key: $default),* }
                }
            }
        )*

        /// The sections: table and documentation.
        pub(crate) const SECTIONS: &[(&str, &[&str])] = &[$(($table, &[$($about),+])),*];

        /// Returns every setting, in the order of the file.
        pub(crate) fn all() -> Vec<Setting> {
            vec![$($(Setting {
                section: $table,
                key: stringify!($key).replace('_', "-"),
                flag: $flag,
                hint: $hint,
                about: vec![$($doc),+],
                alone: <$kind as Value>::ALONE,
                many: <$kind as Value>::MANY,
                check: |args| <$kind as Value>::from_args(args).map(drop),
                set: |settings, args| {
                    settings.$field.$key = Value::from_args(args)?;
                    Ok(())
                },
                show: |settings| settings.$field.$key.toml(),
            },)*)*]
        }
    };
}

fn engine() -> EngineLimits {
    EngineLimits::default()
}

fn session() -> SessionConfig {
    SessionConfig::default()
}

fn stream() -> RendezvousConfig {
    RendezvousConfig::default()
}

fn gateway() -> GatewayConfig {
    GatewayConfig::default()
}

fn proxy() -> ProxyConfig {
    ProxyConfig::default()
}

settings! {
    /// The program
    "server" server: Server {
        /// Event loop: threads (one loop each), external (the program's own loop), thread-per-connection
        mode: Mode = Mode::Threads, "mode" "MODE";
        /// Loops of mode threads, at most 1024; 0 for one per processor
        threads: Threads = Threads(0), "threads" "N";
        /// HTTP/2 beside HTTP/1.1: agreed on with TLS, and for clients that begin with it without TLS
        http2: bool = true, "http2" "BOOL";
        /// Time for requests to finish after the first SIGINT or SIGTERM; a second signal stops at once
        shutdown_timeout: u32 = 10, "shutdown-timeout" "SECONDS";
        /// Time to keep serving after that signal, while /ready already returns 503, so that a load balancer can send
        /// clients elsewhere
        shutdown_delay: u32 = 0, "shutdown-delay" "SECONDS";
    }
    /// HTTPS for every TCP listener without a certificate of its own. Read again on SIGHUP
    "tls" tls: TlsFiles {
        /// Certificate chain in PEM, the server's certificate first; empty for plain HTTP
        cert: PathBuf = PathBuf::new(), "tls-cert" "FILE";
        /// Private key in PEM
        key: PathBuf = PathBuf::new(), "tls-key" "FILE";
    }
    /// Proxies in front of this server. Only they can name the client's address and scheme (HTTP or HTTPS)
    "proxies" proxies: Proxies {
        /// Networks of trusted proxies, as 10.0.0.0/8 or 2001:db8::1; "unix" for every client of a Unix socket
        trusted: Vec<Network> = Vec::new(), "trusted-proxy" "NETWORK";
        /// The field that proxies write: x-forwarded-for (and X-Forwarded-Proto), forwarded (RFC 7239), none, or any of
        /// the two (if both are present, they must agree)
        field: ForwardedField = ForwardedField::Any, "forwarded-field" "FIELD";
    }
    /// Sizes, counts and timeouts of every connection
    "limits" limits: Limits {
        /// Connections in total. Lowered, with a warning in the log, if the system allows the process fewer open files
        connections: NonZeroUsize = nonzero(engine().connections), "connections" "N";
        /// Connections from one address (of IPv6: from one /64 network; behind the PROXY protocol: the client's
        /// address). Never more than half of all connections; shrinks when more than half are in use. 0: no limit, for
        /// a single proxy in front
        connections_per_address: usize = engine().connections_per_address, "connections-per-address" "N";
        /// Bytes of one request's body; suffixes k, M, G, T are powers of 1024
        max_body: Bytes = Bytes(session().body), "max-body" "BYTES";
        /// Bytes that streams and messages in transit hold in pipes, for all clients together. Beyond that, each one
        /// has a small buffer and moves more slowly
        pipe_memory: Bytes = Bytes(256 << 20), "pipe-memory" "BYTES";
        /// Bytes of a request's head
        max_head: Bytes = Bytes(engine().head as u64), "max-head" "BYTES";
        /// Time for the TLS handshake, and for the header of the PROXY protocol
        handshake_timeout: NonZeroU32 = seconds(engine().handshake_timeout), "handshake-timeout" "SECONDS";
        /// Time for a request's head, from its first byte
        head_timeout: NonZeroU32 = seconds(engine().head_timeout), "head-timeout" "SECONDS";
        /// Time that a connection may be idle between two requests
        idle_timeout: NonZeroU32 = seconds(engine().idle_timeout), "idle-timeout" "SECONDS";
        /// Timeout of a pause in a request's body while a receiver is ready; 300 s, since users suspend laptops.
        /// (For a source of the rendezvous: rendezvous-body-timeout)
        body_timeout: NonZeroU32 = TRANSFER_TIMEOUT, "body-timeout" "SECONDS";
        /// Longest time in which a client accepts nothing of a response: users pause downloads
        send_timeout: NonZeroU32 = TRANSFER_TIMEOUT, "send-timeout" "SECONDS";
        /// Slowest rate of a body in either direction, in bytes per second; 0 for no limit
        min_rate: u64 = engine().min_rate, "min-rate" "N";
    }
    /// Web pages of other origins (CORS)
    "cors" cors: Cors {
        /// Origins whose pages may use the services from a browser, as https://example.org, or * for all
        allowed_origins: Vec<Origin> = Vec::new(), "allowed-origin" "ORIGIN";
    }
    /// The session relay: two peers exchange messages through a URL
    "sessions" sessions: Sessions {
        /// Enable the session relay
        enabled: bool = true, "session-relay" "BOOL";
        /// Base path of the session relay
        base_path: BasePath = session().base_path.as_str().into(), "base-path" "PATH";
        /// Sessions in total. Beyond that, a new session evicts one that no peer has ever connected to: the oldest of
        /// the address that has most of them
        limit: NonZeroUsize = nonzero(session().sessions), "sessions" "N";
        /// Sessions allocated by one address; in IPv6, by one /64 network. Its share shrinks once half of all are taken
        per_address: NonZeroUsize = nonzero(session().sessions_per_address), "sessions-per-address" "N";
        /// Sessions that one address may allocate per minute in the long run; 0 for no limit
        allocations_per_minute: u32 = session().allocations_per_minute, "allocations-per-minute" "N";
        /// Sessions that one address may allocate at once
        allocation_burst: u32 = session().allocation_burst, "allocation-burst" "N";
        /// Lifetime of a session to which no peer is connected
        ttl: NonZeroU64 = positive(session().ttl.as_secs()), "session-ttl" "SECONDS";
        /// Time until a peer must connect to a new session for the first time
        first_use_timeout: NonZeroU64 = positive(session().first_use_timeout.as_secs()), "session-first-use-timeout" "SECONDS";
        /// Largest value that a client can request by ?timeout=N
        ttl_max: NonZeroU64 = positive(session().ttl_max.as_secs()), "session-ttl-max" "SECONDS";
        /// Longest lifetime of a session
        lifetime: NonZeroU64 = positive(session().lifetime.as_secs()), "session-lifetime" "SECONDS";
        /// Time that a request waits for the other peer
        request_timeout: u64 = session().request_timeout.as_secs(), "request-timeout" "SECONDS";
        /// Largest value that a client can request by X-Timeout or ?timeout=N
        request_timeout_max: u64 = session().request_timeout_max.as_secs(), "request-timeout-max" "SECONDS";
        /// Abort the receiver's connection when the sender of a chunked message disconnects, so that a truncated body
        /// never looks complete. With false, the message ends normally, as in cama
        abort_if_truncated: bool = !session().end_cleanly_if_truncated, "abort-if-truncated" "BOOL";
        /// Value of the Server field; empty for none
        server_name: ServerName = session().server.as_str().into(), "server-name" "NAME";
    }
    /// The rendezvous: one client PUTs a body at a URL, one or several others GET it
    "rendezvous" rendezvous: Rendezvous {
        /// Enable the rendezvous
        enabled: bool = true, "rendezvous" "BOOL";
        /// Base path of /stream and /ping; empty for the root
        base_path: BasePath = stream().base_path.as_str().into(), "rendezvous-base-path" "PATH";
        /// Streams in total, with the status records of ended ones. Beyond that, a new stream replaces a record, or
        /// else evicts a stream to which no peer is connected: the oldest of the address with most of them
        limit: NonZeroUsize = nonzero(stream().streams), "rendezvous-streams" "N";
        /// Streams created by one address; in IPv6, by one /64 network. Its share shrinks once half of all are taken
        per_address: NonZeroUsize = nonzero(stream().streams_per_address), "rendezvous-streams-per-address" "N";
        /// Streams that one address may create per minute in the long run; 0 for no limit
        creations_per_minute: u32 = stream().creations_per_minute, "rendezvous-creations-per-minute" "N";
        /// Streams that one address may create at once
        creation_burst: u32 = stream().creation_burst, "rendezvous-creation-burst" "N";
        /// Time for both sides of a stream to connect
        ttl: NonZeroU64 = positive(stream().ttl.as_secs()), "rendezvous-ttl" "SECONDS";
        /// Largest value that a client can request by ?ttl=SECONDS
        ttl_max: u64 = stream().ttl_max.as_secs(), "rendezvous-ttl-max" "SECONDS";
        /// Longest lifetime of a stream to which no peer is connected
        first_use_timeout: NonZeroU64 = positive(stream().first_use_timeout.as_secs()), "rendezvous-first-use-timeout" "SECONDS";
        /// Time that /status reports a stream after its end
        status_ttl: u64 = stream().status_ttl.as_secs(), "rendezvous-status-ttl" "SECONDS";
        /// Longest lifetime of a stream
        lifetime: NonZeroU64 = positive(stream().lifetime.as_secs()), "rendezvous-lifetime" "SECONDS";
        /// Timeout of a pause in a source's body while a receiver is ready
        body_timeout: NonZeroU64 = positive(stream().body_timeout.as_secs()), "rendezvous-body-timeout" "SECONDS";
        /// Largest number of receivers that a client can request by ?n=K
        receivers: NonZeroUsize = nonzero(stream().receivers), "rendezvous-receivers" "N";
        /// Abort the receivers' connections when the source of a stream of unknown length disconnects. With false, the
        /// download ends normally, as in http-rendezvous. Clients choose by ?strict=1 and ?strict=0
        strict: bool = stream().strict, "rendezvous-strict" "BOOL";
        /// Never serve uploaded content as a page of this origin: downloads are attachments with an inert content type,
        /// and fields that set cookies or control a proxy are removed
        neutral: bool = stream().neutral, "rendezvous-neutral" "BOOL";
        /// Let every client list all streams by GET /stream. Their ids are the only secret; the admin listener always
        /// has the list
        public_list: bool = stream().list, "rendezvous-public-list" "BOOL";
    }
    /// The gateway: keeps WebSocket clients connected for an application that speaks only HTTP
    "gateway" gateway: Gateway {
        /// URL of the application that decides whether a client may connect; empty for no gateway
        connect_url: Url = gateway().callback.connect.as_str().into(), "gateway-connect-url" "URL";
        /// URL to call when a client has connected; empty for none
        establish_url: Url = gateway().callback.establish.as_str().into(), "gateway-establish-url" "URL";
        /// URL to call with each message from a client; empty for none
        receive_url: Url = gateway().callback.receive.as_str().into(), "gateway-receive-url" "URL";
        /// URL to call when a client has disconnected; empty for none
        close_url: Url = gateway().callback.close.as_str().into(), "gateway-close-url" "URL";
        /// Time for a call of the application; 0 for no limit
        callback_timeout: u64 = gateway().callback.timeout.map_or(0, |time| time.as_secs()), "gateway-callback-timeout" "SECONDS";
        /// URL of the application that gets all requests which no other service has, as http://HOST:PORT; empty: they get
        /// 404
        upstream: Url = gateway().upstream.url.as_str().into(), "gateway-upstream" "URL";
        /// Time for its response to begin, and for a pause in a body while it is waited for
        upstream_timeout: NonZeroU64 = positive(gateway().upstream.timeout.as_secs()), "gateway-upstream-timeout" "SECONDS";
        /// Concurrent requests for it; one address gets at most a quarter
        upstream_requests: NonZeroUsize = nonzero(gateway().limits.upstream_requests), "gateway-upstream-requests" "N";
        /// Address of the gateway for the application, sent with each call; empty for the admin listener, or the first
        /// public one with public-api
        endpoint: String = String::new(), "gateway-endpoint" "HOST:PORT";
        /// Serve the application's paths (send, close, statistics, presence) on the public listeners, too. They have no
        /// authentication: every client that reaches them can send to all others
        public_api: bool = false, "gateway-public-api" "BOOL";
        /// Field that names sessions
        session_field: String = gateway().session_header, "gateway-session-field" "NAME";
        /// Fields to set in calls of the application, as "X-Zone: a"; to remove one: "X-Zone:"
        set_fields: Vec<Field> = Vec::new(), "gateway-set-field" "FIELD";
        /// Messages queued for a client in addition to the one being written
        queue: usize = gateway().send_queue_size, "gateway-queue" "N";
        /// Time that the application waits for space in that queue; 0 for no limit
        queue_timeout: u64 = gateway().send_timeout.map_or(0, |time| time.as_secs()), "gateway-queue-timeout" "SECONDS";
        /// Send to none of the named clients if one of them is not connected
        strict_broadcast: bool = gateway().strict_broadcast, "gateway-strict-broadcast" "BOOL";
        /// Origins whose pages may connect: same-origin, same-hostname, all. With all, every web page can connect with
        /// its visitor's cookies
        allowed_origins: OriginRule = OriginRule::SameOrigin, "gateway-allowed-origins" "RULE";
        /// Time after which a silent client is closed; 0 for no limit
        idle_timeout: u64 = gateway().idle_timeout.map_or(0, |time| time.as_secs()), "gateway-idle-timeout" "SECONDS";
        /// Interval of pings to a silent client; 0 for none
        ping_interval: u64 = gateway().ping_interval.map_or(0, |time| time.as_secs()), "gateway-ping-interval" "SECONDS";
        /// Time for a message from a client to arrive, extended by its bytes at 240 per second; 0 for no limit
        message_timeout: u64 = gateway().message_timeout.map_or(0, |time| time.as_secs()), "gateway-message-timeout" "SECONDS";
        /// At a stop, clients are closed (1001) one after the other over this time, in addition to shutdown-timeout, so that
        /// they do not all connect again at once; 0: all at once
        drain_spread: u32 = u32::try_from(gateway().drain_spread.as_secs()).unwrap_or(u32::MAX), "gateway-drain-spread" "SECONDS";
        /// Path where clients connect
        connect_path: String = gateway().path.connect, "gateway-connect-path" "PATH";
        /// Path where the application sends messages
        send_path: String = gateway().path.send, "gateway-send-path" "PATH";
        /// Path where the application closes clients
        close_path: String = gateway().path.close, "gateway-close-path" "PATH";
        /// Path of the statistics
        stats_path: String = gateway().path.stats, "gateway-stats-path" "PATH";
        /// Path where the application asks which clients are connected
        presence_path: String = gateway().path.presence, "gateway-presence-path" "PATH";
        /// Bytes of one message from a client
        max_message: Bytes = Bytes(gateway().limits.message as u64), "gateway-max-message" "BYTES";
        /// Bytes of one message to clients
        max_send: Bytes = Bytes(gateway().limits.send as u64), "gateway-max-send" "BYTES";
        /// Bytes of messages from clients that wait for the application's response. One address gets at most a quarter;
        /// beyond it, a client is closed with 1013
        max_pending: Bytes = Bytes(gateway().limits.pending as u64), "gateway-max-pending" "BYTES";
        /// Concurrent calls of the application; clients of one address get at most a quarter
        calls: NonZeroUsize = nonzero(gateway().limits.calls), "gateway-calls" "N";
        /// Clients in total
        limit: NonZeroUsize = nonzero(gateway().limits.sessions), "gateway-clients" "N";
        /// Clients from one address, fewer once half of the total is reached
        per_address: NonZeroUsize = nonzero(gateway().limits.sessions_per_address), "gateway-clients-per-address" "N";
    }
    /// The reverse tunnel: origin servers behind NAT connect to this relay, and it forwards requests to them. They
    /// connect to any HTTPS listener
    "tunnel" tunnel: Tunnel {
        /// Origin servers that may connect, and their hosts: "NAME SHA256 HOST...". Empty: no tunnel.
        /// SHA256: the hash of the token (printf %s "$TOKEN" | sha256sum), or cert:SHA256 of a client certificate.
        /// HOST: a name, a pattern (*.dev.example), either with a path (app.example/api).
        /// Options: body=BYTES, rate=BYTES per second.
        /// Instead of SHA256, allow-legacy-unauthenticated:NET,NET admits spdy-proxy's origin servers from these
        /// networks without authentication (needs the feature spdy)
        tokens: Vec<TunnelToken> = Vec::new(), "tunnel-token" "TOKEN";
        /// Path where origin servers open a tunnel
        path: BasePath = proxy().path.as_str().into(), "tunnel-path" "PATH";
        /// Name in the Via field of forwarded requests. A request that already has it is in a loop and gets 508, so no
        /// other relay in the chain may use it. Empty: a random name at each start
        via: ViaName = "".into(), "tunnel-via" "NAME";
        /// Which of several origin servers of one host gets a request: round-robin, least-busy
        balance: BalanceRule = BalanceRule::RoundRobin, "tunnel-balance" "RULE";
        /// Time for an origin server to begin its response
        response_timeout: NonZeroU64 = positive(proxy().response_timeout.as_secs()), "tunnel-response-timeout" "SECONDS";
        /// Connections of origin servers in total
        origin_servers: NonZeroUsize = nonzero(proxy().connections), "tunnel-origin-servers" "N";
        /// Connections of origin servers with one token
        origin_servers_per_token: NonZeroUsize = nonzero(proxy().connections_per_credential), "tunnel-origin-servers-per-token" "N";
        /// Connections by ALPN that have not authenticated yet; one more replaces the oldest of the network with the
        /// most
        handshakes: NonZeroUsize = nonzero(proxy().handshakes), "tunnel-handshakes" "N";
        /// Failed handshakes of one network per minute (wrong token, or timeout); the next one is rejected unread; 0
        /// for no limit
        failures_per_minute: u32 = proxy().failures_per_minute, "tunnel-failures-per-minute" "N";
        /// Concurrent requests on one connection of an origin server
        requests_per_origin_server: NonZeroUsize = nonzero(proxy().streams_per_connection), "tunnel-requests-per-origin-server" "N";
        /// Concurrent requests of one client address, over all tunnels; one more gets 429
        requests_per_address: NonZeroUsize = nonzero(proxy().streams_per_address), "tunnel-requests-per-address" "N";
        /// Concurrent requests of one host, over all its origin servers; one more gets 503
        requests_per_host: NonZeroUsize = nonzero(proxy().streams_per_host), "tunnel-requests-per-host" "N";
        /// Share of one client address in the requests of a connection of an origin server, in percent of those that
        /// are free there; one more gets 503. With 100, one address alone can have half of them, four a fifth each,
        /// sixteen a seventeenth each; as much stays free for others
        share_per_address: NonZeroU32 = percent(proxy().share_per_address), "tunnel-share-per-address" "PERCENT";
        /// Share of one host, where an origin server has several, in the same way: with 400 it can have four fifths
        share_per_host: NonZeroU32 = percent(proxy().share_per_name), "tunnel-share-per-host" "PERCENT";
        /// With several nodes: where origin servers reach this one, NAME:PORT. Empty: they are not told
        address: OriginAddress = "".into(), "tunnel-address" "ADDR";
        /// With several nodes: where origin servers reach the others, NAME:PORT. They keep their connections to
        /// different nodes. This node's address may be among them
        other_addresses: Vec<OriginAddress> = Vec::new(), "tunnel-other-address" "ADDR";
        /// With several nodes: a node with clearly more connections of origin servers than the others closes some of
        /// them, slowly, if their hosts stay reachable
        shed: bool = true, "tunnel-shed" "BOOL";
    }
    /// Several relays (nodes) that serve the same sessions, streams and tunnels: clients may connect to any of them.
    /// See the manual, "Several machines"
    "node" node: Node {
        /// Id of this node: 1 to 6 letters, digits, - or _. It is part of the ids of sessions and streams. Empty: there
        /// are no other nodes
        id: NodeId = "".into(), "node-id" "ID";
        /// Address and port of the listener for other nodes. Only they should reach it
        listen: NodeAddress = "".into(), "node-listen" "ADDR";
        /// File with the key that all nodes share, at least 32 bytes: openssl rand -base64 48
        key_file: PathBuf = PathBuf::new(), "node-key-file" "FILE";
        /// All nodes, as "ID URL" with the address of the listener above: "ber2 https://10.0.0.2:7001". This node may
        /// be among them
        nodes: Vec<NodeEntry> = Vec::new(), "node" "NODE";
        /// Certificate chain that this node shows to the others, as a server and as a client; empty: no TLS between
        /// nodes
        tls_cert: PathBuf = PathBuf::new(), "node-tls-cert" "FILE";
        /// Private key of that certificate
        tls_key: PathBuf = PathBuf::new(), "node-tls-key" "FILE";
        /// Certificates that sign those of all nodes
        tls_ca: PathBuf = PathBuf::new(), "node-tls-ca" "FILE";
    }
    /// The directory of the gateway's clients, if there are several relays: a server of the Redis protocol (Redis 7,
    /// Valkey). /send and /close on any node reach the clients of all. The hosts of tunnels are registered there, too.
    /// See the manual, "Several machines"
    "directory" directory: DirectorySettings {
        /// The server: redis://HOST:PORT, rediss://HOST:PORT (TLS) or unix:PATH, with user and database as in
        /// redis://relay@10.0.0.9:6379/2. Empty: none
        url: DirectoryUrl = "".into(), "directory-url" "URL";
        /// File with the password
        password_file: PathBuf = PathBuf::new(), "directory-password-file" "FILE";
        /// Start of the names of all keys. Two installations on one server need different ones
        prefix: String = "uncork:".into(), "directory-prefix" "TEXT";
        /// Certificates that sign that of the server (rediss); empty: those that the system trusts
        tls_ca: PathBuf = PathBuf::new(), "directory-tls-ca" "FILE";
        /// Certificate chain that this node shows to the server
        tls_cert: PathBuf = PathBuf::new(), "directory-tls-cert" "FILE";
        /// Private key of that certificate
        tls_key: PathBuf = PathBuf::new(), "directory-tls-key" "FILE";
        /// Sentinels that know where the master is, as URLs like that of the server, which then has no host
        sentinels: Vec<SentinelUrl> = Vec::new(), "directory-sentinel" "URL";
        /// Name of the master, as the Sentinels know it
        sentinel_master: String = String::new(), "directory-sentinel-master" "NAME";
        /// File with the password of the Sentinels
        sentinel_password_file: PathBuf = PathBuf::new(), "directory-sentinel-password-file" "FILE";
        /// Nodes of a Redis Cluster: some, which tell of the others. The URL then has no host, as redis:// or
        /// rediss://relay@
        cluster: Vec<ClusterNode> = Vec::new(), "directory-cluster" "HOST:PORT";
        /// /ready on the admin listener responds with 503 while the directory is unavailable, and not with 200
        /// "degraded". The node's own clients are served in any case
        required: bool = false, "directory-required" "BOOL";
    }
    /// The web page at the root: sends a file or a text from one browser to another, through the rendezvous
    "page" page: Page {
        /// Enable the web page
        enabled: bool = true, "page" "BOOL";
        /// Lifetime of its links, at most what the rendezvous allows
        link_ttl: NonZeroU64 = positive(1800), "page-link-ttl" "SECONDS";
    }
    /// For operators: /metrics (Prometheus), /health, /ready, /log-level, /sessions, /stream (the list of the
    /// rendezvous), /tunnels, /nodes, and the paths of the gateway's application
    "admin" admin: Admin {
        /// Address and port of the admin listener; off; or auto, which is 127.0.0.1:9090 or, if that is in use, a free
        /// port
        listen: AdminAddress = "auto".into(), "admin" "ADDR";
    }
    /// The log, on standard error
    "log" log: Log {
        /// Log level: off, error, warn, info, debug or trace; or per module, as warn,uncork::relay=debug. A line for
        /// each call of the gateway's application needs uncork::relay::access=info. The variable RUST_LOG overrides
        /// the file, and the flag overrides both
        level: Level = "info".into(), "log-level" "LEVEL";
        /// Format of log lines: text or json
        format: LogFormat = LogFormat::Text, "log-format" "FORMAT";
    }
    /// The access log: one line for each request
    "access-log" access_log: AccessLog {
        /// Format of the access log: combined (as in Apache and nginx), json, or off
        format: AccessFormat = AccessFormat::Off, "access-log" "FORMAT";
        /// File to append the access log to, opened again on SIGHUP; empty for standard error
        file: PathBuf = PathBuf::new(), "access-log-file" "FILE";
    }
}

/// Ten times the engine's default, which is meant for programs; users pause. (Sources of the rendezvous have the six
/// hours of http-rendezvous: an idle stream holds no buffer, and the number of streams is limited.)
const TRANSFER_TIMEOUT: NonZeroU32 = NonZeroU32::new(300).expect("not 0");

fn percent(n: u32) -> NonZeroU32 {
    NonZeroU32::new(n).unwrap_or(NonZeroU32::MIN)
}

fn seconds(time: std::time::Duration) -> NonZeroU32 {
    u32::try_from(time.as_secs()).ok().and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MIN)
}

fn positive(n: u64) -> NonZeroU64 {
    NonZeroU64::new(n).unwrap_or(NonZeroU64::MIN)
}

fn nonzero(n: usize) -> NonZeroUsize {
    NonZeroUsize::new(n).unwrap_or(NonZeroUsize::MIN)
}
