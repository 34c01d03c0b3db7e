//! What the services have in common: a configuration that can be replaced, and a state under one lock.

use std::{
    fmt::Debug,
    sync::{Arc, Mutex, MutexGuard, RwLock},
};

use uncork::{Action, Request};

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
}

impl<S: ServiceState> Service<S> {
    /// Creates a service without sessions or streams, from a configuration that was checked.
    pub(super) fn new(config: S::Config) -> Arc<Self> {
        let state = Mutex::new(S::new(&config));
        Arc::new(Self { config: RwLock::new(Arc::new(config)), state })
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
