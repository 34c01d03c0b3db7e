//! A proxy program of spdy-proxy, made of frames from [`spdy_peer`](super::spdy_peer).

use std::{
    io::{ErrorKind, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, OnceLock},
    time::Duration,
};

use rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
};
use uncork::{TlsClient, relay::tunnel::Tunnel};

use super::{
    client::TIMEOUT,
    spdy_peer::{ESTABLISHED, HEADERS, Peer, SYN_REPLY, SYN_STREAM, WINDOW_UPDATE, Zlib, control, handshake, numbers},
};

/// The proxy's certificate, for `localhost`.
pub(crate) struct Identity {
    pub(crate) config: Arc<ServerConfig>,
    pem: String,
}

pub(crate) fn identity() -> &'static Identity {
    static IDENTITY: OnceLock<Identity> = OnceLock::new();
    IDENTITY.get_or_init(|| {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
        let chain = vec![CertificateDer::from(made.cert.der().to_vec())];
        let config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).expect("a pair");
        Identity { config: Arc::new(config), pem: made.cert.pem() }
    })
}

/// The listener of a proxy program of spdy-proxy.
pub(crate) struct LegacyListener(pub(crate) TcpListener);

/// A proxy program of spdy-proxy, with its origin server.
pub(crate) struct LegacyProxy {
    stream: StreamOwned<ServerConnection, TcpStream>,
    /// Received bytes that the test has not read.
    rest: Vec<u8>,
    zlib: Zlib,
    newest: u32,
}

impl LegacyListener {
    pub(crate) fn new() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").expect("bound"))
    }

    pub(crate) fn port(&self) -> u16 {
        self.0.local_addr().expect("bound").port()
    }

    /// Returns a tunnel to it that trusts its certificate.
    pub(crate) fn tunnel(&self) -> Tunnel {
        Tunnel::dial(&format!("localhost:{}", self.port()))
            .tls(TlsClient::roots_pem(identity().pem.as_bytes()).expect("a root"))
            .backoff(Duration::from_millis(20))
            .allow_legacy_unauthenticated()
    }

    /// Accepts an origin server, up to the end of the handshake.
    pub(crate) fn accept(&self) -> LegacyProxy {
        let (socket, _) = self.0.accept().expect("a connection");
        socket.set_read_timeout(Some(TIMEOUT)).expect("set");
        socket.set_nodelay(true).expect("set");
        let conn = ServerConnection::new(identity().config.clone()).expect("TLS");
        let mut proxy =
            LegacyProxy { stream: StreamOwned::new(conn, socket), rest: Vec::new(), zlib: Zlib::new(), newest: 0 };
        let put = handshake(&format!("localhost:{}", self.port()));
        assert_eq!(String::from_utf8_lossy(&proxy.exactly(put.len()).expect("a handshake")), put);
        assert_eq!(proxy.stream.conn.alpn_protocol(), None);
        proxy.send(ESTABLISHED);
        proxy
    }
}

impl Peer for LegacyProxy {
    const FORBIDDEN: &'static [u16] = &[SYN_STREAM, HEADERS];

    fn exactly(&mut self, n: usize) -> std::io::Result<Vec<u8>> {
        let mut bytes = std::mem::take(&mut self.rest);
        let kept = bytes.len();
        bytes.resize(n.max(kept), 0);
        self.stream.read_exact(&mut bytes[kept..])?;
        self.rest = bytes.split_off(n);
        Ok(bytes)
    }
}

impl LegacyProxy {
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("sent");
        self.stream.flush().expect("flushed");
    }

    /// Returns `true` if nothing is received for `time`; received bytes are kept.
    pub(crate) fn is_silent(&mut self, time: Duration) -> bool {
        if !self.rest.is_empty() {
            return false;
        }
        self.stream.sock.set_read_timeout(Some(time)).expect("set");
        let mut byte = [0; 1];
        let silent = match self.stream.read(&mut byte) {
            Err(error) => matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
            Ok(n) => {
                self.rest.extend_from_slice(&byte[..n]);
                false
            }
        };
        self.stream.sock.set_read_timeout(Some(TIMEOUT)).expect("set");
        silent
    }

    /// Sends a request as spdy-proxy does: it does not name the client's host.
    pub(crate) fn request(&mut self, method: &str, path: &str, fields: &[(&str, &str)], fin: bool) -> u32 {
        self.newest += if self.newest == 0 { 1 } else { 2 };
        let start = [
            (":method", method),
            (":path", path),
            (":version", "HTTP/1.1"),
            (":host", "localhost:1443"),
            (":scheme", "https"),
        ];
        let all: Vec<(&str, &str)> = start.into_iter().chain(fields.iter().copied()).collect();
        let block = self.zlib.block(&all);
        let payload = [&numbers(&[self.newest, 0])[..], &[0, 0], &block].concat();
        self.send(&control(SYN_STREAM, u8::from(fin), &payload));
        self.newest
    }

    #[track_caller]
    pub(crate) fn reply(&mut self, stream: u32) -> Vec<(String, String)> {
        let frame = self.expect(SYN_REPLY);
        assert_eq!((frame.number(0), frame.fin), (stream, false));
        self.zlib.fields(&frame.payload[4..])
    }

    /// Releases received bytes, for the stream and for the connection.
    pub(crate) fn release(&mut self, stream: u32, n: usize) {
        let n = u32::try_from(n).expect("a window");
        self.send(&control(WINDOW_UPDATE, 0, &numbers(&[stream, n])));
        self.send(&control(WINDOW_UPDATE, 0, &numbers(&[0, n])));
    }

    /// Receives the rest of a response; each frame is released when it arrives.
    #[track_caller]
    pub(crate) fn body(&mut self, stream: u32) -> Vec<u8> {
        let mut body = Vec::new();
        loop {
            let frame = self.expect(0);
            assert_eq!(frame.stream, stream);
            assert_eq!(frame.fin, frame.payload.is_empty(), "spdy-proxy ends with an empty frame");
            if frame.fin {
                return body;
            }
            self.release(stream, frame.payload.len());
            body.extend(frame.payload);
        }
    }

    #[track_caller]
    pub(crate) fn get(&mut self, path: &str) -> (Vec<(String, String)>, Vec<u8>) {
        let stream = self.request("GET", path, &[], true);
        (self.reply(stream), self.body(stream))
    }
}
