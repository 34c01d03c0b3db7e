//! HTTPS: `tests/c/tls.c` serves, this is its client.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{Arc, OnceLock},
    time::Duration,
};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion,
    crypto::aws_lc_rs::default_provider,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName},
    version::{TLS12, TLS13},
};

use crate::support::{Library, has, run};

const MODES: [&str; 5] = ["thread", "pool", "connection", "select", "epoll"];
const PATIENCE: Duration = Duration::from_secs(30);

/// A certificate authority, a server's certificate for `localhost`, another for `other.test`, and a client's.
pub(crate) struct Pki {
    dir: PathBuf,
    authority: CertificateDer<'static>,
    client: (CertificateDer<'static>, Vec<u8>),
}

impl Pki {
    pub(crate) fn get() -> &'static Self {
        static PKI: OnceLock<Pki> = OnceLock::new();
        PKI.get_or_init(Self::make)
    }

    fn make() -> Self {
        let dir = Library::get().dir().join("pki");
        fs::create_dir_all(&dir).expect("a directory");
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.distinguished_name.push(DnType::CommonName, "authority of the tests");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = params.self_signed(&key).expect("a certificate");
        fs::write(dir.join("authority.pem"), authority.pem()).expect("written");
        let issuer = Issuer::new(params, key);
        let issue = |name: &str| {
            let key = KeyPair::generate().expect("a key");
            let params = CertificateParams::new([name.to_owned()]).expect("parameters");
            let certificate = params.signed_by(&key, &issuer).expect("a certificate");
            fs::write(dir.join(format!("{name}.pem")), certificate.pem()).expect("written");
            fs::write(dir.join(format!("{name}.key")), key.serialize_pem()).expect("written");
            (certificate.der().clone(), key.serialize_der())
        };
        issue("localhost");
        issue("other.test");
        let client = issue("client.test");
        Self { authority: authority.der().clone(), client, dir }
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }
}

/// A running server.
struct Server {
    child: Child,
    input: Option<ChildStdin>,
    port: u16,
}

impl Server {
    /// Starts the program; `None` if the daemon does not start.
    fn start(mode: &str, key: &Path, options: &[String]) -> (Option<Self>, String) {
        static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
        let program = PROGRAM.get_or_init(|| Library::get().compile("tests/c/tls.c"));
        let mut command = Library::get().command(program);
        command.arg(mode).arg(Pki::get().file("localhost.pem")).arg(key).args(options);
        let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = piped.spawn().expect("started");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("a line");
        let input = child.stdin.take();
        match line.trim().strip_prefix("port ").map(|port| port.parse().expect("a port")) {
            Some(port) => (Some(Self { child, input, port }), String::new()),
            None => {
                let mut log = String::new();
                child.stderr.take().expect("piped").read_to_string(&mut log).expect("a log");
                assert!(child.wait().expect("ended").success(), "{line}{log}");
                (None, log)
            }
        }
    }

    fn with(mode: &str, options: &[String]) -> Self {
        let (server, log) = Self::start(mode, &Pki::get().file("localhost.key"), options);
        server.unwrap_or_else(|| panic!("not started: {log}"))
    }

    /// Ends the program, and returns its log.
    fn end(mut self) -> String {
        drop(self.input.take());
        let mut log = String::new();
        self.child.stderr.take().expect("piped").read_to_string(&mut log).expect("a log");
        assert!(self.child.wait().expect("ended").success(), "{log}");
        log
    }

    /// Returns the response to a request on a connection of its own.
    fn ask(&self, client: &Client, method: &str, target: &str, body: &[u8]) -> std::io::Result<String> {
        let mut stream = connect(self.port, client);
        let length = body.len();
        write!(stream, "{method} {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n")?;
        write!(stream, "Content-Length: {length}\r\n\r\n")?;
        stream.write_all(body)?;
        let mut response = String::new();
        stream.read_to_string(&mut response)?;
        Ok(response)
    }
}

pub(crate) fn connect(port: u16, client: &Client) -> StreamOwned<ClientConnection, TcpStream> {
    let mut roots = RootCertStore::empty();
    roots.add(Pki::get().authority.clone()).expect("a root");
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[client.version])
        .expect("versions")
        .with_root_certificates(roots);
    let config = match client.certificate {
        false => config.with_no_client_auth(),
        true => {
            let (certificate, key) = Pki::get().client.clone();
            let key = PrivateKeyDer::try_from(key).expect("a key");
            config.with_client_auth_cert(vec![certificate], key).expect("a certificate")
        }
    };
    let name = ServerName::try_from(client.name).expect("a name");
    let tls = ClientConnection::new(Arc::new(config), name).expect("a client");
    let stream = TcpStream::connect(("127.0.0.1", port)).expect("connected");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    StreamOwned::new(tls, stream)
}

pub(crate) struct Client {
    name: &'static str,
    version: &'static SupportedProtocolVersion,
    certificate: bool,
}

pub(crate) const CLIENT: Client = Client { name: "localhost", version: &TLS13, certificate: false };

fn option(name: &str, file: &str) -> String {
    format!("{name}={}", Pki::get().file(file).display())
}

