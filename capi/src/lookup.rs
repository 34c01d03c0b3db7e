//! The functions that look up the values of a request, or add some.

use std::{
    ffi::{c_char, c_int, c_void},
    ptr::null,
};

use libc::size_t;

use crate::{
    connection::{MHD_Connection, State},
    strings::unescape_in_place,
    types::{FromC, KeyValueIterator, KeyValueIteratorN, NO, Result, YES, kind, to_int},
    values::{Entry, Values, cookies},
};

impl MHD_Connection {
    /// Decodes a part of the target as the program wants it.
    pub(crate) fn unescape(&self, text: &mut Vec<u8>) {
        match self.shared.unescape {
            None => {
                let len = unescape_in_place(text);
                text.truncate(len);
            }
            Some((callback, cls)) => {
                text.push(0);
                // SAFETY: The program registered this function and this pointer. It gets a string that ends with NUL
                // and may make it shorter, not longer.
                let len = unsafe { callback(cls.0, self.address(), text.as_mut_ptr().cast()) };
                text.truncate(len.min(text.len() - 1));
            }
        }
    }

    fn arguments(&self, query: &[u8], values: &mut Values) {
        for part in query.split(|byte| *byte == b'&').filter(|part| !part.is_empty()) {
            let mut halves = part.splitn(2, |byte| *byte == b'=').map(|half| {
                let mut half: Vec<u8> = half.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect();
                self.unescape(&mut half);
                half
            });
            let (key, value) = (halves.next().unwrap_or_default(), halves.next());
            values.add(kind::GET_ARGUMENT, &key, value.as_deref());
        }
    }

    /// Makes the values of these kinds available, and calls `f` with the values.
    fn with_values<T>(&self, kinds: c_int, f: impl FnOnce(&mut Values) -> T) -> T {
        let mut query = None;
        {
            let mut state = self.state();
            let mut values = state.values.take().unwrap_or_default();
            let missing = kinds & !values.loaded;
            values.loaded |= missing;
            load_fields(&state, missing, &mut values);
            if missing & kind::GET_ARGUMENT != 0 {
                query = state.query().map(<[u8]>::to_vec);
            }
            state.values = Some(values);
        }
        let mut arguments = Values::default();
        if let Some(query) = query {
            // Without the lock: the program may have a function of its own for decoding.
            self.arguments(&query, &mut arguments);
        }
        let mut state = self.state();
        let values = state.values.get_or_insert_default();
        values.entries.append(&mut arguments.entries);
        values.texts.append(&mut arguments.texts);
        f(values)
    }

    /// Returns the first value of these kinds with this name, in any case.
    pub(crate) fn lookup(&self, kinds: c_int, key: Option<&[u8]>) -> Option<Entry> {
        self.with_values(kinds, |values| values.entries.iter().find(|entry| entry.matches(kinds, key)).copied())
    }

    /// Calls `f` with each value until it returns `false`; returns the number of calls.
    fn iterate(&self, kinds: c_int, mut f: impl FnMut(&Entry) -> bool) -> c_int {
        let of_kinds = |values: &mut Values| -> Vec<Entry> {
            values.entries.iter().filter(|entry| entry.kind & kinds != 0).copied().collect()
        };
        // A copy: `f` may ask for other values.
        let entries = self.with_values(kinds, of_kinds);
        let calls = entries.iter().position(|entry| !f(entry)).map_or(entries.len(), |last| last + 1);
        to_int(calls)
    }
}

fn load_fields(state: &State, missing: c_int, values: &mut Values) {
    if missing & kind::HEADER != 0 {
        state.each_field(|name, value| values.add(kind::HEADER, name.as_bytes(), Some(value)));
    }
    if missing & kind::COOKIE != 0 {
        state.each_field(|name, value| {
            if name.eq_ignore_ascii_case("cookie") {
                cookies(value).for_each(|(name, value)| values.add(kind::COOKIE, name, value));
            }
        });
    }
    if missing & kind::FOOTER != 0 {
        match &state.trailers {
            Some(trailers) => {
                trailers.iter().for_each(|(name, value)| values.add(kind::FOOTER, name.as_bytes(), Some(value)));
            }
            // They can still arrive.
            None => values.loaded &= !kind::FOOTER,
        }
    }
}

/// # Safety
/// `key` must be NULL, or point to `len` bytes.
unsafe fn key_of<'a>(key: *const c_char, len: size_t) -> Option<&'a [u8]> {
    // SAFETY: The caller guarantees it.
    (!key.is_null()).then(|| unsafe { std::slice::from_raw_parts(key.cast(), len) })
}

