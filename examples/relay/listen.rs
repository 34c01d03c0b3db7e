//! Where to listen: what is written in the settings, and the sockets it becomes.
//!
//! A listener is TCP, a Unix socket, or one that systemd (or whoever else started us) hands over; each is plain or HTTPS,
//! and open to everybody or to proxies that speak the PROXY protocol.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    str::FromStr,
};

use serde::{Deserialize, Deserializer, de::Error};
use uncork::{Listen as Socket, Server, Tls, TlsError};

use super::{
    Failure, files,
    settings::Settings,
    values::{Value, quoted},
};

/// One listener, as it is written.
#[derive(Clone, Debug, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Listen {
    #[serde(deserialize_with = "address")]
    pub(crate) address: String,
    /// Whether it speaks HTTPS. If it is not said: with a certificate of its own, or by TCP if there is a general one.
    pub(crate) tls: Option<bool>,
    #[serde(default)]
    pub(crate) tls_cert: PathBuf,
    #[serde(default)]
    pub(crate) tls_key: PathBuf,
    #[serde(default)]
    pub(crate) proxy_protocol: bool,
}

/// What is said of listeners in the printed file.
pub(crate) const ABOUT: &str = "\
# Where to listen; there may be several.
#
#   address         127.0.0.1:8080, [::]:443 (v4 as well), a port of 0 lets the system choose one;
#                   unix:/run/relay.sock; systemd for all sockets that are handed over (LISTEN_FDS),
#                   systemd:NAME for those of that FileDescriptorName
#   tls             whether it speaks HTTPS [default: if it has a certificate of its own, or is TCP and [tls] has one]
#   tls-cert        its own certificate chain in PEM
#   tls-key         and private key
#   proxy-protocol  only trusted proxies come here, and say first for whom, by the PROXY protocol (version 1 or 2)
#
# Flag: --listen ADDRESS[,tls=BOOL][,tls-cert=FILE,tls-key=FILE][,proxy-protocol]; may be repeated
";

/// The default.
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
                "tls" => listen.tls = Some(bool::from_words(&[value])?),
                "tls-cert" => listen.tls_cert = value.into(),
                "tls-key" => listen.tls_key = value.into(),
                "proxy-protocol" => listen.proxy_protocol = bool::from_words(&[value])?,
                _ => return Err(format!("{key:?} is no option of a listener: tls, tls-cert, tls-key, proxy-protocol")),
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

    /// Returns `true` if it needs the port of that address, too. Names are not looked up.
    pub(crate) fn takes(&self, addr: SocketAddr) -> bool {
        self.tcp_addr().is_some_and(|own| collide(own, addr))
    }

    /// `None`: it is none of TCP, or has a name.
    fn tcp_addr(&self) -> Option<SocketAddr> {
        let Place::Tcp(addr) = self.place() else { return None };
        addr.parse().ok()
    }

    fn place(&self) -> Place<'_> {
        Place::of(&self.address)
    }

    /// Certificate and key, if it speaks HTTPS.
    pub(crate) fn identity<'a>(&'a self, settings: &'a Settings) -> Result<Option<(&'a PathBuf, &'a PathBuf)>, String> {
        let own = pair(&self.tls_cert, &self.tls_key, "tls-cert", "tls-key")?;
        let general = pair(&settings.tls.cert, &settings.tls.key, "--tls-cert", "--tls-key")?;
        match (self.tls, own, general) {
            (Some(false), Some(_), _) => Err(format!("{self}: it has a certificate, and tls = false")),
            (Some(false), None, _) => Ok(None),
            (_, Some(own), _) => Ok(Some(own)),
            (Some(true), None, None) => Err(format!("{self}: HTTPS takes a certificate: give tls-cert and tls-key")),
            (Some(true), None, general) => Ok(general),
            (None, None, general) => Ok(general.filter(|_| matches!(self.place(), Place::Tcp(_)))),
        }
    }
}

/// Returns `true` if only one of two sockets can listen. `[::]` serves IPv4 as well.
fn collide(one: SocketAddr, other: SocketAddr) -> bool {
    let (a, b) = (one.ip().to_canonical(), other.ip().to_canonical());
    let covers = |any: IpAddr, ip: IpAddr| any.is_unspecified() && (any.is_ipv6() || ip.is_ipv4());
    one.port() == other.port() && one.port() != 0 && (a == b || covers(a, b) || covers(b, a))
}

/// Both or none.
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

