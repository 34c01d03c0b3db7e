//! The labels of the tunnel: the names under which an origin server requests it. They are here alone, since drafts
//! change.
//!
//! ```text
//!   ALPN of TLS, draft "Potato-02"     d5 87 c9 a5  HTTP/2     c6 96 c9 a5  HTTP/1.1     roles reversed at once
//!   ALPN of TLS, before that           "rh2"        HTTP/2
//!   draft "PTTH"                       GET, or :method CONNECT with :protocol ptth (RFC 8441), or PUT
//!                                      Upgrade: ptth    ALPN: h2, http%2F1.1  (RFC 7639)    roles reversed behind 101
//! ```

/// The protocol on a tunnel's connection, in which the proxy is the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Inner {
    Http2,
    Http1,
}

/// What the protocol on a tunnel is called.
struct Label {
    inner: Inner,
    /// The name in TLS.
    alpn: &'static str,
}

/// The preferred one first.
const LABELS: [Label; 3] = [
    Label { inner: Inner::Http2, alpn: "\u{547}\u{265}" },
    Label { inner: Inner::Http2, alpn: "rh2" },
    Label { inner: Inner::Http1, alpn: "\u{196}\u{265}" },
];

/// All names in TLS, the preferred one first.
pub(super) const ALPN: [&str; 3] = [LABELS[0].alpn, LABELS[1].alpn, LABELS[2].alpn];

/// HTTP/1.1 with the roles of any server: an upgrade follows.
pub(super) const UNREVERSED: &[u8] = b"http/1.1";

/// The protocol's name in `Upgrade` and `:protocol`.
pub(super) const UPGRADE: &str = "ptth";

/// The field in which an origin server lists the protocols that it serves on the tunnel, and in which the proxy says
/// which of them it uses.
pub(super) const FIELD: &str = "ALPN";

impl Inner {
    /// The preferred one first.
    pub(super) const ALL: [Self; 2] = [Self::Http2, Self::Http1];

    /// Returns the protocol with this name in TLS.
    pub(super) fn of_alpn(name: &[u8]) -> Option<Self> {
        LABELS.iter().find(|label| label.alpn.as_bytes() == name).map(|label| label.inner)
    }

    /// Returns its names in TLS, the preferred one first.
    pub(super) fn alpn(self) -> impl Iterator<Item = &'static [u8]> {
        LABELS.iter().filter(move |label| label.inner == self).map(|label| label.alpn.as_bytes())
    }

    /// Returns its name in the field `ALPN` (RFC 7639 §2.2).
    pub(super) fn token(self) -> &'static str {
        match self {
            Self::Http2 => "h2",
            Self::Http1 => "http%2F1.1",
        }
    }

    /// Returns the preferred one of the protocols whose tokens are in the field. `has`: returns `true` for one of its
    /// tokens, in any case.
    pub(super) fn listed(has: impl Fn(&str) -> bool) -> Option<Self> {
        Self::ALL.into_iter().find(|inner| has(inner.token()))
    }
}

#[cfg(test)]
mod tests {
    use uncork::h1::Headers;

    use super::*;

    #[test]
    fn each_label_has_one_protocol() {
        assert_eq!(Inner::of_alpn(b"\xd5\x87\xc9\xa5"), Some(Inner::Http2));
        assert_eq!(Inner::of_alpn(b"\xc6\x96\xc9\xa5"), Some(Inner::Http1));
        assert_eq!(Inner::of_alpn(b"rh2"), Some(Inner::Http2));
        for other in [&b"h2"[..], b"http/1.1", b"", b"\xd5\x87"] {
            assert_eq!(Inner::of_alpn(other), None);
        }
        assert!(Inner::Http2.alpn().chain(Inner::Http1.alpn()).eq(ALPN.map(str::as_bytes)));
    }

    #[test]
    fn http2_is_preferred() {
        for (value, want) in [
            ("h2", Some(Inner::Http2)),
            ("http%2F1.1, h2", Some(Inner::Http2)),
            ("http%2f1.1", Some(Inner::Http1)),
            ("h3, http%2F1.1", Some(Inner::Http1)),
            ("h3", None),
            ("http/1.1", None),
        ] {
            let mut fields = Headers::new();
            fields.append(FIELD, value).expect("a field");
            assert_eq!(Inner::listed(|token| fields.contains_token(FIELD, token)), want, "{value}");
        }
    }
}
