//! A field of a form, as its event reports it.

use std::{fmt, sync::Arc};

/// A field of a form: its name and, in a multipart form, what else the client says of its value.
///
/// All of it is what the client sent. A filename can be a path, "..", or empty: never use it as a path of the file
/// system without a check.
#[derive(Clone, PartialEq, Eq)]
pub struct Field {
    pub(super) name: Text,
    pub(super) filename: Option<Text>,
    pub(super) content_type: Option<Text>,
    pub(super) transfer_encoding: Option<Text>,
}

impl Field {
    pub(super) fn named(name: &[u8]) -> Self {
        Self { name: Text::new(name), filename: None, content_type: None, transfer_encoding: None }
    }

    /// Returns the name. Bytes that are not UTF-8 become U+FFFD. It can be empty.
    ///
    /// In a multipart form, browsers send a quotation mark as `%22`, CR as `%0D` and LF as `%0A`, but leave "%" as it
    /// is (WHATWG HTML §4.10.21.8). So these are not decoded; `\"` and `\\`, which other clients send, are.
    pub fn name(&self) -> &str {
        &self.name.text
    }

    /// Returns the filename; `None` if the value is not a file. It is empty if the user has chosen no file.
    /// Bytes that are not UTF-8 become U+FFFD. See [`name`](Self::name) for escapes. The parameter `filename*` is
    /// ignored (RFC 7578 §4.2).
    pub fn filename(&self) -> Option<&str> {
        self.filename.as_ref().map(|filename| &*filename.text)
    }

    /// Returns the media type of the value, if the part has a Content-Type. Without one it is `text/plain` (RFC 7578
    /// §4.4). Bytes that are not UTF-8 become U+FFFD.
    pub fn content_type(&self) -> Option<&str> {
        self.content_type.as_ref().map(|content_type| &*content_type.text)
    }

    /// Returns the Content-Transfer-Encoding of the part, if there is one. Values are not decoded by it: RFC 7578 §4.7
    /// deprecates it for HTTP. Bytes that are not UTF-8 become U+FFFD.
    pub fn transfer_encoding(&self) -> Option<&str> {
        self.transfer_encoding.as_ref().map(|encoding| &*encoding.text)
    }

    /// Returns the bytes of the [`name`](Self::name), which can be invalid UTF-8.
    pub fn name_bytes(&self) -> &[u8] {
        self.name.bytes()
    }

    /// Returns the bytes of the [`filename`](Self::filename), which can be invalid UTF-8.
    pub fn filename_bytes(&self) -> Option<&[u8]> {
        self.filename.as_ref().map(Text::bytes)
    }

    /// Returns the bytes of the [`content_type`](Self::content_type), which can be invalid UTF-8.
    pub fn content_type_bytes(&self) -> Option<&[u8]> {
        self.content_type.as_ref().map(Text::bytes)
    }

    /// Returns the bytes of the [`transfer_encoding`](Self::transfer_encoding), which can be invalid UTF-8.
    pub fn transfer_encoding_bytes(&self) -> Option<&[u8]> {
        self.transfer_encoding.as_ref().map(Text::bytes)
    }
}

impl fmt::Debug for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Field")
            .field("name", &self.name())
            .field("filename", &self.filename())
            .field("content_type", &self.content_type())
            .field("transfer_encoding", &self.transfer_encoding())
            .finish()
    }
}

/// Bytes of a client, as text. The files of a nested multipart share that of their field: a short body must not need
/// much memory.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Text {
    text: Arc<str>,
    /// The bytes, if they are not UTF-8.
    invalid: Option<Arc<[u8]>>,
}

impl Text {
    pub(super) fn new(bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(bytes);
        let invalid = (text.as_bytes() != bytes).then(|| bytes.into());
        Self { text: text.into(), invalid }
    }

    fn bytes(&self) -> &[u8] {
        self.invalid.as_deref().unwrap_or(self.text.as_bytes())
    }
}