enum Place<'a> {
    Tcp(&'a str),
    Unix(&'a str),
    Inherited(Option<&'a str>),
}

impl<'a> Place<'a> {
    fn of(address: &'a str) -> Self {
        match (address, address.strip_prefix("unix:"), address.strip_prefix("systemd:")) {
            ("systemd", ..) => Self::Inherited(None),
            (_, Some(path), _) => Self::Unix(path),
            (_, _, Some(name)) => Self::Inherited(Some(name)),
            _ => Self::Tcp(address),
        }
    }
}

/// Whether it looks like an address. Whether there is such a host, or a place for that socket, is found out later.
fn check_address(address: &str) -> Result<(), String> {
    let wrong = |words: &str| Err(format!("{address:?}: {words}"));
    match Place::of(address) {
        Place::Tcp(text) if text.contains("://") => {
            wrong("give an address and a port (127.0.0.1:8080); where there is a certificate, it is HTTPS")
        }
        Place::Tcp(text) => match text.rsplit_once(':').map(|(host, port)| (host, port.parse::<u16>())) {
            Some((host, Ok(_))) if !host.is_empty() => Ok(()),
            _ => wrong("give an address and a port (127.0.0.1:8080, [::1]:8080), unix:PATH or systemd"),
        },
        Place::Unix("") => wrong("give the path of the socket, as unix:/run/relay.sock"),
        // Its length is limited: sun_path of unix(7).
        Place::Unix(path) => match std::os::unix::net::SocketAddr::from_pathname(path) {
            Ok(_) => Ok(()),
            Err(error) => wrong(&format!("no socket can have that path: {error}")),
        },
        Place::Inherited(_) => Ok(()),
    }
}

fn address<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let address = String::deserialize(from)?;
    check_address(&address).map(|()| address).map_err(D::Error::custom)
}

/// Sockets that were handed over when we were started: by systemd's protocol, LISTEN_FDS.
pub(crate) struct Inherited(Vec<Option<(String, OwnedFd, String)>>);

impl Inherited {
    /// Takes them, and the variables that tell of them out of the environment. To be called before there are threads.
    pub(crate) fn take() -> Result<Self, Failure> {
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':');
        let mut fds = listenfd::ListenFd::from_env();
        let mut taken = Vec::new();
        for index in 0..fds.len() {
            let name = names.next().unwrap_or_default().to_owned();
            let tcp = fds.take_tcp_listener(index).ok().flatten();
            let socket = match tcp {
                Some(listener) => {
                    let addr =
                        listener.local_addr().map_err(|error| Failure::system(&"an inherited socket", &error))?;
                    Some((name, OwnedFd::from(listener), addr.to_string()))
                }
                None => match fds.take_unix_listener(index) {
                    Ok(Some(listener)) => {
                        let path = listener.local_addr().ok().and_then(|addr| addr.as_pathname().map(PathBuf::from));
                        let path = path.map_or_else(String::new, |path| path.display().to_string());
                        Some((name, OwnedFd::from(listener), format!("unix:{path}")))
                    }
                    Ok(None) => None,
                    Err(error) => {
                        return Err(Failure::system(
                            &format!("inherited socket {index} {name:?}: TCP or Unix"),
                            &error,
                        ));
                    }
                },
            };
            taken.push(socket);
        }
        Ok(Self(taken))
    }

    fn named(&mut self, name: Option<&str>) -> Vec<(OwnedFd, String)> {
        let wanted = |socket: &&mut Option<(String, OwnedFd, String)>| {
            socket.as_ref().is_some_and(|(own, _, _)| name.is_none_or(|name| name == own))
        };
        self.0.iter_mut().filter(wanted).filter_map(Option::take).map(|(_, fd, addr)| (fd, addr)).collect()
    }
}

/// A listener that stands.
pub(crate) struct Standing {
    /// How it is written in the settings.
    pub(crate) listen: Listen,
    pub(crate) tls: Option<Tls>,
    /// What to tell of it.
    pub(crate) url: String,
}

/// The listeners to be: the settings' own, or the default one.
pub(crate) fn wanted(settings: &Settings) -> Vec<Listen> {
    match settings.listen.as_slice() {
        [] => vec![Listen { address: DEFAULT.to_owned(), ..Listen::default() }],
        listen => listen.to_vec(),
    }
}

/// Reads every certificate there is, without listening.
pub(crate) fn check(settings: &Settings) -> Result<Vec<(Listen, Option<Tls>)>, Failure> {
    let mut checked = Vec::new();
    for listen in wanted(settings) {
        let address = listen.address.as_str();
        let again = checked.iter().any(|(other, _): &(Listen, _)| other.address == address);
        if again && !(matches!(listen.place(), Place::Tcp(_)) && address.ends_with(":0")) {
            return Err(Failure::config(format!("--listen {address}: it is there twice")));
        }
        let addr = listen.tcp_addr();
        if let Some((other, _)) = checked.iter().find(|(other, _)| addr.is_some_and(|addr| other.takes(addr))) {
            return Err(Failure::config(format!("--listen {other} and --listen {address} need the same port")));
        }
        if listen.proxy_protocol && settings.proxies.trusted.is_empty() {
            let words = "the PROXY protocol is believed of trusted proxies only: name them by --trusted-proxy";
            return Err(Failure::config(format!("--listen {address}: {words}")));
        }
        if let Place::Unix(path) = listen.place() {
            check_unix(Path::new(path)).map_err(|words| Failure::config(format!("--listen {address}: {words}")))?;
        }
        let tls = match listen.identity(settings).map_err(Failure::config)? {
            Some((cert, key)) => {
                // Origins that offer it come by it: one round trip less than by an upgrade.
                let alpn = if settings.tunnel.tokens.is_empty() { None } else { Some("rh2") };
                Some(load(cert, key, move |cert, key| Tls::builder().pem(cert, key)?.alpn(alpn).build())?)
            }
            None => None,
        };
        checked.push((listen, tls));
    }
    // Origin servers come by HTTPS, to a listener here or to a proxy in front, whose word is believed.
    let is_open = checked.iter().any(|(_, tls)| tls.is_some()) || !settings.proxies.trusted.is_empty();
    if !settings.tunnel.tokens.is_empty() && !is_open {
        let words = "[tunnel] origin servers come by HTTPS only: give --tls-cert and --tls-key, or a --trusted-proxy";
        return Err(Failure::config(words.to_owned()));
    }
    Ok(checked)
}

