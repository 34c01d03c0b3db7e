//! Runs the program: start, signals, reload, shutdown.
//!
//! ```text
//!   SIGHUP           reads certificates, settings and log files again; the log names settings that need a restart
//!   SIGTERM, SIGINT  /ready returns 503 ──shutdown-delay──▶ no new connections ──shutdown-timeout──▶ end
//!                                                            └ the gateway's clients close over drain-spread, before
//!                                                              shutdown-timeout begins
//!   a second signal  the end, at once
//! ```
//! The admin listener is a server of its own. It stops after the public one.

use std::{
    io::{self, Write},
    net::SocketAddr,
    num::NonZeroU32,
    sync::{Arc, mpsc},
    time::{Duration, SystemTime},
};

use clap::ArgMatches;
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    iterator::Signals,
};
use uncork::{Limits, LoopHandle, Running, Server, StopHandle, Tls, h1::Version};

use super::{
    Failure,
    access::AccessLines,
    admin::Admin,
    certificates,
    common::descriptors::{self, Needs},
    config, directory, fitting,
    inherited::Inherited,
    listen::{self, Listen, OpenListener},
    logs,
    metrics::Metrics,
    nodes::{self, NodeTls},
    notify,
    page::Page,
    services::Services,
    settings::Settings,
    site::{Shared, Site},
    values::Mode,
};

/// Address that serves the local network, in the line that says how.
const FOR_OTHERS: &str = "0.0.0.0:8080";

/// Default address of the admin listener, if it is free.
const ADMIN: &str = "127.0.0.1:9090";

/// Maximum number of connections of the admin listener: operators, and the gateway's application.
const ADMIN_CONNECTIONS: usize = 1024;

/// Descriptors reserved for the admin listener.
const ADMIN_RESERVE: usize = 16;

/// Maximum number of connections of the gateway to its application.
const GATEWAY_CALLS: u64 = 4096;

/// Smallest limit of a head that browsers can work with.
const MIN_HEAD: u64 = 1024;

/// Checks everything that can be checked without listening.
pub(crate) fn check(settings: &Settings) -> Result<(), Failure> {
    check_all_but_log(settings)?;
    AccessLines::check(&settings.access_log)
}

/// Like [`check`], but rejects certificates that are not valid now, too: the program can start with them, but clients
/// reject them.
pub(crate) fn check_strictly(settings: &Settings) -> Result<(), Failure> {
    let checked = check_all_but_log(settings)?;
    AccessLines::check(&settings.access_log)?;
    for (listen, tls) in &checked {
        if let Some(fault) = tls.as_ref().and_then(|tls| certificates::fault(tls, now())) {
            return Err(Failure::config(format!("--listen {listen}: certificate {fault}")));
        }
    }
    if let Some(fault) = nodes::certificate(settings)?.and_then(|tls| certificates::fault(&tls, now())) {
        return Err(Failure::config(format!("--node-tls-cert: certificate {fault}")));
    }
    Ok(())
}

/// Like [`check`], but without the access log: opening and closing a FIFO would signal an end to its reader. Returns
/// the listeners with their certificates, since a pipe cannot be read again.
fn check_all_but_log(settings: &Settings) -> Result<Vec<(Listen, Option<Tls>)>, Failure> {
    if settings.limits.max_head.0 < MIN_HEAD {
        return Err(Failure::config(format!(
            "invalid [limits] max-head: expected at least {MIN_HEAD} bytes, which browsers need"
        )));
    }
    fitting::check(settings)?;
    let services = Services::new(settings, "")?;
    services.check_paths(services.page(settings).is_some())?;
    let checked = listen::check(settings)?;
    if let Some((admin, true)) = admin_address(settings)
        && let Some((listen, _)) = checked.iter().find(|(listen, _)| listen.takes(admin))
    {
        return Err(Failure::config(format!("--listen {listen} and --admin {admin} use the same port")));
    }
    Ok(checked)
}

