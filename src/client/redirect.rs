//! Redirects (RFC 9110 §15.4).

use super::{
    error::Error,
    exchange::{Exchange, Key},
    request::{Content, Request},
};
use crate::h1::HeadersRef;

/// Fields that must not be sent to another origin (RFC 9110 §15.4, item 2).
const PRIVATE: [&str; 4] = ["authorization", "cookie", "proxy-authorization", "origin"];
/// Fields about a body that is no longer sent (item 3).
const OF_BODY: [&str; 5] =
    ["content-type", "content-encoding", "content-language", "content-location", "content-length"];

/// Changes a request to its redirected form. Returns `false` if the 3xx itself is the response: redirects are off, it
/// has no usable Location, or the body was a stream and is consumed.
///
/// # Errors
/// More redirects than allowed, several Locations, or an invalid one.
pub(super) fn follow(exchange: &mut Exchange, status: u16, fields: HeadersRef<'_>, spent: bool) -> Result<bool, Error> {
    if !matches!(status, 301 | 302 | 303 | 307 | 308) || (exchange.redirects == 0 && !exchange.redirected) {
        return Ok(false);
    }
    let mut locations = fields.get_all("location");
    let (Some(location), second) = (locations.next(), locations.next()) else { return Ok(false) };
    let request = &exchange.request;
    // As browsers do, and RFC 9110 §15.4.2 allows.
    let to_get =
        (status == 303 && &*request.method != "HEAD") || (matches!(status, 301 | 302) && &*request.method == "POST");
    if (spent && !to_get) || request.options.upgrade || &*request.method == "CONNECT" {
        return Ok(false);
    }
    if exchange.redirects == 0 {
        return Err(Error::Redirect("too many redirects"));
    }
    // Ambiguous: an intermediary may have used either (RFC 9110 §5.5: "a singleton field").
    if second.is_some() {
        return Err(Error::Redirect("several Location fields"));
    }
    let url = request.url.join(location).map_err(Error::Redirect)?;
    let other_origin = !url.same_origin(&request.url);
    if other_origin && request.unix.is_some() {
        return Ok(false);
    }
    exchange.redirects -= 1;
    exchange.redirected = true;
    let request = &mut exchange.request;
    request.url = url;
    if other_origin {
        request.authority = None;
        PRIVATE.iter().for_each(|name| request.headers.remove(name));
    }
    if to_get {
        become_get(request);
    }
    exchange.key = Key::of(&exchange.request);
    exchange.retried = false;
    Ok(true)
}

fn become_get(request: &mut Request) {
    request.method = "GET".into();
    request.content = Content::None;
    request.options.expect_continue = false;
    OF_BODY.iter().for_each(|name| request.headers.remove(name));
}
