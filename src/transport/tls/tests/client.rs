//! Tests of our client against our server, and against what a client must reject.

use rcgen::date_time_ymd;

use super::*;
use crate::transport::tls::TlsClient;

/// Returns a client that trusts the tests' authority.
fn trusting_client() -> TlsClient {
    TlsClient::roots_pem(ca().pem.as_bytes()).expect("a root")
}

fn ours(tls: TlsConn, socket: Socket) -> Ours {
    Ours { tls, socket, pool: Pool::new(1 << 20), into: Buf::default() }
}

/// Returns a client that connects to `name`, and the server at the other end.
fn dialed(tls: &Tls, client: &TlsClient, name: &str) -> (Ours, Ours) {
    let (theirs, socket) = sockets();
    let client = TlsConn::connect(client, name).expect("a client");
    let theirs = Socket::from_unix(theirs).expect("a socket").0;
    (ours(client, socket), ours(TlsConn::accept(tls, false).expect("a server"), theirs))
}

/// Takes turns until both ends have finished the handshake. Returns an error that names the end which failed.
fn handshake_both(client: &mut Ours, server: &mut Ours) -> Result<(), String> {
    let text = |end: &str, fault: Fault| match fault {
        Fault::Tls(text) => format!("{end}: {text}"),
        fault => format!("{end}: {fault:?}"),
    };
    for _ in 0..100 {
        client.tls.flush(&mut client.socket, &mut client.pool).map_err(|fault| text("client", fault))?;
        let server_result = server.read().map_err(|fault| text("server", fault));
        server.flush();
        client.read().map_err(|fault| text("client", fault))?;
        server_result?;
        if !client.tls.is_handshaking() && !server.tls.is_handshaking() {
            return Ok(());
        }
    }
    Err("the handshake does not end".into())
}

fn connected_to_ours(client: &TlsClient) -> (Ours, Ours) {
    let (mut client, mut server) = dialed(&tls_for("localhost"), client, "localhost");
    handshake_both(&mut client, &mut server).expect("a handshake");
    (client, server)
}

/// Sends everything, with both ends taking turns.
fn carry(from: &mut Ours, to: &mut Ours, all: &[u8]) {
    let (mut sent, mut got) = (0, Vec::new());
    for _ in 0..1000 {
        sent += from.write(&[&all[sent..]]);
        from.flush();
        to.read().expect("a part");
        got.extend(to.take());
        if got.len() >= all.len() {
            break;
        }
    }
    assert!(got == all, "{} of {}", got.len(), all.len());
}

#[test]
fn a_handshake_with_our_own_server() {
    for (version, name) in BOTH.into_iter().zip(["TLSv1.2", "TLSv1.3"]) {
        let (mut client, mut server) = connected_to_ours(&client_config(version, None).into());
        assert_eq!(client.tls.protocol_version(), Some(name));
        assert_eq!(client.tls.alpn_protocol(), Some(&b"http/1.1"[..]));
        assert_eq!((client.tls.server_name(), server.tls.server_name()), (Some("localhost"), Some("localhost")));
        assert_eq!(client.tls.peer_certificates().map(<[_]>::len), Some(1));
        carry(&mut client, &mut server, &pattern(300_000));
        carry(&mut server, &mut client, &pattern(300_000));
        // Possibly a ticket.
        client.read_all().expect("no more");
        client.assert_idle();
        server.assert_idle();
    }
}

#[test]
fn it_begins_when_it_is_flushed_and_not_before() {
    let (mut client, mut server) = dialed(&tls_for("localhost"), &trusting_client(), "localhost");
    assert_eq!(client.write(&[b"early"]), 0);
    assert_eq!(server.read().expect("nothing"), Got::Blocked);
    assert!(client.flush());
    assert!(matches!(server.read().expect("a hello"), Got::Data { .. }));
    client.assert_idle();
}

#[test]
fn each_side_ends_cleanly_or_truncated() {
    for version in BOTH {
        for clean in [true, false] {
            let (mut client, mut server) = connected_to_ours(&client_config(version, None).into());
            assert_eq!(client.write(&[b"last bytes"]), 10);
            if clean {
                assert!(client.finish());
            } else {
                client.socket.shutdown_write().expect("a shutdown");
            }
            assert_eq!(server.read_all().expect("an end"), Got::End { clean });
            assert_eq!(server.take(), b"last bytes");
            assert_eq!(server.write(&[b"to the last"]), 11);
            assert!(server.finish());
            assert_eq!(client.read_all().expect("an end"), Got::End { clean: true });
            assert_eq!(client.take(), b"to the last");
        }
    }
}

