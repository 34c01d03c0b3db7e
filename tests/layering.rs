//! The layers as a table, checked against the sources: which modules and crates a module may name, where a clock may
//! be read, where `unsafe` may stand, and which file calls the application. Test code is exempt.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// Each module, and the modules it may import.
const ROOMS: &[(&str, &[&str])] = &[
    ("base", &[]),
    ("h1", &["base"]),
    ("conn", &["base", "h1"]),
    // Of `transport`: the certificates that an outgoing connection trusts.
    ("api", &["base", "h1", "transport"]),
    ("transport", &["base"]),
    ("engine", &["base", "h1", "conn", "api", "transport"]),
    ("drive", &["base", "api", "engine"]),
    ("server", &["base", "api", "transport", "engine", "drive"]),
    ("ws", &["base", "h1", "api"]),
    // Of `server`: the loop of blocking requests.
    ("client", &["base", "h1", "conn", "api", "transport", "server"]),
    // Only the public API, by `uncork::`, like any application.
    ("relay", &[]),
    // For fuzz targets and benchmarks: the layers without I/O.
    ("__fuzzing", &["base", "h1", "conn", "transport", "ws", "relay"]),
];

/// The modules that `relay` may name behind `uncork::`; a capital letter is a name of the public API.
const PUBLIC: &[&str] = &["client", "h1", "relay", "pipe", "ws"];

/// Each dependency, and where it may be named.
const CRATES: &[(&str, &[&str])] = &[
    ("bitflags", &["api/", "base/", "engine/"]),
    ("httparse", &["h1/"]),
    // In `api`: the access log's time.
    ("httpdate", &["h1/", "api/access.rs", "relay/"]),
    ("log", &["engine/", "drive/", "transport/", "client/", "relay/"]),
    ("mio", &["engine/", "transport/"]),
    ("slab", &["engine/", "relay/tunnel/"]),
    ("socket2", &["transport/"]),
    ("libc", &["transport/"]),
    ("rustls", &["transport/tls/"]),
    ("rustls_native_certs", &["transport/tls/"]),
    ("base64", &["relay/", "ws/handshake/"]),
    ("bytes", &["relay/tunnel/"]),
    ("flate2", &["ws/deflate.rs", "relay/tunnel/spdy/"]),
    ("getrandom", &["relay/", "ws/"]),
    ("gethostname", &["relay/gateway/config/"]),
    ("h2", &["relay/tunnel/"]),
    ("http", &["relay/tunnel/"]),
    ("saphyr_parser", &["relay/gateway/config/yaml.rs"]),
    ("sha1", &["ws/handshake/"]),
    ("sha2", &["relay/tunnel/"]),
    ("serde", &["relay/"]),
    ("serde_json", &["relay/"]),
    ("subtle", &["relay/"]),
    // Two traits, and the types in their signatures.
    ("tokio", &["relay/tunnel/wire.rs"]),
];

/// The folders of `src` in which no file may import, over other files or directly, a file that imports it.
const WITHOUT_CIRCLES: &[&str] = &["client", "engine", "relay/gateway", "relay/rendezvous", "relay/session", "relay/tunnel/origin", "relay/tunnel/proxy", "relay/tunnel/spdy"];

/// Where `unsafe` may stand.
const UNSAFE: &str = "transport/sys.rs";
/// Where a clock may be read.
const CLOCKS: &str = "drive/";
/// Calls that read a clock, or wait for one.
const CLOCK_CALLS: &[&str] = &["Instant::now", "SystemTime::now", ".elapsed(", "thread::sleep"];
/// The one file that calls the application.
const DISPATCH: &str = "engine/dispatch.rs";
/// Calls of the application, by the engine's names of its objects.
const APPLICATION: &[(&str, &[&str])] = &[
    ("handler", &["request", "accept", "alpn", "closed", "stopping"]),
    ("upload", &["data", "end", "pipe"]),
    ("produce", &["produce", "pipe"]),
    ("upgrade", &["ready"]),
    ("then", &["call"]),
];

/// Returns the source without comments, strings and test code. Length and lines stay the same.
fn code(source: &str) -> String {
    without_tests(&without_words(source))
}

