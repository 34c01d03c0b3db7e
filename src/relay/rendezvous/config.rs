//! The configuration of a rendezvous: each value with its default and the reason for it.

use std::time::Duration;

#[cfg(feature = "nodes")]
use uncork::Response;

use super::super::{
    config::{self as checks, ConfigError},
    service::ServiceConfig,
    wire::CorsPolicy,
};
#[cfg(feature = "nodes")]
use super::{super::nodes::NodeError, faults};

/// The configuration of a [`Rendezvous`](super::Rendezvous).
///
/// ```
/// use std::time::Duration;
/// use uncork::relay::{Rendezvous, RendezvousConfig};
/// let config = RendezvousConfig { ttl: Duration::from_secs(300), ..RendezvousConfig::default() };
/// let rendezvous = Rendezvous::new(config)?;
/// # Ok::<(), uncork::relay::ConfigError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RendezvousConfig {
    /// Path that the service lives under. With `/x`, streams are at `/x/stream/<id>`. A slash at its end is ignored.
    /// Default: empty, which means the root.
    pub base_path: String,
    /// Value of the `Server` field of every response; empty, the default, for none.
    pub server: String,
    /// Time that the two sides have to connect, from the creation of the stream. An error that a client posts before
    /// any side connects is kept as long. Default: 60 s, as in http-rendezvous.
    pub ttl: Duration,
    /// Longest time that a client can ask for with `?ttl=SECONDS` when it creates a stream. Default: 1 hour, because
    /// users need longer than programs to pass a link on. The cost is the connection of the side that waits.
    pub ttl_max: Duration,
    /// Longest lifetime of a stream to which no peer is connected, from its creation. Default: 10 minutes. A longer
    /// time that a client asks for applies only while a side waits. So unused streams do not fill the table.
    pub first_use_timeout: Duration,
    /// Time for which `/status` reports a stream that has ended. Default: 60 s, as in http-rendezvous. When the table
    /// is full, the oldest records are removed earlier.
    pub status_ttl: Duration,
    /// Longest duration of a transfer, however busy it is; then both sides get an error. Default: 7 days.
    pub lifetime: Duration,
    /// Timeout of a source that sends nothing while a receiver waits; it restarts with every byte. Default: 6 hours, as
    /// in http-rendezvous. A stream that rests holds two connections and no buffers. For a receiver that reads nothing,
    /// [`Limits::send_timeout`](uncork::Limits::send_timeout) applies instead.
    pub body_timeout: Duration,
    /// Maximum number of streams, including the records of those that have ended. One more is rejected with 503.
    /// Default: 10,000, at about 1 KiB each while no bytes move. When the table is full, the oldest records are removed
    /// first. Then streams to which no peer is connected are evicted: the oldest one of the address that has most of
    /// those. Only an address that has fewer gets its entry.
    pub streams: usize,
    /// Maximum number of streams of one address (one /64 network in IPv6), including records. One more is rejected with
    /// 429. Default: 1,000, a tenth of all. Once half of all streams are taken, the share of an address shrinks
    /// ([`Limits::address_share`](uncork::Limits::address_share)). So neither four addresses nor a hundred can take all
    /// streams.
    pub streams_per_address: usize,
    /// Streams that one address may create per minute, on average; 0 for no limit. One more is rejected with 429.
    /// Default: 600.
    pub creations_per_minute: u32,
    /// Streams that one address may create at once, before the rate applies. Default: 100.
    pub creation_burst: u32,
    /// Maximum size of the JSON that creates a stream or reports an error, in bytes. More is rejected with 413.
    /// Default: 64 KiB.
    pub json: usize,
    /// Maximum size of such JSON kept for all streams together, in bytes. Beyond it, a creation is rejected with 503.
    /// Default: 64 MiB. An address has the same share of it as of the streams, and enough for one stream at least;
    /// beyond it, 429.
    pub json_total: usize,
    /// Maximum size of one stream, in bytes. A larger one is rejected with 413. Default: 1 TiB, because nothing is
    /// stored and a stream costs only time. The engine's own [`Limits::body`](uncork::Limits::body) applies as well;
    /// its default is 1 GiB.
    pub body: u64,
    /// Largest number of receivers that a client can ask for with `?n=K`. Default: 16, because each has a pipe of its
    /// own.
    pub receivers: usize,
    /// Size of the pipe between the source and each receiver, in bytes. Default: 256 KiB. A smaller pipe costs system
    /// calls, a larger one memory.
    pub pipe: usize,
    /// With `true`, a download of unknown length is aborted when the source disconnects before the end. Default:
    /// `true`, so that a truncated body never looks complete. With `false`, the download ends normally, as in
    /// http-rendezvous.
    /// Clients choose with `?strict=1` and `?strict=0` when they create the stream or receive it; the receiver's choice
    /// takes precedence. A download of known length is aborted in any case.
    pub strict: bool,
    /// With `true`, `GET /stream` lists all streams. Default: `false`. The ids are the only secret: use it in trusted
    /// networks only. A program can serve [`Rendezvous::list`](super::Rendezvous::list) elsewhere.
    pub list: bool,
    /// With `true`, creators of streams cannot set fields that a browser or a proxy attributes to this origin. Default:
    /// `true`.
    ///
    /// Downloads are then sent as attachments, with the file name that the creator asked for. Their type is one that
    /// browsers do not run: HTML, SVG, XML, scripts and the like become `application/octet-stream`, and so does a
    /// missing type. They also carry `nosniff`, a sandboxing policy, `no-store` and `noindex`. Fields that act on an
    /// origin (`Set-Cookie`, `Clear-Site-Data`) or control a proxy in front (`X-Accel-Redirect`) are removed from both
    /// responses. All other fields are passed on, and `/status` shows the fields as requested. With `false`, everything
    /// is passed on unchanged, as in http-rendezvous: use it in trusted networks only.
    pub neutral: bool,
    /// Origins whose pages may use the service from a browser (CORS): `https://example.org`, or `*` for all. Default:
    /// none.
    pub allowed_origins: Vec<String>,
}

