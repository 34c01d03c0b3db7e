//! The reverse tunnel in the relay: its configuration, from the settings, and its metrics and list for operators.

use std::time::{Duration, SystemTime};

use serde::Serialize;
use uncork::relay::{
    ConfigError, Via,
    nodes::{DirectoryConfig, EngineState, Nodes},
    tunnel::{Balance, ConnectionInfo, Credential, Proxy, ProxyConfig, ProxyCounts},
};

#[cfg(feature = "spdy")]
use super::addresses::{Network, is_trusted};
use super::{common, json, metrics::Page, settings::Settings, values::BalanceRule};

/// Builds the proxy, if the settings have a token.
pub(crate) fn proxy(
    settings: &Settings,
    nodes: Option<&Nodes>,
    directory: Option<DirectoryConfig>,
) -> Result<Option<Proxy>, String> {
    let own = &settings.tunnel;
    if own.tokens.is_empty() {
        return Ok(None);
    }
    if nodes.is_none() && !(own.address.0.is_empty() && own.other_addresses.is_empty()) {
        return Err("address and other-addresses need [node]: they are for several nodes".into());
    }
    let config = ProxyConfig {
        path: own.path.0.clone(),
        via: (!own.via.0.is_empty()).then(|| Via::named(&own.via.0)).transpose().map_err(|error| error.to_string())?,
        credentials: own.tokens.iter().map(|token| credential(&token.0)).collect::<Result<_, _>>()?,
        balance: match own.balance {
            BalanceRule::RoundRobin => Balance::RoundRobin,
            BalanceRule::LeastBusy => Balance::LeastBusy,
        },
        response_timeout: Duration::from_secs(own.response_timeout.get()),
        connections: own.origin_servers.get(),
        connections_per_credential: own.origin_servers_per_token.get(),
        handshakes: own.handshakes.get(),
        failures_per_minute: own.failures_per_minute,
        streams_per_connection: own.requests_per_origin_server.get(),
        streams_per_address: own.requests_per_address.get(),
        streams_per_host: own.requests_per_host.get(),
        share_per_address: own.share_per_address.get(),
        share_per_name: own.share_per_host.get(),
        address: (!own.address.0.is_empty()).then(|| own.address.0.clone()),
        other_addresses: own.other_addresses.iter().map(|address| address.0.clone()).collect(),
        shed: own.shed,
        ..ProxyConfig::default()
    };
    let proxy = match (nodes, directory) {
        (Some(nodes), Some(directory)) => Proxy::with_directory(config, nodes.clone(), directory),
        (Some(nodes), None) => Proxy::with_nodes(config, nodes.clone()),
        (None, _) => Proxy::new(config),
    };
    proxy.map(Some).map_err(|error| error.to_string())
}

/// Checks an address for origin servers.
pub(crate) fn check_address(text: &str) -> Result<(), String> {
    let config = ProxyConfig { other_addresses: vec![text.to_owned()], ..ProxyConfig::default() };
    Proxy::new(config).map(drop).map_err(|error| error.to_string())
}

/// Parses `NAME SHA256 HOST…`, with optional `body=BYTES` and `rate=BYTES` among the hosts.
pub(crate) fn credential(text: &str) -> Result<Credential, String> {
    let invalid = |error: ConfigError| format!("invalid token {text:?}: {error}");
    let mut words = text.split_whitespace();
    let (Some(name), Some(hash)) = (words.next(), words.next()) else {
        return Err(format!("invalid token {text:?}: expected \"NAME SHA256 HOST…\" (printf %s TOKEN | sha256sum)"));
    };
    let mut credential = if let Some(sources) = hash.strip_prefix("allow-legacy-unauthenticated:") {
        legacy(name, sources).map_err(|error| format!("invalid token {text:?}: {error}"))?
    } else if let Some(hash) = hash.strip_prefix("cert:") {
        Credential::certificate(name, hash).map_err(invalid)?
    } else {
        Credential::token(name, hash).map_err(invalid)?
    };
    for word in words {
        credential = match word.split_once('=') {
            Some(("body", bytes)) => credential.body(common::bytes(bytes)?),
            Some(("rate", bytes)) => credential.rate(common::bytes(bytes)?),
            Some(_) => {
                return Err(format!(
                    "invalid token {text:?}: expected HOST, body=BYTES or rate=BYTES instead of {word:?}"
                ));
            }
            None => credential.host(word).map_err(invalid)?,
        };
    }
    Ok(credential)
}

/// Parses the comma-separated networks of origin servers that use spdy-proxy, which has no authentication.
#[cfg(feature = "spdy")]
fn legacy(name: &str, sources: &str) -> Result<Credential, String> {
    let sources: Vec<Network> = sources.split(',').map(str::parse).collect::<Result<_, _>>()?;
    Ok(Credential::allow_legacy_unauthenticated(name, move |peer| is_trusted(&sources, peer)))
}

#[cfg(not(feature = "spdy"))]
fn legacy(_: &str, _: &str) -> Result<Credential, String> {
    Err("this relay was built without SPDY: build it with `--features spdy`".into())
}

