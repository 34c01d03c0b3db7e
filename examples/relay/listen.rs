//! Listeners: from the settings to sockets.
//!
//! A listener is a TCP socket, a Unix socket, or a socket inherited from systemd or another parent process. Each is
//! HTTP or HTTPS, and open to all clients or only to proxies that use the PROXY protocol.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    str::FromStr,
};

use serde::{
    Deserialize, Deserializer,
    de::{Error, SeqAccess, Visitor},
};
use uncork::{Listen as Socket, Server, Tls, TlsError, relay::tunnel::Proxy};

use super::{
    Failure, files,
    inherited::{Inherited, Socket as InheritedSocket},
    settings::Settings,
    values::{Value, quoted},
};

/// One listener, as it is written in the settings.
#[derive(Clone, Debug, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", expecting = "[[listen]], one for each listener")]
pub(crate) struct Listen {
    #[serde(deserialize_with = "address")]
    pub(crate) address: String,
    /// `true` for HTTPS. By default: with a certificate of its own, or on TCP if `[tls]` has one.
    pub(crate) tls: Option<bool>,
    #[serde(default)]
    pub(crate) tls_cert: PathBuf,
    #[serde(default)]
    pub(crate) tls_key: PathBuf,
    #[serde(default)]
    pub(crate) proxy_protocol: bool,
}

/// Comment on listeners in the printed file.
pub(crate) const ABOUT: &str = "\
# Listeners; one [[listen]] for each.
#
#   address         127.0.0.1:8080; [::]:443 (IPv4, too); port 0 is chosen by the system;
#                   unix:/run/relay.sock; systemd for all inherited sockets (LISTEN_FDS),
#                   systemd:NAME for those with that FileDescriptorName
#   tls             true for HTTPS [default: if it has a certificate of its own, or is TCP and [tls] has one]
#   tls-cert        its own certificate chain in PEM
#   tls-key         its own private key in PEM
#   proxy-protocol  true to accept only trusted proxies, which must send a header of the PROXY protocol (version 1 or 2)
#
# Flag: --listen ADDRESS[,tls=BOOL][,tls-cert=FILE,tls-key=FILE][,proxy-protocol]; may be repeated
";

/// Maximum number of URLs printed for one listener: a machine may have hundreds of addresses.
const MAX_URLS: usize = 8;

/// Address of the default listener.
pub(crate) const DEFAULT: &str = "127.0.0.1:8080";

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.split(',');
        let address = parts.next().unwrap_or_default();
        check_address(address)?;
        let mut listen = Self { address: address.to_owned(), ..Self::default() };
        for part in parts {
            let (key, value) = part.split_once('=').unwrap_or((part, "true"));
            match key {
                "tls" => listen.tls = Some(bool::from_args(&[value])?),
                "tls-cert" => listen.tls_cert = value.into(),
                "tls-key" => listen.tls_key = value.into(),
                "proxy-protocol" => listen.proxy_protocol = bool::from_args(&[value])?,
                _ => return Err(format!("invalid option {key:?}: expected tls, tls-cert, tls-key or proxy-protocol")),
            }
        }
        Ok(listen)
    }
}

impl Listen {
    pub(crate) fn toml(&self) -> String {
        let mut text = format!("[[listen]]\naddress = {}\n", quoted(&self.address));
        if let Some(tls) = self.tls {
            text += &format!("tls = {tls}\n");
        }
        for (key, file) in [("tls-cert", &self.tls_cert), ("tls-key", &self.tls_key)] {
            if !file.as_os_str().is_empty() {
                text += &format!("{key} = {}\n", file.toml());
            }
        }
        if self.proxy_protocol {
            text += "proxy-protocol = true\n";
        }
        text
    }

    /// Returns `true` if this listener and that address need the same port. Names are not resolved.
    pub(crate) fn takes(&self, addr: SocketAddr) -> bool {
        self.tcp_addr().is_some_and(|own| collide(own, addr))
    }

    /// Returns the address of a TCP listener, unless it has a host name.
    fn tcp_addr(&self) -> Option<SocketAddr> {
        let Address::Tcp(addr) = self.parsed_address() else { return None };
        addr.parse().ok()
    }

