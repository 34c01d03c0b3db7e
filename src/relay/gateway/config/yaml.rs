//! Parses YAML into a tree in which every value and key has its line.
//!
//! The tree has what a configuration needs: one document of mappings, sequences and scalars. Anchors and aliases are
//! errors, and the depth is limited. So the tree of a file is never much larger than the file.

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span, StrInput};

use super::fault::{Fault, fault};

/// Maximum depth of nesting. A configuration needs two.
const DEPTH: usize = 16;

/// A value and the line that it begins in, from 1.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) line: usize,
    pub(super) value: Value,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Value {
    /// `~`, `null`, or no value.
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
    /// Returns what kind of value this is, for an error message.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Text(_) => "a single value",
            Self::Map(_) => "a mapping",
            Self::List(_) => "a list",
        }
    }
}

/// Parses a document; an empty one is `Null`.
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
        (_, span) => Err(fault(span.start.line(), "invalid YAML: expected one document, and a second one begins here")),
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
            None => Err(fault(1, "invalid YAML: unexpected end")),
        }
    }

    fn node(&mut self, (event, span): (Event<'t>, Span), depth: usize) -> Result<Node, Fault> {
        let line = span.start.line();
        if depth > DEPTH {
            return Err(fault(line, "invalid YAML: nested too deeply"));
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
            Event::Alias(_) => return Err(fault(line, "invalid YAML: anchors and aliases (&x, *x) are not supported")),
            _ => return Err(fault(line, "invalid YAML: expected a value")),
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
                other => return Err(fault(line, format!("invalid key: must be a word, not {}", other.kind()))),
            };
            if entries.iter().any(|(key, _)| key.name == name) {
                return Err(fault(line, format!("invalid key {name:?}: it is a duplicate")));
            }
            let next = self.next()?;
            let node = self.node(next, depth + 1)?;
            entries.push((Key { line, name }, node));
        }
    }
}

fn broken(error: &ScanError) -> Fault {
    fault(error.marker().line(), format!("invalid YAML: {}", error.info()))
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
    fn every_value_has_its_line() {
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

    /// Returns the line of a missing value: the parser reports one of the lines behind the key.
    fn entries_line(entries: &[(Key, Node)]) -> usize {
        let Value::Map(callback) = &entries[1].1.value else { panic!("a mapping") };
        let line = callback[1].1.line;
        assert!((5..=7).contains(&line));
        line
    }

    #[test]
    fn an_empty_document_is_null() {
        for source in ["", "# only a comment\n", "---\n", "~"] {
            assert_eq!(parse(source).map(|node| node.value), Ok(Value::Null), "{source:?}");
        }
    }

    #[test]
    fn an_error_has_its_line() {
        let deep = format!("{}{}", "[".repeat(40), "]".repeat(40));
        for (source, line, reason) in [
            ("a: 1\nb: [1, 2\nc: 3\n", 3, "invalid YAML"),
            ("a: 1\n  b: 2\n", 2, "invalid YAML"),
            ("a: \"x\n", 2, "invalid YAML"),
            ("a: 1\n\na: 2\n", 3, "duplicate"),
            ("a: &x 1\nb: *x\n", 2, "aliases"),
            ("a: 1\n---\nb: 2\n", 2, "a second one begins here"),
            ("? [a]\n: 1\n", 1, "invalid key: must be a word"),
            (deep.as_str(), 1, "too deeply"),
        ] {
            let fault = parse(source).expect_err(source);
            assert!(fault.what.contains(reason), "{source:?}: {fault:?}");
            assert!(fault.line.abs_diff(line) <= 1, "{source:?}: {fault:?}");
        }
    }
}
