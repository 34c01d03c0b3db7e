use super::{Misbehaved::*, *};
use crate::h1::HeadScanner;

const LIMITS: HeadLimits = HeadLimits { head: 4096, target: 100, fields: 10 };

/// Finds and parses a head, split in every way, and calls `look` on it.
fn with<T>(input: &[u8], look: impl Fn(RequestHead<'_>) -> T) -> Result<T, Misbehaved> {
    let step = (input.len() / 16).max(1);
    let mut outcome = None;
    for size in (1..=input.len()).step_by(step).chain([input.len()]) {
        let mut scan = HeadScanner::default();
        let mut len = 0;
        let found = loop {
            len = (len + size).min(input.len());
            match scan.find(&input[..len], &LIMITS) {
                Ok(None) if len < input.len() => {}
                other => break other,
            }
        };
        assert!(*outcome.get_or_insert(found.map(|end| (scan, end))) == found.map(|end| (scan, end)));
    }
    let (scan, end) = outcome.expect("not an empty input")?;
    let end = end.expect("the whole head is in the input");
    let mut slots = field_slots();
    parse_request(&input[scan.skip()..end], &mut slots, &LIMITS).map(look)
}

fn verdict(input: &str) -> Result<(), Misbehaved> {
    with(input.as_bytes(), |_| ())
}

/// `GET / HTTP/1.1` with a Host and these lines.
fn lines(version: &str, lines: &str) -> String {
    format!("POST / HTTP/{version}\r\nHost: x\r\n{lines}\r\n")
}

#[test]
fn an_ordinary_request() {
    let input = b"\r\nPOST /a/b?c=d HTTP/1.1\r\nHost: h:8\r\nX: 1\r\nContent-Length:3\r\nx:\t 2 \t\r\n\r\nabc";
    with(input, |head| {
        assert_eq!((head.method, head.target, head.form), ("POST", "/a/b?c=d", TargetForm::Origin));
        assert_eq!((head.version, head.framing), (Version::Http11, Framing::Length(3)));
        assert_eq!((head.path(), head.query()), ("/a/b", Some("c=d")));
        assert_eq!((head.authority(), head.host()), (Some("h:8"), Some("h")));
        assert_eq!((head.keep_alive, head.expect_continue, head.upgrade), (true, false, false));
        assert_eq!(head.fields.len(), 4);
        assert_eq!(head.fields.get_all("X").collect::<Vec<_>>(), [b"1", b"2"]);
    })
    .unwrap();
}

#[test]
fn request_lines() {
    #[rustfmt::skip]
    let rows: &[(&str, Result<(), Misbehaved>)] = &[
        ("GET / HTTP/1.1",                 Ok(())),
        ("GET / HTTP/1.0",                 Ok(())),
        ("get / HTTP/1.1",                 Ok(())),
        ("M-SEARCH / HTTP/1.1",            Ok(())),
        ("!#$%&'*+-.^_`|~0aZ / HTTP/1.1",  Ok(())),
        ("OPTIONS * HTTP/1.1",             Ok(())),
        ("CONNECT h:1 HTTP/1.1",           Ok(())),
        ("GET http://h/ HTTP/1.1",         Ok(())),
        ("GET /a|b^\"<>\\{} HTTP/1.1",     Ok(())),
        // httparse would accept these.
        ("GET /\u{e9} HTTP/1.1",           Err(BadTarget)),
        ("GET /a#b HTTP/1.1",              Err(BadTarget)),
        ("GET a HTTP/1.1",                 Err(BadTarget)),
        ("GET * HTTP/1.1",                 Err(BadTarget)),
        // Others.
        ("G T / HTTP/1.1",                 Err(BadRequestLine)),
        ("GE\u{e9} / HTTP/1.1",            Err(BadMethod)),
        ("G(T / HTTP/1.1",                 Err(BadMethod)),
        (" / HTTP/1.1",                    Err(BadMethod)),
        (" GET / HTTP/1.1",                Err(BadMethod)),
        ("\tGET / HTTP/1.1",               Err(BadMethod)),
        ("GET  / HTTP/1.1",                Err(BadRequestLine)),
        ("GET /  HTTP/1.1",                Err(BadRequestLine)),
        ("GET / HTTP/1.1 ",                Err(BadRequestLine)),
        ("GET /a b HTTP/1.1",              Err(BadRequestLine)),
        ("GET\t/ HTTP/1.1",                Err(BadMethod)),
        ("GET /\tHTTP/1.1",                Err(BadRequestLine)),
        ("GET /\u{7f} HTTP/1.1",           Err(BadTarget)),
        ("GET /",                          Err(BadRequestLine)),
        ("GET",                            Err(BadRequestLine)),
        ("GET / ",                         Err(BadVersion)),
        ("GET / HTTP/1.10",                Err(BadVersion)),
        ("GET / HTTP/1",                   Err(BadVersion)),
        ("GET / HTTP/1.",                  Err(BadVersion)),
        ("GET / HTTP/1.a",                 Err(BadVersion)),
        ("GET / HTTP/11",                  Err(BadVersion)),
        ("GET / HTTP/01.1",                Err(BadVersion)),
        ("GET / http/1.1",                 Err(BadVersion)),
        ("GET / HTTPS/1.1",                Err(BadVersion)),
        ("GET / XTTP/1.1",                 Err(BadVersion)),
        ("GET / HTTP/1,1",                 Err(BadVersion)),
        ("GET / HTTP 1.1",                 Err(BadRequestLine)),
        ("GET / HTTP/1.1\u{e9}",           Err(BadVersion)),
        ("GET / HTTP/1.2",                 Err(UnsupportedVersion)),
        ("GET / HTTP/0.9",                 Err(UnsupportedVersion)),
        ("GET / HTTP/2.0",                 Err(UnsupportedVersion)),
        ("PRI * HTTP/2.0",                 Err(UnsupportedVersion)),
        ("GET / HTTP/9.9",                 Err(UnsupportedVersion)),
    ];
    for (line, want) in rows {
        assert_eq!(verdict(&format!("{line}\r\nHost: x\r\n\r\n")), *want, "{line}");
    }
    let long = |n: usize| verdict(&format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(n - 1)));
    assert_eq!((long(100), long(101), long(1000)), (Ok(()), Err(TargetTooLong), Err(TargetTooLong)));
}

