//! RESP2 and RESP3, decoded as the bytes arrive.
//!
//! ```text
//!   bytes ──▶ line ──▶ length ──▶ string ──▶ value ──▶ innermost open array ──┐
//!               ▲                              │            │ full           │ not full
//!               └──────────────────────────────┼────────────┘◀───────────────┘
//!                                              └──▶ Frame, if no array is open
//! ```
//! Each byte is looked at once, however the bytes are split. (The crate `redis-protocol` begins again at the start of a
//! reply each time, and its recursion has no limit.) Memory grows with what has arrived, never with what a length says.

use super::reply::Reply;

/// The longest line: a simple string, an error, a number, or a length.
const MAX_LINE: usize = 64 * 1024;
/// Arrays in arrays. The engine's own replies have 4.
const MAX_DEPTH: usize = 32;

/// A complete reply, or a message that is not a reply.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) reply: Reply,
    /// Not the reply to a command (RESP3).
    pub(super) is_push: bool,
    /// The memory it takes, in bytes.
    pub(super) size: usize,
}

/// The rule that the engine has broken.
pub(super) type Malformed = &'static str;

pub(super) struct Decoder {
    /// Limit for the memory of one frame, in bytes.
    max: usize,
    /// The start of a line that is not complete.
    line: Vec<u8>,
    string: Option<Text>,
    /// Arrays that are not complete, the outermost first.
    open: Vec<Open>,
    /// The memory of the frame so far.
    size: usize,
}

struct Text {
    kind: TextKind,
    /// The length, with the line end behind it.
    length: usize,
    bytes: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum TextKind {
    Bytes,
    Error,
    /// Begins with its format, such as `txt:`.
    Verbatim,
}

struct Open {
    kind: OpenKind,
    left: usize,
    items: Vec<Reply>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum OpenKind {
    Array,
    Push,
    /// About the value behind it; not used.
    Attribute,
}

impl Decoder {
    pub(super) fn new(max: usize) -> Self {
        Self { max, line: Vec::new(), string: None, open: Vec::new(), size: 0 }
    }

    /// Reads from `input`, and removes what it has read, until a frame is complete. Returns `None` if all is read.
    ///
    /// # Errors
    /// The engine has broken a rule. Nothing can be decoded after that.
    pub(super) fn next(&mut self, input: &mut &[u8]) -> Result<Option<Frame>, Malformed> {
        while !input.is_empty() {
            let value = match self.string.is_some() {
                true => self.read_string(input)?,
                false => self.read_line(input)?,
            };
            if let Some(value) = value
                && let Some(frame) = self.add(value)
            {
                return Ok(Some(frame));
            }
        }
        Ok(None)
    }

    fn grow(&mut self, bytes: usize) -> Result<(), Malformed> {
        self.size = self.size.saturating_add(bytes);
        if self.size > self.max { Err("the reply is too large") } else { Ok(()) }
    }

    fn read_string(&mut self, input: &mut &[u8]) -> Result<Option<Reply>, Malformed> {
        let Some(text) = &mut self.string else { return Ok(None) };
        let n = (text.length - text.bytes.len()).min(input.len());
        text.bytes.extend_from_slice(&input[..n]);
        *input = &input[n..];
        self.grow(n)?;
        let Some(mut text) = self.string.take_if(|text| text.bytes.len() == text.length) else { return Ok(None) };
        if !text.bytes.ends_with(b"\r\n") {
            return Err("a string is not followed by a line end");
        }
        text.bytes.truncate(text.length - 2);
        Ok(Some(match text.kind {
            TextKind::Bytes => Reply::Bytes(text.bytes),
            TextKind::Error => Reply::Error(lossy(&text.bytes)),
            TextKind::Verbatim if text.bytes.get(3) == Some(&b':') => Reply::Bytes(text.bytes.split_off(4)),
            TextKind::Verbatim => return Err("a verbatim string has no format"),
        }))
    }

    fn read_line(&mut self, input: &mut &[u8]) -> Result<Option<Reply>, Malformed> {
        let found = input.iter().position(|b| *b == b'\n');
        let (part, rest) = input.split_at(found.map_or(input.len(), |at| at + 1));
        *input = rest;
        if self.line.len() + part.len() > MAX_LINE {
            return Err("a line is too long");
        }
        if found.is_none() {
            self.line.extend_from_slice(part);
            return Ok(None);
        }
        if self.line.is_empty() {
            return self.line(part);
        }
        let mut line = std::mem::take(&mut self.line);
        line.extend_from_slice(part);
        self.line(&line)
    }

