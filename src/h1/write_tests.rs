use super::*;

const DATE: &[u8; 29] = b"Sun, 06 Nov 1994 08:49:37 GMT";

/// A sink that counts the calls.
#[derive(Default)]
struct Counting(Vec<u8>, usize);

impl Sink for Counting {
    fn put(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
        self.1 += 1;
    }

    fn put_with(&mut self, most: usize, fill: impl FnOnce(&mut [u8]) -> usize) {
        self.0.put_with(most, fill);
        self.1 += 1;
    }
}

fn written(status: u16, fields: &Headers, length: BodyLength, connection: Option<ConnectionOption>) -> (String, usize) {
    let mut sink = Counting::default();
    response_head(&ResponseHead { status, fields: fields.as_wire(), length, date: DATE, connection }, &mut sink);
    (String::from_utf8_lossy(&sink.0).into_owned(), sink.1)
}

#[test]
fn heads() {
    let none = Headers::new();
    let mut text = Headers::new();
    text.append("Content-Type", "text/plain").unwrap();
    let date = "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n";
    #[rustfmt::skip]
    let rows: &[(u16, &Headers, BodyLength, Option<ConnectionOption>, String)] = &[
        (200, &text, BodyLength::Known(13), None,
            format!("HTTP/1.1 200 OK\r\n{date}Content-Length: 13\r\nContent-Type: text/plain\r\n\r\n")),
        (200, &none, BodyLength::Known(0), Some(ConnectionOption::KeepAlive),
            format!("HTTP/1.1 200 OK\r\n{date}Content-Length: 0\r\nConnection: keep-alive\r\n\r\n")),
        (404, &text, BodyLength::Chunked, None,
            format!("HTTP/1.1 404 Not Found\r\n{date}Transfer-Encoding: chunked\r\nContent-Type: text/plain\r\n\r\n")),
        (200, &none, BodyLength::UntilClose, Some(ConnectionOption::Close),
            format!("HTTP/1.1 200 OK\r\n{date}Connection: close\r\n\r\n")),
        (204, &none, BodyLength::None, None, format!("HTTP/1.1 204 No Content\r\n{date}\r\n")),
        (101, &none, BodyLength::None, Some(ConnectionOption::Upgrade),
            format!("HTTP/1.1 101 Switching Protocols\r\n{date}Connection: upgrade\r\n\r\n")),
        (299, &none, BodyLength::None, None, format!("HTTP/1.1 299 \r\n{date}\r\n")),
        (511, &none, BodyLength::Known(u64::MAX), Some(ConnectionOption::KeepAlive), format!(
            "HTTP/1.1 511 Network Authentication Required\r\n{date}Content-Length: 18446744073709551615\r\n\
             Connection: keep-alive\r\n\r\n")),
    ];
    for (status, fields, length, connection, want) in rows {
        assert_eq!(written(*status, fields, *length, *connection), (want.clone(), 1));
    }
    for status in [0, 99, 1000, u16::MAX] {
        assert!(written(status, &none, BodyLength::None, None).0.starts_with("HTTP/1.1 500 Internal Server Error\r\n"));
    }
}

#[test]
fn fields_of_every_size_come_out_whole() {
    for n in 0..600 {
        let mut fields = Headers::new();
        fields.append("X", "v".repeat(n)).unwrap();
        let (head, puts) = written(200, &fields, BodyLength::Known(5), None);
        assert!(head.ends_with(&format!("Content-Length: 5\r\nX: {}\r\n\r\n", "v".repeat(n))), "{n}");
        assert_eq!(puts, 1, "{n}");
    }
}

/// Parses a response as a client would.
#[track_caller]
fn lines_of(bytes: &[u8]) -> usize {
    let mut fields = [httparse::EMPTY_HEADER; 32];
    let mut response = httparse::Response::new(&mut fields);
    assert_eq!(response.parse(bytes), Ok(httparse::Status::Complete(bytes.len())), "{}", bytes.escape_ascii());
    response.headers.len()
}

#[test]
fn an_application_cannot_split_a_response() {
    let attempts: &[&[u8]] = &[
        b"a\r\nX: b",
        b"a\r\n\r\n<html>",
        b"a\nX: b",
        b"a\rX: b",
        b"\r\n",
        b"\n",
        b"\r",
        b"a\0b",
        b"a\r\n b",
        b"\r\n\t",
        "a\u{10a}\u{10d}".as_bytes(),
        b"\xe5\x98\x8a\xe5\x98\x8d",
        b"plain",
        b"",
        b"\x85",
        b"\xc2\x85",
        b"\x0b\x0c",
    ];
    for value in attempts {
        let mut fields = Headers::new();
        let _ = fields.append("Location", value);
        if let Ok(name) = std::str::from_utf8(value) {
            let _ = fields.append(name, "v");
        }
        let _ = fields.insert("Location", value);
        let count = fields.len();
        let (head, _) = written(200, &fields, BodyLength::Known(0), None);
        assert_eq!(lines_of(head.as_bytes()), 2 + count);
        assert_eq!(head.matches("\r\n\r\n").count(), 1);
        let mut wire = Vec::new();
        informational(103, &fields, &mut wire);
        assert_eq!(lines_of(&wire), count);
    }
}

#[test]
fn chunks() {
    for size in [1, 9, 10, 15, 16, 255, 256, 4096, 65_535, 1 << 20, usize::MAX] {
        let mut line = [0; 18];
        let n = chunk_head(size, &mut line);
        assert_eq!(&line[..n], format!("{size:x}\r\n").as_bytes());
    }
    let mut end = Vec::new();
    trailers(&Headers::new(), &mut end);
    assert_eq!(end, LAST_CHUNK);
    let mut fields = Headers::new();
    fields.append("X-Sum", "7").unwrap();
    end.clear();
    trailers(&fields, &mut end);
    assert_eq!(end, b"0\r\nX-Sum: 7\r\n\r\n");
}

#[test]
fn errors_name_the_rule_and_close() {
    let mut out = Vec::new();
    error(Misbehaved::BothLengths, DATE, true, &mut out);
    let text = "Content-Length and Transfer-Encoding exclude each other\n";
    let want = format!(
        "HTTP/1.1 400 Bad Request\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Length: {}\r\nConnection: close\r\n\
         Content-Type: text/plain\r\n\r\n{text}",
        text.len()
    );
    assert_eq!(String::from_utf8_lossy(&out), want);
    for m in Misbehaved::ALL {
        out.clear();
        error(*m, DATE, false, &mut out);
        assert_eq!(lines_of(&out), 4, "{m:?}");
    }
}

#[test]
fn informational_responses() {
    let mut link = Headers::new();
    link.append("Link", "</a.css>; rel=preload").unwrap();
    let mut out = Vec::new();
    informational(103, &link, &mut out);
    assert_eq!(out, b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n");
    out.clear();
    informational(100, &Headers::new(), &mut out);
    assert_eq!(out, CONTINUE);
}

#[test]
fn fields_written_here_are_recognised() {
    assert!(is_written_here("CONTENT-LENGTH") && is_written_here("date") && !is_written_here("Content-Type"));
}
