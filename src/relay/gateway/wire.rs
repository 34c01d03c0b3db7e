//! The gateway's responses, byte for byte those of kuiperbelt; some end with a newline and some do not.
//!
//! kuiperbelt sends some JSON as `text/plain`, by mistake. Here it is `application/json`. The JSON is written by hand:
//! its bytes, its newline and Go's escapes are the contract.

use std::fmt::Write as _;

use uncork::Response;

use super::key::Key;

/// The reason why a message was not queued for a session. The texts are those of kuiperbelt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Problem {
    NotFound,
    Closed,
    TimedOut,
    /// It is unknown which node has the session.
    #[cfg(feature = "directory")]
    NoDirectory,
    /// The node that has the session does not respond.
    #[cfg(feature = "directory")]
    NoNode,
}

impl Problem {
    const fn text(self) -> &'static str {
        match self {
            Self::NotFound => "kuiperbelt: session is not found",
            Self::Closed => "kuiperbelt: session is closed",
            Self::TimedOut => "context deadline exceeded",
            #[cfg(feature = "directory")]
            Self::NoDirectory => "directory unavailable",
            #[cfg(feature = "directory")]
            Self::NoNode => "node unavailable",
        }
    }
}

/// The names between nodes.
#[cfg(feature = "directory")]
impl Problem {
    const NAMED: [(Self, &str); 4] = [
        (Self::NotFound, "not-found"),
        (Self::Closed, "closed"),
        (Self::TimedOut, "timeout"),
        (Self::NoNode, "unavailable"),
    ];

    /// Returns its name; that of a closed session for what a node does not report.
    pub(super) fn name(self) -> &'static str {
        Self::NAMED.iter().find(|(problem, _)| *problem == self).map_or("closed", |(_, name)| name)
    }

    pub(super) fn of_name(name: &str) -> Option<Self> {
        Self::NAMED.iter().find(|(_, own)| *own == name).map(|(problem, _)| *problem)
    }
}

/// A response and the length of its body, which the access log needs.
pub(super) struct SizedResponse {
    pub(super) response: Response,
    pub(super) size: usize,
}

impl SizedResponse {
    fn new(status: u16, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        let body = body.into();
        let size = body.len();
        Self { response: Response::new(status).header("Content-Type", content_type).body(body), size }
    }

    fn json(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self::new(status, "application/json; charset=utf-8", body)
    }

    pub(super) fn header(self, name: &str, value: impl AsRef<[u8]>) -> Self {
        Self { response: self.response.header(name, value), ..self }
    }

    pub(super) fn close(self) -> Self {
        Self { response: self.response.close(), ..self }
    }
}