/// Serves until a signal stops the program.
pub(crate) fn run(settings: Settings, flags: ArgMatches, inherited: Inherited) -> Result<(), Failure> {
    let invalid_level = |error| Failure::config(format!("--log-level: {error}"));
    logs::init(&settings.log.level.0, settings.log.format).map_err(invalid_level)?;
    if config::is_self_made(&flags) {
        config::report_self_made(&settings);
    }
    let checked = check_all_but_log(&settings)?;
    let shared = Arc::new(Shared::new(&settings, Metrics::new(now()))?);
    let trusting = shared.clone();
    let (server, open) = listen::listen(checked, inherited, move |peer| trusting.is_proxy(peer))?;
    let logging = shared.clone();
    let admin = bind_admin(&settings)?;
    let api = admin.as_ref().and_then(|(server, _)| server.local_addr()).filter(|_| !settings.gateway.public_api);
    let api = api.or_else(|| server.local_addr()).map_or_else(String::new, |addr| addr.to_string());
    let services = Services::new(&settings, &api)?;
    if services.names(false).is_empty() {
        log::warn!("no service is enabled: every request gets 404; see the settings --rendezvous and --session-relay");
    }
    let open_node = nodes::bind(&settings)?;
    let limits = match &services.gateway {
        Some(gateway) if services.gateway_is_open => gateway.config().server_limits(limits(&settings)),
        _ => limits(&settings),
    };
    uncork::set_pipe_memory_limit(usize::try_from(settings.limits.pipe_memory.0).unwrap_or(usize::MAX));
    let limits = descriptors::fit(limits, needs(&settings, open.len()));
    let (connections, node_limits) = (limits.connections, limits.clone());
    let server = if settings.server.http2 { server } else { server.versions([Version::Http11]) };
    let server = server.limits(limits).access_log(move |access| logging.ended(access));
    // First, so that an early signal is not lost.
    let signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).map_err(|e| Failure::system(&"cannot handle signals", &e))?;
    let node_tls = open_node.as_ref().and_then(|open| open.tls(&services));
    let listeners = open.iter().filter_map(|one| Some((one.url.clone(), one.tls.clone()?)));
    let listeners: Arc<[(String, Tls)]> = listeners.chain(node_tls.as_ref().map(NodeTls::listener)).collect();
    warn_of_certificates(&listeners);
    let with_tls = listeners.clone();
    let admin = admin.map(|(server, is_local)| {
        start_admin(server, Admin { shared: shared.clone(), services: services.clone(), is_local, listeners })
    });
    let admin = admin.transpose()?;
    let node = match (open_node, &services.nodes) {
        (Some(open), Some(nodes)) => Some(open.start(nodes, &services, loops(&settings), node_limits)?),
        _ => None,
    };
    let directory = services.directory.as_ref().map(directory::start).transpose()?;
    let timeout = Duration::from_secs(settings.server.shutdown_timeout.into());
    let stopping = services.clone();
    let page = services.page(&settings);
    let site = Site { shared: shared.clone(), services: services.clone(), page: page.clone() };
    let (mode, threads) = (settings.server.mode, loops(&settings));
    let running = match mode {
        Mode::Threads => format!("{threads} loops"),
        Mode::External => "one loop".to_owned(),
        Mode::ThreadPerConnection => "a thread for each connection".to_owned(),
    };
    let names = match services.names(page.is_some()) {
        names if names.is_empty() => "no service".to_owned(),
        names => names.join(", "),
    };
    let urls = open.iter().map(|open| open.url.as_str()).collect::<Vec<_>>().join(",");
    let mut lines: Vec<String> = open.iter().map(|open| format!("listening on {}", open.url)).collect();
    lines.extend(open.iter().flat_map(OpenListener::urls_for_others).map(|url| format!("others reach it at {url}")));
    if settings.listen.is_empty() {
        lines.push(format!("only this computer reaches it; to serve others, add --listen {FOR_OTHERS}"));
    }
    let admin_addr = admin.as_ref().and_then(Running::local_addr);
    let admin_url = admin_addr.map_or_else(|| "off".to_owned(), |addr| format!("http://{addr}"));
    let node_stop = node.as_ref().and_then(NodeStop::of);
    let at_end = node_stop.clone();
    let ready = |stop_handle: StopHandle, loops: Vec<LoopHandle>| {
        let mut program = Program {
            started: settings.clone(),
            settings,
            flags,
            shared,
            services,
            page,
            open,
            listeners: with_tls,
            node_tls,
            stop_handle,
            node_stop,
        };
        let thread = std::thread::Builder::new().name("signals".into()).spawn(move || program.handle_signals(signals));
        thread.map(drop).map_err(cannot_start)?;
        print_addresses(&lines, admin_addr);
        log::info!(
            listen = urls.as_str(), admin = admin_url.as_str();
            "started: {running}, at most {connections} connections, with {names}"
        );
        notify::send("READY=1");
        notify::watch(loops);
        Ok(())
    };
    let result = match mode {
        Mode::External => {
            let external = server.external(site).map_err(cannot_start)?;
            ready(external.stop_handle(), vec![external.loop_handle()])?;
            external.run().map_err(|error| Failure::system(&"cannot wait for events", &error))
        }
        Mode::Threads | Mode::ThreadPerConnection => {
            let running = match mode {
                Mode::ThreadPerConnection => server.thread_per_connection(site),
                _ => server.threads(threads, site),
            };
            let running = running.map_err(cannot_start)?;
            ready(running.stop_handle(), running.loops())?;
            running.join().map_err(|error| Failure::system(&"stopped", &error))
        }
    };
    if let Some(node_stop) = at_end {
        node_stop.handle.shutdown(timeout);
    }
    if let Some(Err(error)) = node.map(Running::join) {
        log::warn!("listener for nodes: {error}");
    }
    if let (Some(running), Some(directory)) = (directory, &stopping.directory) {
        directory::stop(directory, stopping.gateway.as_ref(), running, timeout);
    }
    if let Some(Err(error)) = admin.map(Running::stop_now) {
        log::warn!("admin listener: {error}");
    }
    if result.is_ok() {
        log::info!("stopped");
    }
    result
}

