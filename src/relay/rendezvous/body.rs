//! Parses the JSON that clients send: the options of a new stream, and the errors that they report.
//!
//! Header fields are checked on arrival, so that none of them can fail, or split a response, when it is sent.

use serde_json::Value;
use uncork::{
    Action, Consumed, Response, Upload,
    h1::{Headers, is_token},
};

use super::{
    faults::{Fault, UNSPECIFIED, json_too_large},
    json::Json,
};

/// The options that a stream was created with.
#[derive(Debug, Default)]
pub(super) struct CreateOptions {
    /// Fields of the response to GET; `None` if the JSON does not have them.
    pub(super) download: Option<Fields>,
    /// Fields of the response to PUT.
    pub(super) upload: Option<Fields>,
}

/// Header fields that a client requests for a response.
#[derive(Debug, Default)]
pub(super) struct Fields {
    /// The JSON as it was received, for `/status`.
    pub(super) json: Box<str>,
    /// The fields to send; without those below, and without `Date` and `Keep-Alive`, which the engine sets.
    pub(super) headers: Headers,
    /// `Content-Length`.
    pub(super) length: Option<u64>,
    /// `Connection: keep-alive`.
    pub(super) keep_alive: bool,
}

impl CreateOptions {
    /// Parses the body of `POST /stream`, which may be empty.
    pub(super) fn parse(body: &[u8]) -> Result<Self, Fault> {
        if body.is_empty() {
            // http-rendezvous shows this as an empty list.
            let nothing = || Some(Fields { json: "[]".into(), ..Fields::default() });
            return Ok(Self { download: nothing(), upload: nothing() });
        }
        let json = Json::parse(body).map_err(|error| Fault::invalid_body(format!("Invalid JSON: {error}")))?;
        let mut options = Self::default();
        for (name, value) in json.into_members() {
            match name.as_str() {
                "download_headers" => options.download = Fields::check(value)?,
                "upload_headers" => options.upload = Fields::check(value)?,
                _ => {}
            }
        }
        // The response to PUT has no body.
        if options.upload.as_ref().is_some_and(|fields| fields.length.is_some_and(|n| n > 0)) {
            return Err(invalid_name("Content-Length"));
        }
        Ok(options)
    }

    /// Returns about how many bytes are held for it.
    pub(super) fn weight(&self) -> usize {
        [&self.download, &self.upload].into_iter().flatten().map(|fields| 2 * fields.json.len()).sum()
    }
}

impl Fields {
    fn check(given: Json) -> Result<Option<Self>, Fault> {
        let mut fields = Self { json: given.to_string().into(), ..Self::default() };
        let members = match given {
            Json::Scalar(Value::Null) => return Ok(None),
            Json::Object(members) => members,
            Json::Array(items) if items.is_empty() => Vec::new(),
            _ => return Err(Fault::invalid_body("Header fields must be an object")),
        };
        for (name, value) in members {
            fields.add(&name, &value)?;
        }
        Ok(Some(fields))
    }

    fn add(&mut self, name: &str, value: &Json) -> Result<(), Fault> {
        // The body determines the framing (RFC 9112 §6), and with it these fields.
        const FRAMING: [&str; 3] = ["transfer-encoding", "trailer", "upgrade"];
        let is = |other: &str| name.eq_ignore_ascii_case(other);
        if !is_token(name.as_bytes()) || FRAMING.into_iter().any(is) {
            return Err(invalid_name(name));
        }
        let text = value.text();
        let lines: Vec<String> = match value {
            Json::Scalar(_) => vec![text.clone()],
            Json::Array(items) if items.iter().all(|item| matches!(item, Json::Scalar(_))) => {
                items.iter().map(Json::text).collect()
            }
            _ => return Err(invalid_value(&text)),
        };
        // RFC 9110 §5.5 without obs-text, as in http-rendezvous.
        if !text.bytes().all(|b| matches!(b, b'\t' | b' '..=b'~')) {
            return Err(invalid_value(&text));
        }
        if is("content-length") {
            let digits = text.trim_matches([' ', '\t']);
            let length = digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok()).flatten();
            if length.is_none() || self.length.is_some() {
                return Err(invalid_value(&text));
            }
            self.length = length;
        } else if is("connection") {
            self.keep_alive = text.trim_matches([' ', '\t']).eq_ignore_ascii_case("keep-alive");
        } else if !is("date") && !is("keep-alive") {
            for line in lines {
                self.headers.append(name, &line).map_err(|_| invalid_value(&text))?;
            }
        }
        Ok(())
    }
}

