//! What the services have in common: a configuration that can be replaced, and a state under one lock.

use std::{
    fmt::Debug,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
};

use uncork::{Action, Request};

use super::{
    config::ConfigError,
    wire::{CorsHeaders, CorsPolicy},
};

/// The configuration of a service, and the state that a service with this configuration has.
pub(super) trait ServiceConfig: CorsPolicy + Debug + Sized {
    type State;

    /// Checks the values, and brings each into its one spelling.
    fn checked(self) -> Result<Self, ConfigError>;

    /// The path that the service lives under: empty, or a slash in front and none behind.
    fn base_path(&self) -> &str;

    /// Creates the state of a new service.
    fn state(&self) -> Self::State;

    /// Gives the limits of this configuration to a state that exists.
    fn update(&self, state: &mut Self::State);
}

/// The part that all clones of a service share.
///
/// A request keeps the configuration that it began with, also if another one is set meanwhile.
pub(super) struct Service<C: ServiceConfig> {
    config: RwLock<Arc<C>>,
    state: Mutex<C::State>,
}

impl<C: ServiceConfig> Service<C> {
    /// Creates a service without sessions or streams, from a configuration that was checked.
    pub(super) fn new(config: C) -> Arc<Self> {
        let state = Mutex::new(config.state());
        Arc::new(Self { config: RwLock::new(Arc::new(config)), state })
    }

    pub(super) fn config(&self) -> Arc<C> {
        self.config.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, C::State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Checks a configuration, and replaces the current one by it.
    pub(super) fn reconfigure(&self, config: C) -> Result<(), ConfigError> {
        let config = config.checked()?;
        config.update(&mut self.lock());
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(config);
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
