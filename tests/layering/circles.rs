//! Circles of imports among the files of a folder.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use super::{
    C_INTERFACE, WITHOUT_CIRCLES, root,
    scan::{Name, code, module_path},
    sources,
};

/// The modules of one folder of `src`: the paths in each, by its own path within the folder (empty for its `mod.rs`).
type Modules = BTreeMap<Vec<String>, Vec<Name>>;

/// Returns the modules of its folder that a module imports.
fn imports(folder: &str, path: &[String], modules: &Modules) -> BTreeSet<Vec<String>> {
    let folder = module_path(folder);
    let own = [&folder, path].concat();
    let found = modules[path].iter().filter(|name| name.is_use || name.path.len() > 1).filter_map(|name| {
        // A module names those below it without a prefix.
        let child = || [path, &name.path[..1]].concat();
        let below = || modules.contains_key(&child()).then(|| [path, &name.path].concat());
        match name.absolute(&own) {
            Some(path) => path.strip_prefix(folder.as_slice()).map(<[String]>::to_vec),
            None => below(),
        }
    });
    // The longest part of the path that is a module; the rest are names in it.
    let module =
        |name: Vec<String>| (0..=name.len()).rev().map(|n| name[..n].to_vec()).find(|m| modules.contains_key(m));
    found.filter_map(module).filter(|module| module != path).collect()
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
    let mut chain: Vec<&Vec<String>> = Vec::new();
    while !chain.contains(&at) {
        chain.push(at);
        at = edges.keys().find(|path| edges[at].contains(**path))?;
    }
    let from = chain.iter().position(|path| *path == at)?;
    let name = |path: &&Vec<String>| if path.is_empty() { "mod".to_owned() } else { path.join("/") };
    Some(chain[from..].iter().chain([&at]).map(name).collect::<Vec<_>>().join(" -> "))
}

#[test]
fn no_circle_between_the_files_of_a_folder() {
    // The C interface is a crate of its own: its folder has no path within the crate.
    let folders = WITHOUT_CIRCLES.iter().map(|folder| (format!("src/{folder}"), *folder));
    for (path, folder) in folders.chain([(C_INTERFACE.to_owned(), "")]) {
        let path = root().join(path);
        let mut files = Vec::new();
        sources(&path, &mut files);
        let mut modules = Modules::new();
        for file in &files {
            let name = file.strip_prefix(&path).expect("in the folder").to_string_lossy().replace('\\', "/");
            modules.insert(module_path(&name), code(&fs::read_to_string(file).expect("a source")).paths());
        }
        assert!(modules.len() > 3, "are these all files of {}?", path.display());
        assert_eq!(circle(folder, &modules), None, "in {}", path.display());
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
        (&[("mod.rs", "mod a; pub(crate) use {a as b};"), ("a.rs", "use super::Name as N; pub(super) fn f() {}")],
            Some("mod -> a -> mod")),
        (&[("mod.rs", "mod a; m!(a::b);"), ("a.rs", "pub(super) fn f() { self.g() } pub(in crate::x) fn g() {}")], None),
        (&[("mod.rs", ""), ("a/mod.rs", "use self::b::B;"), ("a/b.rs", "use super::{super::c::C, d::D};"), ("a/d.rs", ""), ("c.rs", "use super::a::A;")],
            Some("a -> a/b -> c -> a")),
        (&[("mod.rs", ""), ("a/mod.rs", "use self::b::B;"), ("a/b.rs", "use super::{super::{c::C, e::E}, d::D};"), ("a/d.rs", ""), ("c.rs", ""), ("e.rs", "")], None),
        (&[("mod.rs", ""), ("a.rs", "use crate::x::{b::{B, D}, e};"), ("b.rs", ""), ("e.rs", "use super::a;")], Some("a -> e -> a")),
    ];
    for (files, expected) in ROWS {
        let modules = files.iter().map(|(file, source)| (module_path(file), code(source).paths())).collect();
        assert_eq!(circle("x", &modules).as_deref(), *expected, "{files:?}");
    }
}