    /// Handles a whole line. Returns a value if it is one.
    fn line(&mut self, line: &[u8]) -> Result<Option<Reply>, Malformed> {
        let Some(([kind, rest @ ..], b"\r\n")) = line.split_last_chunk::<2>().map(|(line, end)| (line, &end[..]))
        else {
            return Err("a line has no type, or does not end with CRLF");
        };
        self.grow(size_of::<Reply>() + rest.len())?;
        Ok(Some(match kind {
            b'+' | b',' | b'(' => Reply::Bytes(rest.to_vec()),
            b'-' => Reply::Error(lossy(rest)),
            b':' => Reply::Int(number(rest)?),
            b'_' if rest.is_empty() => Reply::Nil,
            b'#' if rest == b"t" => Reply::Int(1),
            b'#' if rest == b"f" => Reply::Int(0),
            b'$' | b'*' if rest == b"-1" => Reply::Nil,
            b'$' => return self.begin_string(TextKind::Bytes, rest),
            b'!' => return self.begin_string(TextKind::Error, rest),
            b'=' => return self.begin_string(TextKind::Verbatim, rest),
            b'*' | b'~' => return self.begin_array(OpenKind::Array, length(rest)?),
            b'%' => return self.begin_array(OpenKind::Array, length(rest)?.saturating_mul(2)),
            b'>' if !self.open.is_empty() => return Err("a push is within another value"),
            b'>' => return self.begin_array(OpenKind::Push, length(rest)?),
            b'|' => return self.begin_array(OpenKind::Attribute, length(rest)?.saturating_mul(2)),
            _ => return Err("a value has an unknown type"),
        }))
    }

    fn begin_string(&mut self, kind: TextKind, rest: &[u8]) -> Result<Option<Reply>, Malformed> {
        let length = length(rest)?;
        if length > self.max {
            return Err("the reply is too large");
        }
        self.string = Some(Text { kind, length: length + 2, bytes: Vec::new() });
        Ok(None)
    }

    fn begin_array(&mut self, kind: OpenKind, left: usize) -> Result<Option<Reply>, Malformed> {
        match (left, kind) {
            (0, OpenKind::Array) => return Ok(Some(Reply::Array(Vec::new()))),
            (0, OpenKind::Attribute) => return Ok(None),
            (0, OpenKind::Push) => return Err("a push is empty"),
            _ if self.open.len() == MAX_DEPTH => return Err("a reply is nested too deeply"),
            _ => self.open.push(Open { kind, left, items: Vec::new() }),
        }
        Ok(None)
    }

