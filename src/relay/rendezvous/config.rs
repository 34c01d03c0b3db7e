//! What can be set about a rendezvous, each with its default and the reason for it.

use std::time::Duration;

use super::super::{
    config::{self as checks, ConfigError},
    wire::CorsPolicy,
};

/// How a [`Rendezvous`](super::Rendezvous) behaves.
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
    /// Under which path the service lives. `/x`: streams are then at `/x/stream/<id>`. A slash at its end is ignored;
    /// empty, the default, means the root.
    pub base_path: String,
    /// The `Server` field of every answer; empty, the default, for none.
    pub server: String,
    /// How long the sides have to meet, from the stream's creation. An error that was posted before anybody was there
    /// is kept for as long. 60 s, as the original.
    pub ttl: Duration,
    /// The most a client can ask for with `?ttl=SECONDS` when it creates a stream: people need longer than programs to
    /// pass a link on. 1 hour; what costs is the connection of whoever waits.
    pub ttl_max: Duration,
    /// How long a stream to which no peer is connected lives at most, from its creation. 10 minutes: a longer time that a
    /// client has asked for is for sides that wait, so that unused streams do not take the places of others.
    pub first_use_timeout: Duration,
    /// How long `/status` tells of a stream that is over. 60 s, as the original. When room is needed, the oldest
    /// records go earlier.
    pub status_ttl: Duration,
    /// How long a stream may run, however busy it is; then both sides are told. 7 days.
    pub lifetime: Duration,
    /// How long a source may pause while there is somebody to receive: every byte grants it anew. 6 hours, as the
    /// original; a stream that rests holds two connections and no buffers. (A receiver that takes nothing holds what was
    /// sent to it: for him [`Limits::send_timeout`](uncork::Limits::send_timeout) applies.)
    pub body_timeout: Duration,
    /// Streams in all, with the records of those that are over; one more is refused with 503. 10,000, at about a KiB
    /// each while nothing moves. When all are taken, the oldest records make room, and then the streams to which no peer is
    /// connected: the oldest of the address that has most of those, and only for an address that has fewer.
    pub streams: usize,
    /// Streams created by one address (one /64 network in IPv6), records included; one more is refused with 429.
    /// 1,000, a tenth of all. Once half of all streams are taken, the share of an address shrinks
    /// ([`Limits::address_share`](uncork::Limits::address_share)), so that four addresses, or a hundred, leave some to
    /// others.
    pub streams_per_address: usize,
    /// Streams one address may create in a minute, over a long time; 0 for no limit. 600.
    pub creations_per_minute: u32,
    /// Streams one address may create at once, before the rate applies. 100.
    pub creation_burst: u32,
    /// Bytes of the JSON that creates a stream, or reports an error; more is refused with 413. 64 KiB.
    pub json: usize,
    /// Bytes of such JSON that are kept for all streams together; beyond it, creation is refused with 503. 64 MiB. An address
    /// has the same share of them as of the streams, and room for one stream at least; beyond it, 429.
    pub json_total: usize,
    /// Bytes of one stream; more is refused with 413. 1 TiB: nothing of it is stored, so it costs time only. The
    /// engine's own [`Limits::body`](uncork::Limits::body) applies as well, and its default is 1 GiB.
    pub body: u64,
    /// The most receivers that can be asked for with `?n=K`. 16: each has a pipe of its own.
    pub receivers: usize,
    /// Bytes of the pipe between the source and each receiver. 256 KiB: smaller costs system calls, larger memory.
    pub pipe: usize,
    /// What receivers of a stream of unknown length see when its source is lost before the end. `true`, the default: a
    /// broken connection, so that a part is never taken for the whole. `false`: a download that ends in order, as
    /// http-rendezvous has it. Clients choose with `?strict=1` and `?strict=0`, when they create the stream or receive
    /// it; the receiver's choice goes first. A download of known length breaks in any case.
    pub strict: bool,
    /// Whether `GET /stream` lists all streams. Ids are the only secret there is: for trusted networks only, and off.
    /// A program can serve [`Rendezvous::list`](super::Rendezvous::list) elsewhere.
    pub list: bool,
    /// Whether what a browser or a proxy would take for this origin's word is kept from those who create streams. On.
    ///
    /// Downloads are then attachments (with the file name that was asked for), of a type that browsers do not run (HTML,
    /// SVG, XML, scripts and the like become `application/octet-stream`, and so does what has no type), with `nosniff`, a
    /// sandboxing policy, `no-store` and `noindex`. Fields that act on an origin, as `Set-Cookie` and
    /// `Clear-Site-Data`, or that a proxy in front carries out, as `X-Accel-Redirect`, are left out of both answers. All
    /// other fields are passed on, and `/status` shows what was asked for. Off, everything is passed on as it is, as the
    /// original does it: for trusted networks.
    pub neutral: bool,
    /// Origins whose pages may use the service from a browser (CORS): `https://example.org`, or `*` for all. None by
    /// default.
    pub allow_origins: Vec<String>,
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
            allow_origins: Vec::new(),
        }
    }
}

impl RendezvousConfig {
    /// The most time the sides of a stream can have to meet.
    pub(super) fn longest(&self) -> Duration {
        self.ttl.max(self.ttl_max)
    }

    /// Checked, and with the base path in its one spelling.
    pub(super) fn checked(mut self) -> Result<Self, ConfigError> {
        self.base_path = checks::base_path(&self.base_path)?;
        checks::server(&self.server)?;
        checks::origins(&mut self.allow_origins)?;
        let Self { ttl, ttl_max, first_use_timeout, status_ttl: record, lifetime, body_timeout: pause, .. } = &mut self;
        checks::times([ttl, ttl_max, first_use_timeout, record, lifetime, pause]);
        if self.receivers == 0 {
            return Err(ConfigError("a stream must be allowed one receiver at least"));
        }
        Ok(self)
    }
}

impl CorsPolicy for RendezvousConfig {
    const REQUEST_FIELDS: &'static str = "Content-Type";
    const EXPOSED_FIELDS: &'static str = "*";
    const COOKIES: bool = false;

    fn server(&self) -> &str {
        &self.server
    }

    fn origins(&self) -> &[String] {
        &self.allow_origins
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_work_is_refused_before_it_runs() {
        let with = |change: fn(&mut RendezvousConfig)| {
            let mut config = RendezvousConfig::default();
            change(&mut config);
            config.checked()
        };
        assert!(with(|_| {}).is_ok());
        assert!(with(|c| c.base_path = "x".into()).is_err());
        assert!(with(|c| c.server = "a\r\nb: c".into()).is_err());
        assert!(with(|c| c.allow_origins = vec!["example.org".into()]).is_err());
        assert!(with(|c| c.receivers = 0).is_err());
        let forever = with(|c| (c.ttl, c.status_ttl, c.lifetime) = (Duration::MAX, Duration::MAX, Duration::MAX));
        assert!(forever.is_ok_and(|c| c.ttl < Duration::MAX), "a clock can take it");
    }
}
