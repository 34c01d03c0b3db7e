//! The configuration of the connection to the engine.

use std::{fmt, sync::Arc, time::Duration};

use uncork::TlsClient;

use super::{
    handshake::Purpose,
    url::{EngineUrl, Place, tcp},
};
use crate::relay::{ConfigError, config::times};

/// The configuration of the connection to a server of the Redis protocol (Redis 7, Valkey): the directory.
///
/// ```
/// use uncork::relay::nodes::DirectoryConfig;
/// let config = DirectoryConfig {
///     url: "rediss://relay@redis.internal:6380/2".into(),
///     password: Some("secret".into()), // from a file
///     ..DirectoryConfig::default()
/// };
/// config.check()?;
/// # Ok::<(), uncork::relay::ConfigError>(())
/// ```
#[derive(Clone)]
pub struct DirectoryConfig {
    /// The server: `redis://[user[:password]@]host[:port][/database]`, `rediss://…` for TLS, or
    /// `unix:/path[?db=database]`. User and password are percent-encoded; the port is 6379 if it is not given. A name is
    /// resolved anew for each connection, and all of its addresses are tried. With [`sentinel`](Self::sentinel), the
    /// URL has no host: `redis://` or `rediss://:password@/2`. Default: `redis://127.0.0.1`.
    pub url: String,
    /// The user (ACL), instead of the one in the URL. Default: none, which is the engine's user `default`.
    pub user: Option<String>,
    /// The password, instead of the one in the URL. Default: none.
    pub password: Option<String>,
    /// The start of the names of all keys and channels. Two installations on one engine must have different ones.
    /// Default: `uncork:`.
    pub prefix: String,
    /// The name of the connections in `CLIENT LIST`, for operators: printable ASCII without spaces. Default: `uncork`.
    pub client_name: String,
    /// The root certificates that are trusted for `rediss` URLs, and the certificate to show there. Default: the
    /// system's roots.
    pub tls: Option<TlsClient>,
    /// Timeout until there is a connection, for each address, and again until the handshake on it is complete. Then the
    /// next address is tried. Default: 2 s.
    pub connect_timeout: Duration,
    /// Timeout of a command, from the moment that the loop has it. Then its caller is told that the directory is
    /// unavailable. A connection whose PING (one every 5 s) has no reply within it is lost. Default: 1 s, because
    /// clients wait for it.
    pub command_timeout: Duration,
    /// Maximum number of commands that wait for their replies. Beyond it, the oldest hints that are not sent yet are
    /// dropped; without any, the directory is unavailable. Default: 100,000, because 100,000 sessions renew their leases
    /// within a short time.
    pub queue: usize,
    /// The Sentinels that know where the master is. Default: none.
    pub sentinel: Option<SentinelConfig>,
    /// Nodes of a Redis Cluster, as `host[:port]`: any of them, better several. They tell of the others. The port is 6379
    /// if it is not given. [`url`](Self::url) then has no host and no database: `redis://`, or `rediss://user@` for TLS
    /// with all nodes, whose certificates must be for the addresses that the nodes give each other. Default: none, which
    /// means that the server is not part of a cluster.
    pub cluster: Vec<String>,
}

/// The Sentinels of a [`DirectoryConfig`].
#[derive(Clone, Default)]
pub struct SentinelConfig {
    /// The URLs of the Sentinels, like [`DirectoryConfig::url`], but without a database. The port is 26379 if it is not
    /// given. Each may have its own credentials. At least one; no default.
    pub urls: Vec<String>,
    /// The name of the master, as the Sentinels know it. No default.
    pub master: String,
    /// The user for all Sentinels, instead of the one in each URL. Default: none.
    pub user: Option<String>,
    /// The password for all Sentinels, instead of the one in each URL. Default: none.
    pub password: Option<String>,
}

impl Default for DirectoryConfig {
    fn default() -> Self {
        Self {
            url: "redis://127.0.0.1".into(),
            user: None,
            password: None,
            prefix: "uncork:".into(),
            client_name: "uncork".into(),
            tls: None,
            connect_timeout: Duration::from_secs(2),
            command_timeout: Duration::from_secs(1),
            queue: 100_000,
            sentinel: None,
            cluster: Vec::new(),
        }
    }
}

/// Without the URL, which may have a password, and without the password.
impl fmt::Debug for DirectoryConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DirectoryConfig")
            .field("prefix", &self.prefix)
            .field("client_name", &self.client_name)
            .field("sentinel", &self.sentinel)
            .field("cluster", &self.cluster)
            .finish_non_exhaustive()
    }
}