#[test]
fn fields() {
    #[rustfmt::skip]
    let rows: &[(&str, Result<(), Misbehaved>)] = &[
        ("A: b\r\n",                             Ok(())),
        ("A:b\r\n",                              Ok(())),
        ("A:\r\n",                               Ok(())),
        ("A: \t \r\n",                           Ok(())),
        ("A: b\tc \u{e9}\r\n",                   Ok(())),
        ("A: b: c\r\n",                          Ok(())),
        ("!#$%&'*+-.^_`|~0aZ: b\r\n",            Ok(())),
        ("A : b\r\n",                            Err(SpaceBeforeColon)),
        ("A\t: b\r\n",                           Err(SpaceBeforeColon)),
        ("Transfer-Encoding : chunked\r\n",      Err(SpaceBeforeColon)),
        ("A: b\r\n c\r\n",                       Err(ObsFold)),
        ("A: b\r\n\tc\r\n",                      Err(ObsFold)),
        ("A: b\r\n : c\r\n",                     Err(ObsFold)),
        ("A: b\r\n \r\n",                        Err(ObsFold)),
        ("Transfer-Encoding:\r\n chunked\r\n",   Err(ObsFold)),
        (": b\r\n",                              Err(BadField)),
        ("A\r\n",                                Err(BadField)),
        ("A b\r\n",                              Err(BadField)),
        ("A B: c\r\n",                           Err(BadField)),
        ("A(: c\r\n",                            Err(BadField)),
        ("A\u{e9}: c\r\n",                       Err(BadField)),
        ("\"A\": c\r\n",                         Err(BadField)),
        ("A: \u{7f}\r\n",                        Err(BadField)),
        ("A: b\0c\r\n",                          Err(ControlByte)),
        ("A\0: c\r\n",                           Err(ControlByte)),
        ("Transfer-Encoding:\x0bchunked\r\n",    Err(ControlByte)),
        ("A: b\x1b[0m\r\n",                      Err(ControlByte)),
        ("A: b\nC: d\r\n",                       Err(BareLf)),
        ("A: b\rC: d\r\n",                       Err(BareCr)),
        ("A: b\r\r\n",                           Err(BareCr)),
    ];
    for (line, want) in rows {
        assert_eq!(verdict(&lines("1.1", line)), *want, "{line:?}");
        assert_eq!(verdict(&lines("1.1", &format!("Z: z\r\n{line}Z: z\r\n"))), *want, "between others: {line:?}");
    }
    assert_eq!(verdict("GET / HTTP/1.1\r\n Host: x\r\n\r\n"), Err(ObsFold), "even if it is the first");
    assert_eq!(verdict(&lines("1.1", &"A: b\r\n".repeat(9))), Ok(()));
    assert_eq!(verdict(&lines("1.1", &"A: b\r\n".repeat(10))), Err(TooManyFields));
}

