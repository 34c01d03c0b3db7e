//! Heads of requests and replies: read from header blocks, and written into them.
//!
//! ```text
//!   :method GET   :path /a?b   :version HTTP/1.1   :host localhost:1443   :scheme https   accept text/html␀image/png
//!   :status 206 Partial Content   :version HTTP/1.1   content-length 1536
//! ```
//!
//! An accepted head can be written in HTTP/1.1 and means the same there. Names and the method are tokens, and values
//! contain no line end. A path has neither spaces nor control characters, and there is at most one length. Fields of
//! one connection ([`HOP_BY_HOP`], and what `connection` lists) are dropped in both directions. A block that breaks a
//! rule ends its stream.

use uncork::h1::{Headers, is_token};

use super::headers::Pairs;

/// Fields of one connection (RFC 9110 §7.6.1), and `transfer-encoding`, which contradicts the length.
pub(super) const HOP_BY_HOP: [&str; 8] =
    ["connection", "host", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"];

/// Largest number of fields, after those of one name were separated.
const FIELDS: usize = 200;

/// The head of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RequestHead {
    pub(crate) method: String,
    /// Includes the query.
    pub(crate) path: String,
    /// A spdy-proxy always sends `localhost:1443`.
    pub(crate) host: String,
    /// A spdy-proxy always sends `https`.
    pub(crate) scheme: String,
    pub(crate) fields: Headers,
}

/// The head of a reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ReplyHead {
    /// 200 to 999: SPDY has no form for informational responses (1xx).
    pub(crate) status: u16,
    pub(crate) fields: Headers,
}

/// The block is not a valid head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

impl RequestHead {
    /// Parses a block.
    pub(super) fn read(pairs: &Pairs) -> Result<Self, Malformed> {
        let (mut method, mut path, mut host, mut scheme) = (None, None, None, None);
        let fields = fields(pairs, |name, value| match name {
            b":method" => once(&mut method, value),
            b":path" => once(&mut path, value),
            b":host" => once(&mut host, value),
            b":scheme" => once(&mut scheme, value),
            _ => Ok(()),
        })?;
        let (Some(method), Some(path)) = (method, path) else { return Err(Malformed) };
        let (host, scheme) = (host.unwrap_or_default(), scheme.unwrap_or_default());
        let is_target = path.starts_with('/') || (path == "*" && method == "OPTIONS");
        if !is_token(method.as_bytes()) || !is_target || ![&path, &host, &scheme].into_iter().all(|s| is_visible(s)) {
            return Err(Malformed);
        }
        length(&fields)?;
        Ok(Self { method, path, host, scheme, fields })
    }

    /// Checks that the head may be sent.
    pub(super) fn check(&self) -> Result<(), Malformed> {
        let texts = [&self.path, &self.host, &self.scheme];
        let is_valid = is_token(self.method.as_bytes()) && texts.into_iter().all(|s| is_visible(s));
        if is_valid && !self.path.is_empty() { Ok(()) } else { Err(Malformed) }
    }

    /// Returns the block's pairs, in the order of spdy-proxy.
    pub(super) fn pairs(&self) -> Vec<(String, Vec<u8>)> {
        let start = [
            (":method", &self.method[..]),
            (":path", &self.path),
            (":version", "HTTP/1.1"),
            (":host", &self.host),
            (":scheme", &self.scheme),
        ];
        joined(start, &self.fields)
    }
}

impl ReplyHead {
    /// Parses a block.
    pub(super) fn read(pairs: &Pairs) -> Result<Self, Malformed> {
        let mut status = None;
        let fields = fields(pairs, |name, value| match name {
            b":status" => once(&mut status, value),
            _ => Ok(()),
        })?;
        // `206 Partial Content`: the first three characters count.
        let status = status.as_deref().and_then(|text| {
            let (code, rest) = text.split_at_checked(3)?;
            let is_valid = code.bytes().all(|b| b.is_ascii_digit()) && (rest.is_empty() || rest.starts_with(' '));
            code.parse::<u16>().ok().filter(|code| is_valid && *code >= 200)
        });
        length(&fields)?;
        Ok(Self { status: status.ok_or(Malformed)?, fields })
    }

