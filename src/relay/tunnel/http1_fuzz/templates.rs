//! Heads that an origin server or a proxy may send, and some that they may not.

/// Returns the head of a response. `n`: the length of its body.
pub(super) fn response(kind: u8, n: usize) -> Vec<u8> {
    let ok = "HTTP/1.1 200 OK\r\n";
    let text = match kind % 20 {
        0..=2 => format!("{ok}Content-Length: {n}\r\n\r\n"),
        3 | 4 => format!("{ok}Transfer-Encoding: chunked\r\nX-A: b\r\n\r\n"),
        5 => "HTTP/1.1 204 No Content\r\n\r\n".to_owned(),
        6 => format!("HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\nContent-Length: {n}\r\n\r\n"),
        7 => "HTTP/1.1 103 Early Hints\r\nLink: </s>\r\n\r\n".to_owned(),
        8 => "HTTP/1.1 100 Continue\r\n\r\n".to_owned(),
        9 => "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n".to_owned(),
        10 => "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n".to_owned(),
        11 => format!("{ok}Connection: close\r\n\r\n"),
        12 => format!("{ok}Connection: close\r\nContent-Length: {n}\r\n\r\n"),
        13 => format!("HTTP/1.0 200 OK\r\nContent-Length: {n}\r\n\r\n"),
        14 => "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_owned(),
        15 => format!("{ok}Transfer-Encoding: chunked\r\nContent-Length: {n}\r\n\r\n"),
        16 => format!("{ok}Content-Length: {n}\r\nContent-Length: 7\r\n\r\n"),
        17 => "HTTP/1.1 500 No\r\nTransfer-Encoding: chunked\r\nConnection: x-hop\r\nX-Hop: 1\r\nVia: 1.1 a\r\n\r\n"
            .to_owned(),
        18 => "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(n % 20),
        _ => format!("{ok}X: {}\r\nContent-Length: {n}\r\n\r\n", "x".repeat(n)),
    };
    text.into_bytes()
}

/// Returns the head of a request. `number`, `letter`: what the application is told. `n`: the length of its body.
pub(super) fn request(kind: u8, number: usize, letter: u8, n: usize) -> Vec<u8> {
    let client = "Host: app.example\r\nX-Forwarded-For: 192.0.2.9\r\n";
    let target = format!("/{number}/{}/{n}", char::from(letter));
    let text = match kind % 14 {
        0 | 1 => format!("GET {target} HTTP/1.1\r\n{client}\r\n"),
        2 => format!("HEAD {target} HTTP/1.1\r\n{client}\r\n"),
        3 | 4 => format!("POST {target} HTTP/1.1\r\n{client}Content-Length: {n}\r\n\r\n"),
        5 | 6 => format!("PUT {target} HTTP/1.1\r\n{client}Transfer-Encoding: chunked\r\n\r\n"),
        7 => format!("GET {target} HTTP/1.1\r\n{client}Connection: upgrade\r\nUpgrade: echo\r\n\r\n"),
        8 => "OPTIONS * HTTP/1.1\r\nHost: origin.invalid\r\n\r\n".to_owned(),
        9 => format!("POST {target} HTTP/1.1\r\n{client}Content-Length: {n}\r\nExpect: 100-continue\r\n\r\n"),
        10 => format!("GET {target} HTTP/1.1\r\n{client}Connection: close\r\n\r\n"),
        11 => format!("GET {target} HTTP/1.0\r\n{client}\r\n"),
        12 => format!("POST {target} HTTP/1.1\r\n{client}Content-Length: {n}\r\nTransfer-Encoding: chunked\r\n\r\n"),
        _ => format!("GET {target} HTTP/1.1\r\n{client}X: {}\r\n\r\n", "x".repeat(n)),
    };
    text.into_bytes()
}
