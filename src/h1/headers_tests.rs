use super::*;

fn three() -> Headers {
    let mut headers = Headers::new();
    headers.append("Vary", "Accept").unwrap();
    headers.append("Connection", "Keep-Alive, Upgrade ").unwrap();
    headers.append("vary", "\tOrigin").unwrap();
    headers
}

#[test]
fn it_is_small_and_short_content_stays_inline() {
    assert!(size_of::<Headers>() <= 80, "{}", size_of::<Headers>());
    let mut headers = Headers::new();
    headers.append("Content-Type", "text/html; charset=utf-8").unwrap();
    assert!(matches!(headers.block, Block::Inline { .. }));
    headers.append("X-More", "0123456789012345678901234567890123456789").unwrap();
    assert!(matches!(headers.block, Block::Heap(_)));
    assert_eq!(headers.len(), 2);
    assert_eq!(headers.get("content-type"), Some(&b"text/html; charset=utf-8"[..]));
}

#[test]
fn every_length_survives_the_step_from_inline_to_heap() {
    for n in 0..100 {
        let value = "v".repeat(n);
        let mut headers = Headers::new();
        headers.append("A", &value).unwrap();
        headers.append("B", "").unwrap();
        assert_eq!(headers.as_wire(), format!("A: {value}\r\nB: \r\n").as_bytes());
        assert_eq!(headers.iter().map(|(_, v)| v.len()).collect::<Vec<_>>(), [n, 0]);
    }
}

#[test]
fn reads_back_what_was_put_in() {
    let headers = three();
    assert_eq!(headers.as_wire(), b"Vary: Accept\r\nConnection: Keep-Alive, Upgrade\r\nvary: Origin\r\n");
    assert_eq!(headers.get("VARY"), Some(&b"Accept"[..]));
    assert_eq!(headers.get_all("vary").collect::<Vec<_>>(), [&b"Accept"[..], b"Origin"]);
    assert!(headers.contains_token("connection", "upgrade") && headers.contains_token("vary", "ORIGIN"));
    assert!(!headers.contains_token("connection", "keep") && headers.get("X").is_none());
    assert_eq!(format!("{headers:?}"), r#"{"Vary": "Accept", "Connection": "Keep-Alive, Upgrade", "vary": "Origin"}"#);
}

#[test]
fn insert_replaces_and_remove_removes() {
    let mut headers = three();
    headers.insert("VARY", "*").unwrap();
    assert_eq!(headers.as_wire(), b"Connection: Keep-Alive, Upgrade\r\nVARY: *\r\n");
    assert_eq!(headers.insert("Vary", "a\nb"), Err(InvalidHeader::Value(b'\n')));
    assert_eq!(headers.len(), 2, "an error changes nothing");
    headers.remove("connection");
    headers.remove("vary");
    assert!(headers.is_empty() && headers == Headers::default());
}

#[test]
fn a_singleton_replaces_and_other_fields_are_added() {
    // Every singleton field of RFC 9110, and Age and Expires of RFC 9111.
    for name in [
        "Age",
        "Authorization",
        "Content-Length",
        "Content-Location",
        "Content-Range",
        "Content-Type",
        "Date",
        "ETag",
        "Expires",
        "From",
        "Host",
        "If-Modified-Since",
        "If-Range",
        "If-Unmodified-Since",
        "Last-Modified",
        "Location",
        "Max-Forwards",
        "Proxy-Authorization",
        "Range",
        "Referer",
        "Retry-After",
        "Server",
        "User-Agent",
    ] {
        let mut headers = three();
        headers.put(name, "a").unwrap();
        headers.put(&name.to_ascii_uppercase(), "b").unwrap();
        headers.put(&name.to_ascii_lowercase(), "c").unwrap();
        assert_eq!((headers.get_all(name).collect::<Vec<_>>(), headers.len()), (vec![&b"c"[..]], 4), "{name}");
        assert!(headers.put(name, "a\nb").is_err() && headers.get(name) == Some(b"c"), "{name}");
    }
    for name in [
        "Accept",
        "Allow",
        "Cache-Control",
        "Connection",
        "Content-Encoding",
        "Content-Language",
        "Cookie",
        "If-Match",
        "If-None-Match",
        "Link",
        "Proxy-Authenticate",
        "Set-Cookie",
        "Trailer",
        "Upgrade",
        "Via",
        "WWW-Authenticate",
        "X-Own",
        "",
    ] {
        assert!(!is_singleton(name), "{name}");
    }
    let mut headers = Headers::new();
    headers.put("Set-Cookie", "a=1").and(headers.put("set-cookie", "b=2")).unwrap();
    assert_eq!(headers.get_all("set-cookie").count(), 2);
}

#[test]
fn no_value_can_end_its_line() {
    // Every pair of bytes, in name and in value: an accepted field is one line, and reads back unchanged.
    for pair in 0..=u16::MAX {
        let [a, b] = pair.to_be_bytes();
        let mut headers = Headers::new();
        if headers.append("N", [b'x', a, b, b'x']).is_ok() {
            let wire = headers.as_wire();
            assert_eq!(wire.iter().filter(|b| matches!(b, b'\r' | b'\n' | 0)).count(), 2, "{a:#x} {b:#x}");
            assert_eq!(headers.get("n"), Some(&[b'x', a, b, b'x'][..]));
        }
        if let Ok(name) = std::str::from_utf8(&[a, b])
            && headers.append(name, "v").is_ok()
        {
            assert!(super::super::is_token(name.as_bytes()));
        }
    }
}

#[test]
fn a_borrowed_view_reads_the_same() {
    let fields = [
        httparse::Header { name: "Vary", value: b"Accept" },
        httparse::Header { name: "Connection", value: b"Keep-Alive, Upgrade" },
        httparse::Header { name: "vary", value: b"Origin" },
    ];
    let view = HeadersRef::new(&fields);
    assert_eq!(view.to_owned(), three());
    assert_eq!((view.len(), view.is_empty()), (3, false));
    assert_eq!(view.get("vary"), Some(&b"Accept"[..]));
    assert!(view.contains_token("VARY", "origin"));
    assert!(view.iter().eq(three().iter()));
}