#[test]
fn no_byte_outside_the_grammar_is_accepted() {
    for b in 0..=255u8 {
        let put = |at: &str| {
            let (front, back) = at.split_once('@').expect("a position");
            with(&[front.as_bytes(), &[b], back.as_bytes(), b"\r\nHost: x\r\n\r\n"].concat(), |_| ())
        };
        let name = put("GET / HTTP/1.1\r\nA@A: b").is_ok();
        assert_eq!(name, is_token(&[b]) || b == b':', "{b:#x} in a name");
        let value = put("GET / HTTP/1.1\r\nA: b@b").is_ok();
        assert_eq!(value, crate::h1::is_field_value(&[b]), "{b:#x} in a value");
        let method = put("G@T / HTTP/1.1").is_ok();
        assert_eq!(method, is_token(&[b]), "{b:#x} in a method");
        let target = put("GET /a@b HTTP/1.1").is_ok();
        assert_eq!(target, b.is_ascii_graphic() && b != b'#', "{b:#x} in a target");
        assert_eq!(put("GET / HTTP/1.@").is_ok(), b == b'0' || b == b'1', "{b:#x} in a version");
    }
}

#[test]
fn host() {
    type Want = Result<Option<&'static str>, Misbehaved>;
    #[rustfmt::skip]
    let rows: &[(&str, &str, Want)] = &[
        ("GET / HTTP/1.1",              "Host: a\r\n",                 Ok(Some("a"))),
        ("GET / HTTP/1.1",              "hOST:a:80\r\n",               Ok(Some("a:80"))),
        ("GET / HTTP/1.1",              "Host: [::1]:80\r\n",          Ok(Some("[::1]:80"))),
        ("GET / HTTP/1.1",              "Host:\r\n",                   Ok(Some(""))),
        ("GET / HTTP/1.1",              "",                            Err(MissingHost)),
        ("GET / HTTP/1.1",              "Hosts: a\r\n",                Err(MissingHost)),
        ("GET / HTTP/1.1",              "Host: a\r\nHost: a\r\n",      Err(DuplicateHost)),
        ("GET / HTTP/1.1",              "Host: a\r\nX: y\r\nHOST:\r\n", Err(DuplicateHost)),
        ("GET / HTTP/1.1",              "Host: a, b\r\n",              Err(BadHost)),
        ("GET / HTTP/1.1",              "Host: a b\r\n",               Err(BadHost)),
        ("GET / HTTP/1.1",              "Host: a/b\r\n",               Err(BadHost)),
        ("GET / HTTP/1.1",              "Host: u@a\r\n",               Err(BadHost)),
        ("GET / HTTP/1.1",              "Host: http://a\r\n",          Err(BadHost)),
        ("GET / HTTP/1.1",              "Host: a:b\r\n",               Err(BadHost)),
        ("GET / HTTP/1.1",              "Host: \u{e9}\r\n",            Err(BadHost)),
        ("GET / HTTP/1.0",              "",                            Ok(None)),
        ("GET / HTTP/1.0",              "Host: a\r\n",                 Ok(Some("a"))),
        ("GET / HTTP/1.0",              "Host: a\r\nHost: a\r\n",      Err(DuplicateHost)),
        ("GET / HTTP/1.0",              "Host: a b\r\n",               Err(BadHost)),
        // The target takes precedence, but does not replace the field.
        ("GET http://t/ HTTP/1.1",      "Host: a\r\n",                 Ok(Some("t"))),
        ("GET http://t:1?x HTTP/1.1",   "Host: a\r\n",                 Ok(Some("t:1"))),
        ("GET http://t/ HTTP/1.1",      "",                            Err(MissingHost)),
        ("GET http://t/ HTTP/1.1",      "Host: a b\r\n",               Err(BadHost)),
        ("CONNECT t:443 HTTP/1.1",      "Host: a\r\n",                 Ok(Some("t:443"))),
        ("OPTIONS * HTTP/1.1",          "Host: a\r\n",                 Ok(Some("a"))),
    ];
    for (line, fields, want) in rows {
        let got = with(format!("{line}\r\n{fields}\r\n").as_bytes(), |head| head.authority.map(<[u8]>::to_vec));
        assert_eq!(
            got,
            want.map(|authority| authority.map(|authority| authority.as_bytes().to_vec())),
            "{line} {fields:?}"
        );
    }
    with(b"GET / HTTP/1.1\r\nHost:\r\n\r\n", |head| assert_eq!((head.authority(), head.host()), (None, None))).unwrap();
    assert_eq!(
        with(b"GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", |head| head.host().map(str::to_owned)),
        Ok(Some("[::1]".into()))
    );
}

