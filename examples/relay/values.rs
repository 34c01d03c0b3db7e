//! Types of settings: each is read from a flag or the file, and written into a file.

use std::{
    fmt,
    num::{NonZeroU32, NonZeroU64, NonZeroUsize},
    path::PathBuf,
    str::FromStr,
};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error, Unexpected, Visitor},
};
use uncork::relay::{
    Rendezvous, RendezvousConfig, SessionConfig, SessionRelay, Via,
    nodes::{DirectoryConfig, Nodes, NodesConfig, SentinelConfig},
};

use super::{logs, tunnel};

/// A value of a setting.
pub(crate) trait Value: Sized + Clone + DeserializeOwned {
    /// Parses the values of all occurrences of the flag. The last one counts if the flag cannot be repeated.
    fn from_args(args: &[&str]) -> Result<Self, String>;

    /// Returns the value as it is written in the file.
    fn toml(&self) -> String;

    /// Reads the value from the file.
    fn read<'de, D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Self::deserialize(from)
    }

    /// Value of the flag when it has none.
    const ALONE: Option<&'static str> = None;
    /// `true` if the flag may be repeated.
    const MANY: bool = false;
}

/// Quotes a string for TOML.
pub(crate) fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

fn last<'a>(args: &[&'a str]) -> &'a str {
    args.last().copied().unwrap_or_default()
}

/// Numbers: an error says what is expected in the same words, whether the flag or the file is wrong.
macro_rules! numbers {
    ($($kind:ty: $what:literal),*) => { $(
        impl Value for $kind {
            fn from_args(args: &[&str]) -> Result<Self, String> {
                last(args).parse().map_err(|_| concat!("expected ", $what).to_owned())
            }
            fn toml(&self) -> String {
                self.to_string()
            }
            fn read<'de, D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                struct Reader;
                impl Visitor<'_> for Reader {
                    type Value = $kind;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($what)
                    }
                    fn visit_i64<E: Error>(self, n: i64) -> Result<$kind, E> {
                        n.to_string().parse().map_err(|_| E::invalid_value(Unexpected::Signed(n), &self))
                    }
                    fn visit_u64<E: Error>(self, n: u64) -> Result<$kind, E> {
                        n.to_string().parse().map_err(|_| E::invalid_value(Unexpected::Unsigned(n), &self))
                    }
                }
                from.deserialize_any(Reader)
            }
        }
    )* };
}
numbers! {
    u32: "a number, at least 0", u64: "a number, at least 0", usize: "a number, at least 0",
    NonZeroU32: "a number, at least 1", NonZeroU64: "a number, at least 1", NonZeroUsize: "a number, at least 1"
}

impl Value for bool {
    const ALONE: Option<&'static str> = Some("true");
    fn from_args(args: &[&str]) -> Result<Self, String> {
        last(args).parse().map_err(|_| "expected true or false".to_owned())
    }
    fn toml(&self) -> String {
        self.to_string()
    }
}

impl Value for String {
    fn from_args(args: &[&str]) -> Result<Self, String> {
        Ok(last(args).to_owned())
    }
    fn toml(&self) -> String {
        quoted(self)
    }
}

impl Value for PathBuf {
    fn from_args(args: &[&str]) -> Result<Self, String> {
        Ok(last(args).into())
    }
    fn toml(&self) -> String {
        quoted(&self.to_string_lossy())
    }
}

impl<T: FromStr<Err = String> + fmt::Display + Clone + DeserializeOwned> Value for Vec<T> {
    const MANY: bool = true;
    fn from_args(args: &[&str]) -> Result<Self, String> {
        args.iter().filter(|arg| !arg.is_empty()).map(|arg| arg.parse()).collect()
    }
    fn toml(&self) -> String {
        let items: Vec<String> = self.iter().map(|item| quoted(&item.to_string())).collect();
        format!("[{}]", items.join(", "))
    }
}