    fn parsed_address(&self) -> Address<'_> {
        Address::of(&self.address)
    }

    /// Returns certificate and key, if the listener is HTTPS.
    pub(crate) fn identity<'a>(&'a self, settings: &'a Settings) -> Result<Option<(&'a PathBuf, &'a PathBuf)>, String> {
        let own = pair(&self.tls_cert, &self.tls_key, "tls-cert", "tls-key")?;
        let general = pair(&settings.tls.cert, &settings.tls.key, "--tls-cert", "--tls-key")?;
        match (self.tls, own, general) {
            (Some(false), Some(_), _) => Err(format!("{self}: a certificate contradicts tls = false")),
            (Some(false), None, _) => Ok(None),
            (_, Some(own), _) => Ok(Some(own)),
            (Some(true), None, None) => Err(format!("{self}: HTTPS needs a certificate: add tls-cert and tls-key")),
            (Some(true), None, general) => Ok(general),
            (None, None, general) => Ok(general.filter(|_| matches!(self.parsed_address(), Address::Tcp(_)))),
        }
    }
    /// Reads a certificate and its key, as [`identity`](Self::identity) returns them.
    pub(crate) fn load<T: Send + 'static>(
        &self,
        cert: &Path,
        key: &Path,
        read: impl FnOnce(&Path, &Path) -> Result<T, TlsError> + Send + 'static,
    ) -> Result<T, Failure> {
        if self.tls_cert.as_os_str().is_empty() {
            return load("--", cert, key, read);
        }
        load("", cert, key, read).map_err(|Failure(message, code)| Failure(format!("--listen {self}: {message}"), code))
    }
}

/// Returns `true` if only one of two sockets can listen. `[::]` serves IPv4 as well.
fn collide(one: SocketAddr, other: SocketAddr) -> bool {
    let (a, b) = (one.ip().to_canonical(), other.ip().to_canonical());
    let covers = |any: IpAddr, ip: IpAddr| any.is_unspecified() && (any.is_ipv6() || ip.is_ipv4());
    one.port() == other.port() && one.port() != 0 && (a == b || covers(a, b) || covers(b, a))
}

/// Returns the pair of certificate and key; an error if only one of them is set.
fn pair<'a>(
    cert: &'a PathBuf,
    key: &'a PathBuf,
    cert_name: &str,
    key_name: &str,
) -> Result<Option<(&'a PathBuf, &'a PathBuf)>, String> {
    match (cert.as_os_str().is_empty(), key.as_os_str().is_empty()) {
        (true, true) => Ok(None),
        (false, false) => Ok(Some((cert, key))),
        (false, true) => Err(format!("{cert_name} without {key_name}: a certificate needs its private key")),
        (true, false) => Err(format!("{key_name} without {cert_name}: a private key needs its certificate")),
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.address)
    }
}

enum Address<'a> {
    Tcp(&'a str),
    Unix(&'a str),
    Inherited(Option<&'a str>),
}

impl<'a> Address<'a> {
    fn of(address: &'a str) -> Self {
        match (address, address.strip_prefix("unix:"), address.strip_prefix("systemd:")) {
            ("systemd", ..) => Self::Inherited(None),
            (_, Some(path), _) => Self::Unix(path),
            (_, _, Some(name)) => Self::Inherited(Some(name)),
            _ => Self::Tcp(address),
        }
    }
}

/// Checks the syntax of an address. Whether the host or the directory of the socket exists is checked later.
fn check_address(address: &str) -> Result<(), String> {
    let invalid = |expected: &str| Err(format!("invalid address {address:?}: {expected}"));
    match Address::of(address) {
        Address::Tcp(text) if text.contains("://") => {
            invalid("expected an address and a port (127.0.0.1:8080); with a certificate it is HTTPS")
        }
        Address::Tcp(text) => match text.rsplit_once(':').map(|(host, port)| (host, port.parse::<u16>())) {
            Some((host, Ok(_))) if !host.is_empty() => Ok(()),
            _ => invalid("expected an address and a port (127.0.0.1:8080, [::1]:8080), unix:PATH or systemd"),
        },
        Address::Unix("") => invalid("expected the path of a socket, as unix:/run/relay.sock"),
        // The length is limited: sun_path of unix(7).
        Address::Unix(path) => match std::os::unix::net::SocketAddr::from_pathname(path) {
            Ok(_) => Ok(()),
            Err(error) => invalid(&format!("cannot use this path for a socket: {error}")),
        },
        Address::Inherited(_) => Ok(()),
    }
}

fn address<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let address = String::deserialize(from)?;
    check_address(&address).map(|()| address).map_err(D::Error::custom)
}

/// Reads the listeners of the file.
pub(crate) fn sections<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Listen>, D::Error> {
    struct Reader;
    impl<'de> Visitor<'de> for Reader {
        type Value = Vec<Listen>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("[[listen]], one for each listener")
        }
        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<Listen>, A::Error> {
            let mut all = Vec::new();
            while let Some(listen) = list.next_element()? {
                all.push(listen);
            }
            Ok(all)
        }
    }
    from.deserialize_any(Reader)
}

