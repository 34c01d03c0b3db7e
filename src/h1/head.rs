//! A request's head: parsed once by httparse, then one pass over the fields for those that the engine needs.
//!
//! ```text
//!   POST /up?x=1 HTTP/1.1 ␍␊ Host: h ␍␊ Content-Length: 3 ␍␊ ␍␊
//!   └┬─┘ └──┬──┘ └──┬───┘    └──┬──┘    └───────┬───────┘
//!   method target version     host           framing               and: keep_alive, expect_continue, upgrade
//! ```
//!
//! httparse is lenient in places: it takes bare LF for line ends (rejected before, by
//! [`HeadScanner`](super::HeadScanner)), any UTF-8 in a target, and skips empty lines. Each of these has a test.

use std::mem::MaybeUninit;

use super::{
    Framing, HeadLimits, HeadersRef, Misbehaved, TargetForm,
    framing::BodyFields,
    grammar::{is_token, list},
    target::{self, KnownHost},
};

/// Field lines that fit on the stack. A longer head, if its limits allow it, takes an allocation.
pub const MAX_FIELDS: usize = 256;

/// Space for the fields of one head: 8 KiB on the stack, not initialised, and an allocation for longer heads.
#[derive(Debug)]
pub struct FieldSlots<'b> {
    few: [MaybeUninit<httparse::Header<'b>>; MAX_FIELDS],
    many: Vec<httparse::Header<'b>>,
}

/// Returns space for the fields of one head. It costs nothing: no byte of it is written.
#[inline(always)]
pub const fn field_slots<'b>() -> FieldSlots<'b> {
    FieldSlots { few: [const { MaybeUninit::uninit() }; MAX_FIELDS], many: Vec::new() }
}

impl<'b> FieldSlots<'b> {
    /// Returns space for the fields of a head of `head` bytes, for at most `most` fields.
    #[inline]
    pub(super) fn room(&mut self, head: usize, most: usize) -> &mut [MaybeUninit<httparse::Header<'b>>] {
        /// `a:`, CR, LF.
        const SHORTEST_LINE: usize = 4;
        if most <= MAX_FIELDS || head <= MAX_FIELDS * SHORTEST_LINE {
            return &mut self.few[..most.min(MAX_FIELDS)];
        }
        let room = most.min(head / SHORTEST_LINE);
        self.many.reserve_exact(room);
        &mut self.many.spare_capacity_mut()[..room]
    }
}

/// The version of a request. Other versions are rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Version {
    /// HTTP/1.0: no chunks, and a connection for each request unless the client requests more.
    Http10,
    /// HTTP/1.1.
    Http11,
    /// HTTP/2, of a server with the feature `http2`. A request on a stream has the fields and the method that it would
    /// have in HTTP/1.1.
    Http2,
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Http10 => "HTTP/1.0",
            Self::Http11 => "HTTP/1.1",
            Self::Http2 => "HTTP/2",
        })
    }
}

/// A request's head, by the rules of RFC 9110 and RFC 9112.
#[derive(Clone, Copy, Debug)]
pub struct RequestHead<'b> {
    /// Any token, case-sensitive (RFC 9110 §9.1).
    pub method: &'b str,
    /// The request target as received. Visible ASCII without `#`.
    pub target: &'b str,
    /// The form of the target.
    pub form: TargetForm,
    /// The client's version.
    pub version: Version,
    /// All fields, in order.
    pub fields: HeadersRef<'b>,
    /// The framing of the body.
    pub framing: Framing,
    /// `true` if the client is ready for another request on this connection (RFC 9112 §9.3).
    pub keep_alive: bool,
    /// `true` if the client waits for `100 Continue` before it sends its body (RFC 9110 §10.1.1). Never without a body,
    /// never on 1.0.
    pub expect_continue: bool,
    /// `true` if the client offers to switch protocols (RFC 9110 §7.8): an Upgrade field that Connection names, on 1.1.
    pub upgrade: bool,
    /// The authority of the target, or else the value of the Host field. Valid ASCII, converted on use.
    authority: Option<&'b [u8]>,
}

