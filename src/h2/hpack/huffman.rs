//! The Huffman code of HPACK (RFC 7541 §5.2, Appendix B): the decoder.
//!
//! ```text
//!   text ─ fill ─▶ next: 64 bits ─┬─ 8 bits: SHORT ──────────▶ symbol, up to 8 bits: letters, digits, most of ASCII
//!                      ▲          └─ 30 bits: LONG, SYMBOLS ─▶ symbol, up to 30 bits
//!                      └──────────── shifted by its bits ◀────┘
//! ```
//! The code is canonical: symbols in the order of their length, then of their value, have consecutive codes. So the
//! lengths say all of it, and the codes of one length are a range of numbers. The tables have less than 1.5 kB and are
//! made when the crate is compiled.

use super::primitive::Invalid;

/// The number of the symbol that must not occur: EOS, the end of a string.
const EOS: usize = 256;
/// The number of bits of the longest code.
const LONGEST: u8 = 30;

/// The bits of each symbol's code: 256 bytes, and EOS.
#[rustfmt::skip]
const LENGTHS: [u8; EOS + 1] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28,
    28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    // Space, ! " # … to the end of ASCII.
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5,
    6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    // 0x80 and above.
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23,
    21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
    19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    LONGEST,
];

/// A symbol, and the bits of its code.
#[derive(Clone, Copy)]
struct Code {
    symbol: u8,
    bits: u8,
}

/// The number of bits in `SHORT` of a code that is longer: above the number of bits in `next`.
const MORE: u8 = 0xff;

/// For the next 8 bits: the symbol whose code begins there.
static SHORT: [Code; 256] = short();

/// For each number of bits: the first 30 bits that are behind its codes, and what makes a code an index of `SYMBOLS`.
static LONG: [(u32, u32); LONGEST as usize + 1] = long();

/// The symbols in the order of their codes.
static SYMBOLS: [u16; EOS + 1] = symbols();

const fn symbols() -> [u16; EOS + 1] {
    let mut symbols = [0; EOS + 1];
    let (mut n, mut bits) = (0, 1);
    while bits <= LONGEST {
        let mut symbol = 0;
        while symbol <= EOS {
            if LENGTHS[symbol] == bits {
                symbols[n] = symbol as u16;
                n += 1;
            }
            symbol += 1;
        }
        bits += 1;
    }
    symbols
}

const fn long() -> [(u32, u32); LONGEST as usize + 1] {
    let symbols = symbols();
    let mut long = [(0, 0); LONGEST as usize + 1];
    let (mut n, mut code, mut bits) = (0, 0u32, 0);
    while bits <= LONGEST {
        code <<= 1;
        let first = (n as u32).wrapping_sub(code);
        while n <= EOS && LENGTHS[symbols[n] as usize] == bits {
            n += 1;
            code += 1;
        }
        long[bits as usize] = (code << (LONGEST - bits), first);
        bits += 1;
    }
    long
}

const fn short() -> [Code; 256] {
    let symbols = symbols();
    let mut short = [Code { symbol: 0, bits: MORE }; 256];
    let (mut n, mut next) = (0, 0);
    while LENGTHS[symbols[n] as usize] <= 8 {
        let code = Code { symbol: symbols[n] as u8, bits: LENGTHS[symbols[n] as usize] };
        let end = next + (1 << (8 - code.bits));
        while next < end {
            short[next] = code;
            next += 1;
        }
        n += 1;
    }
    short
}

