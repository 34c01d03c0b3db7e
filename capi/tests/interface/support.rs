//! The library as C programs see it, and their compiler.

use std::{
    env,
    ffi::OsStr,
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::OnceLock,
};

pub struct Library {
    /// Has the library under the names that the linker and the loader look for.
    dir: PathBuf,
}

/// A test of a program takes no longer than this; then it is ended.
const LIMIT: &str = "120";

impl Library {
    pub fn get() -> &'static Self {
        static LIBRARY: OnceLock<Library> = OnceLock::new();
        LIBRARY.get_or_init(Self::prepare)
    }

    fn prepare() -> Self {
        // Cargo has built it for this test, beside it.
        let test = env::current_exe().expect("this program has a path");
        let built = test.with_file_name("libmicrohttpd.so");
        assert!(built.exists(), "{} is not there", built.display());
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("c-programs");
        fs::create_dir_all(&dir).expect("a directory for the programs");
        for name in ["libmicrohttpd.so", "libmicrohttpd.so.12"] {
            let link = dir.join(name);
            let _ = fs::remove_file(&link);
            symlink(&built, &link).expect("a link to the library");
        }
        Self { dir }
    }

    /// Returns a directory for files of the tests.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Compiles a C program against the library, and returns its path.
    pub fn compile(&self, source: &str) -> PathBuf {
        let name = Path::new(source).file_stem().and_then(OsStr::to_str).expect("a file name");
        self.compile_as(source, name)
    }

    pub fn compile_as(&self, source: &str, name: &str) -> PathBuf {
        let program = self.dir.join(name);
        let package = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut cc = Command::new("cc");
        cc.args(["-std=gnu11", "-g", "-Wall", "-Wextra", "-Werror", "-pthread"]);
        cc.arg("-I").arg(package.join("include")).arg(package.join(source)).arg("-o").arg(&program);
        cc.arg("-L").arg(&self.dir).arg("-lmicrohttpd");
        run(&mut cc);
        program
    }

    /// Returns a command that runs a program with this library.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("timeout");
        command.arg(LIMIT).arg(program).env("LD_LIBRARY_PATH", &self.dir);
        command
    }
}

/// Runs a command to its end; fails with its output if it fails.
pub fn run(mut command: impl std::borrow::BorrowMut<Command>) -> Output {
    let command = command.borrow_mut();
    let output = command.output().unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        text(&output.stdout),
        text(&output.stderr)
    );
    output
}

/// Returns `true` if a program is installed.
pub fn has(program: &str) -> bool {
    let mut paths = env::var_os("PATH").into_iter().flat_map(|paths| env::split_paths(&paths).collect::<Vec<_>>());
    paths.any(|dir| dir.join(program).is_file())
}

/// Returns `true` if the loader knows a shared library.
pub fn has_library(name: &str) -> bool {
    let known = Command::new("/sbin/ldconfig").arg("-p").output();
    known.is_ok_and(|known| String::from_utf8_lossy(&known.stdout).contains(name))
}
