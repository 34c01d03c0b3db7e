//! Builds the services from their settings.

use std::time::Duration;

use uncork::{
    TlsClient,
    relay::{
        Gateway, GatewayCallbacks, GatewayConfig, GatewayLimits, GatewayPaths, GatewayUpstream, OriginPolicy,
        Rendezvous, RendezvousConfig, SessionConfig, SessionRelay,
        nodes::{Directory, Nodes},
        tunnel::Proxy,
    },
};

use super::{
    Failure, directory, nodes,
    page::{self, Page, PageConfig},
    settings::Settings,
    tunnel,
    values::{Bytes, Field, OriginRule},
};

/// The enabled services. Clones share the same services.
#[derive(Clone)]
pub(crate) struct Services {
    pub(crate) sessions: Option<SessionRelay>,
    pub(crate) rendezvous: Option<Rendezvous>,
    pub(crate) gateway: Option<Gateway>,
    pub(crate) tunnel: Option<Proxy>,
    pub(crate) nodes: Option<Nodes>,
    pub(crate) directory: Option<Directory>,
    /// The relay is not ready while the directory is unavailable.
    pub(crate) directory_is_required: bool,
    /// What replaces the certificate that this node shows to others.
    pub(crate) node_client: Option<TlsClient>,
    /// The public listeners serve the paths of the gateway's application, too.
    pub(crate) gateway_is_open: bool,
}

impl Services {
    /// Builds the services. `api` is the gateway's address for the application unless a setting overrides it.
    pub(crate) fn new(settings: &Settings, api: &str) -> Result<Self, Failure> {
        let invalid = |section: &str, error: &dyn std::fmt::Display| Failure::config(format!("[{section}] {error}"));
        let (nodes, node_client) = nodes::nodes(settings)?.unzip();
        let sessions = settings.sessions.enabled.then(|| match &nodes {
            Some(nodes) => SessionRelay::with_nodes(sessions(settings), nodes.clone()),
            None => SessionRelay::new(sessions(settings)),
        });
        let rendezvous = settings.rendezvous.enabled.then(|| match &nodes {
            Some(nodes) => Rendezvous::with_nodes(rendezvous(settings), nodes.clone()),
            None => Rendezvous::new(rendezvous(settings)),
        });
        if settings.gateway.connect_url.0.is_empty() && !settings.gateway.upstream.0.is_empty() {
            return Err(Failure::config(
                "[gateway] upstream needs connect-url: without it there is no gateway".to_owned(),
            ));
        }
        let directory = directory::directory(settings, nodes.as_ref())?;
        let gateway = (!settings.gateway.connect_url.0.is_empty()).then(|| match &directory {
            Some(directory) => Gateway::with_directory(gateway(settings, api), directory.clone()),
            None => Gateway::new(gateway(settings, api)),
        });
        let tunnel = tunnel::proxy(settings, nodes.as_ref(), directory::config(settings, nodes.as_ref())?);
        Ok(Self {
            sessions: sessions.transpose().map_err(|error| invalid("sessions", &error))?,
            rendezvous: rendezvous.transpose().map_err(|error| invalid("rendezvous", &error))?,
            gateway: gateway.transpose().map_err(|error| invalid("gateway", &error))?,
            tunnel: tunnel.map_err(|error| invalid("tunnel", &error))?,
            nodes,
            directory,
            directory_is_required: settings.directory.required,
            node_client: node_client.flatten(),
            gateway_is_open: settings.gateway.public_api,
        })
    }

