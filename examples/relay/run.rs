//! A run, from the first socket to the last byte: start, signals, the configuration anew, the end.
//!
//! ```text
//!   SIGHUP           certificates, settings, log files: what can change, changes; what can't is named in the log
//!   SIGTERM, SIGINT  /ready says 503 ──shutdown-delay──▶ no new connections, what is under way has its grace ──▶ end
//!   a second one     the end, at once
//! ```
//! The admin listener is a server of its own, which outlives the public one.

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
use uncork::{Limits, LoopHandle, Running, Server, StopHandle, Tls};

use super::{
    Failure,
    access::AccessLines,
    admin::Admin,
    certificates,
    common::descriptors::{self, Needs},
    config, fitting,
    listen::{self, Inherited, Listen, Standing},
    logs,
    metrics::Metrics,
    notify,
    page::Page,
    services::Services,
    settings::Settings,
    site::{Shared, Site},
    values::Mode,
};

/// The admin listener's address if nobody says otherwise, and if it is free.
const ADMIN: &str = "127.0.0.1:9090";

/// Connections of operators, and of the gateway's application.
const ADMIN_CONNECTIONS: usize = 1024;

/// Descriptors that the admin listener keeps in reserve.
const ADMIN_RESERVE: usize = 16;

/// The most connections that the gateway makes to its application.
const GATEWAY_CALLS: u64 = 4096;

/// A head that is smaller keeps browsers out.
const LEAST_HEAD: u64 = 1024;

/// Whether all is fine that can be found out without listening.
pub(crate) fn check(settings: &Settings) -> Result<(), Failure> {
    check_all_but_log(settings)?;
    AccessLines::check(&settings.access_log)
}

/// The same; and what lets it start, but is no use to clients, is a fault as well.
pub(crate) fn check_strictly(settings: &Settings) -> Result<(), Failure> {
    let checked = check_all_but_log(settings)?;
    AccessLines::check(&settings.access_log)?;
    for (listen, tls) in &checked {
        if let Some(fault) = tls.as_ref().and_then(|tls| certificates::fault(tls, now())) {
            return Err(Failure::config(format!("--listen {listen}: its certificate {fault}")));
        }
    }
    Ok(())
}

/// The same of what is not opened right afterwards: a FIFO that is opened and closed tells its reader of an end. Returns
/// the listeners, with their certificates: what is read from a pipe can't be read again.
fn check_all_but_log(settings: &Settings) -> Result<Vec<(Listen, Option<Tls>)>, Failure> {
    if settings.limits.max_head.0 < LEAST_HEAD {
        return Err(Failure::config(format!("[limits] max-head: at least {LEAST_HEAD} bytes, or no browser gets in")));
    }
    fitting::check(settings)?;
    let services = Services::new(settings, "")?;
    services.check_paths(services.page(settings).is_some())?;
    let checked = listen::check(settings)?;
    if let Some((admin, true)) = admin_address(settings)
        && let Some((listen, _)) = checked.iter().find(|(listen, _)| listen.takes(admin))
    {
        return Err(Failure::config(format!("--listen {listen} and --admin {admin} are the same port")));
    }
    Ok(checked)
}