/// Everything was queued; or the response to `/ping`.
pub(super) fn ok() -> SizedResponse {
    SizedResponse::json(200, r#"{"result":"OK"}"#)
}

/// The request itself is invalid.
pub(super) fn fault(status: u16, text: &str) -> SizedResponse {
    SizedResponse::json(status, format!(r#"{{"errors":[{{"error":"{text}"}}],"result":"NG"}}"#))
}

/// The body of `/send` was truncated.
pub(super) fn unreadable() -> SizedResponse {
    SizedResponse::json(500, r#"{"result":"NG"}"#)
}

/// Some sessions did not get the message. With `strict`, the response is an error.
pub(super) fn problems(problems: &[(Problem, Key)], strict: bool) -> SizedResponse {
    listed(if strict { 400 } else { 200 }, problems, if strict { "NG" } else { "OK" })
}

/// No session has got the message, because it is unknown where some are, or their node does not respond.
#[cfg(feature = "directory")]
pub(super) fn unavailable(problems: &[(Problem, Key)]) -> SizedResponse {
    listed(503, problems, "NG").header("Retry-After", "1")
}

fn listed(status: u16, problems: &[(Problem, Key)], result: &str) -> SizedResponse {
    SizedResponse::json(status, format!("{{{},\"result\":\"{result}\"}}\n", errors(problems)))
}

/// Returns the member `errors`.
fn errors(problems: &[(Problem, Key)]) -> String {
    let mut list = String::from(r#""errors":["#);
    for (i, (problem, key)) in problems.iter().enumerate() {
        let comma = if i == 0 { "" } else { "," };
        let _ = write!(list, r#"{comma}{{"error":"{}","session":{}}}"#, problem.text(), Quoted(key));
    }
    list.push(']');
    list
}

/// Which clients are connected. `unsure`: keys of which that is not known. `sessions`: the JSON of the others.
pub(super) fn presence(unsure: &[(Problem, Key)], sessions: &str) -> SizedResponse {
    match unsure.is_empty() {
        true => SizedResponse::json(200, format!("{{\"result\":\"OK\",\"sessions\":[{sessions}]}}\n")),
        false => {
            let errors = errors(unsure);
            let body = format!("{{{errors},\"result\":\"NG\",\"sessions\":[{sessions}]}}\n");
            SizedResponse::json(503, body).header("Retry-After", "1")
        }
    }
}

/// The number of keys, and the JSON with that of each node.
pub(super) fn keys(count: u64, nodes: Option<&str>) -> SizedResponse {
    let nodes = nodes.map_or_else(String::new, |nodes| format!(r#""nodes":{nodes},"#));
    SizedResponse::json(200, format!("{{\"keys\":{count},{nodes}\"result\":\"OK\"}}\n"))
}

/// A short text with a newline.
pub(super) fn text(status: u16, text: &str) -> SizedResponse {
    SizedResponse::new(status, "text/plain; charset=utf-8", format!("{text}\n"))
        .header("X-Content-Type-Options", "nosniff")
}

pub(super) fn not_found() -> SizedResponse {
    text(404, "404 page not found")
}

pub(super) fn stats(content_type: &str, body: String) -> SizedResponse {
    SizedResponse::new(200, content_type, body)
}

/// The response of a connect callback that rejected the client.
pub(super) fn passed_on(status: u16, content_type: Option<&[u8]>, body: Vec<u8>) -> SizedResponse {
    let size = body.len();
    let response = Response::new(status).body(body);
    let response = match content_type {
        Some(content_type) => response.header("Content-Type", content_type),
        None => response,
    };
    SizedResponse { response, size }
}

/// Writes a JSON string as Go's `encoding/json` does: characters with a meaning in HTML and invalid UTF-8 are escaped.
pub(super) struct Quoted<'a>(pub(super) &'a [u8]);

impl std::fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_char('"')?;
        for chunk in self.0.utf8_chunks() {
            for c in chunk.valid().chars() {
                match c {
                    '"' | '\\' => write!(f, "\\{c}")?,
                    '\n' => f.write_str("\\n")?,
                    '\r' => f.write_str("\\r")?,
                    '\t' => f.write_str("\\t")?,
                    '<' | '>' | '&' | '\u{2028}' | '\u{2029}' | '\0'..='\u{1f}' => {
                        write!(f, "\\u{:04x}", u32::from(c))?;
                    }
                    c => f.write_char(c)?,
                }
            }
            // One for each invalid byte.
            chunk.invalid().iter().try_for_each(|_| f.write_str("\\ufffd"))?;
        }
        f.write_char('"')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quoted(bytes: &[u8]) -> String {
        Quoted(bytes).to_string()
    }

    #[test]
    fn strings_are_written_as_go_writes_them() {
        for (bytes, want) in [
            (&b""[..], r#""""#),
            (b"bob", r#""bob""#),
            (b"a\"b\\c/d", r#""a\"b\\c/d""#),
            (b"<a>&'", r#""\u003ca\u003e\u0026'""#),
            (b"a\tb\x01\x7f", "\"a\\tb\\u0001\x7f\""),
            ("gr\u{fc}n \u{1f600}\u{2028}".as_bytes(), "\"gr\u{fc}n \u{1f600}\\u2028\""),
            (b"a\xffb\xe2\x82", r#""a\ufffdb\ufffd\ufffd""#),
        ] {
            assert_eq!(quoted(bytes), want);
        }
    }

    #[test]
    fn sizes_are_those_of_the_bodies() {
        assert_eq!((ok().size, not_found().size, unreadable().size), (15, 19, 15));
        let bob = Key::from(&b"bob"[..]);
        let response = problems(&[(Problem::NotFound, bob.clone()), (Problem::Closed, bob)], true);
        let want = r#"{"errors":[{"error":"kuiperbelt: session is not found","session":"bob"},{"error":"kuiperbelt: session is closed","session":"bob"}],"result":"NG"}"#;
        assert_eq!(response.size, want.len() + 1);
    }
}
