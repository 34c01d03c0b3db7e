//! Builds the page: the document, its policy and its entity tag; and the text version for terminals.

use std::sync::Arc;

use base64::{Engine, engine::general_purpose::STANDARD};
use sha2::{Digest, Sha256};
use uncork::{Request, Response};

use super::PageConfig;

const HTML: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
/// Ordered by dependency; all share one scope.
const SCRIPT: &str = concat!(
    "\n",
    include_str!("script/show.js"),
    include_str!("script/errors.js"),
    include_str!("script/job.js"),
    include_str!("script/send.js"),
    include_str!("script/receive.js"),
    include_str!("script/start.js"),
);

#[derive(Debug)]
pub(super) struct Document {
    pub(super) html: Arc<[u8]>,
    /// In quotes.
    pub(super) etag: String,
    /// The `Content-Security-Policy`.
    pub(super) policy: String,
}

impl Document {
    pub(super) fn new(config: &PageConfig) -> Self {
        let html = without(HTML, "rendezvous", config.rendezvous.is_none());
        let html = without(&html, "sessions", config.sessions.is_none());
        let stream = config.rendezvous.as_ref().map(|base| format!("{base}/stream"));
        let html = html
            .replace("{stream}", &escape(stream.as_deref().unwrap_or_default()))
            .replace("{session}", &escape(config.sessions.as_deref().unwrap_or_default()))
            .replace("{ttl}", &config.link.as_secs().to_string())
            .replace("{ttl-default}", &config.ttl.as_secs().to_string())
            .replace("{style}", STYLE)
            .replace("{script}", SCRIPT);
        let policy = [
            "default-src 'none'".to_owned(),
            format!("script-src {}", source(SCRIPT)),
            format!("style-src {}", source(STYLE)),
            // The QR code is a blob; the icon is not.
            "img-src 'self' blob:".to_owned(),
            "connect-src 'self'".to_owned(),
            // Downloads begin in a hidden, sandboxed frame.
            "frame-src 'self'".to_owned(),
            "base-uri 'none'".to_owned(),
            "form-action 'none'".to_owned(),
            "frame-ancestors 'none'".to_owned(),
            "require-trusted-types-for 'script'".to_owned(),
        ];
        Self { etag: format!("\"{}\"", digest(&html)), policy: policy.join("; "), html: html.into_bytes().into() }
    }
}

/// Returns the hash source of an inline script or style (CSP level 3, §2.3.1).
fn source(text: &str) -> String {
    format!("'sha256-{}'", digest(text))
}

fn digest(text: &str) -> String {
    STANDARD.encode(Sha256::digest(text))
}

/// Removes the marks `<!--name-->` and `<!--/name-->`, and with `content` the text between them, too.
fn without(html: &str, name: &str, content: bool) -> String {
    let (open, close) = (format!("<!--{name}-->\n"), format!("<!--/{name}-->\n"));
    let mut pieces = html.split(&*open);
    let mut kept = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let (part, rest) = piece.split_once(&*close).unwrap_or((piece, ""));
        kept.push_str(if content { "" } else { part });
        kept.push_str(rest);
    }
    kept
}

/// Returns the commands for a terminal, with the authority of the request.
pub(super) fn usage(req: &Request<'_>, config: &PageConfig) -> Response {
    // The authority is reflected, so only characters of a host name are allowed.
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~:[]".contains(&b);
    let host = req.authority().filter(|host| !host.is_empty() && host.bytes().all(plain)).unwrap_or("localhost");
    let mut text =
        String::from("One client sends a body to a URL, another receives it from there. Nothing is stored.\n");
    let url = format!("{}://{host}", req.scheme());
    if let Some(base) = &config.rendezvous {
        let seconds = config.ttl.as_secs();
        text += &format!(
            "\nOnce, in one direction; the first client waits {seconds} seconds for the other:\n
    S={url}{base}/stream/$(curl -s -X POST {url}{base}/stream | cut -d '\"' -f 4); echo $S
    curl -T photo.jpg $S          # sends
    curl -o copy.jpg $S           # receives\n"
        );
    }
    if let Some(base) = &config.sessions {
        text += &format!(
            "\nIn both directions: a session. The cookie identifies the host; the guest needs only the link:\n
    U={url}
    S=$U$(curl -s -c jar.txt -o /dev/null -w '%header{{location}}' -X PUT $U{base}/session); echo $S
    curl -X POST -T photo.jpg $S       # the guest sends
    curl -b jar.txt -o copy.jpg $S     # the host receives\n"
        );
    }
    text += &format!("\nOr open {url}/ in a browser.\n");
    Response::text(text)
        .header("Cache-Control", "no-cache")
        .header("Vary", "Accept")
        .header("X-Content-Type-Options", "nosniff")
}

fn escape(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut out, c| {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn document(rendezvous: Option<&str>, sessions: Option<&str>) -> (String, Document) {
        let document = Document::new(&PageConfig {
            rendezvous: rendezvous.map(str::to_owned),
            ttl: Duration::from_secs(60),
            link: Duration::from_secs(1800),
            sessions: sessions.map(str::to_owned),
        });
        (String::from_utf8(document.html.to_vec()).unwrap(), document)
    }

    fn inside<'a>(html: &'a str, open: &str, close: &str) -> &'a str {
        assert_eq!(html.matches(open).count(), 1, "{open}");
        html.split_once(open).unwrap().1.split_once(close).unwrap().0
    }

    #[test]
    fn the_policy_names_what_is_there_and_nothing_else() {
        let (html, document) = document(Some(""), Some("/cama"));
        for (element, directive) in [("script", "script-src"), ("style", "style-src")] {
            let text = inside(&html, &format!("<{element}>"), &format!("</{element}>"));
            let hash = STANDARD.encode(Sha256::digest(text));
            assert!(document.policy.contains(&format!("{directive} 'sha256-{hash}';")), "{element}");
        }
        assert!(!document.policy.contains("unsafe") && document.policy.starts_with("default-src 'none'; "));
        for directive in ["frame-ancestors 'none'", "base-uri 'none'", "form-action 'none'", "connect-src 'self'"] {
            assert!(document.policy.contains(directive), "{directive}");
        }
    }

    #[test]
    fn nothing_in_it_needs_more_than_the_policy_allows() {
        let (html, _) = document(Some(""), Some("/cama"));
        for bad in [" style=", " onclick=", " onload=", "javascript:", "innerHTML", "eval(", "https://", "src=\"http"] {
            assert!(!html.contains(bad), "{bad}");
        }
        // A closing tag or a comment would end the element early.
        assert!(!SCRIPT.contains("</") && !STYLE.contains("</") && !SCRIPT.contains("<!--"));
    }

    #[test]
    fn it_describes_the_enabled_services() {
        let (both, one) = document(Some(""), Some("/cama"));
        assert!(both.contains("data-stream=\"/stream\" data-ttl=\"1800\"") && both.contains("$U/cama/session"));
        assert!(both.contains("for 60 seconds") && !both.contains("<!--"));
        let (below, other) = document(Some("/x&y"), None);
        assert!(below.contains("data-stream=\"/x&amp;y/stream\"") && !below.contains("jar.txt"));
        let (sessions, _) = document(None, Some("/cama"));
        assert!(sessions.contains("data-stream=\"\"") && sessions.contains("jar.txt"));
        assert!(!sessions.contains("<section"));
        assert!(one.etag != other.etag && one.etag.len() == 46 && one.etag.starts_with('"'));
        assert_eq!(one.policy, other.policy);
    }
}
