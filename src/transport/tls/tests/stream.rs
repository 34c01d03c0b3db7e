//! Tests of data and its end, over established connections.

use super::*;

#[test]
fn a_handshake_and_both_directions() {
    for (version, name) in BOTH.into_iter().zip(["TLSv1.2", "TLSv1.3"]) {
        let (mut client, mut server) = pair(&tls_for("localhost"), &client_config(version, None));
        assert_eq!(server.read().expect("nothing yet"), Got::Blocked);
        assert!(server.tls.is_handshaking());
        assert_eq!(server.write(&[b"too early"]), 0);
        handshake(&mut client, &mut server).expect("a handshake");
        server.assert_idle();
        assert_eq!(server.tls.protocol_version(), Some(name));
        assert_eq!(server.tls.alpn_protocol(), Some(&b"http/1.1"[..]));
        assert_eq!(server.tls.server_name(), Some("localhost"));
        assert_eq!(server.tls.peer_certificates(), None);
        client.write(b"GET / HTTP/1.1\r\n\r\n");
        assert_eq!(server.read().expect("a request"), Got::Data { drained: true });
        assert_eq!(server.take(), b"GET / HTTP/1.1\r\n\r\n");
        assert_eq!(server.read().expect("no more"), Got::Blocked);
        assert_eq!(server.write(&[b"HTTP/1.1 200 OK\r\n", b"", b"\r\n", b"hello"]), 24);
        client.receive().expect("a response");
        assert_eq!(client.got, b"HTTP/1.1 200 OK\r\n\r\nhello");
        server.assert_idle();
    }
}

#[test]
fn head_and_body_are_one_record() {
    for version in BOTH {
        let (mut client, mut server) = connected(version);
        assert_eq!(server.write(&[&[b'h'; 120], &[b'b'; 13]]), 133);
        client.receive().expect("a response");
        assert_eq!((client.records().len(), client.got.len()), (1, 133));
        client.wire.clear();
        let body = pattern(100_000);
        assert_eq!(server.write(&[b"head", &body, b"tail"]), 100_008);
        client.receive().expect("a response");
        assert_eq!(client.records().len(), 7, "as few as possible: {:?}", client.records());
        assert_eq!(client.got[133..], [b"head", &body[..], b"tail"].concat());
    }
}

#[test]
fn several_records_in_one_read_are_all_delivered() {
    for version in BOTH {
        for (size, most) in [(1, 1), (1, 3), (1000, 1), (1000, 1500), (16_000, 1), (16_000, LENT)] {
            let (mut client, mut server) = connected(version);
            let all = pattern(5 * size);
            // The client makes one record per write.
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
                got.extend(server.take());
                server.tls.settle(&mut server.pool);
                match read {
                    Got::Data { drained: true } => {
                        assert_eq!(got.len(), all.len(), "nothing is held when the socket is reported as drained");
                    }
                    Got::Blocked => break,
                    Got::Data { .. } => {
                        // Held records do not block writing.
                        assert_eq!(server.write(&[b"x"]), 1);
                    }
                    Got::Starved => panic!("there are buffers"),
                    Got::End { .. } => panic!("the peer did not end the stream"),
                }
            }
            assert!(got == all, "records of {size}, {most} at a time: {} of {}", got.len(), all.len());
            client.receive().expect("responses");
            server.assert_idle();
        }
    }
}

#[test]
fn the_end_comes_after_all_data_and_stays() {
    for version in BOTH {
        let (mut client, mut server) = connected(version);
        let mut flight = Vec::new();
        client.rustls.writer().write_all(b"last bytes").expect("plaintext");
        client.rustls.send_close_notify();
        while client.rustls.wants_write() {
            client.rustls.write_tls(&mut flight).expect("memory");
        }
        flight.extend_from_slice(b"ignored bytes after the end");
        client.stream.write_all(&flight).expect("one segment");
        assert_eq!(server.read_most(1).expect("data"), Got::Data { drained: false });
        assert_eq!(server.take(), b"last bytes");
        for _ in 0..3 {
            assert_eq!(server.read().expect("the end"), Got::End { clean: true });
        }
        // The other direction is still open, in both versions.
        assert_eq!(server.write(&[b"response"]), 8);
        assert!(server.finish());
        client.receive().expect("the response");
        assert!(client.closed && client.got == b"response");
        server.assert_idle();
    }
}