/// Returns the descriptors that connections and everything else need.
fn needs(settings: &Settings, listeners: usize) -> Needs {
    let gateway = &settings.gateway;
    let outgoing = if gateway.connect_url.0.is_empty() { 0 } else { GATEWAY_CALLS };
    let upstream = if gateway.upstream.0.is_empty() { 0 } else { gateway.upstream_requests.get() as u64 };
    let outgoing = outgoing + upstream;
    // A loop has a selector, a wake-up descriptor and the listeners. In thread-per-connection mode, a connection has
    // the first two as well.
    let (per_connection, loops) = match settings.server.mode {
        Mode::ThreadPerConnection => (3, 1),
        Mode::External => (1, 1),
        Mode::Threads => (1, loops(settings)),
    };
    // A forwarded request has a connection to its node; as many may come from other nodes.
    let per_connection = if settings.node.id.0.is_empty() { per_connection } else { per_connection + 2 };
    Needs { per_connection, others: (loops * (2 + listeners) + ADMIN_RESERVE) as u64, outgoing }
}

fn cannot_start(error: io::Error) -> Failure {
    Failure::system(&"cannot start", &error)
}

fn loops(settings: &Settings) -> usize {
    match settings.server.threads.0 {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        n => n.into(),
    }
}

fn limits(settings: &Settings) -> Limits {
    let own = &settings.limits;
    let seconds = |n: NonZeroU32| Duration::from_secs(n.get().into());
    Limits {
        connections: own.connections.get(),
        connections_per_address: match own.connections_per_address {
            0 => usize::MAX,
            n => n,
        },
        // Each service rejects larger bodies with its own response.
        body: u64::MAX,
        head: usize::try_from(own.max_head.0).unwrap_or(usize::MAX),
        handshake_timeout: seconds(own.handshake_timeout),
        head_timeout: seconds(own.head_timeout),
        idle_timeout: seconds(own.idle_timeout),
        body_timeout: seconds(own.body_timeout),
        send_timeout: seconds(own.send_timeout),
        min_rate: own.min_rate,
        ..Limits::default()
    }
}

/// Returns the address of the admin listener, and `true` if another port must not be used instead.
fn admin_address(settings: &Settings) -> Option<(SocketAddr, bool)> {
    match settings.admin.listen.0.as_str() {
        "off" => None,
        "auto" => ADMIN.parse().ok().map(|addr| (addr, false)),
        text => text.parse().ok().map(|addr| (addr, true)),
    }
}

/// Binds the admin listener, if it is enabled. Returns `true` with it for a loopback address.
fn bind_admin(settings: &Settings) -> Result<Option<(Server, bool)>, Failure> {
    let Some((addr, must)) = admin_address(settings) else { return Ok(None) };
    let server = match Server::bind(addr) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && !must => {
            log::warn!("the admin listener has another port: {error}; --admin sets its address");
            Server::bind((addr.ip(), 0))
        }
        result => result,
    };
    let server = server
        .map_err(|error| Failure::system_message(format!("{error}; use --admin with another address, or off")))?;
    let is_local = addr.ip().is_loopback();
    if !is_local {
        log::warn!("the admin listener {addr} has no authentication: restrict access to it");
    }
    Ok(Some((server, is_local)))
}

