//! The manuals are true: links lead to files, commands and settings are accepted by the programs.
//!
//! Every `*.md` file below the repository is read, and the head of every example. `commands.rs` runs the shell blocks.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use markdown::{Block, Page, commands, heads, manuals, root};
use program::{identity, output};
use uncork::relay::GatewayFile;

#[path = "support/client.rs"]
#[allow(dead_code, reason = "other tests use the rest of it")]
mod client;
#[path = "support/markdown.rs"]
#[allow(dead_code, reason = "other tests use the rest of it")]
mod markdown;
#[path = "support/program.rs"]
#[allow(dead_code, reason = "other tests use the rest of it")]
mod program;

/// The examples that read flags. `hello` takes an address only.
const PROGRAMS: [&str; 11] = [
    "chat",
    "echo",
    "external_select",
    "fetch",
    "fileserver",
    "gateway",
    "origin",
    "relay",
    "upgrade_echo",
    "upload",
    "websocket_echo",
];

/// Flags of other programs that manuals name in a code span.
const OTHER_FLAGS: [&str; 5] = ["--release", "--features", "--no-default-features", "--cacert", "--tool"];
/// Examples that take an address, and no flags.
const WITHOUT_FLAGS: [&str; 3] = ["events", "hello", "json_api"];

fn blocks<'a>(pages: &'a [Page], languages: &'a [&str]) -> impl Iterator<Item = (String, &'a Block)> {
    let found = pages.iter().flat_map(|page| page.blocks.iter().map(move |block| (page, block)));
    let found = found.filter(|(_, block)| languages.contains(&block.language.as_str()));
    found.map(|(page, block)| (format!("{}:{}", page.path.display(), block.line), block))
}

/// The flags in a help text: `--name`, and `-n`.
fn flags(help: &str) -> BTreeSet<String> {
    let words = help.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'));
    words.filter(|word| word.starts_with('-') && word.len() > 1).map(str::to_owned).collect()
}

fn flags_of_programs() -> BTreeMap<&'static str, BTreeSet<String>> {
    let flags_of = |name| {
        let help = output(name, &["--help"]);
        assert!(help.status.success(), "{name}: {help:?}");
        (name, flags(&String::from_utf8_lossy(&help.stdout)))
    };
    PROGRAMS.into_iter().map(flags_of).collect()
}

/// The example that a command runs, and the arguments for it.
fn example(command: &[String]) -> Option<(String, Vec<&str>)> {
    let words: Vec<&str> = command.iter().map(String::as_str).collect();
    if words[0] == "cargo" {
        let end = words.iter().position(|word| *word == "--").unwrap_or(words.len());
        let at = words[..end].iter().position(|word| *word == "--example")?;
        return Some((words[at + 1].to_owned(), words[(end + 1).min(words.len())..].to_vec()));
    }
    let (directory, name) = words[0].rsplit_once('/').unwrap_or(("", words[0]));
    // Without a directory, `echo` is the shell's.
    let is_ours = PROGRAMS.contains(&name) && (name != "echo" || directory.contains("examples"));
    is_ours.then(|| (name.to_owned(), words[1..].to_vec()))
}

/// Returns `true` for a word that stands for itself: not a variable, not a placeholder such as `FILE` or `…`.
fn is_literal(word: &str) -> bool {
    let value = word.rsplit('=').next().unwrap_or(word);
    let is_placeholder = value.len() > 1 && value.chars().all(|c| c.is_ascii_uppercase() || matches!(c, ':' | '_'));
    !word.contains(['$', '…', '{']) && !is_placeholder
}

