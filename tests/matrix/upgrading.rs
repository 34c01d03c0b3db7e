//! Servers that upgrade whoever asks.

use uncork::{End, EventMask, Io, Limits, Request, RxEnd, Switch, Upgrade, Why};

use crate::world::{Host, Told, World, tell_end, telling};

/// Serves the upgrade that `make` makes for each connection, and tells how each ends.
pub(crate) fn upgrading<U: Upgrade + 'static>(
    world: &World,
    make: impl Fn() -> U + Clone + Send + 'static,
) -> (Host, Told<End>) {
    upgrading_within(world, Limits::default(), make)
}

pub(crate) fn upgrading_within<U: Upgrade + 'static>(
    world: &World,
    limits: Limits,
    make: impl Fn() -> U + Clone + Send + 'static,
) -> (Host, Told<End>) {
    let (tell, ended) = telling();
    let host = world.serve_within(limits, move |req: &mut Request<'_>| {
        tell_end(req, &tell);
        assert!(req.wants_upgrade("test"));
        Switch::to("test", make())
    });
    (host, ended)
}

/// What an upgrade finds when it is called.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    pub(crate) why: Why,
    pub(crate) bytes: usize,
    pub(crate) end: RxEnd,
    pub(crate) room: usize,
}

impl Call {
    pub(crate) fn of(io: &Io<'_>) -> Self {
        Self { why: io.why(), bytes: io.rx.bytes().len(), end: io.rx.end(), room: io.tx.room() }
    }
}

/// The echo of the documentation: it reads only what it can answer.
pub(crate) fn echo() -> impl Upgrade {
    |io: &mut Io<'_>| {
        let n = io.tx.write(io.rx.bytes());
        io.rx.consume(n);
        match (io.rx.bytes().is_empty(), io.rx.end()) {
            (true, RxEnd::NotYet) => EventMask::READ,
            (true, _) => EventMask::TERMINATE,
            (false, _) => EventMask::WRITE,
        }
    }
}