    /// Rejects a path of one service that another service, earlier in [`Site`](super::site::Site), would handle.
    pub(crate) fn check_paths(&self, has_page: bool) -> Result<(), Failure> {
        let below = |base: &str, name: &str| format!("{base}/{name}");
        let mut paths: Vec<(&str, String)> = Vec::new();
        if let Some(sessions) = &self.sessions {
            paths.push(("sessions", below(&sessions.config().base_path, "session")));
        }
        if let Some(rendezvous) = &self.rendezvous {
            let base = &rendezvous.config().base_path;
            paths.extend(["stream", "ping"].map(|name| ("rendezvous", below(base, name))));
        }
        if let Some(gateway) = &self.gateway {
            let own = &gateway.config().path;
            paths.push(("gateway", own.connect.clone()));
            if self.gateway_is_open {
                paths.extend([&own.send, &own.close, &own.stats, &own.presence].map(|path| ("gateway", path.clone())));
            }
        }
        if let Some(tunnel) = &self.tunnel {
            paths.push(("tunnel", tunnel.config().path.clone()));
        }
        for (section, path) in paths {
            let first = match path.as_str() {
                path if has_page && page::PATHS.contains(&path) => "page",
                path if self.sessions.as_ref().is_some_and(|sessions| sessions.serves(path)) => "sessions",
                path if self.rendezvous.as_ref().is_some_and(|rendezvous| rendezvous.serves(path)) => "rendezvous",
                _ => section,
            };
            if first != section {
                return Err(Failure::config(format!("[{section}] path {path} is already used by [{first}]")));
            }
        }
        Ok(())
    }

    /// Returns the names of the services that are enabled, for the log.
    pub(crate) fn names(&self, has_page: bool) -> Vec<&'static str> {
        let enabled = [
            (self.rendezvous.is_some(), "rendezvous"),
            (self.sessions.is_some(), "session relay"),
            (self.gateway.is_some(), "gateway"),
            (self.tunnel.is_some(), "reverse tunnel"),
            (has_page, "page"),
        ];
        enabled.into_iter().filter_map(|(is_enabled, name)| is_enabled.then_some(name)).collect()
    }

    /// Returns the web page, if it is enabled and there is a service for it to show.
    pub(crate) fn page(&self, settings: &Settings) -> Option<Page> {
        let has_something = self.rendezvous.is_some() || self.sessions.is_some();
        (settings.page.enabled && has_something).then(|| Page::new(self.page_config(settings)))
    }

    pub(crate) fn page_config(&self, settings: &Settings) -> PageConfig {
        let rendezvous = self.rendezvous.as_ref().map(Rendezvous::config);
        let (ttl, ttl_max) = rendezvous.as_ref().map(|config| (config.ttl, config.ttl_max)).unwrap_or_default();
        PageConfig {
            rendezvous: rendezvous.map(|config| config.base_path.clone()),
            ttl,
            link: Duration::from_secs(settings.page.link_ttl.get()).min(ttl_max.max(ttl)),
            sessions: self.sessions.as_ref().map(|sessions| sessions.config().base_path.clone()),
        }
    }

    /// Applies checked settings to the enabled services that can change at run time.
    pub(crate) fn reconfigure(&self, settings: &Settings) -> Result<(), Failure> {
        let invalid = |section: &str, error: &dyn std::fmt::Display| Failure::config(format!("[{section}] {error}"));
        if let Some(service) = self.sessions.as_ref().filter(|_| settings.sessions.enabled) {
            service.reconfigure(sessions(settings)).map_err(|error| invalid("sessions", &error))?;
        }
        if let Some(service) = self.rendezvous.as_ref().filter(|_| settings.rendezvous.enabled) {
            service.reconfigure(rendezvous(settings)).map_err(|error| invalid("rendezvous", &error))?;
        }
        Ok(())
    }
}

fn origins(settings: &Settings) -> Vec<String> {
    settings.cors.allowed_origins.iter().map(|origin| origin.0.clone()).collect()
}

fn size(bytes: Bytes) -> usize {
    usize::try_from(bytes.0).unwrap_or(usize::MAX)
}

