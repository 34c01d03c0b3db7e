//! A fresh machine: a checkout, an empty home, and the programs of the tests.

use std::{
    env,
    fs::{self, File, Permissions},
    io,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use crate::{markdown::root, program::program};

/// The directories of one page. They are removed when it is dropped.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) directory: PathBuf,
}

/// Returns `true` if cargo itself makes the programs.
pub(crate) fn is_real() -> bool {
    env::var("UNCORK_CARGO").is_ok_and(|value| value == "real")
}

/// Finds a program as a shell does.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|directory| directory.join(name)).find(|path| path.is_file())
}

/// The names of all examples.
fn examples() -> Vec<String> {
    let entries = fs::read_dir(root().join("examples")).expect("the examples").flatten().map(|entry| entry.path());
    let programs = entries.filter(|path| path.extension().is_some_and(|e| e == "rs") || path.join("main.rs").exists());
    programs.filter_map(|path| path.file_stem()?.to_str().map(str::to_owned)).collect()
}

/// Returns the paths of the libraries for C. Cargo builds them for the tests of their package, beside the tests.
pub(crate) fn libraries() -> [PathBuf; 2] {
    let deps = env::current_exe().unwrap_or_default();
    ["libmicrohttpd.so", "libmicrohttpd.a"].map(|name| deps.with_file_name(name))
}

impl Machine {
    pub(crate) fn new(page: &Path, files: &[PathBuf]) -> io::Result<Self> {
        let directory = if is_real() {
            // Cargo knows its packages by their path: with one path, it compiles once for all pages and runs.
            env::temp_dir().join("uncork-commands-real").join("page")
        } else {
            let name = page.display().to_string().replace(['/', '.'], "-");
            env::temp_dir().join(format!("uncork-commands-{}", std::process::id())).join(name)
        };
        if directory.exists() {
            fs::remove_dir_all(&directory)?; // of a run that was killed
        }
        let machine = Self { directory };
        for name in ["uncork", "home", "tmp", "bin", "built", "desk"] {
            fs::create_dir_all(machine.path(name))?;
        }
        for file in files {
            let (from, to) = (root().join(file), machine.path("uncork").join(file));
            if let Some(parent) = to.parent() {
                fs::create_dir_all(parent)?;
            }
            fs::copy(&from, &to)?;
            // What is older than a program need not be compiled again.
            File::options().append(true).open(&to)?.set_modified(from.metadata()?.modified()?)?;
        }
        // A response that reports an error is a failure, which curl ignores otherwise.
        fs::write(machine.path("home/.curlrc"), "fail\n")?;
        fs::copy(root().join("tests/commands/cargo.sh"), machine.path("bin/cargo"))?;
        fs::set_permissions(machine.path("bin/cargo"), Permissions::from_mode(0o755))?;
        if is_real() {
            let target = env::current_exe()?.ancestors().nth(3).map(|target| target.join("commands"));
            let target = target.ok_or_else(|| io::Error::other("cannot find the target directory"))?;
            fs::create_dir_all(&target)?;
            symlink(target, machine.path("uncork/target"))?;
        } else {
            for name in examples() {
                symlink(program(&name), machine.path("built").join(&name))?;
            }
            for (name, path) in ["libmicrohttpd.so", "libmicrohttpd.a"].into_iter().zip(libraries()) {
                symlink(path, machine.path("built").join(name))?;
            }
        }
        Ok(machine)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Gives a command the environment of this machine and nothing else.
    pub(crate) fn prepare(&self, command: &mut Command, is_network_private: bool) {
        let outside = env::var("PATH").unwrap_or_default();
        let path = format!("{}:{outside}", self.path("bin").display());
        command.env_clear().current_dir(self.path("uncork")).env("PATH", path).env("LANG", "C.UTF-8");
        command.env("HOME", self.path("home")).env("TMPDIR", self.path("tmp")).env("UNCORK_BUILT", self.path("built"));
        command.env("UNCORK_CARGO", "");
        if is_real() {
            let home = PathBuf::from(env::var_os("HOME").unwrap_or_default());
            for (name, default) in [("CARGO_HOME", ".cargo"), ("RUSTUP_HOME", ".rustup")] {
                command.env(name, env::var_os(name).map_or_else(|| home.join(default), PathBuf::from));
            }
            for name in ["RUSTUP_TOOLCHAIN", "CARGO_BUILD_JOBS"] {
                command.envs(env::var_os(name).map(|value| (name, value)));
            }
            command.env("CARGO_NET_OFFLINE", is_network_private.to_string());
            command.env(
                "UNCORK_CARGO",
                env::var_os("CARGO").map(PathBuf::from).or_else(|| find("cargo")).unwrap_or_default(),
            );
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
        // The last of them removes the directory of all.
        let _ = self.directory.parent().map(fs::remove_dir);
    }
}
