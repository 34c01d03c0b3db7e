//! UTF-8, checked as it arrives: an invalid byte is found at once, wherever the input was split.

/// Not UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotUtf8;

/// The beginning of a character whose rest has not arrived.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Utf8 {
    begun: [u8; 3],
    len: u8,
}

impl Utf8 {
    /// Returns `true` if the last character is complete.
    pub(crate) fn is_whole(self) -> bool {
        self.len == 0
    }

    /// Returns the text at the start of `bytes`, and keeps an incomplete character at their end. Requires that none was
    /// begun before.
    pub(crate) fn borrow<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a str, NotUtf8> {
        debug_assert!(self.is_whole());
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(text),
            Err(error) if error.error_len().is_some() => Err(NotUtf8),
            Err(error) => {
                let (whole, begun) = bytes.split_at(error.valid_up_to());
                let room = self.begun.get_mut(..begun.len()).ok_or(NotUtf8)?;
                room.copy_from_slice(begun);
                self.len = begun.len() as u8;
                std::str::from_utf8(whole).map_err(|_| NotUtf8)
            }
        }
    }

    /// Appends the characters that `bytes` complete.
    pub(crate) fn push(&mut self, mut bytes: &[u8], text: &mut String) -> Result<(), NotUtf8> {
        while !self.is_whole() {
            // Byte by byte, so that no byte behind the character is looked at too early.
            let Some((first, rest)) = bytes.split_first() else { return Ok(()) };
            let n = usize::from(self.len);
            let mut character = [0; 4];
            character[..n].copy_from_slice(&self.begun[..n]);
            character[n] = *first;
            bytes = rest;
            self.len = 0;
            text.push_str(self.borrow(&character[..=n])?);
        }
        text.push_str(self.borrow(bytes)?);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pushes the bytes in pieces of `size`. The error: how many bytes came before the first invalid piece.
    fn pushed(bytes: &[u8], size: usize) -> Result<(String, bool), usize> {
        let (mut utf8, mut text) = (Utf8::default(), String::new());
        for (i, piece) in bytes.chunks(size).enumerate() {
            utf8.push(piece, &mut text).map_err(|_| i * size)?;
        }
        Ok((text, utf8.is_whole()))
    }

    #[test]
    fn text_is_the_same_however_it_is_split() {
        let text = "plain, κόσμε, \u{7ff}\u{800}\u{ffff}\u{10000}\u{10ffff} \0 end €";
        for size in 1..=text.len() {
            assert_eq!(pushed(text.as_bytes(), size), Ok((text.to_owned(), true)), "{size}");
        }
    }

    #[test]
    fn a_wrong_byte_is_found_at_once() {
        #[rustfmt::skip]
        const ROWS: &[(&[u8], usize)] = &[
            // bytes                         the first wrong one
            (b"\xff",                        0),
            (b"\x80",                        0),
            (b"a\xc0\x80",                   1), // overlong
            (b"a\xc1\xbf",                   1),
            (b"\xe0\x9f\xbf",                1), // overlong
            (b"\xed\xa0\x80",                1), // a surrogate
            (b"\xf0\x8f\xbf\xbf",            1), // overlong
            (b"\xf4\x90\x80\x80",            1), // beyond U+10FFFF
            (b"\xf5\x80\x80\x80",            0),
            (b"\xe2\x82a",                   2),
            (b"\xe2a",                       1),
            (b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xf4\x90\x80\x80edited", 12),
        ];
        for (bytes, wrong) in ROWS {
            assert_eq!(pushed(bytes, 1), Err(*wrong), "{}", bytes.escape_ascii());
            assert_eq!(pushed(bytes, bytes.len()), Err(0));
            let begun = pushed(&bytes[..*wrong], 1).expect("the bytes before are valid");
            assert_eq!(pushed(&bytes[..*wrong], 100), Ok(begun));
        }
    }

    #[test]
    fn a_begun_character_is_not_whole() {
        for (bytes, whole) in [(&b"\xe2"[..], false), (b"\xe2\x82", false), (b"\xe2\x82\xac", true), (b"", true)] {
            assert_eq!(pushed(bytes, 1).map(|(_, whole)| whole), Ok(whole));
        }
    }

    #[test]
    fn every_sequence_is_valid_where_the_standard_library_says_so() {
        // All pairs of leading bytes, with every kind of continuation.
        for pair in 0..=u16::MAX {
            let [a, b] = pair.to_be_bytes();
            for tail in [&b""[..], b"\x80", b"\xbf\x80", b"x"] {
                let bytes = [&[a, b][..], tail].concat();
                let good = std::str::from_utf8(&bytes).is_ok();
                let ours = pushed(&bytes, 1);
                assert_eq!(matches!(ours, Ok((_, true))), good, "{}", bytes.escape_ascii());
                assert_eq!(ours.is_err(), pushed(&bytes, 4).is_err());
            }
        }
    }
}
