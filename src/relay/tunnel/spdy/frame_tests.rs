use super::{super::write, *};

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

/// Returns all pieces of `wire`, fed `size` bytes at a time. Those of one payload are joined.
fn pieces(wire: &[u8], size: usize) -> Result<Vec<String>, Fault> {
    let (mut decoder, mut all, mut held) = (Decoder::new(), Vec::new(), Vec::new());
    for mut input in wire.chunks(size) {
        while let Some(piece) = decoder.next(&mut input)? {
            match piece {
                Piece::Block { bytes, end } | Piece::Data { bytes, end } => {
                    held.extend_from_slice(bytes);
                    if end {
                        all.push(format!("{:?}", String::from_utf8_lossy(&std::mem::take(&mut held))));
                    }
                }
                other => all.push(format!("{other:?}")),
            }
        }
        assert!(input.is_empty(), "all input is used");
    }
    Ok(all)
}

/// Heads of the first request of a spdy-proxy, as recorded; other types from the specification.
#[test]
fn frames_are_read_in_any_pieces() {
    #[rustfmt::skip]
    let rows: [(&str, &[&str]); 12] = [
        ("8003 0001 00 00000c 00000001 00000000 0000 6869",
            &["Syn { syn: Stream { unidirectional: false }, stream: 1, fin: false }", "\"hi\""]),
        ("8003 0001 03 00000a 80000003 00000000 e000",
            &["Syn { syn: Stream { unidirectional: true }, stream: 3, fin: true }", "\"\""]),
        ("8003 0002 01 000005 00000001 41", &["Syn { syn: Reply, stream: 1, fin: true }", "\"A\""]),
        ("8003 0008 00 000004 00000001", &["Syn { syn: More, stream: 1, fin: false }", "\"\""]),
        ("00000001 01 000005 68656c6c6f", &["DataHead { stream: 1, len: 5, fin: true }", "\"hello\""]),
        ("00000001 01 000000", &["DataHead { stream: 1, len: 0, fin: true }"]),
        ("8003 0003 00 000008 00000001 00000005", &["Reset { stream: 1, code: Code(5) }"]),
        ("8003 0006 00 000004 80000002", &["Ping { id: 2147483650 }"]),
        ("8003 0007 00 000008 00000003 00000000", &["GoAway { last: 3 }"]),
        ("8003 0009 00 000008 00000000 80008000", &["WindowUpdate { stream: 0, delta: 32768 }"]),
        // SETTINGS, an unknown type, and any version.
        ("8003 0004 00 00000c 000000010000000400000064 8003 00ff 00 000000", &[]),
        ("8002 0006 00 000004 00000001", &["Ping { id: 1 }"]),
    ];
    let mut wire = Vec::new();
    let mut want: Vec<&str> = Vec::new();
    for (hex, expected) in rows {
        for size in [1, 3, 1000] {
            assert_eq!(pieces(&bytes(hex), size).unwrap(), expected, "{hex}");
        }
        wire.extend(bytes(hex));
        want.extend(expected);
    }
    for size in 1..40 {
        assert_eq!(pieces(&wire, size).unwrap(), want);
    }
}

#[test]
fn lengths_are_checked_before_any_payload_arrives() {
    #[rustfmt::skip]
    let rows = [
        ("8003 0001 00 000009", false),
        ("8003 0001 00 100000", true),
        ("8003 0001 00 100001", false),
        ("8003 0002 00 000003", false),
        ("8003 0002 00 ffffff", false),
        ("8003 0003 00 000007", false),
        ("8003 0003 00 000009", false),
        ("8003 0006 00 000008", false),
        ("8003 0007 00 000004", false),
        ("8003 0009 00 00000c", false),
        ("8003 0004 00 010000", true),
        ("8003 0004 00 010001", false),
        ("8003 7fff 00 ffffff", false),
        ("00000001 00 ffffff", true), // The window limits it.
    ];
    for (hex, is_valid) in rows {
        assert_eq!(pieces(&bytes(hex), 1).is_ok(), is_valid, "{hex}");
    }
}

#[test]
fn frames_are_written_as_spdy_proxy_writes_them() {
    let mut out = Vec::new();
    write::syn_stream(&mut out, 1, false, |out| out.extend_from_slice(&[0xab; 0x69]));
    assert_eq!(out[..18], bytes("8003 0001 00 000073 00000001 00000000 0000"));
    type Write = fn(&mut Vec<u8>);
    #[rustfmt::skip]
    let rows: [(Write, &str); 7] = [
        (|out| write::data(out, 1, true, b"hello"), "00000001 01 000005 68656c6c6f"),
        (|out| write::data(out, 0x7fff_ffff, false, b""), "7fffffff 00 000000"),
        (|out| write::syn_reply(out, 3, true, |out| out.push(7)), "8003 0002 01 000005 00000003 07"),
        (|out| write::reset(out, 5, Code::CANCEL), "8003 0003 00 000008 00000005 00000005"),
        (|out| write::ping(out, 1), "8003 0006 00 000004 00000001"),
        (|out| write::goaway(out, 7, 1), "8003 0007 00 000008 00000007 00000001"),
        (|out| write::window_update(out, 1, 32768), "8003 0009 00 000008 00000001 00008000"),
    ];
    for (write, hex) in rows {
        let mut out = b"before".to_vec();
        write(&mut out);
        assert_eq!(out[6..], bytes(hex));
    }
}
