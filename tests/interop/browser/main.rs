//! The relay's page in a real browser: from one Chromium to another, through a relay of this process. And the page of
//! `examples/chat`, which must be built before: `cargo build --example chat`.
//!
//!     cargo test --test browser                     all of it; without Chromium, a line that says so
//!     cargo test --test browser -- file             those whose name has this in it
//!     UNCORK_BROWSER=yes cargo test --test browser  without Chromium, it fails
//!     UNCORK_BROWSER=firefox cargo test --test browser  in Firefox (`cargo install geckodriver`), or it fails
//!     UNCORK_BROWSER=no cargo test                  everything else
//!
//! It does not use the test harness, since it must report that it was skipped.
#![expect(clippy::disallowed_methods, reason = "a browser has no events to wait for")]

use std::{process::ExitCode, time::Instant};

mod chat;
#[path = "../../support/client.rs"]
#[allow(dead_code, reason = "each test uses a part of it")]
mod client;
mod driver;
mod http2;
mod network;
#[path = "../../../examples/relay/page/mod.rs"]
#[allow(dead_code, unused_imports)] // its unit tests are not run here
mod page;
#[path = "../../support/program.rs"]
#[allow(dead_code, reason = "each test uses a part of it")]
mod program;
mod sender;
mod site;
mod well;
mod wrong;

use driver::{Driver, Kind};

type Case = fn(&Driver);

macro_rules! cases {
    ($($module:ident::$case:ident),* $(,)?) => { &[$((stringify!($case), $module::$case)),*] };
}

const CASES: &[(&str, Case)] = cases![
    well::a_file_of_50_mb,
    well::a_file_is_never_in_memory,
    well::a_text_stays_a_text,
    well::a_text_that_is_a_link_can_be_followed,
    well::a_keyboard_is_enough,
    well::an_empty_file,
    well::what_is_dropped_is_sent,
    well::the_sender_sees_how_far_it_is,
    well::the_receiver_sees_how_far_it_is,
    sender::what_the_relay_can_read_is_said_before,
    sender::an_opened_link_is_reported,
    sender::a_link_for_this_computer_only_is_marked,
    sender::several_pages_wait_at_once,
    chat::a_name_in_use_is_not_an_unreachable_server,
    chat::a_lost_connection_comes_back,
    chat::it_does_not_try_forever,
    http2::a_file_goes_over_http_2,
    http2::many_transfers_of_one_browser_at_once,
    http2::a_file_and_a_websocket_share_a_connection,
    http2::a_websocket_is_a_stream,
    http2::the_chat_works_over_http_2,
    wrong::either_side_changes_its_mind,
    wrong::a_side_that_leaves_is_missed,
    wrong::a_link_works_once_and_for_a_while,
    wrong::two_who_want_it_at_once,
    wrong::a_file_that_is_too_large,
    wrong::a_relay_that_stops,
    wrong::a_hostile_download_runs_nowhere,
];

fn main() -> ExitCode {
    let wanted = std::env::args().skip(1).find(|arg| !arg.starts_with('-')).unwrap_or_default();
    let setting = std::env::var("UNCORK_BROWSER").unwrap_or_default();
    if setting == "no" || std::env::args().any(|arg| arg == "--list") {
        println!("browser: SKIPPED, as UNCORK_BROWSER or --list says");
        return ExitCode::SUCCESS;
    }
    let kind = if setting == "firefox" { Kind::Firefox } else { Kind::Chromium };
    let Some(driver) = Driver::find(kind) else {
        println!("browser: SKIPPED: the browser or its driver is missing (Debian: chromium, chromium-driver)");
        return if setting.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    };
    let (mut passes, mut failed) = (0, 0);
    for (name, case) in CASES.iter().filter(|(name, _)| name.contains(&wanted)) {
        let start = Instant::now();
        let passed = std::panic::catch_unwind(|| case(&driver)).is_ok();
        *if passed { &mut passes } else { &mut failed } += 1;
        println!(
            "browser: {name} ... {} ({:.1} s)",
            if passed { "ok" } else { "FAILED" },
            start.elapsed().as_secs_f32()
        );
    }
    println!("browser: {passes} passed, {failed} failed");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