/// An open listener.
pub(crate) struct OpenListener {
    /// The listener in the settings.
    pub(crate) listen: Listen,
    pub(crate) tls: Option<Tls>,
    /// URL for the log.
    pub(crate) url: String,
}

impl OpenListener {
    /// Returns the URLs by which other computers reach the listener, as far as this one knows: those of its addresses
    /// in networks. A proxy or a NAT in front has others.
    pub(crate) fn urls_for_others(&self) -> Vec<String> {
        let Some((scheme, addr)) = self.url.split_once("://") else { return Vec::new() };
        let Ok(own) = addr.parse::<SocketAddr>() else { return Vec::new() };
        if !own.ip().is_unspecified() {
            return if own.ip().is_loopback() { Vec::new() } else { vec![format!("{}/", self.url)] };
        }
        let interfaces = if_addrs::get_if_addrs().unwrap_or_default();
        let reachable = |ip: &IpAddr| match ip {
            IpAddr::V4(ip) => !ip.is_loopback() && !ip.is_link_local(),
            IpAddr::V6(ip) => own.is_ipv6() && !ip.is_loopback() && !ip.is_unicast_link_local(),
        };
        let addresses = interfaces.iter().map(if_addrs::Interface::ip).filter(reachable);
        addresses.take(MAX_URLS).map(|ip| format!("{scheme}://{}/", SocketAddr::new(ip, own.port()))).collect()
    }
}

/// Returns the listeners of the settings, or the default one.
pub(crate) fn wanted(settings: &Settings) -> Vec<Listen> {
    match settings.listen.as_slice() {
        [] => vec![Listen { address: DEFAULT.to_owned(), ..Listen::default() }],
        listen => listen.to_vec(),
    }
}

/// Checks all listeners and reads their certificates, without listening.
pub(crate) fn check(settings: &Settings) -> Result<Vec<(Listen, Option<Tls>)>, Failure> {
    let mut checked = Vec::new();
    for listen in wanted(settings) {
        let address = listen.address.as_str();
        let is_duplicate = checked.iter().any(|(other, _): &(Listen, _)| other.address == address);
        if is_duplicate && !(matches!(listen.parsed_address(), Address::Tcp(_)) && address.ends_with(":0")) {
            return Err(Failure::config(format!("--listen {address}: given twice")));
        }
        let addr = listen.tcp_addr();
        if let Some((other, _)) = checked.iter().find(|(other, _)| addr.is_some_and(|addr| other.takes(addr))) {
            return Err(Failure::config(format!("--listen {other} and --listen {address} need the same port")));
        }
        if listen.proxy_protocol && settings.proxies.trusted.is_empty() {
            let message = "the PROXY protocol needs a trusted proxy: add --trusted-proxy";
            return Err(Failure::config(format!("--listen {address}: {message}")));
        }
        if let Address::Unix(path) = listen.parsed_address() {
            check_unix(Path::new(path)).map_err(|message| Failure::config(format!("--listen {address}: {message}")))?;
        }
        let tls = match listen.identity(settings).map_err(Failure::config)? {
            Some((cert, key)) => {
                // Origin servers that offer one of these protocols save the round trip of an upgrade.
                let alpn = if settings.tunnel.tokens.is_empty() { &[] } else { Proxy::ALPN };
                let build =
                    move |cert: &Path, key: &Path| Tls::builder().pem(cert, key)?.alpn(alpn.iter().copied()).build();
                Some(listen.load(cert, key, build)?)
            }
            None => None,
        };
        checked.push((listen, tls));
    }
    // Origin servers connect by HTTPS, to a listener here or to a trusted proxy in front.
    let has_https = checked.iter().any(|(_, tls)| tls.is_some()) || !settings.proxies.trusted.is_empty();
    if !settings.tunnel.tokens.is_empty() && !has_https {
        let message = "[tunnel] origin servers connect by HTTPS only: add --tls-cert and --tls-key, or --trusted-proxy";
        return Err(Failure::config(message.to_owned()));
    }
    Ok(checked)
}

/// Rejects a path where no socket can be created, as far as this can be found out without creating it.
fn check_unix(path: &Path) -> Result<(), String> {
    use std::os::unix::fs::FileTypeExt;
    if let Some(dir) = path.parent().filter(|dir| *dir != Path::new("")) {
        let is_dir = std::fs::metadata(dir).map_err(|error| format!("cannot find its directory: {error}"))?.is_dir();
        is_dir.then_some(()).ok_or_else(|| format!("{} is not a directory", dir.display()))?;
    }
    match std::fs::symlink_metadata(path) {
        Ok(there) if !there.file_type().is_socket() => Err("the file exists and is not a socket".to_owned()),
        _ => Ok(()),
    }
}

