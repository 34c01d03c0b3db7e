//! Each command of a manual works when it is pasted: the shell blocks of a page run in order, on a fresh machine.
//!
//! A page is a Markdown file or the head of an example. For each, the files of the checkout are copied, the home
//! directory is new, and the network is a new one, since the manuals name ports. A block is pasted into a terminal. A
//! comment line `# in another terminal:` opens the next one, and so does a block after a server that keeps running.
//! `# stop it with Ctrl-C, then:` ends the server. Blocks with placeholders are forms, marked `sh form` behind the
//! fence: they are counted and not run. Responses of status 400 and above are failures (`fail` in `.curlrc`).
//!
//! `cargo run --example` starts the example that was built for the tests. With `UNCORK_CARGO=real` cargo itself makes
//! the programs, for half an hour and more: `UNCORK_CARGO=real cargo test --test commands`. `UNCORK_PAGE=README.md`
//! chooses one page.

#![expect(clippy::disallowed_methods, reason = "tests wait for programs")]

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, PoisonError},
};

use desk::{Desk, Network};
use machine::{Machine, find, libraries};
use markdown::{Page, heads, manuals, root};
use parts::{Part, Start, parts};

#[path = "support/client.rs"]
#[allow(dead_code, reason = "other tests use the rest of it")]
mod client;
#[path = "commands/desk.rs"]
mod desk;
#[path = "commands/machine.rs"]
mod machine;
#[path = "support/markdown.rs"]
#[allow(dead_code, reason = "other tests use the rest of it")]
mod markdown;
#[path = "commands/parts.rs"]
mod parts;
#[path = "support/program.rs"]
#[allow(dead_code, reason = "other tests use the rest of it")]
mod program;

/// Programs that a manual may use and a machine may lack. What needs one of them is then skipped; any other command
/// must be there.
const OPTIONAL: [&str; 9] =
    ["collectd", "docker", "nc", "openssl", "python3", "sha256sum", "systemctl", "valgrind", "wstest"];

/// What is never run: the page, a word of the part, and the reason.
const NOT_RUN: [(&str, &str, &str); 2] = [
    ("CONTRIBUTING.md", ".ci/run", "it runs all tests, and this one with them"),
    ("examples/websocket_echo.rs", "wstest", "it takes more than half an hour"),
];

/// Pages whose commands start a program that they do not name.
const NEEDS: [(&str, &str); 2] =
    [("examples/relay/cluster/README.md", "nginx"), ("examples/relay/cluster/README.md", "redis-server")];

