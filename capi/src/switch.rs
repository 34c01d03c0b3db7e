//! The change to another protocol: what uncork sends for a response of the program that asks for it.
//!
//! | the request has | sent |
//! |---|---|
//! | `Connection: upgrade`, and a protocol in `Upgrade` | the program's 101 |
//! | `Connection: upgrade` alone | the same, as libmicrohttpd does; see [`Unnamed`] |
//! | neither | uncork's 426 |
//! | the method CONNECT | the program's 2xx |

use std::sync::Arc;

use uncork::{
    Action, EventMask, Headers, Io, Response, Switch, Upgrade,
    h1::{
        DateCache,
        write::{BodyLength, ConnectionOption, ResponseHead, response_head},
    },
};

use crate::{
    connection::MHD_Connection,
    response::{MHD_Response, Protocol},
    shared::lock,
    upgrade_events::EventUpgrade,
    upgrade_sockets::SocketUpgrade,
};

/// Returns the action for a response with an upgrade.
pub(crate) fn action(
    response: &MHD_Response,
    protocol: Protocol,
    status: u16,
    connection: &Arc<MHD_Connection>,
) -> Action {
    begin(connection);
    let (headers, _) = lock(&response.fields).made();
    let upgrade: Box<dyn Upgrade> = match protocol {
        Protocol::Events(handler, cls) => Box::new(EventUpgrade::new(connection.clone(), handler, cls)),
        Protocol::Socket(handler, cls) => Box::new(SocketUpgrade::new(connection.clone(), handler, cls)),
    };
    if status != 101 {
        return Switch::with_response(Response::new(status).with_headers(headers), upgrade).into();
    }
    let (asks, names) = request_of(connection);
    if asks && !names {
        return Switch::without_response(Unnamed { headers, sent: false, then: upgrade }).into();
    }
    if !asks {
        connection.log("the client has not asked for an upgrade: it gets a 426");
    }
    // The fields of the program have the name of the protocol.
    Switch::to("", upgrade).with_headers(headers).into()
}

/// Notes that another protocol has the connection from now on.
fn begin(connection: &MHD_Connection) {
    connection.shared.upgraded.add();
    let mut state = connection.state();
    state.upgraded.counted = true;
    if std::mem::take(&mut state.upgraded.woken_early) {
        state.wake();
    }
}

/// Returns whether the request asks for an upgrade, and whether it names a protocol.
fn request_of(connection: &MHD_Connection) -> (bool, bool) {
    let (mut asks, mut names) = (false, false);
    connection.state().each_field(|name, value| {
        names |= name.eq_ignore_ascii_case("upgrade");
        let is_upgrade = |option: &[u8]| option.trim_ascii().eq_ignore_ascii_case(b"upgrade");
        asks |= name.eq_ignore_ascii_case("connection") && value.split(|byte| *byte == b',').any(is_upgrade);
    });
    (asks, names)
}

/// An upgrade of a client that names no protocol. It is allowed because the client is the peer that has sent the
/// request, not one behind it: no intermediary forwards `Connection`. So no peer takes the bytes of the new protocol for
/// another response.
struct Unnamed {
    headers: Headers,
    sent: bool,
    then: Box<dyn Upgrade>,
}

impl Upgrade for Unnamed {
    fn ready(&mut self, io: &mut Io<'_>) -> EventMask {
        if !self.sent {
            self.sent = true;
            let mut date = DateCache::default();
            let head = ResponseHead {
                status: 101,
                fields: self.headers.as_wire(),
                length: BodyLength::None,
                date: date.at(io.now().wall),
                connection: Some(ConnectionOption::Upgrade),
            };
            let mut bytes = Vec::new();
            response_head(&head, &mut bytes);
            if io.tx.write(&bytes) < bytes.len() {
                // It is longer than all that a connection may hold.
                io.abort();
                return EventMask::TERMINATE;
            }
        }
        self.then.ready(io)
    }
}