/// Warns of certificates that are not valid now. The program serves nevertheless, since only clients of HTTPS fail.
fn warn_of_certificates(listeners: &[(String, Tls)]) {
    for (url, tls) in listeners {
        if let Some(fault) = certificates::fault(tls, now()) {
            log::warn!("{url}: certificate {fault}");
        }
    }
}

fn start_admin(server: Server, admin: Admin) -> Result<Running, Failure> {
    // Operators must get a response even if public clients use every connection.
    let limits = Limits { connections: ADMIN_CONNECTIONS, reserved_descriptors: ADMIN_RESERVE, ..Limits::default() };
    let limits = match &admin.services.gateway {
        Some(gateway) => gateway.config().server_limits(limits),
        None => limits,
    };
    server.limits(limits).threads(1, admin).map_err(cannot_start)
}

/// Prints the addresses. The parent process may wait for them, and may have let the system choose ports.
fn print_addresses(lines: &[String], admin: Option<SocketAddr>) {
    let mut out = io::stdout().lock();
    let mut result = lines.iter().try_for_each(|line| writeln!(out, "{line}"));
    if let Some(addr) = admin {
        result = result.and_then(|()| writeln!(out, "admin on http://{addr}"));
    }
    // Standard output may be closed; the program serves nevertheless.
    let _ = result.and_then(|()| out.flush());
}

/// State for the thread that handles signals.
struct Program {
    /// The settings at start, still in effect where a change needs a restart.
    started: Settings,
    /// The settings that were read last.
    settings: Settings,
    flags: ArgMatches,
    shared: Arc<Shared>,
    services: Services,
    page: Option<Page>,
    open: Vec<OpenListener>,
    /// URL and certificate of each listener with TLS.
    listeners: Arc<[(String, Tls)]>,
    node_tls: Option<NodeTls>,
    stop_handle: StopHandle,
    node_stop: Option<NodeStop>,
}

/// Stops the listener for other nodes: their clients' requests have the same time to finish.
#[derive(Clone)]
struct NodeStop {
    handle: StopHandle,
    on: LoopHandle,
}

impl NodeStop {
    fn of(running: &Running) -> Option<Self> {
        Some(Self { handle: running.stop_handle(), on: running.loops().into_iter().next()? })
    }

    /// Stops it after this time: until then, other nodes have messages for clients of the gateway.
    fn shutdown(&self, after: Duration, timeout: Duration) {
        let handle = self.handle.clone();
        match after.is_zero() {
            true => handle.shutdown(timeout),
            false => self.on.after(after, move |_| handle.shutdown(timeout)),
        }
    }
}

impl Program {
    /// Handles signals until the program ends.
    fn handle_signals(&mut self, mut signals: Signals) {
        let mut stopping = None;
        for signal in signals.forever() {
            match (signal, &stopping) {
                (SIGHUP, None) => self.reload(),
                (SIGHUP, Some(_)) => {}
                (_, None) => stopping = Some(self.stop()),
                (_, Some(_)) => {
                    log::warn!("second signal: stopping at once");
                    self.stop_handle.stop_now();
                    self.node_stop.iter().for_each(|node| node.handle.stop_now());
                }
            }
        }
    }

    /// Starts the shutdown. Dropping the returned sender ends the delay early.
    fn stop(&self) -> mpsc::Sender<()> {
        let (timeout, delay) = (self.settings.server.shutdown_timeout, self.settings.server.shutdown_delay);
        // /ready must return 503 before systemd is notified.
        self.shared.drain();
        notify::send("STOPPING=1");
        let (stop_handle, (sender, receiver)) = (self.stop_handle.clone(), mpsc::channel());
        let node_stop = self.node_stop.clone();
        let shared = self.shared.clone();
        let spread = self.services.gateway.as_ref().map_or(Duration::ZERO, |gateway| gateway.config().drain_spread);
        let stop = move || {
            let open = shared.metrics.open_connections();
            let timeout = Duration::from_secs(timeout.into());
            let seconds = (timeout + spread).as_secs();
            log::info!("stopping: requests in progress have {seconds} seconds to finish; open connections: {open}");
            stop_handle.shutdown(timeout + spread);
            node_stop.iter().for_each(|node| node.shutdown(spread, timeout));
        };
        if delay == 0 {
            stop();
            return sender;
        }
        log::info!("draining: /ready responds 503, and new connections are accepted for {delay} more seconds");
        let at_once = stop.clone();
        let later = move || {
            let _ = receiver.recv_timeout(Duration::from_secs(delay.into()));
            stop();
        };
        if let Err(error) = std::thread::Builder::new().name("drain".into()).spawn(later) {
            log::error!("cannot start a thread for the shutdown delay: {error}");
            at_once();
        }
        sender
    }