fn blank(bytes: &mut [u8]) {
    bytes.iter_mut().filter(|b| **b != b'\n').for_each(|b| *b = b' ');
}

fn without_words(source: &str) -> String {
    let mut bytes = source.as_bytes().to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        let find = |what: &str, from: usize| {
            let found = rest[from..].windows(what.len()).position(|window| window == what.as_bytes());
            found.map_or(rest.len(), |n| from + n + what.len())
        };
        let raw = rest.strip_prefix(b"r").map(|rest| rest.iter().take_while(|b| **b == b'#').count());
        let after_word = at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_');
        let n = match rest {
            [b'/', b'/', ..] => find("\n", 0),
            [b'/', b'*', ..] => find("*/", 2),
            [b'r', ..] if raw.is_some_and(|n| rest.get(n + 1) == Some(&b'"')) && !after_word => {
                find(&format!("\"{}", "#".repeat(raw.unwrap_or(0))), raw.unwrap_or(0) + 2)
            }
            [b'"', ..] => {
                let mut end = 1;
                while end < rest.len() && rest[end] != b'"' {
                    end += if rest[end] == b'\\' { 2 } else { 1 };
                }
                (end + 1).min(rest.len())
            }
            // A character, not a lifetime.
            [b'\'', b'\\', ..] => find("'", 3),
            [b'\'', _, b'\'', ..] => 3,
            _ => {
                at += 1;
                continue;
            }
        };
        blank(&mut bytes[at..at + n]);
        at += n;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Removes everything behind `#[cfg(test)]`: up to the `;` or to the closing brace.
fn without_tests(source: &str) -> String {
    let mut bytes = source.as_bytes().to_vec();
    let mut from = 0;
    while let Some(found) = source[from..].find("#[cfg(test)]") {
        let start = from + found;
        let mut depth = 0;
        let mut end = source.len();
        for (i, b) in source.bytes().enumerate().skip(start) {
            match b {
                b'{' => depth += 1,
                b'}' => depth -= 1,
                _ => {}
            }
            if depth == 0 && matches!(b, b'}' | b';') {
                end = i + 1;
                break;
            }
        }
        blank(&mut bytes[start..end]);
        from = end;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Returns the names of the files that are test modules: `mod x;` behind `#[cfg(test)]`, with or without a path.
fn test_files(source: &str) -> Vec<String> {
    let mut files = Vec::new();
    for part in source.split("#[cfg(test)]").skip(1) {
        let Some((declaration, _)) = part.split_once([';', '{']) else { continue };
        if let Some((_, path)) = declaration.split_once("#[path = \"") {
            files.extend(path.split('"').next().map(str::to_owned));
        } else if let Some((_, name)) = declaration.split_once("mod ") {
            files.push(format!("{}.rs", name.trim()));
        }
    }
    files
}

/// Returns every position of `word` as a whole word.
fn places<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(word).map(|(at, _)| at).filter(move |&at| {
        let (before, behind) = (&code[..at], &code[at + word.len()..]);
        let starts = !word.starts_with(is_part) || !before.ends_with(is_part);
        starts && (!word.ends_with(is_part) || !behind.starts_with(is_part))
    })
}

/// Returns the first names behind a `::`: one, or several in braces.
fn names(behind: &str) -> Vec<&str> {
    let first = |text: &str| {
        let text = text.trim_start();
        let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
        (text.as_ptr() as usize - behind.as_ptr() as usize, end)
    };
    let of = |text| {
        let (from, len) = first(text);
        &behind[from..from + len]
    };
    let Some(group) = behind.trim_start().strip_prefix('{') else { return vec![of(behind)] };
    let (mut found, mut depth, mut fresh) = (Vec::new(), 0, true);
    for (i, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => fresh = true,
            c if fresh && !c.is_whitespace() => {
                found.push(of(&group[i..]));
                fresh = false;
            }
            _ => {}
        }
    }
    found
}

/// Returns all faults of a file, whose path is relative to `src`.
fn faults(path: &str, source: &str) -> Vec<String> {
    let code = code(source);
    let mut faults = Vec::new();
    let mut fault = |at: usize, what: String| {
        faults.push(format!("src/{path}:{}: {what}", code[..at].matches('\n').count() + 1));
    };
    let room = path.split('/').next().unwrap_or_default().trim_end_matches(".rs");
    let Some((_, allowed)) = ROOMS.iter().find(|(name, _)| *name == room) else {
        return if path == "lib.rs" { faults } else { vec![format!("src/{path}:1: {room} is no room of the house")] };
    };

    // How many `super::` leave the module.
    let depth = path.split('/').filter(|part| *part != "mod.rs").count();
    let mut imports: Vec<(usize, &str)> = Vec::new();
    for at in places(&code, "crate::") {
        imports.extend(names(&code[at + 7..]).into_iter().map(|name| (at, name)));
    }
    let mut behind = 0;
    for at in places(&code, "super::") {
        if at < behind {
            continue;
        }
        let mut supers = 0;
        behind = at;
        while code[behind..].starts_with("super::") {
            behind += 7;
            supers += 1;
        }
        if supers >= depth {
            imports.extend(names(&code[behind..]).into_iter().map(|name| (at, name)));
        }
    }
    for (at, name) in imports {
        if name != room && !allowed.contains(&name) {
            fault(at, format!("{room} must not import {name}"));
        }
    }
    for at in places(&code, "uncork::") {
        for name in names(&code[at + 8..]) {
            if room != "relay" {
                fault(at, format!("{room} is no outsider: `crate::`, not `uncork::`"));
            } else if !PUBLIC.contains(&name) && !name.starts_with(char::is_uppercase) {
                fault(at, format!("{room} must not import {name}, which is private"));
            }
        }
    }

    for (name, where_) in CRATES {
        for at in places(&code, name) {
            // `::name` is the crate's name as well; `self::name` is not.
            let inner = code[..at].strip_suffix("::").is_some_and(|before| before.ends_with(char::is_alphanumeric));
            let named = code[at + name.len()..].starts_with("::") && !inner;
            let imported = code[..at].ends_with("use ");
            if (named || imported) && !where_.iter().any(|place| path.starts_with(place)) {
                fault(at, format!("{name} may not be named here"));
            }
        }
    }

    if path != UNSAFE {
        places(&code, "unsafe").for_each(|at| fault(at, format!("unsafe belongs into {UNSAFE}")));
    }
    if !path.starts_with(CLOCKS) {
        for call in CLOCK_CALLS {
            places(&code, call).for_each(|at| fault(at, format!("{call}: only {CLOCKS} reads a clock")));
        }
    }
    if room == "engine" && path != DISPATCH {
        for (object, calls) in APPLICATION {
            for call in *calls {
                for call in [format!("{object}.{call}("), format!("{object}.as_mut().{call}(")] {
                    places(&code, &call).for_each(|at| fault(at, format!("{call}): only {DISPATCH} calls it")));
                }
            }
        }
    }
    faults
}

fn sources(dir: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
}

#[test]
fn every_room_keeps_to_itself() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&src, &mut files);
    let read = |path: &Path| fs::read_to_string(path).expect("a source");
    let tests: BTreeSet<PathBuf> = files
        .iter()
        .flat_map(|path| {
            // Modules of `x.rs` lie in `x/`, of `mod.rs` beside it; a `#[path]` is beside it too.
            let (beside, below) = (path.parent().expect("src").to_owned(), path.with_extension(""));
            test_files(&read(path)).into_iter().flat_map(move |file| [beside.join(&file), below.join(&file)])
        })
        .collect();
    let mut found = Vec::new();
    // Everything below a test module is test code, too.
    let is_test = |path: &Path| tests.iter().any(|test| path == test || path.starts_with(test.with_extension("")));
    for path in files.iter().filter(|path| !is_test(path)) {
        let name = path.strip_prefix(&src).expect("in src").to_string_lossy().replace('\\', "/");
        found.extend(faults(&name, &read(path)));
    }
    assert!(files.len() > 30 && tests.len() > 3, "are these all sources?");
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