/// Whether a socket can be made there, as far as that is seen without making one.
fn check_unix(path: &Path) -> Result<(), String> {
    use std::os::unix::fs::FileTypeExt;
    if let Some(dir) = path.parent().filter(|dir| *dir != Path::new("")) {
        let is_dir = std::fs::metadata(dir).map_err(|error| format!("its directory: {error}"))?.is_dir();
        is_dir.then_some(()).ok_or("its directory is none")?;
    }
    match std::fs::symlink_metadata(path) {
        Ok(there) if !there.file_type().is_socket() => Err("there is a file already, and it is no socket".to_owned()),
        _ => Ok(()),
    }
}

/// Reads a certificate and its key.
pub(crate) fn load<T: Send + 'static>(
    cert: &Path,
    key: &Path,
    read: impl FnOnce(&Path, &Path) -> Result<T, TlsError> + Send + 'static,
) -> Result<T, Failure> {
    let what = format!("certificate {} and key {}", cert.display(), key.display());
    let (cert, key) = (cert.to_owned(), key.to_owned());
    let read = files::in_time(&what, move || read(&cert, &key)).map_err(Failure::config)?;
    read.map_err(|error| Failure::config(error.to_string()))
}

/// Listens everywhere. `trusted` knows the proxies that may speak the PROXY protocol.
pub(crate) fn listen(
    checked: Vec<(Listen, Option<Tls>)>,
    mut inherited: Inherited,
    trusted: impl Fn(&uncork::PeerAddr) -> bool + Clone + Send + Sync + 'static,
) -> Result<(Server, Vec<Standing>), Failure> {
    let mut all = Standings { server: Server::new(), standing: Vec::new() };
    // Those that are asked for by name go first, so that the others are the rest.
    let mut handed: Vec<Vec<(OwnedFd, String)>> = Vec::new();
    for (listen, _) in &checked {
        handed.push(match listen.place() {
            Place::Inherited(Some(name)) => inherited.named(Some(name)),
            _ => Vec::new(),
        });
    }
    for ((listen, tls), mut handed) in checked.into_iter().zip(handed) {
        let trusted = trusted.clone();
        match listen.place() {
            Place::Tcp(addr) => {
                let one = Socket::tcp(addr).map_err(|error| match error.kind() {
                    std::io::ErrorKind::InvalidInput => Failure::config(format!("--listen {addr}: {error}")),
                    _ => Failure::system_words(error.to_string()),
                })?;
                let bound = one.local_addr().map_or_else(|| addr.to_owned(), |addr| addr.to_string());
                all.add(&listen, &tls, trusted, one, &bound);
            }
            Place::Unix(path) => {
                let one = Socket::unix(path)
                    .map_err(|error| Failure::system(&format!("cannot listen on unix:{path}"), &error))?;
                all.add(&listen, &tls, trusted, one, &format!("unix:{path}"));
            }
            Place::Inherited(name) => {
                if name.is_none() {
                    handed = inherited.named(None);
                }
                if handed.is_empty() {
                    let what = name.map_or_else(|| "no socket".to_owned(), |name| format!("no socket named {name:?}"));
                    let words = format!("--listen {listen}: {what} was handed over (LISTEN_FDS, FileDescriptorName)");
                    return Err(Failure::config(words));
                }
                for (fd, addr) in handed {
                    let one = Socket::inherited(fd)
                        .map_err(|error| Failure::system(&format!("cannot listen on {addr}"), &error))?;
                    all.add(&listen, &tls, trusted.clone(), one, &addr);
                }
            }
        }
    }
    if inherited.0.iter().any(Option::is_some) {
        log::warn!("sockets were handed over (LISTEN_FDS) and nobody listens on them: add --listen systemd");
    }
    if all.standing.is_empty() {
        return Err(Failure::config("there is nowhere to listen".to_owned()));
    }
    Ok((all.server, all.standing))
}

struct Standings {
    server: Server,
    standing: Vec<Standing>,
}

impl Standings {
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
        self.standing.push(Standing { listen: listen.clone(), tls: tls.clone(), url: format!("{scheme}://{addr}") });
    }
}