    /// Adds a value to the innermost open array. Returns a frame if it is complete.
    fn add(&mut self, mut value: Reply) -> Option<Frame> {
        loop {
            let Some(open) = self.open.last_mut() else {
                let size = std::mem::take(&mut self.size);
                return Some(Frame { reply: value, is_push: false, size });
            };
            if open.kind != OpenKind::Attribute {
                open.items.push(value);
            }
            open.left -= 1;
            if open.left > 0 {
                return None;
            }
            let Open { kind, items, .. } = self.open.pop()?;
            match kind {
                OpenKind::Attribute => return None,
                OpenKind::Array => value = Reply::Array(items),
                OpenKind::Push => {
                    let size = std::mem::take(&mut self.size);
                    return Some(Frame { reply: Reply::Array(items), is_push: true, size });
                }
            }
        }
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn number<T: std::str::FromStr>(digits: &[u8]) -> Result<T, Malformed> {
    std::str::from_utf8(digits).ok().and_then(|text| text.parse().ok()).ok_or("a number is invalid")
}

fn length(digits: &[u8]) -> Result<usize, Malformed> {
    match digits.first() {
        Some(b'0'..=b'9') => number(digits).map_err(|_| "a length is invalid"),
        _ => Err("a length is invalid"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: usize = 64 * 1024;

    fn bytes(text: &str) -> Reply {
        Reply::Bytes(text.into())
    }

    /// Decodes all, in pieces of `n` bytes.
    fn decoded(wire: &[u8], n: usize) -> Result<Vec<(Reply, bool)>, Malformed> {
        let (mut decoder, mut frames) = (Decoder::new(MAX), Vec::new());
        for mut piece in wire.chunks(n) {
            while let Some(Frame { reply, is_push, .. }) = decoder.next(&mut piece)? {
                frames.push((reply, is_push));
            }
        }
        Ok(frames)
    }

    #[test]
    fn all_types_in_any_pieces() {
        let wire = b"+OK\r\n-ERR x\r\n:-12\r\n:+3\r\n$3\r\na\r\n\r\n$-1\r\n*-1\r\n_\r\n#t\r\n#f\r\n,1.5\r\n(123456789012345678901\r\n\
            !5\r\nERR y\r\n=6\r\ntxt:ab\r\n*2\r\n$0\r\n\r\n*1\r\n:1\r\n%1\r\n+k\r\n~1\r\n:2\r\n*0\r\n\
            |1\r\n+ttl\r\n:9\r\n:5\r\n*1\r\n|1\r\n+a\r\n*1\r\n+b\r\n+c\r\n>3\r\n+message\r\n+c\r\n+p\r\n|0\r\n%0\r\n";
        let array = |items: &[Reply]| Reply::Array(items.to_vec());
        let want = [
            (bytes("OK"), false),
            (Reply::Error("ERR x".into()), false),
            (Reply::Int(-12), false),
            (Reply::Int(3), false),
            (bytes("a\r\n"), false),
            (Reply::Nil, false),
            (Reply::Nil, false),
            (Reply::Nil, false),
            (Reply::Int(1), false),
            (Reply::Int(0), false),
            (bytes("1.5"), false),
            (bytes("123456789012345678901"), false),
            (Reply::Error("ERR y".into()), false),
            (bytes("ab"), false),
            (array(&[bytes(""), array(&[Reply::Int(1)])]), false),
            (array(&[bytes("k"), array(&[Reply::Int(2)])]), false),
            (array(&[]), false),
            (Reply::Int(5), false),
            (array(&[bytes("c")]), false),
            (array(&[bytes("message"), bytes("c"), bytes("p")]), true),
            (array(&[]), false),
        ];
        for n in [1, 2, 3, 7, 10_000] {
            assert_eq!(decoded(wire, n).as_deref(), Ok(&want[..]), "{n}");
        }
    }

    #[test]
    fn what_breaks_a_rule_is_an_error() {
        let nested = "*1\r\n".repeat(MAX_DEPTH + 1);
        let long = format!("+{}", "x".repeat(MAX_LINE));
        let many = format!("*1000000\r\n{}", ":1\r\n".repeat(MAX));
        for (wire, says) in [
            ("?\r\n", "unknown type"),
            ("\r\n", "no type"),
            ("+OK\n", "CRLF"),
            ("\n", "CRLF"),
            (":\r\n", "number"),
            (":1x\r\n", "number"),
            (":9223372036854775808\r\n", "number"),
            ("$-2\r\n", "length"),
            ("$?\r\n", "length"),
            ("$+1\r\n", "length"),
            ("*18446744073709551616\r\n", "length"),
            ("$18446744073709551615\r\n", "too large"),
            ("$1\r\nabc", "line end"),
            ("=3\r\nabc\r\n", "format"),
            ("#x\r\n", "unknown type"),
            ("_x\r\n", "unknown type"),
            (">0\r\n", "empty"),
            ("*1\r\n>1\r\n", "within"),
            (&nested, "deeply"),
            (&long, "line is too long"),
            (&many, "too large"),
        ] {
            for n in [1, 5, 1 << 20] {
                let error = decoded(wire.as_bytes(), n).expect_err(wire);
                assert!(error.contains(says), "{wire:.20}: {error}");
            }
        }
    }

    #[test]
    fn a_length_alone_takes_no_memory() {
        let mut decoder = Decoder::new(usize::MAX);
        for wire in ["*4611686018427387904\r\n", "%9223372036854775807\r\n", "$9223372036854775000\r\n"] {
            assert_eq!(decoder.next(&mut wire.as_bytes()), Ok(None));
        }
        assert!(decoder.open.iter().all(|open| open.items.capacity() == 0));
    }

    #[test]
    fn the_size_counts_for_one_frame_only() {
        let frame = format!("$60000\r\n{}\r\n", "x".repeat(60_000));
        assert_eq!(decoded(frame.repeat(5).as_bytes(), 4096).map(|frames| frames.len()), Ok(5));
    }
}
