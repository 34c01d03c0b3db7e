//! The tokens of a source file, and the paths in them.

use proc_macro2::{Delimiter, Spacing, TokenStream, TokenTree};

/// Keywords that may stand before a path that begins with `::`.
const BEFORE_PATHS: &[&str] =
    &["as", "dyn", "else", "for", "if", "impl", "in", "match", "mut", "return", "use", "while"];

/// The tokens of a file without comments and test code. The arguments of macros are tokens like others.
#[derive(Default)]
pub(super) struct Code {
    tokens: Vec<Token>,
    /// The files of test modules: `mod x;` after `#[cfg(test)]`, with or without a path.
    pub(super) test_files: Vec<String>,
}

struct Token {
    text: String,
    line: usize,
    is_name: bool,
}

pub(super) fn code(source: &str) -> Code {
    let mut code = Code::default();
    code.add(source.parse().expect("Rust"));
    code
}

impl Code {
    fn add(&mut self, stream: TokenStream) {
        let mut trees = stream.into_iter().peekable();
        let mut after_colon = false;
        while let Some(tree) = trees.next() {
            let line = tree.span().start().line;
            let mut put = |text: String, is_name| self.tokens.push(Token { text, line, is_name });
            let is_colon = matches!(&tree, TokenTree::Punct(p) if p.as_char() == ':' && p.spacing() == Spacing::Joint);
            match tree {
                // Test code goes up to a `;` or a closing brace.
                TokenTree::Punct(p) if p.as_char() == '#' && trees.peek().is_some_and(is_test) => {
                    let is_end = |tree: &TokenTree| match tree {
                        TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
                        tree => tree.to_string() == ";",
                    };
                    let mut item = Vec::new();
                    while item.last().is_none_or(|last| !is_end(last)) {
                        let Some(tree) = trees.next() else { break };
                        item.push(tree);
                    }
                    self.test_files.extend(test_file(&item));
                }
                TokenTree::Punct(p) if p.as_char() == ':' && after_colon => {
                    self.tokens.last_mut().expect("a colon").text.push(':');
                }
                TokenTree::Group(group) => {
                    let (open, close) = match group.delimiter() {
                        Delimiter::Parenthesis => ("(", ")"),
                        Delimiter::Brace => ("{", "}"),
                        Delimiter::Bracket => ("[", "]"),
                        Delimiter::None => ("", ""),
                    };
                    put(open.to_owned(), false);
                    self.add(group.stream());
                    let line = group.span_close().start().line;
                    self.tokens.push(Token { text: close.to_owned(), line, is_name: false });
                }
                TokenTree::Literal(_) => put(String::new(), false),
                tree => {
                    let text = tree.to_string();
                    let is_name = matches!(tree, TokenTree::Ident(_)) && !BEFORE_PATHS.contains(&text.as_str());
                    put(text, is_name);
                }
            }
            after_colon = is_colon;
        }
    }

    fn is(&self, at: usize, text: &str) -> bool {
        self.tokens.get(at).is_some_and(|token| token.text == text)
    }

    /// Returns the line of each place where the tokens of `text` stand.
    pub(super) fn lines<'a>(&'a self, text: &str) -> impl Iterator<Item = usize> + use<'a> {
        let wanted = code(text).tokens;
        let windows = self.tokens.windows(wanted.len());
        windows.filter(move |w| w.iter().zip(&wanted).all(|(a, b)| a.text == b.text)).map(|w| w[0].line)
    }

    /// Returns all paths: `a::{b, c::D}` is `a::b` and `a::c::D`.
    pub(super) fn paths(&self) -> Vec<Name> {
        let (mut paths, mut at) = (Vec::new(), 0);
        while at < self.tokens.len() {
            let is_use = self.is(at, "use") || self.is(at, "crate") && !self.is(at + 1, "::");
            let start = at + usize::from(is_use);
            let start = start + usize::from(self.is(start, "::"));
            let n = paths.len();
            at = self.expand(start, &[], is_use, &mut paths).max(at + 1);
            // The path in `pub(in …)` is not an import.
            if start >= 2 && self.is(start - 1, "in") && self.is(start - 2, "(") {
                paths.truncate(n);
            }
        }
        paths
    }

    /// Puts the paths that begin at a token into `into`, and returns the index of the next token.
    fn expand(&self, mut at: usize, prefix: &[String], is_use: bool, into: &mut Vec<Name>) -> usize {
        if self.is(at, "{") && (is_use || !prefix.is_empty()) {
            at += 1;
            while at < self.tokens.len() && !self.is(at, "}") {
                at = self.expand(at, prefix, is_use, into).max(at + 1);
            }
            return at + 1;
        }
        let Some(token) = self.tokens.get(at).filter(|token| token.is_name || token.text == "*") else { return at };
        let path = [prefix, std::slice::from_ref(&token.text)].concat();
        if self.is(at + 1, "::") {
            let n = into.len();
            let end = self.expand(at + 2, &path, is_use, into);
            if into.len() > n {
                return end;
            }
        }
        let is_renamed = is_use && self.is(at + 1, "as");
        into.push(Name { path, line: token.line, is_use, is_renamed });
        at + if is_renamed { 3 } else { 1 }
    }
}

/// Returns `true` for the rest of `#[cfg(test)]`.
fn is_test(tree: &TokenTree) -> bool {
    matches!(tree, TokenTree::Group(group) if group.stream().to_string().replace(' ', "") == "cfg(test)")
}

/// Returns the file of a test module that is declared by these tokens.
fn test_file(item: &[TokenTree]) -> Option<String> {
    item.last().filter(|last| last.to_string() == ";")?;
    let path = item.iter().map(ToString::to_string).find_map(|text| {
        let (_, path) = text.strip_prefix('[')?.split_once("path = \"")?;
        Some(path.split('"').next()?.to_owned())
    });
    let name = || item.iter().skip_while(|tree| tree.to_string() != "mod").nth(1).map(|name| format!("{name}.rs"));
    path.or_else(name)
}

/// A path in the source.
pub(super) struct Name {
    pub(super) path: Vec<String>,
    pub(super) line: usize,
    /// In a `use`, or in an `extern crate`.
    pub(super) is_use: bool,
    pub(super) is_renamed: bool,
}

impl Name {
    /// Returns the path behind `crate::`, if it begins with `crate`, `self` or `super` in the module `own`.
    pub(super) fn absolute(&self, own: &[String]) -> Option<Vec<String>> {
        let is_up = |name: &&String| *name == "super";
        let (skipped, base) = match self.path[0].as_str() {
            "crate" => (1, &own[..0]),
            "self" => (1, own),
            "super" => (0, own),
            _ => return None,
        };
        let rest = &self.path[skipped..];
        let supers = rest.iter().take_while(is_up).count();
        let base = &base[..base.len().saturating_sub(supers)];
        let rest = rest[supers..].iter().filter(|name| *name != "self").cloned();
        Some(base.iter().cloned().chain(rest).collect())
    }
}

/// Returns the path of a module: that of `a/mod.rs` and of `a.rs` is `["a"]`.
pub(super) fn module_path(file: &str) -> Vec<String> {
    let path = file.trim_end_matches(".rs").split('/').map(str::to_owned);
    path.filter(|part| !part.is_empty() && part != "mod").collect()
}
