//! A loop, as other threads and the application use it.

use std::{fmt, sync::Arc, time::Duration};

use super::{Dial, DialError, Dialed, PipeIn, PipeOut, Upgrade, dial::Then, loop_message::LoopMessage};
use crate::base::{Moment, PeerAddr, mailbox::Mailbox};

/// A connected stream that the application hands over.
#[derive(Debug)]
#[non_exhaustive]
pub enum ConnectedSocket {
    /// A TCP stream.
    Tcp(std::net::TcpStream),
    /// A Unix stream.
    Unix(std::os::unix::net::UnixStream),
}

impl From<std::net::TcpStream> for ConnectedSocket {
    fn from(stream: std::net::TcpStream) -> Self {
        Self::Tcp(stream)
    }
}

impl From<std::os::unix::net::UnixStream> for ConnectedSocket {
    fn from(stream: std::os::unix::net::UnixStream) -> Self {
        Self::Unix(stream)
    }
}

/// A handle to a loop. Any thread can use it to hand over streams, to dial, and to have functions called later. Two
/// handles are equal if they are of the same loop.
///
/// In thread-per-connection mode every thread runs a loop, which outlives its connection. Dialled and adopted streams
/// and timers keep running on it between connections. A thread that is not kept (beyond 64 idle ones) ends when none of
/// them is left. One more loop accepts the connections for all threads: functions that run there must not block.
#[derive(Clone)]
pub struct LoopHandle(pub(crate) Arc<Mailbox<LoopMessage>>);

impl LoopHandle {
    /// Serves a connected stream as if the first listener had accepted it, with the TLS of that listener.
    ///
    /// # Errors
    /// Gives the stream back if the loop has ended.
    pub fn adopt(&self, stream: impl Into<ConnectedSocket>) -> Result<(), ConnectedSocket> {
        self.adopt_as(stream, 0)
    }

    /// Like [`adopt`](Self::adopt), but as if the listener with this index had accepted it (see
    /// [`Request::listener_index`](crate::Request::listener_index)). Without such a listener, the connection is plain.
    ///
    /// # Errors
    /// Gives the stream back if the loop has ended.
    pub fn adopt_as(&self, stream: impl Into<ConnectedSocket>, listener: usize) -> Result<(), ConnectedSocket> {
        self.0.post(LoopMessage::Adopt(stream.into(), listener)).map_err(|message| match message {
            LoopMessage::Adopt(stream, _) => stream,
            _ => unreachable!("a mailbox gives back what was posted"),
        })
    }

    /// Serves a connection that is made of two pipes of this process: HTTP/1.1 requests are read from `input`, and
    /// responses are written to `output`. The handler sees a plain connection of `peer` to the listener with that
    /// index, even if that listener has TLS.
    ///
    /// Finishing a pipe half-closes the connection, in either direction. Dropping `input`'s writer unfinished, or
    /// `output`'s reader before the engine has finished, resets it. If the engine resets it, `output` is truncated.
    /// Back-pressure is end to end: each pipe holds as many bytes as it has room for. The timeouts of
    /// [`Limits`](crate::Limits) apply as on a socket.
    ///
    /// Such connections do not count toward [`Limits::connections`](crate::Limits::connections), since the application
    /// makes them. [`Handler::accept`](crate::Handler::accept), [`Handler::closed`](crate::Handler::closed) and the
    /// access log are called as for others. File bodies are copied, not spliced, and
    /// [`RequestEnd::acked`](crate::RequestEnd::acked) is not known.
    ///
    /// ```
    /// use std::net::Ipv4Addr;
    /// use uncork::{PeerAddr, Request, Response, Server, pipe};
    /// # fn main() -> std::io::Result<()> {
    /// let mut server = Server::new().external(|_: &mut Request<'_>| Response::text("Hello!"))?;
    /// let ((mut requests, input), (output, mut responses)) = (pipe(4096), pipe(4096));
    /// let peer = PeerAddr::tcp((Ipv4Addr::LOCALHOST, 1).into());
    /// assert!(server.loop_handle().adopt_pipes(peer, input, output, 0).is_ok());
    /// requests.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    /// server.turn()?;
    /// assert!(responses.bytes().starts_with(b"HTTP/1.1 200 OK\r\n"));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// Gives the pipes back if the loop has ended.
    pub fn adopt_pipes(
        &self,
        peer: PeerAddr,
        input: PipeOut,
        output: PipeIn,
        listener: usize,
    ) -> Result<(), (PipeOut, PipeIn)> {
        self.0.post(LoopMessage::AdoptPipes(peer, Box::new((input, output)), listener)).map_err(|message| match message
        {
            LoopMessage::AdoptPipes(_, pipes, _) => *pipes,
            _ => unreachable!("a mailbox gives back what was posted"),
        })
    }