#[test]
fn connection_is_a_list_over_all_lines() {
    #[rustfmt::skip]
    let rows: &[(&str, &str, (bool, bool))] = &[
        // version, fields, (keep_alive, upgrade)
        ("1.1", "",                                                       (true, false)),
        ("1.1", "Connection: close\r\n",                                  (false, false)),
        ("1.1", "Connection: CLOSE\r\n",                                  (false, false)),
        ("1.1", "Connection: x, close ,y\r\n",                            (false, false)),
        ("1.1", "Connection: x\r\nConnection: close\r\n",                 (false, false)),
        ("1.1", "Connection: keep-alive, close\r\n",                      (false, false)),
        ("1.1", "Connection: closed\r\n",                                 (true, false)),
        ("1.1", "Connection: keep-alive\r\n",                             (true, false)),
        ("1.0", "",                                                       (false, false)),
        ("1.0", "Connection: keep-alive\r\n",                             (true, false)),
        ("1.0", "Connection: x,Keep-Alive\r\n",                           (true, false)),
        ("1.0", "Connection: keep-alive\r\nConnection: close\r\n",        (false, false)),
        ("1.1", "Connection: Upgrade\r\nUpgrade: websocket\r\n",          (true, true)),
        ("1.1", "Upgrade: websocket\r\nConnection: keep-alive, UPGRADE\r\n", (true, true)),
        ("1.1", "Upgrade: websocket\r\n",                                 (true, false)),
        ("1.1", "Connection: Upgrade\r\n",                                (true, false)),
        ("1.0", "Connection: Upgrade\r\nUpgrade: websocket\r\n",          (false, false)),
    ];
    for (version, fields, want) in rows {
        let got = with(lines(version, fields).as_bytes(), |head| (head.keep_alive, head.upgrade));
        assert_eq!(got, Ok(*want), "{version} {fields:?}");
    }
}

#[test]
fn expectations() {
    #[rustfmt::skip]
    let rows: &[(&str, &str, Result<bool, Misbehaved>)] = &[
        ("1.1", "Content-Length: 1\r\nExpect: 100-continue\r\n",               Ok(true)),
        ("1.1", "Content-Length: 1\r\nExpect: 100-Continue\r\n",               Ok(true)),
        ("1.1", "Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n",      Ok(true)),
        ("1.1", "Content-Length: 1\r\n",                                       Ok(false)),
        ("1.1", "Content-Length: 0\r\nExpect: 100-continue\r\n",               Ok(false)),
        ("1.1", "Expect: 100-continue\r\n",                                    Ok(false)),
        ("1.0", "Content-Length: 1\r\nExpect: 100-continue\r\n",               Ok(false)),
        ("1.1", "Content-Length: 1\r\nExpect: 200-ok\r\n",                     Err(UnknownExpectation)),
        ("1.1", "Content-Length: 1\r\nExpect: 100-continue, x\r\n",            Err(UnknownExpectation)),
        ("1.1", "Expect: 100-continue;a=b\r\n",                                Err(UnknownExpectation)),
        ("1.0", "Expect: x\r\n",                                               Err(UnknownExpectation)),
    ];
    for (version, fields, want) in rows {
        let got = with(lines(version, fields).as_bytes(), |head| head.expect_continue);
        assert_eq!(got, *want, "{version} {fields:?}");
    }
}

