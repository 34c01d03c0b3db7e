//! Basic authentication (RFC 7617).

use std::fmt;

use base64::{Engine, prelude::BASE64_STANDARD};

use super::{compare::constant_time_eq, params};
use crate::{
    api::{Request, Response},
    h1::HeadersRef,
};

/// Basic authentication for one realm: asks for a name and a password, and reads them from a request.
///
/// The password is sent as it is, so use it over TLS only.
///
/// ```
/// use uncork::{Request, Response, auth::Basic};
///
/// let basic = Basic::new("vault");
/// let handler = move |req: &mut Request<'_>| match basic.credentials(req) {
///     Some(found) if found.is("alice", "open sesame") => Response::text("hello, alice\n"),
///     _ => basic.response(),
/// };
/// # fn check(_: impl uncork::Handler) {}
/// # check(handler);
/// ```
#[derive(Clone, Debug)]
pub struct Basic {
    realm: Box<[u8]>,
    utf8: bool,
}

impl Basic {
    /// Creates it for a realm: text that the client shows to the user, and by which it finds a stored password. A
    /// control byte in it makes [`response`](Self::response) a 500.
    pub fn new(realm: impl AsRef<[u8]>) -> Self {
        Self { realm: realm.as_ref().into(), utf8: true }
    }

    /// Sets whether the challenge says that name and password are to be sent in UTF-8 (RFC 7617 §2.1). Default:
    /// `true`. Without it, clients choose the character encoding.
    pub fn utf8(self, utf8: bool) -> Self {
        Self { utf8, ..self }
    }

    /// Returns the credentials of a request; `None` if it has none of this scheme, several, or malformed ones. They are
    /// not verified.
    pub fn credentials(&self, request: &Request<'_>) -> Option<BasicCredentials> {
        BasicCredentials::of(request.headers())
    }

    /// Returns the challenge, the value of a `WWW-Authenticate` field: `Basic realm="vault", charset="UTF-8"`.
    ///
    /// ```
    /// use uncork::auth::Basic;
    /// assert_eq!(Basic::new("vault").challenge(), b"Basic realm=\"vault\", charset=\"UTF-8\"");
    /// ```
    pub fn challenge(&self) -> Vec<u8> {
        let mut challenge = b"Basic".to_vec();
        params::push_quoted(&mut challenge, "realm", &self.realm);
        if self.utf8 {
            params::push_quoted(&mut challenge, "charset", b"UTF-8");
        }
        challenge
    }

    /// Returns a 401 with the challenge and without a body.
    pub fn response(&self) -> Response {
        Response::new(401).header("WWW-Authenticate", self.challenge())
    }
}

/// A name and a password, as a client has sent them. `Debug` does not print the password.
#[derive(Clone, PartialEq, Eq)]
pub struct BasicCredentials {
    /// The name, and behind `colon` the password.
    text: Box<[u8]>,
    colon: Option<usize>,
}

impl BasicCredentials {
    /// Reads the one Authorization field of a request; `None` if there is none, more than one, or not a valid one of
    /// this scheme.
    pub fn of(headers: HeadersRef<'_>) -> Option<Self> {
        Self::parse(params::authorization(headers)?)
    }

    /// Parses the value of an Authorization field: `Basic`, then Base64 with padding, of bytes without control bytes
    /// (RFC 7617 §2). `None` if it is anything else.
    ///
    /// ```
    /// use uncork::auth::BasicCredentials;
    /// let found = BasicCredentials::parse(b"Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==").unwrap();
    /// assert_eq!((found.name_str(), found.password()), (Some("Aladdin"), Some(&b"open sesame"[..])));
    /// ```
    pub fn parse(value: &[u8]) -> Option<Self> {
        let encoded = params::after_scheme(value, "Basic").filter(|encoded| !encoded.is_empty())?;
        let text = BASE64_STANDARD.decode(encoded).ok().filter(|text| !text.iter().any(u8::is_ascii_control))?;
        Some(Self { colon: text.iter().position(|&b| b == b':'), text: text.into() })
    }

