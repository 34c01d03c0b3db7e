//! The digest credentials of a request (RFC 7616 §3.4), parsed and not verified.

use std::{borrow::Cow, fmt};

use super::{
    algorithm::{Algorithm, HashValue, Protection, decode_hex},
    error::DigestError,
};
use crate::{
    auth::params::{Params, Value, after_scheme, authorization},
    h1::HeadersRef,
};

/// The digest credentials of a request, parsed and not verified: everything in them is what a client claims.
///
/// ```
/// use uncork::auth::{Algorithm, DigestCredentials, Username};
///
/// let value = br#"Digest username="Mufasa", realm="vault", nonce="n", uri="/", algorithm=SHA-256, response="00""#;
/// let found = DigestCredentials::parse(value)?;
/// assert_eq!((found.user().as_deref(), found.algorithm()), (Some("Mufasa"), Some(Algorithm::Sha256)));
/// # Ok::<(), uncork::auth::DigestError>(())
/// ```
#[derive(Clone, Default)]
pub struct DigestCredentials<'a> {
    username: Option<Value<'a>>,
    username_ext: Option<Value<'a>>,
    userhash: Option<Value<'a>>,
    realm: Option<Value<'a>>,
    opaque: Option<Value<'a>>,
    algorithm: Option<Value<'a>>,
    qop: Option<Value<'a>>,
    nc: Option<Value<'a>>,
    cnonce: Option<Value<'a>>,
    nonce: Option<Value<'a>>,
    uri: Option<Value<'a>>,
    response: Option<Value<'a>>,
}

/// The user, as a client names it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Username<'a> {
    /// There is no user name.
    Missing,
    /// `username`: the name itself, in UTF-8 unless the client does not know `charset`.
    Plain(Cow<'a, [u8]>),
    /// `username*`: the name itself, decoded from the notation of RFC 8187.
    Extended(String),
    /// `username` with `userhash=true`: the [hash](Algorithm::user_hash) of name and realm, in hexadecimal digits.
    Hash(&'a [u8]),
    /// The parameters contradict each other, or the notation is broken.
    Invalid,
}

/// The quality of protection that a client uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Qop {
    /// There is no `qop`, as in RFC 2069.
    None,
    /// `auth`.
    Auth,
    /// `auth-int`, which includes the content. It is not supported.
    AuthInt,
    /// Something else.
    Unknown,
}

impl<'a> DigestCredentials<'a> {
    /// The longest field that is parsed, in bytes: 65,535. A longer one is [`DigestError::TooLarge`]. The engine's
    /// limit for a whole head is less by default.
    pub const MAX_LEN: usize = 65_535;

    /// Parses the one Authorization field of a request.
    ///
    /// # Errors
    /// [`DigestError::NoCredentials`] if there is no such field, or one of another scheme;
    /// [`DigestError::Malformed`] or [`DigestError::TooLarge`] if there are several, or it cannot be parsed.
    pub fn of(headers: HeadersRef<'a>) -> Result<Self, DigestError> {
        match authorization(headers) {
            Some(value) => Self::parse(value),
            None if headers.get("Authorization").is_some() => Err(DigestError::Malformed),
            None => Err(DigestError::NoCredentials),
        }
    }

    /// Parses the value of an Authorization field. Parameters may be tokens or quoted strings, since clients differ
    /// (RFC 7616 §3.4). Unknown ones are ignored (§3.4.7); a known one may occur once.
    ///
    /// # Errors
    /// [`DigestError::NoCredentials`] if the scheme is another one, [`DigestError::Malformed`] or
    /// [`DigestError::TooLarge`] if the field cannot be parsed.
    pub fn parse(value: &'a [u8]) -> Result<Self, DigestError> {
        let list = after_scheme(value, "Digest").ok_or(DigestError::NoCredentials)?;
        if value.len() > Self::MAX_LEN {
            return Err(DigestError::TooLarge);
        }
        let (mut found, mut is_empty) = (Self::default(), true);
        for param in Params::new(list) {
            let (name, value) = param.map_err(|_| DigestError::Malformed)?;
            is_empty = false;
            if found.slot(name).is_some_and(|slot| slot.replace(value).is_some()) {
                return Err(DigestError::Malformed);
            }
        }
        if is_empty { Err(DigestError::Malformed) } else { Ok(found) }
    }

