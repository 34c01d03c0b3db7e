//! Decodes the blocks of the peer (RFC 7541 §3, §6).
//!
//! ```text
//!   1 index(7)                    ─▶ a field of a table
//!   01 index(6)  [name]  value    ─▶ a literal that is added to the table
//!   001 size(5)                   ─▶ the table's new limit: before the first field only
//!   0000, 0001 index(4) [name] value ─▶ a literal that is not added
//! ```
//! An error leaves the table as it was at that place: the connection has to end.

use super::{
    huffman,
    primitive::{Invalid, integer},
    table::{Known, MOST, Name, STATIC, STATICS, Table, Valid},
};

/// Bytes of names that a block may copy within the table: so many, and so many for each of its own bytes. Two bytes can
/// add an entry with a name of 4 KB. No client has a reason to do that often.
const COPIES: (usize, usize) = (4096, 100);

/// The decoder of a connection.
pub(crate) struct Decoder {
    table: Table,
    scratch: Scratch,
}

/// What a literal had in Huffman code. It keeps its memory for the next literal.
#[derive(Default)]
struct Scratch {
    name: Vec<u8>,
    value: Vec<u8>,
}

impl Decoder {
    /// Creates a decoder with a table of at most 4,096 bytes, the default of SETTINGS_HEADER_TABLE_SIZE. It allocates
    /// nothing before it is used.
    pub(crate) const fn new() -> Self {
        Self { table: Table::new(MOST), scratch: Scratch { name: Vec::new(), value: Vec::new() } }
    }

    /// Decodes a complete block, and calls `field` with the name and value of each field in order.
    ///
    /// `field` returns whether the field is valid, and its name. The table keeps that with an entry, so that one to
    /// which a block refers a thousand times, for its name or for all of it, is checked once: then `field` gets what it
    /// has returned before. The table is updated for all fields, whether the caller keeps them or not.
    ///
    /// # Errors
    ///
    /// The block is invalid, or copies much more within the table than it has itself: COMPRESSION_ERROR. Fields before the
    /// fault were given out. The decoder cannot go on.
    pub(crate) fn decode(
        &mut self,
        block: &[u8],
        mut field: impl FnMut(&[u8], &[u8], Known) -> Valid,
    ) -> Result<(), Invalid> {
        let mut rest = self.updates(block)?;
        let mut copies = COPIES.0 + COPIES.1 * block.len();
        while let Some(&first) = rest.first() {
            if first & 0x80 != 0 {
                let index = integer(&mut rest, 7)?;
                let (name, value, valid) = entry(&self.table, index).ok_or(Invalid)?;
                field(name, value, Known::Field(valid.field));
            } else {
                let copied = self.literal(first, &mut rest, &mut field)?;
                copies = copies.checked_sub(copied).ok_or(Invalid)?;
            }
        }
        Ok(())
    }

    /// Gives back the memory of `scratch`. The table stays as it is.
    pub(crate) fn rest(&mut self) {
        self.scratch = Scratch::default();
    }

    /// Takes the updates of the table's size from the front of a block (§4.2, §6.3). Returns what follows.
    fn updates<'a>(&mut self, block: &'a [u8]) -> Result<&'a [u8], Invalid> {
        let mut rest = block;
        while let Some(first) = rest.first()
            && first & 0xe0 == 0x20
        {
            let limit = integer(&mut rest, 5)?;
            if limit > MOST {
                return Err(Invalid);
            }
            self.table.set_limit(limit);
        }
        Ok(rest)
    }

    /// Decodes a literal (§6.2). Returns how many bytes of a name were copied within the table.
    fn literal(
        &mut self,
        first: u8,
        rest: &mut &[u8],
        field: &mut impl FnMut(&[u8], &[u8], Known) -> Valid,
    ) -> Result<usize, Invalid> {
        let is_added = first & 0x40 != 0;
        if !is_added && first & 0x20 != 0 {
            // An update behind a field.
            return Err(Invalid);
        }
        let index = integer(rest, if is_added { 6 } else { 4 })?;
        // The name as the table takes it: it must not borrow the table.
        let (name, of, known) = match index {
            0 => {
                let name = string(rest, &mut self.scratch.name)?;
                (name, Name::Text(name), Known::Nothing)
            }
            1..=STATICS => (STATIC[index - 1].0, Name::Text(STATIC[index - 1].0), Known::Name(true)),
            _ => {
                let (name, _, valid) = entry(&self.table, index).ok_or(Invalid)?;
                (name, Name::Of(index - STATICS - 1), Known::Name(valid.name))
            }
        };
        let value = string(rest, &mut self.scratch.value)?;
        let valid = field(name, value, known);
        if !is_added {
            return Ok(0);
        }
        let copied = if let Name::Of(_) = of { name.len() } else { 0 };
        self.table.add(of, value, valid);
        Ok(copied)
    }

    /// Like [`decode`](Self::decode), of fields that are all valid.
    #[cfg(test)]
    pub(crate) fn decode_fields(&mut self, block: &[u8], mut field: impl FnMut(&[u8], &[u8])) -> Result<(), Invalid> {
        self.decode(block, |name, value, _| {
            field(name, value);
            Valid::BOTH
        })
    }

    #[cfg(test)]
    pub(super) fn table(&mut self) -> &mut Table {
        &mut self.table
    }

    /// Returns the bytes of memory beside the decoder itself.
    #[cfg(test)]
    pub(super) fn memory(&self) -> usize {
        self.table.memory() + self.scratch.name.capacity() + self.scratch.value.capacity()
    }
}

/// Returns the entry of an index (§2.3.3). There is none of index 0.
#[inline]
fn entry(table: &Table, index: usize) -> Option<(&[u8], &[u8], Valid)> {
    let index = index.checked_sub(1)?;
    match STATIC.get(index) {
        Some(&(name, value)) => Some((name, value, Valid::BOTH)),
        None => table.get(index - STATICS),
    }
}

/// Takes a string from the front of `bytes` (§5.2). `scratch` has it if it was in Huffman code.
fn string<'a, 'b: 'a>(bytes: &mut &'b [u8], scratch: &'a mut Vec<u8>) -> Result<&'a [u8], Invalid> {
    let is_huffman = bytes.first().is_some_and(|first| first & 0x80 != 0);
    let len = integer(bytes, 7)?;
    let (text, rest) = bytes.split_at_checked(len).ok_or(Invalid)?;
    *bytes = rest;
    if !is_huffman {
        return Ok(text);
    }
    huffman::decode(text, scratch)?;
    Ok(scratch)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_string_ends_within_the_block() {
        let mut scratch = Vec::new();
        let mut rest = &b"\x03abcd"[..];
        assert_eq!(string(&mut rest, &mut scratch), Ok(&b"abc"[..]));
        assert_eq!(rest, b"d");
        for bytes in [&b""[..], b"\x04abc", b"\x7f\xff\xff\xff\x7fabc", b"\x84abc"] {
            assert_eq!(string(&mut &bytes[..], &mut Vec::new()), Err(Invalid), "{bytes:x?}");
        }
    }
}