fn invalid_name(name: &str) -> Fault {
    Fault::invalid_body(format!("Not a valid HTTP header name: {name}"))
}

fn invalid_value(text: &str) -> Fault {
    Fault::invalid_body(format!("Not a valid HTTP header value: \"{text}\""))
}

/// Parses the body of `POST /stream/<id>/error`, which may be empty, into the error for the other side.
pub(super) fn client_error(body: &[u8]) -> Result<Fault, Fault> {
    let mut fault = UNSPECIFIED;
    if body.is_empty() {
        return Ok(fault);
    }
    let json = Json::parse(body).map_err(|error| Fault::invalid_body(error.to_string()))?;
    for (name, value) in json.into_members() {
        let what = match name.as_str() {
            "http_status" => {
                fault.status = match &value {
                    Json::Scalar(Value::Null) => fault.status,
                    Json::Scalar(Value::Number(_)) => status(&value.text())?,
                    _ => return Err(invalid_status(&value)),
                };
                continue;
            }
            "name" => &mut fault.name,
            "message" => &mut fault.message,
            _ => continue,
        };
        match value {
            Json::Scalar(Value::Null) => {}
            Json::Scalar(Value::String(text)) => *what = text.into(),
            _ => return Err(Fault::invalid_body(format!("Not a string: {value}"))),
        }
    }
    Ok(fault)
}

fn status(text: &str) -> Result<u16, Fault> {
    let status = text.parse().ok().filter(|status| (400..600).contains(status));
    status.ok_or_else(|| Fault::invalid_body(format!("Not an HTTP error status (400 to 599): {text}")))
}

fn invalid_status(value: &Json) -> Fault {
    Fault::invalid_body(format!("Not an HTTP error status (400 to 599): {value}"))
}

/// Collects a small body, and responds when it is complete.
pub(super) struct Collect<D, F> {
    pub(super) bytes: Vec<u8>,
    pub(super) limit: usize,
    /// Adds the fields that all responses of the service have.
    pub(super) finish: D,
    pub(super) then: F,
}

