//! Servers that upgrade every request.

use uncork::{Events, Io, Limits, ReadState, Request, RequestEnd, Switch, Upgrade};

use crate::world::{Host, Reports, World, report_channel, report_end, site};

/// Serves the upgrade that `make` returns for each connection, and reports its end.
pub(crate) fn upgrading<U: Upgrade + 'static>(
    world: &World,
    make: impl Fn() -> U + Clone + Send + 'static,
) -> (Host, Reports<RequestEnd>) {
    upgrading_within(world, Limits::default(), make)
}

pub(crate) fn upgrading_within<U: Upgrade + 'static>(
    world: &World,
    limits: Limits,
    make: impl Fn() -> U + Clone + Send + 'static,
) -> (Host, Reports<RequestEnd>) {
    let (report, ended) = report_channel();
    let host = world.serve_within(limits, move |req: &mut Request<'_>| {
        report_end(req, &report);
        assert!(req.wants_upgrade("test"));
        Switch::to("test", make())
    });
    (host, ended)
}

/// The state that an upgrade sees in a call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    pub(crate) events: Events,
    pub(crate) bytes: usize,
    pub(crate) end: ReadState,
    pub(crate) room: usize,
}

impl Call {
    pub(crate) fn of(io: &Io<'_>) -> Self {
        Self { events: io.events(), bytes: io.rx.bytes().len(), end: io.rx.state(), room: io.tx.room() }
    }
}

/// Returns the echo of the documentation.
pub(crate) fn echo() -> impl Upgrade {
    site::echo
}
