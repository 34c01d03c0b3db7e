//! Every limit, its value, and the reason for it. Nothing is unbounded.

use std::time::Duration;

use super::Timeout;

/// How much and how long. The defaults are meant for the open internet.
///
/// ```
/// use std::time::Duration;
/// use uncork::Limits;
/// let limits = Limits { idle_timeout: Duration::from_secs(5), ..Limits::default() };
/// assert_eq!(limits.head, 16 * 1024);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections in all, over all loops of a server. At the limit, listeners wait for a place to become free, and
    /// the system's accept queue fills. 65,536: an idle one costs less than 512 bytes here and a few KiB in the
    /// system, so the process's file descriptors usually run out first (which is survived as well).
    pub connections: usize,
    /// Connections from one address; one more is closed at once. In IPv6 all addresses of a /64 network count as one
    /// ([`PeerAddr::network`](crate::PeerAddr::network)). 16,384, a quarter of all: a proxy in front or a network behind
    /// one address still fits. Once half of all places are taken, the share of an address shrinks
    /// ([`address_share`](Self::address_share)), so that four addresses, or a hundred, leave some to others. It is never
    /// more than half of [`connections`](Self::connections), except that `usize::MAX` lets one address have all: for a
    /// server whose clients all come by one proxy. Unix sockets are exempt.
    pub connections_per_address: usize,
    /// Bytes of a request's head: request line, fields and line ends. 16 KiB, as node; nginx has 8 KiB a line,
    /// Apache 8,190 bytes a line. Beyond it: 431.
    pub head: usize,
    /// Bytes of the request target. 8 KiB, as nginx and Apache; RFC 9112 §3 asks for 8,000 at least. Beyond it: 414.
    pub target: usize,
    /// Header fields of a request, and of its trailers. 100, as Apache. Beyond it: 431. For heads of more than 1 KiB,
    /// more than 256 take an allocation.
    pub fields: usize,
    /// Bytes of a request's body, decoded. 1 GiB, as Apache: a body is never held whole by the engine, so this
    /// protects what the application does with it. Beyond it: 413, before `100 Continue` where the length is told.
    pub body: u64,
    /// Bytes of a body nobody asked for that are read and thrown away so that the connection can go on. 64 KiB:
    /// about what a new connection costs. A longer one, or one behind `Expect: 100-continue`, closes it.
    pub drain: u64,
    /// Bytes of input that are held for an upgraded connection: the longest frame that can be parsed in place.
    pub upgrade_input: usize,
    /// Bytes of output that are held for one connection before the application is asked to wait.
    pub output: usize,
    /// Bytes of buffers lent at the same time, for each loop. 256 MiB: 10,000 slow heads must not cost more. Beyond
    /// it, connections wait for a buffer to come back. After a second the address that keeps the most of them loses
    /// connections that have not moved for as long, until an eighth of all is free.
    pub buffers: usize,
    /// Pipes of the system in use at the same time, over all loops of a server: through one, the body of a request
    /// passes to the answer of another without entering the process. 512, each with two descriptors, a third
    /// for the receiver, and at most 256 KiB in the system, which lets an unprivileged user have about 256. Beyond either,
    /// bytes are copied, through blocks whose memory has a limit for the whole process
    /// ([`set_pipe_memory_limit`](crate::set_pipe_memory_limit)).
    pub kernel_pipes: usize,
    /// Descriptors that each loop with a listener keeps without a use. When the process has no others left, so many
    /// connections are accepted all the same. Beyond them, connections wait in the system's queue until a descriptor is
    /// free: a short shortage passes without a refusal. 0; a few for a listener that has to answer in any case, as one
    /// for health checks.
    pub reserved_descriptors: usize,
    /// Time for the TLS handshake. 10 s.
    pub handshake_timeout: Duration,
    /// Time for a request's head, from its first byte; no byte prolongs it. 20 s, between Apache's 20 and nginx's 60.
    pub head_timeout: Duration,
    /// How long a connection may be idle between two requests, and before the first. 60 s: nginx has 75, Apache 5.
    pub idle_timeout: Duration,
    /// The most a body may pause while we are ready to receive it. 30 s. See also `min_rate`.
    pub body_timeout: Duration,
    /// The most a peer may take to accept any of the output that waits for it. 30 s. See also `min_rate`.
    pub send_timeout: Duration,
    /// The least rate, in bytes per second, at which a body must arrive and output must be taken, once `body_timeout` or
    /// `send_timeout` is used up: each byte prolongs it by 1/`min_rate` s, never beyond the full time from now. 240, as
    /// Kestrel: below what any modem does, above what a slow-drip attack can afford. 0 switches it off, and then
    /// every byte grants the full time again.
    pub min_rate: u64,
    /// How long a peer that was refused may go on talking, its words thrown away, so that it can read the refusal
    /// before its system sees a reset. 2 s, as Apache.
    pub linger_timeout: Duration,
    /// Requests on one connection; after the last it is closed. 1,000,000: only against counters that wrap.
    pub requests: u32,
}

impl Limits {
    /// Returns how many of `limit` places one address may have while `taken` of them are taken: `per_address` until half of
    /// the places are taken, then less and less, and at least one.
    ///
    /// The share of an address shrinks with the square of the part of the second half that is still free. So a few
    /// addresses cannot take all places, even if they come one after the other: of 65,536 with a quarter for each, four
    /// leave 18,000 and a hundred 600. Where one address may have all places, its share does not shrink.
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

    /// The full time of that clock.
    pub(crate) fn time(&self, timer: Timeout) -> Duration {
        match timer {
            Timeout::Handshake => self.handshake_timeout,
            Timeout::Head => self.head_timeout,
            Timeout::Idle => self.idle_timeout,
            Timeout::Body => self.body_timeout,
            Timeout::Send => self.send_timeout,
            Timeout::Linger => self.linger_timeout,
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
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns how many places are left when so many addresses, one after the other, have taken all that they are let have.
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
    fn few_addresses_leave_places_to_others() {
        let Limits { connections, connections_per_address, .. } = Limits::default();
        assert_eq!(left(1, connections, connections_per_address), 49_152);
        assert!(left(4, connections, connections_per_address) > 18_000);
        assert!(left(100, connections, connections_per_address) > 600);
        assert_eq!(left(4, 10_000, 1_000), 6_000);
        assert!(left(100, 10_000, 1_000) > 200);
    }

    #[test]
    fn a_share_is_never_nothing_and_never_more_than_was_said() {
        for (limit, most, taken) in [(0, 0, 0), (1, 1, 1), (2, 1, 1), (3, 2, 3), (9, 5, 8), (9, 5, 20)] {
            let share = Limits::address_share(limit, most, taken);
            assert!(share <= most && (share > 0 || most == 0), "{limit} {most} {taken}: {share}");
        }
        let huge = Limits::address_share(usize::MAX, usize::MAX - 1, usize::MAX / 4 * 3);
        assert!((usize::MAX / 5..usize::MAX / 3).contains(&huge), "{huge}");
    }
}
