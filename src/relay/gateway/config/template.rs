//! Expands the template that a configuration file is: `{{ env "NAME" "default" }}` and `{{ must_env "NAME" }}`.
//!
//! The language is Go's `text/template`. Supported are these two functions, comments (`{{/* … */}}`), and the trimming
//! of white space (`{{-`, `-}}`). Anything else is an error with its line.

use super::fault::{Fault, fault};

/// The expanded text, and the origin of its lines.
#[derive(Debug)]
pub(super) struct Expanded {
    pub(super) text: String,
    /// For each line of the text, the line of the file that it began in, from 1. A variable can have several lines.
    lines: Vec<usize>,
}

impl Expanded {
    /// Returns the line of the file in which this line of the text began; both from 1.
    pub(super) fn line(&self, line: usize) -> usize {
        let known = line.checked_sub(1).and_then(|i| self.lines.get(i)).or(self.lines.last());
        known.copied().unwrap_or(1)
    }

    /// Adds text that comes from this line of the file. `own`: it is the file's own text, so its lines count.
    fn push(&mut self, text: &str, mut line: usize, own: bool) {
        for c in text.chars() {
            self.text.push(c);
            if c == '\n' {
                line += usize::from(own);
                self.lines.push(line);
            }
        }
    }
}

/// Replaces the actions in `source`; `lookup` returns the value of a variable.
pub(super) fn expand(source: &str, lookup: &dyn Fn(&str) -> Option<String>) -> Result<Expanded, Fault> {
    let mut expanded = Expanded { text: String::with_capacity(source.len()), lines: vec![1] };
    let (mut rest, mut line) = (source, 1);
    // True if the previous action trims the white space behind it.
    let mut trim = false;
    loop {
        let (before, action) = rest.split_once("{{").map_or((rest, None), |(before, action)| (before, Some(action)));
        let trims_before = action.is_some_and(|action| action.starts_with('-') && starts_with_space(&action[1..]));
        let kept = if trim { before.trim_start() } else { before };
        let skipped = &before[..before.len() - kept.len()];
        let kept = if trims_before { kept.trim_end() } else { kept };
        expanded.push(kept, line + newlines(skipped), true);
        line += newlines(before);
        let Some(action) = action else { return Ok(expanded) };

        let Some(end) = end_of_action(action) else {
            return Err(fault(line, "invalid template: \"{{\" without \"}}\""));
        };
        let (inner, behind) = (&action[..end], &action[end + 2..]);
        let inner = if trims_before { &inner[1..] } else { inner };
        trim = inner.strip_suffix('-').is_some_and(|inner| inner.ends_with(|c: char| c.is_ascii_whitespace()));
        let inner = if trim { &inner[..inner.len() - 1] } else { inner };
        expanded.push(&evaluate(inner.trim(), lookup).map_err(|what| fault(line, what))?, line, false);
        line += newlines(&action[..end]);
        rest = behind;
    }
}

fn newlines(text: &str) -> usize {
    text.bytes().filter(|b| *b == b'\n').count()
}

fn starts_with_space(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_whitespace())
}

/// Returns the position of the action's `}}`, ignoring quoted strings and comments.
fn end_of_action(action: &str) -> Option<usize> {
    let inner = action.strip_prefix('-').unwrap_or(action).trim_start();
    if inner.starts_with("/*") {
        let comment = action.find("*/")?;
        return action[comment..].find("}}").map(|at| comment + at);
    }
    let (mut quote, mut escaped) = (None, false);
    for (i, c) in action.char_indices() {
        match quote {
            Some(q) if c == q && !escaped => quote = None,
            Some(q) => escaped = q == '"' && c == '\\' && !escaped,
            None if action[i..].starts_with("}}") => return Some(i),
            None if c == '"' || c == '`' => quote = Some(c),
            None => {}
        }
    }
    None
}

fn evaluate(action: &str, lookup: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    if action.starts_with("/*") && action.ends_with("*/") && action.len() >= 4 {
        return Ok(String::new());
    }
    let (name, arguments) = action.split_at(action.find(|c: char| c.is_ascii_whitespace()).unwrap_or(action.len()));
    match (name, &strings(arguments)?[..]) {
        ("env", []) => Err("invalid env: expected the name of a variable, {{ env \"NAME\" \"default\" }}".into()),
        // The last argument is both a name and the default.
        ("env", names) => {
            let found = names.iter().find_map(|name| lookup(name).filter(|value| !value.is_empty()));
            Ok(found.or_else(|| names.last().cloned()).unwrap_or_default())
        }
        ("must_env", [name]) => lookup(name).ok_or_else(|| format!("environment variable {name} is not defined")),
        ("must_env", _) => Err("invalid must_env: expected one name, {{ must_env \"NAME\" }}".into()),
        (name, _) => Err(format!("unknown function {name:?}: expected env or must_env")),
    }
}