/// The modules of one folder of `src`: for each, its path within the folder (empty for the folder's own `mod.rs`), and its
/// code.
type Modules = BTreeMap<Vec<String>, String>;

/// The path of a module in its folder: `a/mod.rs` and `a.rs` are both `["a"]`.
fn module_path(file: &str) -> Vec<String> {
    let path = file.trim_end_matches(".rs").split('/').map(str::to_owned);
    path.filter(|part| part != "mod").collect()
}

/// Expands what follows a `::` into full paths: `a::{b, c::D}` is `[a, b]` and `[a, c, D]`.
fn expand(text: &str, prefix: &[String], into: &mut Vec<Vec<String>>) -> usize {
    let start = text.len() - text.trim_start().len();
    let rest = &text[start..];
    if let Some(group) = rest.strip_prefix('{') {
        let mut at = 0;
        while at < group.len() && !group[at..].trim_start().starts_with('}') {
            let n = expand(&group[at..], prefix, into);
            let behind = &group[at + n..];
            at += n + behind.find([',', '}']).unwrap_or(behind.len());
            at += usize::from(group[at..].starts_with(','));
        }
        return start + 1 + at + group[at..].find('}').map_or(0, |end| end + 1);
    }
    let len = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
    let path = [prefix, &[rest[..len].to_owned()]].concat();
    match rest[len..].strip_prefix("::") {
        Some(behind) => start + len + 2 + expand(behind, &path, into),
        None => {
            into.push(path);
            start + len
        }
    }
}

