//! What the configurations of the services have in common: how they are checked before they are used.

use std::{
    fmt,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use uncork::h1::{HeaderValue, Headers};

/// A configuration that cannot work; says why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidConfig(pub(super) &'static str);

impl fmt::Display for InvalidConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for InvalidConfig {}

/// A configuration that can be replaced while it is in use. Whoever has begun with one goes on with it.
pub(super) struct Live<T>(RwLock<Arc<T>>);

impl<T> Live<T> {
    pub(super) fn new(config: T) -> Self {
        Self(RwLock::new(Arc::new(config)))
    }

    pub(super) fn get(&self) -> Arc<T> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set(&self, config: T) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(config);
    }
}

/// A base path in its one spelling: empty, or a slash in front and none behind.
pub(super) fn base_path(given: &str) -> Result<String, InvalidConfig> {
    let path = given.trim_end_matches('/');
    // The path may go into a cookie, where a ";" would begin an attribute.
    let fine = |b: u8| b.is_ascii_alphanumeric() || b"/-._~!$&'()*+,=:@%".contains(&b);
    if !(path.is_empty() || path.starts_with('/')) || !path.bytes().all(fine) {
        return Err(InvalidConfig("the base path must begin with a slash, and be a path as it stands in a URL"));
    }
    Ok(path.to_owned())
}

/// The `Server` field.
pub(super) fn server(name: &str) -> Result<(), InvalidConfig> {
    let fine = Headers::new().append("Server", name).is_ok();
    fine.then_some(()).ok_or(InvalidConfig("the Server field must be printable"))
}

/// Origins whose pages may come.
pub(super) fn origins(origins: &[String]) -> Result<(), InvalidConfig> {
    let origin = |o: &String| o == "*" || (o.contains("://") && !o.ends_with('/') && HeaderValue::new(o).is_ok());
    let fine = origins.iter().all(origin);
    fine.then_some(()).ok_or(InvalidConfig("an origin must be \"*\", or look like https://example.org, without a path"))
}

/// What is added to a clock must not overflow it.
pub(super) fn times<'a>(times: impl IntoIterator<Item = &'a mut Duration>) {
    const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
    for time in times {
        *time = CENTURY.min(*time);
    }
}
