//! The JSON clients send: what a stream is created with, and the errors they report.
//!
//! Header fields are checked when they come, so that none of them can fail, or split an answer, when it is sent.

use serde_json::Value;
use uncork::{
    Action, Consumed, Response, Upload,
    h1::{Headers, is_token},
};

use super::{
    faults::{Fault, UNSPECIFIED, json_too_large},
    json::Json,
};

/// What a stream was created with.
#[derive(Debug, Default)]
pub(super) struct CreateOptions {
    /// Fields of the answer to GET; `None` if a body was given without them.
    pub(super) download: Option<Fields>,
    /// Fields of the answer to PUT.
    pub(super) upload: Option<Fields>,
}

/// Header fields a client wants in an answer.
#[derive(Debug, Default)]
pub(super) struct Fields {
    /// As they were given, for `/status`.
    pub(super) json: Box<str>,
    /// Ready to be sent; without those below, and without `Date` and `Keep-Alive`, which are the engine's affair.
    pub(super) headers: Headers,
    /// `Content-Length`.
    pub(super) length: Option<u64>,
    /// `Connection: keep-alive`.
    pub(super) keep_alive: bool,
}

impl CreateOptions {
    /// Reads the body of `POST /stream`, which may be empty.
    pub(super) fn parse(body: &[u8]) -> Result<Self, Fault> {
        if body.is_empty() {
            // The original shows this as an empty list.
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
        // The answer to PUT has no body.
        if options.upload.as_ref().is_some_and(|fields| fields.length.is_some_and(|n| n > 0)) {
            return Err(invalid_name("Content-Length"));
        }
        Ok(options)
    }

    /// Bytes held for it, about.
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
        // Framing follows from the body (RFC 9112 §6), and so do these.
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
        // RFC 9110 §5.5 without obs-text, as the original.
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

/// Reads the body of `POST /stream/<id>/error`, which may be empty: what the other side is to be told.
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

/// Holds a small body until it is whole, and answers then.
pub(super) struct Collect<D, F> {
    pub(super) bytes: Vec<u8>,
    pub(super) limit: usize,
    /// How the answers look that come from here.
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

    fn refused(body: &str) -> String {
        let fault = CreateOptions::parse(body.as_bytes()).expect_err(body);
        assert_eq!((fault.status, &*fault.name), (400, "InvalidBodyError"));
        fault.message.into_owned()
    }

    fn download(headers: &str) -> Result<Fields, Fault> {
        CreateOptions::parse(format!("{{\"download_headers\":{headers}}}").as_bytes())
            .map(|options| options.download.unwrap())
    }

    #[test]
    fn what_is_not_json_is_refused_in_the_parsers_words() {
        assert!(refused("{\"a\":").starts_with("Invalid JSON: EOF while parsing"), "{}", refused("{\"a\":"));
        assert!(refused(" ").starts_with("Invalid JSON: "));
    }

    #[test]
    fn what_is_no_object_asks_for_nothing() {
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
            let message = refused(&format!("{{\"upload_headers\":{{\"{name}\":\"x\"}}}}"));
            assert!(message.starts_with("Not a valid HTTP header name: "), "{message}");
        }
        assert_eq!(refused(r#"{"download_headers":{"@{}[].<>":"x"}}"#), "Not a valid HTTP header name: @{}[].<>");
        for name in ["Transfer-Encoding", "TRANSFER-ENCODING", "Trailer", "Upgrade"] {
            assert!(download(&format!("{{\"{name}\":\"chunked\"}}")).is_err(), "{name}");
        }
        assert!(download("{\"a!#$%&'*+-.^_`|~9\":\"x\"}").is_ok());
    }

    #[test]
    fn values_are_printable() {
        assert_eq!(refused(r#"{"download_headers":{"A":"\b"}}"#), "Not a valid HTTP header value: \"\u{8}\"");
        assert_eq!(refused(r#"{"download_headers":{"A":["a","\n"]}}"#), "Not a valid HTTP header value: \"a,\n\"");
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
    fn what_is_the_engines_is_left_to_it() {
        let fields = download(r#"{"Date":"x","Connection":"Keep-Alive","Keep-Alive":"timeout=5"}"#).unwrap();
        assert!(fields.headers.is_empty() && fields.keep_alive);
        assert!(!download(r#"{"Connection":"close"}"#).unwrap().keep_alive);
    }

    #[test]
    fn client_errors() {
        let told = |body: &str| client_error(body.as_bytes()).map(|fault| (fault.status, fault.json()));
        let default = r#"{"name":"Error","message":"The other side encountered an unspecified error"}"#;
        for body in ["", "{}", "null", "[]", "5", r#"{"name":null,"http_status":null,"more":{}}"#] {
            assert_eq!(told(body), Ok((400, default.into())), "{body}");
        }
        let body = r#"{"http_status":404,"name":"N","message":"M","extra":1}"#;
        assert_eq!(told(body), Ok((404, r#"{"name":"N","message":"M"}"#.into())));
        for status in ["400", "599", "4.04e2"] {
            assert!(told(&format!("{{\"http_status\":{status}}}")).is_ok(), "{status}");
        }
        for bad in ["399", "600", "200", "-404", "404.5", "\"404\"", "\"teapot\"", "true", "[]", "1e99", "65940"] {
            assert_eq!(told(&format!("{{\"http_status\":{bad}}}")).unwrap_err().status, 400, "{bad}");
        }
        assert!(told(r#"{"name":5}"#).is_err() && told(r#"{"message":{}}"#).is_err());
        assert!(told("{").unwrap_err().message.starts_with("EOF while parsing"));
    }
}