    /// Returns the place of a parameter; `None` if it is unknown.
    fn slot(&mut self, name: &[u8]) -> Option<&mut Option<Value<'a>>> {
        let slots: [(&str, &mut Option<Value<'a>>); 12] = [
            ("username", &mut self.username),
            ("username*", &mut self.username_ext),
            ("userhash", &mut self.userhash),
            ("realm", &mut self.realm),
            ("opaque", &mut self.opaque),
            ("algorithm", &mut self.algorithm),
            ("qop", &mut self.qop),
            ("nc", &mut self.nc),
            ("cnonce", &mut self.cnonce),
            ("nonce", &mut self.nonce),
            ("uri", &mut self.uri),
            ("response", &mut self.response),
        ];
        slots.into_iter().find(|(known, _)| name.eq_ignore_ascii_case(known.as_bytes())).map(|(_, slot)| slot)
    }

    /// Returns how the user is named.
    pub fn username(&self) -> Username<'a> {
        let is_hash = self.userhash.is_some_and(|value| value.raw().eq_ignore_ascii_case(b"true"));
        match (self.username, self.username_ext) {
            (None, None) => Username::Missing,
            (Some(name), None) if is_hash => match decode_hex(name.raw()) {
                Some(_) => Username::Hash(name.raw()),
                None => Username::Invalid,
            },
            (Some(name), None) => Username::Plain(name.unescaped()),
            (None, Some(name)) if !is_hash => extended(name.raw()).map_or(Username::Invalid, Username::Extended),
            _ => Username::Invalid,
        }
    }

    /// Returns the name of the user; `None` if there is none, if it is sent as a hash, or if it is not UTF-8.
    pub fn user(&self) -> Option<Cow<'a, str>> {
        match self.username() {
            Username::Plain(Cow::Borrowed(name)) => std::str::from_utf8(name).ok().map(Cow::Borrowed),
            Username::Plain(Cow::Owned(name)) => String::from_utf8(name).ok().map(Cow::Owned),
            Username::Extended(name) => Some(name.into()),
            _ => None,
        }
    }

    /// Returns `true` if the credentials name this user of this realm, by the name or by its hash.
    pub(super) fn is_user(&self, name: &[u8], realm: &[u8], algorithm: Algorithm) -> bool {
        match self.username() {
            Username::Plain(own) => *own == *name,
            Username::Extended(own) => own.as_bytes() == name,
            Username::Hash(hex) => HashValue::from_hex(hex) == Some(algorithm.user_hash(name, realm)),
            Username::Missing | Username::Invalid => false,
        }
    }

    /// Returns the realm.
    pub fn realm(&self) -> Option<Cow<'a, [u8]>> {
        self.realm.map(Value::unescaped)
    }

    /// Returns what the client was given as `opaque`.
    pub fn opaque(&self) -> Option<Cow<'a, [u8]>> {
        self.opaque.map(Value::unescaped)
    }

    /// Returns the algorithm: MD5 if the client names none; `None` if it names one that is unknown, or of a session.
    pub fn algorithm(&self) -> Option<Algorithm> {
        self.named_algorithm().filter(|(_, is_session)| !is_session).map(|(algorithm, _)| algorithm)
    }

    /// Returns the algorithm, and `true` if it is the variant with `-sess`, which is not supported; `None` if it is
    /// unknown.
    pub fn named_algorithm(&self) -> Option<(Algorithm, bool)> {
        let Some(value) = self.algorithm else { return Some((Algorithm::Md5, false)) };
        let value = value.unescaped();
        Algorithm::ALL.into_iter().find_map(|algorithm| {
            let (name, rest) = value.split_at_checked(algorithm.name().len())?;
            let is_name = name.eq_ignore_ascii_case(algorithm.name().as_bytes());
            let is_session = rest.eq_ignore_ascii_case(b"-sess");
            (is_name && (is_session || rest.is_empty())).then_some((algorithm, is_session))
        })
    }

    /// Returns the quality of protection.
    pub fn qop(&self) -> Qop {
        match self.qop.map(Value::unescaped) {
            None => Qop::None,
            Some(value) if value.eq_ignore_ascii_case(b"auth") => Qop::Auth,
            Some(value) if value.eq_ignore_ascii_case(b"auth-int") => Qop::AuthInt,
            Some(_) => Qop::Unknown,
        }
    }

    /// Returns the nonce count, which a client increments with each use of a nonce, from 1; `None` if there is none, if
    /// it is 0, or if it is not 1 to 8 hexadecimal digits.
    pub fn nonce_count(&self) -> Option<u32> {
        let digits = self.nc?.raw();
        let is_count = matches!(digits.len(), 1..=8) && digits.iter().all(u8::is_ascii_hexdigit);
        let digits = is_count.then(|| std::str::from_utf8(digits).ok()).flatten()?;
        u32::from_str_radix(digits, 16).ok().filter(|&count| count != 0)
    }

    /// Returns the length of the client's own nonce in bytes, as it stands in the field; 0 if there is none. It is
    /// hashed, so a server may want to bound it.
    pub fn cnonce_len(&self) -> usize {
        self.cnonce.map_or(0, |value| value.raw().len())
    }

    pub(super) fn nonce(&self) -> Option<&'a [u8]> {
        self.nonce.map(Value::raw)
    }

    pub(super) fn uri(&self) -> Option<&'a [u8]> {
        self.uri.map(Value::raw)
    }

    pub(super) fn response(&self) -> Option<HashValue> {
        self.response.and_then(|value| HashValue::from_hex(value.raw()))
    }

    /// Returns the parameters that come with `qop`, as they are hashed: with their backslashes ("unq" of RFC 7616 §3.4
    /// only takes the quotation marks off). `None` if one is missing or invalid.
    pub(super) fn protection(&self) -> Option<Protection<'a>> {
        self.nonce_count()?;
        Some(Protection { nc: self.nc?.raw(), cnonce: self.cnonce?.raw(), qop: self.qop?.raw() })
    }
}

