//! The directory of the gateway's clients, if several relays serve them: `[directory]`.

use std::{sync::mpsc, time::Duration};

use serde::Serialize;
use uncork::{
    Request, Response, Running, Server, TlsClient,
    relay::Gateway,
    relay::nodes::{Directory, DirectoryConfig, EngineState, EngineStatus, Nodes, SentinelConfig},
};

use super::{Failure, files, listen, metrics::Page, settings::Settings};

/// Returns the directory of the settings, if there is one.
pub(crate) fn directory(settings: &Settings, nodes: Option<&Nodes>) -> Result<Option<Directory>, Failure> {
    let (Some(config), Some(nodes)) = (config(settings, nodes)?, nodes) else { return Ok(None) };
    Directory::new(config, nodes.clone()).map(Some).map_err(|error| invalid(&error.to_string()))
}

/// Connects to the directory, on a loop of its own, which goes on until everything else has ended.
pub(crate) fn start(directory: &Directory) -> Result<Running, Failure> {
    // It listens nowhere.
    let running = Server::new().threads(1, |_: &mut Request<'_>| Response::new(404));
    let running = running.map_err(|error| Failure::system(&"cannot start the loop of the directory", &error))?;
    if let Some(on) = running.loops().first() {
        directory.start(on);
    }
    Ok(running)
}

/// Ends the connection when the application was told of all clients that have left, at most after this time.
pub(crate) fn stop(directory: &Directory, gateway: Option<&Gateway>, running: Running, timeout: Duration) {
    const PAUSE: Duration = Duration::from_millis(10);
    let callbacks = || gateway.is_some_and(|gateway| gateway.stats().closing_connections > 0);
    let mut left = timeout;
    while callbacks() && !left.is_zero() {
        std::thread::park_timeout(PAUSE);
        left = left.saturating_sub(PAUSE);
    }
    let (sender, receiver) = mpsc::channel();
    directory.flush(move || drop(sender));
    let _ = receiver.recv_timeout(Duration::from_secs(1)) as Result<(), _>;
    directory.stop();
    if let Err(error) = running.stop_now() {
        log::warn!("directory: {error}");
    }
}

fn invalid(message: &str) -> Failure {
    Failure::config(format!("[directory] {message}"))
}

/// Returns the configuration of the connection to the engine, if the settings have one. The gateway and the tunnel have
/// a connection each.
pub(crate) fn config(settings: &Settings, nodes: Option<&Nodes>) -> Result<Option<DirectoryConfig>, Failure> {
    let own = &settings.directory;
    if own.url.0.is_empty() {
        let files = [&own.password_file, &own.tls_cert, &own.tls_key, &own.tls_ca, &own.sentinel_password_file];
        let is_set = files.iter().any(|file| !file.as_os_str().is_empty());
        let is_set = is_set || !own.sentinels.is_empty() || !own.sentinel_master.is_empty() || !own.cluster.is_empty();
        return match is_set {
            true => Err(invalid("url is missing: the other settings of this section need it")),
            false => Ok(None),
        };
    }
    let Some(nodes) = nodes else {
        return Err(invalid("[node] is missing: a directory tells which node has a client"));
    };
    let sentinel = match (own.sentinels.is_empty(), own.sentinel_master.is_empty()) {
        (true, true) => None,
        (false, false) => Some(SentinelConfig {
            urls: own.sentinels.iter().map(|url| url.0.clone()).collect(),
            master: own.sentinel_master.clone(),
            password: secret(&own.sentinel_password_file, "--directory-sentinel-password-file")?,
            ..SentinelConfig::default()
        }),
        _ => return Err(invalid("sentinels and sentinel-master belong together")),
    };
    Ok(Some(DirectoryConfig {
        url: own.url.0.clone(),
        password: secret(&own.password_file, "--directory-password-file")?,
        prefix: own.prefix.clone(),
        client_name: format!("uncork-{}", nodes.id()),
        tls: tls(settings)?,
        sentinel,
        cluster: own.cluster.iter().map(|node| node.0.clone()).collect(),
        ..DirectoryConfig::default()
    }))
}

/// Reads a password, without white space at its ends.
fn secret(file: &std::path::Path, flag: &str) -> Result<Option<String>, Failure> {
    if file.as_os_str().is_empty() {
        return Ok(None);
    }
    let (what, file) = (format!("{flag} {}", file.display()), file.to_owned());
    let read = files::with_timeout(&what, move || std::fs::read_to_string(file)).map_err(Failure::config)?;
    let text = read.map_err(|error| Failure::config(format!("cannot read {what}: {error}")))?;
    Ok(Some(text.trim().to_owned()))
}

/// Returns what is trusted for `rediss` URLs, and what is shown there. `None`: the system's roots.
fn tls(settings: &Settings) -> Result<Option<TlsClient>, Failure> {
    let own = &settings.directory;
    let is_set = |file: &std::path::Path| !file.as_os_str().is_empty();
    let ca = own.tls_ca.clone();
    match (is_set(&own.tls_cert), is_set(&own.tls_key)) {
        (true, true) if is_set(&ca) => listen::load("--directory-", &own.tls_cert, &own.tls_key, move |cert, key| {
            TlsClient::builder().roots(&ca)?.certificate(cert, key)?.build()
        })
        .map(Some),
        (false, false) if is_set(&ca) => {
            let what = format!("--directory-tls-ca {}", ca.display());
            let read = files::with_timeout(&what, move || TlsClient::builder().roots(&ca)?.build());
            let built = read.map_err(Failure::config)?;
            built.map(Some).map_err(|error| Failure::config(format!("cannot use {what}: {error}")))
        }
        (false, false) => Ok(None),
        _ => Err(Failure::config("[directory] tls-cert, tls-key and tls-ca belong together".to_owned())),
    }
}

/// The directory, as `/nodes` has it.
#[derive(Serialize)]
pub(crate) struct Entry {
    state: &'static str,
    address: Option<String>,
    error: Option<String>,
    round_trip_ms: Option<u64>,
    leases: usize,
}

fn state(status: &EngineStatus) -> &'static str {
    match status.state {
        EngineState::Ready => "ready",
        EngineState::Connected => "registering",
        _ => "disconnected",
    }
}

pub(crate) fn entry(directory: &Directory) -> Entry {
    let status = directory.status();
    Entry {
        state: state(&status),
        round_trip_ms: status.round_trip.and_then(|time| u64::try_from(time.as_millis()).ok()),
        address: status.address,
        error: status.last_error,
        leases: directory.leases(),
    }
}

/// Returns `true` if the directory is connected, and all clients are registered.
pub(crate) fn is_ready(directory: &Directory) -> bool {
    directory.status().state == EngineState::Ready
}

pub(crate) fn write_metrics(page: &mut Page, directory: &Directory) {
    let status = directory.status();
    page.family("directory_connected", "gauge", "1 if the directory is connected and all clients are registered");
    page.sample("directory_connected", "", u8::from(is_ready(directory)));
    page.family("directory_leases", "gauge", "Clients of this node in the directory");
    page.sample("directory_leases", "", directory.leases());
    page.family("directory_round_trip_seconds", "gauge", "Time of the last PING to the directory");
    page.sample("directory_round_trip_seconds", "", status.round_trip.unwrap_or_default().as_secs_f64());
    page.counter("directory_commands_total", "Commands that were sent to the directory", status.commands);
    page.counter("directory_dropped_hints_total", "Commands without a reply that were dropped", status.dropped_hints);
    page.counter("directory_reconnections_total", "Times that the directory was connected again", status.reconnections);
}