/// Serves until a signal ends it.
pub(crate) fn run(settings: Settings, flags: ArgMatches, inherited: Inherited) -> Result<(), Failure> {
    let wrong_level = |error| Failure::config(format!("--log-level: {error}"));
    logs::init(&settings.log.level.0, settings.log.format).map_err(wrong_level)?;
    let checked = check_all_but_log(&settings)?;
    let shared = Arc::new(Shared::new(&settings, Metrics::new(now()))?);
    let trusting = shared.clone();
    let (server, standing) = listen::listen(checked, inherited, move |peer| trusting.is_proxy(peer))?;
    let logging = shared.clone();
    let admin = bind_admin(&settings)?;
    let api = admin.as_ref().and_then(|(server, _)| server.local_addr()).filter(|_| !settings.gateway.public_api);
    let api = api.or_else(|| server.local_addr()).map_or_else(String::new, |addr| addr.to_string());
    let services = Services::new(&settings, &api)?;
    let limits = match &services.gateway {
        Some(gateway) if services.gateway_is_open => gateway.config().server_limits(limits(&settings)),
        _ => limits(&settings),
    };
    uncork::set_pipe_memory_limit(usize::try_from(settings.limits.pipe_memory.0).unwrap_or(usize::MAX));
    let limits = descriptors::fit(limits, needs(&settings, standing.len()));
    let server = server.limits(limits).access_log(move |access| logging.over(access));
    // Before anything runs: a signal that comes early must not be lost.
    let signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).map_err(|e| Failure::system(&"can't handle signals", &e))?;
    warn_of_certificates(&standing);
    let listeners = standing.iter().filter_map(|one| Some((one.url.clone(), one.tls.clone()?))).collect();
    let admin = admin.map(|(server, is_local)| {
        start_admin(server, Admin { shared: shared.clone(), services: services.clone(), is_local, listeners })
    });
    let admin = admin.transpose()?;
    let page = services.page(&settings);
    let site = Site { shared: shared.clone(), services: services.clone(), page: page.clone() };
    let (mode, threads) = (settings.server.mode, loops(&settings));
    let lines: Vec<String> = standing.iter().map(|standing| format!("listening on {}", standing.url)).collect();
    let admin_addr = admin.as_ref().and_then(Running::local_addr);
    let ready = |stopper: StopHandle, loops: Vec<LoopHandle>| {
        let mut program =
            Program { started: settings.clone(), settings, flags, shared, services, page, standing, stopper };
        let thread = std::thread::Builder::new().name("signals".into()).spawn(move || program.heed(signals));
        thread.map(drop).map_err(cant_start)?;
        say_where(&lines, admin_addr);
        notify::tell("READY=1");
        notify::watch(loops);
        Ok(())
    };
    let result = match mode {
        Mode::External => {
            let external = server.external(site).map_err(cant_start)?;
            ready(external.stop_handle(), vec![external.loop_handle()])?;
            external.run().map_err(|error| Failure::system(&"can't wait for events", &error))
        }
        Mode::Threads | Mode::ThreadPerConnection => {
            let running = match mode {
                Mode::ThreadPerConnection => server.thread_per_connection(site),
                _ => server.threads(threads, site),
            };
            let running = running.map_err(cant_start)?;
            ready(running.stop_handle(), running.loops())?;
            running.join().map_err(|error| Failure::system(&"stopped", &error))
        }
    };
    if let Some(Err(error)) = admin.map(Running::stop) {
        log::warn!("the admin listener: {error}");
    }
    result
}

/// Descriptors for connections, and beside them.
fn needs(settings: &Settings, listeners: usize) -> Needs {
    let outgoing = if settings.gateway.connect_url.0.is_empty() { 0 } else { GATEWAY_CALLS };
    // A loop has a selector, a bell and the listeners; a connection in a thread of its own has the first two as well.
    let (per_connection, loops) = match settings.server.mode {
        Mode::ThreadPerConnection => (3, 1),
        Mode::External => (1, 1),
        Mode::Threads => (1, loops(settings)),
    };
    Needs { per_connection, others: (loops * (2 + listeners) + ADMIN_RESERVE) as u64, outgoing }
}

fn cant_start(error: io::Error) -> Failure {
    Failure::system(&"can't start", &error)
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
        // Each service refuses what is too large for it, in its own words.
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

/// Where the admin listener is to be; whether it has to be there.
fn admin_address(settings: &Settings) -> Option<(SocketAddr, bool)> {
    match settings.admin.listen.0.as_str() {
        "off" => None,
        "auto" => ADMIN.parse().ok().map(|addr| (addr, false)),
        text => text.parse().ok().map(|addr| (addr, true)),
    }
}

/// The admin listener, if there is to be one; whether it is on a loopback address.
fn bind_admin(settings: &Settings) -> Result<Option<(Server, bool)>, Failure> {
    let Some((addr, must)) = admin_address(settings) else { return Ok(None) };
    let server = match Server::bind(addr) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && !must => Server::bind((addr.ip(), 0)),
        result => result,
    };
    let server =
        server.map_err(|error| Failure::system_words(format!("{error}; --admin names another address, or off")))?;
    let is_local = addr.ip().is_loopback();
    if !is_local {
        log::warn!("the admin listener {addr} is open to whoever reaches it: there are no passwords");
    }
    Ok(Some((server, is_local)))
}

/// Clients do not accept a certificate before or after its time: that is no reason not to serve those that come otherwise.
fn warn_of_certificates(standing: &[Standing]) {
    for standing in standing {
        if let Some(fault) = standing.tls.as_ref().and_then(|tls| certificates::fault(tls, now())) {
            log::warn!("{}: its certificate {fault}", standing.url);
        }
    }
}

fn start_admin(server: Server, admin: Admin) -> Result<Running, Failure> {
    // Whatever the public takes, operators get an answer.
    let limits = Limits { connections: ADMIN_CONNECTIONS, reserved_descriptors: ADMIN_RESERVE, ..Limits::default() };
    let limits = match &admin.services.gateway {
        Some(gateway) => gateway.config().server_limits(limits),
        None => limits,
    };
    server.limits(limits).threads(1, admin).map_err(cant_start)
}

/// Whoever started this waits for the lines, and may have let the system choose ports.
fn say_where(lines: &[String], admin: Option<SocketAddr>) {
    let mut out = io::stdout().lock();
    let mut said = lines.iter().try_for_each(|line| writeln!(out, "{line}"));
    if let Some(addr) = admin {
        said = said.and_then(|()| writeln!(out, "admin on http://{addr}"));
    }
    // Nobody may be listening to us; that is no reason not to listen.
    let _ = said.and_then(|()| out.flush());
}

