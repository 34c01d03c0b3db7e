//! Tests against the buffered client of rustls, over socket pairs, in one thread: both ends take turns.

use std::{
    io::{self, IoSlice, Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::{
    ClientConfig, ClientConnection, HandshakeKind, RootCertStore, SupportedProtocolVersion,
    crypto::aws_lc_rs::default_provider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    version::{TLS12, TLS13},
};

use super::{Tls, TlsConn, TlsError};
use crate::{
    base::{
        buf::Buf,
        pool::{LENT, Pool},
    },
    transport::{Fault, Got, Socket},
};

mod client;
mod config;
mod handshake;
mod stream;

const BOTH: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];

// --- Certificates ---

struct Ca {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// Returns the authority of all tests.
fn ca() -> &'static Ca {
    static CA: OnceLock<Ca> = OnceLock::new();
    CA.get_or_init(|| authority("a CA"))
}

fn authority(name: &str) -> Ca {
    let mut params = CertificateParams::new(Vec::new()).expect("params");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    let key = KeyPair::generate().expect("key");
    let pem = params.self_signed(&key).expect("certificate").pem();
    Ca { pem, issuer: Issuer::new(params, key) }
}

/// Returns a certificate and its key, both in PEM.
fn signed_by(ca: &Ca, names: &[String]) -> (String, String) {
    let key = KeyPair::generate().expect("key");
    let params = CertificateParams::new(names).expect("params");
    (params.signed_by(&key, &ca.issuer).expect("certificate").pem(), key.serialize_pem())
}

fn certificate(name: &str) -> (String, String) {
    signed_by(ca(), &[name.to_owned()])
}

/// Returns a certificate of about 30 KiB, which takes several records to send.
fn huge_certificate() -> (String, String) {
    let mut names: Vec<_> = (0..900).map(|i| format!("host-number-{i:04}.example.com")).collect();
    names.push("localhost".into());
    signed_by(ca(), &names)
}

fn tls_for(name: &str) -> Tls {
    let (cert, key) = certificate(name);
    Tls::pem_bytes(cert.as_bytes(), key.as_bytes()).expect("a configuration")
}

fn der(pem: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.as_bytes()).expect("a certificate")
}

// --- Both ends ---

fn client_config(version: &'static SupportedProtocolVersion, own: Option<&(String, String)>) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(der(&ca().pem)).expect("a root");
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[version])
        .expect("a version")
        .with_root_certificates(roots);
    let mut config = match own {
        None => builder.with_no_client_auth(),
        Some((cert, key)) => builder
            .with_client_auth_cert(
                vec![der(cert)],
                PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("a private key"),
            )
            .expect("a client certificate"),
    };
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Arc::new(config)
}

struct Client {
    rustls: ClientConnection,
    stream: UnixStream,
    got: Vec<u8>,
    /// Ciphertext as it arrived.
    wire: Vec<u8>,
    closed: bool,
}

impl Client {
    /// Sends as much as possible.
    fn send(&mut self) {
        while self.rustls.wants_write() {
            match self.rustls.write_tls(&mut self.stream) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => panic!("the client cannot write: {error}"),
            }
        }
    }

    /// Receives what is available. Returns the error that rustls reports.
    fn receive(&mut self) -> Result<(), rustls::Error> {
        let mut block = [0; 16 * 1024];
        loop {
            let n = match self.stream.read(&mut block) {
                Ok(0) => return Ok(()),
                Ok(n) => n,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => panic!("the client cannot read: {error}"),
            };
            self.wire.extend_from_slice(&block[..n]);
            let mut rest = &block[..n];
            while !rest.is_empty() {
                self.rustls.read_tls(&mut rest).expect("room");
                let state = self.rustls.process_new_packets()?;
                self.closed |= state.peer_has_closed();
                let mut plain = vec![0; state.plaintext_bytes_to_read()];
                self.rustls.reader().read_exact(&mut plain).expect("plaintext");
                self.got.extend_from_slice(&plain);
            }
        }
    }

    fn write(&mut self, bytes: &[u8]) {
        self.rustls.writer().write_all(bytes).expect("the client's buffer");
        self.send();
    }

    /// Returns the lengths of the records that arrived, headers included.
    fn records(&self) -> Vec<usize> {
        let (mut rest, mut lengths) = (&self.wire[..], Vec::new());
        while let [_, _, _, high, low, ..] = *rest {
            let n = 5 + usize::from(u16::from_be_bytes([high, low]));
            lengths.push(n);
            rest = &rest[n..];
        }
        lengths
    }
}

