//! One test body, every mode, every transport: what is promised for one must hold for all six.
//!
//! A test is a function of a [`World`](world::World); `matrix!` makes six of it. Nothing here sleeps: tests wait for
//! what the server tells them (`world::telling`), with a bound that only a hang reaches.

#[path = "../support/wire.rs"]
mod wire;
mod world;

/// Expands to `mod {threads, external, thread_per_connection} { mod {plain, tls} }`, with every test in each.
macro_rules! matrix {
    ($($test:ident),+ $(,)?) => {
        matrix!(@mode threads Threads $($test)+);
        matrix!(@mode external External $($test)+);
        matrix!(@mode thread_per_connection ThreadPerConnection $($test)+);
    };
    (@mode $mode:ident $variant:ident $($test:ident)+) => {
        mod $mode {
            mod plain {
                $(#[test] fn $test() { super::super::$test(&matrix!(@world $variant false)) })+
            }
            mod tls {
                $(#[test] fn $test() { super::super::$test(&matrix!(@world $variant true)) })+
            }
        }
    };
    (@world $variant:ident $tls:literal) => {
        $crate::world::World { mode: $crate::world::Mode::$variant, tls: $tls }
    };
}
mod dial;
mod dial_fails;
mod dialing;
mod http;
mod limits;
mod pipes;
mod select;
mod stopping;
mod tickets;
mod upgrade_data;
mod upgrade_end;
mod upgrade_life;
mod upgrade_wake;
mod upgrading;
mod uploads;
