//! The limits and timeouts of a WebSocket.

use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};

/// The limits and timeouts of one WebSocket. The defaults are meant for the open internet.
///
/// ```
/// use std::time::Duration;
/// use uncork::ws::Config;
/// let config = Config::new().message(64 * 1024).ping_interval(Duration::from_secs(50));
/// # let _ = config;
/// ```
///
/// Cheap to clone: clones share their values.
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
    pub(super) drain_spread: Duration,
}

impl Config {
    /// Returns the defaults.
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
            drain_spread: Duration::ZERO,
        }))
    }

    fn with(mut self, change: impl FnOnce(&mut Values)) -> Self {
        change(Arc::make_mut(&mut self.0));
        self
    }

    /// Limits the bytes of a received message, after inflating. Default: 16 MiB, which is tungstenite's limit for
    /// frames. Beyond it the connection is closed with 1009.
    pub fn message(self, bytes: u64) -> Self {
        self.with(|values| values.message = bytes)
    }

    /// Limits the bytes of a received frame. Default: the limit of a message. Beyond it the connection is closed with
    /// 1009, before the payload arrives.
    pub fn frame(self, bytes: u64) -> Self {
        self.with(|values| values.frame = bytes)
    }

    /// Limits the frames of a received message. Default: 1,048,576, so that a message of empty frames must end. Beyond
    /// it the connection is closed with 1009.
    pub fn fragments(self, count: u32) -> Self {
        self.with(|values| values.fragments = count)
    }

    /// Limits the time from the first to the last frame of a received message. Default: 30 s, like
    /// [`Limits::body_timeout`](crate::Limits::body_timeout). Beyond it the connection is closed with 1008. `None`
    /// means no limit.
    ///
    /// Each byte of the payload extends the deadline by 1/[`message_min_rate`](Self::message_min_rate) s, at most to
    /// the full timeout from now. Pings and pongs do not. The clock is stopped while the handler is not
    /// [`Done`](super::Done).
    pub fn message_timeout(self, timeout: impl Into<Option<Duration>>) -> Self {
        self.with(|values| values.message_timeout = timeout.into())
    }

    /// Sets the minimum rate of a received message, in bytes per second. Default: 240, like
    /// [`Limits::min_rate`](crate::Limits::min_rate). With 0, every byte of the payload restarts the full
    /// [`message_timeout`](Self::message_timeout).
    pub fn message_min_rate(self, bytes_per_second: u64) -> Self {
        self.with(|values| values.message_min_rate = bytes_per_second)
    }

    /// Limits the bytes in the send queue. Default: 1 MiB. Beyond it sending fails with
    /// [`SendError::Full`](super::SendError).
    ///
    /// A message is accepted while the queue is below the limit, so that a message of any size can be sent. The queue
    /// never holds more than this limit and one message. The engine's output
    /// ([`Limits::output`](crate::Limits::output)) and the system's buffers are additional.
    pub fn queue(self, bytes: usize) -> Self {
        self.with(|values| values.queue = bytes)
    }

    /// Limits the messages in the send queue, not counting the one being sent. Default: `None`, which counts bytes
    /// only.
    pub fn queue_messages(self, count: impl Into<Option<usize>>) -> Self {
        self.with(|values| values.queue_messages = count.into())
    }

    /// Sends a ping when nothing has been received for this interval. Default: 25 s. Proxies and address translators
    /// drop connections that are silent for 30 s or more. `None` sends no pings.
    pub fn ping_interval(self, interval: impl Into<Option<Duration>>) -> Self {
        self.with(|values| values.ping_interval = interval.into())
    }

    /// Limits the time from a ping to the next bytes from the peer; they need not be a pong. Default: 20 s. The clock
    /// runs only while this side reads, and while no output waits for the peer.
    pub fn pong_timeout(self, timeout: Duration) -> Self {
        self.with(|values| values.pong_timeout = timeout)
    }

    /// Limits the close handshake, from the first Close frame to the end of the stream. Default: 10 s. Then the
    /// connection is closed.
    pub fn close_timeout(self, timeout: Duration) -> Self {
        self.with(|values| values.close_timeout = timeout)
    }

    /// Ends the connection, without a Close frame, if for this time nothing was received (pings and pongs included) and
    /// no message was sent. Default: `None`, never. If [`ping_interval`](Self::ping_interval) is shorter, a live peer
    /// never reaches it.
    pub fn idle_timeout(self, timeout: impl Into<Option<Duration>>) -> Self {
        self.with(|values| values.idle_timeout = timeout.into())
    }

    /// Spreads the closes over this time when the server stops gracefully: each connection is used as before for a random
    /// part of it, and then gets a Close with 1001. Default: 0, at once.
    ///
    /// Clients that connect again at once would all reach the other servers at the same time. The grace period of
    /// [`StopHandle::shutdown`](crate::StopHandle::shutdown) must be longer, by the
    /// [`close_timeout`](Self::close_timeout) for example. Connections that are left at its end get no Close.
    pub fn drain_spread(self, spread: Duration) -> Self {
        self.with(|values| values.drain_spread = spread)
    }
}

impl Default for Config {
    fn default() -> Self {
        Self::new()
    }
}
