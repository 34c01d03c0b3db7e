//! The header and trailer fields of a response.

use std::ffi::{CString, c_int};

use uncork::{Headers, h1::write::is_written_here};

use crate::types::kind;

/// The fields, in the order in which they were added.
#[derive(Default)]
pub(crate) struct Fields {
    pub(crate) list: Vec<Field>,
    /// What `made` has made of them; `None` after a change.
    pub(crate) made: Option<(Headers, bool)>,
}

pub(crate) struct Field {
    pub(crate) kind: c_int,
    pub(crate) name: CString,
    pub(crate) value: CString,
    /// The name again, for Rust.
    pub(crate) text: Box<str>,
    /// uncork writes fields of this name itself.
    written_elsewhere: bool,
}

impl Field {
    pub(crate) fn new(kind: c_int, name: &str, value: &[u8]) -> Option<Self> {
        let (text, written_elsewhere) = (name.into(), is_written_here(name));
        Some(Self { kind, name: CString::new(name).ok()?, value: CString::new(value).ok()?, text, written_elsewhere })
    }

    fn is_header(&self) -> bool {
        self.kind == kind::HEADER
    }
}

impl Fields {
    /// Returns the header fields, and `true` if the connection closes after the response. uncork writes `Date`,
    /// `Connection` and the framing itself.
    pub(crate) fn made(&mut self) -> (Headers, bool) {
        let list = &self.list;
        self.made
            .get_or_insert_with(|| {
                let (mut headers, mut close) = (Headers::new(), false);
                for field in list.iter().filter(|field| field.is_header()) {
                    if !field.written_elsewhere {
                        // They were checked when they were added.
                        let _ = headers.append(&field.text, field.value.as_bytes().trim_ascii());
                    } else if field.text.eq_ignore_ascii_case("connection") {
                        close |= field.has_token(b"close");
                    }
                }
                (headers, close)
            })
            .clone()
    }

    /// Returns the trailer fields.
    pub(crate) fn trailers(&self) -> Option<Headers> {
        let mut trailers = Headers::new();
        for field in self.list.iter().filter(|field| !field.is_header()) {
            // They were checked when they were added.
            let _ = trailers.append(&field.text, field.value.as_bytes().trim_ascii());
        }
        (!trailers.is_empty()).then_some(trailers)
    }
}

impl Field {
    fn has_token(&self, token: &[u8]) -> bool {
        self.value.as_bytes().split(|byte| *byte == b',').any(|part| part.trim_ascii().eq_ignore_ascii_case(token))
    }
}
