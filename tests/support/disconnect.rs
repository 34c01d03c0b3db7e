//! The two ends of a client that a relay's tests distinguish.

use crate::support::Client;

/// Closes a client's connection, or half-closes it: to the server both are the same. A client that half-closes is
/// returned, so that the rest of its connection stays open.
pub(crate) fn disconnect(mut client: Client, half_closes: bool) -> Option<Client> {
    if half_closes {
        client.finish();
        return Some(client);
    }
    client.leave();
    None
}
