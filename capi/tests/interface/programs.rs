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

programs! { ends, modes, options, responses, streams, text, values }

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

over_tls_too! { upgrade_events upgrade_events_over_tls, upgrade_sockets upgrade_sockets_over_tls }

/// No program reads or frees what it must not, and nothing that was asked for is lost.
#[test]
fn valgrind_finds_nothing() {
    if !crate::support::has("valgrind") {
        return println!("skipped: valgrind is not installed");
    }
    for name in ["modes", "options", "responses", "values", "streams", "text"] {
        let program = Library::get().compile_as(&format!("tests/c/{name}.c"), &format!("{name}-valgrind"));
        let mut command = Library::get().command("valgrind");
        // A thread that the library has detached may end after the program's main function has.
        command.args(["--quiet", "--error-exitcode=9", "--leak-check=full", "--errors-for-leak-kinds=definite"]);
        run(command.arg(program));
    }
}

/// The example of the README.
#[test]
fn hello_serves_and_ends() {
    use std::{
        io::{BufRead as _, BufReader, Read as _, Write as _},
        net::TcpStream,
        process::Stdio,
    };
    let program = Library::get().compile("examples/hello.c");
    let mut child =
        Library::get().command(&program).arg("127.0.0.1:0").stdout(Stdio::piped()).spawn().expect("started");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("a line");
    let address = line.trim().trim_start_matches("listening on http://").trim_end_matches('/');
    let mut stream = TcpStream::connect(address).expect("connected");
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("sent");
    let mut response = String::new();
    stream.read_to_string(&mut response).expect("received");
    assert!(response.ends_with("\r\n\r\nHello, world!\n"), "{response}");
    let pid = i32::try_from(child.id()).expect("a process id");
    // SAFETY: It signals a process that this test has started and not waited for.
    assert_eq!(unsafe { libc::kill(pid, libc::SIGTERM) }, 0);
    assert!(child.wait().expect("ended").success());
}