/// The modules of its folder that a module imports.
fn imports(folder: &str, path: &[String], modules: &Modules) -> BTreeSet<Vec<String>> {
    let code = &modules[path];
    let mut found = Vec::new();
    let own = format!("crate::{}::", folder.replace('/', "::"));
    for at in places(code, &own) {
        expand(&code[at + own.len()..], &[], &mut found);
    }
    let mut behind = 0;
    for at in places(code, "super::").filter(|at| !code[..*at].ends_with("::")) {
        let mut supers = 0;
        behind = behind.max(at);
        while code[behind..].starts_with("super::") {
            behind += 7;
            supers += 1;
        }
        if let Some(depth) = path.len().checked_sub(supers) {
            expand(&code[behind..], &path[..depth], &mut found);
        }
    }
    // A module names those below it without a prefix, or behind `self::`.
    for child in modules.keys().filter(|child| child.len() == path.len() + 1 && child.starts_with(path)) {
        let call = format!("{}::", child[path.len()]);
        let bare = |at: &usize| !code[..*at].ends_with("::") || code[..*at].ends_with("self::");
        for at in places(code, &call).filter(bare) {
            expand(&code[at..], path, &mut found);
        }
    }
    for at in places(code, "self::") {
        expand(&code[at + 6..], path, &mut found);
    }
    // The longest part of the path that is a module; the rest are names in it.
    let module =
        |name: Vec<String>| (0..=name.len()).rev().map(|n| name[..n].to_vec()).find(|m| modules.contains_key(m));
    found.into_iter().filter_map(module).filter(|module| module != path).collect()
}

/// A circle of imports among the modules of a folder, if there is one: `a -> b -> a`.
fn circle(folder: &str, modules: &Modules) -> Option<String> {
    let mut edges: BTreeMap<&Vec<String>, BTreeSet<Vec<String>>> =
        modules.keys().map(|path| (path, imports(folder, path, modules))).collect();
    // A module that imports none of the others left is in no circle.
    while let Some(free) =
        edges.iter().find(|(_, to)| to.iter().all(|to| !edges.contains_key(to))).map(|(path, _)| *path)
    {
        edges.remove(free);
    }
    let mut at: &Vec<String> = edges.keys().next()?;
    let mut way: Vec<&Vec<String>> = Vec::new();
    while !way.contains(&at) {
        way.push(at);
        at = edges.keys().find(|path| edges[at].contains(**path))?;
    }
    let from = way.iter().position(|path| *path == at)?;
    let name = |path: &&Vec<String>| if path.is_empty() { "mod".to_owned() } else { path.join("/") };
    Some(way[from..].iter().chain([&at]).map(name).collect::<Vec<_>>().join(" -> "))
}