impl<'b> RequestHead<'b> {
    /// Returns the authority of the request: `host`, or `host:port`. It comes from the target if that has one (RFC 9112
    /// §3.2.2), otherwise from the Host field. `None` if that is empty, or if an HTTP/1.0 client sent none.
    pub fn authority(&self) -> Option<&'b str> {
        self.authority.filter(|bytes| !bytes.is_empty()).and_then(|bytes| std::str::from_utf8(bytes).ok())
    }

    /// Returns the [authority](Self::authority) without its port.
    pub fn host(&self) -> Option<&'b str> {
        self.authority().and_then(target::split_port).map(|(host, _)| host)
    }

    /// Returns the path as received, percent-encoding and dot segments included: `/` at least; `*` of the asterisk
    /// form, `""` of the authority form.
    pub fn path(&self) -> &'b str {
        target::path_and_query(self.form, self.target).0
    }

    /// Returns the query: the part behind the first `?`, if there is one.
    pub fn query(&self) -> Option<&'b str> {
        target::path_and_query(self.form, self.target).1
    }
}

#[cfg(feature = "http2")]
impl<'b> RequestHead<'b> {
    /// Returns the head of a request of HTTP/2 in the words of HTTP/1.1, by the same rules. `fields` begin with `Host`.
    /// `ended`: there is no body. `upgrade`: it is an extended CONNECT, and `method` is what it stands for.
    ///
    /// # Errors
    /// The first violated rule.
    #[inline(never)]
    pub(crate) fn of_stream(
        method: &'b str,
        target: &'b str,
        fields: &'b [httparse::Header<'b>],
        ended: bool,
        upgrade: bool,
        limits: &HeadLimits,
        known: &mut KnownHost,
    ) -> Result<Self, Misbehaved> {
        if fields.len() > limits.fields {
            return Err(Misbehaved::TooManyFields);
        }
        if target.len() > limits.target {
            return Err(Misbehaved::TargetTooLong);
        }
        // httparse checks the target of HTTP/1.1 before `classify` does.
        if !super::grammar::is_target(target.as_bytes()) {
            return Err(Misbehaved::BadTarget);
        }
        let (form, authority) = target::classify(method, target)?;
        let mut facts = Facts::default();
        facts.note(fields);
        let host = facts.host(Version::Http11, known)?;
        let declared = match &facts.body {
            Some(body) => body.decide(Version::Http11)?,
            None => Framing::None,
        };
        let framing = match declared {
            // A stream leaves HTTP when the handler has accepted that.
            _ if upgrade || form == TargetForm::Authority => Framing::None,
            // RFC 9113 §8.2.2: there is no Transfer-Encoding. `h2` has rejected such a request.
            Framing::Chunked => return Err(Misbehaved::BothLengths),
            Framing::None if ended => Framing::None,
            Framing::None => Framing::Chunked,
            Framing::Length(n) if ended && n > 0 => return Err(Misbehaved::TruncatedBody),
            Framing::Length(n) => Framing::Length(n),
        };
        if facts.expects_other {
            return Err(Misbehaved::UnknownExpectation);
        }
        Ok(RequestHead {
            method,
            target,
            form,
            version: Version::Http2,
            fields: HeadersRef::new(fields),
            framing,
            // Of the stream: it has one request.
            keep_alive: false,
            expect_continue: facts.expects && !framing.is_empty() && !ended,
            upgrade,
            authority: authority.map(str::as_bytes).or(host),
        })
    }
}

/// The result of the pass over the fields.
#[derive(Default)]
struct Facts<'b> {
    host: Option<&'b [u8]>,
    hosts: usize,
    body: Option<BodyFields>,
    close: bool,
    keep_alive: bool,
    upgrade_token: bool,
    upgrade_field: bool,
    expects: bool,
    expects_other: bool,
}

