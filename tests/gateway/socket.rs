//! A WebSocket client that shows all bytes: sends the frames of the test, correct or not, and shows what it receives.

use std::time::Duration;

pub(crate) use crate::frames::frame;
use crate::{
    frames::{self, HANDSHAKE},
    wire::{Finish, TestResponse, Wire},
    world::Host,
};

pub(crate) const TEXT: u8 = 1;
pub(crate) const BINARY: u8 = 2;
pub(crate) const CLOSE: u8 = 8;
pub(crate) const PING: u8 = 9;
pub(crate) const PONG: u8 = 10;

pub(crate) struct Socket {
    pub(crate) wire: Wire,
}

/// Sends the request for a WebSocket.
pub(crate) fn send_handshake(wire: &mut Wire, target: &str, fields: &[&str]) {
    let fields: Vec<&str> = HANDSHAKE.iter().chain(fields).copied().collect();
    wire.request(&format!("GET {target}"), &fields);
}

impl Socket {
    /// Connects; the response must be a 101.
    #[track_caller]
    pub(crate) fn connect(host: &Host, target: &str, fields: &[&str]) -> Self {
        Self::over(host.connect(), target, fields)
    }

    #[track_caller]
    pub(crate) fn over(mut wire: Wire, target: &str, fields: &[&str]) -> Self {
        send_handshake(&mut wire, target, fields);
        let response = wire.head();
        response.is(101);
        assert_eq!(response.get("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
        assert_eq!((response.get("sec-websocket-protocol"), response.get("sec-websocket-extensions")), (None, None));
        Self { wire }
    }

    /// Sends the request, and receives a complete response other than 101.
    #[track_caller]
    pub(crate) fn rejected(host: &Host, target: &str, fields: &[&str]) -> TestResponse {
        let mut wire = host.connect();
        send_handshake(&mut wire, target, fields);
        let response = wire.response();
        assert_ne!(response.status, 101);
        response
    }

    #[track_caller]
    pub(crate) fn text(&mut self, text: &str) -> &mut Self {
        self.frame(TEXT, text.as_bytes())
    }

    /// Sends a complete frame.
    #[track_caller]
    pub(crate) fn frame(&mut self, op: u8, payload: &[u8]) -> &mut Self {
        self.raw(&frame(0x80 | op, payload))
    }

    #[track_caller]
    pub(crate) fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.wire.send(bytes);
        self
    }

    /// Receives the next frame: its first byte without FIN, which must be set, and its payload, unmasked.
    #[track_caller]
    pub(crate) fn next(&mut self) -> (u8, Vec<u8>) {
        let (first, payload) = frames::next(&mut self.wire);
        assert_eq!(first & 0xf0, 0x80, "FIN, nothing reserved");
        (first & 0x0f, payload)
    }

    #[track_caller]
    pub(crate) fn receives(&mut self, text: &str) -> &mut Self {
        let (op, payload) = self.next();
        assert_eq!((op, payload.escape_ascii().to_string()), (TEXT, text.as_bytes().escape_ascii().to_string()));
        self
    }

    /// Receives a Close with this code, and then the end.
    #[track_caller]
    pub(crate) fn receives_close(&mut self, code: u16) -> String {
        let (op, payload) = self.next();
        let received = payload.first_chunk().map(|code| u16::from_be_bytes(*code));
        assert_eq!((op, received), (CLOSE, Some(code)), "{}", payload.escape_ascii());
        String::from_utf8(payload[2..].to_vec()).expect("a reason in UTF-8")
    }

    /// Responds to a Close of the gateway with the same code, and expects the end of the stream.
    #[track_caller]
    pub(crate) fn is_closed(&mut self, code: u16) -> String {
        let reason = self.receives_close(code);
        self.frame(CLOSE, &code.to_be_bytes());
        self.wire.ends(Finish::Clean);
        reason
    }

    /// Closes normally.
    #[track_caller]
    pub(crate) fn close(&mut self) {
        self.frame(CLOSE, &1000_u16.to_be_bytes());
        self.receives_close(1000);
        self.wire.ends(Finish::Clean);
    }

    /// Expects the end of the stream, without a Close or anything else.
    #[track_caller]
    pub(crate) fn ends(&mut self) {
        self.wire.ends(Finish::Clean);
    }

    pub(crate) fn is_silent(&mut self, time: Duration) -> bool {
        self.wire.is_silent(time)
    }
}