#[test]
fn a_server_whose_bytes_arrive_one_by_one() {
    for version in BOTH {
        let (mut near, socket) = sockets();
        let (mut far, theirs) = sockets();
        let client = TlsConn::connect(&client_config(version, None).into(), "localhost").expect("a client");
        let mut client = ours(client, socket);
        let mut server = ours(TlsConn::accept(&tls_for("localhost"), false).expect("a server"), theirs);
        let mut block = vec![0; 1 << 16];
        for _ in 0..10 {
            client.flush();
            if let Ok(n) = near.read(&mut block) {
                far.write_all(&block[..n]).expect("forwarded");
            }
            server.read().expect("a part");
            server.write(&[b"hello"]);
            server.flush();
            for byte in far.read(&mut block).map_or(&[][..], |n| &block[..n]) {
                near.write_all(&[*byte]).expect("one byte");
                client.read().expect("a byte");
                client.tls.settle(&mut client.pool);
                assert!(client.pool.lent() <= 1, "an incomplete record takes little memory");
            }
        }
        assert!(client.take().starts_with(b"hellohello"));
    }
}

/// Returns a server with a certificate for these names, valid from one year to the other.
fn dated(names: &[&str], from: i32, until: i32) -> Tls {
    let key = KeyPair::generate().expect("key");
    let mut params = CertificateParams::new(names.iter().map(ToString::to_string).collect::<Vec<_>>()).expect("params");
    (params.not_before, params.not_after) = (date_time_ymd(from, 1, 1), date_time_ymd(until, 1, 1));
    let cert = params.signed_by(&key, &ca().issuer).expect("certificate").pem();
    Tls::pem_bytes(cert.as_bytes(), key.serialize_pem().as_bytes()).expect("a configuration")
}

#[test]
fn the_errors_of_a_certificate_are_distinguished() {
    let other = authority("another authority");
    let distrusting = TlsClient::roots_pem(other.pem.as_bytes()).expect("a root");
    let good = dated(&["localhost", "127.0.0.1"], 2000, 4000);
    #[rustfmt::skip]
    let rows: &[(&Tls, &TlsClient, &str, &str)] = &[
        (&good,                                 &trusting_client(), "localhost",   ""),
        (&good,                                 &trusting_client(), "127.0.0.1",   ""),
        (&good,                                 &distrusting,       "localhost",   "client: the peer's certificate is not trusted"),
        (&good,                                 &trusting_client(), "example.org", "client: the peer's certificate is for another name"),
        (&good,                                 &trusting_client(), "::1",         "client: the peer's certificate is for another name"),
        (&dated(&["localhost"], 2000, 2001),    &trusting_client(), "localhost",   "client: the peer's certificate has expired"),
        (&dated(&["localhost"], 3000, 4000),    &trusting_client(), "localhost",   "client: the peer's certificate is not valid yet"),
    ];
    for (tls, client, name, expected) in rows {
        let (mut client, mut server) = dialed(tls, client, name);
        match handshake_both(&mut client, &mut server) {
            Ok(()) => assert!(expected.is_empty(), "not: {expected}"),
            Err(error) => {
                assert!(!expected.is_empty() && error.starts_with(expected), "{error}, not: {expected}");
                // The server receives an alert.
                let Err(Fault::Tls(text)) = server.read_all() else { panic!("no alert") };
                assert!(text.contains("the peer sent an alert"), "{text}");
                client.assert_idle_after_release();
            }
        }
    }
}

#[test]
fn the_certificate_of_a_client_is_presented() {
    let (cert, key) = certificate("localhost");
    let builder = Tls::builder().pem_bytes(cert.as_bytes(), key.as_bytes()).expect("a certificate");
    let tls = builder.client_certificates_bytes(ca().pem.as_bytes(), true).expect("a CA").build().expect("all");
    let (own, own_key) = certificate("me");
    let builder = TlsClient::builder().roots_pem(ca().pem.as_bytes()).expect("a root");
    let me = builder.certificate_pem(own.as_bytes(), own_key.as_bytes()).expect("a pair").build().expect("a client");
    let (mut client, mut server) = dialed(&tls, &me, "localhost");
    handshake_both(&mut client, &mut server).expect("a handshake");
    assert_eq!(server.tls.peer_certificates(), Some(&[der(&own)][..]));
    let (mut client, mut server) = dialed(&tls, &trusting_client(), "localhost");
    let error = handshake_both(&mut client, &mut server).expect_err("no certificate");
    assert!(error.contains("alert: CertificateRequired"), "the server reports what is missing: {error}");
}