    /// Checks that the head may be sent.
    pub(super) fn check(&self) -> Result<(), Malformed> {
        if (200..=999).contains(&self.status) { Ok(()) } else { Err(Malformed) }
    }

    /// Returns the block's pairs.
    pub(super) fn pairs(&self) -> Vec<(String, Vec<u8>)> {
        let status = format!("{} {}", self.status, uncork::h1::reason(self.status));
        joined([(":status", status.trim_end()), (":version", "HTTP/1.1")], &self.fields)
    }

    /// Returns `true` if no body follows, whatever the fields say (RFC 9110 §6.4.1).
    pub(super) fn is_bodiless(&self) -> bool {
        matches!(self.status, 204 | 304)
    }
}

/// Returns the value of `content-length`, if there is one. Several values, or one that is not a number, are an error.
pub(super) fn length(fields: &Headers) -> Result<Option<u64>, Malformed> {
    let mut values = fields.get_all("content-length");
    let Some(value) = values.next() else { return Ok(None) };
    let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    let number = std::str::from_utf8(value).ok().filter(|_| digits).and_then(|text| text.parse().ok());
    match number {
        Some(n) if values.next().is_none() => Ok(Some(n)),
        _ => Err(Malformed),
    }
}

/// Returns the fields. Those that begin with a colon go to `pseudo`.
fn fields<'a>(
    pairs: &'a Pairs,
    mut pseudo: impl FnMut(&'a [u8], &'a [u8]) -> Result<(), Malformed>,
) -> Result<Headers, Malformed> {
    let (mut fields, mut count) = (Headers::new(), 0);
    for (name, value) in pairs.iter() {
        if name.starts_with(b":") {
            pseudo(name, value)?;
            continue;
        }
        // SPDY requires lower case (§2.6.10), so names can be compared directly.
        let name = std::str::from_utf8(name).ok().filter(|name| !name.bytes().any(|b| b.is_ascii_uppercase()));
        let name = name.ok_or(Malformed)?;
        for value in value.split(|b| *b == 0) {
            count += 1;
            if count > FIELDS {
                return Err(Malformed);
            }
            if HOP_BY_HOP.contains(&name) && name != "connection" {
                continue;
            }
            fields.append(name, value).map_err(|_| Malformed)?;
        }
    }
    Ok(without_hop(fields))
}

/// Removes the fields of one hop.
fn without_hop(fields: Headers) -> Headers {
    if fields.get("connection").is_none() {
        return fields;
    }
    let mut kept = Headers::new();
    for (name, value) in fields.end_to_end() {
        // Both were checked before.
        let _ = kept.append(name, value);
    }
    kept
}

fn once(slot: &mut Option<String>, value: &[u8]) -> Result<(), Malformed> {
    let text = std::str::from_utf8(value).map_err(|_| Malformed)?;
    match slot.replace(text.to_owned()) {
        None => Ok(()),
        Some(_) => Err(Malformed),
    }
}

/// Returns `true` for visible ASCII, and for an empty text.
fn is_visible(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_graphic())
}

/// Returns `start`, then the fields in lower case; several values of one name are joined by NUL.
fn joined<const N: usize>(start: [(&str, &str); N], fields: &Headers) -> Vec<(String, Vec<u8>)> {
    let mut pairs: Vec<(String, Vec<u8>)> =
        start.into_iter().map(|(name, value)| (name.to_owned(), value.as_bytes().to_vec())).collect();
    for (name, value) in fields.end_to_end() {
        let name = name.to_ascii_lowercase();
        if HOP_BY_HOP.contains(&&name[..]) {
            continue;
        }
        match pairs.iter_mut().find(|(other, _)| *other == name) {
            Some((_, values)) => {
                values.push(0);
                values.extend_from_slice(value);
            }
            None => pairs.push((name, value.to_vec())),
        }
    }
    pairs
}
