//! Opens connections: finds the addresses and the trusted certificates, then starts a [`Race`] between the addresses.
//!
//! ```text
//!   open ─▶ a literal address, a Unix socket ──────────┐
//!       └─▶ a name ─▶ resolver's thread ─▶ its loop ───┴─▶ Race
//! ```

use std::{
    net::{IpAddr, SocketAddr, SocketAddrV6},
    sync::{Arc, OnceLock},
};

use super::{
    error::Error,
    exchange::Pending,
    pool::ConnPermit,
    race::{Race, Target},
    resolve::{Resolver, addresses},
};
use crate::{
    base::Moment,
    transport::{TlsClient, interface_index},
};

/// Opens the connections of a client.
pub(super) struct Connector {
    resolver: Resolver,
    trust: Arc<Trust>,
}

/// The trusted certificates.
struct Trust {
    configured: Option<TlsClient>,
    /// The system's root certificates, or the error; read when they are first needed.
    system: OnceLock<Result<TlsClient, String>>,
}

impl Trust {
    /// Returns the certificates, if they are known without reading files.
    fn known(&self) -> Option<Result<TlsClient, String>> {
        self.configured.clone().map(Ok).or_else(|| self.system.get().cloned())
    }

    /// Like [`known`](Self::known), but reads files if needed; blocks.
    fn load(&self) -> Result<TlsClient, String> {
        let load = || TlsClient::system().map_err(|error| error.to_string());
        self.known().unwrap_or_else(|| self.system.get_or_init(load).clone())
    }
}

impl Connector {
    /// Creates a connector that trusts these certificates, or those of the system.
    pub(super) fn new(tls: Option<TlsClient>) -> Self {
        let trust = Trust { configured: tls, system: OnceLock::new() };
        Self { resolver: Resolver::default(), trust: Arc::new(trust) }
    }

    /// Opens a connection for a request, on its loop.
    pub(super) fn open(&self, pending: Pending, permit: ConnPermit, now: Moment) {
        let facts = pending.look(|exchange| {
            let (request, url) = (&exchange.request, &exchange.request.url);
            let unix = request.unix.clone();
            let address = (url.bare_host().to_owned(), url.zone.clone(), url.port);
            (exchange.loop_handle.clone(), exchange.connection_by().0, url.https, unix, address)
        });
        // None: the request is no longer waiting.
        let Some((loop_handle, by, https, unix, (host, zone, port))) = facts else { return };
        let literal = match (unix, zone) {
            (Some(path), _) => Some(Target::Unix(path)),
            (None, None) => host.parse::<IpAddr>().ok().map(|ip| Target::Tcp(SocketAddr::new(ip, port))),
            (None, Some(zone)) => match zoned(&host, &zone, port) {
                Some(addr) => Some(Target::Tcp(addr)),
                None => {
                    drop(permit);
                    let reason = "no such interface".to_owned();
                    return pending.fail(Error::Resolve { host: format!("{host}%{zone}"), reason });
                }
            },
        };
        let is_name = literal.is_none();
        let mut race = Race::new(pending.clone(), permit, loop_handle.clone(), by);
        race.targets.extend(literal);
        let trust = if https { self.trust.known() } else { None };
        if !is_name && (!https || trust.is_some()) {
            return race.start(trust, host, now);
        }
        // Blocking work runs on a thread of the resolver.
        let trust = https.then(|| self.trust.clone());
        let queued = self.resolver.run(move || {
            let trust = trust.map(|trust| trust.load());
            let mut reason = None;
            if is_name {
                match addresses(&host, port) {
                    Ok(found) => race.targets.extend(found.into_iter().map(Target::Tcp)),
                    Err(error) => reason = Some(error.to_string()),
                }
            }
            // If the loop has ended, dropping the closure reports that.
            loop_handle.at_once(move |now| match race.targets.is_empty() {
                true => race.lose(Error::Resolve { host, reason: reason.unwrap_or_else(|| "no address".to_owned()) }),
                false => race.start(trust, host, now),
            });
        });
        if !queued {
            pending.fail(Error::QueueFull);
        }
    }
}

/// Returns the address with its zone, or `None` if there is no such interface. A number is used as it is.
fn zoned(host: &str, zone: &str, port: u16) -> Option<SocketAddr> {
    let scope = zone.parse().ok().or_else(|| interface_index(zone))?;
    Some(SocketAddrV6::new(host.parse().ok()?, port, 0, scope).into())
}
