//! Our header and the system's `microhttpd.h` agree on everything that both have: constants, layouts, types of
//! functions. Without libmicrohttpd's header installed, it says so.

use std::{fmt::Write as _, fs, path::Path, process::Command};

use crate::support::run;

const OURS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/include/microhttpd.h");
const SYSTEM: &str = "/usr/include/microhttpd.h";

/// Names that differ on purpose: the version, and a pointer that 1.0 has made `const`.
const DIFFERENT: [&str; 2] = ["MHD_VERSION", "MHD_create_response_from_buffer_with_free_callback_cls"];

/// Returns the words that are names of the interface, each once.
fn names(text: &str) -> Vec<&str> {
    let mut names: Vec<&str> = text
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| word.starts_with("MHD_") && !DIFFERENT.contains(word))
        .collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// Returns `true` if the name is a number or a string, not a type or a function.
fn is_value(name: &str, header: &str) -> bool {
    let upper = |text: &str| text.chars().all(|c| !c.is_ascii_lowercase());
    let defined = header.lines().any(|line| {
        line.strip_prefix("#define ")
            .is_some_and(|rest| rest.split_whitespace().next() == Some(name) && rest.contains(' '))
    });
    let in_enum = header.contains(&format!("  {name} = ")) || header.contains(&format!("  {name},\n"));
    let types = ["MHD_LONG_LONG", "MHD_UNSIGNED_LONG_LONG", "MHD_OPTION", "MHD_FLAG", "MHD_FEATURE"];
    (defined || in_enum || (upper(name) && name.starts_with("MHD_HTTP_"))) && !types.contains(&name)
}

/// Returns the output of a program that prints every value, compiled with a header.
fn printed(program: &str, include: &Path, name: &str) -> String {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let (source, binary) = (dir.join(format!("{name}.c")), dir.join(name));
    fs::write(&source, program).expect("a source file");
    let mut cc = Command::new("cc");
    cc.args(["-std=gnu11", "-w"]).arg("-I").arg(include).arg(&source).arg("-o").arg(&binary);
    run(&mut cc);
    String::from_utf8(run(Command::new(&binary)).stdout).expect("text")
}

#[test]
fn both_headers_agree() {
    let Ok(system) = fs::read_to_string(SYSTEM) else {
        return println!("skipped: libmicrohttpd-dev is not installed");
    };
    let ours = fs::read_to_string(OURS).expect("our header");
    let (ours_names, system_names) = (names(&ours), names(&system));
    let both: Vec<&str> = ours_names.into_iter().filter(|name| system_names.contains(name)).collect();
    let values: Vec<&str> = both.iter().copied().filter(|name| is_value(name, &ours)).collect();
    assert!(values.len() > 400, "{} values were found", values.len());

    let mut program = String::from(
        "#include <microhttpd.h>\n#include <stdio.h>\n#include <stddef.h>\n\
         static void number(const char *n, long long v) { printf(\"%s %lld\\n\", n, v); }\n\
         static void text(const char *n, const char *v) { printf(\"%s %s\\n\", n, v); }\n\
         int main(void) {\n",
    );
    for name in &values {
        let show = if is_text(name, &ours) { "text" } else { "number" };
        let _ = writeln!(program, "  {show}(\"{name}\", {name});");
    }
    for (of, members) in [
        ("struct MHD_OptionItem", &["option", "value", "ptr_value"][..]),
        ("struct MHD_IoVec", &["iov_base", "iov_len"]),
        ("union MHD_ConnectionInfo", &["client_addr", "connect_fd", "header_size", "socket_context", "daemon"]),
        ("union MHD_DaemonInfo", &["listen_fd", "port", "epoll_fd", "num_connections", "flags"]),
    ] {
        let _ = writeln!(program, "  number(\"{of}\", sizeof({of}));");
        for member in members {
            let place = format!("offsetof({of}, {member}) * 100 + sizeof((({of} *)0)->{member})");
            let _ = writeln!(program, "  number(\"{of} {member}\", {place});");
        }
    }
    program.push_str("  return 0;\n}\n");
    let include = Path::new(OURS).parent().expect("a directory");
    let (own, others) =
        (printed(&program, include, "own-header"), printed(&program, Path::new("/usr/include"), "system"));
    for (own, other) in own.lines().zip(others.lines()) {
        assert_eq!(own, other);
    }
    assert_eq!(own.lines().count(), others.lines().count());

    // A declaration of another type is an error of the compiler.
    let (_, functions) = ours.split_once("/* functions */").expect("the functions");
    let (functions, _) = functions.split_once("/* end of functions */").expect("their end");
    let mut program = String::from("#include <microhttpd.h>\n");
    for name in both.iter().filter(|name| name.contains(|c: char| c.is_ascii_lowercase())) {
        let _ = writeln!(program, "#undef {name}");
    }
    for declaration in functions.split_inclusive(';').filter(|text| !DIFFERENT.iter().any(|name| text.contains(name))) {
        program.push_str(declaration);
    }
    program.push_str("\nint main(void) { return 0; }\n");
    printed(&program, Path::new("/usr/include"), "declarations");
}

fn is_text(name: &str, header: &str) -> bool {
    header.lines().any(|line| line.starts_with(&format!("#define {name} \"")))
}

/// A program in C++ can include it.
#[test]
fn it_is_a_header_of_cpp_too() {
    if !crate::support::has("c++") {
        return println!("skipped: no C++ compiler is installed");
    }
    let include = Path::new(OURS).parent().expect("a directory");
    let mut cc = Command::new("c++");
    cc.args(["-x", "c++", "-std=c++11", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", "-include", OURS]);
    run(cc.arg("-I").arg(include).arg("/dev/null"));
    run(cc.arg("-DMHD_UPGRADE_2012"));
}