/// Decodes the extended notation of RFC 8187 §3.2.1; `None` if it is broken. Of its encodings only UTF-8 is known,
/// which RFC 7616 requires.
fn extended(value: &[u8]) -> Option<String> {
    let mut parts = value.splitn(3, |&b| b == b'\'');
    let (charset, _language, encoded) = (parts.next()?, parts.next()?, parts.next()?);
    if !charset.eq_ignore_ascii_case(b"UTF-8") {
        return None;
    }
    let (mut bytes, mut name) = (encoded.iter(), Vec::with_capacity(encoded.len()));
    while let Some(&byte) = bytes.next() {
        match byte {
            b'%' => name.push(*decode_hex(&[*bytes.next()?, *bytes.next()?])?.first()?),
            // The others of a token must be encoded.
            b'\'' | b'*' => return None,
            byte => name.push(byte),
        }
    }
    // As in a quoted string, there are no control bytes: a NUL would end a name early in C.
    String::from_utf8(name).ok().filter(|name| !name.bytes().any(|b| b.is_ascii_control()))
}

impl fmt::Debug for DigestCredentials<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DigestCredentials")
            .field("username", &self.username())
            .field("realm", &self.realm().map(|realm| realm.escape_ascii().to_string()))
            .field("algorithm", &self.named_algorithm())
            .field("qop", &self.qop())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(params: &str) -> DigestCredentials<'_> {
        DigestCredentials::parse(params.as_bytes()).unwrap()
    }

    #[test]
    fn the_user_is_named_in_four_ways() {
        let plain = |name: &'static str| Username::Plain(name.as_bytes().into());
        let rows = [
            ("Digest realm=r", Username::Missing),
            ("Digest username=a", plain("a")),
            (r#"Digest username="""#, plain("")),
            (r#"Digest username="a \"b\" \\""#, plain("a \"b\" \\")),
            (r#"Digest username="a", userhash=false"#, plain("a")),
            (r#"Digest username="0aF9", userhash=TRUE"#, Username::Hash(b"0aF9")),
            (r#"Digest username="0af", userhash=true"#, Username::Invalid),
            (r#"Digest username="alice", userhash="true""#, Username::Invalid),
            // The example of RFC 7616 §3.9.2.
            ("Digest username*=UTF-8''J%C3%A4s%C3%B8n%20Doe", Username::Extended("J\u{e4}s\u{f8}n Doe".to_owned())),
            ("Digest username*=utf-8'en'a", Username::Extended("a".to_owned())),
            ("Digest username*=utf-8'en", Username::Invalid),
            ("Digest username*=iso-8859-1''a", Username::Invalid),
            ("Digest username*=UTF-8''%C3", Username::Invalid),
            ("Digest username*=UTF-8''%C", Username::Invalid),
            ("Digest username*=UTF-8''%zz", Username::Invalid),
            ("Digest username*=UTF-8''a'b", Username::Invalid),
            ("Digest username*=UTF-8''a%00b", Username::Invalid),
            ("Digest username*=UTF-8''61, userhash=true", Username::Invalid),
            ("Digest username*=UTF-8''a, username=a", Username::Invalid),
        ];
        for (value, expected) in rows {
            assert_eq!(parse(value).username(), expected, "{value}");
        }
        assert_eq!(parse("Digest username*=UTF-8''a").user().as_deref(), Some("a"));
        assert_eq!(parse("Digest username=61, userhash=true").user(), None);
        assert_eq!(DigestCredentials::parse(b"Digest username=\"\xe4\"").unwrap().user(), None);
    }

    #[test]
    fn the_other_parameters() {
        let found = parse(r#"Digest REALM="a \"b\"", Qop=auth, nc=0000001F, cnonce="a\"b", opaque="", new="x""#);
        assert_eq!((found.realm().as_deref(), found.opaque().as_deref()), (Some(&b"a \"b\""[..]), Some(&b""[..])));
        assert_eq!((found.qop(), found.nonce_count(), found.cnonce_len()), (Qop::Auth, Some(31), 4));
        assert_eq!(found.algorithm(), Some(Algorithm::Md5));
        for (name, expected) in [("md5", Some((Algorithm::Md5, false))), ("MD5-sess", Some((Algorithm::Md5, true)))] {
            assert_eq!(parse(&format!("Digest algorithm={name}")).named_algorithm(), expected);
        }
        for (name, expected) in [("SHA-512-256", Some(Algorithm::Sha512_256)), ("SHA-256-sess", None), ("SHA", None)] {
            assert_eq!(parse(&format!("Digest algorithm=\"{name}\"")).algorithm(), expected);
        }
        for (qop, expected) in [("auth-int", Qop::AuthInt), ("auth,auth-int", Qop::Unknown), ("", Qop::Unknown)] {
            assert_eq!(parse(&format!("Digest qop=\"{qop}\"")).qop(), expected);
        }
        for nc in ["0", "00000000", "000000001", "+1", "g", "\"\""] {
            assert_eq!(parse(&format!("Digest nc={nc}")).nonce_count(), None, "{nc}");
        }
    }

    #[test]
    fn what_is_not_a_list_of_parameters_is_malformed() {
        for value in
            ["Digest", "Digest ", "Digest ,", "Digest x", "Digest realm=a, REALM=a", "Digest a=\"", "Digest a=b c=d"]
        {
            assert_eq!(DigestCredentials::parse(value.as_bytes()).unwrap_err(), DigestError::Malformed, "{value}");
        }
        for value in ["", "Basic a=b", "Digestx a=b"] {
            assert_eq!(DigestCredentials::parse(value.as_bytes()).unwrap_err(), DigestError::NoCredentials, "{value}");
        }
        let long = format!("Digest opaque=\"{}\"", "x".repeat(DigestCredentials::MAX_LEN));
        assert_eq!(DigestCredentials::parse(long.as_bytes()).unwrap_err(), DigestError::TooLarge);
    }

    #[test]
    fn a_known_parameter_occurs_once() {
        let names = [
            "username",
            "username*",
            "userhash",
            "realm",
            "opaque",
            "algorithm",
            "qop",
            "nc",
            "cnonce",
            "nonce",
            "uri",
            "response",
        ];
        for name in names {
            let value = format!("Digest {name}=a, x=y, {}=b", name.to_uppercase());
            assert_eq!(DigestCredentials::parse(value.as_bytes()).unwrap_err(), DigestError::Malformed, "{name}");
        }
    }
}