/// A text that is checked when it is read, so that an error names its line.
macro_rules! text {
    ($(#[doc = $about:literal])* $name:ident, |$text:ident| $check:expr) => {
        $(#[doc = $about])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub(crate) struct $name(pub(crate) String);

        impl FromStr for $name {
            type Err = String;
            fn from_str($text: &str) -> Result<Self, String> {
                $check?;
                Ok(Self($text.to_owned()))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                String::deserialize(from)?.parse().map_err(Error::custom)
            }
        }

        impl From<&str> for $name {
            /// Makes a default, which needs no check.
            fn from(text: &str) -> Self {
                Self(text.to_owned())
            }
        }
    };
}
macro_rules! text_value {
    ($($name:ident),*) => { $(
        impl Value for $name {
            fn from_args(args: &[&str]) -> Result<Self, String> {
                last(args).parse()
            }
            fn toml(&self) -> String {
                quoted(&self.0)
            }
        }
    )* };
}
text_value!(BasePath, Level, AdminAddress, Url, ServerName, ViaName, NodeId, NodeAddress, DirectoryUrl, OriginAddress);

// The services check these values.
text! {
    /// The base path of a service.
    BasePath, |text| {
        let config = RendezvousConfig { base_path: text.to_owned(), ..RendezvousConfig::default() };
        Rendezvous::new(config).map_err(|error| format!("{text:?}: {error}"))
    }
}
text! {
    /// An origin of web pages.
    Origin, |text| {
        let config = RendezvousConfig { allowed_origins: vec![text.to_owned()], ..RendezvousConfig::default() };
        Rendezvous::new(config).map_err(|error| format!("{text:?}: {error}"))
    }
}
text! {
    /// The value of the Server field.
    ServerName, |text| {
        let config = SessionConfig { server: text.to_owned(), ..SessionConfig::default() };
        SessionRelay::new(config).map_err(|error| format!("{text:?}: {error}"))
    }
}
text! {
    /// The name in the Via field; empty for a random one.
    ViaName, |text| {
        let named = if text.is_empty() { Ok(()) } else { Via::named(text).map(drop) };
        named.map_err(|error| format!("{text:?}: {error}"))
    }
}
text! {
    /// A log level.
    Level, |text| logs::parse_level(text)
}
text! {
    /// The address of the admin listener.
    AdminAddress, |text| match text {
        "off" | "auto" => Ok(()),
        _ => text.parse::<std::net::SocketAddr>().map(drop).map_err(|_| {
            format!("invalid address {text:?}: expected an address and a port (127.0.0.1:9090), auto or off")
        }),
    }
}
text! {
    /// A URL of the gateway's application; empty for none.
    Url, |text| {
        let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
        let is_valid = text.is_empty() || rest.is_some_and(|rest| rest.starts_with(|c: char| c != '/' && c.is_ascii_graphic()));
        is_valid.then_some(()).ok_or_else(|| format!("invalid URL {text:?}: expected http://127.0.0.1:8000/connect"))
    }
}
text! {
    /// A header field: `Name: value`.
    Field, |text| {
        text.contains(':').then_some(()).ok_or_else(|| format!("invalid field {text:?}: expected \"Name: value\""))
    }
}

text! {
    /// The id of a node; empty for none.
    NodeId, |text| if text.is_empty() { Ok(()) } else { check_node(text, &[]) }
}
text! {
    /// The address of the listener for nodes; empty for none.
    NodeAddress, |text| match text.is_empty() || text.parse::<std::net::SocketAddr>().is_ok() {
        true => Ok(()),
        false => Err(format!("invalid address {text:?}: expected an address and a port (10.0.0.1:7001)")),
    }
}
text! {
    /// A node: `ID URL`.
    NodeEntry, |text| match text.split_once(' ') {
        Some((id, url)) => check_node(id, &[(id.to_owned(), url.to_owned())]),
        None => Err(format!("invalid node {text:?}: expected \"ID URL\", as \"ber2 http://10.0.0.2:7001\"")),
    }
}

impl NodeEntry {
    pub(crate) fn id(&self) -> &str {
        self.0.split_once(' ').map_or(&self.0, |(id, _)| id)
    }

    pub(crate) fn url(&self) -> &str {
        self.0.split_once(' ').map_or("", |(_, url)| url)
    }
}

/// Checks the id of a node, and other nodes.
fn check_node(id: &str, nodes: &[(String, String)]) -> Result<(), String> {
    let config = NodesConfig { id: id.to_owned(), key: vec![0; 32], nodes: nodes.to_vec(), ..NodesConfig::default() };
    Nodes::new(config).map(drop).map_err(|error| error.to_string())
}

text! {
    /// The URL of the directory; empty for none. With Sentinels or a cluster it has no host, so it is
    /// checked with them at the start.
    DirectoryUrl, |text| match text.is_empty() || text.starts_with("redis") || text.starts_with("unix:") {
        true => Ok(()),
        false => Err(format!("invalid URL {text:?}: expected redis://HOST:PORT, rediss://HOST:PORT or unix:PATH")),
    }
}

text! {
    /// The URL of a Sentinel.
    SentinelUrl, |text| {
        let sentinel = SentinelConfig { urls: vec![text.to_owned()], master: "x".into(), ..SentinelConfig::default() };
        let config =
            DirectoryConfig { url: "redis://".into(), sentinel: Some(sentinel), ..DirectoryConfig::default() };
        config.check().map_err(|error| format!("invalid URL {text:?}: {error}"))
    }
}

text! {
    /// A node of a Redis Cluster.
    ClusterNode, |text| {
        let config =
            DirectoryConfig { url: "redis://".into(), cluster: vec![text.to_owned()], ..DirectoryConfig::default() };
        config.check().map_err(|error| format!("invalid address {text:?}: {error}"))
    }
}

text! {
    /// Where origin servers reach a node: `NAME:PORT`; empty for none.
    OriginAddress, |text| if text.is_empty() { Ok(()) } else { tunnel::check_address(text) }
}

text! {
    /// An origin server that may connect: `NAME SHA256 HOST…`.
    TunnelToken, |text| tunnel::credential(text)
}

/// A number of threads; 0 for one per processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Threads(pub(crate) u16);

impl Value for Threads {
    fn from_args(args: &[&str]) -> Result<Self, String> {
        let n = last(args).parse().ok().filter(|n| *n <= 1024);
        n.map(Self).ok_or_else(|| "expected a number, at most 1024".to_owned())
    }
    fn toml(&self) -> String {
        self.0.to_string()
    }
}

impl<'de> Deserialize<'de> for Threads {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Self::from_args(&[&i64::deserialize(from)?.to_string()]).map_err(Error::custom)
    }
}

/// A number of bytes: `512`, `"64k"`, `"1G"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bytes(pub(crate) u64);

impl Value for Bytes {
    fn from_args(args: &[&str]) -> Result<Self, String> {
        super::common::bytes(last(args)).map(Self)
    }
    fn toml(&self) -> String {
        let unit = [("T", 40), ("G", 30), ("M", 20), ("k", 10)].into_iter().find(|(_, shift)| {
            let size = 1_u64 << shift;
            self.0 >= size && self.0.is_multiple_of(size)
        });
        match unit {
            Some((unit, shift)) => quoted(&format!("{}{unit}", self.0 >> shift)),
            None => self.0.to_string(),
        }
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Reader;
        impl Visitor<'_> for Reader {
            type Value = Bytes;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of bytes, as 65536 or \"64k\" (k, M, G, T)")
            }
            fn visit_i64<E: Error>(self, n: i64) -> Result<Bytes, E> {
                u64::try_from(n).map(Bytes).map_err(|_| E::custom("expected a number that is not negative"))
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Bytes, E> {
                super::common::bytes(text).map(Bytes).map_err(E::custom)
            }
        }
        from.deserialize_any(Reader)
    }
}