impl Default for RendezvousConfig {
    fn default() -> Self {
        Self {
            base_path: String::new(),
            server: String::new(),
            ttl: Duration::from_secs(60),
            ttl_max: Duration::from_secs(3600),
            first_use_timeout: Duration::from_secs(600),
            status_ttl: Duration::from_secs(60),
            lifetime: Duration::from_secs(7 * 24 * 3600),
            body_timeout: Duration::from_secs(6 * 3600),
            streams: 10_000,
            streams_per_address: 1_000,
            creations_per_minute: 600,
            creation_burst: 100,
            json: 64 * 1024,
            json_total: 64 << 20,
            body: 1 << 40,
            receivers: 16,
            pipe: 256 * 1024,
            strict: true,
            list: false,
            neutral: true,
            allowed_origins: Vec::new(),
        }
    }
}

impl RendezvousConfig {
    /// Returns the longest time that the sides of a stream can have to connect.
    pub(super) fn longest(&self) -> Duration {
        self.ttl.max(self.ttl_max)
    }
}

impl ServiceConfig for RendezvousConfig {
    fn checked(mut self) -> Result<Self, ConfigError> {
        self.base_path = checks::base_path(&self.base_path)?;
        checks::server(&self.server)?;
        checks::origins(&mut self.allowed_origins)?;
        let Self { ttl, ttl_max, first_use_timeout, status_ttl, lifetime, body_timeout, .. } = &mut self;
        checks::times([ttl, ttl_max, first_use_timeout, status_ttl, lifetime, body_timeout]);
        if self.receivers == 0 {
            return Err(ConfigError::new("invalid receivers: must be at least 1"));
        }
        Ok(self)
    }

    fn base_path(&self) -> &str {
        &self.base_path
    }

    #[cfg(feature = "nodes")]
    fn node_error(error: NodeError) -> Response {
        faults::of_node(error)
    }
}

impl CorsPolicy for RendezvousConfig {
    const REQUEST_FIELDS: &'static str = "Content-Type";
    const EXPOSED_FIELDS: &'static str = "*";
    const COOKIES: bool = false;

    fn server(&self) -> &str {
        &self.server
    }

    fn allowed_origins(&self) -> &[String] {
        &self.allowed_origins
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_work_is_rejected_before_it_runs() {
        let with = |change: fn(&mut RendezvousConfig)| {
            let mut config = RendezvousConfig::default();
            change(&mut config);
            config.checked()
        };
        assert!(with(|_| {}).is_ok());
        assert!(with(|c| c.base_path = "x".into()).is_err());
        assert!(with(|c| c.server = "a\r\nb: c".into()).is_err());
        assert!(with(|c| c.allowed_origins = vec!["example.org".into()]).is_err());
        assert!(with(|c| c.receivers = 0).is_err());
        let forever = with(|c| (c.ttl, c.status_ttl, c.lifetime) = (Duration::MAX, Duration::MAX, Duration::MAX));
        assert!(forever.is_ok_and(|c| c.ttl < Duration::MAX), "a clock can take it");
    }
}