/// Parses the arguments: strings in double quotes, with escapes, or in back quotes, without.
fn strings(text: &str) -> Result<Vec<String>, String> {
    let mut found = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let quote = rest.chars().next().filter(|c| matches!(c, '"' | '`'));
        let Some(quote) = quote else {
            return Err(format!("invalid argument {rest:?}: expected a string in quotes"));
        };
        let (mut value, mut chars) = (String::new(), rest[1..].char_indices());
        let end = loop {
            match chars.next() {
                None => return Err(format!("invalid string {rest:?}: the closing quote is missing")),
                Some((i, c)) if c == quote => break 1 + i + 1,
                Some((_, '\\')) if quote == '"' => match chars.next() {
                    Some((_, c @ ('"' | '\\'))) => value.push(c),
                    Some((_, 'n')) => value.push('\n'),
                    Some((_, 't')) => value.push('\t'),
                    _ => return Err(format!("invalid escape in {rest:?}: expected \\\", \\\\, \\n or \\t")),
                },
                Some((_, c)) => value.push(c),
            }
        };
        found.push(value);
        rest = &rest[end..];
        if !rest.is_empty() && !starts_with_space(rest) {
            return Err(format!("invalid argument {rest:?}: a space is missing before it"));
        }
        rest = rest.trim_start();
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lookup(name: &str) -> Option<String> {
        let known = [("A", "a"), ("EMPTY", ""), ("TWO", "x: 1\ny: 2"), ("QUOTED", "a \"b\" c")];
        known.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned())
    }

    fn text(source: &str) -> String {
        expand(source, &lookup).expect("good").text
    }

    #[test]
    fn the_first_that_is_not_empty_else_the_last_argument() {
        for (source, want) in [
            ("no braces { } at all", "no braces { } at all"),
            ("x {{ env \"A\" \"d\" }} y", "x a y"),
            ("{{env \"A\"}}", "a"),
            ("{{ env \"NONE\" \"d\" }}", "d"),
            ("{{ env \"EMPTY\" \"d\" }}", "d"),
            ("{{ env \"NONE\" \"EMPTY\" \"A\" \"d\" }}", "a"),
            ("{{ env \"NONE\" \"A\" }}", "a"),
            ("{{ env \"NONE\" }}", "NONE"),
            ("{{ env \"NONE\" \"\" }}", ""),
            ("{{ env \"NONE\" \"{}\" }}", "{}"),
            ("{{ env \"NONE\" \"}}\" }}", "}}"),
            ("{{ env \"NONE\" \"q\\\"\\\\\\t\" }}", "q\"\\\t"),
            ("{{ env `NONE` `a\\n` }}", "a\\n"),
            ("{{\n env\n \"NONE\"\n \"d\"\n}}", "d"),
            ("{{ must_env \"A\" }}", "a"),
            ("{{ must_env \"EMPTY\" }}", ""),
            ("{{ env \"QUOTED\" }}", "a \"b\" c"),
            ("a{{/* env \"A\" }} */}}b", "ab"),
            ("a  {{- env \"A\" -}}  b", "aab"),
            ("a\n{{- env \"A\" }}\nb", "aa\nb"),
        ] {
            assert_eq!(text(source), want, "{source}");
        }
    }

    #[test]
    fn what_is_unknown_is_an_error_with_its_line() {
        for (source, line, reason) in [
            ("\n{{ env \"A\"", 2, "without \"}}\""),
            ("{{ env }}", 1, "expected the name"),
            ("a\nb\n{{ must_env \"NONE\" }}", 3, "NONE is not defined"),
            ("{{ must_env \"A\" \"B\" }}", 1, "expected one name"),
            ("{{ .key }}", 1, "unknown function"),
            ("{{ if x }}", 1, "expected a string"),
            ("{{ env A }}", 1, "expected a string"),
            ("{{ env \"A\" | upper }}", 1, "expected a string"),
            ("{{ env \"A\"\"B\" }}", 1, "space is missing"),
            ("{{ env \"\\x41\" }}", 1, "invalid escape"),
            ("{{}}", 1, "unknown function"),
            ("{{-1}}", 1, "unknown function"),
        ] {
            let fault = expand(source, &lookup).expect_err(source);
            assert_eq!(fault.line, line, "{source}");
            assert!(fault.what.contains(reason), "{source}: {fault:?}");
        }
    }

    #[test]
    fn lines_are_those_of_the_file() {
        let source = "one\n{{ env \"TWO\" }}\nthree {{ env\n\"A\" }}\nfive\n\n{{- env \"A\" -}}\n\neight";
        let expanded = expand(source, &lookup).expect("good");
        assert_eq!(expanded.text, "one\nx: 1\ny: 2\nthree a\nfiveaeight");
        assert_eq!((1..=6).map(|line| expanded.line(line)).collect::<Vec<_>>(), [1, 2, 2, 3, 5, 5]);
    }
}
