//! The layers as a table, checked against the sources: which modules and crates a module may name, where a clock may
//! be read, where `unsafe` may stand, and which file calls the application. Test code is exempt.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use self::scan::{Code, code, module_path};

mod circles;
mod scan;

/// Each module, and the modules it may import.
const MODULES: &[(&str, &[&str])] = &[
    ("base", &[]),
    ("h1", &["base"]),
    ("conn", &["base", "h1"]),
    // Of `transport`: the certificates that an outgoing connection trusts.
    ("api", &["base", "h1", "transport"]),
    ("form", &["h1", "api"]),
    ("cookie", &["h1", "api"]),
    ("transport", &["base"]),
    // HTTP/2, without I/O.
    ("h2", &["base", "h1", "conn", "api"]),
    ("engine", &["base", "h1", "h2", "conn", "api", "transport"]),
    ("drive", &["base", "api", "engine"]),
    ("server", &["base", "h1", "api", "transport", "engine", "drive"]),
    ("auth", &["base", "h1", "api"]),
    ("ws", &["base", "h1", "api"]),
    // Of `server`: the loop of blocking requests.
    ("client", &["base", "h1", "conn", "api", "transport", "server"]),
    // Only the public API, by `uncork::`, like any application; and `h2`, which the tunnel speaks by itself.
    ("relay", &["h2"]),
    // For fuzz targets and benchmarks: the layers without I/O.
    ("__fuzzing", &["base", "h1", "conn", "form", "h2", "transport", "server", "auth", "ws", "relay"]),
];

/// The modules that `relay` may name behind `uncork::`; a capital letter is a name of the public API.
const PUBLIC: &[&str] = &["client", "h1", "relay", "pipe", "ws"];

/// Each dependency, and where it may be named.
const CRATES: &[(&str, &[&str])] = &[
    ("bitflags", &["api/", "base/", "engine/"]),
    // In `form`: what its fuzz target compares with.
    ("form_urlencoded", &["api/request.rs", "form/fuzz.rs"]),
    ("httparse", &["h1/", "h2/request.rs"]),
    ("percent_encoding", &["api/request.rs", "relay/nodes/directory/url.rs"]),
    // In `api`: the access log's time.
    ("httpdate", &["h1/", "api/access.rs", "relay/"]),
    // In `api`: the panic of a pipe's waker.
    ("log", &["engine/", "drive/", "transport/", "client/", "relay/", "api/pipe/shared.rs"]),
    ("mio", &["engine/", "transport/"]),
    ("slab", &["engine/", "relay/tunnel/"]),
    ("socket2", &["transport/"]),
    ("libc", &["transport/"]),
    ("rustls", &["transport/tls/"]),
    ("rustls_native_certs", &["transport/tls/"]),
    ("base64", &["auth/basic.rs", "relay/", "ws/handshake/"]),
    ("bytes", &["relay/tunnel/"]),
    ("flate2", &["ws/deflate.rs", "relay/tunnel/spdy/"]),
    ("getrandom", &["auth/digest/nonce.rs", "relay/", "ws/"]),
    ("gethostname", &["relay/gateway/config/"]),
    ("hmac", &["relay/nodes/key.rs"]),
    ("http", &["relay/tunnel/"]),
    ("md5", &["auth/digest/algorithm.rs"]),
    ("saphyr_parser", &["relay/gateway/config/yaml.rs"]),
    ("sha1", &["ws/handshake/"]),
    ("sha2", &["auth/digest/algorithm.rs", "relay/nodes/key.rs", "relay/tunnel/"]),
    ("serde", &["relay/"]),
    ("serde_json", &["relay/"]),
    ("strsim", &["relay/gateway/config/closest.rs"]),
    ("subtle", &["auth/compare.rs", "relay/"]),
];

/// The folders of `src` in which no file may import, over other files or directly, a file that imports it.
const WITHOUT_CIRCLES: &[&str] = &[
    "auth",
    "client",
    "conn",
    "engine",
    "h2",
    "form",
    "relay/gateway",
    "relay/nodes",
    "relay/nodes/directory",
    "relay/rendezvous",
    "relay/session",
    "relay/tunnel/origin",
    "relay/tunnel/proxy",
    "relay/tunnel/spdy",
];

/// Like them, outside of `src`: the C interface.
const C_INTERFACE: &str = "capi/src";

