//! The page of `examples/chat`, when something is wrong.

use serde_json::{Value, json};

use crate::{
    driver::{Browser, Driver, until},
    network::Network,
    program::{Example, PLAIN},
};

const ENTER: char = '\u{e007}';

fn open(browser: &Browser, network: &Network) {
    browser.open(&format!("http://{}/", network.addr));
}

fn enter(browser: &Browser, network: &Network, name: &str) {
    open(browser, network);
    write(browser, name);
    browser.shows(&format!("Connected as {name}."));
}

/// Replaces the text in the field, and sends it.
fn write(browser: &Browser, text: &str) {
    browser.run("document.getElementById('input').value = ''", &[]);
    browser.fill("#input", text);
    browser.press(ENTER);
}

/// Returns the text in the field, and the button's.
fn field(browser: &Browser) -> Value {
    browser.run("return [document.getElementById('input').value, document.querySelector('button').textContent]", &[])
}

/// Makes the timers that the page starts from now on run faster by this factor.
fn hurry(browser: &Browser, factor: u32) {
    let script = "const real = window.real ??= window.setTimeout, factor = arguments[0];
        window.setTimeout = (call, time, ...rest) => real(call, time / factor, ...rest)";
    browser.run(script, &[json!(factor)]);
}

pub(crate) fn a_name_in_use_is_not_an_unreachable_server(driver: &Driver) {
    let chat = Example::start("chat", PLAIN, &[]);
    let (network, ann, bob) = (Network::to(chat.addr), driver.browser(), driver.browser());
    enter(&ann, &network, "Ann");
    open(&bob, &network);
    for (name, reason) in [("Ann", "This name is in use."), ("A:B", "This name is not allowed.")] {
        write(&bob, name);
        bob.shows(&format!("{reason} Choose another name."));
        assert_eq!(field(&bob), json!([name, "Enter"]));
    }
    network.down();
    write(&bob, "Bob");
    bob.shows("The server cannot be reached. Try again in a moment.");
    assert_eq!(field(&bob), json!(["Bob", "Enter"]));
    network.up();
    bob.press(ENTER);
    bob.shows("Connected as Bob.");
}

pub(crate) fn a_lost_connection_comes_back(driver: &Driver) {
    let chat = Example::start("chat", PLAIN, &[]);
    let (anns, bobs) = (Network::to(chat.addr), Network::to(chat.addr));
    let (ann, bob) = (driver.browser(), driver.browser());
    enter(&ann, &anns, "Ann");
    ann.fill("#input", "half a");
    anns.down();
    // From the second attempt on, until one succeeds.
    ann.shows("The server cannot be reached. Connecting again in about ");
    assert_eq!(field(&ann), json!(["half a", "Connect"]));
    ann.fill("#input", " sentence");
    anns.up();
    ann.shows("Connected as Ann.");
    ann.shows("connected again; messages that others sent in the meantime are missing here");
    assert_eq!(field(&ann), json!(["half a sentence", "Send"]));
    enter(&bob, &bobs, "Bob");
    ann.press(ENTER);
    bob.shows("half a sentence");

    // A network that is lost without an end: for the server, Ann is connected still.
    hurry(&ann, 10);
    anns.lose();
    write(&ann, "once");
    ann.shows("the last message may not have arrived; it is in the field again");
    hurry(&ann, 1);
    ann.shows("Connected as Ann.");
    until("the field", || (field(&ann) == json!(["once", "Send"])).then_some(()));
    ann.press(ENTER);
    bob.shows("once");
    // The end of the old connection, which comes later, is not the end of the new one.
    anns.end_lost();
    write(&ann, "and still here");
    bob.shows("and still here");
    let text = bob.text();
    assert!(text.matches("once").count() == 1 && !text.contains("has left"), "{text}");
}

pub(crate) fn it_does_not_try_forever(driver: &Driver) {
    let chat = Example::start("chat", PLAIN, &[]);
    let (network, ann) = (Network::to(chat.addr), driver.browser());
    enter(&ann, &network, "Ann");
    ann.fill("#input", "kept");
    hurry(&ann, 100);
    network.down();
    ann.shows("The server cannot be reached. It was tried 10 times. Press Connect to try again.");
    assert_eq!(field(&ann), json!(["kept", "Connect"]));
    hurry(&ann, 1);
    network.up();
    ann.click("button");
    ann.shows("Connected as Ann.");
    assert_eq!(field(&ann), json!(["kept", "Send"]));
}
