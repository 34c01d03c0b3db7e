//! `external_select`: a server in the application's own loop.

use super::*;

#[test]
fn external_select_serves_beside_the_keyboard_and_a_timer() {
    let mut command = Command::new(program("external_select"));
    command.args(["--listen", "127.0.0.1:0"]);
    let mut program = Example::run(command, None);
    let mut client = program.client();
    assert!(client.request("GET /", &[]).response().assert(200).text().contains("request 1"));
    let mut stdin = program.stdin.take().expect("piped");
    stdin.write_all(b"a line in two").expect("written");
    stdin.flush().expect("flushed");
    stdin.write_all(b" pieces\n").expect("written");
    stdin.flush().expect("flushed");
    let typed =
        |client: &mut Client| client.request("GET /", &[]).response().text().starts_with("a line in two pieces\n");
    assert!((0..10_000).any(|_| typed(&mut client)), "the typed text is the page");
    let ticked = |client: &mut Client| !client.request("GET /", &[]).response().text().contains("up 0 s");
    assert!((0..1_000_000).any(|_| ticked(&mut client)), "the timer ticks");
    stdin.write_all(b"quit\n").expect("written");
    program.ends();
    assert!(client.is_closed());
}

#[test]
fn external_select_ends_at_a_signal_and_outlives_its_keyboard() {
    let mut command = Command::new(program("external_select"));
    command.args(["--listen", "127.0.0.1:0"]);
    let mut program = Example::run(command, None);
    drop(program.stdin.take());
    program.ask("GET /", &[]).assert(200);
    program.stop();
}