#[test]
fn a_truncated_stream_does_not_end_cleanly() {
    for version in BOTH {
        let (mut client, mut server) = connected(version);
        client.write(b"half a request");
        drop(client);
        assert_eq!(server.read_all().expect("an end"), Got::End { clean: false });
        assert_eq!(server.take(), b"half a request");
        assert_eq!(server.read().expect("the same end"), Got::End { clean: false });
    }
    // In the middle of a record, and of the handshake.
    let (mut client, mut server) = connected(&TLS13);
    let mut flight = Vec::new();
    client.rustls.writer().write_all(b"lost").expect("plaintext");
    client.rustls.write_tls(&mut flight).expect("memory");
    client.stream.write_all(&flight[..flight.len() - 1]).expect("most of it");
    drop(client);
    assert_eq!(server.read_all().expect("an end"), Got::End { clean: false });
    assert!(server.take().is_empty());
    server.assert_idle_after_release();
    let (mut client, mut server) = pair(&tls_for("localhost"), &client_config(&TLS13, None));
    client.send();
    drop(client);
    assert_eq!(server.read_all().expect("an end"), Got::End { clean: false });
}

#[test]
fn our_half_close_leaves_the_peers_direction_open() {
    for version in BOTH {
        let (mut client, mut server) = connected(version);
        assert!(server.finish() && server.finish());
        client.receive().expect("the end");
        assert!(client.closed);
        assert_eq!(client.records().len(), 1, "close_notify is sent once");
        client.write(b"more data");
        assert_eq!(server.read().expect("data"), Got::Data { drained: true });
        assert_eq!(server.take(), b"more data");
        let rejected = server.tls.write(&mut server.socket, &[IoSlice::new(b"x")], &mut server.pool);
        assert!(matches!(rejected, Err(Fault::Io(error)) if error.kind() == io::ErrorKind::BrokenPipe));
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
                assert_eq!(server.write(&[&all[at..]]), 0, "the socket is full, and no more is accepted");
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
        // The client sends one with each block that we write. The server rarely reads.
        client.rustls.refresh_traffic_keys().expect("a key update");
        client.write(b".");
        if rounds % 3 == 0 {
            server.read_all().expect("key updates");
        }
        at += server.write(&[&all[at..all.len().min(at + 10_000)]]);
        client.receive().expect("data in the current keys");
        rounds += 1;
    }
    server.read_all().expect("the rest");
    assert_eq!(server.take().len(), rounds);
    server.write(&[b"!"]);
    client.receive().expect("an end");
    assert!(rounds > 50 && client.got[..all.len()] == all && client.got.ends_with(b"!"));
    server.assert_idle();
    // Key updates without data: the server keeps nothing, and the next data is correct.
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
fn without_a_buffer_it_waits() {
    let (mut client, mut server) = connected(&TLS13);
    client.write(b"request");
    let mut others: Vec<Buf> = (0..16).map(|_| Buf::default()).collect();
    others.iter_mut().for_each(|buf| assert!(server.pool.lend(buf)));
    assert_eq!(server.read().expect("not now"), Got::Starved);
    assert!(server.into.is_empty());
    assert_eq!(server.write(&[b"response"]), 0);
    others.iter_mut().for_each(|buf| server.pool.settle(buf));
    assert!(server.pool.returned());
    assert_eq!(server.read().expect("now"), Got::Data { drained: true });
    assert_eq!(server.take(), b"request");
    assert_eq!(server.write(&[b"response"]), 8);
    server.assert_idle();
}
