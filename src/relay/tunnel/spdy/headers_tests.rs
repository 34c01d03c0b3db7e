use super::{
    super::{
        deflater::Deflater,
        head::{Malformed, ReplyHead, RequestHead},
    },
    *,
};
use uncork::h1::Headers;

type Text<'a> = &'a [(&'a str, &'a str)];

/// Inflates one block, in pieces.
fn inflate(inflater: &mut Inflater, wire: &[u8], size: usize) -> Result<Option<Pairs>, Fault> {
    for piece in wire.chunks(size) {
        inflater.feed(piece)?;
    }
    inflater.end()
}

fn pairs(text: Text<'_>) -> Pairs {
    let wire = Deflater::new(9).block(text);
    inflate(&mut Inflater::new(), &wire, usize::MAX).unwrap().unwrap()
}

const REQUEST: Text<'_> = &[
    (":method", "POST"),
    (":path", "/a?b"),
    (":version", "HTTP/1.1"),
    (":host", "localhost:1443"),
    (":scheme", "https"),
    ("accept", "text/html\0image/png"),
    ("cookie", "id=7"),
    ("content-length", "5"),
];

/// As spdy-proxy writes them: best compression, one stream for all blocks.
#[test]
fn blocks_of_spdy_proxy_are_read_in_any_pieces() {
    for size in [1, 2, 5, 1000] {
        let (mut deflater, mut inflater) = (Deflater::new(9), Inflater::new());
        for n in 0..5 {
            let wire = deflater.block(REQUEST);
            assert_eq!(wire.starts_with(&[0x78, 0xf9, 0xe3, 0xc6, 0xa7, 0xc2]), n == 0, "{wire:x?}");
            let pairs = inflate(&mut inflater, &wire, size).unwrap().unwrap();
            let head = RequestHead::read(&pairs).unwrap();
            assert_eq!((&head.method[..], &head.path[..], &head.scheme[..]), ("POST", "/a?b", "https"));
            assert_eq!(head.fields.get_all("accept").collect::<Vec<_>>(), [&b"text/html"[..], b"image/png"]);
        }
    }
}

/// The inflater of spdy-proxy returns each of our blocks completely after its last byte.
#[test]
fn stored_blocks_are_a_stream_like_that_of_spdy_proxy() {
    let mut stored = Stored::default();
    let mut codec = Decompress::new(true);
    let mut fields = Headers::new();
    fields.append("Accept", "text/html").unwrap();
    fields.append("accept", "image/png").unwrap();
    fields.append("Connection", "close").unwrap();
    fields.append("X", "x".repeat(70_000)).unwrap();
    let host = "localhost:1443".to_owned();
    let head = RequestHead { method: "GET".into(), path: "/".into(), host, scheme: "https".into(), fields };
    for n in 0..3 {
        let mut wire = Vec::new();
        let pairs = head.pairs();
        stored.block(&mut wire, pairs.iter().map(|(name, value)| (name.as_bytes(), &value[..])));
        assert_eq!(wire.starts_with(&[0x78, 0xf9, 0xe3, 0xc6, 0xa7, 0xc2]), n == 0);
        assert!(wire.ends_with(&[0, 0, 0, 0xff, 0xff]), "its inflater returns all its output on a flush");
        let mut plain = Vec::with_capacity(100_000);
        let mut at = 0;
        while at < wire.len() {
            let before = codec.total_in();
            if codec.decompress_vec(&wire[at..], &mut plain, FlushDecompress::None).is_err() {
                codec.set_dictionary(&DICTIONARY).unwrap();
            }
            at += (codec.total_in() - before) as usize;
        }
        let back = Pairs::parse(plain).unwrap().unwrap();
        let back: Vec<_> = back.iter().map(|(name, value)| (name.to_vec(), value.to_vec())).collect();
        let mut want: Vec<(Vec<u8>, Vec<u8>)> =
            REQUEST[..5].iter().map(|(n, v)| (n[..].into(), v[..].into())).collect();
        want[0].1 = b"GET".into();
        want[1].1 = b"/".into();
        want.push((b"accept".into(), b"text/html\0image/png".into()));
        want.push((b"x".into(), "x".repeat(70_000).into()));
        assert_eq!(back, want);
    }
}