#[test]
fn sessions_are_resumed_by_all_clones() {
    for version in BOTH {
        let (tls, client) = (tls_for("localhost"), TlsClient::from(client_config(version, None)));
        let kinds = [(); 3].map(|()| {
            let (mut client, mut server) = dialed(&tls, &client.clone().alpn(&[b"http/1.1"]), "localhost");
            handshake_both(&mut client, &mut server).expect("a handshake");
            server.write(&[b"x"]);
            client.read_all().expect("a ticket");
            client.tls.handshake_kind()
        });
        assert_eq!(kinds, [HandshakeKind::Full, HandshakeKind::Resumed, HandshakeKind::Resumed].map(Some));
    }
}

#[test]
fn a_configuration_is_replaced_for_all_clones() {
    let (cert, key) = certificate("localhost");
    let builder = Tls::builder().pem_bytes(cert.as_bytes(), key.as_bytes()).expect("a certificate");
    let tls = builder.client_certificates_bytes(ca().pem.as_bytes(), true).expect("a CA").build().expect("all");
    for version in BOTH {
        let (old, new) = (certificate("old"), certificate("new"));
        let [client, renewed] = [&old, &new].map(|own| TlsClient::from(client_config(version, Some(own))));
        let clone = client.clone();
        let shown = |client: &TlsClient| {
            let (mut client, mut server) = dialed(&tls, client, "localhost");
            handshake_both(&mut client, &mut server).expect("a handshake");
            server.write(&[b"x"]);
            client.read_all().expect("a ticket");
            (server.tls.peer_certificates().map(<[_]>::to_vec), client.tls.handshake_kind())
        };
        let (full, resumed) = (Some(HandshakeKind::Full), Some(HandshakeKind::Resumed));
        assert_eq!(shown(&client), (Some(vec![der(&old.0)]), full));
        assert_eq!(shown(&clone), (Some(vec![der(&old.0)]), resumed));
        let (mut earlier, mut server) = dialed(&tls, &clone, "localhost");
        let apart = clone.alpn(&[b"http/1.1"]);
        clone.replace(&renewed);
        handshake_both(&mut earlier, &mut server).expect("an earlier handshake continues");
        assert_eq!(server.tls.peer_certificates(), Some(&[der(&old.0)][..]));
        assert_eq!(shown(&client), (Some(vec![der(&new.0)]), full), "a resumed session would have the old one");
        assert_eq!(shown(&client), (Some(vec![der(&new.0)]), resumed));
        assert_eq!(shown(&apart).0, Some(vec![der(&old.0)]));
    }
}

#[test]
fn the_server_selects_an_offered_protocol() {
    for (offered, selected) in [(&[&b"h2"[..], b"http/1.1"][..], Some(&b"http/1.1"[..])), (&[], None)] {
        let (client, _) = connected_to_ours(&trusting_client().alpn(offered));
        assert_eq!(client.tls.alpn_protocol(), selected);
    }
    let (mut client, mut server) = dialed(&tls_for("localhost"), &trusting_client().alpn(&[b"h2"]), "localhost");
    let error = handshake_both(&mut client, &mut server).expect_err("nothing in common");
    assert!(error.contains("NoApplicationProtocol"), "{error}");
}

#[test]
fn no_early_data_is_sent_and_plain_text_is_detected() {
    let mut config = Arc::unwrap_or_clone(client_config(&TLS13, None));
    config.enable_early_data = true;
    assert!(!TlsClient::from(Arc::new(config)).config().enable_early_data);
    let (mut stream, socket) = sockets();
    let mut client = ours(TlsConn::connect(&trusting_client(), "localhost").expect("a client"), socket);
    client.flush();
    stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").expect("a response");
    let Err(Fault::Tls(text)) = client.read() else { panic!("no TLS") };
    assert!(text.contains("plain text"), "{text}");
}

#[test]
fn errors_name_what_is_missing() {
    assert!(matches!(TlsClient::builder().build(), Err(TlsError::Unusable(text)) if text.contains("roots")));
    let error = TlsClient::roots_pem(b"").expect_err("none");
    assert!(error.to_string().contains("the given roots"), "{error}");
    let error = TlsClient::builder().roots("/nowhere/ca.pem").expect_err("no file");
    assert!(error.to_string().contains("no such file"), "{error}");
    assert!(TlsClient::is_name("localhost") && TlsClient::is_name("::1") && !TlsClient::is_name("[::1]"));
}

#[cfg(feature = "client")]
#[test]
fn the_roots_of_the_system_are_trusted_or_an_error_names_the_cause() {
    match TlsClient::system() {
        Ok(client) => assert!(TlsConn::connect(&client, "localhost").is_ok()),
        Err(error) => assert!(error.to_string().contains("root certificates"), "{error}"),
    }
}