#[test]
fn every_command_is_accepted() {
    let pages: Vec<Page> = manuals().into_iter().chain(heads()).collect();
    let known = flags_of_programs();
    let mut count = 0;
    for (place, block) in blocks(&pages, &["sh", "console", "bash", ""]) {
        for command in commands(&block.text) {
            if command[0] == "cargo" {
                names_a_target(&place, &command);
            }
            let Some((name, args)) = example(&command).filter(|(name, _)| !WITHOUT_FLAGS.contains(&name.as_str()))
            else {
                continue;
            };
            let known = known.get(name.as_str()).unwrap_or_else(|| panic!("{place}: unknown example {name:?}"));
            for flag in args.iter().filter(|word| word.starts_with("--")) {
                let flag = flag.split('=').next().unwrap_or(flag);
                assert!(known.contains(flag), "{place}: {name} does not know {flag}");
            }
            if args.iter().all(|word| is_literal(word)) {
                // Arguments are parsed in order: with `--help` at the end, nothing before it was wrong.
                let checked = output(&name, &[&args[..], &["--help"]].concat());
                assert!(checked.status.success(), "{place}: {}", String::from_utf8_lossy(&checked.stderr));
            }
            count += 1;
        }
    }
    assert!(count >= 10, "only {count} commands were found");
}

/// Tests, examples and benchmarks that a cargo command names exist.
#[track_caller]
fn names_a_target(place: &str, command: &[String]) {
    for pair in command.windows(2) {
        let directory = match pair[0].as_str() {
            "--test" => "tests",
            "--example" => "examples",
            "--bench" => "benches",
            _ => continue,
        };
        let target = root().join(directory).join(&pair[1]);
        let exists = target.with_extension("rs").exists() || target.join("main.rs").exists();
        assert!(exists, "{place}: no target {:?} in {directory}/", pair[1]);
    }
}

#[test]
fn every_flag_in_the_text_is_known() {
    let known: BTreeSet<String> = flags_of_programs().into_values().flatten().collect();
    for page in manuals().into_iter().chain(heads()) {
        for span in page.spans() {
            let flags = span.split_whitespace().filter(|word| span.starts_with("--") && word.starts_with("--"));
            for flag in flags.map(|word| word.split(['=', '[']).next().unwrap_or(word)) {
                let is_known = known.contains(flag) || OTHER_FLAGS.contains(&flag) || flag == "--";
                assert!(is_known, "{}: unknown flag {flag:?} in `{span}`", page.path.display());
            }
        }
    }
}

