//! Every limit, its default, and the reason for it.
//!
//! They bound everything that peers cause. They do not bound what the application itself queues on a loop: messages in
//! the mailbox, and functions that [`LoopHandle::after`](crate::LoopHandle::after) has planned.

use std::time::Duration;

use super::Timeout;

/// The limits of a server: numbers, sizes and timeouts. The defaults are meant for the open internet.
///
/// ```
/// use std::time::Duration;
/// use uncork::Limits;
/// let limits = Limits { idle_timeout: Duration::from_secs(5), ..Limits::default() };
/// assert_eq!(limits.head, 16 * 1024);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections in total, over all loops of a server. Default: 65,536. At the limit, listeners wait until a
    /// connection ends, and the system's accept queue fills. An idle connection costs less than 512 bytes here and a
    /// few KiB in the system. So the file descriptors of the process usually run out first, which is handled too.
    pub connections: usize,
    /// Connections from one address; further ones are closed at once. Default: 16,384, a quarter of all, which is
    /// enough for a proxy in front or a network behind one address. All IPv6 addresses of a /64 network count as one
    /// ([`PeerAddr::network`](crate::PeerAddr::network)).
    ///
    /// When half of all connections are in use, the share of an address shrinks
    /// ([`address_share`](Self::address_share)), so that four addresses, or a hundred, leave some to others. The value
    /// counts as at most half of [`connections`](Self::connections). `usize::MAX` is the exception: one address can
    /// have all, for a server behind a single proxy. Unix sockets are exempt.
    pub connections_per_address: usize,
    /// Bytes of a request's head: request line, fields and line ends. Default: 16 KiB, as node; nginx has 8 KiB for
    /// each line, Apache 8,190 bytes. Beyond it: 431.
    pub head: usize,
    /// Bytes of the request target. Default: 8 KiB, as nginx and Apache; RFC 9112 §3 recommends at least 8,000. Beyond
    /// it: 414.
    pub target: usize,
    /// Header fields of a request, and trailer fields. Default: 100, as Apache. Beyond it: 431. In heads of more than 1
    /// KiB, more than 256 fields cost an allocation.
    pub fields: usize,
    /// Bytes of a request's body, decoded. Default: 1 GiB, as Apache. The engine never holds a whole body, so this
    /// protects the application. Beyond it: 413, and before `100 Continue` if the length is known.
    pub body: u64,
    /// Bytes of a body that the application does not receive and that are read and discarded, so that the connection
    /// can be used again. Default: 64 KiB, about the cost of a new connection. A longer body, or one with
    /// `Expect: 100-continue`, closes the connection.
    pub drain: u64,
    /// Bytes of input held for one upgraded connection. Default: 64 KiB, the size of a loop's buffers. Beyond it
    /// nothing is read until the handler consumes some, so it is the longest frame that a handler can parse in place. A
    /// handler that waits for more input while it is full is aborted.
    pub upgrade_input: usize,
    /// Bytes of output held for one connection. Default: 64 KiB, the size of a loop's buffers. Beyond it, producers and
    /// upgrades are not called for more until there is room.
    pub output: usize,
    /// Bytes of buffers lent at the same time, for each loop. Default: 256 MiB, so that 10,000 slow heads cost no more.
    /// Beyond it, connections wait until a buffer is returned. After a second, the address that holds the most loses
    /// connections, and streams of HTTP/2, that made no progress for as long, until an eighth of all buffers is free.
    ///
    /// Bodies over HTTP/2 that the application has not received yet are not among them: a connection holds at most 1 MiB
    /// of those, and 16 MiB where the application has received so fast that the windows have grown.
    pub buffers: usize,
    /// Pipes of the system in use at the same time, over all loops of a server. Through such a pipe, the body of a
    /// request passes to the response of another without entering the process. Default: 512. Each has two descriptors,
    /// a third one for the receiver, and at most 256 KiB in the system, which lets an unprivileged user have about 256.
    /// Beyond either number, bytes are copied, through blocks whose memory has a limit for the whole process
    /// ([`set_pipe_memory_limit`](crate::set_pipe_memory_limit)).
    pub kernel_pipes: usize,
    /// Descriptors that each loop with a listener keeps in reserve. Default: 0. When the process has no others left, so
    /// many connections are still accepted. Further connections wait in the system's queue until a descriptor is free,
    /// so a short shortage passes without a rejection. Set a few for a listener that must always respond, such as one
    /// for health checks.
    pub reserved_descriptors: usize,
    /// Timeout of the TLS handshake, with the PROXY protocol header in front of it. Default: 10 s.
    pub handshake_timeout: Duration,
    /// Timeout of a request's head, from its first byte; no byte extends it. Default: 20 s, as Apache; nginx has 60.
    pub head_timeout: Duration,
    /// Timeout of an idle connection, between two requests and before the first. Default: 60 s; nginx has 75, Apache 5.
    pub idle_timeout: Duration,
    /// Timeout of a pause in a body that the application is ready to receive. Default: 30 s. See also `min_rate`.
    pub body_timeout: Duration,
    /// Timeout of output of which the peer accepts nothing. Default: 30 s. See also `min_rate`. Over HTTP/2 it runs for
    /// each stream; while one waits for its turn, what the peer accepts of the others counts for it.
    pub send_timeout: Duration,
    /// The least rate, in bytes per second, at which a body must arrive and output must be taken once `body_timeout` or
    /// `send_timeout` is used up. Default: 240, as Kestrel: below the rate of any modem, above what a slow-drip attack
    /// can afford. Each byte extends the timeout by 1/`min_rate` s, never beyond the full timeout from now. 0 switches
    /// it off: then every byte restarts the full timeout.
    pub min_rate: u64,
    /// Time for which input is read and discarded after the last response of a connection that closes. Without it, a
    /// reset could destroy bytes that the peer has not read. It restarts while the peer acknowledges output. Default: 2
    /// s, as Apache.
    pub linger_timeout: Duration,
    /// Requests on one connection; after the last it is closed. Default: 1,000,000, only against counters that wrap.
    pub requests: u32,
    /// Requests in progress on one connection of HTTP/2 (RFC 9113 §5.1.2). Default: 100, the least that the RFC
    /// recommends. A client waits with further ones. Those that both sides have ended, but the application has not,
    /// count from twice this number on: then further ones are refused, which tells the client to try again later.
    pub streams: u32,
}

