//! Tests of the handshake: in pieces, interrupted, resumed, rejected.

use super::*;

#[test]
fn a_client_of_http_1_0_is_served() {
    let mut config = ClientConfig::clone(&client_config(BOTH[1], None));
    for (offers, selected) in [(&["http/1.0"][..], Some("http/1.0")), (&["http/1.0", "http/1.1"], Some("http/1.1"))] {
        config.alpn_protocols = offers.iter().map(|name| name.as_bytes().to_vec()).collect();
        let (mut client, mut server) = pair(&tls_for("localhost"), &Arc::new(config.clone()));
        handshake(&mut client, &mut server).expect("a handshake");
        assert_eq!(server.tls.alpn_protocol(), selected.map(str::as_bytes));
    }
}

#[test]
fn a_client_whose_bytes_arrive_one_by_one() {
    for version in BOTH {
        let (mut client, mut server) = pair(&tls_for("localhost"), &client_config(version, None));
        let (mut last, mut sent) = (Got::Blocked, false);
        for _ in 0..10 {
            let mut bytes = Vec::new();
            while client.rustls.wants_write() {
                client.rustls.write_tls(&mut bytes).expect("memory");
            }
            for byte in bytes {
                client.stream.write_all(&[byte]).expect("one byte");
                last = server.read().expect("a byte");
                server.tls.settle(&mut server.pool);
                assert!(server.pool.lent() <= 1, "an incomplete record takes little memory");
            }
            client.receive().expect("the server's flight");
            if !client.rustls.is_handshaking() && !sent {
                sent = true;
                client.rustls.writer().write_all(b"hello").expect("a few bytes");
                client.rustls.writer().write_all(&pattern(3000)).expect("more");
            }
        }
        assert_eq!(last, Got::Data { drained: true });
        assert_eq!(server.take(), [b"hello", &pattern(3000)[..]].concat());
        server.flush();
        server.assert_idle();
    }
}

#[test]
fn plain_http_is_detected() {
    let (mut stream, socket) = sockets();
    let mut server = server_over(socket);
    stream.write_all(b"GET / HTTP/1.1\r\n").expect("a request");
    assert!(matches!(server.read(), Err(Fault::PlainHttp)));
    server.assert_idle();
    assert!(server.finish(), "nothing is sent in TLS");
    drop(server);
    let mut output = Vec::new();
    stream.read_to_end(&mut output).expect("an end");
    assert!(output.is_empty());
}

#[test]
fn invalid_input_gets_an_alert() {
    // rustls has no alert for a message that is too large before it is complete.
    for (alerted, input) in [
        (true, &b"nonsense"[..]),
        (true, &[0x17, 3, 3, 0xff, 0xff, 0]),
        (true, &[0; 100]),
        (true, &[0x16, 3, 1, 0, 5, 1, 0, 0, 1, 9]),
        (false, b"\x16\x03\x01\x00\x05hello"),
    ] {
        let (mut stream, socket) = sockets();
        let mut server = server_over(socket);
        stream.write_all(input).expect("bytes");
        assert!(matches!(server.read(), Err(Fault::Tls(_))), "{input:?}");
        assert!(matches!(server.read(), Err(Fault::Tls(_))), "still broken");
        let mut alert = [0; 20];
        let n = stream.read(&mut alert).unwrap_or(0);
        if alerted {
            assert_eq!((alert[0], n, alert[5]), (0x15, 7, 2), "a fatal alert for {input:?}");
        }
        assert!(server.finish());
        server.assert_idle();
    }
    // A modified record.
    let (mut client, mut server) = connected(&TLS13);
    let mut flight = Vec::new();
    client.rustls.writer().write_all(b"secret").expect("plaintext");
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
            handshake(&mut client, &mut server).expect("a handshake");
            server.write(&[b"x"]);
            client.receive().expect("a ticket");
            assert_eq!(server.tls.server_name(), Some("localhost"));
            client.rustls.handshake_kind()
        });
        assert_eq!(kinds, [HandshakeKind::Full, HandshakeKind::Resumed, HandshakeKind::Resumed].map(Some));
    }
}

#[test]
fn the_ticket_goes_with_the_first_response() {
    let (mut client, mut server) = pair(&tls_for("localhost"), &client_config(&TLS13, None));
    client.send();
    server.read().expect("a hello");
    client.receive().expect("the server's flight");
    client.wire.clear();
    client.write(b"request");
    assert_eq!(server.read().expect("a request"), Got::Data { drained: true });
    client.receive().expect("nothing");
    assert!(client.wire.is_empty() && server.tls.pending() > 0);
    server.tls.settle(&mut server.pool);
    assert_eq!(server.pool.lent(), usize::from(!server.into.is_empty() && server.into.capacity() >= LENT));
    assert_eq!(server.write(&[b"response"]), 8);
    client.receive().expect("both");
    assert_eq!((client.records().len(), &client.got[..]), (2, &b"response"[..]));
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
        // A ticket with the client's certificate in it may still be in flight.
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
    // The client's certificate is in several records, some of them decrypted already: rustls keeps an offset.
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
fn an_endless_hello_is_rejected() {
    let (mut stream, socket) = sockets();
    let mut server = server_over(socket);
    // One message announced with 16 MiB, in as many records as the server accepts.
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
    panic!("160 KiB were accepted");
}
