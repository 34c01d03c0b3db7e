//! Where a 3xx leads (RFC 9110 §15.4).

use super::{
    Error, Request,
    exchange::{Exchange, Key},
    request::Content,
};
use crate::h1::HeadersRef;

/// Fields that are not for another origin (RFC 9110 §15.4, item 2).
const PRIVATE: [&str; 4] = ["authorization", "cookie", "proxy-authorization", "origin"];
/// Fields about a body that is no longer sent (item 3).
const OF_BODY: [&str; 5] =
    ["content-type", "content-encoding", "content-language", "content-location", "content-length"];

/// Makes of a call the one it was redirected to; `false` if the 3xx is the answer: nobody asked for more, it leads nowhere
/// we could go, or the body was a stream and is spent.
///
/// # Errors
/// More redirects than allowed, several Locations, or one that is no URL.
pub(super) fn follow(exchange: &mut Exchange, status: u16, fields: HeadersRef<'_>, spent: bool) -> Result<bool, Error> {
    if !matches!(status, 301 | 302 | 303 | 307 | 308) || (exchange.redirects == 0 && !exchange.redirected) {
        return Ok(false);
    }
    let mut locations = fields.get_all("location");
    let (Some(location), more) = (locations.next(), locations.next()) else { return Ok(false) };
    let request = &exchange.request;
    // As browsers do, and RFC 9110 §15.4.2 allows.
    let to_get =
        (status == 303 && &*request.method != "HEAD") || (matches!(status, 301 | 302) && &*request.method == "POST");
    if (spent && !to_get) || request.options.upgrade || &*request.method == "CONNECT" {
        return Ok(false);
    }
    if exchange.redirects == 0 {
        return Err(Error::Redirect("more often than allowed"));
    }
    // Which of them somebody in between has believed nobody can tell (RFC 9110 §5.5: "a singleton field").
    if more.is_some() {
        return Err(Error::Redirect("to several places at once"));
    }
    let url = request.url.join(location).map_err(|_| Error::Redirect("to something that is no URL to call"))?;
    let elsewhere = !url.same_origin(&request.url);
    if elsewhere && request.unix.is_some() {
        return Ok(false);
    }
    exchange.redirects -= 1;
    exchange.redirected = true;
    let request = &mut exchange.request;
    request.url = url;
    if elsewhere {
        request.host = None;
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
