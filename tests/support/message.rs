//! HTTP messages as the test clients write and read them.

use std::io::{self, ErrorKind, Read};

/// A response as a client received it: its head, and its body if that was read.
#[derive(Clone, Debug, Default)]
pub(crate) struct TestResponse {
    pub(crate) status: u16,
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl TestResponse {
    /// Returns the first value of that name.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// Returns the body as text.
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("text")
    }

    /// Returns `true` if the body is chunked.
    pub(crate) fn is_chunked(&self) -> bool {
        self.get("transfer-encoding") == Some("chunked")
    }

    /// Asserts the status.
    #[track_caller]
    pub(crate) fn is(&self, status: u16) -> &Self {
        assert_eq!(self.status, status, "{self:?}");
        self
    }

    /// Like [`is`](Self::is).
    #[track_caller]
    pub(crate) fn assert(&self, status: u16) -> &Self {
        self.is(status)
    }
}

/// Returns the head of a request without a body, such as `GET /path`, with these field lines.
pub(crate) fn request(line: &str, fields: &[&str]) -> String {
    let fields: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
    format!("{line} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n")
}

/// Returns the head of a POST with a body of this length.
pub(super) fn post(path: &str, fields: &[&str], length: usize) -> String {
    let length = format!("Content-Length: {length}");
    request(&format!("POST {path}"), &fields.iter().copied().chain([length.as_str()]).collect::<Vec<_>>())
}

/// Returns a chunk; an empty one is the last.
pub(super) fn chunk(data: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", data.len()).as_bytes(), data, b"\r\n"].concat()
}

/// Reads once, and appends the bytes to `rest`. Returns their number.
pub(super) fn read_once(stream: &mut impl Read, rest: &mut Vec<u8>) -> io::Result<usize> {
    let mut block = [0; 64 * 1024];
    let n = loop {
        match stream.read(&mut block) {
            // A machine that is paused interrupts a read with a timeout; this does not concern the peer.
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            result => break result?,
        }
    };
    rest.extend_from_slice(&block[..n]);
    Ok(n)
}

/// Removes the first line from `rest`. Returns `None` if it is incomplete.
pub(super) fn take_line(rest: &mut Vec<u8>) -> Option<io::Result<String>> {
    let end = rest.windows(2).position(|pair| pair == b"\r\n")?;
    let line = rest.drain(..end + 2).take(end).collect();
    Some(String::from_utf8(line).map_err(io::Error::other))
}

/// Reads a head, final or informational (1xx).
pub(super) fn read_head(mut line: impl FnMut() -> io::Result<String>) -> io::Result<TestResponse> {
    let start = line()?;
    let status = start.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)).and_then(|code| code.parse().ok());
    let mut head = TestResponse { status: status.ok_or_else(|| io::Error::other(start))?, ..TestResponse::default() };
    while let Some((name, value)) = line()?.split_once(": ") {
        head.fields.push((name.into(), value.into()));
    }
    Ok(head)
}
