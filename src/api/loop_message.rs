//! What other threads (and the application, at any time) say to a loop.

use std::{sync::Arc, time::Duration};

use super::{
    Dial, DialError, Dialed, PipeIn, PipeOut, Response, Upgrade, Upload, dial::Then, ticket::TicketCore, wake::WakeCore,
};
use crate::{
    base::{Moment, PeerAddr, mailbox::Mailbox},
    h1::Headers,
};

pub(crate) type Later = Box<dyn FnOnce(Moment) + Send>;
pub(crate) type Fallback = Box<dyn FnOnce(Moment) -> Response + Send>;

pub(crate) enum LoopMessage {
    Wake(Arc<WakeCore>),
    Ticket(Arc<TicketCore>, TicketMessage),
    /// A stream to be served as if it had come in on the listener of that number.
    Adopt(ConnectedSocket, usize),
    /// Two pipes to be served as if they were such a stream.
    AdoptPipes(PeerAddr, Box<(PipeOut, PipeIn)>, usize),
    /// A stream that is spoken on already, not in HTTP.
    AdoptUpgrade(ConnectedSocket, Box<dyn Upgrade>),
    /// A connection to be made, and what comes then.
    Dial(Dial, Then),
    After(Duration, Later),
    /// Nothing: whoever turns the loop is to look around.
    Wakeup,
    /// Stop: within the grace, or at once (`None`).
    Stop(Option<Duration>),
}

/// What a ticket says.
pub(crate) enum TicketMessage {
    /// The answer lies in the ticket's core.
    Answer,
    Receive(Box<dyn Upload>),
    Inform(u16, Headers),
    Fallback(Duration, Fallback),
    /// The last ticket was dropped.
    Dropped,
}

/// A connected stream the application hands over.
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

/// A loop, from outside: any thread may hand it streams, have it connect to others, and have it call functions later.
///
/// With a thread for each connection, each of those is a loop too, which goes on after its connection has ended: what
/// was dialled, adopted or asked for there has its turn between the connections that the thread serves. A thread that
/// is not kept (more than 64 have nothing to serve) ends when nothing of that is left. One loop more accepts connections
/// for all of them: what is run there must not block.
#[derive(Clone)]
pub struct LoopHandle(pub(crate) Arc<Mailbox<LoopMessage>>);

impl LoopHandle {
    /// Serves a connected stream as if it had come in on the first listener, with its TLS if it has any.
    ///
    /// # Errors
    /// Gives the stream back if the loop has ended.
    pub fn adopt(&self, stream: impl Into<ConnectedSocket>) -> Result<(), ConnectedSocket> {
        self.adopt_as(stream, 0)
    }

    /// The same, as if it had come in on the listener of this number (see [`Request::listener_index`](crate::Request::listener_index)).
    ///
    /// # Errors
    /// Gives the stream back if the loop has ended.
    pub fn adopt_as(&self, stream: impl Into<ConnectedSocket>, listener: usize) -> Result<(), ConnectedSocket> {
        self.0.post(LoopMessage::Adopt(stream.into(), listener)).map_err(|mail| match mail {
            LoopMessage::Adopt(stream, _) => stream,
            _ => unreachable!("a mailbox gives back what was posted"),
        })
    }