/// Where `unsafe` may stand.
const UNSAFE: &str = "transport/sys.rs";
/// Where a clock may be read.
const CLOCKS: &str = "drive/";
/// Calls that read a clock, or wait for one.
const CLOCK_CALLS: &[&str] = &["Instant::now", "SystemTime::now", ".elapsed", "thread::sleep"];
/// The one file that calls handlers, uploads, producers and upgrades.
const DISPATCH: &str = "engine/dispatch.rs";
/// Calls of the application, by the engine's names of its objects.
const APPLICATION: &[(&str, &[&str])] = &[
    ("handler", &["request", "accept", "alpn", "closed", "stopping"]),
    ("upload", &["data", "end", "pipe"]),
    ("produce", &["produce", "pipe"]),
    ("upgrade", &["ready"]),
    ("then", &["call"]),
];

/// The root of the checkout.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Returns all faults of a file, whose path is relative to `src`.
fn faults(path: &str, code: &Code) -> Vec<String> {
    let mut faults = Vec::new();
    let mut fault = |line: usize, what: String| faults.push(format!("src/{path}:{line}: {what}"));
    let own = module_path(path);
    let module = own[0].as_str();
    let Some((_, allowed)) = MODULES.iter().find(|(name, _)| *name == module) else {
        return if path == "lib.rs" { faults } else { vec![format!("src/{path}:1: unknown module {module}")] };
    };

    for name in code.paths() {
        let (line, first) = (name.line, name.path[0].as_str());
        if name.is_renamed && name.path.iter().all(|part| ["crate", "self", "super"].contains(&part.as_str())) {
            fault(line, "another name for a module hides what is imported by it".to_owned());
        }
        // `pub(crate)` and `pub(super)` import nothing.
        let import = name.absolute(&own).filter(|_| name.path.len() > 1).and_then(|path| path.first().cloned());
        if let Some(import) = import.filter(|import| import != module && !allowed.contains(&import.as_str())) {
            fault(line, format!("{module} must not import {import}"));
        }
        if first == "uncork" && module != "relay" {
            fault(line, format!("{module} is in the crate: `crate::`, not `uncork::`"));
        } else if first == "uncork" {
            let import = name.path.get(1).map_or("uncork", |name| name);
            if !PUBLIC.contains(&import) && !import.starts_with(char::is_uppercase) {
                fault(line, format!("{module} must not import {import}, which is private"));
            }
        }
        let places = CRATES.iter().find(|(name, _)| *name == first).filter(|_| name.is_use || name.path.len() > 1);
        if places.is_some_and(|(_, places)| !places.iter().any(|place| path.starts_with(place))) {
            fault(line, format!("{first} may not be named here"));
        }
    }

    if path != UNSAFE {
        code.lines("unsafe").for_each(|line| fault(line, format!("`unsafe` may only be in {UNSAFE}")));
    }
    if !path.starts_with(CLOCKS) {
        for call in CLOCK_CALLS {
            code.lines(call).for_each(|line| fault(line, format!("{call}: only {CLOCKS} may read a clock")));
        }
    }
    if module == "engine" && path != DISPATCH {
        let calls = APPLICATION.iter().flat_map(|(object, calls)| calls.iter().map(move |call| (object, call)));
        for (object, call) in calls {
            for call in [format!("{object}.{call}"), format!("{object}.as_mut().{call}")] {
                code.lines(&call).for_each(|line| fault(line, format!("{call}: only {DISPATCH} may call it")));
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
fn every_module_imports_only_what_it_may() {
    let src = root().join("src");
    let mut files = Vec::new();
    sources(&src, &mut files);
    let files = files.into_iter().map(|path| (code(&fs::read_to_string(&path).expect("a source")), path));
    let files: Vec<(Code, PathBuf)> = files.collect();
    let tests: BTreeSet<PathBuf> = files
        .iter()
        .flat_map(|(code, path)| {
            // Modules of `x.rs` lie in `x/`, of `mod.rs` beside it; a `#[path]` is beside it too.
            let (beside, below) = (path.parent().expect("src").to_owned(), path.with_extension(""));
            code.test_files.iter().flat_map(move |file| [beside.join(file), below.join(file)])
        })
        .collect();
    let mut found = Vec::new();
    // Everything below a test module is test code, too.
    let is_test = |path: &Path| tests.iter().any(|test| path == test || path.starts_with(test.with_extension("")));
    for (code, path) in files.iter().filter(|(_, path)| !is_test(path)) {
        let name = path.strip_prefix(&src).expect("in src").to_string_lossy().replace('\\', "/");
        found.extend(faults(&name, code));
    }
    assert!(files.len() > 30 && tests.len() > 3, "are these all sources?");
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

/// Requests of the session relay's and the rendezvous' clients cannot cause outgoing connections: these services do
/// not contain the code for it. (The gateway, the tunnel and nodes connect as their configuration says.)
#[test]
fn the_relay_services_do_not_connect() {
    let relay = root().join("src/relay");
    let mut files: Vec<PathBuf> = ["addresses.rs", "config.rs", "wire.rs"].map(|name| relay.join(name)).into();
    for service in ["rendezvous", "session"] {
        sources(&relay.join(service), &mut files);
    }
    assert!(files.len() > 15, "are these all sources?");
    for path in files {
        let text = fs::read_to_string(&path).expect("a source");
        for line in text.lines().filter(|line| !line.trim_start().starts_with("//")) {
            let is_named = |word: &&str| line.replace("ClientError", "").contains(word);
            let found = ["client::", "Client", "TcpStream", "UnixStream", "UdpSocket", "adopt", "dial", "Dial"]
                .into_iter()
                .find(is_named);
            assert_eq!(found, None, "{}: {line}", path.display());
        }
    }
}

/// So have the essay in `lib.rs`, and `CONTRIBUTING.md`.
#[test]
fn the_manuals_have_the_same_table() {
    for (page, prefix) in [("src/lib.rs", "//! | "), ("CONTRIBUTING.md", "| ")] {
        let text = fs::read_to_string(root().join(page)).expect(page);
        for (module, allowed) in MODULES {
            let row = text.lines().filter_map(|line| line.strip_prefix(prefix)).find(|line| {
                line.starts_with(&format!("`{module}` |")) || line.starts_with(&format!("[`{module}`] |"))
            });
            // `relay` imports the public API, which is said in words.
            if ["relay", "__fuzzing"].contains(module) {
                continue;
            }
            let row = row.unwrap_or_else(|| panic!("{page} does not name {module}"));
            let listed = row.trim_end_matches(" |").rsplit("| ").next().unwrap_or_default().trim_matches('`');
            let listed: BTreeSet<&str> = listed.split(' ').filter(|name| *name != "nothing").collect();
            assert_eq!(listed, allowed.iter().copied().collect(), "{module}, in {page} and here");
        }
    }
}

#[test]
fn every_dependency_has_its_place() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).expect("a manifest");
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
        ("h1/head.rs",           "use crate::{\n    base::Buf,\n    conn::ServerConn,\n};",      3),
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
        ("relay/session.rs",     "use uncork::{Action,\n engine::Engine};",                      2),
        ("relay/session.rs",     "use crate::Action;",                                           1),
        ("relay/session/mod.rs", "use crate::relay::x;\nuse mio;",                               2),
        ("base/a.rs",            "#[cfg(test)]\nmod tests {\n use crate::h1; }",                 0),
        ("base/a.rs",            "#[cfg(test)]\nmod tests;\nuse crate::h1;",                     3),
        ("base/a.rs",            "const R: &str = r#\"\"crate::h1\"#; use crate::h1;",           1),
        ("base/a.rs",            "macro_rules! m {\n () => { $crate::engine::x() } }",          2),
        ("base/a.rs",            "use crate as c;",                                              1),
        ("base/a.rs",            "use crate::{self as c};",                                      1),
        ("base/a.rs",            "use super::super as c;",                                       1),
        ("base/a.rs",            "pub(crate) fn f(x: &crate::base::X) {} pub(super) struct S;",  0),
        ("base/a.rs",            "fn f() -> X { return ::mio::x::<Y>() }",                       1),
        ("base/a.rs",            "use {\n mio as m, std::io };",                                 2),
        ("base/a.rs",            "fn f() { a::<B>::c(); let http = self::http::x; http(\"\") }", 0),
        ("base/a.rs",            "extern crate mio;",                                            1),
        ("other/a.rs",           "",                                                             1),
        ("lib.rs",               "pub use api::X;",                                              0),
    ];
    for (path, source, line) in ROWS {
        let found = faults(path, &code(source));
        match line {
            0 => assert!(found.is_empty(), "{source}: {found:?}"),
            n => assert!(found.iter().any(|f| f.starts_with(&format!("src/{path}:{n}: "))), "{source}: {found:?}"),
        }
    }
}