export! {
    /// Returns the value of the first field with this name, in any case; NULL if there is none.
    fn MHD_lookup_connection_value(connection: *const MHD_Connection, kind: c_int, key: *const c_char)
        -> *const c_char, or null(); {
        // SAFETY: By the contract of the interface both are NULL, or a connection and a string.
        let (connection, key) = unsafe { (MHD_Connection::of_c(connection), crate::strings::bytes_of(key)) };
        let entry = connection.and_then(|connection| connection.lookup(kind, key));
        entry.map_or(null(), |entry| entry.value.0.cast_const())
    }
}

export! {
    /// Finds the first value with this name, in any case, and its length.
    fn MHD_lookup_connection_value_n(
        connection: *const MHD_Connection, kind: c_int, key: *const c_char, key_size: size_t,
        value: *mut *const c_char, value_size: *mut size_t,
    ) -> Result, or NO; {
        // SAFETY: By the contract of the interface both are NULL, or a connection and that many bytes.
        let (connection, key) = unsafe { (MHD_Connection::of_c(connection), key_of(key, key_size)) };
        let Some(entry) = connection.and_then(|connection| connection.lookup(kind, key)) else { return NO };
        if !value.is_null() {
            // SAFETY: By the contract of the interface it is NULL or can be written.
            unsafe { value.write(entry.value.0) };
        }
        if !value_size.is_null() {
            // SAFETY: As above.
            unsafe { value_size.write(entry.value_len) };
        }
        YES
    }
}

export! {
    /// Calls a function with each value of these kinds; returns how many there were, or -1.
    fn MHD_get_connection_values(
        connection: *const MHD_Connection, kinds: c_int, iterator: Option<KeyValueIterator>, cls: *mut c_void,
    ) -> c_int, or -1; {
        // SAFETY: By the contract of the interface it is NULL or a connection.
        let Some(connection) = (unsafe { MHD_Connection::of_c(connection) }) else { return -1 };
        connection.iterate(kinds, |entry| iterator.is_none_or(|iterator| {
            // SAFETY: The program has passed this function with this pointer. The strings end with NUL.
            unsafe { iterator(cls, entry.kind, entry.key.0, entry.value.0) != NO }
        }))
    }
}

export! {
    /// Like `MHD_get_connection_values`, but with lengths.
    fn MHD_get_connection_values_n(
        connection: *const MHD_Connection, kinds: c_int, iterator: Option<KeyValueIteratorN>, cls: *mut c_void,
    ) -> c_int, or -1; {
        // SAFETY: By the contract of the interface it is NULL or a connection.
        let Some(connection) = (unsafe { MHD_Connection::of_c(connection) }) else { return -1 };
        connection.iterate(kinds, |entry| iterator.is_none_or(|iterator| {
            // SAFETY: The program has passed this function with this pointer. The lengths are those of the strings.
            unsafe { iterator(cls, entry.kind, entry.key.0, entry.key_len, entry.value.0, entry.value_len) != NO }
        }))
    }
}

fn set(
    connection: Option<&MHD_Connection>,
    kind: c_int,
    key: (*const c_char, usize),
    value: (*const c_char, usize),
) -> Result {
    let one_kind = matches!(kind, kind::HEADER | kind::COOKIE | kind::POSTDATA | kind::GET_ARGUMENT | kind::FOOTER);
    let Some(connection) = connection.filter(|_| one_kind) else { return NO };
    let (key, value) = ((FromC(key.0.cast_mut()), key.1), (FromC(value.0.cast_mut()), value.1));
    let entry = Entry { kind, key: key.0, key_len: key.1, value: value.0, value_len: value.1 };
    // Values of the request come first.
    connection.with_values(kind, |values| values.entries.push(entry));
    YES
}

/// # Safety
/// `text` must be NULL, or a string that ends with NUL.
unsafe fn with_length(text: *const c_char) -> (*const c_char, usize) {
    // SAFETY: The caller guarantees it.
    (text, unsafe { crate::strings::bytes_of(text) }.map_or(0, <[u8]>::len))
}

export! {
    /// Adds a value to those of the request. The program keeps the strings until the request ends.
    fn MHD_set_connection_value(
        connection: *const MHD_Connection, kind: c_int, key: *const c_char, value: *const c_char,
    ) -> Result, or NO; {
        // SAFETY: By the contract of the interface they are NULL, or a connection and strings.
        unsafe { set(MHD_Connection::of_c(connection), kind, with_length(key), with_length(value)) }
    }
}

export! {
    /// Like `MHD_set_connection_value`, but with lengths.
    fn MHD_set_connection_value_n(
        connection: *const MHD_Connection, kind: c_int, key: *const c_char, key_size: size_t,
        value: *const c_char, value_size: size_t,
    ) -> Result, or NO; {
        if (key.is_null() && key_size > 0) || (value.is_null() && value_size > 0) {
            return NO;
        }
        // SAFETY: By the contract of the interface it is NULL or a connection.
        set(unsafe { MHD_Connection::of_c(connection) }, kind, (key, key_size), (value, value_size))
    }
}
