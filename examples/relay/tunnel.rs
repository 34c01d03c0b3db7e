//! The reverse tunnel in the relay: who may be an origin, as the settings say it, and what operators see of it.

use std::time::{Duration, SystemTime};

use uncork::relay::{
    ConfigError, Via,
    tunnel::{Balance, ConnectionInfo, Credential, Proxy, ProxyConfig, ProxyCounts},
};

#[cfg(feature = "spdy")]
use super::addresses::{Network, is_trusted};
use super::{common, logs::json, metrics::Page, settings::Settings, values::BalanceRule};

/// The proxy, if anybody may be an origin.
pub(crate) fn proxy(settings: &Settings) -> Result<Option<Proxy>, String> {
    let own = &settings.tunnel;
    if own.tokens.is_empty() {
        return Ok(None);
    }
    let config = ProxyConfig {
        path: own.path.0.clone(),
        via: (!own.via.0.is_empty()).then(|| Via::named(&own.via.0)).transpose().map_err(|error| error.to_string())?,
        credentials: own.tokens.iter().map(|token| credential(&token.0)).collect::<Result<_, _>>()?,
        balance: match own.balance {
            BalanceRule::RoundRobin => Balance::RoundRobin,
            BalanceRule::LeastBusy => Balance::LeastBusy,
        },
        response_timeout: Duration::from_secs(own.answer_timeout.get()),
        connections: own.origins.get(),
        connections_per_credential: own.origins_per_token.get(),
        handshakes: own.handshakes.get(),
        failures_per_minute: own.failures_per_minute,
        streams_per_connection: own.requests_per_origin.get(),
        streams_per_address: own.requests_per_address.get(),
        streams_per_host: own.requests_per_host.get(),
        share_per_address: own.share_per_address.get(),
        share_per_name: own.share_per_host.get(),
        ..ProxyConfig::default()
    };
    Proxy::new(config).map(Some).map_err(|error| error.to_string())
}

/// `NAME SHA256 HOST…`, and perhaps `body=BYTES` and `rate=BYTES` among the hosts.
pub(crate) fn credential(text: &str) -> Result<Credential, String> {
    let wrong = |error: ConfigError| format!("{text:?}: {error}");
    let mut words = text.split_whitespace();
    let (Some(name), Some(hash)) = (words.next(), words.next()) else {
        return Err(format!("{text:?}: give \"NAME SHA256 HOST…\"; printf %s TOKEN | sha256sum"));
    };
    let mut one = if let Some(sources) = hash.strip_prefix("allow-legacy-unauthenticated:") {
        legacy(name, sources).map_err(|why| format!("{text:?}: {why}"))?
    } else if let Some(hash) = hash.strip_prefix("cert:") {
        Credential::certificate(name, hash).map_err(wrong)?
    } else {
        Credential::token(name, hash).map_err(wrong)?
    };
    for word in words {
        one = match word.split_once('=') {
            Some(("body", bytes)) => one.body(common::bytes(bytes)?),
            Some(("rate", bytes)) => one.rate(common::bytes(bytes)?),
            Some(_) => return Err(format!("{text:?}: {word:?} is none of HOST, body=BYTES, rate=BYTES")),
            None => one.host(word).map_err(wrong)?,
        };
    }
    Ok(one)
}

/// Programs of 2014, which show nothing: where they may come from, networks with commas between them.
#[cfg(feature = "spdy")]
fn legacy(name: &str, sources: &str) -> Result<Credential, String> {
    let sources: Vec<Network> = sources.split(',').map(str::parse).collect::<Result<_, _>>()?;
    Ok(Credential::allow_legacy_unauthenticated(name, move |peer| is_trusted(&sources, peer)))
}

#[cfg(not(feature = "spdy"))]
fn legacy(_: &str, _: &str) -> Result<Credential, String> {
    Err("this relay was built without SPDY: build it with `--features spdy`".into())
}