impl<'b> Facts<'b> {
    /// Adds the fields of a head. It is a method of what it fills: returned instead, that would be copied.
    // Always: HTTP/2 has a second caller, and the first one must not pay for that.
    #[inline(always)]
    fn note(&mut self, fields: &[httparse::Header<'b>]) {
        for field in fields {
            // The length first: it is the only comparison for most other fields. Then the usual spelling, which is one
            // comparison; letter by letter only if that fails.
            let is = |name: &str| field.name == name || field.name.eq_ignore_ascii_case(name);
            match field.name.len() {
                4 if is("Host") => {
                    self.host = Some(field.value);
                    self.hosts += 1;
                }
                6 if is("Expect") => self.expect(field.value),
                7 if is("Upgrade") => self.upgrade_field = true,
                10 if is("Connection") => self.connection(field.value),
                14 if is("Content-Length") => {
                    self.body.get_or_insert_default().content_length(field.value);
                }
                17 if is("Transfer-Encoding") => {
                    self.body.get_or_insert_default().transfer_encoding(field.value);
                }
                _ => {}
            }
        }
    }

    fn connection(&mut self, value: &[u8]) {
        for option in list(value) {
            self.close |= option.eq_ignore_ascii_case(b"close");
            self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
            self.upgrade_token |= option.eq_ignore_ascii_case(b"upgrade");
        }
    }

    fn expect(&mut self, value: &[u8]) {
        for expectation in list(value).filter(|element| !element.is_empty()) {
            let known = expectation.eq_ignore_ascii_case(b"100-continue");
            self.expects |= known;
            self.expects_other |= !known;
        }
    }

    /// RFC 9112 §3.2: "A server MUST respond with a 400 (Bad Request) status code to any HTTP/1.1 request message that
    /// lacks a Host header field and to any request message that contains more than one Host header field line or a
    /// Host header field with an invalid field value."
    #[inline(always)]
    fn host(&self, version: Version, known: &mut KnownHost) -> Result<Option<&'b [u8]>, Misbehaved> {
        match self.host {
            _ if self.hosts > 1 => Err(Misbehaved::DuplicateHost),
            None if version == Version::Http11 => Err(Misbehaved::MissingHost),
            None => Ok(None),
            // Empty if the target URI has no authority (RFC 9112 §3.2).
            Some(host) if host.is_empty() || known.is_authority(host) => Ok(Some(host)),
            Some(_) => Err(Misbehaved::BadHost),
        }
    }
}

/// Parses a head as [`HeadScanner`](super::HeadScanner) found it: without the empty lines before it, with the empty
/// line that ends it. Line ends are not checked again.
///
/// A minor version above 1 is rejected with 505 like any other version. By RFC 9110 §2.5 it would be read as 1.1, but
/// no such version exists or will exist.
///
/// # Errors
/// The first violated rule; malformed lines come before rules about well-formed ones.
#[inline]
pub fn parse_request<'b>(
    head: &'b [u8],
    slots: &'b mut FieldSlots<'b>,
    limits: &HeadLimits,
) -> Result<RequestHead<'b>, Misbehaved> {
    parse_request_of(head, slots, limits, &mut KnownHost::default())
}

/// Like [`parse_request`], with a cache of the last valid authority.
#[inline]
pub(crate) fn parse_request_of<'b>(
    head: &'b [u8],
    slots: &'b mut FieldSlots<'b>,
    limits: &HeadLimits,
    known: &mut KnownHost,
) -> Result<RequestHead<'b>, Misbehaved> {
    let mut parsed = httparse::Request::new(&mut []);
    let room = slots.room(head.len(), limits.fields);
    match parsed.parse_with_uninit_headers(head, room) {
        Ok(httparse::Status::Complete(n)) if n == head.len() && head[0] > b' ' => {}
        Ok(_) => return Err(Misbehaved::BadRequestLine),
        Err(error) => return Err(blame(head, error)),
    }
    let (Some(method), Some(target), Some(minor)) = (parsed.method, parsed.path, parsed.version) else {
        return Err(Misbehaved::BadRequestLine);
    };
    let fields: &'b [httparse::Header<'b>] = parsed.headers;
    if target.len() > limits.target {
        return Err(Misbehaved::TargetTooLong);
    }
    let (form, authority) = target::classify(method, target)?;
    let version = if minor == 0 { Version::Http10 } else { Version::Http11 };
    let mut facts = Facts::default();
    facts.note(fields);
    let host = facts.host(version, known)?;
    let framing = match &facts.body {
        Some(body) => body.decide(version)?,
        None => Framing::None,
    };
    if facts.expects_other {
        return Err(Misbehaved::UnknownExpectation);
    }
    let modern = version == Version::Http11;
    Ok(RequestHead {
        method,
        target,
        form,
        version,
        fields: HeadersRef::new(fields),
        framing,
        keep_alive: !facts.close && (modern || facts.keep_alive),
        expect_continue: facts.expects && modern && !framing.is_empty(),
        upgrade: facts.upgrade_token && facts.upgrade_field && modern,
        authority: authority.map(str::as_bytes).or(host),
    })
}

/// Returns the rule whose violation httparse found.
#[cold]
fn blame(head: &[u8], error: httparse::Error) -> Misbehaved {
    use httparse::Error as E;
    match error {
        E::TooManyHeaders => Misbehaved::TooManyFields,
        E::HeaderName | E::HeaderValue => blame_field(head),
        E::Token | E::Version | E::NewLine | E::Status => blame_line(head),
    }
}

