//! The parts of which blocks are made: integers and strings (RFC 7541 §5). The decoder reads strings by itself.
//!
//! ```text
//!   integer, 5 bits of its first byte: │ x x x 1 1 1 1 1 │ 1 0 0 1 1 0 1 0 │ 0 0 0 0 1 0 1 0 │  31 + 26 + (10 << 7)
//!   string:                            │ H │ length, 7 bits and more        │ bytes           │  H: Huffman
//! ```

/// The block breaks the rules of RFC 7541: COMPRESSION_ERROR.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Invalid;

/// The most bytes of an integer behind its first one: values up to 2^28, which no block reaches. A longer encoding is
/// invalid, also of a small value (§5.1). So no sum overflows.
const MORE: u32 = 4;

/// Takes an integer from the front of `bytes`: the lower `bits` bits of the first byte, and what follows.
#[inline]
pub(super) fn integer(bytes: &mut &[u8], bits: u32) -> Result<usize, Invalid> {
    let (&first, rest) = bytes.split_first().ok_or(Invalid)?;
    *bytes = rest;
    let mask = (1 << bits) - 1;
    let value = usize::from(first) & mask;
    if value < mask { Ok(value) } else { long_integer(bytes, mask) }
}

fn long_integer(bytes: &mut &[u8], mut value: usize) -> Result<usize, Invalid> {
    for i in 0..MORE {
        let (&next, rest) = bytes.split_first().ok_or(Invalid)?;
        *bytes = rest;
        value += usize::from(next & 0x7f) << (7 * i);
        if next & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(Invalid)
}

/// Writes an integer. `first` has the upper bits of its first byte, `bits` is the number of the lower ones.
#[inline]
pub(super) fn write_integer(value: usize, first: u8, bits: u32, block: &mut Vec<u8>) {
    let mask = (1 << bits) - 1;
    block.push(first | value.min(mask) as u8);
    if value >= mask {
        write_more(value - mask, block);
    }
}

fn write_more(mut value: usize, block: &mut Vec<u8>) {
    while value >= 0x80 {
        block.push(value as u8 | 0x80);
        value >>= 7;
    }
    block.push(value as u8);
}

/// Writes a string, without Huffman.
pub(super) fn write_string(text: &[u8], block: &mut Vec<u8>) {
    write_integer(text.len(), 0, 7, block);
    block.extend_from_slice(text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_those_of_appendix_c() {
        for (bytes, bits, value) in [
            (&[0xea][..], 5, 10),
            (&[0xff, 0x9a, 0x0a], 5, 1337),
            (&[42], 8, 42),
            (&[0x1e], 5, 30),
            (&[0x1f, 0], 5, 31),
            (&[0x7f, 0xff, 0xff, 0xff, 0x7f], 7, 127 + (1 << 28) - 1),
        ] {
            let mut rest = bytes;
            assert_eq!(integer(&mut rest, bits), Ok(value));
            assert!(rest.is_empty(), "{bytes:x?}");
            let mut written = Vec::new();
            write_integer(value, bytes[0] & !(((1u32 << bits) - 1) as u8), bits, &mut written);
            assert_eq!(written, bytes);
        }
    }

    #[test]
    fn integers_that_are_too_long_are_invalid() {
        for bytes in [
            &[][..],
            &[0x1f],
            &[0x1f, 0x80],
            // One byte too many, for a small value and for a large one.
            &[0x1f, 0x80, 0x80, 0x80, 0x80, 0x00],
            &[0x1f, 0xff, 0xff, 0xff, 0xff, 0x7f],
            &[0xff; 20],
        ] {
            assert_eq!(integer(&mut &bytes[..], 5), Err(Invalid), "{bytes:x?}");
        }
    }

    #[test]
    fn integers_are_read_as_they_were_written() {
        for bits in 4..=8 {
            for value in (0..1000).chain([4095, 4096, 16_510, 16_511, 1 << 20, 1 << 28]) {
                let mut bytes = Vec::new();
                write_integer(value, 0, bits, &mut bytes);
                assert_eq!(integer(&mut &bytes[..], bits), Ok(value), "{bits} bits");
            }
        }
    }
}
