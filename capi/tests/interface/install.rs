//! `make install`: what it installs is found by pkg-config, and programs that are linked with it run.

use std::{env, ffi::OsStr, fs, path::Path, process::Command};

use crate::support::{Library, has, run};

fn words(command: &mut Command) -> Vec<String> {
    let output = run(command);
    String::from_utf8(output.stdout).expect("text").split_whitespace().map(str::to_owned).collect()
}

#[test]
fn what_is_installed_is_found_by_pkg_config() {
    if !has("make") || !has("pkg-config") {
        return println!("skipped: make and pkg-config are not installed");
    }
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let test = env::current_exe().expect("this program has a path");
    let root = Library::get().dir().join("installed");
    let _ = fs::remove_dir_all(&root);
    let make = |target: &str| {
        let mut make = Command::new("make");
        make.arg("-C").arg(package).arg(target).arg("PREFIX=/opt/uncork").env_remove("MAKEFLAGS");
        make.arg(format!("DESTDIR={}", root.display()));
        run(make.arg(format!("BUILT={}", test.parent().expect("a directory").display())));
    };
    make("install");
    let libraries = root.join("opt/uncork/lib");
    let pkg_config = |arguments: &[&str]| {
        let mut command = Command::new("pkg-config");
        command.env("PKG_CONFIG_PATH", libraries.join("pkgconfig")).env("PKG_CONFIG_SYSROOT_DIR", &root);
        words(command.args(arguments).arg("libmicrohttpd"))
    };
    assert_eq!(pkg_config(&["--modversion"]), ["1.0.1"]);
    pkg_config(&["--atleast-version=0.9.71"]);
    let build = |name: &str, flags: &[String], link: &[&OsStr]| {
        let program = root.join(name);
        let mut cc = Command::new("cc");
        cc.args(flags).arg(package.join("tests/c/text.c")).arg("-I").arg(package.join("tests/c")).args(link);
        run(cc.arg("-o").arg(&program));
        program
    };
    let libs = pkg_config(&["--libs"]);
    let libs: Vec<&OsStr> = libs.iter().map(OsStr::new).collect();
    let shared = build("shared", &pkg_config(&["--cflags"]), &libs);
    // The program asks for the soname.
    run(Command::new("timeout").arg("60").arg(shared).env("LD_LIBRARY_PATH", &libraries));
    let archive = libraries.join("libmicrohttpd.a");
    let private = ["-lpthread", "-lm", "-ldl"].map(OsStr::new);
    let link: Vec<&OsStr> = [archive.as_os_str()].into_iter().chain(private).collect();
    run(Command::new("timeout").arg("60").arg(build("static", &pkg_config(&["--cflags"]), &link)));
    make("uninstall");
    assert!(fs::read_dir(&libraries).expect("a directory").all(|entry| entry.expect("an entry").path().is_dir()));
}
