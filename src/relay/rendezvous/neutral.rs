//! Removes the fields that creators of streams must not set in this origin.
//!
//! The creator of a stream chooses the fields of both its responses. A browser attributes some of them to the origin: a
//! cookie, a policy, a page to display. A proxy in front obeys others: it sends one of its own files, or fetches one
//! from elsewhere. Both would act for any client that creates a stream. So those fields are removed, and downloads are
//! attachments of a type that browsers do not run. All other fields are passed on.

use std::borrow::Cow;

use uncork::{
    Response,
    h1::{Headers, is_token},
};

use crate::relay::wire::neutral;

/// Names that are never passed on.
const NAMES: &[&str] = &[
    // State of the origin that a browser keeps, and actions on it.
    "activate-storage-access",
    "alt-svc",
    "available-dictionary",
    "clear-site-data",
    "expect-ct",
    "link",
    "location",
    "nel",
    "no-vary-search",
    "origin-agent-cluster",
    "p3p",
    "refresh",
    "service-worker-allowed",
    "set-cookie",
    "set-cookie2",
    "set-login",
    "sourcemap",
    "strict-transport-security",
    "supports-loading-mode",
    "use-as-dictionary",
    "www-authenticate",
    "x-sourcemap",
    // Fields of the service: no cache keeps the response, and no browser runs it.
    "age",
    "cache-control",
    "content-location",
    "expires",
    "pragma",
    "x-content-type-options",
    "x-frame-options",
    "x-robots-tag",
    "x-ua-compatible",
    "x-xss-protection",
    // Instructions to a proxy.
    "x-sendfile",
    "x-sendfile-type",
];

/// Prefixes of names that are never passed on.
const FAMILIES: &[&str] = &[
    // Policies of the origin.
    "accept-ch",
    "attribution-reporting-",
    "content-security-policy",
    "critical-ch",
    "cross-origin-",
    "document-policy",
    "feature-policy",
    "observe-",
    "origin-trial",
    "permissions-policy",
    "public-key-pins",
    "report",
    "sec-",
    "shared-storage-",
    "speculation-",
    "x-content-security-policy",
    "x-dns-prefetch-",
    "x-permitted-cross-domain-",
    "x-webkit-",
    // Fields for proxies: nginx, Apache, lighttpd, LiteSpeed, Perlbal and h2o, caches.
    "cdn-",
    "proxy-",
    "surrogate-",
    "x-accel-",
    "x-litespeed-",
    "x-lighttpd-",
    "x-reproxy-",
];

fn is_removed(name: &str) -> bool {
    let begins = |family: &&str| name.get(..family.len()).is_some_and(|start| start.eq_ignore_ascii_case(family));
    NAMES.iter().any(|other| other.eq_ignore_ascii_case(name)) || FAMILIES.iter().any(begins)
}

/// Adds the creator's fields to the response to PUT.
pub(super) fn upload(response: Response, fields: &Headers) -> Response {
    let passed = fields.iter().filter(|(name, _)| !is_removed(name));
    passed.fold(response, |response, (name, value)| response.append(name, value))
}

/// Adds the creator's fields to the response to GET.
pub(super) fn download(response: Response, fields: &Headers) -> Response {
    let is = |name: &str, other: &str| name.eq_ignore_ascii_case(other);
    let passed = fields
        .iter()
        .filter(|(name, _)| !is_removed(name) && !is(name, "content-type") && !is(name, "content-disposition"));
    let response = passed.fold(neutral(response), |response, (name, value)| response.append(name, value));
    response
        .header("Content-Type", harmless(fields.get("content-type").unwrap_or_default()))
        .header("Content-Disposition", &*attachment(fields.get("content-disposition").unwrap_or_default()))
}

/// Returns the type, or `application/octet-stream` if a browser might run it, or if it is invalid (RFC 9110 §8.3.1).
fn harmless(content_type: &[u8]) -> &[u8] {
    const ANY: &[u8] = b"application/octet-stream";
    const ACTIVE: &[&str] = &[
        "text/html",
        "text/xml",
        "text/xsl",
        "text/css",
        "text/cache-manifest",
        "application/xml",
        "application/wasm",
        "application/hta",
        "application/x-mimearchive",
        "application/x-shockwave-flash",
    ];
    let Ok(text) = std::str::from_utf8(content_type) else { return ANY };
    let essence = text.split(';').next().unwrap_or_default().trim_matches([' ', '\t']).to_ascii_lowercase();
    let Some((kind, subtype)) = essence.split_once('/') else { return ANY };
    let is_type = is_token(kind.as_bytes()) && is_token(subtype.as_bytes());
    let scripts = ["javascript", "ecmascript", "jscript", "livescript", "vbscript"];
    let active = ACTIVE.contains(&&*essence)
        || ["multipart", "message"].contains(&kind)
        || subtype.ends_with("+xml")
        || scripts.iter().any(|script| subtype.contains(script));
    // Of several types, browsers take the last one.
    if !is_type || active || text.contains(',') { ANY } else { content_type }
}

/// Returns `attachment`, with the parameters if they are well-formed (RFC 6266 §4.1).
fn attachment(disposition: &[u8]) -> Cow<'static, str> {
    let parameters = std::str::from_utf8(disposition).ok().and_then(|text| text.split_once(';'));
    match parameters {
        Some((_, parameters)) if are_parameters(parameters) => format!("attachment;{parameters}").into(),
        _ => "attachment".into(),
    }
}