/// Reads a certificate and its key. `prefix` begins the flags that name the files: `--` for `--tls-cert`.
pub(crate) fn load<T: Send + 'static>(
    prefix: &str,
    cert: &Path,
    key: &Path,
    read: impl FnOnce(&Path, &Path) -> Result<T, TlsError> + Send + 'static,
) -> Result<T, Failure> {
    let what = format!("certificate {} and key {}", cert.display(), key.display());
    let (own_cert, own_key) = (cert.to_owned(), key.to_owned());
    let read = files::with_timeout(&what, move || read(&own_cert, &own_key)).map_err(Failure::config)?;
    read.map_err(|error| {
        let TlsError::Unreadable { file, error } = error else { return Failure::config(error.to_string()) };
        let name = match Path::new(&file) {
            path if path == cert => "tls-cert",
            path if path == key => "tls-key",
            _ => "tls-ca",
        };
        let reason = match error.kind() {
            std::io::ErrorKind::NotFound => "no such file".to_owned(),
            _ => error.to_string(),
        };
        Failure::config(format!("cannot read {prefix}{name} {file}: {reason}"))
    })
}

/// Opens all listeners. `trusted` returns `true` for proxies that may use the PROXY protocol.
pub(crate) fn listen(
    checked: Vec<(Listen, Option<Tls>)>,
    mut inherited: Inherited,
    trusted: impl Fn(&uncork::PeerAddr) -> bool + Clone + Send + Sync + 'static,
) -> Result<(Server, Vec<OpenListener>), Failure> {
    let mut all = OpenListeners { server: Server::new(), open: Vec::new() };
    // Sockets with a name are taken first; `systemd` takes the rest.
    let mut sockets: Vec<Vec<InheritedSocket>> = Vec::new();
    for (listen, _) in &checked {
        sockets.push(match listen.parsed_address() {
            Address::Inherited(Some(name)) => inherited.take_named(Some(name)),
            _ => Vec::new(),
        });
    }
    for ((listen, tls), mut sockets) in checked.into_iter().zip(sockets) {
        let trusted = trusted.clone();
        match listen.parsed_address() {
            Address::Tcp(addr) => {
                let socket = Socket::tcp(addr).map_err(|error| match error.kind() {
                    std::io::ErrorKind::InvalidInput => Failure::config(format!("--listen {addr}: {error}")),
                    _ => Failure::system_message(error.to_string()),
                })?;
                let bound = socket.local_addr().map_or_else(|| addr.to_owned(), |addr| addr.to_string());
                all.add(&listen, &tls, trusted, socket, &bound);
            }
            Address::Unix(path) => {
                let socket = Socket::unix(path)
                    .map_err(|error| Failure::system(&format!("cannot listen on unix:{path}"), &error))?;
                all.add(&listen, &tls, trusted, socket, &format!("unix:{path}"));
            }
            Address::Inherited(name) => {
                if name.is_none() {
                    sockets = inherited.take_named(None);
                }
                if sockets.is_empty() {
                    let what = name.map_or_else(|| "no socket".to_owned(), |name| format!("no socket named {name:?}"));
                    let message = format!("--listen {listen}: {what} was inherited (LISTEN_FDS, FileDescriptorName)");
                    return Err(Failure::config(message));
                }
                for InheritedSocket { fd, addr, .. } in sockets {
                    let socket = Socket::inherited(fd)
                        .map_err(|error| Failure::system(&format!("cannot listen on {addr}"), &error))?;
                    all.add(&listen, &tls, trusted.clone(), socket, &addr);
                }
            }
        }
    }
    if !inherited.is_empty() {
        log::warn!("some inherited sockets (LISTEN_FDS) are unused: add --listen systemd");
    }
    if all.open.is_empty() {
        return Err(Failure::config("there is no listener".to_owned()));
    }
    Ok((all.server, all.open))
}

struct OpenListeners {
    server: Server,
    open: Vec<OpenListener>,
}

impl OpenListeners {
    fn add(
        &mut self,
        listen: &Listen,
        tls: &Option<Tls>,
        trusted: impl Fn(&uncork::PeerAddr) -> bool + Send + Sync + 'static,
        mut socket: Socket,
        addr: &str,
    ) {
        let scheme = if tls.is_some() { "https" } else { "http" };
        if let Some(tls) = tls {
            socket = socket.tls(tls.clone());
        }
        if listen.proxy_protocol {
            socket = socket.proxy_protocol(trusted);
        }
        self.server = std::mem::take(&mut self.server).listen(socket);
        self.open.push(OpenListener { listen: listen.clone(), tls: tls.clone(), url: format!("{scheme}://{addr}") });
    }
}
