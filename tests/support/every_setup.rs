//! Runs each case of a relay's contract over plain connections and TLS, with one loop and with two.

/// Makes four tests of each `module::case`. `Setup` must be known to the caller.
macro_rules! in_every_setup {
    ($($module:ident::$case:ident),* $(,)?) => {
        in_every_setup! { @ plain_1, false, 1, $($module::$case)* }
        in_every_setup! { @ plain_2, false, 2, $($module::$case)* }
        in_every_setup! { @ tls_1, true, 1, $($module::$case)* }
        in_every_setup! { @ tls_2, true, 2, $($module::$case)* }
    };
    (@ $name:ident, $tls:expr, $threads:expr, $($module:ident::$case:ident)*) => {
        mod $name {
            const SETUP: super::Setup = super::Setup { tls: $tls, threads: $threads };
            $(#[test] fn $case() { super::$module::$case(SETUP); })*
        }
    };
}
