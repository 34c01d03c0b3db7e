use super::*;

fn parse(bytes: &[u8], masked: bool) -> Result<Option<Head>, Fault> {
    Head::parse(bytes, masked, |_, _, _| Ok(()))
}

#[test]
fn the_examples_of_the_rfc() {
    // §5.7
    assert_eq!(&*Frame::text("Hello").wire, b"\x81\x05Hello");
    assert_eq!(&*Frame::encode(Op::Ping, &[b"Hel", b"lo"]).wire, b"\x89\x05Hello");
    assert_eq!(&Frame::binary(&[7; 256]).wire[..5], b"\x82\x7e\x01\x00\x07");
    assert_eq!(&Frame::binary(&[7; 65536]).wire[..11], b"\x82\x7f\x00\x00\x00\x00\x00\x01\x00\x00\x07");
    let key = [0x37, 0xfa, 0x21, 0x3d];
    let mut hello = *b"Hello";
    mask(&mut hello, key, 0);
    assert_eq!(hello, [0x7f, 0x9f, 0x4d, 0x51, 0x58]);
    assert_eq!(Encoded::new(0x81, 5, Some(key)).as_bytes(), b"\x81\x85\x37\xfa\x21\x3d");
    let head = Head { fin: true, rsv1: false, op: Op::Text, mask: Some(key), len: 5, size: 6 };
    assert_eq!(parse(b"\x81\x85\x37\xfa\x21\x3d\x7f", true), Ok(Some(head)));
}

#[test]
fn heads_of_every_size_read_back_as_they_were_written() {
    for len in [0, 1, 125, 126, 127, 255, 256, 65535, 65536, 1 << 20] {
        for key in [None, Some([1, 2, 3, 4])] {
            let written = Encoded::new(0xc2, len, key);
            let bytes = written.as_bytes();
            for cut in 0..bytes.len() {
                assert_eq!(parse(&bytes[..cut], key.is_some()), Ok(None), "{len}, of which {cut}");
            }
            let head = parse(bytes, key.is_some()).expect("a valid head").expect("a complete one");
            assert_eq!((head.len, head.mask, head.size), (len as u64, key, bytes.len()));
            assert!(head.fin && head.rsv1 && head.op == Op::Binary);
        }
    }
}

#[test]
fn an_invalid_head_is_rejected_at_its_first_invalid_byte() {
    #[rustfmt::skip]
    const ROWS: &[(&[u8], usize, &str)] = &[
        // bytes                                      valid bytes before the invalid one
        (b"\x91",                                     0, "reserved bits must be 0"),
        (b"\xa1",                                     0, "reserved bits must be 0"),
        (b"\x83",                                     0, "reserved opcode"),
        (b"\x87",                                     0, "reserved opcode"),
        (b"\x8b",                                     0, "reserved opcode"),
        (b"\x8f",                                     0, "reserved opcode"),
        (b"\x09",                                     0, "a control frame in fragments"),
        (b"\x08",                                     0, "a control frame in fragments"),
        (b"\x81\x05",                                 1, "incorrect mask flag"),
        (b"\x89\xfe",                                 1, "a control frame of more than 125 bytes"),
        (b"\x88\xff",                                 1, "a control frame of more than 125 bytes"),
        (b"\x82\xfe\x00\x7d",                         3, "a length in more bytes than it needs"),
        (b"\x82\xff\x80",                             2, "a length of more than 63 bits"),
        (b"\x82\xff\x00\x00\x00\x00\x00\x00\xff\xff", 9, "a length in more bytes than it needs"),
    ];
    for (bytes, good, rule) in ROWS {
        assert_eq!(parse(bytes, true), Err(Fault::protocol(rule)), "{}", bytes.escape_ascii());
        for cut in 0..=*good {
            assert_eq!(parse(&bytes[..cut], true), Ok(None));
        }
    }
    assert_eq!(parse(b"\x81\x85", false), Err(Fault::protocol("incorrect mask flag")), "a server that masks");
}

#[test]
fn masking_is_byte_by_byte_however_it_is_split() {
    let key = [0xde, 0xad, 0xbe, 0xef];
    let plain: Vec<u8> = (0..200).collect();
    let slow: Vec<u8> = plain.iter().enumerate().map(|(i, b)| b ^ key[i & 3]).collect();
    for cut in 0..plain.len() {
        for end in [cut, plain.len()] {
            let mut bytes = plain[..end].to_vec();
            mask(&mut bytes[..cut], key, 0);
            mask(&mut bytes[cut..], key, cut as u64);
            assert!(bytes == slow[..end], "split at {cut}");
        }
    }
}

#[test]
fn a_frame_is_made_of_parts_and_shows_its_payload() {
    let frame = Frame::text_parts(&["to ", "", "everyone"]);
    assert_eq!(frame, Frame::text("to everyone"));
    assert_eq!((frame.kind(), frame.payload(), frame.len()), (MessageKind::Text, &b"to everyone"[..], 13));
    for n in [0, 125, 126, 65535, 65536] {
        let bytes = vec![7; n];
        let frame = Frame::binary_parts(&[&bytes[..n / 2], &bytes[n / 2..]]);
        assert_eq!((frame.kind(), frame.payload()), (MessageKind::Binary, &bytes[..]));
        assert_eq!(split(&frame.wire), (0x82, &bytes[..]));
    }
    assert!(Frame::text_bytes(b"\xff").is_err());
    assert_eq!(Frame::from(Message::Text("x")), Frame::text("x"));
    assert_eq!(format!("{frame:?}"), "Frame(Text, 11 bytes)");
}

#[test]
fn codes_are_those_of_the_rfc_and_its_registry() {
    let may: Vec<u16> = (0..=u16::MAX).filter(|code| may_be_sent(*code)).collect();
    let want = (1000..=1003).chain(1007..=1014).chain(3000..=4999);
    assert_eq!(may, want.collect::<Vec<_>>());
    for code in 0..=u16::MAX {
        let parsed = parse_close(&code.to_be_bytes()).map(|(code, _)| code);
        assert_eq!(parsed.is_ok(), may_be_sent(code), "{code}");
    }
}

#[test]
fn a_close_is_read_as_it_was_written() {
    assert_eq!(parse_close(&close_payload(1000, "bye")), Ok((1000, "bye")));
    assert_eq!(close_payload(1005, "bye"), b"");
    assert_eq!(parse_close(b""), Ok((1005, "")));
    assert_eq!(parse_close(b"\x03"), Err(Fault::protocol("a Close with half a code")));
    assert_eq!(parse_close(b"\x03\xe8\xff"), Err(Fault::text("a reason that is not UTF-8")));
    // A reason that is too long is shortened between characters.
    let long = close_payload(4000, &"ä".repeat(100));
    assert_eq!((long.len(), parse_close(&long)), (124, Ok((4000, "ä".repeat(61).as_str()))));
}