impl Limits {
    /// Returns how many of `limit` connections one address may have while `taken` of them are in use: `per_address`
    /// until half of them are, then less and less, but at least one.
    ///
    /// The share shrinks with the square of the part of the second half that is still free. So a few addresses cannot
    /// take all, even one after the other: of 65,536 with a quarter for each, four leave 18,000 and a hundred leave
    /// 600. If one address may have all, its share does not shrink.
    ///
    /// ```
    /// use uncork::Limits;
    /// assert_eq!(Limits::address_share(1000, 250, 500), 250);
    /// assert_eq!(Limits::address_share(1000, 250, 900), 10);
    /// assert_eq!(Limits::address_share(1000, 250, 1000), 1);
    /// assert_eq!(Limits::address_share(1000, 1000, 900), 1000);
    /// ```
    pub fn address_share(limit: usize, per_address: usize, taken: usize) -> usize {
        let (free, half) = (limit.saturating_sub(taken), limit / 2);
        if free >= half || per_address >= limit {
            return per_address;
        }
        // Both steps divide by `half`, and neither overflows: `free` is less.
        let step = |share: u128| (share * free as u128).div_ceil(half as u128);
        usize::try_from(step(step(per_address as u128))).unwrap_or(usize::MAX).max(1).min(per_address)
    }

    /// Returns the duration of that timeout.
    pub(crate) fn timeout(&self, timeout: Timeout) -> Duration {
        match timeout {
            Timeout::Handshake => self.handshake_timeout,
            Timeout::Head => self.head_timeout,
            Timeout::Idle => self.idle_timeout,
            Timeout::Body => self.body_timeout,
            Timeout::Send => self.send_timeout,
            Timeout::Linger => self.linger_timeout,
            // Only requests of the client have these.
            Timeout::Connect | Timeout::Total => Duration::MAX,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 65_536,
            connections_per_address: 16_384,
            head: 16 * 1024,
            target: 8 * 1024,
            fields: 100,
            body: 1 << 30,
            drain: 64 * 1024,
            upgrade_input: 64 * 1024,
            output: 64 * 1024,
            buffers: 256 << 20,
            kernel_pipes: 512,
            reserved_descriptors: 0,
            handshake_timeout: Duration::from_secs(10),
            head_timeout: Duration::from_secs(20),
            idle_timeout: Duration::from_secs(60),
            body_timeout: Duration::from_secs(30),
            send_timeout: Duration::from_secs(30),
            min_rate: 240,
            linger_timeout: Duration::from_secs(2),
            requests: 1_000_000,
            streams: 100,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns how many connections are left after that many addresses, one after the other, have taken their share.
    fn left(addresses: usize, limit: usize, per_address: usize) -> usize {
        let mut taken = 0;
        for _ in 0..addresses {
            let mut own = 0;
            while taken < limit && own < Limits::address_share(limit, per_address, taken) {
                own += 1;
                taken += 1;
            }
        }
        limit - taken
    }

    #[test]
    fn few_addresses_leave_connections_to_others() {
        let Limits { connections, connections_per_address, .. } = Limits::default();
        assert_eq!(left(1, connections, connections_per_address), 49_152);
        assert!(left(4, connections, connections_per_address) > 18_000);
        assert!(left(100, connections, connections_per_address) > 600);
        assert_eq!(left(4, 10_000, 1_000), 6_000);
        assert!(left(100, 10_000, 1_000) > 200);
    }

    #[test]
    fn a_share_is_never_zero_and_never_above_the_limit() {
        for (limit, most, taken) in [(0, 0, 0), (1, 1, 1), (2, 1, 1), (3, 2, 3), (9, 5, 8), (9, 5, 20)] {
            let share = Limits::address_share(limit, most, taken);
            assert!(share <= most && (share > 0 || most == 0), "{limit} {most} {taken}: {share}");
        }
        let huge = Limits::address_share(usize::MAX, usize::MAX - 1, usize::MAX / 4 * 3);
        assert!((usize::MAX / 5..usize::MAX / 3).contains(&huge), "{huge}");
    }
}
