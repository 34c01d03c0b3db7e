//! Limits: on by default, and each refusal says which one, and when to come back.

use crate::harness::{Relay, stream};

#[test]
fn a_refusal_names_its_limit_and_when_to_come_back() {
    let relay = Relay::start(&["--max-body=1000", "--rendezvous-streams-per-address=2", "--sessions-per-address=1"]);
    let path = stream(&relay);
    // Of the service that was asked, in its words, however much too large: the engine would say it in its own.
    for length in ["Content-Length: 1001", "Content-Length: 18446744073709551615"] {
        let answer = relay.ask(&format!("PUT {path}"), &[length]);
        let words = r#"{"name":"BodyTooLargeError","message":"The stream is too large: at most 1000 bytes"}"#;
        assert_eq!((answer.assert(413).text(), answer.get("content-type")), (words, Some("application/json")));
    }
    let session = relay.ask("PUT /cama/session", &["Content-Length: 0"]);
    let session = session.assert(201).get("location").expect("a path").to_owned();
    let answer = relay.ask(&format!("POST {session}"), &["Content-Length: 1001"]);
    assert_eq!(answer.assert(413).text(), "the message is too large: at most 1000 bytes");

    let refused = |line: &str| {
        let answer = relay.ask(line, &["Content-Length: 0"]);
        let after: u64 = answer.assert(429).get("retry-after").expect("when").parse().expect("seconds");
        assert!(after > 0);
        answer.text().to_owned()
    };
    assert!(refused("PUT /cama/session").contains("sessions of this address: at most 1"));
    stream(&relay);
    assert!(refused("POST /stream").contains("streams of this address: at most 2"));
    relay.stop();
}