impl<D, F> Upload for Collect<D, F>
where
    D: Fn(Response) -> Response + Send,
    F: FnOnce(&[u8]) -> Response + Send,
{
    fn data(&mut self, chunk: &[u8]) -> Consumed {
        if chunk.len() > self.limit - self.bytes.len() {
            return Consumed::Stop((self.finish)(json_too_large(self.limit).response()).into());
        }
        self.bytes.extend_from_slice(chunk);
        Consumed::All
    }

    fn end(self: Box<Self>, _: &Headers) -> Action {
        (self.finish)((self.then)(&self.bytes)).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rejected(body: &str) -> String {
        let fault = CreateOptions::parse(body.as_bytes()).expect_err(body);
        assert_eq!((fault.status, &*fault.name), (400, "InvalidBodyError"));
        fault.message.into_owned()
    }

    fn download(headers: &str) -> Result<Fields, Fault> {
        CreateOptions::parse(format!("{{\"download_headers\":{headers}}}").as_bytes())
            .map(|options| options.download.unwrap())
    }

    #[test]
    fn invalid_json_is_rejected_with_the_parsers_message() {
        assert!(rejected("{\"a\":").starts_with("Invalid JSON: EOF while parsing"), "{}", rejected("{\"a\":"));
        assert!(rejected(" ").starts_with("Invalid JSON: "));
    }

    #[test]
    fn json_that_is_not_an_object_has_no_options() {
        for body in ["null", "5", "\"x\"", "[]", "[1]", "{}", "{\"other\":1}", "{\"download_headers\":null}"] {
            let options = CreateOptions::parse(body.as_bytes()).unwrap();
            assert!(options.download.is_none() && options.upload.is_none(), "{body}");
        }
        let options = CreateOptions::parse(b"").unwrap();
        assert_eq!(&*options.download.unwrap().json, "[]");
        assert_eq!(&*options.upload.unwrap().json, "[]");
    }

    #[test]
    fn names_are_tokens_and_none_is_of_framing() {
        for name in
            ["@", "{", "}", "[", "]", ".<", ">", "@{}[].<>", "", "a b", "a:", "ä", "\u{2018}", "(", "a\\r", "\\u0000"]
        {
            let message = rejected(&format!("{{\"upload_headers\":{{\"{name}\":\"x\"}}}}"));
            assert!(message.starts_with("Not a valid HTTP header name: "), "{message}");
        }
        assert_eq!(rejected(r#"{"download_headers":{"@{}[].<>":"x"}}"#), "Not a valid HTTP header name: @{}[].<>");
        for name in ["Transfer-Encoding", "TRANSFER-ENCODING", "Trailer", "Upgrade"] {
            assert!(download(&format!("{{\"{name}\":\"chunked\"}}")).is_err(), "{name}");
        }
        assert!(download("{\"a!#$%&'*+-.^_`|~9\":\"x\"}").is_ok());
    }

    #[test]
    fn values_are_printable() {
        assert_eq!(rejected(r#"{"download_headers":{"A":"\b"}}"#), "Not a valid HTTP header value: \"\u{8}\"");
        assert_eq!(rejected(r#"{"download_headers":{"A":["a","\n"]}}"#), "Not a valid HTTP header value: \"a,\n\"");
        for value in ["\"a\\r\\nB: c\"", "\"\\u0000\"", "\"\\u007f\"", "\"ü\"", "{}", "[[\"a\"]]", "[{}]"] {
            assert!(download(&format!("{{\"A\":{value}}}")).is_err(), "{value}");
        }
        let fields = download(r#"{"B":"x\ty z","A":[1,"two"],"N":5,"E":"","T":true,"L":[]}"#).unwrap();
        let lines: Vec<_> = fields.headers.iter().map(|(n, v)| (n, std::str::from_utf8(v).unwrap())).collect();
        assert_eq!(lines, [("B", "x\ty z"), ("A", "1"), ("A", "two"), ("N", "5"), ("E", ""), ("T", "true")]);
        assert_eq!(&*fields.json, r#"{"B":"x\ty z","A":[1,"two"],"N":5,"E":"","T":true,"L":[]}"#);
        assert!(download("\"x\"").is_err() && download("[1]").is_err());
    }

    #[test]
    fn a_length_is_one_number() {
        for (value, want) in [("5", Some(5)), ("\"007\"", Some(7)), ("[\"5\"]", Some(5)), ("1e3", Some(1000))] {
            assert_eq!(download(&format!("{{\"content-length\":{value}}}")).unwrap().length, want);
        }
        for value in ["-1", "1.5", "\"\"", "\"+5\"", "[5,5]", "\"5,5\"", "[]", "99999999999999999999", "true"] {
            assert!(download(&format!("{{\"Content-Length\":{value}}}")).is_err(), "{value}");
        }
        assert!(download(r#"{"Content-Length":5,"content-length":5}"#).is_err());
        let upload =
            |n: u8| CreateOptions::parse(format!("{{\"upload_headers\":{{\"Content-Length\":{n}}}}}").as_bytes());
        assert!(upload(0).is_ok() && upload(1).is_err());
    }

    #[test]
    fn fields_that_the_engine_sets_are_dropped() {
        let fields = download(r#"{"Date":"x","Connection":"Keep-Alive","Keep-Alive":"timeout=5"}"#).unwrap();
        assert!(fields.headers.is_empty() && fields.keep_alive);
        assert!(!download(r#"{"Connection":"close"}"#).unwrap().keep_alive);
    }

    #[test]
    fn client_errors() {
        let parsed = |body: &str| client_error(body.as_bytes()).map(|fault| (fault.status, fault.json()));
        let default = r#"{"name":"Error","message":"The other side encountered an unspecified error"}"#;
        for body in ["", "{}", "null", "[]", "5", r#"{"name":null,"http_status":null,"more":{}}"#] {
            assert_eq!(parsed(body), Ok((400, default.into())), "{body}");
        }
        let body = r#"{"http_status":404,"name":"N","message":"M","extra":1}"#;
        assert_eq!(parsed(body), Ok((404, r#"{"name":"N","message":"M"}"#.into())));
        for status in ["400", "599", "4.04e2"] {
            assert!(parsed(&format!("{{\"http_status\":{status}}}")).is_ok(), "{status}");
        }
        for bad in ["399", "600", "200", "-404", "404.5", "\"404\"", "\"teapot\"", "true", "[]", "1e99", "65940"] {
            assert_eq!(parsed(&format!("{{\"http_status\":{bad}}}")).unwrap_err().status, 400, "{bad}");
        }
        assert!(parsed(r#"{"name":5}"#).is_err() && parsed(r#"{"message":{}}"#).is_err());
        assert!(parsed("{").unwrap_err().message.starts_with("EOF while parsing"));
    }
}