fn blame_line(head: &[u8]) -> Misbehaved {
    let line = head.split(|&b| b == b'\r').next().unwrap_or_default();
    let parts: Vec<&[u8]> = line.splitn(4, |&b| b == b' ').collect();
    match parts[..] {
        [method, ..] if !is_token(method) => Misbehaved::BadMethod,
        [_, b"", ..] => Misbehaved::BadRequestLine,
        // The rest is valid, so it must be the target.
        [_, _, b"HTTP/1.0" | b"HTTP/1.1"] => Misbehaved::BadTarget,
        [_, _, [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9']] => Misbehaved::UnsupportedVersion,
        [_, _, _] => Misbehaved::BadVersion,
        _ => Misbehaved::BadRequestLine,
    }
}

pub(super) fn blame_field(head: &[u8]) -> Misbehaved {
    for line in head.split(|&b| b == b'\n').skip(1) {
        let name = line.split(|&b| b == b':').next().unwrap_or_default();
        match name {
            b"\r" | b"" if name.len() == line.len() => break,
            [b' ' | b'\t', ..] => return Misbehaved::ObsFold,
            [token @ .., b' ' | b'\t'] if name.len() < line.len() && is_token(token) => {
                return Misbehaved::SpaceBeforeColon;
            }
            _ if !is_token(name) || name.len() == line.len() => return Misbehaved::BadField,
            _ => {}
        }
    }
    Misbehaved::BadField
}

/// Fuzz target: checks that a head is found however it is split, and that an accepted head follows all rules.
#[cfg(any(test, fuzzing, feature = "__internals"))]
#[doc(hidden)]
pub fn fuzz(data: &[u8]) {
    use super::{HeadScanner, grammar};
    let limits = HeadLimits { head: 400, target: 100, fields: 8 };
    let (mut whole, mut split) = (HeadScanner::default(), HeadScanner::default());
    let found = whole.find(data, &limits);
    let pieces = (0..=data.len()).map(|n| split.find(&data[..n], &limits)).find(|step| *step != Ok(None));
    assert_eq!(found, pieces.unwrap_or(Ok(None)), "finding must not depend on how the bytes arrive");
    let Ok(Some(end)) = found else { return };
    assert_eq!(whole, split);
    let bytes = &data[whole.skip()..end];
    assert!(bytes.ends_with(b"\r\n\r\n") && bytes.len() <= limits.head);
    let mut slots = field_slots();
    let Ok(head) = parse_request(bytes, &mut slots, &limits) else { return };
    for (i, b) in bytes.iter().enumerate() {
        assert!(*b != b'\n' || bytes[i - 1] == b'\r');
        assert!(*b != b'\r' || bytes[i + 1] == b'\n');
        assert!(*b >= 0x20 && *b != 0x7f || matches!(b, b'\r' | b'\n' | b'\t'));
    }
    // Written again from its parts, the head has the same bytes except whitespace.
    let version = if head.version == Version::Http11 { "1.1" } else { "1.0" };
    let mut again = format!("{} {} HTTP/{version}\r\n", head.method, head.target).into_bytes();
    for (name, value) in head.fields.iter() {
        assert!(is_token(name.as_bytes()) && grammar::is_field_value(value) && grammar::trim(value) == value);
        again.extend_from_slice(&[name.as_bytes(), b":", value, b"\r\n"].concat());
    }
    again.extend_from_slice(b"\r\n");
    let bare = |bytes: &[u8]| bytes.iter().copied().filter(|b| !matches!(b, b' ' | b'\t')).collect::<Vec<_>>();
    assert_eq!(bare(&again), bare(bytes));
    assert!(head.fields.len() <= limits.fields && head.target.len() <= limits.target);
    assert!(head.version == Version::Http10 || head.fields.get_all("host").count() == 1);
    assert!(head.path() == "*" || head.path().is_empty() || head.path().starts_with('/'));
    assert!(head.authority().is_none_or(|host| target::is_authority(host.as_bytes())));
    // An intermediary forwards exactly the end-to-end fields.
    let (kept, names) = (head.fields.end_to_end().collect::<Vec<_>>(), head.fields.connection_names());
    let ends = |name: &str| super::is_hop_by_hop(name) || names.iter().any(|own| own.eq_ignore_ascii_case(name));
    assert_eq!(kept, head.fields.iter().filter(|(name, _)| !ends(name)).collect::<Vec<_>>());
    assert!(kept.iter().all(|(name, _)| !head.fields.contains_token("connection", name)));
}

#[cfg(test)]
#[path = "head_tests.rs"]
mod tests;