fn sessions(settings: &Settings) -> SessionConfig {
    let (own, default) = (&settings.sessions, SessionConfig::default());
    SessionConfig {
        base_path: own.base_path.0.clone(),
        server: own.server_name.0.clone(),
        ttl: Duration::from_secs(own.ttl.get()),
        first_use_timeout: Duration::from_secs(own.first_use_timeout.get()),
        ttl_min: default.ttl_min.min(Duration::from_secs(own.ttl_max.get())),
        ttl_max: Duration::from_secs(own.ttl_max.get()),
        lifetime: Duration::from_secs(own.lifetime.get()),
        request_timeout: Duration::from_secs(own.request_timeout),
        request_timeout_max: Duration::from_secs(own.request_timeout_max.max(own.request_timeout)),
        sessions: own.limit.get(),
        sessions_per_address: own.per_address.get(),
        allocations_per_minute: own.allocations_per_minute,
        allocation_burst: own.allocation_burst,
        body: settings.limits.max_body.0,
        pipe: default.pipe,
        allowed_origins: origins(settings),
        end_cleanly_if_truncated: !own.abort_if_truncated,
    }
}

fn rendezvous(settings: &Settings) -> RendezvousConfig {
    let own = &settings.rendezvous;
    RendezvousConfig {
        base_path: own.base_path.0.clone(),
        ttl: Duration::from_secs(own.ttl.get()),
        ttl_max: Duration::from_secs(own.ttl_max),
        first_use_timeout: Duration::from_secs(own.first_use_timeout.get()),
        status_ttl: Duration::from_secs(own.status_ttl),
        lifetime: Duration::from_secs(own.lifetime.get()),
        body_timeout: Duration::from_secs(own.body_timeout.get()),
        streams: own.limit.get(),
        streams_per_address: own.per_address.get(),
        creations_per_minute: own.creations_per_minute,
        creation_burst: own.creation_burst,
        receivers: own.receivers.get(),
        body: settings.limits.max_body.0,
        strict: own.strict,
        list: own.public_list,
        neutral: own.neutral,
        allowed_origins: origins(settings),
        ..RendezvousConfig::default()
    }
}

fn gateway(settings: &Settings, api: &str) -> GatewayConfig {
    let own = &settings.gateway;
    let timeout = |seconds: u64| (seconds > 0).then(|| Duration::from_secs(seconds));
    let field = |field: &Field| {
        let (name, value) = field.0.split_once(':').unwrap_or((&field.0, ""));
        (name.trim().to_owned(), value.trim().to_owned())
    };
    GatewayConfig {
        endpoint: if own.endpoint.is_empty() { api.to_owned() } else { own.endpoint.clone() },
        session_header: own.session_field.clone(),
        callback: GatewayCallbacks {
            connect: own.connect_url.0.clone(),
            establish: own.establish_url.0.clone(),
            close: own.close_url.0.clone(),
            receive: own.receive_url.0.clone(),
            timeout: timeout(own.callback_timeout),
        },
        proxy_set_header: own.set_fields.iter().map(field).collect(),
        send_timeout: timeout(own.queue_timeout),
        send_queue_size: own.queue,
        strict_broadcast: own.strict_broadcast,
        origin_policy: match own.allowed_origins {
            OriginRule::All => OriginPolicy::None,
            OriginRule::SameOrigin => OriginPolicy::SameOrigin,
            OriginRule::SameHostname => OriginPolicy::SameHostname,
        },
        idle_timeout: timeout(own.idle_timeout),
        ping_interval: timeout(own.ping_interval),
        message_timeout: timeout(own.message_timeout),
        drain_spread: Duration::from_secs(own.drain_spread.into()),
        upstream: GatewayUpstream {
            url: own.upstream.0.clone(),
            timeout: Duration::from_secs(own.upstream_timeout.get()),
        },
        path: GatewayPaths {
            connect: own.connect_path.clone(),
            send: own.send_path.clone(),
            close: own.close_path.clone(),
            stats: own.stats_path.clone(),
            presence: own.presence_path.clone(),
            ..GatewayPaths::default()
        },
        limits: GatewayLimits {
            message: size(own.max_message),
            send: size(own.max_send),
            pending: size(own.max_pending),
            calls: own.calls.get(),
            sessions: own.limit.get(),
            sessions_per_address: own.per_address.get(),
            upstream_requests: own.upstream_requests.get(),
            upstream_body: settings.limits.max_body.0,
            ..GatewayLimits::default()
        },
        ..GatewayConfig::default()
    }
}
