//! What the services have in common: a configuration that can be replaced, and a state under one lock.

use std::{
    fmt::Debug,
    sync::{Arc, Mutex, MutexGuard, RwLock},
};

#[cfg(feature = "nodes")]
use uncork::Response;
use uncork::{Action, Request};

#[cfg(feature = "nodes")]
use super::nodes::{Located, NodeError, Nodes, Pending};
use super::{
    config::ConfigError,
    lock::{lock, read, write},
    wire::{CorsHeaders, CorsPolicy},
};

/// The configuration of a service.
pub(super) trait ServiceConfig: CorsPolicy + Debug + Sized {
    /// Checks the values, and brings each into its one spelling.
    fn checked(self) -> Result<Self, ConfigError>;

    /// The path that the service lives under: empty, or a slash in front and none behind.
    fn base_path(&self) -> &str;

    /// Returns the response for a request that another node should have handled.
    #[cfg(feature = "nodes")]
    fn node_error(error: NodeError) -> Response;
}

/// The id of a session or a stream: 128 bits.
pub(super) trait ServiceId: Copy {
    /// Parses an id in its one spelling, as it is without nodes.
    fn parse(text: &str) -> Option<Self>;

    /// Returns the id as it is without nodes.
    fn text(self) -> String;

    /// Returns the id with these bits.
    #[cfg(feature = "nodes")]
    fn of_bits(bits: u128) -> Self;

    #[cfg(feature = "nodes")]
    fn bits(self) -> u128;
}

/// The place of the session or stream that an id in a URL names.
pub(super) enum Place<K> {
    /// If it exists, it is here.
    Here(K),
    /// On another node: see [`Service::elsewhere`].
    #[cfg(feature = "nodes")]
    Elsewhere(Option<usize>),
    /// The id is invalid.
    Nowhere,
}

/// The state of a service.
pub(super) trait ServiceState {
    type Config: ServiceConfig;

    /// Creates the state of a new service.
    fn new(config: &Self::Config) -> Self;

    /// Applies the limits of a new configuration.
    fn reconfigure(&mut self, config: &Self::Config);
}

/// The part that all clones of a service share.
///
/// A request keeps the configuration that it began with, even if another one is set before it ends.
pub(super) struct Service<S: ServiceState> {
    config: RwLock<Arc<S::Config>>,
    state: Mutex<S>,
    #[cfg(feature = "nodes")]
    nodes: Option<Nodes>,
    /// Forwarded requests that wait.
    #[cfg(feature = "nodes")]
    pending: Arc<Pending>,
}

impl<S: ServiceState> Service<S> {
    /// Creates a service without sessions or streams, from a configuration that was checked.
    pub(super) fn new(config: S::Config) -> Arc<Self> {
        Arc::new(Self::alone(config))
    }

    fn alone(config: S::Config) -> Self {
        let state = Mutex::new(S::new(&config));
        Self {
            config: RwLock::new(Arc::new(config)),
            state,
            #[cfg(feature = "nodes")]
            nodes: None,
            #[cfg(feature = "nodes")]
            pending: Arc::default(),
        }
    }

    /// Creates a service whose ids name this node.
    #[cfg(feature = "nodes")]
    pub(super) fn with_nodes(config: S::Config, nodes: Nodes) -> Arc<Self> {
        Arc::new(Self { nodes: Some(nodes), ..Self::alone(config) })
    }

    /// Returns `true` if the ids of this service name a node.
    pub(super) fn has_nodes(&self) -> bool {
        #[cfg(feature = "nodes")]
        return self.nodes.is_some();
        #[cfg(not(feature = "nodes"))]
        false
    }

    #[cfg(feature = "nodes")]
    pub(super) fn nodes(&self) -> Option<&Nodes> {
        self.nodes.as_ref()
    }

    /// Returns the id as it is in URLs.
    pub(super) fn text<K: ServiceId>(&self, id: K) -> String {
        #[cfg(feature = "nodes")]
        if let Some(nodes) = &self.nodes {
            return nodes.text(id.bits());
        }
        id.text()
    }

    /// Returns the place of the session or stream of an id in a URL.
    pub(super) fn find<K: ServiceId>(&self, id: &str) -> Place<K> {
        #[cfg(feature = "nodes")]
        if let Some(nodes) = &self.nodes {
            return match nodes.locate(id) {
                Located::Here(bits) => Place::Here(K::of_bits(bits)),
                Located::Elsewhere(to) => Place::Elsewhere(to),
                Located::Unknown => Place::Nowhere,
            };
        }
        K::parse(id).map_or(Place::Nowhere, Place::Here)
    }

    pub(super) fn config(&self) -> Arc<S::Config> {
        read(&self.config).clone()
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, S> {
        lock(&self.state)
    }

    /// Checks a configuration, and replaces the current one by it.
    pub(super) fn reconfigure(&self, config: S::Config) -> Result<(), ConfigError> {
        let config = config.checked()?;
        self.lock().reconfigure(&config);
        *write(&self.config) = Arc::new(config);
        Ok(())
    }

    /// Returns the part of `path` behind the base path, if the path begins with it.
    pub(super) fn below_base<'a>(&self, path: &'a str) -> Option<&'a str> {
        path.strip_prefix(self.config().base_path())
    }

    /// Returns `true` if `path` is one of `names`, or below one of them. The names are relative to the base path.
    pub(super) fn serves(&self, path: &str, names: &[&str]) -> bool {
        let rest = self.below_base(path);
        let below = |name: &&str| rest.and_then(|rest| rest.strip_prefix(*name));
        names.iter().filter_map(below).any(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// Lets `route` handle a request, and adds to its response what all responses of the service carry.
    pub(super) fn handle<'r>(
        &self,
        req: &mut Request<'r>,
        route: impl FnOnce(&mut Request<'r>, &CorsHeaders) -> Action,
    ) -> Action {
        let cors = CorsHeaders::of(req, &self.config());
        match route(req, &cors) {
            Action::Respond(response) => cors.apply(response, &self.config()).into(),
            action => action,
        }
    }
}

#[cfg(feature = "nodes")]
impl<S> Service<S>
where
    S: ServiceState + Send + 'static,
    S::Config: Send + Sync + 'static,
{
    /// Forwards a request to the node that its id names. `from_node`: a node has sent it.
    pub(super) fn elsewhere(
        self: &Arc<Self>,
        req: &mut Request<'_>,
        to: Option<usize>,
        from_node: bool,
        cors: &CorsHeaders,
    ) -> Action {
        let Some(nodes) = &self.nodes else { return S::Config::node_error(NodeError::Unreachable).into() };
        if from_node {
            return self.not_here();
        }
        let (shared, cors) = (self.clone(), cors.clone());
        let errors = move |error| cors.apply(S::Config::node_error(error), &shared.config());
        match nodes.forward(req, to, &self.pending, errors) {
            Ok(()) => Action::Suspend,
            Err(error) => S::Config::node_error(error).into(),
        }
    }

    /// Rejects a request of a node that should not have been forwarded here.
    pub(super) fn not_here(&self) -> Action {
        let error = NodeError::NotHere;
        match &self.nodes {
            Some(nodes) => nodes.marked(S::Config::node_error(nodes.rejected(error))).into(),
            None => S::Config::node_error(error).into(),
        }
    }

    /// Responds to the forwarded requests that wait: the server is stopping.
    pub(super) fn stop_forwarding(&self) {
        self.pending.stop();
    }
}