#[test]
fn every_link_has_a_target() {
    let pages = manuals();
    let mut count = 0;
    for page in &pages {
        for link in page.links() {
            let (file, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let directory = page.path.parent().unwrap_or(Path::new(""));
            let path = if file.is_empty() { page.path.clone() } else { directory.join(file) };
            let whole = root().join(&path).canonicalize();
            let whole = whole.unwrap_or_else(|error| panic!("{}: {link}: {error}", page.path.display()));
            assert!(whole.starts_with(root().canonicalize().expect("a directory")), "{link} is outside");
            let target = pages.iter().find(|page| root().join(&page.path).canonicalize().is_ok_and(|p| p == whole));
            if let Some(target) = target.filter(|_| !anchor.is_empty()) {
                assert!(target.anchors().iter().any(|a| a == anchor), "{}: no heading for {link}", page.path.display());
            }
            count += 1;
        }
    }
    assert!(count >= 10, "only {count} links were found");
}

/// A directory that stands for `/etc`, `/var`, `/run` and `/srv` in settings.
struct Files(PathBuf);

impl Files {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("uncork-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).expect("a new directory");
        Self(path)
    }

    /// Replaces those paths, and makes the files that settings name: certificates, keys, and directories for others.
    fn provide(&self, settings: &str) -> String {
        let mut text = settings.to_owned();
        for top in ["etc", "var", "run", "srv"] {
            let directory = self.0.join(top).display().to_string();
            text = text.replace(&format!("\"/{top}/"), &format!("\"{directory}/"));
            text = text.replace(&format!("\"unix:/{top}/"), &format!("\"unix:{directory}/"));
        }
        let prefix = self.0.display().to_string();
        for string in text.split('"').filter_map(|string| string.find(&prefix).map(|at| &string[at..])) {
            let path = Path::new(string);
            fs::create_dir_all(path.parent().expect("a parent")).expect("a new directory");
            let copied = match path.extension().and_then(|e| e.to_str()) {
                Some("pem" | "crt" | "key") if string.contains("key") => &identity().key,
                Some("pem" | "crt") => &identity().cert,
                Some("password") => {
                    fs::write(path, "secret").expect("written");
                    continue;
                }
                _ => continue,
            };
            fs::copy(copied, path).expect("a copy");
        }
        text
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn every_settings_file_of_the_relay_is_accepted() {
    let files = Files::new("settings");
    for (place, block) in blocks(&manuals(), &["toml"]) {
        if ["[package]", "[dependencies]", "[features]"].iter().any(|section| block.text.contains(section)) {
            let parsed: Result<toml::Table, _> = toml::from_str(&block.text);
            parsed.unwrap_or_else(|error| panic!("{place}: {error}"));
            continue;
        }
        let file = files.0.join("relay.toml");
        fs::write(&file, files.provide(&block.text)).expect("written");
        let checked = output("relay", &["--config", file.to_str().expect("text"), "--check-config"]);
        assert!(checked.status.success(), "{place}: {}", String::from_utf8_lossy(&checked.stderr));
    }
}

/// A span such as `tunnel.tokens` names a key that `--print-config` has.
#[test]
fn every_setting_in_the_text_is_known() {
    let printed = output("relay", &["--print-config"]);
    assert!(printed.status.success(), "{printed:?}");
    let (mut section, mut keys) = (String::new(), BTreeSet::new());
    let mut sections = BTreeSet::new();
    for line in String::from_utf8(printed.stdout).expect("text").lines() {
        let line = line.trim_start_matches(['#', ' ']);
        if let Some(name) = line.strip_prefix('[').map(|rest| rest.trim_matches(['[', ']'])) {
            section = name.to_owned();
            sections.insert(section.clone());
        } else if let Some((key, _)) = line.split_once(" = ") {
            keys.insert(format!("{section}.{key}"));
        }
    }
    for page in manuals() {
        for span in page.spans() {
            let is_setting = span.chars().all(|c| c.is_ascii_lowercase() || matches!(c, '-' | '.'));
            let of_a_section =
                span.split_once('.').is_some_and(|(name, key)| sections.contains(name) && !key.is_empty());
            if is_setting
                && of_a_section
                && !["rs", "toml", "md", "yml"].iter().any(|e| span.ends_with(&format!(".{e}")))
            {
                assert!(keys.contains(span), "{}: unknown setting {span:?}", page.path.display());
            }
        }
    }
}

#[test]
fn every_configuration_of_the_gateway_is_accepted() {
    for (place, block) in blocks(&manuals(), &["yml", "yaml"]) {
        let file = GatewayFile::parse(&block.text, |_| None).unwrap_or_else(|error| panic!("{place}: {error:?}"));
        assert!(file.warnings.is_empty(), "{place}: {:?}", file.warnings);
    }
}

#[test]
fn every_json_block_is_json() {
    for (place, block) in blocks(&manuals(), &["json"]) {
        let parsed: Result<serde_json::Value, _> = serde_json::from_str(&block.text);
        parsed.unwrap_or_else(|error| panic!("{place}: {error}"));
    }
}

/// Rust blocks are compiled as tests of the documentation: `lib.rs` includes their files.
#[test]
fn every_rust_block_is_compiled() {
    let library = fs::read_to_string(root().join("src/lib.rs")).expect("a file");
    for (place, _) in blocks(&manuals(), &["rust"]) {
        let file = place.split(':').next().unwrap_or_default();
        assert!(
            library.contains(&format!("include_str!(\"../{file}\")")),
            "{place}: src/lib.rs does not include {file}"
        );
    }
}

#[test]
fn commands_are_split_as_a_shell_does() {
    let text = "A=1 relay --x 'a b' # no\nS=$U/$(curl -s \"$U\" | cut -d '\"')\nrelay \\\n  --y=2 > file 2> log && cmp a b &\n";
    let want: [&[&str]; 5] = [
        &["relay", "--x", "a b"],
        &["curl", "-s", "$U"],
        &["cut", "-d", "\""],
        &["relay", "--y=2"],
        &["cmp", "a", "b"],
    ];
    assert_eq!(commands(text), want);
}