/// What Prometheus is told.
pub(crate) fn tell(page: &mut Page, counts: ProxyCounts) {
    page.gauge("tunnel_origins", "Origins that are connected", counts.connections);
    page.counter("tunnel_origins_connected_total", "Connections of origins", counts.connections_total);
    page.counter("tunnel_origins_silent_total", "Origins that were closed for their silence", counts.silent);
    page.counter("tunnel_denied_total", "Requests for a tunnel that were refused", counts.denied);
    let name = "tunnel_handshakes_failed_total";
    page.family(name, "counter", "Handshakes of origin servers that did not show a credential, by network limits");
    for (reason, count) in
        [("unanswered", counts.unanswered), ("displaced", counts.displaced), ("throttled", counts.throttled)]
    {
        page.sample(name, &format!("{{reason=\"{reason}\"}}"), count);
    }
    page.gauge("tunnel_active_requests", "Requests through tunnels under way", counts.active);
    page.counter("tunnel_requests_total", "Requests for hosts behind tunnels", counts.requests);
    let name = "tunnel_failed_requests_total";
    page.family(name, "counter", "Requests for hosts behind tunnels that no origin has answered, or not whole");
    for (reason, count) in [
        ("unknown-host", counts.unknown_host),
        ("no-origin", counts.no_origin),
        ("refused", counts.refused),
        ("lost", counts.lost),
        ("timed-out", counts.timed_out),
        ("unfit", counts.unfit),
        ("cut", counts.truncated),
        ("client-left", counts.disconnected),
    ] {
        page.sample(name, &format!("{{reason=\"{reason}\"}}"), count);
    }
    page.counter("tunnel_retried_total", "Requests that one origin refused and another was given", counts.retried);
    page.family("tunnel_bytes_total", "counter", "Bytes of bodies through tunnels, to origins (up) and from them");
    page.sample("tunnel_bytes_total", "{direction=\"up\"}", counts.bytes_up);
    page.sample("tunnel_bytes_total", "{direction=\"down\"}", counts.bytes_down);
}

/// Who is connected, as JSON.
pub(crate) fn list(links: &[ConnectionInfo]) -> String {
    let one = |link: &ConnectionInfo| {
        let hosts: Vec<String> = link.hosts.iter().map(|host| json(host)).collect();
        let since = link.since.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let round_trip = link.round_trip.map_or("null".to_owned(), |time| format!("{:.6}", time.as_secs_f64()));
        format!(
            "\n{{\"token\":{},\"hosts\":[{}],\"peer\":{},\"since\":{since},\"active\":{},\"requests\":{},\
             \"bytes_up\":{},\"bytes_down\":{},\"round_trip_seconds\":{round_trip},\"leaving\":{}}}",
            json(&link.credential),
            hosts.join(","),
            json(&link.peer.to_string()),
            link.active,
            link.requests,
            link.bytes_up,
            link.bytes_down,
            link.leaving
        )
    };
    format!("[{}\n]\n", links.iter().map(one).collect::<Vec<_>>().join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_a_name_a_hash_and_hosts() {
        let hash = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
        for fine in [
            format!("app {hash} app.example"),
            format!("app {hash} app.example *.dev.example/api body=1G rate=10M"),
            format!("app cert:{hash} *"),
        ] {
            assert!(credential(&fine).is_ok(), "{fine}");
        }
        for wrong in [
            String::new(),
            "app".into(),
            format!("app {} a.example", &hash[1..]),
            format!("app {hash} a..b"),
            format!("app {hash} a.example speed=1"),
            format!("app {hash} a.example body=much"),
        ] {
            assert!(credential(&wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_shows_nothing_is_to_be_built_in_and_comes_from_somewhere() {
        for (sources, right) in [("192.0.2.7", true), ("192.0.2.0/28,2001:db8::1", true), ("", false), ("all", false)] {
            let one = credential(&format!("old allow-legacy-unauthenticated:{sources} old.example"));
            assert_eq!(one.is_ok(), right && cfg!(feature = "spdy"), "{sources}");
            assert!(cfg!(feature = "spdy") || one.is_err_and(|why| why.contains("--features spdy")));
        }
    }
}
