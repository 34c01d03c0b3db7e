//! Compiles the C programs of `tests/c` against the library, and runs them.

use crate::{
    support::{Library, run},
    tls::Pki,
    tls_proxy,
};

macro_rules! programs {
    ($($name:ident),* $(,)?) => {
        $(#[test]
        fn $name() {
            let program = Library::get().compile(&format!("tests/c/{}.c", stringify!($name)));
            run(Library::get().command(&program));
        })*
    };
}

programs! { auth, descriptors, digest, ends, fork, forms, later, modes, options, responses, streams, text, values }

/// Programs whose clients speak TLS too, by a proxy.
macro_rules! over_tls_too {
    ($($name:ident $tls:ident),* $(,)?) => {
        $(#[test]
        fn $name() {
            let program = Library::get().compile(&format!("tests/c/{}.c", stringify!($name)));
            run(Library::get().command(&program));
        }
        #[test]
        fn $tls() {
            let program = Library::get().compile_as(&format!("tests/c/{}.c", stringify!($name)), stringify!($tls));
            let pki = Pki::get();
            let mut command = Library::get().command(&program);
            command.arg(tls_proxy::port().to_string()).arg(pki.file("localhost.pem")).arg(pki.file("localhost.key"));
            run(command);
        })*
    };
}

over_tls_too! {
    upgrade_data upgrade_data_over_tls,
    upgrade_life upgrade_life_over_tls,
    upgrade_sockets upgrade_sockets_over_tls,
}

#[test]
fn valgrind_finds_nothing() {
    under_valgrind(&["auth", "digest", "forms", "later", "modes", "options", "responses", "values", "streams", "text"]);
}

#[test]
fn valgrind_finds_nothing_in_upgrades_by_events() {
    under_valgrind(&["upgrade_data", "upgrade_life"]);
}

#[test]
fn valgrind_finds_nothing_in_upgrades_by_a_socket() {
    under_valgrind(&["upgrade_sockets"]);
}

/// No program reads or frees what it must not, and nothing that was asked for is lost.
fn under_valgrind(names: &[&str]) {
    if !crate::support::has("valgrind") {
        return println!("skipped: valgrind is not installed");
    }
    for name in names {
        let program = Library::get().compile_as(&format!("tests/c/{name}.c"), &format!("{name}-valgrind"));
        let mut command = Library::get().command("valgrind");
        // A thread that the library has detached may end after the program's main function has.
        command.args(["--quiet", "--error-exitcode=9", "--leak-check=full", "--errors-for-leak-kinds=definite"]);
        run(command.arg(program).arg("brief"));
    }
}
