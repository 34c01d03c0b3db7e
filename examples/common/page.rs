//! The page that tells people what runs here.

use uncork::{Request, Response};

/// What the relay is, and the lines that try it, with the address the visitor came by.
pub(crate) fn about(req: &Request<'_>, base: &str) -> Response {
    let scheme = if req.secure().is_some() { "https" } else { "http" };
    // The visitor's own words, given back to him: only what a host name can be made of, and escaped all the same.
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~:[]%".contains(&b);
    let host = req.host().filter(|host| !host.is_empty() && host.bytes().all(plain)).unwrap_or("localhost");
    let page = PAGE.replace("{origin}", &escape(&format!("{scheme}://{host}"))).replace("{base}", &escape(base));
    Response::new(200)
        .header("Content-Type", "text/html; charset=utf-8")
        .header("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'")
        .header("X-Content-Type-Options", "nosniff")
        .header("Referrer-Policy", "no-referrer")
        .header("Cache-Control", "no-cache")
        .body(page)
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

const PAGE: &str = r#"<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Session relay</title>
<style>
  :root { color-scheme: light dark; }
  body { font: 17px/1.55 system-ui, sans-serif; max-width: 42em; margin: 3em auto; padding: 0 1.2em; }
  h1 { font-size: 1.6em; margin-bottom: .2em; }
  p.lead { font-size: 1.1em; opacity: .8; margin-top: 0; }
  pre { background: #8881; border: 1px solid #8884; border-radius: 8px; padding: .9em 1.1em; overflow-x: auto;
        font: 14px/1.5 ui-monospace, monospace; }
  code { font-family: ui-monospace, monospace; font-size: .92em; }
  pre i { opacity: .6; }
  td, th { text-align: left; padding: .25em 1.2em .25em 0; vertical-align: top; }
  footer { margin-top: 3em; opacity: .6; font-size: .9em; }
</style>
<h1>Session relay</h1>
<p class="lead">What one sends to a URL, the other receives from it. Nothing is stored in between.</p>

<h2>Try it</h2>
<pre><i># The host opens a session. Its cookie makes it the host.</i>
U={origin}
S=$U$(curl -s -c jar.txt -o /dev/null -w '%header{location}' -X PUT $U{base}/session)
echo $S

<i># The guest, anywhere, sends a file. The URL is all it needs.</i>
curl -X POST -T photo.jpg $S

<i># The host receives it, in the meantime or afterwards.</i>
curl -b jar.txt -o copy.jpg $S</pre>
<p>Whoever comes first waits for the other. The other way round works as well: the host sends with
<code>curl -b jar.txt -X POST -T photo.jpg $S</code>, and the guest receives with <code>curl -o copy.jpg $S</code>.
(For HTTPS with a certificate of your own making, add <code>-k</code>.)</p>

<h2>All of it</h2>
<table>
<tr><td><code>PUT {base}/session</code><td>opens a session; <code>?timeout=N</code> seconds to live while unused,
  <code>X-Type: secure</code> for one the guest's address must be named for
<tr><td><code>GET {base}/session/ID</code><td>receives; waits <code>X-Timeout: N</code> seconds
<tr><td><code>POST {base}/session/ID</code><td>sends; the answer says how many bytes arrived
<tr><td><code>PUT {base}/session/ID</code><td>the host names the guest: <code>X-Peer-Address: IP</code>
<tr><td><code>DELETE {base}/session/ID</code><td>the host ends the session
</table>
<footer>Served by uncork.</footer>
</html>
"#;
