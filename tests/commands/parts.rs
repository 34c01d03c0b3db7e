//! What a newcomer pastes: the shell blocks of a page, split where another terminal is needed.

use crate::markdown::{Block, Page, commands};

/// Where a part is pasted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    /// In the terminal of the part before, or in a new one if a server keeps running there.
    Same,
    Another,
    /// In the terminal of the part before, after Ctrl-C.
    Stopped,
}

#[derive(Debug)]
pub(crate) struct Part {
    /// The number of its first line in the file.
    pub(crate) line: usize,
    pub(crate) text: String,
    pub(crate) start: Start,
    /// If its last command is a server in the foreground: what the server writes when it is ready.
    pub(crate) is_ready: Option<&'static str>,
    pub(crate) is_form: bool,
    /// The first word of each command.
    pub(crate) programs: Vec<String>,
}

const SHELL: [&str; 4] = ["sh", "bash", "console", ""];
const OTHERS: [&str; 11] = ["c", "http", "js", "json", "python", "rust", "text", "toml", "yaml", "yml", "html"];

/// Words in front of a command.
const KEYWORDS: [&str; 10] = ["until", "while", "if", "then", "else", "do", "!", "{", "time", "exec"];

/// Returns the parts of all shell blocks.
pub(crate) fn parts(page: &Page) -> Result<Vec<Part>, String> {
    let mut all = Vec::new();
    for block in &page.blocks {
        let language = block.language.as_str();
        if SHELL.contains(&language) {
            split(block, &mut all).map_err(|(line, error)| format!("{}:{line}: {error}", page.path.display()))?;
        } else if !OTHERS.contains(&language) {
            return Err(format!("{}:{}: unknown language {language:?}", page.path.display(), block.line));
        }
    }
    Ok(all)
}

fn split(block: &Block, all: &mut Vec<Part>) -> Result<(), (usize, String)> {
    let new = |line, start| Part {
        line,
        text: String::new(),
        start,
        is_ready: None,
        is_form: block.is_form,
        programs: Vec::new(),
    };
    let mut part = new(block.line, Start::Same);
    // An indented block is shown without its indentation.
    let indentation = if block.language.is_empty() { "    " } else { "" };
    let lines = block.text.lines().map(|line| line.strip_prefix(indentation).unwrap_or(line));
    let mut lines = lines.zip(block.line..);
    let mut found = Vec::new();
    while let Some((line, number)) = lines.next() {
        if let Some(start) = start(line) {
            found.push(std::mem::replace(&mut part, new(number + 1, start)));
            continue;
        }
        let mut command = format!("{line}\n");
        while command.ends_with("\\\n")
            && let Some((line, _)) = lines.next()
        {
            command = command + line + "\n";
        }
        part.text += &command;
        let mut words = commands(&command);
        for words in &mut words {
            let keywords = words.iter().take_while(|word| KEYWORDS.contains(&word.as_str())).count();
            words.drain(..keywords);
        }
        words.retain(|words| !words.is_empty());
        if block.is_form || words.is_empty() {
            continue;
        }
        if let Some(word) = words.iter().flatten().find(|word| word.contains('…') || word.contains(".example:")) {
            let error = format!("{word} is a placeholder: replace it, or mark the block as a form: ```sh form");
            return Err((number, error));
        }
        if part.is_ready.is_some() {
            let error = "the server before this command keeps running: `# in another terminal:` is missing";
            return Err((number - 1, error.to_owned()));
        }
        part.programs.extend(words.iter().map(|words| words[0].clone()));
        let code = command.split(" #").next().unwrap_or_default().trim_end();
        if !code.ends_with('&') {
            part.is_ready = words.iter().find_map(|words| ready(words));
        }
    }
    found.push(part);
    all.extend(found.into_iter().filter(|part| !part.text.trim().is_empty()));
    Ok(())
}

/// The start of the next part, if the line is a comment that says so.
fn start(line: &str) -> Option<Start> {
    let comment = line.trim_start().strip_prefix('#')?.trim_start().to_lowercase();
    let another = ["in another terminal", "in a second", "in a third", "in a fourth"];
    if another.iter().any(|text| comment.starts_with(text)) {
        return Some(Start::Another);
    }
    comment.starts_with("stop it with ctrl-c").then_some(Start::Stopped)
}

/// The text that reports readiness, if the command is a server.
fn ready(words: &[String]) -> Option<&'static str> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    if words.iter().any(|word| ["--help", "--version", "--print-config", "--check-config"].contains(word)) {
        return None;
    }
    let name = match *words.first()? {
        "cargo" if words.get(1) == Some(&"run") => {
            words.iter().skip_while(|word| **word != "--example").nth(1).copied()?
        }
        "python3" => words.get(1)?.ends_with("app.py").then_some("app.py")?,
        path if path.contains("/examples/") || path.starts_with("./") => path.rsplit('/').next()?,
        _ => return None,
    };
    match name {
        "fetch" => None,
        "origin" => Some(": connected to "),
        _ => Some("listening on "),
    }
}
