//! `POST /qr`: returns a link of this page as a QR code, in SVG.
//!
//! Only short links to the host of the request are accepted, so a code from this server leads to this server. The link
//! is in the body, not in the request target, since targets are logged.

use qrcode::{EcLevel, QrCode, render::svg};
use uncork::{Action, Consumed, Request, Response, Upload, h1::Headers};

/// Maximum length of a link, in bytes.
pub(crate) const MAX_LINK: usize = 300;

/// Receives the link, then responds with its code.
pub(super) fn respond(req: &Request<'_>) -> Action {
    if req.content_length().is_some_and(|n| n > MAX_LINK as u64) {
        return too_long().into();
    }
    let Some(host) = req.authority().filter(|host| !host.is_empty()) else { return not_own().into() };
    Action::Receive(Box::new(LinkUpload { bytes: Vec::new(), host: host.to_owned() }))
}

/// Collects a link.
struct LinkUpload {
    bytes: Vec<u8>,
    /// Authority of the request.
    host: String,
}

impl Upload for LinkUpload {
    fn data(&mut self, chunk: &[u8]) -> Consumed {
        if chunk.len() > MAX_LINK - self.bytes.len() {
            return Consumed::Stop(too_long().into());
        }
        self.bytes.extend_from_slice(chunk);
        Consumed::All
    }

    fn end(self: Box<Self>, _: &Headers) -> Action {
        let link = std::str::from_utf8(&self.bytes).ok().filter(|link| is_own(link, &self.host));
        link.and_then(draw).map_or_else(not_own, |svg| super::image(svg).header("Cache-Control", "no-store")).into()
    }
}

/// Returns `true` if a link leads to this host and cannot be mistaken for another. The scheme may be either, since a
/// proxy in front may terminate TLS.
fn is_own(link: &str, host: &str) -> bool {
    let rest = link.strip_prefix("https://").or_else(|| link.strip_prefix("http://"));
    let path = rest.and_then(|rest| rest.split_at_checked(host.len()));
    path.is_some_and(|(authority, path)| authority.eq_ignore_ascii_case(host) && path.starts_with('/'))
        && link.bytes().all(|b| matches!(b, b'!'..=b'~') && !b"\"<>\\^`{|}".contains(&b))
}

pub(crate) fn draw(link: &str) -> Option<String> {
    let code = QrCode::with_error_correction_level(link, EcLevel::M).ok()?;
    Some(code.render::<svg::Color<'_>>().quiet_zone(true).min_dimensions(232, 232).build())
}

fn too_long() -> Response {
    Response::text("A link has at most 300 bytes.\n").with_status(413)
}

fn not_own() -> Response {
    Response::text("Only links to this page are accepted.\n").with_status(400)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_lead_here() {
        for link in ["http://relay.example/", "https://relay.example/#file=a-b_c", "https://RELAY.example/x?y"] {
            assert!(is_own(link, "relay.example"), "{link}");
        }
        for link in [
            "",
            "relay.example/",
            "https://relay.example",
            "https://relay.example.org/",
            "https://relay.example@elsewhere.example/",
            "https://relay.example:8080/",
            "https://elsewhere.example/#https://relay.example/",
            "ftp://relay.example/",
            "javascript:alert(1)//relay.example/",
            "https://relay.example/a b",
            "https://relay.example/\u{e4}",
            "https://relay.example/\n",
            "https://relay.example/<script>",
        ] {
            assert!(!is_own(link, "relay.example"), "{link}");
        }
        assert!(is_own("http://[::1]:8080/#text=x", "[::1]:8080"));
        assert!(!is_own("http://[::1]:8080/#text=x", "[::1]"));
    }

    #[test]
    fn the_longest_link_can_be_drawn_and_is_a_picture_only() {
        let link = format!("https://relay.example/{}", "x".repeat(MAX_LINK - 22));
        let svg = draw(&link).unwrap();
        assert_eq!(link.len(), MAX_LINK);
        assert!(svg.contains("<svg") && svg.contains("<path") && !svg.contains("relay.example"));
        assert!(!svg.contains("<script") && svg.len() < 100_000, "{}", svg.len());
    }

    #[test]
    fn a_link_is_taken_in_pieces_up_to_its_limit() {
        let mut link = LinkUpload { bytes: Vec::new(), host: "relay.example".to_owned() };
        assert!(matches!(link.data(&[b'x'; 200]), Consumed::All));
        assert!(matches!(link.data(&[b'x'; 100]), Consumed::All));
        assert!(matches!(link.data(b"x"), Consumed::Stop(Action::Respond(response)) if response.status() == 413));
        assert!(matches!(Box::new(link).end(&Headers::new()), Action::Respond(response) if response.status() == 400));
        let link = LinkUpload { bytes: b"http://relay.example/#file=x".to_vec(), host: "relay.example".to_owned() };
        let Action::Respond(response) = Box::new(link).end(&Headers::new()) else { panic!("no response") };
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers().get("content-type"), Some(&b"image/svg+xml"[..]));
        assert_eq!(response.headers().get("cache-control"), Some(&b"no-store"[..]));
    }
}
