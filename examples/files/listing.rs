//! Lists a directory as an HTML page. File names are untrusted: escaped in HTML, percent-encoded in links.

use std::{
    ffi::OsStr,
    fmt::{self, Write},
    os::fd::OwnedFd,
};

use super::{
    conditions::http_date,
    path::{Facts, PathError, Root, Segments, encode},
};

/// Maximum number of entries of a page. It is built in memory, while the other connections of the loop wait.
const SHOWN: usize = 10_000;

const HEAD: &str = "<!doctype html>\n<meta charset=\"utf-8\">\n<meta name=\"robots\" content=\"noindex\">\n\
    <style>body{font:1em/1.5 system-ui,sans-serif;margin:2em}td{padding:0 2em 0 0}td+td{text-align:right}</style>\n";

/// Allows the page's own style and nothing else; a script in a file name cannot run.
pub(crate) const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'";

/// Returns the page of a directory: directories first, then files, each sorted by name.
pub(crate) fn page(root: &Root, dir: &OwnedFd, at: &Segments) -> Result<String, PathError> {
    let (mut entries, all) = root.list(dir, &at.names, SHOWN)?;
    entries.sort_by(|(a, x), (b, y)| (!x.is_dir(), a).cmp(&(!y.is_dir(), b)));

    let mut title = String::from("/");
    for name in &at.names {
        title = title + &name.to_string_lossy() + "/";
    }
    let mut page = String::from(HEAD);
    let title = Escaped(&title);
    let _ = write!(page, "<title>{title}</title>\n<h1>{title}</h1>\n<table>\n"); // writing to a String cannot fail
    if !at.names.is_empty() {
        page.push_str("<tr><td><a href=\"../\">../</a><td><td>\n");
    }
    for (name, facts) in &entries {
        let _ = writeln!(page, "{}", Row { name, facts });
    }
    page.push_str("</table>\n");
    if !all {
        let _ = writeln!(page, "<p>Only the first {SHOWN} entries are shown.");
    }
    Ok(page)
}

struct Row<'a> {
    name: &'a OsStr,
    facts: &'a Facts,
}

impl fmt::Display for Row<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let slash = if self.facts.is_dir() { "/" } else { "" };
        let name = self.name.to_string_lossy();
        write!(f, "<tr><td><a href=\"{}{slash}\">{}{slash}</a><td>", encode(self.name), Escaped(&name))?;
        if !self.facts.is_dir() {
            write!(f, "{}", Size(self.facts.len))?;
        }
        write!(f, "<td>{}", self.facts.modified.and_then(http_date).unwrap_or_default())
    }
}

/// Text in HTML, between tags or between double quotes.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                c if c.is_control() => f.write_char('\u{fffd}')?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

/// A size with a unit.
struct Size(u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mut unit, mut size) = (0, self.0 as f64);
        while size >= 1024.0 && unit < 4 {
            (unit, size) = (unit + 1, size / 1024.0);
        }
        let digits = usize::from(unit > 0 && size < 100.0);
        write!(f, "{size:.digits$}&nbsp;{}", ["B", "KiB", "MiB", "GiB", "TiB"][unit])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stays_text() {
        assert_eq!(Escaped("<a href='x'>\"&\n").to_string(), "&lt;a href=&#39;x&#39;&gt;&quot;&amp;\u{fffd}");
    }

    #[test]
    fn sizes_are_short() {
        for (size, want) in
            [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (150 << 10, "150 KiB"), (3 << 39, "1.5 TiB")]
        {
            assert_eq!(Size(size).to_string(), want.replace(' ', "&nbsp;"));
        }
    }
}
