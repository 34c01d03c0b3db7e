//! The header blocks of responses and trailers.
//!
//! ```text
//!   Headers ─▶ hpack::Encoder ─▶ a header block      lowercase, without the fields of one connection
//! ```

use super::{connection::Connection, frame, state::Sending};
use crate::{
    conn::message::ResponseSpec,
    h1::{Headers, write::decimal},
};

impl Connection {
    /// Writes the header block of a response. `switched`: the response accepts an upgrade, for which HTTP/2 has no proof
    /// (RFC 8441 §5).
    pub(crate) fn encode_response(&mut self, spec: &ResponseSpec<'_>, length: Option<u64>, switched: bool) {
        self.block.clear();
        self.encoder.begin(&mut self.block);
        // RFC 8441 §5: 200 stands for 101.
        self.encoder.status(if spec.status == 101 { 200 } else { spec.status }, &mut self.block);
        self.encode_fields(spec.fields, switched);
        if let Some(length) = length {
            let (digits, n) = decimal(length);
            self.encoder.field(b"content-length", &digits[..n], &mut self.block);
        }
        self.encoder.field(b"date", spec.date, &mut self.block);
    }

    /// Writes the header block of a response with these fields only.
    pub(crate) fn encode_head(&mut self, status: u16, fields: &Headers, switched: bool) {
        self.block.clear();
        self.encoder.begin(&mut self.block);
        self.encoder.status(status, &mut self.block);
        self.encode_fields(fields, switched);
    }

    /// Sends an informational response, unless the final one was sent.
    pub(crate) fn inform(&mut self, stream: u32, status: u16, fields: &Headers) {
        if self.state(stream).is_some_and(|state| state.send == Sending::Owed) {
            self.encode_head(status, fields, false);
            frame::write_headers(&mut self.out, stream, &self.block, false);
        }
    }

    /// Writes the header block of trailers.
    pub(super) fn encode_trailers(&mut self, fields: &Headers) {
        self.block.clear();
        self.encoder.begin(&mut self.block);
        self.encode_fields(fields, false);
    }

    fn encode_fields(&mut self, fields: &Headers, switched: bool) {
        let Self { encoder, block, .. } = self;
        for (name, value) in fields.end_to_end_lines() {
            let mut short = [0; 40];
            match short.get_mut(..name.len()) {
                Some(lower) => {
                    lower.copy_from_slice(name);
                    lower.make_ascii_lowercase();
                    if !(switched && lower == b"sec-websocket-accept") {
                        encoder.field(lower, value, block);
                    }
                }
                None => encoder.field(&name.to_ascii_lowercase(), value, block),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        base::Limits,
        h2::{hpack::Decoder, settings::Options},
    };

    /// Returns the fields of the header block that was written last, `name: value` each.
    fn written(connection: &Connection, decoder: &mut Decoder) -> Vec<String> {
        let mut fields = Vec::new();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let decoded =
            decoder.decode_fields(&connection.block, |name, value| fields.push(text(name) + ": " + &text(value)));
        assert_eq!(decoded, Ok(()));
        fields
    }

    #[test]
    fn a_response_has_its_fields_and_those_of_the_engine() {
        let mut fields = Headers::new();
        for (name, value) in [("Content-Type", "text/plain"), ("Connection", "X-A"), ("X-A", "1"), ("Set-Cookie", "a")]
        {
            fields.append(name, value).expect("a field");
        }
        fields.append("Set-Cookie", "b").expect("a field");
        let long = "X-".to_owned() + &"Long".repeat(20);
        fields.append(&long, "c").expect("a field");
        let (mut connection, mut decoder) = (Connection::new(&Options::server(&Limits::default())), Decoder::new());
        for _ in 0..3 {
            let spec =
                ResponseSpec { status: 404, fields: &fields, length: Some(5), date: b"Sun, 06 Nov 1994 08:49:37 GMT" };
            connection.encode_response(&spec, Some(5), false);
            assert_eq!(
                written(&connection, &mut decoder),
                [
                    ":status: 404",
                    "content-type: text/plain",
                    "set-cookie: a",
                    "set-cookie: b",
                    &(long.to_ascii_lowercase() + ": c"),
                    "content-length: 5",
                    "date: Sun, 06 Nov 1994 08:49:37 GMT",
                ]
            );
        }
    }

    #[test]
    fn an_upgrade_is_accepted_by_200_without_a_proof() {
        let mut fields = Headers::new();
        for (name, value) in
            [("Upgrade", "websocket"), ("Sec-WebSocket-Accept", "s3pP"), ("Sec-WebSocket-Protocol", "x")]
        {
            fields.append(name, value).expect("a field");
        }
        let spec = ResponseSpec { status: 101, fields: &fields, length: None, date: b"Sun, 06 Nov 1994 08:49:37 GMT" };
        let mut connection = Connection::new(&Options::server(&Limits::default()));
        connection.encode_response(&spec, None, true);
        let date = "date: Sun, 06 Nov 1994 08:49:37 GMT";
        let want = [":status: 200", "sec-websocket-protocol: x", date];
        assert_eq!(written(&connection, &mut Decoder::new()), want);
    }
}
