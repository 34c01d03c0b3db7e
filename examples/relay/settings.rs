//! Every setting, once: its place in the file, its flag, its default, and what is said of it in both.
//!
//! A section becomes a struct that reads itself from the file, and a list of its settings, of which the flags and the
//! printed file are made. What is not in the file and not among the flags has its default.

use std::{
    num::{NonZeroU32, NonZeroU64, NonZeroUsize},
    path::PathBuf,
};

use serde::Deserialize;
use uncork::{
    Limits as EngineLimits,
    relay::{GatewayConfig, RendezvousConfig, SessionConfig, tunnel::ProxyConfig},
};

use super::{
    addresses::Network,
    listen::Listen,
    values::{
        AccessFormat, AdminAddress, BalanceRule, BasePath, Bytes, Field, ForwardedField, Level, LogFormat, Mode,
        Origin, OriginRule, ServerName, Threads, TunnelToken, Url, Value, ViaName,
    },
};

/// One setting, as flags and the printed file see it.
pub(crate) struct Setting {
    /// The table in the file; empty for none.
    pub(crate) section: &'static str,
    pub(crate) key: String,
    pub(crate) flag: &'static str,
    pub(crate) hint: &'static str,
    pub(crate) about: Vec<&'static str>,
    pub(crate) alone: Option<&'static str>,
    pub(crate) many: bool,
    /// Whether these words of the flag are understood.
    pub(crate) check: fn(&[&str]) -> Result<(), String>,
    /// Takes the words of the flag.
    pub(crate) set: fn(&mut Settings, &[&str]) -> Result<(), String>,
    /// As it stands in the file.
    pub(crate) show: fn(&Settings) -> String,
}

impl Setting {
    pub(crate) fn name(&self) -> String {
        if self.section.is_empty() { self.key.clone() } else { format!("{}.{}", self.section, self.key) }
    }
}