/// `framing` has the table of all values. This checks that they are found, in any line and in any case.
#[test]
fn framing_from_a_whole_head() {
    #[rustfmt::skip]
    let rows: &[(&str, Result<Framing, Misbehaved>)] = &[
        ("",                                                          Ok(Framing::None)),
        ("CONTENT-LENGTH: 5\r\n",                                     Ok(Framing::Length(5))),
        ("Content-Length: 0\r\n",                                     Ok(Framing::Length(0))),
        ("transfer-encoding: Chunked\r\n",                            Ok(Framing::Chunked)),
        ("Transfer-Encoding:\tchunked\t\r\n",                         Ok(Framing::Chunked)),
        ("Content-Length: 4\r\nX: y\r\nContent-Length: 5\r\n",        Err(BadContentLength)),
        ("Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",       Err(BothLengths)),
        ("Transfer-Encoding: chunked\r\nContent-Length: 4\r\n",       Err(BothLengths)),
        ("Transfer-Encoding: xchunked\r\nContent-Length: 4\r\n",      Err(BothLengths)),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n",    Err(ChunkedNotFinal)),
        ("Transfer-Encoding: x\r\nTransfer-Encoding: chunked\r\n",    Err(UnknownTransferCoding)),
        ("Transfer-Encoding: \"chunked\"\r\n",                        Err(BadTransferEncoding)),
        ("Transfer_Encoding: chunked\r\n",                            Ok(Framing::None)),
        ("Transfer-Encoding\u{a0}: chunked\r\n",                      Err(BadField)),
        ("Content-Length: 4\r\n 5\r\n",                               Err(ObsFold)),
        ("Content-Length : 4\r\n",                                    Err(SpaceBeforeColon)),
    ];
    for (fields, want) in rows {
        assert_eq!(with(lines("1.1", fields).as_bytes(), |head| head.framing), *want, "{fields:?}");
    }
    let old = with(lines("1.0", "Transfer-Encoding: chunked\r\n").as_bytes(), |head| head.framing);
    assert_eq!(old, Err(TransferEncodingOn10));
}

#[test]
fn the_parser_alone_accepts_no_empty_lines_and_no_further_bytes() {
    for input in
        ["\r\nGET / HTTP/1.0\r\n\r\n", "\nGET / HTTP/1.0\r\n\r\n", "GET / HTTP/1.0\r\n\r\nx", "GET / HTTP/1.0\r\n", ""]
    {
        let mut slots = field_slots();
        let got = parse_request(input.as_bytes(), &mut slots, &LIMITS);
        assert_eq!(got.map(|_| ()), Err(BadRequestLine), "{input:?}");
    }
}

#[test]
fn a_head_has_as_many_fields_as_its_limit_says() {
    let count = |limit: usize, fields: usize, field: &str| {
        let limits = HeadLimits { head: 1 << 20, target: 100, fields: limit };
        let head = lines("1.1", &field.repeat(fields - 1));
        let mut slots = field_slots();
        parse_request(head.as_bytes(), &mut slots, &limits).map(|head| head.fields.len())
    };
    for (limit, fields) in [(1, 1), (2, 2), (256, 256), (257, 257), (5000, 300), (5000, 5000)] {
        for field in ["a:\r\n", "X-Longer: with a value\r\n"] {
            assert_eq!(count(limit, fields, field), Ok(fields), "{limit} {field:?}");
            assert_eq!(count(limit, limit + 1, field), Err(TooManyFields), "{limit} {field:?}");
        }
    }
}

#[test]
fn the_fuzz_target_holds_over_heads_and_their_neighbours() {
    let heads: &[&[u8]] = &[
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1:9201\r\n\r\n",
        b"\r\n\r\nPOST http://h:1/?q HTTP/1.0\r\nA:\tb \r\nContent-Length: 4, 4\r\n\r\nabcd",
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: X, close\r\nX: 1\r\nTE: a\r\nY: 2\r\n\r\n",
        b"CONNECT [::1]:443 HTTP/1.1\r\nhost: \r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ];
    for head in heads {
        super::super::neighbours::fuzz_neighbours(head, b"\0\t\n\r :/*\x7f\x80\xff", fuzz);
    }
}