    /// Serves a connection that is two pipes of this process: requests are read from `input`, in HTTP/1.1, and answers are
    /// written to `output`, by the same handler, as if a plain connection of `peer` had come in on the listener of that
    /// number, whatever its TLS.
    ///
    /// Finishing a pipe is that connection's FIN, in either direction. Dropping the end that writes unfinished, or the end
    /// that reads before our side has finished, is its reset; and that we reset it shows in an `output` that is cut off.
    /// Each pipe holds as much as it has room for, and who does not read is not written for any longer: back-pressure is
    /// end to end, and the clocks of [`Limits`](crate::Limits) run as on a socket.
    ///
    /// Such connections are of the application's own making: they do not count toward
    /// [`Limits::connections`](crate::Limits::connections). Otherwise they are served like others:
    /// [`Handler::accept`](crate::Handler::accept) is asked about `peer`, and [`Handler::closed`](crate::Handler::closed)
    /// and the access log are told. Files are copied to them, bodies too, and what is acknowledged is not known
    /// ([`RequestEnd::acked`](crate::RequestEnd::acked)).
    ///
    /// ```
    /// use std::net::Ipv4Addr;
    /// use uncork::{PeerAddr, Request, Response, Server, pipe};
    /// # fn main() -> std::io::Result<()> {
    /// let mut server = Server::unbound().external(|_: &mut Request<'_>| Response::text("Hello!"))?;
    /// let ((mut requests, input), (output, mut answers)) = (pipe(4096), pipe(4096));
    /// let peer = PeerAddr::tcp((Ipv4Addr::LOCALHOST, 1).into());
    /// assert!(server.loop_handle().adopt_pipes(peer, input, output, 0).is_ok());
    /// requests.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    /// server.turn()?;
    /// assert!(answers.bytes().starts_with(b"HTTP/1.1 200 OK\r\n"));
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
        self.0.post(LoopMessage::AdoptPipes(peer, Box::new((input, output)), listener)).map_err(|mail| match mail {
            LoopMessage::AdoptPipes(_, pipes, _) => *pipes,
            _ => unreachable!("a mailbox gives back what was posted"),
        })
    }

    /// Connects, then calls `then` on the loop, exactly once; it must not block. What it returns speaks on the connection
    /// from then on, as after a `101`; with `None` the connection closes quietly, and after an error it is dropped.
    ///
    /// Outgoing connections do not count toward [`Limits::connections`](crate::Limits::connections), and neither
    /// [`Handler::closed`](crate::Handler::closed) nor the access log is told of them. A server that stops still makes
    /// those that are dialled within the grace, and gives everybody who speaks on one the time that is left.
    ///
    /// If the loop has ended, or ends before, `then` is called with [`DialError::LoopEnded`] on whichever thread finds
    /// that out: this one, perhaps, before `dial` returns.
    ///
    /// ```
    /// use uncork::{Dial, EventMask, Io, LoopHandle, Upgrade};
    /// fn greet(here: &LoopHandle) {
    ///     here.dial(Dial::tcp(([127, 0, 0, 1], 7).into()), |result| match result {
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
        // A closed box gives it back, and dropping it says so.
        let _ = self.0.post(LoopMessage::Dial(dial, Then::new(then)));
    }

    /// A connected stream, spoken on by `upgrade` from its first byte: no HTTP, no TLS. It is in every way an outgoing
    /// connection: see [`dial`](Self::dial).
    ///
    /// # Errors
    /// Gives the stream back if the loop has ended; `upgrade` is dropped then.
    pub fn adopt_upgrade(
        &self,
        stream: impl Into<ConnectedSocket>,
        upgrade: impl Upgrade + 'static,
    ) -> Result<(), ConnectedSocket> {
        self.0.post(LoopMessage::AdoptUpgrade(stream.into(), Box::new(upgrade))).map_err(|mail| match mail {
            LoopMessage::AdoptUpgrade(stream, _) => stream,
            _ => unreachable!("a mailbox gives back what was posted"),
        })
    }

    /// Whether `other` is the same loop.
    pub fn same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Calls `f` on the loop after `delay`; with none, as soon as it has a turn. Not called at all if the loop ends
    /// before. A panic in it is logged.
    pub fn after(&self, delay: Duration, f: impl FnOnce(Moment) + Send + 'static) {
        let _ = self.0.post(LoopMessage::After(delay, Box::new(f)));
    }

    /// Calls `f` on the loop as soon as it has a turn; `false` if it has ended, and `f` was dropped.
    #[cfg(feature = "client")]
    pub(crate) fn at_once(&self, f: impl FnOnce(Moment) + Send + 'static) -> bool {
        self.0.post(LoopMessage::After(Duration::ZERO, Box::new(f))).is_ok()
    }
}

impl std::fmt::Debug for LoopHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Loop(..)")
    }
}
