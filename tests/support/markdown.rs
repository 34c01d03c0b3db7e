//! The manuals as tests read them: code blocks, code spans, links and headings, and the commands in shell blocks.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// A code block.
#[derive(Clone, Debug)]
pub(crate) struct Block {
    /// The first word after the fence; empty for an indented block.
    pub(crate) language: String,
    pub(crate) text: String,
    /// The number of its first line, from 1.
    pub(crate) line: usize,
    /// `true` for a form, with placeholders: the word `form` follows the language.
    pub(crate) is_form: bool,
}

/// A file, or the head of an example.
#[derive(Debug)]
pub(crate) struct Page {
    /// Relative to the repository.
    pub(crate) path: PathBuf,
    pub(crate) blocks: Vec<Block>,
    /// All lines outside of blocks.
    prose: String,
}

/// Returns the path of the repository.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Returns every Markdown file of the repository.
pub(crate) fn manuals() -> Vec<Page> {
    let mut pages = Vec::new();
    for path in files(root(), "md") {
        let text = fs::read_to_string(&path).expect("a readable file");
        pages.push(Page::parse(path.strip_prefix(root()).expect("a file below the root"), &text, false));
    }
    assert!(pages.iter().any(|page| page.path == Path::new("README.md")), "no README.md below {}", root().display());
    pages
}

/// Returns the `//!` heads of the examples.
pub(crate) fn heads() -> Vec<Page> {
    let mut pages = Vec::new();
    for path in files(&root().join("examples"), "rs") {
        let source = fs::read_to_string(&path).expect("a readable file");
        let head: Vec<&str> = source.lines().map_while(|line| line.strip_prefix("//!")).collect();
        let text: String = head.iter().map(|line| format!("{}\n", line.strip_prefix(' ').unwrap_or(line))).collect();
        pages.push(Page::parse(path.strip_prefix(root()).expect("a file below the root"), &text, true));
    }
    pages
}

/// Finds files by extension, without hidden directories and generated files.
fn files(directory: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).expect("a readable directory") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name.starts_with('.') || ["target", "corpus", "artifacts"].contains(&name) {
            continue;
        }
        if path.is_dir() {
            found.extend(files(&path, extension));
        } else if path.extension().is_some_and(|e| e == extension) {
            found.push(path);
        }
    }
    found.sort();
    found
}

impl Page {
    /// Parses a page. With `indented`, lines indented by four spaces are a block, too.
    pub(crate) fn parse(path: &Path, text: &str, indented: bool) -> Self {
        let mut page = Self { path: path.to_owned(), blocks: Vec::new(), prose: String::new() };
        let mut lines = text.lines().enumerate().peekable();
        while let Some((number, line)) = lines.next() {
            if let Some(info) = line.trim_start().strip_prefix("```") {
                let mut words = info.split([',', ' ']);
                let language = words.next().unwrap_or_default().to_owned();
                let is_form = words.any(|word| word == "form");
                let mut text = String::new();
                loop {
                    match lines.next() {
                        Some((_, line)) if line.trim() == "```" => break,
                        Some((_, line)) => text = text + line + "\n",
                        None => panic!("{}:{}: the block does not end", path.display(), number + 1),
                    }
                }
                page.blocks.push(Block { language, text, line: number + 2, is_form });
            } else if indented && line.starts_with("    ") {
                let mut text = format!("{line}\n");
                while let Some((_, line)) = lines.next_if(|(_, line)| line.starts_with("    ")) {
                    text = text + line + "\n";
                }
                page.blocks.push(Block { language: String::new(), text, line: number + 1, is_form: false });
            } else {
                page.prose = page.prose + line + "\n";
            }
        }
        page
    }

    /// Returns the code spans.
    pub(crate) fn spans(&self) -> Vec<&str> {
        // A paragraph at a time: a backtick without its partner affects no other paragraph.
        self.prose.split("\n\n").flat_map(|paragraph| paragraph.split('`').skip(1).step_by(2)).collect()
    }

    /// Returns the targets of links within the repository.
    pub(crate) fn links(&self) -> Vec<String> {
        let without_code: String = self.prose.split("\n\n").fold(String::new(), |text, paragraph| {
            text + &paragraph.split('`').step_by(2).collect::<String>() + "\n\n"
        });
        let inline = without_code.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target);
        let defined = without_code.lines().filter(|line| line.starts_with('['));
        let defined = defined.filter_map(|line| line.split_once("]: ")).map(|(_, target)| target);
        let targets = inline.chain(defined).map(|target| target.split(' ').next().unwrap_or_default().to_owned());
        targets.filter(|target| !target.contains("://") && !target.starts_with("mailto:")).collect()
    }

    /// Returns the anchors of the headings, as GitHub makes them.
    pub(crate) fn anchors(&self) -> Vec<String> {
        let headings = self.prose.lines().filter(|line| line.starts_with('#'));
        let slug = |line: &str| {
            let text = line.trim_start_matches('#').trim().to_lowercase();
            let kept = text.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
            kept.map(|c| if c == ' ' { '-' } else { c }).collect()
        };
        headings.map(slug).collect()
    }
}

/// Splits a shell block into commands, and those into words. It supports quotes, comments, continued lines,
/// `VAR=value`, redirections and separators of commands. Words keep their `$`.
pub(crate) fn commands(text: &str) -> Vec<Vec<String>> {
    let text = text.replace("\\\n", " ");
    let (mut all, mut command, mut word, mut quote) = (Vec::new(), Vec::new(), None::<String>, None);
    let mut characters = text.chars().chain(['\n']).peekable();
    while let Some(c) = characters.next() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some(_), c) => word.get_or_insert_default().push(c),
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, '#') if word.is_none() => while characters.next_if(|c| *c != '\n').is_some() {},
            (None, ' ' | '\t' | '\n' | '|' | '&' | ';' | '(' | ')' | '<' | '>') => {
                command.extend(word.take());
                match c {
                    ' ' | '\t' => {}
                    // The target of a redirection is a word of its own, which is dropped below.
                    '<' | '>' => command.push(c.to_string()),
                    _ => all.push(std::mem::take(&mut command)),
                }
            }
            (None, c) => word.get_or_insert_default().push(c),
        }
    }
    for command in &mut all {
        while let Some(at) = command.iter().position(|word| word == "<" || word == ">") {
            command.drain(at..command.len().min(at + 2));
            if at > 0 && ["1", "2"].contains(&command[at - 1].as_str()) {
                command.remove(at - 1);
            }
        }
        let is_setting = |word: &String| {
            let name = word.split_once('=').map(|(name, _)| name);
            name.is_some_and(|name| !name.is_empty() && name.chars().all(|c| c.is_ascii_uppercase() || c == '_'))
        };
        let start = command.iter().take_while(|word| is_setting(word) || ["sudo", "exec"].contains(&word.as_str()));
        command.drain(..start.count());
    }
    all.retain(|command| !command.is_empty());
    all
}