/// CRIME: the length must not show whether a guess at another client's cookie is correct.
#[test]
fn a_correct_guess_is_as_long_as_a_wrong_one() {
    let length = |guess: &str| {
        let mut stored = Stored::default();
        let mut wire = Vec::new();
        for (name, value) in [("cookie", "session=0123456789abcdef"), ("x-guess", guess)] {
            stored.block(&mut wire, [(name.as_bytes(), value.as_bytes())].into_iter());
        }
        wire.len()
    };
    assert_eq!(length("session=0123456789abcdef"), length("session=fedcba9876543210"));
}

#[test]
fn a_large_block_ends_its_stream_and_a_bomb_the_connection() {
    let (mut deflater, mut inflater) = (Deflater::new(9), Inflater::new());
    for size in [60_000, 70_000, 1_000_000, 60_000, 2_000_000] {
        let wire = deflater.block(&[("x", &"x".repeat(size))]);
        let whole = inflate(&mut inflater, &wire, 100).unwrap();
        assert_eq!(whole.is_some(), size == 60_000, "{size}");
        assert!(inflater.block.capacity() <= 2 * KEPT);
    }
    let wire = deflater.block(&[("x", &"x".repeat(3_000_000))]);
    assert!(wire.len() < 10_000);
    assert_eq!(inflate(&mut inflater, &wire, 100), Err(Fault::protocol("a header block is too large")));
}

#[test]
fn blocks_whose_lengths_do_not_match_are_rejected() {
    #[rustfmt::skip]
    let rows: [(&[u8], &str); 9] = [
        (b"\0\0\0\0", "right"),
        (b"\0\0\0\x01\0\0\0\x01a\0\0\0\0", "right"),
        (b"", "wrong"),
        (b"\0\0\0", "wrong"),
        (b"\0\0\0\0x", "wrong"),
        (b"\0\0\0\x01\0\0\0\x01a\0\0\0\x01", "wrong"),
        (b"\0\0\0\x02\0\0\0\x01a\0\0\0\0", "wrong"),
        (b"\xff\xff\xff\xff\0\0\0\x01a\0\0\0\0", "wrong"),
        (b"\0\0\0\x01\xff\xff\xff\xffa\0\0\0\0", "wrong"),
    ];
    for (plain, verdict) in rows {
        let wire = Deflater::new(9).plain(plain);
        assert_eq!(inflate(&mut Inflater::new(), &wire, 3).is_ok(), verdict == "right", "{plain:?}");
    }
    let many: Vec<(String, String)> = (0..201).map(|n| (format!("x-{n}"), String::new())).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(name, value)| (&name[..], &value[..])).collect();
    let count = |n: usize| inflate(&mut Inflater::new(), &Deflater::new(9).block(&many[..n]), 9).unwrap().is_some();
    assert_eq!((count(200), count(201)), (true, false));
}

#[test]
fn invalid_zlib_streams_are_rejected() {
    let good = Deflater::new(9).block(REQUEST);
    let mut other = good.clone();
    other[3] ^= 1;
    let mut corrupt = good.clone();
    corrupt[8] = 0xff;
    for wire in [&other[..], &corrupt, b"GET / HTTP/1.1", b"\x78\x9c\x03\0\0\0\0\x01"] {
        assert!(inflate(&mut Inflater::new(), wire, 4).is_err(), "{wire:x?}");
    }
    // Half of a block.
    assert!(inflate(&mut Inflater::new(), &good[..good.len() / 2], 4).is_err());
}