/// Decodes a string into `out`, whose bytes are replaced.
pub(super) fn decode(text: &[u8], out: &mut Vec<u8>) -> Result<(), Invalid> {
    out.clear();
    // No code has fewer than 5 bits.
    out.resize(text.len() * 8 / 5, 0);
    let mut rest = text;
    // The next bits, from the top, of which `have` are valid. Those behind them are either zeros or right.
    let (mut next, mut have, mut len) = (0u64, 0u32, 0);
    loop {
        if have < u32::from(LONGEST) {
            (next, have) = fill(next, have, &mut rest);
            // Four short codes are within 32 bits, whatever they are.
            while have >= 32
                && let Some(four) = out.get_mut(len..len + 4)
            {
                let start = have;
                for to in four {
                    let code = SHORT[(next >> 56) as usize];
                    if code.bits == MORE {
                        break;
                    }
                    *to = code.symbol;
                    next <<= code.bits;
                    have -= u32::from(code.bits);
                    len += 1;
                }
                if have == start {
                    break;
                }
            }
            if have < u32::from(LONGEST) && !rest.is_empty() {
                continue;
            }
        }
        let mut code = SHORT[(next >> 56) as usize];
        // One comparison for both: the code is long, or the string ends within it.
        if u32::from(code.bits) > have {
            if code.bits == MORE {
                code = long_code(next)?;
            }
            if u32::from(code.bits) > have {
                break;
            }
        }
        next <<= code.bits;
        have -= u32::from(code.bits);
        *out.get_mut(len).ok_or(Invalid)? = code.symbol;
        len += 1;
    }
    // Less than a byte of ones.
    if have >= 8 || next.leading_ones() < have {
        return Err(Invalid);
    }
    out.truncate(len);
    Ok(())
}

/// Adds bits from the front of `rest`: at least 32 are there afterwards, or all.
#[inline]
fn fill(mut next: u64, mut have: u32, rest: &mut &[u8]) -> (u64, u32) {
    if let Some(bytes) = rest.first_chunk() {
        let whole = (64 - have) / 8;
        next |= u64::from_be_bytes(*bytes) >> have;
        *rest = &rest[whole as usize..];
        return (next, have + whole * 8);
    }
    while have <= 56
        && let Some((&byte, behind)) = rest.split_first()
    {
        next |= u64::from(byte) << (56 - have);
        have += 8;
        *rest = behind;
    }
    (next, have)
}

/// Returns the code of more than 8 bits at the top of `next`.
fn long_code(next: u64) -> Result<Code, Invalid> {
    let top = (next >> (64 - u32::from(LONGEST))) as u32;
    for bits in 9..=LONGEST {
        let (end, first) = LONG[usize::from(bits)];
        if top < end {
            let index = (top >> (LONGEST - bits)).wrapping_add(first);
            let symbol = u8::try_from(SYMBOLS[index as usize]).map_err(|_| Invalid)?;
            return Ok(Code { symbol, bits });
        }
    }
    Err(Invalid)
}

#[cfg(test)]
mod tests {
    use super::*;

    static CODES: [u32; EOS + 1] = codes();

    /// Returns the code of each symbol, in the lower bits.
    const fn codes() -> [u32; EOS + 1] {
        let mut codes = [0; EOS + 1];
        let (mut length, mut code) = (1, 0);
        while length <= LONGEST {
            let mut symbol = 0;
            while symbol <= EOS {
                if LENGTHS[symbol] == length {
                    codes[symbol] = code;
                    code += 1;
                }
                symbol += 1;
            }
            code <<= 1;
            length += 1;
        }
        codes
    }

    /// Encodes symbols, and ends with `padding` bits of ones.
    fn encode(symbols: &[usize], padding: usize) -> Vec<u8> {
        let mut bits = Vec::new();
        for &symbol in symbols {
            bits.extend((0..LENGTHS[symbol]).rev().map(|bit| (CODES[symbol] >> bit & 1) as u8));
        }
        bits.extend(std::iter::repeat_n(1, padding));
        assert!(bits.len().is_multiple_of(8), "the test has whole bytes");
        bits.chunks(8).map(|byte| byte.iter().fold(0, |sum, bit| sum << 1 | bit)).collect()
    }