/// Returns `true` if this is a list of `token=token` or `token="…"`, separated by `;`.
fn are_parameters(mut text: &str) -> bool {
    const SPACE: [char; 2] = [' ', '\t'];
    loop {
        let Some((name, value)) = text.split_once('=') else { return false };
        if !is_token(name.trim_matches(SPACE).as_bytes()) {
            return false;
        }
        let value = value.trim_start_matches(SPACE);
        let rest = match value.strip_prefix('"') {
            Some(quoted) => behind_quote(quoted),
            None => {
                let end = value.find([';', ' ', '\t']).unwrap_or(value.len());
                is_token(&value.as_bytes()[..end]).then(|| &value[end..])
            }
        };
        match rest.map(|rest| rest.trim_start_matches(SPACE)) {
            Some("") => return true,
            Some(rest) if rest.starts_with(';') => text = &rest[1..],
            _ => return false,
        }
    }
}

/// Returns the text behind the end of a quoted string (RFC 9110 §5.6.4).
fn behind_quote(text: &str) -> Option<&str> {
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return Some(&text[at + 1..]),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&str, &str)]) -> Headers {
        let mut headers = Headers::new();
        fields.iter().for_each(|(name, value)| headers.append(name, value).unwrap());
        headers
    }

    fn all<'a>(response: &'a Response, name: &str) -> Vec<&'a str> {
        let fields = response.headers().iter().filter(|(other, _)| other.eq_ignore_ascii_case(name));
        fields.map(|(_, value)| std::str::from_utf8(value).unwrap()).collect()
    }

    #[test]
    fn a_download_is_always_an_attachment_that_runs_nowhere() {
        let hostile = headers(&[
            ("content-TYPE", "text/html"),
            ("Content-Disposition", "inline"),
            ("Content-Disposition", "inline"),
            ("X-Content-Type-Options", "sniff"),
            ("Content-Security-Policy", "script-src *"),
            ("Content-Security-Policy-Report-Only", "x"),
            ("SET-cookie", "a=b"),
            ("Refresh", "0;url=https://elsewhere.example"),
            ("Service-Worker-Allowed", "/"),
            ("Clear-Site-Data", "*"),
            ("X-Accel-Redirect", "/private"),
            ("X-Reproxy-URL", "http://127.0.0.1/"),
            ("Cache-Control", "public"),
            ("X-Mine", "1"),
            ("X-Mine", "2"),
        ]);
        for fields in [&hostile, &Headers::new()] {
            let response = download(Response::new(200), fields);
            assert_eq!(all(&response, "content-type"), ["application/octet-stream"]);
            assert_eq!(all(&response, "content-disposition"), ["attachment"]);
            assert_eq!(all(&response, "content-security-policy"), ["sandbox"]);
            assert_eq!(all(&response, "x-content-type-options"), ["nosniff"]);
            assert_eq!(all(&response, "cache-control"), ["no-store"]);
            let mine = all(&response, "x-mine").len();
            assert_eq!(response.headers().iter().count(), 6 + mine, "{response:?}");
            assert_eq!(mine, if fields.iter().count() > 0 { 2 } else { 0 });
        }
        let response = upload(Response::new(200), &hostile);
        assert_eq!(all(&response, "x-mine"), ["1", "2"]);
        assert!(all(&response, "set-cookie").is_empty() && all(&response, "x-accel-redirect").is_empty());
    }

    #[test]
    fn types_that_run_become_bytes() {
        for kind in ["text/plain", "text/plain; charset=utf-8", "image/png", "application/zip", "application/json"] {
            assert_eq!(harmless(kind.as_bytes()), kind.as_bytes());
        }
        for kind in [
            "",
            "text",
            "text/HTML",
            " text/html ;charset=utf-8",
            "application/xhtml+xml",
            "image/svg+xml",
            "text/xml",
            "text/javascript",
            "application/x-javascript",
            "text/javascript1.5",
            "multipart/x-mixed-replace;boundary=a",
            "message/rfc822",
            "text/plain, text/html",
            "text/plain;a=b, text/html",
            "text/plain/html",
            "te xt/plain",
            "*",
        ] {
            assert_eq!(harmless(kind.as_bytes()), b"application/octet-stream", "{kind}");
        }
    }

    #[test]
    fn a_name_is_kept_if_it_is_well_formed() {
        for (asked, want) in [
            ("attachment; filename=\"a b.txt\"", "attachment; filename=\"a b.txt\""),
            ("inline; filename=a.txt", "attachment; filename=a.txt"),
            ("form-data;name=x; filename=\"a;\\\"b\" ", "attachment;name=x; filename=\"a;\\\"b\" "),
            (
                "attachment; filename=\"_\"; filename*=UTF-8''%c3%a4.txt",
                "attachment; filename=\"_\"; filename*=UTF-8''%c3%a4.txt",
            ),
            ("inline", "attachment"),
            ("", "attachment"),
            ("; filename=a", "attachment; filename=a"),
            ("attachment; filename=\"a", "attachment"),
            ("attachment; filename=a b", "attachment"),
            ("attachment; filename", "attachment"),
            ("attachment;", "attachment"),
            ("attachment; filename=a, inline", "attachment"),
            ("attachment; filename=\"a\"b", "attachment"),
            ("attachment; =a", "attachment"),
            ("attachment; filename=a; ", "attachment"),
        ] {
            assert_eq!(attachment(asked.as_bytes()), want, "{asked}");
        }
    }
}
