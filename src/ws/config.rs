//! How much and how long.

use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};

/// What one WebSocket may take of memory and of time. The defaults are meant for the open internet.
///
/// ```
/// use std::time::Duration;
/// use uncork::ws::Config;
/// let config = Config::new().message(64 * 1024).ping_interval(Duration::from_secs(50));
/// # let _ = config;
/// ```
///
/// Cheap to clone: the clones share what they say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config(pub(super) Arc<Values>);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Values {
    pub(super) message: u64,
    pub(super) frame: u64,
    pub(super) fragments: u32,
    pub(super) message_timeout: Option<Duration>,
    pub(super) message_min_rate: u64,
    pub(super) queue: usize,
    pub(super) queue_messages: Option<usize>,
    pub(super) ping_interval: Option<Duration>,
    pub(super) pong_timeout: Duration,
    pub(super) close_timeout: Duration,
    pub(super) idle_timeout: Option<Duration>,
}

impl Config {
    /// The defaults.
    pub fn new() -> Self {
        static DEFAULT: LazyLock<Config> = LazyLock::new(Config::made);
        DEFAULT.clone()
    }

    fn made() -> Self {
        Self(Arc::new(Values {
            message: 16 << 20,
            frame: u64::MAX,
            fragments: 1 << 20,
            message_timeout: Some(Duration::from_secs(30)),
            message_min_rate: 240,
            queue: 1 << 20,
            queue_messages: None,
            ping_interval: Some(Duration::from_secs(25)),
            pong_timeout: Duration::from_secs(20),
            close_timeout: Duration::from_secs(10),
            idle_timeout: None,
        }))
    }

    fn with(mut self, change: impl FnOnce(&mut Values)) -> Self {
        change(Arc::make_mut(&mut self.0));
        self
    }

    /// Bytes of a message that is received, inflated if it came compressed. 16 MiB, as tungstenite has for frames.
    /// Beyond it the connection fails with 1009.
    pub fn message(self, bytes: u64) -> Self {
        self.with(|values| values.message = bytes)
    }

    /// Bytes of one frame that is received. As large as a message may be. Beyond it: 1009, before it has arrived.
    pub fn frame(self, bytes: u64) -> Self {
        self.with(|values| values.frame = bytes)
    }

    /// Frames of one message that is received. 1,048,576: a message of empty ones would never end. Beyond it: 1009.
    pub fn fragments(self, count: u32) -> Self {
        self.with(|values| values.fragments = count)
    }

    /// Limits how long a message may take to arrive, from its first frame to its last. 30 s, as bodies of requests have
    /// ([`Limits::body_timeout`](crate::Limits::body_timeout)). Each byte of its payload prolongs that by
    /// 1/[`message_min_rate`](Self::message_min_rate) s, never beyond the full time from now; pings and pongs in between
    /// do not. While the speaker is not [`Done`](super::Done) the clock stands still. Beyond it: 1008. `None`: a message
    /// may take for ever.
    pub fn message_timeout(self, time: impl Into<Option<Duration>>) -> Self {
        self.with(|values| values.message_timeout = time.into())
    }

    /// Sets the least rate at which a message must arrive, in bytes per second. 240, as
    /// [`Limits::min_rate`](crate::Limits::min_rate). 0: every byte of the payload grants the full
    /// [`message_timeout`](Self::message_timeout) again.
    pub fn message_min_rate(self, bytes_per_second: u64) -> Self {
        self.with(|values| values.message_min_rate = bytes_per_second)
    }

    /// Bytes that may wait to be sent. 1 MiB: a message is taken while fewer wait, so that one of any size finds its
    /// way; what waits is never more than this and one message. Beyond it: [`SendError::Full`](super::SendError). What the engine holds
    /// ([`Limits::output`](crate::Limits::output)) and the system's own buffers come on top.
    pub fn queue(self, bytes: usize) -> Self {
        self.with(|values| values.queue = bytes)
    }

    /// Messages that may wait to be sent, behind the one that is being sent; `None` counts bytes only.
    pub fn queue_messages(self, count: impl Into<Option<usize>>) -> Self {
        self.with(|values| values.queue_messages = count.into())
    }

    /// A peer that has said nothing for so long is sent a ping. 25 s: proxies and address translators forget
    /// connections after 30 s of silence or more. `None` never sends one.
    pub fn ping_interval(self, time: impl Into<Option<Duration>>) -> Self {
        self.with(|values| values.ping_interval = time.into())
    }

    /// How long the peer may take to answer a ping; whatever it sends is an answer. 20 s. The time runs only while we
    /// read, and while nothing of ours is in the peer's way.
    pub fn pong_timeout(self, time: Duration) -> Self {
        self.with(|values| values.pong_timeout = time)
    }

    /// How long the close handshake may take, from the first Close to the stream's end, which is not waited for any
    /// longer. 10 s.
    pub fn close_timeout(self, time: Duration) -> Self {
        self.with(|values| values.close_timeout = time)
    }

    /// The connection ends, without a Close, when for so long nothing was received, pings and pongs included, and no
    /// message of ours was sent. `None`: never. With [`ping_interval`](Self::ping_interval) below it a living peer never runs
    /// into it.
    pub fn idle_timeout(self, time: impl Into<Option<Duration>>) -> Self {
        self.with(|values| values.idle_timeout = time.into())
    }
}

impl Default for Config {
    fn default() -> Self {
        Self::new()
    }
}