#[test]
fn no_circle_between_the_files_of_a_folder() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for folder in WITHOUT_CIRCLES {
        let mut files = Vec::new();
        sources(&src.join(folder), &mut files);
        let mut modules = Modules::new();
        for path in &files {
            let name = path.strip_prefix(src.join(folder)).expect("in the folder").to_string_lossy().replace('\\', "/");
            modules.insert(module_path(&name), code(&fs::read_to_string(path).expect("a source")));
        }
        assert!(modules.len() > 3, "are these all files of {folder}?");
        assert_eq!(circle(folder, &modules), None, "in src/{folder}");
    }
}

/// The files of a made-up folder: name and source.
type Files = &'static [(&'static str, &'static str)];

/// Made-up folders: each circle must be found.
#[test]
fn circles_are_found() {
    #[rustfmt::skip]
    const ROWS: &[(Files, Option<&str>)] = &[
        (&[("mod.rs", "mod a; mod b; use self::a::A;"), ("a.rs", "use super::b::B;"), ("b.rs", "")], None),
        (&[("mod.rs", "mod a; mod b;"), ("a.rs", "use super::{\n    b::B,\n    c,\n};"), ("b.rs", "use super::a::A;")],
            Some("a -> b -> a")),
        (&[("mod.rs", "mod a; use a::A;"), ("a.rs", "use super::Name;")], Some("mod -> a -> mod")),
        (&[("mod.rs", "mod a; fn f() { a::g() }"), ("a.rs", "use super::Name;")], Some("mod -> a -> mod")),
        (&[("mod.rs", "mod a;"), ("a.rs", "use super::Name; mod tests { use super::*; }")], None),
        (&[("mod.rs", ""), ("a/mod.rs", "use self::b::B;"), ("a/b.rs", "use super::super::c::C;"), ("c.rs", "use crate::x::a::A;")],
            Some("a -> a/b -> c -> a")),
        (&[("mod.rs", ""), ("a.rs", "use crate::x::{b::{B, D}, e};"), ("b.rs", ""), ("e.rs", "use super::a;")], Some("a -> e -> a")),
    ];
    for (files, expected) in ROWS {
        let modules = files.iter().map(|(file, source)| (module_path(file), code(source))).collect();
        assert_eq!(circle("x", &modules).as_deref(), *expected, "{files:?}");
    }
}

/// Requests of the session relay's and the rendezvous' clients cannot cause outgoing connections: these services do
/// not contain the code for it. (The gateway and the tunnel connect as their configuration says.)
#[test]
fn the_relays_connect_to_nobody() {
    let relay = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/relay");
    let mut files: Vec<PathBuf> = ["addresses.rs", "config.rs", "wire.rs"].map(|name| relay.join(name)).into();
    for room in ["rendezvous", "session"] {
        sources(&relay.join(room), &mut files);
    }
    assert!(files.len() > 15, "are these all sources?");
    for path in files {
        let text = fs::read_to_string(&path).expect("a source");
        for line in text.lines().filter(|line| !line.trim_start().starts_with("//")) {
            let knows = |word: &&str| line.replace("ClientError", "").contains(word);
            let found = ["client::", "Client", "TcpStream", "UnixStream", "UdpSocket", "adopt", "dial", "Dial"]
                .into_iter()
                .find(knows);
            assert_eq!(found, None, "{}: {line}", path.display());
        }
    }
}

/// The essay in `lib.rs` has the same table.
#[test]
fn the_essay_has_the_same_table() {
    let lib = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs")).expect("lib.rs");
    for (room, allowed) in ROOMS {
        let row = lib
            .lines()
            .filter_map(|line| line.strip_prefix("//! | "))
            .find(|line| line.starts_with(&format!("`{room}` |")) || line.starts_with(&format!("[`{room}`] |")));
        let Some(row) = row else {
            assert!(["relay", "__fuzzing"].contains(room), "the essay does not name {room}");
            continue;
        };
        let told = row.trim_end_matches(" |").rsplit("| ").next().unwrap_or_default().trim_matches('`');
        let told: BTreeSet<&str> = told.split(' ').filter(|name| *name != "nothing").collect();
        assert_eq!(told, allowed.iter().copied().collect(), "{room}, in the essay and here");
    }
}

