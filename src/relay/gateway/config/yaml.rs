//! YAML as a tree in which everything knows its line.
//!
//! Only what a configuration is made of: one document of mappings, sequences and scalars. Anchors and aliases are
//! refused, and nothing is nested deeper than a configuration ever is, so no file can grow when it is read.

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span, StrInput};

use super::{Fault, fault};

/// Mappings within mappings; ours needs two.
const DEPTH: usize = 16;

/// A value and the line it begins in, from 1.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) line: usize,
    pub(super) value: Value,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Value {
    /// `~`, `null`, or nothing at all.
    Null,
    Text(String),
    Map(Vec<(Key, Node)>),
    List(Vec<Node>),
}

/// A key and its line.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) line: usize,
    pub(super) name: String,
}

impl Value {
    /// What it is, in the words of somebody who wrote it.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Text(_) => "a single value",
            Self::Map(_) => "a mapping",
            Self::List(_) => "a list",
        }
    }
}

/// Reads a document; an empty one is `Null`.
pub(super) fn parse(text: &str) -> Result<Node, Fault> {
    let mut reader = Reader { parser: Parser::new_from_str(text) };
    reader.next()?; // the start of the stream
    let (event, span) = reader.next()?;
    if event == Event::StreamEnd {
        return Ok(Node { line: span.start.line(), value: Value::Null });
    }
    let first = reader.next()?;
    let root = reader.node(first, 0)?;
    reader.next()?; // the end of the document
    match reader.next()? {
        (Event::StreamEnd, _) => Ok(root),
        (_, span) => Err(fault(span.start.line(), "a second document begins here; there must be one only")),
    }
}

struct Reader<'t> {
    parser: Parser<'t, StrInput<'t>>,
}

impl<'t> Reader<'t> {
    fn next(&mut self) -> Result<(Event<'t>, Span), Fault> {
        match self.parser.next_event() {
            Some(Ok(next)) => Ok(next),
            Some(Err(error)) => Err(broken(&error)),
            None => Err(fault(1, "it ends too early")),
        }
    }

    fn node(&mut self, (event, span): (Event<'t>, Span), depth: usize) -> Result<Node, Fault> {
        let line = span.start.line();
        if depth > DEPTH {
            return Err(fault(line, "it is nested too deeply"));
        }
        let value = match event {
            Event::Scalar(text, style, ..) => match (&*text, style) {
                ("" | "~" | "null" | "Null" | "NULL", ScalarStyle::Plain) => Value::Null,
                _ => Value::Text(text.into_owned()),
            },
            Event::MappingStart(..) => self.map(depth)?,
            Event::SequenceStart(..) => {
                let mut items = Vec::new();
                loop {
                    match self.next()? {
                        (Event::SequenceEnd, _) => break Value::List(items),
                        next => items.push(self.node(next, depth + 1)?),
                    }
                }
            }
            Event::Alias(_) => return Err(fault(line, "anchors and aliases (&x, *x) are not understood here")),
            _ => return Err(fault(line, "a value is expected here")),
        };
        Ok(Node { line, value })
    }

    fn map(&mut self, depth: usize) -> Result<Value, Fault> {
        let mut entries: Vec<(Key, Node)> = Vec::new();
        loop {
            let next = self.next()?;
            if next.0 == Event::MappingEnd {
                return Ok(Value::Map(entries));
            }
            let Node { line, value } = self.node(next, depth + 1)?;
            let name = match value {
                Value::Text(name) => name,
                other => return Err(fault(line, format!("a key must be a word, not {}", other.kind()))),
            };
            if entries.iter().any(|(key, _)| key.name == name) {
                return Err(fault(line, format!("{name:?} is there twice")));
            }
            let next = self.next()?;
            let node = self.node(next, depth + 1)?;
            entries.push((Key { line, name }, node));
        }
    }
}

fn broken(error: &ScanError) -> Fault {
    fault(error.marker().line(), format!("this is no YAML: {}", error.info()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(line: usize, text: &str) -> Node {
        Node { line, value: Value::Text(text.into()) }
    }

    fn entry(line: usize, name: &str, node: Node) -> (Key, Node) {
        (Key { line, name: name.into() }, node)
    }

    #[test]
    fn everything_knows_its_line() {
        let source = "# a comment\nport: 9180\ncallback:\n  connect: \"http://a/b?c#d\"\n  receive:\n\nlist: [a,\n b]\nempty: {}\nquoted: \"\"\n";
        let Node { value: Value::Map(entries), .. } = parse(source).expect("good") else { panic!("a mapping") };
        let callback = Value::Map(vec![
            entry(4, "connect", text(4, "http://a/b?c#d")),
            entry(5, "receive", Node { line: entries_line(&entries), value: Value::Null }),
        ]);
        let want = [
            entry(2, "port", text(2, "9180")),
            entry(3, "callback", Node { line: 4, value: callback }),
            entry(7, "list", Node { line: 7, value: Value::List(vec![text(7, "a"), text(8, "b")]) }),
            entry(9, "empty", Node { line: 9, value: Value::Map(vec![]) }),
            entry(10, "quoted", text(10, "")),
        ];
        assert_eq!(entries, want);
    }

    /// Where the parser says nothing stands: in one of the lines behind the key.
    fn entries_line(entries: &[(Key, Node)]) -> usize {
        let Value::Map(callback) = &entries[1].1.value else { panic!("a mapping") };
        let line = callback[1].1.line;
        assert!((5..=7).contains(&line));
        line
    }

    #[test]
    fn no_document_is_nothing() {
        for source in ["", "# only a comment\n", "---\n", "~"] {
            assert_eq!(parse(source).map(|node| node.value), Ok(Value::Null), "{source:?}");
        }
    }

    #[test]
    fn what_is_broken_says_where() {
        let deep = format!("{}{}", "[".repeat(40), "]".repeat(40));
        for (source, line, why) in [
            ("a: 1\nb: [1, 2\nc: 3\n", 3, "no YAML"),
            ("a: 1\n  b: 2\n", 2, "no YAML"),
            ("a: \"x\n", 2, "no YAML"),
            ("a: 1\n\na: 2\n", 3, "twice"),
            ("a: &x 1\nb: *x\n", 2, "aliases"),
            ("a: 1\n---\nb: 2\n", 2, "second document"),
            ("? [a]\n: 1\n", 1, "a key must be a word"),
            (deep.as_str(), 1, "too deeply"),
        ] {
            let fault = parse(source).expect_err(source);
            assert!(fault.what.contains(why), "{source:?}: {fault:?}");
            assert!(fault.line.abs_diff(line) <= 1, "{source:?}: {fault:?}");
        }
    }
}
