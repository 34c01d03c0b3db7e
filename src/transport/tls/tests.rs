//! Against a client of rustls's own (a buffered one), over socket pairs, in one thread: both ends take turns.

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

const BOTH: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];

// --- Certificates ---

struct Ca {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// One authority for all tests.
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

/// Certificate and key, both in PEM.
fn signed_by(ca: &Ca, names: &[String]) -> (String, String) {
    let key = KeyPair::generate().expect("key");
    let params = CertificateParams::new(names).expect("params");
    (params.signed_by(&key, &ca.issuer).expect("certificate").pem(), key.serialize_pem())
}

fn certificate(name: &str) -> (String, String) {
    signed_by(ca(), &[name.to_owned()])
}

/// One that takes several records to send: some 30 KiB.
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
    /// Ciphertext as it came.
    wire: Vec<u8>,
    closed: bool,
}

impl Client {
    /// Sends what it can.
    fn send(&mut self) {
        while self.rustls.wants_write() {
            match self.rustls.write_tls(&mut self.stream) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => panic!("the client can't write: {error}"),
            }
        }
    }

    /// Receives what there is; the error rustls sees in it.
    fn receive(&mut self) -> Result<(), rustls::Error> {
        let mut block = [0; 16 * 1024];
        loop {
            let n = match self.stream.read(&mut block) {
                Ok(0) => return Ok(()),
                Ok(n) => n,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => panic!("the client can't read: {error}"),
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

    fn say(&mut self, bytes: &[u8]) {
        self.rustls.writer().write_all(bytes).expect("the client's buffer");
        self.send();
    }

    /// Lengths of the records that came, headers included.
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

struct Server {
    tls: TlsConn,
    socket: Socket,
    pool: Pool,
    into: Buf,
}

impl Server {
    fn read_most(&mut self, most: usize) -> Result<Got, Fault> {
        self.tls.read(&mut self.socket, &mut self.into, most, &mut self.pool)
    }

    fn read(&mut self) -> Result<Got, Fault> {
        self.read_most(LENT)
    }

    /// Until it is blocked or over.
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

    fn taken(&mut self) -> Vec<u8> {
        let bytes = self.into.filled().to_vec();
        self.into.consume(bytes.len());
        bytes
    }

    /// Nothing is lent to it when nothing is in flight.
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

fn pair_named(tls: &Tls, config: &Arc<ClientConfig>, name: &'static str) -> (Client, Server) {
    let (stream, socket) = sockets();
    let rustls = ClientConnection::new(config.clone(), name.try_into().expect("a name")).expect("a client");
    let client = Client { rustls, stream, got: Vec::new(), wire: Vec::new(), closed: false };
    let tls = TlsConn::accept(tls).expect("a server");
    (client, Server { tls, socket, pool: Pool::new(1 << 20), into: Buf::default() })
}

fn pair(tls: &Tls, config: &Arc<ClientConfig>) -> (Client, Server) {
    pair_named(tls, config, "localhost")
}

fn server_over(socket: Socket) -> Server {
    let tls = TlsConn::accept(&tls_for("localhost")).expect("a server");
    Server { tls, socket, pool: Pool::new(1 << 20), into: Buf::default() }
}

/// Takes turns until both ends are through; the server's fault or the client's error, as text.
fn shake(client: &mut Client, server: &mut Server) -> Result<(), String> {
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
            // A ticket may be on its way.
            return client.receive().map_err(|error| format!("client: {error:?}"));
        }
    }
    Err("the handshake does not end".into())
}

fn connected(version: &'static SupportedProtocolVersion) -> (Client, Server) {
    let (mut client, mut server) = pair(&tls_for("localhost"), &client_config(version, None));
    shake(&mut client, &mut server).expect("a handshake");
    server.assert_idle();
    client.wire.clear();
    (client, server)
}

fn pattern(n: usize) -> Vec<u8> {
    (0..n as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

// --- Tests ---

#[test]
fn a_client_of_http_1_0_is_served() {
    let mut config = ClientConfig::clone(&client_config(BOTH[1], None));
    for (offers, taken) in [(&["http/1.0"][..], Some("http/1.0")), (&["http/1.0", "http/1.1"], Some("http/1.1"))] {
        config.alpn_protocols = offers.iter().map(|name| name.as_bytes().to_vec()).collect();
        let (mut client, mut server) = pair(&tls_for("localhost"), &Arc::new(config.clone()));
        shake(&mut client, &mut server).expect("a handshake");
        assert_eq!(server.tls.alpn_protocol(), taken.map(str::as_bytes));
    }
}

#[test]
fn a_handshake_and_both_directions() {
    for (version, name) in BOTH.into_iter().zip(["TLSv1.2", "TLSv1.3"]) {
        let (mut client, mut server) = pair(&tls_for("localhost"), &client_config(version, None));
        assert_eq!(server.read().expect("nothing yet"), Got::Blocked);
        assert!(server.tls.is_handshaking());
        assert_eq!(server.write(&[b"too early"]), 0);
        shake(&mut client, &mut server).expect("a handshake");
        server.assert_idle();
        assert_eq!(server.tls.protocol_version(), Some(name));
        assert_eq!(server.tls.alpn_protocol(), Some(&b"http/1.1"[..]));
        assert_eq!(server.tls.server_name(), Some("localhost"));
        assert_eq!(server.tls.peer_certificates(), None);
        client.say(b"GET / HTTP/1.1\r\n\r\n");
        assert_eq!(server.read().expect("a request"), Got::Data { drained: true });
        assert_eq!(server.taken(), b"GET / HTTP/1.1\r\n\r\n");
        assert_eq!(server.read().expect("no more"), Got::Blocked);
        assert_eq!(server.write(&[b"HTTP/1.1 200 OK\r\n", b"", b"\r\n", b"hello"]), 24);
        client.receive().expect("an answer");
        assert_eq!(client.got, b"HTTP/1.1 200 OK\r\n\r\nhello");
        server.assert_idle();
    }
}

#[test]
fn head_and_body_are_one_record() {
    for version in BOTH {
        let (mut client, mut server) = connected(version);
        assert_eq!(server.write(&[&[b'h'; 120], &[b'b'; 13]]), 133);
        client.receive().expect("an answer");
        assert_eq!((client.records().len(), client.got.len()), (1, 133));
        client.wire.clear();
        let body = pattern(100_000);
        assert_eq!(server.write(&[b"head", &body, b"tail"]), 100_008);
        client.receive().expect("an answer");
        assert_eq!(client.records().len(), 7, "as few as can be: {:?}", client.records());
        assert_eq!(client.got[133..], [b"head", &body[..], b"tail"].concat());
    }
}

#[test]
fn the_client_comes_byte_by_byte() {
    for version in BOTH {
        let (mut client, mut server) = pair(&tls_for("localhost"), &client_config(version, None));
        let (mut last, mut said) = (Got::Blocked, false);
        for _ in 0..10 {
            let mut bytes = Vec::new();
            while client.rustls.wants_write() {
                client.rustls.write_tls(&mut bytes).expect("memory");
            }
            for byte in bytes {
                client.stream.write_all(&[byte]).expect("one byte");
                last = server.read().expect("a byte");
                server.tls.settle(&mut server.pool);
                assert!(server.pool.lent() <= 1, "what is incomplete is kept in little room");
            }
            client.receive().expect("the server's flight");
            if !client.rustls.is_handshaking() && !said {
                said = true;
                client.rustls.writer().write_all(b"hello").expect("a word");
                client.rustls.writer().write_all(&pattern(3000)).expect("more");
            }
        }
        assert_eq!(last, Got::Data { drained: true });
        assert_eq!(server.taken(), [b"hello", &pattern(3000)[..]].concat());
        server.flush();
        server.assert_idle();
    }
}

#[test]
fn several_records_in_one_read_are_not_forgotten() {
    for version in BOTH {
        for (size, most) in [(1, 1), (1, 3), (1000, 1), (1000, 1500), (16_000, 1), (16_000, LENT)] {
            let (mut client, mut server) = connected(version);
            let all = pattern(5 * size);
            // The client's records are one a write.
            let mut flight = Vec::new();
            for part in all.chunks(size) {
                client.rustls.writer().write_all(part).expect("a record");
                client.rustls.write_tls(&mut flight).expect("memory");
            }
            client.stream.write_all(&flight).expect("one segment");
            let mut got = Vec::new();
            for _ in 0..20 {
                let read = server.read_most(most).expect("a read");
                assert!(server.into.len() < most + size, "at most one record too many");
                got.extend(server.taken());
                server.tls.settle(&mut server.pool);
                match read {
                    Got::Data { drained: true } => {
                        assert_eq!(got.len(), all.len(), "nothing is left here when the socket is said to be drained");
                    }
                    Got::Blocked => break,
                    Got::Data { .. } => {
                        // What is held does not get in the way of writing.
                        assert_eq!(server.write(&[b"x"]), 1);
                    }
                    Got::End { .. } => panic!("no end was said"),
                }
            }
            assert!(got == all, "records of {size}, {most} at a time: {} of {}", got.len(), all.len());
            client.receive().expect("answers");
            server.assert_idle();
        }
    }
}

#[test]
fn the_end_comes_after_all_data_and_stays() {
    for version in BOTH {
        let (mut client, mut server) = connected(version);
        let mut flight = Vec::new();
        client.rustls.writer().write_all(b"last words").expect("words");
        client.rustls.send_close_notify();
        while client.rustls.wants_write() {
            client.rustls.write_tls(&mut flight).expect("memory");
        }
        flight.extend_from_slice(b"what comes behind is ignored");
        client.stream.write_all(&flight).expect("one segment");
        assert_eq!(server.read_most(1).expect("data"), Got::Data { drained: false });
        assert_eq!(server.taken(), b"last words");
        for _ in 0..3 {
            assert_eq!(server.read().expect("the end"), Got::End { clean: true });
        }
        // The other direction is still open, in both versions.
        assert_eq!(server.write(&[b"answer"]), 6);
        assert!(server.finish());
        client.receive().expect("the answer");
        assert!(client.closed && client.got == b"answer");
        server.assert_idle();
    }
}

#[test]
fn a_stream_that_is_cut_off_does_not_end_cleanly() {
    for version in BOTH {
        let (mut client, mut server) = connected(version);
        client.say(b"half a request");
        drop(client);
        assert_eq!(server.read_all().expect("an end"), Got::End { clean: false });
        assert_eq!(server.taken(), b"half a request");
        assert_eq!(server.read().expect("the same end"), Got::End { clean: false });
    }
    // In the middle of a record, and of the handshake.
    let (mut client, mut server) = connected(&TLS13);
    let mut flight = Vec::new();
    client.rustls.writer().write_all(b"lost").expect("words");
    client.rustls.write_tls(&mut flight).expect("memory");
    client.stream.write_all(&flight[..flight.len() - 1]).expect("most of it");
    drop(client);
    assert_eq!(server.read_all().expect("an end"), Got::End { clean: false });
    assert!(server.taken().is_empty());
    server.assert_idle_after_release();
    let (mut client, mut server) = pair(&tls_for("localhost"), &client_config(&TLS13, None));
    client.send();
    drop(client);
    assert_eq!(server.read_all().expect("an end"), Got::End { clean: false });
}

#[test]
fn our_end_leaves_the_peers_open() {
    for version in BOTH {
        let (mut client, mut server) = connected(version);
        assert!(server.finish() && server.finish());
        client.receive().expect("the end");
        assert!(client.closed);
        assert_eq!(client.records().len(), 1, "close_notify is said once");
        client.say(b"but I am not done");
        assert_eq!(server.read().expect("data"), Got::Data { drained: true });
        assert_eq!(server.taken(), b"but I am not done");
        let refused = server.tls.write(&mut server.socket, &[IoSlice::new(b"x")], &mut server.pool);
        assert!(matches!(refused, Err(Fault::Io(error)) if error.kind() == io::ErrorKind::BrokenPipe));
        client.rustls.send_close_notify();
        client.send();
        assert_eq!(server.read().expect("the end"), Got::End { clean: true });
    }
}

#[test]
fn a_full_socket_loses_nothing_and_holds_little() {
    for version in BOTH {
        let (mut client, mut server) = connected(version);
        let all = pattern(4 << 20);
        let (mut at, mut blocked) = (0, 0);
        while at < all.len() {
            let n = server.write(&[&all[at..]]);
            at += n;
            assert!(server.tls.pending() <= LENT && server.pool.lent() <= 1);
            if at < all.len() {
                blocked += 1;
                assert_eq!(server.write(&[&all[at..]]), 0, "the socket is full, and nothing more is taken over");
                assert!(!server.flush());
                server.tls.settle(&mut server.pool);
                client.receive().expect("data");
                server.flush();
            }
        }
        assert!(blocked > 5, "the socket was never full");
        while !server.finish() {
            client.receive().expect("data");
        }
        client.receive().expect("data");
        assert!(client.got == all && client.closed);
        server.assert_idle();
    }
}

#[test]
fn keys_are_updated_while_we_only_write() {
    let (mut client, mut server) = connected(&TLS13);
    let all = pattern(1 << 20);
    let (mut at, mut rounds) = (0, 0);
    while at < all.len() {
        // Sent with each block we write; what came is read only now and then.
        client.rustls.refresh_traffic_keys().expect("a key update");
        client.say(b".");
        if rounds % 3 == 0 {
            server.read_all().expect("key updates");
        }
        at += server.write(&[&all[at..all.len().min(at + 10_000)]]);
        client.receive().expect("in the right keys");
        rounds += 1;
    }
    server.read_all().expect("the rest");
    assert_eq!(server.taken().len(), rounds);
    server.write(&[b"!"]);
    client.receive().expect("an end");
    assert!(rounds > 50 && client.got[..all.len()] == all && client.got.ends_with(b"!"));
    server.assert_idle();
    // Only key updates, and nothing to write: they make us keep nothing, and the next data is in order.
    for _ in 0..20 {
        client.rustls.refresh_traffic_keys().expect("a key update");
        client.send();
        assert_eq!(server.read().expect("a key update"), Got::Data { drained: true });
        server.assert_idle();
    }
    assert_eq!(server.write(&[b"?"]), 1);
    client.receive().expect("data");
    assert!(client.got.ends_with(b"!?"));
}

#[test]
fn plain_http_is_told_from_tls() {
    let (mut stream, socket) = sockets();
    let mut server = server_over(socket);
    stream.write_all(b"GET / HTTP/1.1\r\n").expect("a request");
    assert!(matches!(server.read(), Err(Fault::PlainHttp)));
    server.assert_idle();
    assert!(server.finish(), "nothing is said in TLS");
    drop(server);
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an end");
    assert!(answer.is_empty());
}

#[test]
fn nonsense_is_answered_with_an_alert() {
    // rustls has no alert for a message that is too large before it is one.
    for (alerted, nonsense) in [
        (true, &b"nonsense"[..]),
        (true, &[0x17, 3, 3, 0xff, 0xff, 0]),
        (true, &[0; 100]),
        (true, &[0x16, 3, 1, 0, 5, 1, 0, 0, 1, 9]),
        (false, b"\x16\x03\x01\x00\x05hello"),
    ] {
        let (mut stream, socket) = sockets();
        let mut server = server_over(socket);
        stream.write_all(nonsense).expect("nonsense");
        assert!(matches!(server.read(), Err(Fault::Tls(_))), "{nonsense:?}");
        assert!(matches!(server.read(), Err(Fault::Tls(_))), "still broken");
        let mut alert = [0; 20];
        let n = stream.read(&mut alert).unwrap_or(0);
        if alerted {
            assert_eq!((alert[0], n, alert[5]), (0x15, 7, 2), "a fatal alert for {nonsense:?}");
        }
        assert!(server.finish());
        server.assert_idle();
    }
    // A record that was tampered with.
    let (mut client, mut server) = connected(&TLS13);
    let mut flight = Vec::new();
    client.rustls.writer().write_all(b"secret").expect("words");
    client.rustls.write_tls(&mut flight).expect("memory");
    flight[7] ^= 1;
    client.stream.write_all(&flight).expect("bytes");
    assert!(matches!(server.read(), Err(Fault::Tls(_))));
    assert_eq!(client.receive(), Err(rustls::Error::AlertReceived(rustls::AlertDescription::BadRecordMac)));
    server.assert_idle();
}

#[test]
fn sessions_are_resumed() {
    for version in BOTH {
        let (tls, config) = (tls_for("localhost"), client_config(version, None));
        let kinds = [(); 3].map(|()| {
            let (mut client, mut server) = pair(&tls, &config);
            shake(&mut client, &mut server).expect("a handshake");
            server.write(&[b"x"]);
            client.receive().expect("a ticket");
            assert_eq!(server.tls.server_name(), Some("localhost"));
            client.rustls.handshake_kind()
        });
        assert_eq!(kinds, [HandshakeKind::Full, HandshakeKind::Resumed, HandshakeKind::Resumed].map(Some));
    }
}

#[test]
fn the_ticket_goes_with_the_first_answer() {
    let (mut client, mut server) = pair(&tls_for("localhost"), &client_config(&TLS13, None));
    client.send();
    server.read().expect("a hello");
    client.receive().expect("the server's flight");
    client.wire.clear();
    client.say(b"request");
    assert_eq!(server.read().expect("a request"), Got::Data { drained: true });
    client.receive().expect("nothing");
    assert!(client.wire.is_empty() && server.tls.pending() > 0);
    server.tls.settle(&mut server.pool);
    assert_eq!(server.pool.lent(), usize::from(!server.into.is_empty() && server.into.capacity() >= LENT));
    assert_eq!(server.write(&[b"answer"]), 6);
    client.receive().expect("both");
    assert_eq!((client.records().len(), &client.got[..]), (2, &b"answer"[..]));
}

#[test]
fn a_certificate_is_chosen_by_name() {
    let mut builder = Tls::builder();
    for name in ["first.example", "*.second.example", "third.example"] {
        let (cert, key) = certificate(name);
        builder = builder.pem_bytes(cert.as_bytes(), key.as_bytes()).expect("a certificate");
    }
    let tls = builder.build().expect("a configuration");
    let config = client_config(&TLS13, None);
    for name in ["first.example", "www.second.example", "third.example"] {
        let (mut client, mut server) = pair_named(&tls, &config, name);
        shake(&mut client, &mut server).expect("the certificate of that name");
        assert_eq!(server.tls.server_name(), Some(name));
    }
    for name in ["a.b.second.example", "fourth.example", "127.0.0.1"] {
        let (mut client, mut server) = pair_named(&tls, &config, name);
        let error = shake(&mut client, &mut server).expect_err("none has that name");
        assert!(error.contains("NotValidForName"), "the first is shown, and the client says: {error}");
    }
}

#[test]
fn certificates_are_replaced_while_running() {
    let (tls, config) = (tls_for("old.example"), client_config(&TLS13, None));
    let (mut client, mut old) = pair_named(&tls, &config, "old.example");
    tls.clone().replace(&tls_for("new.example"));
    shake(&mut client, &mut old).expect("what began before goes on");
    let (mut client, mut server) = pair_named(&tls, &config, "old.example");
    shake(&mut client, &mut server).expect_err("what begins now gets the new one");
    let (mut client, mut server) = pair_named(&tls, &config, "new.example");
    shake(&mut client, &mut server).expect("the new one");
    server.write(&[b"x"]);
    client.receive().expect("a ticket");

    let dir = Scratch::new("replace");
    let (cert, key) = certificate("new.example");
    let (cert, key) = (dir.file("cert.pem", &cert), dir.file("key.pem", &key));
    tls.replace_pem(&cert, dir.path("missing.pem")).expect_err("a missing key");
    tls.replace_pem(&cert, &key).expect("a renewed certificate");
    let (mut client, mut server) = pair_named(&tls, &config, "new.example");
    shake(&mut client, &mut server).expect("the renewed one");
    assert_eq!(client.rustls.handshake_kind(), Some(HandshakeKind::Resumed), "sessions outlive a renewal");
}

#[test]
fn clients_show_certificates() {
    let (cert, key) = certificate("localhost");
    let tls = |required| {
        let builder = Tls::builder().pem_bytes(cert.as_bytes(), key.as_bytes()).expect("a certificate");
        let builder = builder.client_certificates_bytes(ca().pem.as_bytes(), required).expect("a CA");
        builder.build().expect("a configuration")
    };
    let (good, bad) = (certificate("me"), signed_by(&authority("somebody else"), &["me".to_owned()]));
    for version in BOTH {
        for (required, own, fine) in [
            (true, Some(&good), true),
            (true, None, false),
            (true, Some(&bad), false),
            (false, Some(&good), true),
            (false, None, true),
            (false, Some(&bad), false),
        ] {
            let (mut client, mut server) = pair(&tls(required), &client_config(version, own));
            let result = shake(&mut client, &mut server);
            assert_eq!(result.is_ok(), fine, "required {required}, own {}: {result:?}", own.is_some());
            if fine {
                let seen = server.tls.peer_certificates().map(<[_]>::to_vec);
                assert_eq!(seen, own.map(|(cert, _)| vec![der(cert)]));
            }
        }
    }
}

#[test]
fn a_configuration_is_taken_as_it_is() {
    let (cert, key) = certificate("localhost");
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("a key");
    let mut config = rustls::ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![der(&cert)], key)
        .expect("a configuration");
    // Records much smaller than ours.
    config.max_fragment_size = Some(100);
    let (mut client, mut server) = pair(&Arc::new(config).into(), &client_config(&TLS13, None));
    shake(&mut client, &mut server).expect("a handshake");
    assert_eq!((server.tls.alpn_protocol(), server.tls.server_name()), (None, Some("localhost")));
    let all = pattern(200_000);
    let mut at = 0;
    for _ in 0..100 {
        at += server.write(&[&all[at..at + 1], &all[at + 1..]]);
        client.receive().expect("small records");
        if at == all.len() {
            break;
        }
    }
    assert!(client.got == all);
}

#[test]
fn a_huge_handshake_over_a_narrow_socket() {
    let (cert, key) = huge_certificate();
    for version in BOTH {
        let builder = Tls::builder().pem_bytes(cert.as_bytes(), key.as_bytes()).expect("a certificate");
        let builder = builder.client_certificates_bytes(ca().pem.as_bytes(), true).expect("a CA");
        let own = huge_certificate();
        let config = client_config(version, Some(&own));
        let (mut client, mut server) = pair(&builder.build().expect("a configuration"), &config);
        client.rustls.set_buffer_limit(None);
        let Socket::Unix(socket) = &server.socket else { panic!("not a Unix socket") };
        socket2::SockRef::from(socket).set_send_buffer_size(1).expect("a narrow socket");
        socket2::SockRef::from(&client.stream).set_send_buffer_size(1).expect("a narrow socket");
        let mut blocked = 0;
        for _ in 0..1000 {
            client.send();
            server.read().expect("a part of the handshake");
            assert_eq!(server.write(&[]), 0);
            blocked += usize::from(server.tls.pending() > 0);
            server.tls.settle(&mut server.pool);
            client.receive().expect("a part of the handshake");
            server.flush();
            if !client.rustls.is_handshaking() && !server.tls.is_handshaking() {
                break;
            }
        }
        assert!(blocked > 0, "the socket was never full");
        assert_eq!(server.tls.peer_certificates().map(<[_]>::len), Some(1));
        // A ticket with the client's certificate in it may still be on its way.
        for _ in 0..1000 {
            if server.write(&[b"hello"]) == 5 {
                break;
            }
            client.receive().expect("a part of the ticket");
        }
        client.receive().expect("data");
        assert_eq!(client.got, b"hello");
        server.assert_idle();
    }
}

#[test]
fn it_can_be_ended_at_any_point_of_the_handshake() {
    // The client's certificate is in several records, of which some are decrypted already: rustls keeps its place.
    let builder = Tls::builder();
    let (cert, key) = certificate("localhost");
    let builder = builder.pem_bytes(cert.as_bytes(), key.as_bytes()).expect("a certificate");
    let tls = builder.client_certificates_bytes(ca().pem.as_bytes(), true).expect("a CA").build().expect("all");
    let own = huge_certificate();
    for version in BOTH {
        let (mut client, mut server) = pair(&tls, &client_config(version, Some(&own)));
        client.rustls.set_buffer_limit(None);
        client.send();
        server.read().expect("a hello");
        client.receive().expect("the server's flight");
        let mut flight = Vec::new();
        while client.rustls.wants_write() {
            client.rustls.write_tls(&mut flight).expect("memory");
        }
        assert!(flight.len() > 20_000);
        client.stream.write_all(&flight[..20_000]).expect("a part");
        server.read_all().expect("a part");
        assert!(server.tls.is_handshaking());
        assert!(server.flush());
        assert_eq!(server.write(&[b"early"]), 0);
        server.tls.settle(&mut server.pool);
        assert!(server.finish());
        drop(client);
        assert_eq!(server.read_all().expect("an end"), Got::End { clean: false });
        server.assert_idle_after_release();
    }
}

#[test]
fn an_endless_hello_is_refused() {
    let (mut stream, socket) = sockets();
    let mut server = server_over(socket);
    // One message said to be of 16 MiB, in as many records as the server likes.
    let mut record = vec![0x16, 3, 1, 0x40, 0, 1, 0xff, 0xff, 0xff];
    record.resize(5 + 0x4000, 0);
    for _ in 0..10 {
        let _ = stream.write(&record);
        if let Err(fault) = server.read() {
            assert!(matches!(fault, Fault::Tls(_)));
            server.assert_idle();
            return;
        }
    }
    panic!("160 KiB were taken");
}

#[test]
fn without_a_buffer_it_waits() {
    let (mut client, mut server) = connected(&TLS13);
    client.say(b"request");
    let mut others: Vec<Buf> = (0..16).map(|_| Buf::default()).collect();
    others.iter_mut().for_each(|buf| assert!(server.pool.lend(buf)));
    assert_eq!(server.read().expect("not now"), Got::Data { drained: false });
    assert!(server.into.is_empty());
    assert_eq!(server.write(&[b"answer"]), 0);
    others.iter_mut().for_each(|buf| server.pool.settle(buf));
    assert!(server.pool.returned());
    assert_eq!(server.read().expect("now"), Got::Data { drained: true });
    assert_eq!(server.taken(), b"request");
    assert_eq!(server.write(&[b"answer"]), 6);
    server.assert_idle();
}

#[test]
fn it_is_small() {
    assert!(size_of::<TlsConn>() <= 1536, "{} bytes", size_of::<TlsConn>());
}

// --- PEM ---

/// A directory that goes away with the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("uncork-tls-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a directory");
        Self(dir)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, text).expect("a file");
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn errors_say_which_file_and_what_to_do() {
    let dir = Scratch::new("errors");
    let ((cert, key), (other_cert, other_key)) = (certificate("one"), certificate("two"));
    let (good_cert, good_key) = (dir.file("cert.pem", &cert), dir.file("key.pem", &key));
    let both = dir.file("both.pem", &(key.clone() + &cert));
    Tls::pem(&good_cert, &good_key).expect("a pair");
    Tls::pem(&both, &both).expect("a pair in one file");

    let text = |cert: &Path, key: &Path| Tls::pem(cert, key).expect_err("an error").to_string();
    let check = |cert: &Path, key: &Path, file: &str, what: &str| {
        let text = text(cert, key);
        assert!(text.contains(file) && text.contains(what), "{text}");
    };
    check(&dir.path("none.pem"), &good_key, "none.pem", "there is no such file");
    check(&good_cert, &dir.path("none.pem"), "none.pem", "there is no such file");
    check(&dir.0, &good_key, "uncork-tls-errors", "can't be read");
    check(&good_key, &good_cert, "key.pem", "no certificate in it; give a PEM file");
    check(&good_cert, &good_cert, "cert.pem", "no private key in it; give a PEM file");
    check(&dir.file("empty.pem", ""), &good_key, "empty.pem", "no certificate in it");
    check(&good_cert, &dir.file("theirs.pem", &other_key), "theirs.pem", "does not belong to the certificate in");
    check(&dir.file("order.pem", &(other_cert + &cert)), &good_key, "order.pem", "certificate first");
    let cut: String = cert.lines().take(4).map(|line| format!("{line}\n")).collect();
    check(&dir.file("cut.pem", &cut), &good_key, "cut.pem", "malformed: ");
    let junk = |kind: &str| format!("-----BEGIN {kind}-----\nAAAA\n-----END {kind}-----\n");
    check(&dir.file("junk.pem", &junk("CERTIFICATE")), &good_key, "junk.pem", "malformed: ");
    check(&good_cert, &dir.file("junk-key.pem", &junk("PRIVATE KEY")), "junk-key.pem", "malformed: ");
    check(
        &good_cert,
        &dir.file("base64.pem", &junk("PRIVATE KEY").replace("AAAA", "%%%%")),
        "base64.pem",
        "malformed: ",
    );
    check(&good_cert, &dir.file("locked.pem", &junk("ENCRYPTED PRIVATE KEY")), "locked.pem", "by a password");
    let old = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA\n\
               -----END RSA PRIVATE KEY-----\n";
    check(&good_cert, &dir.file("old.pem", old), "old.pem", "by a password");

    let builder = || Tls::builder().pem(&good_cert, &good_key).expect("a pair");
    let error = builder().client_certificates(&good_key, true).expect_err("no CA");
    assert!(matches!(&error, TlsError::NoCertificate { file } if file.ends_with("key.pem")), "{error}");
    assert!(matches!(Tls::builder().build(), Err(TlsError::Unusable(_))));
    let error = Tls::pem_bytes(b"", key.as_bytes()).expect_err("no certificate");
    assert!(error.to_string().contains("the certificate given"), "{error}");
    assert!(std::error::Error::source(&Tls::pem(dir.path("x"), &good_key).expect_err("no file")).is_some());
}

#[test]
fn keys_come_in_three_forms() {
    // Made by `openssl ecparam -genkey` and `openssl genrsa -traditional`; the certificates by `openssl req -x509`.
    for form in ["sec1", "pkcs1"] {
        let (cert, key) = match form {
            "sec1" => (include_str!("testdata/ec.crt"), include_str!("testdata/ec.key")),
            _ => (include_str!("testdata/rsa.crt"), include_str!("testdata/rsa.key")),
        };
        let tls = Tls::pem_bytes(cert.as_bytes(), key.as_bytes());
        assert!(tls.is_ok(), "{form}: {:?}", tls.err());
    }
}