#[test]
fn requests_that_http_cannot_express_are_rejected() {
    let with = |name: &str, value: &str| {
        let mut text: Vec<(&str, &str)> = REQUEST.iter().copied().filter(|(other, _)| *other != name).collect();
        text.push((name, value));
        RequestHead::read(&pairs(&text))
    };
    #[rustfmt::skip]
    let wrong = [
        (":method", ""), (":method", "GET /"), (":method", "G\r\nT"),
        (":path", ""), (":path", "a"), (":path", "/ HTTP/1.1"), (":path", "/\r\nx: y"), (":path", "*"), (":path", "/ü"),
        (":host", "a b"), (":host", "a\nb"), (":scheme", "a\rb"),
        ("content-length", "5\x006"), ("content-length", "5\x005"), ("content-length", "-5"), ("content-length", "+5"),
        ("content-length", ""), ("content-length", "99999999999999999999"), ("content-length", "5, 5"),
        ("Accept", "x"), ("a b", "x"), ("a:", "x"), ("", "x"), ("x", "a\r\nb: c"), ("x", "a\nb"), ("x", "a\x7f"),
    ];
    for (name, value) in wrong {
        assert_eq!(with(name, value), Err(Malformed), "{name:?}: {value:?}");
    }
    for name in [":method", ":path"] {
        let text: Vec<(&str, &str)> = REQUEST.iter().copied().filter(|(other, _)| *other != name).collect();
        assert_eq!(RequestHead::read(&pairs(&text)), Err(Malformed), "without {name}");
        let twice: Vec<(&str, &str)> = REQUEST.iter().copied().chain([(name, "/")]).collect();
        assert_eq!(RequestHead::read(&pairs(&twice)), Err(Malformed), "{name} twice");
    }
    for name in super::super::head::HOP_BY_HOP {
        let head = with(name, "chunked").unwrap();
        assert_eq!((head.fields.get(name), head.fields.len()), (None, 4), "{name}");
    }
    // And the fields that `connection` lists, received and sent.
    let listed = [(":status", "200 OK"), ("x-a", "secret"), ("connection", "X-A, close"), ("x-b", "1")];
    let reply = ReplyHead::read(&pairs(&listed)).expect("a reply");
    assert_eq!(reply.fields.iter().collect::<Vec<_>>(), [("x-b", &b"1"[..])]);
    let mut fields = Headers::new();
    listed[1..].iter().for_each(|(name, value)| fields.append(name, value).expect("a field"));
    let sent = ReplyHead { status: 200, fields }.pairs();
    assert_eq!(sent.iter().map(|(name, _)| &name[..]).collect::<Vec<_>>(), [":status", ":version", "x-b"]);
    assert_eq!(with(":unknown", "x").unwrap().fields.len(), 4);
    let nuls = "a\0".repeat(300);
    assert_eq!(with("x", &nuls), Err(Malformed), "too many values in one");
    assert_eq!(with("x", "\0").unwrap().fields.get_all("x").count(), 2, "values may be empty");
}

#[test]
fn replies_have_a_status_of_three_digits() {
    #[rustfmt::skip]
    let rows = [
        ("206 Partial Content", Some(206)), ("200", Some(200)), ("404 Not Found", Some(404)), ("299 ", Some(299)),
        ("", None), ("20", None), ("2000", None), ("100 Continue", None), ("101 Switching Protocols", None),
        ("+20", None), ("-01", None), ("200\r\nx", None), ("2x0 OK", None), ("\u{fc}ber", None),
    ];
    for (text, status) in rows {
        let head = ReplyHead::read(&pairs(&[(":status", text), (":version", "HTTP/1.1"), ("x", "y")]));
        assert_eq!(head.ok().map(|head| head.status), status, "{text:?}");
    }
    assert_eq!(ReplyHead::read(&pairs(&[("x", "y")])), Err(Malformed));
    let reply = ReplyHead { status: 206, fields: Headers::new() };
    assert_eq!(reply.pairs()[0], (":status".to_owned(), b"206 Partial Content".to_vec()));
}