#[test]
fn every_dependency_has_its_place() {
    let manifest = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml")).expect("a manifest");
    let (_, rest) = manifest.split_once("\n[dependencies]\n").expect("dependencies");
    let lines = rest.split("\n[").next().unwrap_or_default().lines();
    let named: BTreeSet<String> = lines
        .filter(|line| !line.trim_start().starts_with('#'))
        .filter_map(|line| line.split_once('='))
        .map(|(name, _)| name.trim().replace('-', "_"))
        .collect();
    assert_eq!(named, CRATES.iter().map(|(name, _)| (*name).to_owned()).collect(), "the table CRATES and Cargo.toml");
}

/// Made-up sources: each fault must be found, in its line.
#[test]
fn offenders_are_found() {
    #[rustfmt::skip]
    const ROWS: &[(&str, &str, usize)] = &[
        // path                  source                                                          line, 0 for none
        ("base/a.rs",            "use crate::h1::Scan;",                                         1),
        ("base/a.rs",            "//! crate::h1\nfn f() { crate::engine::go() }",                2),
        ("base/a.rs",            "use super::super::h1;",                                        1),
        ("base/a.rs",            "use super::buf::Buf;",                                         0),
        ("base/mod.rs",          "use super::h1;",                                               1),
        ("base/mod.rs",          "use std::{io, super_::x};\nconst S: &str = \"crate::h1\";",    0),
        ("h1/head.rs",           "use crate::{\n    base::{buf::Buf, conn},\n};",                0),
        ("h1/head.rs",           "use crate::{\n    base::Buf,\n    conn::ServerConn,\n};",      1),
        ("h1/head.rs",           "fn f<'a>(x: &'a str) { '\"'; crate::conn::x() }",              1),
        ("conn/a/b.rs",          "use super::super::super::api;",                                1),
        ("conn/a/b.rs",          "use super::super::halves;",                                    0),
        ("conn/server.rs",       "use mio::Token;",                                              1),
        ("transport/mod.rs",     "use crate::h1::Misbehaved;",                                   1),
        ("transport/mod.rs",     "fn f() { ::rustls::x() }",                                     1),
        ("transport/tls/x.rs",   "use rustls::Y;",                                               0),
        ("engine/mod.rs",        "use crate::drive;",                                            1),
        ("engine/mod.rs",        "let t = Instant::now();",                                      1),
        ("engine/mod.rs",        "\nlet t = start.elapsed();",                                   2),
        ("drive/mod.rs",         "let t = Instant::now();",                                      0),
        ("drive/mod.rs",         "use crate::h1;",                                               1),
        ("engine/job.rs",        "handler.request(r)",                                           1),
        ("engine/job.rs",        "let x = upload\n    .data(d); upload.as_mut().data(d)",        2),
        ("engine/dispatch.rs",   "handler.request(r)",                                           0),
        ("engine/job.rs",        "unsafe { f() }",                                               1),
        ("engine/job.rs",        "#![deny(unsafe_code)] // unsafe",                              0),
        ("transport/sys.rs",     "unsafe { f() }",                                               0),
        ("relay/session.rs",     "use uncork::{Action, h1::Headers};",                           0),
        ("relay/session.rs",     "use uncork::{Action,\n engine::Engine};",                      1),
        ("relay/session.rs",     "use crate::Action;",                                           1),
        ("relay/session/mod.rs", "use crate::relay::x;\nuse mio;",                               2),
        ("base/a.rs",            "#[cfg(test)]\nmod tests {\n use crate::h1; }",                 0),
        ("base/a.rs",            "#[cfg(test)]\nmod tests;\nuse crate::h1;",                     3),
        ("base/a.rs",            "const R: &str = r#\"\"crate::h1\"#; use crate::h1;",           1),
        ("other/a.rs",           "",                                                             1),
        ("lib.rs",               "pub use api::X;",                                              0),
    ];
    for (path, source, line) in ROWS {
        let found = faults(path, source);
        match line {
            0 => assert!(found.is_empty(), "{source}: {found:?}"),
            n => assert!(found.iter().any(|f| f.starts_with(&format!("src/{path}:{n}: "))), "{source}: {found:?}"),
        }
    }
}