/// A running program, as signals see it.
struct Program {
    /// Those it was started with: what only a restart changes is still so.
    started: Settings,
    /// Those that were read last.
    settings: Settings,
    flags: ArgMatches,
    shared: Arc<Shared>,
    services: Services,
    page: Option<Page>,
    standing: Vec<Standing>,
    stopper: StopHandle,
}

impl Program {
    /// Does what signals say, until the end.
    fn heed(&mut self, mut signals: Signals) {
        let mut stopping = None;
        for signal in signals.forever() {
            match (signal, &stopping) {
                (SIGHUP, None) => self.reload(),
                (SIGHUP, Some(_)) => {}
                (_, None) => stopping = Some(self.stop()),
                (_, Some(_)) => {
                    log::warn!("stopping at once");
                    self.stopper.stop_now();
                }
            }
        }
    }

    /// Ends what is under way, in time. What is returned is to be kept: when it is dropped, the delay is over.
    fn stop(&self) -> mpsc::Sender<()> {
        let (grace, delay) = (self.settings.server.grace, self.settings.server.shutdown_delay);
        log::info!("stopping; what is under way has {grace} seconds");
        // In this order: who hears of it finds that it is so.
        self.shared.drain();
        notify::tell("STOPPING=1");
        let (stopper, (tell, told)) = (self.stopper.clone(), mpsc::channel());
        let stop = move || {
            let _ = told.recv_timeout(Duration::from_secs(delay.into()));
            stopper.shutdown(Duration::from_secs(grace.into()));
        };
        if delay == 0 {
            self.stopper.shutdown(Duration::from_secs(grace.into()));
        } else if let Err(error) = std::thread::Builder::new().name("drain".into()).spawn(stop) {
            log::error!("no thread to wait in: {error}");
            self.stopper.shutdown(Duration::from_secs(grace.into()));
        }
        tell
    }

    /// Reads the settings again. If they are wrong, everything stays as it is.
    fn reload(&mut self) {
        notify::tell("RELOADING=1");
        let result = config::load(&self.flags).and_then(|settings| check(&settings).map(|()| settings));
        let result = result.and_then(|settings| self.change(settings));
        self.shared.metrics.reloaded(result.is_ok());
        match result {
            Ok(()) => log::info!("the configuration was read again"),
            Err(error) => log::error!("the configuration stays as it was: {}", error.0),
        }
        notify::tell("READY=1");
    }

    fn change(&mut self, new: Settings) -> Result<(), Failure> {
        self.shared.access.reopen(&new.access_log)?;
        let mut stays = Vec::new();
        let wanted = listen::wanted(&new);
        for standing in &self.standing {
            // The listener of that address, as it is written now.
            let Some(listen) = wanted.iter().find(|listen| listen.address == standing.listen.address) else { continue };
            match (&standing.tls, listen.identity(&new).map_err(Failure::config)?) {
                (Some(tls), Some((cert, key))) => {
                    let tls = tls.clone();
                    listen::load(cert, key, move |cert, key| tls.replace_pem(cert, key))?;
                }
                (None, None) => {}
                (Some(_), None) | (None, Some(_)) => stays.push(format!("HTTPS on {listen}")),
            }
        }
        warn_of_certificates(&self.standing);
        self.shared.trust_others(&new.proxies);
        self.services.reconfigure(&new)?;
        if let Some(page) = &self.page {
            page.reconfigure(self.services.page_config(&new));
        }
        // A level that was set by hand, on the admin listener, stays until the file says another.
        if (&new.log.level, new.log.format) != (&self.settings.log.level, self.settings.log.format) {
            logs::change(&new.log.level.0, new.log.format).map_err(Failure::config)?;
        }
        let differ = config::differences(&self.started, &new);
        stays.extend(differ.into_iter().filter(|name| !changes(name)));
        if !stays.is_empty() {
            log::warn!("only a restart changes these settings: {}", stays.join(", "));
        }
        self.settings = new;
        Ok(())
    }
}

/// Whether a setting can change while it runs: all but where it listens, what a connection is allowed, which services
/// there are, and the gateway.
fn changes(name: &str) -> bool {
    const SECTIONS: &[&str] = &["tls", "proxies", "cors", "sessions", "rendezvous", "page", "log", "access-log"];
    const SETTINGS: &[&str] = &["server.grace", "server.shutdown-delay", "limits.max-body"];
    let (section, key) = name.split_once('.').unwrap_or((name, ""));
    SETTINGS.contains(&name) || SECTIONS.contains(&section) && key != "enabled"
}

#[expect(clippy::disallowed_methods, reason = "a program of its own, no part of a loop")]
fn now() -> SystemTime {
    SystemTime::now()
}
