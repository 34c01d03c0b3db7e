//! Values of a request: header, cookie, argument and trailer fields, as strings of C that live as long as the request.

use std::{
    ffi::{c_char, c_int},
    ptr::null_mut,
};

use crate::types::FromC;

/// The values that were asked for.
#[derive(Default)]
pub(crate) struct Values {
    pub(crate) entries: Vec<Entry>,
    /// The kinds that are in `entries`.
    pub(crate) loaded: c_int,
    /// The memory that `entries` points to. A box does not move when the vector grows.
    pub(crate) texts: Vec<Box<[u8]>>,
}

#[derive(Clone, Copy)]
pub(crate) struct Entry {
    pub(crate) kind: c_int,
    pub(crate) key: FromC<c_char>,
    pub(crate) key_len: usize,
    pub(crate) value: FromC<c_char>,
    pub(crate) value_len: usize,
}

impl Entry {
    fn key(&self) -> Option<&[u8]> {
        // SAFETY: The key is in a text of the same list, or the program has promised that it stays.
        (!self.key.0.is_null()).then(|| unsafe { std::slice::from_raw_parts(self.key.0.cast(), self.key_len) })
    }

    pub(crate) fn matches(&self, kinds: c_int, key: Option<&[u8]>) -> bool {
        self.kind & kinds != 0
            && match (self.key(), key) {
                (Some(own), Some(key)) => own.eq_ignore_ascii_case(key),
                (own, key) => own.is_none() && key.is_none(),
            }
    }
}

impl Values {
    /// Adds a value; `None` if there is no "=" behind the name.
    pub(crate) fn add(&mut self, kind: c_int, key: &[u8], value: Option<&[u8]>) {
        let mut text = Vec::with_capacity(key.len() + value.map_or(0, <[u8]>::len) + 2);
        text.extend_from_slice(key);
        text.push(0);
        text.extend_from_slice(value.unwrap_or_default());
        text.push(0);
        let mut text = text.into_boxed_slice();
        let start = text.as_mut_ptr().cast::<c_char>();
        let value = value.map_or((null_mut(), 0), |value| (start.wrapping_add(key.len() + 1), value.len()));
        let (key, key_len) = (FromC(start), key.len());
        self.entries.push(Entry { kind, key, key_len, value: FromC(value.0), value_len: value.1 });
        self.texts.push(text);
    }
}

/// Splits a Cookie field into names and values (RFC 6265 §4.2.1). A value may be in quotes.
pub(crate) fn cookies(field: &[u8]) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
    field.split(|byte| *byte == b';').filter_map(|pair| {
        let pair = pair.trim_ascii();
        let mut parts = pair.splitn(2, |byte| *byte == b'=');
        let (name, value) = (parts.next()?.trim_ascii(), parts.next().map(<[u8]>::trim_ascii));
        let unquoted =
            |value: &'_ [u8]| value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).is_some();
        let value = value.map(|value| if unquoted(value) { &value[1..value.len() - 1] } else { value });
        (!name.is_empty()).then_some((name, value))
    })
}
