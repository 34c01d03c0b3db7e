//! Builds the C file of the variadic functions, and names the shared library.

fn main() {
    println!("cargo:rerun-if-changed=src/variadic.c");
    cc::Build::new()
        .file("src/variadic.c")
        .flag_if_supported("-fvisibility=hidden")
        .warnings(true)
        .compile("uncork_mhd");
    // Programs that were linked with libmicrohttpd 0.9.7x and 1.0 ask for this name.
    println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libmicrohttpd.so.12");
}
