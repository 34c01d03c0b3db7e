//! Each case of a relay's contract over plain connections and TLS, with one loop and with two, on which its two sides may
//! meet.

/// Makes tests of `room::case` for all four. `Setup` has to be known where it is called.
macro_rules! in_every_setup {
    ($($room:ident::$case:ident),* $(,)?) => {
        in_every_setup! { @ plain_1, false, 1, $($room::$case)* }
        in_every_setup! { @ plain_2, false, 2, $($room::$case)* }
        in_every_setup! { @ tls_1, true, 1, $($room::$case)* }
        in_every_setup! { @ tls_2, true, 2, $($room::$case)* }
    };
    (@ $name:ident, $tls:expr, $threads:expr, $($room:ident::$case:ident)*) => {
        mod $name {
            const SETUP: super::Setup = super::Setup { tls: $tls, threads: $threads };
            $(#[test] fn $case() { super::$room::$case(SETUP); })*
        }
    };
}