/// One of a few values.
macro_rules! choices {
    ($(#[doc = $about:literal])* $name:ident { $($(#[doc = $doc:literal])* $choice:ident = $text:literal),* } $(alone $alone:literal)?) => {
        $(#[doc = $about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
        pub(crate) enum $name { $($(#[doc = $doc])* #[serde(rename = $text)] $choice),* }

        impl Value for $name {
            $(const ALONE: Option<&'static str> = Some($alone);)?
            fn from_args(args: &[&str]) -> Result<Self, String> {
                match last(args) {
                    $($text => Ok(Self::$choice),)*
                    _ => Err(format!("expected one of: {}", [$($text),*].join(", "))),
                }
            }
            fn toml(&self) -> String {
                quoted(match self { $(Self::$choice => $text),* })
            }
        }
    };
}
choices! {
    /// Type of event loop.
    Mode { Threads = "threads", External = "external", ThreadPerConnection = "thread-per-connection" }
}
choices! {
    /// Format of log lines.
    LogFormat { Text = "text", Json = "json" }
}
choices! {
    /// Format of the access log.
    AccessFormat { Off = "off", Combined = "combined", Json = "json" } alone "combined"
}
choices! {
    /// The field in which a trusted proxy names the client.
    ForwardedField { Any = "any", XForwardedFor = "x-forwarded-for", Forwarded = "forwarded", None = "none" }
}

choices! {
    /// Origins whose pages may connect to the gateway.
    OriginRule { All = "all", SameOrigin = "same-origin", SameHostname = "same-hostname" }
}
choices! {
    /// Which of several origin servers gets a request.
    BalanceRule { RoundRobin = "round-robin", LeastBusy = "least-busy" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_written_as_they_are_read() {
        for (text, n) in [("0", 0), ("1000", 1000), ("\"64k\"", 65536), ("\"1T\"", 1 << 40), ("1025", 1025)] {
            assert_eq!(Bytes(n).toml(), text);
            let table: toml::Table = format!("x = {text}").parse().expect("toml");
            assert_eq!(table["x"].clone().try_into::<Bytes>().expect("bytes"), Bytes(n));
        }
        assert!(Bytes::from_args(&["5 apples"]).is_err() && Bytes::from_args(&["-1"]).is_err());
    }

    #[test]
    fn a_word_that_is_none_names_those_that_are() {
        let error = Mode::from_args(&["fast"]).expect_err("no mode");
        assert!(error.contains("thread-per-connection"), "{error}");
        assert_eq!(AccessFormat::ALONE, Some("combined"));
    }
}