    /// Returns the name: what stands before the first colon. It can be empty. Clients that do not know `charset` may
    /// send another encoding than UTF-8.
    pub fn name(&self) -> &[u8] {
        self.colon.map_or(&*self.text, |colon| &self.text[..colon])
    }

    /// Like [`name`](Self::name), but `None` if it is not UTF-8.
    pub fn name_str(&self) -> Option<&str> {
        std::str::from_utf8(self.name()).ok()
    }

    /// Returns the password; `None` if there is no colon behind the name, against RFC 7617. Compare it by
    /// [`constant_time_eq`], or give it to a function for password hashes.
    pub fn password(&self) -> Option<&[u8]> {
        self.colon.map(|colon| &self.text[colon + 1..])
    }

    /// Returns `true` if name and password are these. The time that this takes depends on the lengths only.
    pub fn is(&self, name: impl AsRef<[u8]>, password: impl AsRef<[u8]>) -> bool {
        let is_name = constant_time_eq(self.name(), name.as_ref());
        let is_password = self.password().is_some_and(|own| constant_time_eq(own, password.as_ref()));
        is_name & is_password
    }
}

impl fmt::Debug for BasicCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BasicCredentials(\"{}\")", self.name().escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &[u8]) -> Option<BasicCredentials> {
        BasicCredentials::parse(format!("Basic {}", BASE64_STANDARD.encode(text)).as_bytes())
    }

    #[test]
    fn the_examples_of_rfc_7617() {
        let found = BasicCredentials::parse(b"basic  QWxhZGRpbjpvcGVuIHNlc2FtZQ==").unwrap();
        assert!(found.is("Aladdin", "open sesame"));
        let found = BasicCredentials::parse(b"Basic dGVzdDoxMjPCow==").unwrap();
        assert!(found.is("test", "123\u{a3}"));
        assert_eq!(Basic::new("foo").utf8(false).challenge(), b"Basic realm=\"foo\"");
    }

    #[test]
    fn credentials_in_every_form() {
        /// Name and password.
        type Parts = (&'static [u8], Option<&'static [u8]>);
        #[rustfmt::skip]
        const ROWS: &[(&[u8], Option<Parts>)] = &[
            (b"a:b",        Some((b"a", Some(b"b")))),
            (b"a:b:c",      Some((b"a", Some(b"b:c")))),
            (b":",          Some((b"", Some(b"")))),
            (b":b",         Some((b"", Some(b"b")))),
            (b"a",          Some((b"a", None))),
            (b"",           None),
            (b"\xe4:\xff",  Some((b"\xe4", Some(b"\xff")))),
            (b"a:b\0c",     None),
            (b"a\n:b",      None),
            (b"a:\x7f",     None),
        ];
        for (text, expected) in ROWS {
            let found = parsed(text);
            assert_eq!(found.as_ref().map(|f| (f.name(), f.password())), *expected, "{}", text.escape_ascii());
        }
        assert_eq!(parsed(b"\xe4:x").unwrap().name_str(), None);
        for value in
            ["", "Basic", "Digest QTpC", "Basicx QTpC", "Basic QTp", "Basic QTpC=", "Basic QT:pC", "Basic Q QQ="]
        {
            assert_eq!(BasicCredentials::parse(value.as_bytes()), None, "{value}");
        }
    }

    #[test]
    fn a_wrong_name_or_password_is_not_accepted() {
        let found = parsed(b"alice:open sesame").unwrap();
        assert!(found.is("alice", "open sesame"));
        for (name, password) in [("alice", "open sesam"), ("alic", "open sesame"), ("", ""), ("alice", "")] {
            assert!(!found.is(name, password), "{name} {password}");
        }
        assert!(!parsed(b"alice").unwrap().is("alice", ""), "there is no password");
    }

    #[test]
    fn the_password_is_not_printed() {
        assert_eq!(format!("{:?}", parsed(b"alice:secret")), "Some(BasicCredentials(\"alice\"))");
    }
}