/// Without the URLs and the password.
impl fmt::Debug for SentinelConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SentinelConfig").field("master", &self.master).finish_non_exhaustive()
    }
}

/// A checked configuration.
#[derive(Clone)]
pub(super) struct Settings {
    /// The engine; of unknown place with Sentinels, and with a cluster.
    pub(super) server: Server,
    pub(super) database: u32,
    pub(super) prefix: String,
    pub(super) client_name: String,
    pub(super) connect_timeout: Duration,
    pub(super) command_timeout: Duration,
    pub(super) queue: usize,
    /// The Sentinels, and the name of the master.
    pub(super) sentinels: Option<(Vec<Server>, String)>,
    /// The nodes of a cluster that are known from the start.
    pub(super) cluster: Vec<Place>,
}

impl Settings {
    /// Returns the use of the connection for commands.
    pub(super) fn purpose(&self) -> Purpose {
        if self.cluster.is_empty() { Purpose::Commands } else { Purpose::ClusterNode }
    }
}

/// A server and what it takes to connect to it.
#[derive(Clone)]
pub(super) struct Server {
    pub(super) place: Place,
    pub(super) tls: Option<TlsClient>,
    pub(super) user: Option<String>,
    pub(super) password: Option<String>,
}

impl DirectoryConfig {
    /// Checks the configuration, and connects to nothing.
    ///
    /// # Errors
    /// Returns an error if the configuration is invalid.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.clone().checked().map(drop)
    }

    pub(super) fn checked(mut self) -> Result<Arc<Settings>, ConfigError> {
        times([&mut self.connect_timeout, &mut self.command_timeout]);
        if self.connect_timeout.is_zero() || self.command_timeout.is_zero() {
            return Err(error("invalid timeout of the directory: must not be 0"));
        }
        let name = &self.client_name;
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(error("invalid client name of the directory: expected printable ASCII without spaces"));
        }
        let url = EngineUrl::parse(&self.url, 6379)
            .ok_or_else(|| error("invalid URL of the directory: expected redis://HOST, rediss://HOST or unix:/PATH"))?;
        match (&self.sentinel, !self.cluster.is_empty(), &url.place) {
            (Some(_), true, _) => {
                return Err(error("invalid configuration of the directory: either Sentinels or a cluster"));
            }
            (None, false, Place::Unknown) => return Err(error("invalid URL of the directory: it has no host")),
            (Some(_), false, Place::Tcp(..) | Place::Unix(_)) => {
                return Err(error("invalid URL of the directory: with Sentinels it must have no host, as redis:///0"));
            }
            (None, true, Place::Tcp(..) | Place::Unix(_)) => {
                return Err(error("invalid URL of the directory: with a cluster it must have no host, as redis://"));
            }
            (None, true, Place::Unknown) if url.database != 0 => {
                return Err(error("invalid URL of the directory: a cluster has only the database 0"));
            }
            _ => {}
        }
        let node = |text: &String| {
            tcp(text, 6379).ok_or_else(|| error("invalid node of a cluster: expected HOST or HOST:PORT"))
        };
        let cluster = self.cluster.iter().map(node).collect::<Result<_, _>>()?;
        let database = url.database;
        let sentinels = match self.sentinel.take() {
            None => None,
            Some(sentinel) => Some(self.sentinels(sentinel)?),
        };
        Ok(Arc::new(Settings {
            server: self.server(url, self.user.as_ref(), self.password.as_ref())?,
            database,
            prefix: self.prefix,
            client_name: self.client_name,
            connect_timeout: self.connect_timeout,
            command_timeout: self.command_timeout,
            queue: self.queue.max(1),
            sentinels,
            cluster,
        }))
    }

    fn sentinels(&self, sentinel: SentinelConfig) -> Result<(Vec<Server>, String), ConfigError> {
        if sentinel.master.is_empty() {
            return Err(error("invalid Sentinels of the directory: the name of the master is missing"));
        }
        if sentinel.urls.is_empty() {
            return Err(error("invalid Sentinels of the directory: there is none"));
        }
        let parsed = sentinel.urls.iter().map(|url| {
            let valid = |url: &EngineUrl| url.place != Place::Unknown && url.database == 0;
            let url = EngineUrl::parse(url, 26379).filter(valid).ok_or_else(|| {
                error("invalid URL of a Sentinel: expected redis://HOST, rediss://HOST or unix:/PATH, no database")
            })?;
            self.server(url, sentinel.user.as_ref(), sentinel.password.as_ref())
        });
        Ok((parsed.collect::<Result<_, _>>()?, sentinel.master))
    }

    /// Returns a server, with these credentials instead of those of its URL.
    fn server(&self, url: EngineUrl, user: Option<&String>, password: Option<&String>) -> Result<Server, ConfigError> {
        let tls = match (url.tls, &self.tls) {
            (false, _) => None,
            (true, Some(tls)) => Some(tls.clone()),
            (true, None) => Some(
                TlsClient::system()
                    .map_err(|cause| error(format!("cannot read the system's root certificates: {cause}")))?,
            ),
        };
        let (user, password) = (user.cloned().or(url.user), password.cloned().or(url.password));
        if user.is_some() && password.is_none() {
            return Err(error("invalid credentials of the directory: there is a user, but no password"));
        }
        Ok(Server { place: url.place, tls, user, password })
    }
}

