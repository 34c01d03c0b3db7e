//! The configuration of a node: its id, the key, the other nodes.

use std::{collections::HashSet, fmt, time::Duration};

use uncork::TlsClient;

use super::{id::Tag, key::Key};
use crate::relay::ConfigError;

/// The shortest key, in bytes: as long as its MAC, half of which could not be guessed either.
const SHORTEST: usize = 32;

/// The configuration of [`Nodes`](super::Nodes).
///
/// ```
/// use uncork::relay::nodes::{Nodes, NodesConfig};
/// let nodes = Nodes::new(NodesConfig {
///     id: "fra1".into(),
///     key: vec![7; 32], // from a file that only the nodes have
///     nodes: vec![("fra1".into(), "http://10.0.0.1:7001".into()), ("ber2".into(), "http://10.0.0.2:7001".into())],
///     ..NodesConfig::default()
/// })?;
/// assert_eq!(nodes.id(), "fra1");
/// # Ok::<(), uncork::relay::ConfigError>(())
/// ```
#[derive(Clone)]
pub struct NodesConfig {
    /// The id of this node: 1 to 6 letters, digits, `-` or `_`. Every session and stream has it in its id, so it must
    /// stay the same while the node has any, and no other node may have it. No default.
    pub id: String,
    /// The key that all nodes share, at least 32 bytes. It signs ids and the requests between nodes. A program
    /// that has it is a node for the others. With a new key, all earlier ids are unknown. No default.
    pub key: Vec<u8>,
    /// All nodes: the id of each, and the URL of its [`NodeListener`](super::NodeListener), as
    /// `http://10.0.0.2:7001` or `https://ber2.internal:7001`, without a path. This node may be among them, so that the
    /// list can be the same everywhere. Default: none.
    pub nodes: Vec<(String, String)>,
    /// The root certificates that are trusted for `https` URLs, and the certificate to show there. Default: the
    /// system's roots. A clone of it can [replace](TlsClient::replace) them while the nodes run.
    pub tls: Option<TlsClient>,
    /// Timeout until there is a connection to another node. Then the client gets 502. Default: 2 s. (If the connection
    /// is refused, it gets 502 at once.)
    pub connect_timeout: Duration,
    /// Maximum number of connections to each of the other nodes. A forwarded request holds one until it has ended.
    /// Beyond it, a request gets 502. Default: no limit, because each belongs to a connection of this node's own
    /// server. There [`Limits::connections`](uncork::Limits::connections) applies, with a share for each address.
    pub connections: usize,
}

impl Default for NodesConfig {
    fn default() -> Self {
        Self {
            id: String::new(),
            key: Vec::new(),
            nodes: Vec::new(),
            tls: None,
            connect_timeout: Duration::from_secs(2),
            connections: usize::MAX,
        }
    }
}

/// Without the key.
impl fmt::Debug for NodesConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodesConfig").field("id", &self.id).field("nodes", &self.nodes).finish_non_exhaustive()
    }
}

/// The checked parts of a configuration.
pub(super) struct Checked {
    pub(super) own: Tag,
    pub(super) key: Key,
    /// The other nodes, with their URLs.
    pub(super) others: Vec<(Tag, String)>,
}

impl NodesConfig {
    pub(super) fn checked(&self) -> Result<Checked, ConfigError> {
        let own = tag(&self.id)?;
        if self.key.len() < SHORTEST {
            let given = self.key.len();
            return Err(error(format!("invalid key: {given} bytes, expected at least {SHORTEST} random bytes")));
        }
        let key = Key::new(&self.key).ok_or_else(|| error("invalid key".to_owned()))?;
        let (mut ids, mut urls, mut others) = (HashSet::new(), HashSet::new(), Vec::new());
        for (id, url) in &self.nodes {
            let (tag, url) = (tag(id)?, base(url)?);
            if !ids.insert(tag) {
                return Err(error(format!("invalid nodes: {id:?} is given twice")));
            }
            if !urls.insert(url.to_owned()) {
                return Err(error(format!("invalid nodes: {url} is given twice")));
            }
            if tag != own {
                others.push((tag, url.to_owned()));
            }
        }
        Ok(Checked { own, key, others })
    }
}

fn error(message: String) -> ConfigError {
    ConfigError::of(None, message)
}

fn tag(id: &str) -> Result<Tag, ConfigError> {
    Tag::parse(id)
        .ok_or_else(|| error(format!("invalid node id {id:?}: expected 1 to 6 letters, digits, \"-\" or \"_\"")))
}

/// Returns a URL without the slash at its end. It must have a port: there is no usual one for node listeners.
fn base(url: &str) -> Result<&str, ConfigError> {
    let invalid = || error(format!("invalid URL of a node {url:?}: expected http://HOST:PORT or https://HOST:PORT"));
    let base = url.strip_suffix('/').unwrap_or(url);
    let authority = base.strip_prefix("http://").or_else(|| base.strip_prefix("https://")).ok_or_else(invalid)?;
    let (host, port) = authority.rsplit_once(':').ok_or_else(invalid)?;
    let is_host = |b: u8| b.is_ascii_alphanumeric() || b"-._:[]%".contains(&b);
    let is_port = port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0);
    if host.is_empty() || !host.bytes().all(is_host) || !is_port {
        return Err(invalid());
    }
    Ok(base)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(change: impl FnOnce(&mut NodesConfig)) -> Result<usize, String> {
        let node = |id: &str, url: &str| (id.to_owned(), url.to_owned());
        let nodes =
            vec![node("a", "http://10.0.0.1:1"), node("b", "https://b.internal:2/"), node("c", "http://[::1]:3")];
        let mut config = NodesConfig { id: "a".into(), key: vec![0; 32], nodes, ..NodesConfig::default() };
        change(&mut config);
        config.checked().map(|checked| checked.others.len()).map_err(|error| error.to_string())
    }

    #[test]
    fn what_cannot_work_is_rejected_before_it_runs() {
        assert_eq!(with(|_| {}), Ok(2));
        assert_eq!(with(|c| c.id = "d".into()), Ok(3));
        for (change, says) in [
            ((|c| c.id.clear()) as fn(&mut NodesConfig), "invalid node id \"\""),
            (|c| c.id = "a.b".into(), "invalid node id \"a.b\""),
            (|c| c.key.truncate(31), "31 bytes"),
            (|c| c.nodes[1].0 = "a".into(), "\"a\" is given twice"),
            (|c| c.nodes[1].1 = "http://10.0.0.1:1/".into(), "http://10.0.0.1:1 is given twice"),
        ] {
            let error = with(change).unwrap_err();
            assert!(error.contains(says), "{error}");
        }
        for url in
            ["", "b:1", "ftp://b:1", "http://b", "http://b:", "http://b:0", "http://b:1/x", "http://u@b:1", "http://:1"]
        {
            let error = with(|c| c.nodes[1].1 = url.into()).unwrap_err();
            assert!(error.contains("invalid URL of a node"), "{url}: {error}");
        }
    }
}