macro_rules! settings {
    ($(
        $(#[doc = $about:literal])+
        $table:literal $field:ident: $section:ident {
            $( $(#[doc = $doc:literal])+ $key:ident: $kind:ty = $default:expr, $flag:literal $hint:literal; )*
        }
    )*) => {
        /// All of them.
        #[derive(Clone, Debug, PartialEq, Eq, Default, Deserialize)]
        #[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
        pub(crate) struct Settings {
            /// Where to listen; the default if it is empty.
            pub(crate) listen: Vec<Listen>,
            $( $(#[doc = $about])+ pub(crate) $field: $section, )*
        }

        $(
            $(#[doc = $about])+
            #[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
            #[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
            pub(crate) struct $section {
                $( $(#[doc = $doc])+ pub(crate) $key: $kind, )*
            }

            impl Default for $section {
                fn default() -> Self {
                    Self { $($key: $default),* }
                }
            }
        )*

        /// The sections: table, and what is said of it.
        pub(crate) const SECTIONS: &[(&str, &[&str])] = &[$(($table, &[$($about),+])),*];

        /// Every setting, in the order of the file.
        pub(crate) fn all() -> Vec<Setting> {
            vec![$($(Setting {
                section: $table,
                key: stringify!($key).replace('_', "-"),
                flag: $flag,
                hint: $hint,
                about: vec![$($doc),+],
                alone: <$kind as Value>::ALONE,
                many: <$kind as Value>::MANY,
                check: |words| <$kind as Value>::from_words(words).map(drop),
                set: |settings, words| {
                    settings.$field.$key = Value::from_words(words)?;
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

fn gate() -> GatewayConfig {
    GatewayConfig::default()
}

fn proxy() -> ProxyConfig {
    ProxyConfig::default()
}

settings! {
    /// The program
    "server" server: Server {
        /// Who waits for events: threads (one loop each), external (the program's own loop), thread-per-connection
        mode: Mode = Mode::Threads, "mode" "MODE";
        /// Loops of mode threads, at most 1024; 0 for one for each processor
        threads: Threads = Threads(0), "threads" "N";
        /// How long requests may take to finish after the first SIGINT or SIGTERM; the second stops at once
        grace: u32 = 10, "grace" "SECONDS";
        /// How long to go on as before after that signal, while /ready says 503 already, so that a load balancer can turn
        /// to others
        shutdown_delay: u32 = 0, "shutdown-delay" "SECONDS";
    }
    /// HTTPS: of every TCP listener that has no certificate of its own. Read again on SIGHUP
    "tls" tls: TlsFiles {
        /// Certificate chain in PEM, the server's own first; empty for plain HTTP
        cert: PathBuf = PathBuf::new(), "tls-cert" "FILE";
        /// Private key in PEM
        key: PathBuf = PathBuf::new(), "tls-key" "FILE";
    }
    /// Proxies in front of this server. What they say of their clients (the address, and whether they speak HTTPS) is
    /// believed, and nobody else's word
    "proxies" proxies: Proxies {
        /// Networks of proxies, as 10.0.0.0/8 or 2001:db8::1; "unix" for whoever comes by a Unix socket
        trusted: Vec<Network> = Vec::new(), "trusted-proxy" "NETWORK";
        /// The field that proxies write: x-forwarded-for (and X-Forwarded-Proto), forwarded (RFC 7239), none, or any of the
        /// two (if both are there, they have to agree)
        field: ForwardedField = ForwardedField::Any, "forwarded-field" "FIELD";
    }
    /// How much and how long, for every connection
    "limits" limits: Limits {
        /// Connections in all. If the system does not let the process open that many files, fewer: the log says so
        connections: NonZeroUsize = some(engine().connections), "connections" "N";
        /// Connections from one address (behind the PROXY protocol: the client's; of IPv6: from one /64 network), and never
        /// more than half of all, and less when few are free; 0 for no limit, if all clients come by one proxy
        connections_per_address: usize = engine().connections_per_address, "connections-per-address" "N";
        /// Bytes of one request's body; k, M, G and T multiply by 1024
        max_body: Bytes = Bytes(session().body), "max-body" "BYTES";
        /// Bytes that streams and messages on their way hold in pipes, of all clients together. Beyond them each has a
        /// small block, and goes on more slowly
        pipe_memory: Bytes = Bytes(256 << 20), "pipe-memory" "BYTES";
        /// Bytes of a request's head
        max_head: Bytes = Bytes(engine().head as u64), "max-head" "BYTES";
        /// Time for the TLS handshake, and for a proxy to say for whom it speaks
        handshake_timeout: NonZeroU32 = seconds(engine().handshake_timeout), "handshake-timeout" "SECONDS";
        /// Time for a request's head, from its first byte
        head_timeout: NonZeroU32 = seconds(engine().head_timeout), "head-timeout" "SECONDS";
        /// How long a connection may be idle between two requests
        idle_timeout: NonZeroU32 = seconds(engine().idle_timeout), "idle-timeout" "SECONDS";
        /// The most a body may pause while somebody is ready to receive it: people close the lid of a laptop.
        /// (A source of the rendezvous: rendezvous-pause)
        body_timeout: NonZeroU32 = PAUSE, "body-timeout" "SECONDS";
        /// The most a client may take to accept any of what is sent to it: people pause downloads
        send_timeout: NonZeroU32 = PAUSE, "send-timeout" "SECONDS";
        /// Bytes a second at which bodies have to move at the least, in either direction; 0 for no limit
        min_rate: u64 = engine().min_rate, "min-rate" "N";
    }
    /// Web pages of other origins (CORS)
    "cors" cors: Cors {
        /// Origins whose pages may use the services from a browser, as https://example.org, or * for all
        allow_origins: Vec<Origin> = Vec::new(), "allow-origin" "ORIGIN";
    }
    /// The session relay: two sides exchange messages through a URL
    "sessions" sessions: Sessions {
        /// Whether there is a session relay
        enabled: bool = true, "session-relay" "BOOL";
        /// Path under which the session relay lives
        base_path: BasePath = session().base_path.as_str().into(), "base-path" "PATH";
        /// Sessions in all. When all are taken, those that no peer has ever connected to yield: the oldest of the address
        /// that has most of them
        limit: NonZeroUsize = some(session().sessions), "sessions" "N";
        /// Sessions allocated by one address; in IPv6, by one /64 network. Once half of all are taken, its share shrinks
        per_address: NonZeroUsize = some(session().sessions_per_address), "sessions-per-address" "N";
        /// Sessions one address may allocate in a minute, over a long time; 0 for no limit
        allocations_per_minute: u32 = session().allocations_per_minute, "allocations-per-minute" "N";
        /// Sessions one address may allocate at once
        allocation_burst: u32 = session().allocation_burst, "allocation-burst" "N";
        /// How long a session lives while nobody is connected to it
        ttl: NonZeroU64 = positive(session().ttl.as_secs()), "session-ttl" "SECONDS";
        /// How long a session lives at most until a peer connects to it for the first time
        first_use_timeout: NonZeroU64 = positive(session().first_use_timeout.as_secs()), "session-first-use-timeout" "SECONDS";
        /// The most a client can ask for with ?timeout=N
        ttl_max: NonZeroU64 = positive(session().ttl_max.as_secs()), "session-ttl-max" "SECONDS";
        /// How long a session lives at most
        lifetime: NonZeroU64 = positive(session().lifetime.as_secs()), "session-lifetime" "SECONDS";
        /// How long a request waits for its partner
        request_timeout: u64 = session().request_timeout.as_secs(), "request-timeout" "SECONDS";
        /// The most a client can ask for with X-Timeout or ?timeout=N
        request_timeout_max: u64 = session().request_timeout_max.as_secs(), "request-timeout-max" "SECONDS";
        /// Break the receiver's connection when the sender of a chunked message is lost. With false, the message ends in
        /// order, as cama has it, and a receiver cannot tell a part from the whole
        abort_when_cut: bool = !session().end_cleanly_if_truncated, "abort-when-cut" "BOOL";
        /// Value of the Server field; empty for none
        server_name: ServerName = session().server.as_str().into(), "server-name" "NAME";
    }
    /// The rendezvous: what one PUTs at a URL, one or several others GET
    "rendezvous" rendezvous: Rendezvous {
        /// Whether there is a rendezvous
        enabled: bool = true, "rendezvous" "BOOL";
        /// Path under which /stream and /ping live; empty for the root
        base_path: BasePath = stream().base_path.as_str().into(), "rendezvous-base-path" "PATH";
        /// Streams in all, with the records of those that are over. When all are taken, records make room, and then the
        /// streams to which no peer is connected: the oldest of the address that has most of them
        limit: NonZeroUsize = some(stream().streams), "rendezvous-streams" "N";
        /// Streams created by one address; in IPv6, by one /64 network. Once half of all are taken, its share shrinks
        per_address: NonZeroUsize = some(stream().streams_per_address), "rendezvous-streams-per-address" "N";
        /// Streams one address may create in a minute, over a long time; 0 for no limit
        creations_per_minute: u32 = stream().creations_per_minute, "rendezvous-creations-per-minute" "N";
        /// Streams one address may create at once
        creation_burst: u32 = stream().creation_burst, "rendezvous-creation-burst" "N";
        /// How long the sides of a stream have to meet
        ttl: NonZeroU64 = positive(stream().ttl.as_secs()), "rendezvous-ttl" "SECONDS";
        /// The most a client can ask for with ?ttl=SECONDS
        ttl_max: u64 = stream().ttl_max.as_secs(), "rendezvous-ttl-max" "SECONDS";
        /// How long a stream to which no peer is connected lives at most
        first_use_timeout: NonZeroU64 = positive(stream().first_use_timeout.as_secs()), "rendezvous-first-use-timeout" "SECONDS";
        /// How long /status tells of a stream that is over
        record: u64 = stream().status_ttl.as_secs(), "rendezvous-record" "SECONDS";
        /// How long a stream may run at most
        lifetime: NonZeroU64 = positive(stream().lifetime.as_secs()), "rendezvous-lifetime" "SECONDS";
        /// How long a source may pause while somebody receives
        pause: NonZeroU64 = positive(stream().body_timeout.as_secs()), "rendezvous-pause" "SECONDS";
        /// The most receivers that can be asked for with ?n=K
        receivers: NonZeroUsize = some(stream().receivers), "rendezvous-receivers" "N";
        /// Break receivers' connections when the source of a stream of unknown length is lost. With false, the download ends
        /// in order, as http-rendezvous has it. Clients choose with ?strict=1 and ?strict=0
        strict: bool = stream().strict, "rendezvous-strict" "BOOL";
        /// Keep what creators of streams ask for from speaking in this origin's name: downloads are attachments that no
        /// browser runs, without cookies, and without orders to a proxy in front
        neutral: bool = stream().neutral, "rendezvous-neutral" "BOOL";
        /// Let everybody list all streams by GET /stream. Their ids are the only secret there is: the admin listener has
        /// the list in any case
        public_list: bool = stream().list, "rendezvous-public-list" "BOOL";
    }
    /// The gateway: clients of an application that speaks only HTTP stay connected by WebSocket
    "gateway" gateway: Gateway {
        /// URL of the application, which is asked whether a client may connect; empty for no gateway
        connect_url: Url = gate().callback.connect.as_str().into(), "gateway-connect-url" "URL";
        /// URL that is told when a client is connected; empty for none
        establish_url: Url = gate().callback.establish.as_str().into(), "gateway-establish-url" "URL";
        /// URL that is given what clients send; empty for none
        receive_url: Url = gate().callback.receive.as_str().into(), "gateway-receive-url" "URL";
        /// URL that is told when a client is gone; empty for none
        close_url: Url = gate().callback.close.as_str().into(), "gateway-close-url" "URL";
        /// How long a call of the application may take; 0 for no limit
        callback_timeout: u64 = gate().callback.timeout.map_or(0, |time| time.as_secs()), "gateway-callback-timeout" "SECONDS";
        /// Where the application reaches the gateway, as it is told with each call; empty for the admin listener, or the
        /// first public one if the application is served there
        endpoint: String = String::new(), "gateway-endpoint" "HOST:PORT";
        /// Serve the application (send, close, statistics) on the public listeners, too. There are no passwords: whoever
        /// reaches it can send to everybody
        public_api: bool = false, "gateway-public-api" "BOOL";
        /// The header field that names sessions
        session_field: String = gate().session_header, "gateway-session-field" "NAME";
        /// Fields to set in calls of the application, as "X-Zone: a"; to leave one out: "X-Zone:"
        set_fields: Vec<Field> = Vec::new(), "gateway-set-field" "FIELD";
        /// Messages queued for a client beside the one that is being written
        queue: usize = gate().send_queue_size, "gateway-queue" "N";
        /// How long the application waits for a place in that queue; 0 for no limit
        queue_timeout: u64 = gate().send_timeout.map_or(0, |time| time.as_secs()), "gateway-queue-timeout" "SECONDS";
        /// Send to nobody if one of the clients named is not there
        strict_broadcast: bool = gate().strict_broadcast, "gateway-strict-broadcast" "BOOL";
        /// Pages of which origins may connect: same-origin, same-hostname, all. With all, any web page connects with its
        /// visitor's cookies
        origins: OriginRule = OriginRule::SameOrigin, "gateway-origins" "RULE";
        /// How long a client may be silent; 0 for no limit
        idle_timeout: u64 = gate().idle_timeout.map_or(0, |time| time.as_secs()), "gateway-idle-timeout" "SECONDS";
        /// How often a silent client is pinged; 0 for never
        ping_interval: u64 = gate().ping_interval.map_or(0, |time| time.as_secs()), "gateway-ping-interval" "SECONDS";
        /// How long a message from a client may take to arrive, prolonged by each byte at 240 bytes a second or more; 0 for
        /// no limit
        message_timeout: u64 = gate().message_timeout.map_or(0, |time| time.as_secs()), "gateway-message-timeout" "SECONDS";
        /// Path where clients connect
        connect_path: String = gate().path.connect, "gateway-connect-path" "PATH";
        /// Path where the application sends
        send_path: String = gate().path.send, "gateway-send-path" "PATH";
        /// Path where the application closes
        close_path: String = gate().path.close, "gateway-close-path" "PATH";
        /// Path of the statistics
        stats_path: String = gate().path.stats, "gateway-stats-path" "PATH";
        /// Bytes of one message from a client
        max_message: Bytes = Bytes(gate().limits.message as u64), "gateway-max-message" "BYTES";
        /// Bytes of one message to clients
        max_send: Bytes = Bytes(gate().limits.send as u64), "gateway-max-send" "BYTES";
        /// Bytes of messages from clients that the application has not answered for; one address has a quarter of it at the
        /// most, and beyond it a client is closed with 1013
        max_pending: Bytes = Bytes(gate().limits.pending as u64), "gateway-max-pending" "BYTES";
        /// Calls of the application at the same time; clients of one address have a quarter of them at the most
        calls: NonZeroUsize = some(gate().limits.calls), "gateway-calls" "N";
        /// Clients in all
        limit: NonZeroUsize = some(gate().limits.sessions), "gateway-clients" "N";
        /// Clients from one address, less once half of all places are taken
        per_address: NonZeroUsize = some(gate().limits.sessions_per_address), "gateway-clients-per-address" "N";
    }
    /// The reverse tunnel: servers behind NAT, which dial this one, are reached through it. They come to any listener that
    /// speaks HTTPS
    "tunnel" tunnel: Tunnel {
        /// Who may be an origin, and of which hosts: "NAME SHA256 HOST...", SHA256 being that of the token (printf %s "$TOKEN" |
        /// sha256sum), or cert:SHA256 that of a client certificate; a host may be a pattern (*.dev.example) and have a path
        /// (app.example/api), and among them body=BYTES and rate=BYTES (a second) may stand. None: no tunnel. Instead of SHA256,
        /// allow-legacy-unauthenticated:NET,NET lets a program of 2014 in from there, which proves nothing (if built with the
        /// feature spdy)
        tokens: Vec<TunnelToken> = Vec::new(), "tunnel-token" "TOKEN";
        /// Path where origins ask for a tunnel
        path: BasePath = proxy().path.as_str().into(), "tunnel-path" "PATH";
        /// The name in the Via field of what is forwarded. A request that has it already goes in a circle, and gets 508; so no
        /// other relay that it passes may have the same. Empty: a random name at each start
        via: ViaName = "".into(), "tunnel-via" "NAME";
        /// Which of several origins of one host gets a request: round-robin, least-busy
        balance: BalanceRule = BalanceRule::RoundRobin, "tunnel-balance" "RULE";
        /// How long an origin may take to begin its answer
        answer_timeout: NonZeroU64 = positive(proxy().response_timeout.as_secs()), "tunnel-answer-timeout" "SECONDS";
        /// Connections of origins in all
        origins: NonZeroUsize = some(proxy().connections), "tunnel-origins" "N";
        /// Connections of origins with one token
        origins_per_token: NonZeroUsize = some(proxy().connections_per_credential), "tunnel-origins-per-token" "N";
        /// Connections by ALPN that have not identified themselves yet; one more displaces the oldest of the network with the most
        handshakes: NonZeroUsize = some(proxy().handshakes), "tunnel-handshakes" "N";
        /// Failed handshakes of one network in a minute (a wrong token, or silence); the next is refused unread; 0 for no limit
        failures_per_minute: u32 = proxy().failures_per_minute, "tunnel-failures-per-minute" "N";
        /// Requests on one connection of an origin at the same time
        requests_per_origin: NonZeroUsize = some(proxy().streams_per_connection), "tunnel-requests-per-origin" "N";
        /// Requests of one client's address at the same time, over all tunnels; one more gets 429
        requests_per_address: NonZeroUsize = some(proxy().streams_per_address), "tunnel-requests-per-address" "N";
        /// Requests of one host at the same time, however many origins it has; one more gets 503
        requests_per_host: NonZeroUsize = some(proxy().streams_per_host), "tunnel-requests-per-host" "N";
        /// Share of one client's address in the requests that a connection of an origin takes, in percent of those that are
        /// free there; one more gets 503. With 100, one address alone can have half of them, four can have a fifth each,
        /// sixteen a seventeenth each, and as much stays free for others
        share_per_address: NonZeroU32 = percent(proxy().share_per_address), "tunnel-share-per-address" "PERCENT";
        /// Share of one host, where an origin has several, in the same way: with 400 it can have four fifths
        share_per_host: NonZeroU32 = percent(proxy().share_per_name), "tunnel-share-per-host" "PERCENT";
    }
    /// The page for people, at the root: it sends a file or a text from one browser to another, through the rendezvous
    "page" page: Page {
        /// Whether there is a page for people
        enabled: bool = true, "page" "BOOL";
        /// How long its links are good, at most what the rendezvous allows
        link_ttl: NonZeroU64 = positive(1800), "page-link-ttl" "SECONDS";
    }
    /// For operators: /metrics (Prometheus), /health, /ready, /log-level, /sessions, /stream (the rendezvous' list),
    /// and the gateway's application
    "admin" admin: Admin {
        /// Address and port of this listener; off; or auto, which is 127.0.0.1:9090 or, if that is taken, a free port
        listen: AdminAddress = "auto".into(), "admin" "ADDR";
    }
    /// What happens, on standard error
    "log" log: Log {
        /// How much is logged: off, error, warn, info, debug or trace; or for parts of the program, as warn,uncork::relay=debug. The
        /// variable RUST_LOG goes before the file, and the flag before both
        level: Level = "warn".into(), "log-level" "LEVEL";
        /// How log lines look: text or json
        format: LogFormat = LogFormat::Text, "log-format" "FORMAT";
    }
    /// A line for each request
    "access-log" access_log: AccessLog {
        /// How a line for each request looks: combined (as Apache and nginx have it), json, or off
        format: AccessFormat = AccessFormat::Off, "access-log" "FORMAT";
        /// File to append those lines to, opened again on SIGHUP; empty for standard error
        file: PathBuf = PathBuf::new(), "access-log-file" "FILE";
    }
}

/// Ten times what the engine allows, whose defaults are for programs that speak to each other. (The sources of the
/// rendezvous have the six hours of its original: what rests holds no buffers, and their number is limited.)
const PAUSE: NonZeroU32 = NonZeroU32::new(300).expect("not 0");

fn percent(n: u32) -> NonZeroU32 {
    NonZeroU32::new(n).unwrap_or(NonZeroU32::MIN)
}

fn seconds(time: std::time::Duration) -> NonZeroU32 {
    u32::try_from(time.as_secs()).ok().and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MIN)
}

fn positive(n: u64) -> NonZeroU64 {
    NonZeroU64::new(n).unwrap_or(NonZeroU64::MIN)
}

fn some(n: usize) -> NonZeroUsize {
    NonZeroUsize::new(n).unwrap_or(NonZeroUsize::MIN)
}