struct Ours {
    tls: TlsConn,
    socket: Socket,
    pool: Pool,
    into: Buf,
}

impl Ours {
    fn read_most(&mut self, most: usize) -> Result<Got, Fault> {
        self.tls.read(&mut self.socket, &mut self.into, most, &mut self.pool)
    }

    fn read(&mut self) -> Result<Got, Fault> {
        self.read_most(LENT)
    }

    /// Reads until the socket blocks or the stream ends.
    fn read_all(&mut self) -> Result<Got, Fault> {
        loop {
            match self.read()? {
                Got::Data { .. } => {}
                got => return Ok(got),
            }
        }
    }

    fn write(&mut self, pieces: &[&[u8]]) -> usize {
        let pieces: Vec<_> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
        self.tls.write(&mut self.socket, &pieces, &mut self.pool).expect("a write")
    }

    fn flush(&mut self) -> bool {
        self.tls.flush(&mut self.socket, &mut self.pool).expect("a flush")
    }

    fn finish(&mut self) -> bool {
        self.tls.finish(&mut self.socket, &mut self.pool).expect("an end")
    }

    fn take(&mut self) -> Vec<u8> {
        let bytes = self.into.filled().to_vec();
        self.into.consume(bytes.len());
        bytes
    }

    /// Checks that the connection holds no lent buffer when nothing is in flight.
    fn assert_idle(&mut self) {
        self.tls.settle(&mut self.pool);
        self.pool.settle(&mut self.into);
        assert_eq!((self.pool.lent(), self.tls.pending()), (0, 0));
    }

    fn assert_idle_after_release(&mut self) {
        self.tls.release(&mut self.pool);
        self.pool.settle(&mut self.into);
        assert_eq!(self.pool.lent(), 0);
    }
}

fn sockets() -> (UnixStream, Socket) {
    let (ours, theirs) = UnixStream::pair().expect("a pair");
    theirs.set_nonblocking(true).expect("non-blocking");
    (theirs, Socket::from_unix(ours).expect("a socket").0)
}

fn pair_named(tls: &Tls, config: &Arc<ClientConfig>, name: &'static str) -> (Client, Ours) {
    let (stream, socket) = sockets();
    let rustls = ClientConnection::new(config.clone(), name.try_into().expect("a name")).expect("a client");
    let client = Client { rustls, stream, got: Vec::new(), wire: Vec::new(), closed: false };
    let tls = TlsConn::accept(tls, false).expect("a server");
    (client, Ours { tls, socket, pool: Pool::new(1 << 20), into: Buf::default() })
}

fn pair(tls: &Tls, config: &Arc<ClientConfig>) -> (Client, Ours) {
    pair_named(tls, config, "localhost")
}

fn server_over(socket: Socket) -> Ours {
    let tls = TlsConn::accept(&tls_for("localhost"), false).expect("a server");
    Ours { tls, socket, pool: Pool::new(1 << 20), into: Buf::default() }
}

/// Takes turns until both ends have finished the handshake. Returns the server's fault or the client's error, as text.
fn handshake(client: &mut Client, server: &mut Ours) -> Result<(), String> {
    for _ in 0..100 {
        client.send();
        let read = server.read().map_err(|fault| format!("{fault:?}"));
        let flushed = server.tls.flush(&mut server.socket, &mut server.pool);
        client.receive().map_err(|error| format!("client: {error:?}"))?;
        read?;
        flushed.map_err(|fault| format!("{fault:?}"))?;
        client.send();
        server.tls.settle(&mut server.pool);
        if !client.rustls.is_handshaking() && !server.tls.is_handshaking() && !client.rustls.wants_write() {
            // A ticket may be in flight.
            return client.receive().map_err(|error| format!("client: {error:?}"));
        }
    }
    Err("the handshake does not end".into())
}

fn connected(version: &'static SupportedProtocolVersion) -> (Client, Ours) {
    let (mut client, mut server) = pair(&tls_for("localhost"), &client_config(version, None));
    handshake(&mut client, &mut server).expect("a handshake");
    server.assert_idle();
    client.wire.clear();
    (client, server)
}

fn pattern(n: usize) -> Vec<u8> {
    (0..n as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

#[test]
fn it_is_small() {
    assert!(size_of::<TlsConn>() <= 1536, "{} bytes", size_of::<TlsConn>());
}