fn error(message: impl Into<String>) -> ConfigError {
    ConfigError::of(None, message.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(change: impl FnOnce(&mut DirectoryConfig)) -> Result<Arc<Settings>, String> {
        let mut config = DirectoryConfig::default();
        change(&mut config);
        config.checked().map_err(|error| error.to_string())
    }

    fn sentinels(urls: &[&str]) -> SentinelConfig {
        let urls = urls.iter().map(ToString::to_string).collect();
        SentinelConfig { urls, master: "m".into(), ..SentinelConfig::default() }
    }

    #[test]
    fn what_cannot_work_is_rejected_before_it_runs() {
        assert!(with(|_| {}).is_ok());
        for (change, says) in [
            ((|c| c.url = "http://a".into()) as fn(&mut DirectoryConfig), "invalid URL of the directory"),
            (|c| c.url = "redis://".into(), "it has no host"),
            (|c| c.url = "redis://u@a".into(), "no password"),
            (|c| c.user = Some("u".into()), "no password"),
            (|c| c.client_name = "a b".into(), "client name"),
            (|c| c.client_name.clear(), "client name"),
            (|c| c.command_timeout = Duration::ZERO, "must not be 0"),
            (|c| c.connect_timeout = Duration::ZERO, "must not be 0"),
            (|c| c.sentinel = Some(sentinels(&["redis://s"])), "must have no host"),
            (|c| c.cluster = vec!["a".into()], "with a cluster it must have no host"),
            (|c| (c.url, c.cluster) = ("redis:///1".into(), vec!["a".into()]), "only the database 0"),
            (|c| (c.url, c.cluster) = ("redis://".into(), vec!["redis://a".into()]), "invalid node of a cluster"),
            (|c| (c.sentinel, c.cluster) = (Some(sentinels(&["redis://s"])), vec!["a".into()]), "either"),
        ] {
            let error = with(change).err().expect(says);
            assert!(error.contains(says), "{error}");
        }
        for (urls, says) in [
            (&[][..], "there is none"),
            (&["redis://"], "URL of a Sentinel"),
            (&["redis://s/1"], "URL of a Sentinel"),
            (&["s:1"], "URL of a Sentinel"),
        ] {
            let error = with(|c| (c.url, c.sentinel) = ("redis://".into(), Some(sentinels(urls)))).err().expect(says);
            assert!(error.contains(says), "{error}");
        }
    }

    #[test]
    fn credentials_given_apart_come_first() {
        let settings = with(|c| {
            c.url = "redis://u:p@/4".into();
            c.password = Some("from a file".into());
            c.sentinel =
                Some(SentinelConfig { user: Some("v".into()), ..sentinels(&["redis://a:b@s", "redis://:c@t:1"]) });
        });
        let settings = settings.expect("valid");
        let of =
            |server: &Server| (server.user.clone().unwrap_or_default(), server.password.clone().unwrap_or_default());
        assert_eq!(of(&settings.server), ("u".into(), "from a file".into()));
        assert_eq!((settings.database, &*settings.prefix), (4, "uncork:"));
        let (sentinels, master) = settings.sentinels.as_ref().expect("Sentinels");
        assert_eq!(sentinels.iter().map(of).collect::<Vec<_>>(), [("v".into(), "b".into()), ("v".into(), "c".into())]);
        assert_eq!((master.as_str(), sentinels[0].place.to_string()), ("m", "s:26379".into()));
    }

    #[test]
    fn secrets_are_not_printed() {
        let config = DirectoryConfig {
            url: "redis://:hidden@".into(),
            password: Some("hidden".into()),
            sentinel: Some(SentinelConfig { password: Some("hidden".into()), ..sentinels(&["redis://:hidden@s"]) }),
            ..DirectoryConfig::default()
        };
        assert!(!format!("{config:?}").contains("hidden"));
    }
}
