//! What a node tells others about itself.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::relay::json::JsonObject;

/// The path of the question, on the listener for nodes.
pub(super) const PATH: &str = "/node";

/// What another node has said about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NodeReport {
    /// Its version of this crate.
    pub version: String,
    /// Number of its sessions.
    pub sessions: u64,
    /// Number of its streams that have not ended.
    pub streams: u64,
    /// Number of its connections of the tunnel's origin servers. `None` if it has no tunnel for nodes, or an earlier
    /// version.
    pub origin_connections: Option<u64>,
    /// How far its clock is ahead of this node's, in milliseconds; negative if it is behind. The error is at most half
    /// the time of the question, so half a second. Requests are rejected if the clocks differ by more than a minute.
    pub clock_ahead: i64,
}

impl NodeReport {
    /// Returns the JSON of this node.
    pub(super) fn json(sessions: usize, streams: usize, origins: Option<u64>, now: SystemTime) -> String {
        let json = JsonObject::new().member("version", env!("CARGO_PKG_VERSION"));
        let json = json.member("sessions", sessions).member("streams", streams);
        let json = match origins {
            Some(origins) => json.member("origin_connections", origins),
            None => json,
        };
        json.member("time", millis(now)).end()
    }

    /// Reads the JSON of another node, of the same version or another. `asked`: when it was written,
    /// by the clock of this node.
    pub(super) fn parse(json: &[u8], asked: SystemTime) -> Option<Self> {
        let json: serde_json::Value = serde_json::from_slice(json).ok()?;
        let number = |name: &str| json.get(name)?.as_u64();
        Some(Self {
            version: json.get("version")?.as_str()?.to_owned(),
            sessions: number("sessions")?,
            streams: number("streams")?,
            origin_connections: number("origin_connections"),
            clock_ahead: json.get("time")?.as_i64()?.saturating_sub(millis(asked)),
        })
    }
}

fn millis(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let at = |seconds: u64| UNIX_EPOCH + Duration::from_secs(1_800_000_000 + seconds);
        let read = NodeReport::parse(NodeReport::json(3, 4, Some(5), at(10)).as_bytes(), at(12)).unwrap();
        assert_eq!((read.sessions, read.streams, read.clock_ahead), (3, 4, -2000));
        assert_eq!(read.origin_connections, Some(5));
        let earlier = NodeReport::parse(NodeReport::json(3, 4, None, at(10)).as_bytes(), at(12)).unwrap();
        assert_eq!(earlier, NodeReport { origin_connections: None, ..read });
        for bad in ["", "[]", "{}", r#"{"version":1,"sessions":1,"streams":1,"time":1}"#, r#"{"version":"1","time":1}"#]
        {
            assert_eq!(NodeReport::parse(bad.as_bytes(), at(0)), None, "{bad}");
        }
    }
}
