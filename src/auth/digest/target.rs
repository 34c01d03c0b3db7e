//! What a request is for.

use std::net::IpAddr;

use crate::api::Request;

/// The method, the target and the client of a request, which digest authentication covers. `From` takes them from a
/// [`Request`].
#[derive(Clone, Copy, Debug)]
pub struct DigestTarget<'a> {
    /// The method.
    pub method: &'a [u8],
    /// The request target, as it stands in the request line.
    pub target: &'a [u8],
    /// The address of the client, for nonces that are [bound](super::Binding) to it.
    pub address: Option<IpAddr>,
}

impl<'a> From<&Request<'a>> for DigestTarget<'a> {
    fn from(request: &Request<'a>) -> Self {
        let (method, target) = (request.method().as_bytes(), request.target().as_bytes());
        Self { method, target, address: request.peer().ip() }
    }
}

/// Returns `true` if `uri` of the credentials is the request's target (RFC 7616 §3.4.6). One of them may be in absolute
/// form and the other not: a proxy changes the target.
pub(super) fn is_same_target(uri: &[u8], target: &[u8]) -> bool {
    uri == target || origin_form(uri).zip(origin_form(target)).is_some_and(|(uri, target)| uri == target)
}

/// Returns the path and the query of a target in origin or absolute form.
fn origin_form(target: &[u8]) -> Option<&[u8]> {
    if target.starts_with(b"/") {
        return Some(target);
    }
    let scheme = [&b"http://"[..], b"https://"]
        .into_iter()
        .find(|scheme| target.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme)))?;
    let rest = &target[scheme.len()..];
    Some(rest.iter().position(|&b| matches!(b, b'/' | b'?')).map_or(&b"/"[..], |at| &rest[at..]))
}