/// Writes a line to standard error, since the test harness hides the output of a test that succeeds.
fn say(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// How many parts of a page ran, and how many did not.
#[derive(Default)]
struct Count {
    run: usize,
    skipped: usize,
    /// Forms, and parts of [`NOT_RUN`].
    excepted: usize,
}

/// The reason why a part is not run.
enum Not {
    Missing(&'static str),
    Excepted(&'static str),
}

fn is_not_run(page: &Path, part: &Part) -> Option<Not> {
    if part.is_form {
        return Some(Not::Excepted("a form, with placeholders"));
    }
    let listed = NOT_RUN.iter().find(|(path, word, _)| page == Path::new(path) && part.text.contains(word));
    if let Some((_, _, reason)) = listed {
        return Some(Not::Excepted(reason));
    }
    if part.text.contains("-p uncork-capi") && !machine::is_real() && !libraries().iter().all(|path| path.exists()) {
        return Some(Not::Missing("library for C: `cargo test` builds it, `cargo test --test commands` does not"));
    }
    let needed = NEEDS.into_iter().find(|(path, name)| page == Path::new(path) && find(name).is_none());
    if let Some((_, name)) = needed {
        return Some(Not::Missing(name));
    }
    OPTIONAL.into_iter().find(|name| part.programs.iter().any(|p| p == name) && find(name).is_none()).map(Not::Missing)
}

/// Runs a page, as a newcomer does.
fn run(page: &Page, files: &[PathBuf], network: &Network) -> Result<Count, String> {
    let (mut count, parts) = (Count::default(), parts(page)?);
    if parts.is_empty() {
        return Ok(count);
    }
    let machine = Machine::new(&page.path, files).map_err(|error| format!("cannot copy the checkout: {error}"))?;
    let mut desk = Desk::open(&machine, network)?;
    let place = |line| format!("{}:{line}", page.path.display());
    // What continues in the terminal of a part that was skipped may need what that part made.
    let mut missing = None;
    for part in &parts {
        let not = is_not_run(&page.path, part);
        let follows = missing.filter(|_| part.start != Start::Another);
        missing = match not {
            Some(Not::Missing(name)) => Some(name),
            _ => follows,
        };
        match not.or(follows.map(Not::Missing)) {
            Some(Not::Missing(name)) => {
                say(&format!("{}: skipped: there is no {name}", place(part.line)));
                count.skipped += 1;
            }
            Some(Not::Excepted(reason)) => {
                say(&format!("{}: not run: {reason}", place(part.line)));
                count.excepted += 1;
            }
            None => {
                desk.paste(part).map_err(|(line, error)| format!("{}: {error}", place(line)))?;
                count.run += 1;
            }
        }
    }
    desk.finish().map_err(|(line, error)| format!("{}: {error}", place(line)))?;
    if count.run + count.skipped + count.excepted != parts.len() {
        return Err(format!("{}: a part was left out", page.path.display()));
    }
    if count.run == 0 && count.skipped == 0 && !NOT_RUN.iter().any(|(path, ..)| page.path == Path::new(path)) {
        return Err(format!("{}: no command of this page is run", page.path.display()));
    }
    Ok(count)
}

/// The files of a fresh checkout; no corpus, which no command reads.
fn checkout() -> Result<Vec<PathBuf>, String> {
    let listed = Command::new("git").args(["ls-files", "-z"]).current_dir(root()).output();
    let listed = listed.map_err(|error| error.to_string())?;
    if !listed.status.success() {
        return Err(String::from_utf8_lossy(&listed.stderr).trim().to_owned());
    }
    let names = String::from_utf8(listed.stdout).map_err(|error| error.to_string())?;
    let files = names.split('\0').filter(|name| !name.is_empty() && !name.starts_with("fuzz/corpus/"));
    Ok(files.map(PathBuf::from).filter(|path| root().join(path).is_file()).collect())
}

#[test]
fn every_command_works_when_pasted() {
    if let Some(name) = ["git", "curl", "bash"].into_iter().find(|name| find(name).is_none()) {
        return say(&format!("skipped: there is no {name}"));
    }
    let files = match checkout() {
        Ok(files) => files,
        Err(error) => return say(&format!("skipped: git does not list the files: {error}")),
    };
    let network = match Network::find() {
        Ok(network) => network,
        Err(reason) => return say(&format!("skipped: {reason}")),
    };
    let pages: Vec<Page> = manuals().into_iter().chain(heads()).collect();
    for (path, word, _) in NOT_RUN {
        let page = pages.iter().find(|page| page.path == Path::new(path)).expect(path);
        assert!(page.blocks.iter().any(|block| block.text.contains(word)), "{path} no longer has {word}");
    }
    let chosen = std::env::var_os("UNCORK_PAGE");
    let pages: Vec<Page> =
        pages.into_iter().filter(|page| chosen.as_ref().is_none_or(|path| *path == *page.path)).collect();
    assert!(!pages.is_empty(), "UNCORK_PAGE: there is no page {chosen:?}");
    let (queue, failed, total) = (Mutex::new(pages.iter()), Mutex::new(Vec::new()), Mutex::new((0, Count::default())));
    let workers = if network.is_private() && !machine::is_real() { 2 } else { 1 };
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let next = queue.lock().unwrap_or_else(PoisonError::into_inner).next();
                    let Some(page) = next else { return };
                    match run(page, &files, &network) {
                        Ok(count) => {
                            let mut total = total.lock().unwrap_or_else(PoisonError::into_inner);
                            total.0 += usize::from(count.run > 0);
                            total.1.run += count.run;
                            total.1.skipped += count.skipped;
                            total.1.excepted += count.excepted;
                        }
                        Err(error) => failed.lock().unwrap_or_else(PoisonError::into_inner).push(error),
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    assert!(failed.is_empty(), "{} pages failed\n\n{}", failed.len(), failed.join("\n\n"));
    let (pages, Count { run, skipped, excepted }) = total.into_inner().unwrap_or_else(PoisonError::into_inner);
    say(&format!("commands: {run} parts of {pages} pages ran, {skipped} were skipped, {excepted} are not to be run"));
    assert!(pages >= 15 || skipped > 0 || chosen.is_some(), "only {pages} pages have commands");
}

/// A page of the text, and what it is split into: line, how it starts, whether it ends with a server.
#[test]
fn a_page_is_split_into_parts() {
    let text = "\
```sh
cargo run --release --example relay -- --listen 127.0.0.1:1 &
curl http://127.0.0.1:1/
# in another terminal:
python3 examples/gateway/app.py   # a server
# stop it with Ctrl-C, then:
target/release/examples/relay --print-config > relay.toml
```
```sh form
origin --proxy proxy.example:8443
```
";
    let page = Page::parse(Path::new("page.md"), text, false);
    let found = parts(&page).expect("parts");
    let found: Vec<_> = found.iter().map(|p| (p.line, p.start, p.is_ready.is_some(), p.is_form)).collect();
    let want = [
        (2, Start::Same, false, false),
        (5, Start::Another, true, false),
        (7, Start::Stopped, false, false),
        (10, Start::Same, false, true),
    ];
    assert_eq!(found, want);

    let in_the_way = "```sh\ncargo run --example hello\ncurl http://127.0.0.1:8080/\n```\n";
    let error = parts(&Page::parse(Path::new("page.md"), in_the_way, false)).expect_err("curl would never start");
    assert!(error.starts_with("page.md:2: ") && error.contains("# in another terminal:"), "{error}");
    let form = "```sh\norigin --proxy proxy.example:8443\n```\n";
    assert!(parts(&Page::parse(Path::new("page.md"), form, false)).is_err(), "it cannot be pasted");
    let unknown = "```shell\ncurl http://127.0.0.1:8080/\n```\n";
    assert!(parts(&Page::parse(Path::new("page.md"), unknown, false)).is_err(), "no block is left out");
}

/// What runs is what a user has: the test notices a command that fails, a wrong port, and a server that does not start.
#[test]
fn a_command_that_fails_is_reported() {
    let (Ok(files), Ok(network)) = (checkout(), Network::find()) else {
        return say("skipped: there is no checkout, or no network for it");
    };
    if find("curl").is_none() || find("bash").is_none() || !network.is_private() {
        return say("skipped: there is no curl, bash, or network of its own");
    }
    let server = "cargo run --example hello\n# in another terminal:\n";
    for (block, line, message) in [
        (format!("{server}curl -s http://127.0.0.1:8081/\n"), 4, "status 7"),
        ("true\ncmp Cargo.toml README.md\n".to_owned(), 3, "status 1"),
        ("curll http://127.0.0.1:8080/\n".to_owned(), 2, "command not found"),
        ("cargo run --example hello -- 127.0.0.1:notaport\n".to_owned(), 2, "hello"),
        ("cargo run --example no_such_example\n".to_owned(), 2, "no example target"),
        ("cat missing.jpg 2> log &\nuntil test -s log; do sleep 0.1; done\nsleep 0.5\n".to_owned(), 2, "missing.jpg"),
    ] {
        let page = Page::parse(Path::new("page.md"), &format!("```sh\n{block}```\n"), false);
        let error = run(&page, &files, &network).err().unwrap_or_else(|| panic!("this succeeded:\n{block}"));
        assert!(error.contains(message), "{message:?} is not in:\n{error}");
        assert!(error.starts_with(&format!("page.md:{line}: ")), "line {line} is not in:\n{error}");
    }
}

#[test]
fn nothing_is_left_behind() {
    let (Ok(files), Ok(network)) = (checkout(), Network::find()) else {
        return say("skipped: there is no checkout, or no network for it");
    };
    let machine = Machine::new(Path::new("left.md"), &files).expect("a machine");
    let (directory, mark) = (machine.directory.clone(), format!("31{:07}", std::process::id()));
    let mut desk = Desk::open(&machine, &network).expect("a desk");
    let page = Page::parse(Path::new("left.md"), &format!("```sh\nsleep {mark} &\n```\n"), false);
    desk.paste(&parts(&page).expect("parts")[0]).expect("pasted");
    let is_running = || {
        let processes = fs::read_dir("/proc").expect("processes").flatten();
        processes
            .map(|entry| entry.path().join("cmdline"))
            .any(|path| fs::read(path).is_ok_and(|line| String::from_utf8_lossy(&line) == format!("sleep\0{mark}\0")))
    };
    assert!(!Path::new("/proc/self").exists() || is_running(), "the test looks for the wrong process");
    drop(desk);
    drop(machine);
    assert!(!Path::new("/proc/self").exists() || !is_running(), "the process is still running");
    assert!(!directory.exists(), "{} is still there", directory.display());
}