#[test]
fn every_mode_serves_https() {
    for mode in MODES {
        let server = Server::with(mode, &[]);
        let ask = |method: &str, target: &str, body: &[u8]| server.ask(&CLIENT, method, target, body).expect(mode);
        let session = ask("GET", "/session", b"");
        assert!(session.starts_with("HTTP/1.1 200 OK\r\n"), "{mode}: {session}");
        assert!(session.contains("version=5 cipher=1") && session.ends_with(" certificate=0\n"), "{mode}: {session}");
        let large = ask("GET", "/large", b"");
        let body = large.split_once("\r\n\r\n").expect("a head").1;
        assert!(body.bytes().eq((0..1 << 20).map(|i| b'a' + (i % 26) as u8)), "{mode}: {} bytes", body.len());
        let upload: Vec<u8> = (0..200_000_u32).map(|i| (i % 251) as u8).collect();
        let sum = upload.iter().fold(0_u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(u32::from(*byte)));
        assert!(ask("POST", "/upload", &upload).ends_with(&format!("\r\n\r\n200000 {sum}\n")), "{mode}");
        assert!(ask("GET", "/suspend", b"").ends_with("\r\n\r\nresumed\n"), "{mode}");
        // A client that speaks plain HTTP does no harm.
        let mut plain = TcpStream::connect(("127.0.0.1", server.port)).expect("connected");
        plain.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        plain.write_all(b"GET /session HTTP/1.1\r\nHost: x\r\n\r\n").expect("sent");
        let mut response = Vec::new();
        let _ = plain.read_to_end(&mut response);
        assert!(!String::from_utf8_lossy(&response).contains("200 OK"), "{mode}: {response:?}");
        assert!(ask("GET", "/session", b"").contains("version=5"), "{mode}");
        server.end();
    }
}

#[test]
fn clients_with_a_certificate_are_known() {
    let server = Server::with("thread", &[option("trust", "authority.pem")]);
    let with = Client { certificate: true, ..CLIENT };
    let size = Pki::get().client.0.len();
    let known = server.ask(&with, "GET", "/session", b"").expect("served");
    assert!(known.ends_with(&format!(" certificate={size}\n")), "{known}");
    let unknown = server.ask(&CLIENT, "GET", "/session", b"").expect("served");
    assert!(unknown.ends_with(" certificate=0\n"), "{unknown}");
    server.end();
    // Of another authority: the handshake fails.
    let other = Server::with("thread", &[option("trust", "other.test.pem")]);
    assert!(other.ask(&with, "GET", "/session", b"").is_err());
    other.end();
}

#[test]
fn the_words_of_versions_are_obeyed() {
    let tls12 = Client { version: &TLS12, ..CLIENT };
    for (words, accepts12, accepts13) in [
        ("NORMAL", true, true),
        ("SECURE128:-VERS-TLS-ALL:+VERS-TLS1.3", false, true),
        ("NORMAL:-VERS-TLS1.3", true, false),
        ("NORMAL:!VERS-TLS1.2:-VERS-TLS1.1", false, true),
    ] {
        let server = Server::with("thread", &[format!("priorities={words}")]);
        let accepts = |client: &Client, version: &str| {
            server.ask(client, "GET", "/session", b"").is_ok_and(|response| response.contains(version))
        };
        assert_eq!((accepts(&tls12, "version=4"), accepts(&CLIENT, "version=5")), (accepts12, accepts13), "{words}");
        let log = server.end();
        assert_eq!(log.contains("no effect: SECURE128\n"), words.starts_with("SECURE128"), "{words}: {log}");
    }
    let (server, log) = Server::start(
        "thread",
        &Pki::get().file("localhost.key"),
        &["priorities=NORMAL:-VERS-ALL:+VERS-TLS1.1".to_owned()],
    );
    assert!(server.is_none() && log.contains("no version is left of TLS 1.2 and 1.3"), "{log}");
}

#[test]
fn a_client_gets_the_certificate_of_the_name() {
    let options = [option("certificate2", "other.test.pem"), option("key2", "other.test.key")];
    let server = Server::with("pool", &options);
    for name in ["localhost", "other.test"] {
        let response = server.ask(&Client { name, ..CLIENT }, "GET", "/session", b"").expect(name);
        assert!(response.contains("version=5"), "{response}");
    }
    server.end();
}

#[test]
fn a_wrong_key_prevents_the_start() {
    let (server, log) = Server::start("thread", &Pki::get().file("other.test.key"), &[]);
    assert!(server.is_none() && log.starts_with("cannot start the daemon: "), "{log}");
    let (server, log) = Server::start("thread", &Pki::get().file("localhost.pem"), &[]);
    assert!(server.is_none() && log.starts_with("cannot start the daemon: "), "{log}");
}

#[test]
fn keys_can_have_a_password() {
    if !has("openssl") {
        return println!("skipped: openssl is not installed");
    }
    let (key, encrypted) = (Pki::get().file("localhost.key"), Pki::get().file("encrypted.key"));
    let mut openssl = Command::new("openssl");
    openssl.args(["pkcs8", "-topk8", "-v2", "aes-256-cbc", "-passout", "pass:secret", "-in"]).arg(key);
    run(openssl.arg("-out").arg(&encrypted));
    let (server, log) = Server::start("thread", &encrypted, &["password=secret".to_owned()]);
    let server = server.unwrap_or_else(|| panic!("not started: {log}"));
    assert!(server.ask(&CLIENT, "GET", "/session", b"").expect("served").contains("version=5"));
    server.end();
    let (server, log) = Server::start("thread", &encrypted, &["password=wrong".to_owned()]);
    assert!(server.is_none() && log.contains("the private key cannot be decrypted"), "{log}");
    let (server, log) = Server::start("thread", &encrypted, &[]);
    assert!(server.is_none() && log.contains("give MHD_OPTION_HTTPS_KEY_PASSWORD"), "{log}");
}