/// Writes the metrics of the tunnel.
pub(crate) fn write_metrics(page: &mut Page, counts: ProxyCounts) {
    page.gauge("tunnel_origin_servers", "Connections of origin servers that are open", counts.connections);
    page.counter(
        "tunnel_origin_servers_connected_total",
        "Connections of origin servers since the start",
        counts.connections_total,
    );
    page.counter(
        "tunnel_origin_servers_timed_out_total",
        "Connections of origin servers closed because a ping timed out",
        counts.silent,
    );
    let name = "tunnel_rejected_total";
    page.family(name, "counter", "Requests for a tunnel that were rejected, by reason");
    for (reason, count) in [
        ("unauthorized", counts.handshakes_unauthorized),
        ("forbidden", counts.handshakes_forbidden),
        ("limit", counts.handshakes_over_limit),
        ("invalid", counts.handshakes_invalid),
    ] {
        page.sample(name, &format!("{{reason=\"{reason}\"}}"), count);
    }
    let name = "tunnel_handshakes_failed_total";
    page.family(name, "counter", "Handshakes by ALPN that did not authenticate, by reason");
    for (reason, count) in
        [("timed-out", counts.unanswered), ("displaced", counts.displaced), ("throttled", counts.throttled)]
    {
        page.sample(name, &format!("{{reason=\"{reason}\"}}"), count);
    }
    page.gauge("tunnel_active_requests", "Requests through tunnels in progress", counts.active);
    page.counter("tunnel_requests_total", "Requests for hosts behind tunnels", counts.requests);
    let name = "tunnel_failed_requests_total";
    page.family(name, "counter", "Requests for hosts behind tunnels without a complete response, by reason");
    for (reason, count) in [
        ("unknown-host", counts.unknown_host),
        ("no-origin-server", counts.no_origin_server),
        ("rejected", counts.rejected),
        ("lost", counts.lost),
        ("timed-out", counts.timed_out),
        ("invalid", counts.unfit),
        ("truncated", counts.truncated),
        ("client-disconnected", counts.disconnected),
    ] {
        page.sample(name, &format!("{{reason=\"{reason}\"}}"), count);
    }
    page.counter("tunnel_retried_total", "Requests that were retried on another origin server", counts.retried);
    page.counter(
        "tunnel_forwarded_total",
        "Requests for hosts behind tunnels that were forwarded to another node",
        counts.forwarded,
    );
    let name = "tunnel_not_forwarded_total";
    page.family(name, "counter", "Requests for hosts that other nodes may have, without a response of them, by reason");
    for (reason, count) in [("unreachable", counts.unreachable), ("limit", counts.not_asked)] {
        page.sample(name, &format!("{{reason=\"{reason}\"}}"), count);
    }
    page.counter(
        "tunnel_origin_servers_shed_total",
        "Connections of origin servers that were closed because other nodes have fewer",
        counts.shed,
    );
    page.family(
        "tunnel_bytes_total",
        "counter",
        "Bytes of bodies through tunnels, to origin servers (up) and from them (down)",
    );
    page.sample("tunnel_bytes_total", "{direction=\"up\"}", counts.bytes_up);
    page.sample("tunnel_bytes_total", "{direction=\"down\"}", counts.bytes_down);
}

/// Writes the state of the tunnel's connection to the engine, if there is one.
pub(crate) fn write_directory(page: &mut Page, tunnel: &Proxy) {
    if let Some(status) = tunnel.directory_status() {
        let name = "tunnel_directory_connected";
        page.family(name, "gauge", "1 if the directory is connected and all hosts of this node are registered");
        page.sample(name, "", u8::from(status.state == EngineState::Ready));
    }
}

/// One connection of an origin server, as the list has it.
#[derive(Serialize)]
struct Entry<'a> {
    token: &'a str,
    hosts: &'a [String],
    peer: String,
    /// Seconds since 1970.
    since: u64,
    active: usize,
    requests: u64,
    bytes_up: u64,
    bytes_down: u64,
    round_trip_seconds: Option<f64>,
    draining: bool,
}

/// Returns the list of connected origin servers, as JSON.
pub(crate) fn list(connections: &[ConnectionInfo]) -> String {
    json::list(connections.iter().map(|connection| Entry {
        token: &connection.credential,
        hosts: &connection.hosts,
        peer: connection.peer.to_string(),
        since: connection.since.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs(),
        active: connection.active,
        requests: connection.requests,
        bytes_up: connection.bytes_up,
        bytes_down: connection.bytes_down,
        round_trip_seconds: connection.round_trip.map(|time| json::rounded(time, 6)),
        draining: connection.draining,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_a_name_a_hash_and_hosts() {
        let hash = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
        for good in [
            format!("app {hash} app.example"),
            format!("app {hash} app.example *.dev.example/api body=1G rate=10M"),
            format!("app cert:{hash} *"),
        ] {
            assert!(credential(&good).is_ok(), "{good}");
        }
        for bad in [
            String::new(),
            "app".into(),
            format!("app {} a.example", &hash[1..]),
            format!("app {hash} a..b"),
            format!("app {hash} a.example speed=1"),
            format!("app {hash} a.example body=much"),
        ] {
            assert!(credential(&bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_shows_nothing_is_to_be_built_in_and_comes_from_somewhere() {
        for (sources, right) in [("192.0.2.7", true), ("192.0.2.0/28,2001:db8::1", true), ("", false), ("all", false)] {
            let one = credential(&format!("old allow-legacy-unauthenticated:{sources} old.example"));
            assert_eq!(one.is_ok(), right && cfg!(feature = "spdy"), "{sources}");
            assert!(cfg!(feature = "spdy") || one.is_err_and(|error| error.contains("--features spdy")));
        }
    }
}