    /// Reads the settings again. If they are invalid, nothing changes.
    fn reload(&mut self) {
        notify::send("RELOADING=1");
        let result = config::load(&self.flags).and_then(|settings| check(&settings).map(|()| settings));
        let result = result.and_then(|settings| self.change(settings));
        self.shared.metrics.reloaded(result.is_ok());
        match result {
            Ok(changed) if changed.is_empty() => {
                log::info!("configuration reloaded; no setting has changed");
            }
            Ok(changed) => log::info!("configuration reloaded; changed: {}", changed.join(", ")),
            Err(error) => log::error!("cannot reload the configuration, nothing has changed: {}", error.0),
        }
        notify::send("READY=1");
    }

    /// Applies the settings. Returns the names of those that have changed and are in effect.
    fn change(&mut self, new: Settings) -> Result<Vec<String>, Failure> {
        self.shared.access.reopen(&new.access_log)?;
        let mut unchanged = Vec::new();
        let wanted = listen::wanted(&new);
        for open in &self.open {
            // The new settings of the listener with that address.
            let Some(listen) = wanted.iter().find(|listen| listen.address == open.listen.address) else { continue };
            match (&open.tls, listen.identity(&new).map_err(Failure::config)?) {
                (Some(tls), Some((cert, key))) => {
                    let tls = tls.clone();
                    listen.load(cert, key, move |cert, key| tls.replace_pem(cert, key))?;
                }
                (None, None) => {}
                (Some(_), None) | (None, Some(_)) => unchanged.push(format!("HTTPS on {listen}")),
            }
        }
        match (&self.node_tls, new.node.tls_cert.as_os_str().is_empty()) {
            (Some(tls), false) => tls.renew(&new)?,
            (None, true) => {}
            (Some(_), true) | (None, false) => unchanged.push("TLS between nodes".to_owned()),
        }
        warn_of_certificates(&self.listeners);
        self.shared.set_trusted(&new.proxies);
        self.services.reconfigure(&new)?;
        if let Some(page) = &self.page {
            page.reconfigure(self.services.page_config(&new));
        }
        // A level set through the admin listener stays until the one in the file changes.
        if (&new.log.level, new.log.format) != (&self.settings.log.level, self.settings.log.format) {
            logs::change(&new.log.level.0, new.log.format).map_err(Failure::config)?;
        }
        let differ = config::differences(&self.started, &new);
        unchanged.extend(differ.into_iter().filter(|name| !changes(name)));
        if !unchanged.is_empty() {
            log::warn!("these settings need a restart: {}", unchanged.join(", "));
        }
        let mut changed = config::differences(&self.settings, &new);
        changed.retain(|name| changes(name));
        self.settings = new;
        Ok(changed)
    }
}

/// Returns `true` if a setting can change at run time: all but listeners, limits of connections, which services are
/// enabled, and the gateway.
fn changes(name: &str) -> bool {
    const SECTIONS: &[&str] = &["tls", "proxies", "cors", "sessions", "rendezvous", "page", "log", "access-log"];
    const SETTINGS: &[&str] = &[
        "server.shutdown-timeout",
        "server.shutdown-delay",
        "limits.max-body",
        "node.tls-cert",
        "node.tls-key",
        "node.tls-ca",
    ];
    let (section, key) = name.split_once('.').unwrap_or((name, ""));
    SETTINGS.contains(&name) || SECTIONS.contains(&section) && key != "enabled"
}

#[expect(clippy::disallowed_methods, reason = "a program, outside of any loop")]
fn now() -> SystemTime {
    SystemTime::now()
}