    /// Encodes symbols, with the padding that they need.
    fn padded(symbols: &[usize]) -> Vec<u8> {
        let bits: usize = symbols.iter().map(|&symbol| usize::from(LENGTHS[symbol])).sum();
        encode(symbols, bits.wrapping_neg() % 8)
    }

    fn decoded(text: &[u8]) -> Result<Vec<u8>, Invalid> {
        let mut out = b"something before".to_vec();
        decode(text, &mut out).map(|()| out)
    }

    #[test]
    fn the_code_is_complete() {
        let sum: u64 = LENGTHS.iter().map(|&length| 1 << (LONGEST - length)).sum();
        assert_eq!(sum, 1 << LONGEST, "Kraft's sum is 1");
        assert_eq!(LONG[usize::from(LONGEST)].0, 1 << LONGEST, "EOS is the last one");
    }

    #[test]
    fn codes_are_those_of_appendix_b() {
        for (symbol, code, length) in [
            (0, 0x1ff8, 13),
            (1, 0x7fffd8, 23),
            (10, 0x3ffffffc, 30),
            (22, 0x3ffffffe, 30),
            (usize::from(b'!'), 0x3f8, 10),
            (usize::from(b'0'), 0x0, 5),
            (usize::from(b'A'), 0x21, 6),
            (usize::from(b'z'), 0x7b, 7),
            (usize::from(b'\\'), 0x7fff0, 19),
            (127, 0xffffffc, 28),
            (128, 0xfffe6, 20),
            (255, 0x3ffffee, 26),
            (EOS, 0x3fffffff, 30),
        ] {
            assert_eq!((CODES[symbol], LENGTHS[symbol]), (code, length), "{symbol}");
        }
    }

    #[test]
    fn every_symbol_is_decoded_behind_every_symbol() {
        for first in 0..EOS {
            for second in 0..EOS {
                let text = padded(&[first, second]);
                assert_eq!(decoded(&text), Ok(vec![first as u8, second as u8]));
            }
        }
        let all: Vec<usize> = (0..EOS).collect();
        assert_eq!(decoded(&padded(&all)), Ok((0..=255).collect()));
        assert_eq!(decoded(b""), Ok(vec![]));
    }

    #[test]
    fn padding_is_less_than_a_byte_of_ones() {
        // One to eight symbols of 5 bits need each padding from 0 to 7 bits once.
        for n in 1..=8 {
            let symbols = vec![usize::from(b'0'); n];
            let padding = (n * 5).wrapping_neg() % 8;
            assert_eq!(decoded(&encode(&symbols, padding)), Ok(vec![b'0'; n]));
            assert_eq!(decoded(&encode(&symbols, padding + 8)), Err(Invalid), "{} bits", padding + 8);
        }
        for text in [&[0xff][..], &[0x06], &[0x05], &[0x03], &[0x00], &[0x07, 0xff]] {
            assert_eq!(decoded(text), Err(Invalid), "{text:x?}");
        }
        assert_eq!(decoded(&[0x07]), Ok(b"0".to_vec()));
    }

    #[test]
    fn a_string_has_one_encoding() {
        let (mut seed, mut valid) = (1u64, 0);
        for i in 0..20_000 {
            let text: Vec<u8> = (0..i % 5)
                .map(|_| {
                    seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                    (seed >> 56) as u8
                })
                .collect();
            if let Ok(out) = decoded(&text) {
                let symbols: Vec<usize> = out.iter().map(|&symbol| usize::from(symbol)).collect();
                assert_eq!(padded(&symbols), text);
                valid += 1;
            }
        }
        assert!((5000..15_000).contains(&valid), "{valid}");
    }

    #[test]
    fn the_end_of_a_string_is_not_a_symbol() {
        let a = usize::from(b'a');
        for symbols in [&[EOS][..], &[a, EOS], &[EOS, a], &[a, a, EOS, a, EOS]] {
            assert_eq!(decoded(&padded(symbols)), Err(Invalid), "{symbols:?}");
        }
    }
}