    /// Connects, then calls `then` on the loop, exactly once; it must not block. The [`Upgrade`] that it returns
    /// handles the connection, as after a `101`. With `None` the connection closes normally. After an error the
    /// returned value is dropped.
    ///
    /// Outgoing connections do not count toward [`Limits::connections`](crate::Limits::connections), and neither
    /// [`Handler::closed`](crate::Handler::closed) nor the access log is called for them. A server that stops still
    /// makes the connections dialled within the grace period; their upgrades end with it.
    ///
    /// If the loop has ended, or ends before it is connected, `then` is called with [`DialError::LoopEnded`]. That can
    /// happen on any thread, and before `dial` returns.
    ///
    /// ```
    /// use uncork::{Dial, EventMask, Io, LoopHandle, Upgrade};
    /// fn greet(handle: &LoopHandle) {
    ///     handle.dial(Dial::tcp(([127, 0, 0, 1], 7).into()), |result| match result {
    ///         Ok(_) => Some(Box::new(|io: &mut Io<'_>| {
    ///             io.tx.write(b"hello\n");
    ///             EventMask::TERMINATE
    ///         }) as Box<dyn Upgrade>),
    ///         Err(error) => {
    ///             eprintln!("{error}");
    ///             None
    ///         }
    ///     });
    /// }
    /// ```
    pub fn dial(
        &self,
        dial: Dial,
        then: impl FnOnce(Result<Dialed<'_>, DialError>) -> Option<Box<dyn Upgrade>> + Send + 'static,
    ) {
        // A closed mailbox gives the message back, and dropping it calls `then`.
        let _ = self.0.post(LoopMessage::Dial(dial, Then::new(then)));
    }

    /// Has `upgrade` handle a connected stream from its first byte: no HTTP, no TLS. It is treated like an outgoing
    /// connection, see [`dial`](Self::dial).
    ///
    /// # Errors
    /// Gives the stream back if the loop has ended, and drops `upgrade`.
    pub fn adopt_upgrade(
        &self,
        stream: impl Into<ConnectedSocket>,
        upgrade: impl Upgrade + 'static,
    ) -> Result<(), ConnectedSocket> {
        self.0.post(LoopMessage::AdoptUpgrade(stream.into(), Box::new(upgrade))).map_err(|message| match message {
            LoopMessage::AdoptUpgrade(stream, _) => stream,
            _ => unreachable!("a mailbox gives back what was posted"),
        })
    }

    /// Calls `f` on the loop after `delay`, which is rounded up to whole milliseconds. A zero delay means as soon as
    /// the loop reads its messages: in the same turn if it is called on that loop.
    ///
    /// Functions that are due at the same time run in the order of these calls. A function cannot be cancelled: let it
    /// check whether it is still needed. It is dropped uncalled if the loop ends before. It must not block; its panic
    /// is logged and goes no further.
    pub fn after(&self, delay: Duration, f: impl FnOnce(Moment) + Send + 'static) {
        let _ = self.0.post(LoopMessage::After(delay, Box::new(f)));
    }

    /// Calls `f` on the loop as soon as it reads its messages. Returns `false` if the loop has ended and `f` was
    /// dropped.
    #[cfg(feature = "client")]
    pub(crate) fn at_once(&self, f: impl FnOnce(Moment) + Send + 'static) -> bool {
        self.0.post(LoopMessage::After(Duration::ZERO, Box::new(f))).is_ok()
    }
}

impl PartialEq for LoopHandle {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for LoopHandle {}

impl fmt::Debug for LoopHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LoopHandle(..)")
    }
}
