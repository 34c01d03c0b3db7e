//! The Huffman code of HPACK (RFC 7541 §5.2, Appendix B): the decoder.
//!
//! ```text
//!   LENGTHS ─▶ tree of 256 nodes ─▶ STEPS: for each node and 4 bits: the next node, a symbol that ended, valid as an end
//!              └─ when the crate is compiled ─┘
//! ```
//! The code is canonical: symbols in the order of their length, then of their value, have consecutive codes. So the
//! lengths say all of it. No code has fewer than 5 bits, so 4 bits end at most one symbol.

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

/// What 4 bits do at one node of the tree.
#[derive(Clone, Copy)]
struct Step {
    /// The node afterwards.
    node: u8,
    /// The symbol that ended, if `flags` has `SYMBOL`.
    symbol: u8,
    flags: u8,
}

/// A symbol has ended: 1, the number that is added to the length of the output.
const SYMBOL: u8 = 1;
/// The string may end here: what follows the last symbol is at most 7 bits, all ones.
const END: u8 = 2;
/// EOS has occurred.
const INVALID: u8 = 4;

/// The steps of all nodes, 16 for each.
static STEPS: [Step; EOS * 16] = steps(&tree());

/// The two children of a node: another node, or `LEAF` and a symbol.
type Node = [u16; 2];
const LEAF: u16 = 0x8000;

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

/// Returns the tree. Node 0 is its root; a complete tree of 257 leaves has 256 nodes.
const fn tree() -> [Node; EOS] {
    let codes = codes();
    let mut tree = [[0; 2]; EOS];
    let mut nodes = 1;
    let mut symbol = 0;
    while symbol <= EOS {
        let mut node = 0;
        let mut bits = LENGTHS[symbol];
        while bits > 0 {
            bits -= 1;
            let bit = (codes[symbol] >> bits & 1) as usize;
            if bits == 0 {
                tree[node][bit] = LEAF | symbol as u16;
            } else {
                if tree[node][bit] == 0 {
                    tree[node][bit] = nodes;
                    nodes += 1;
                }
                node = tree[node][bit] as usize;
            }
        }
        symbol += 1;
    }
    tree
}

const fn steps(tree: &[Node; EOS]) -> [Step; EOS * 16] {
    // The nodes at which a string may end: the first of those behind ones only.
    let mut ends = [0; EOS];
    let (mut node, mut depth) = (0, 0);
    while depth <= 7 {
        ends[node] = END;
        node = tree[node][1] as usize;
        depth += 1;
    }
    let mut steps = [Step { node: 0, symbol: 0, flags: 0 }; EOS * 16];
    let mut i = 0;
    while i < steps.len() {
        let mut step = Step { node: 0, symbol: 0, flags: 0 };
        let mut node = i / 16;
        let mut bit = 4;
        while bit > 0 {
            bit -= 1;
            let next = tree[node][i >> bit & 1];
            node = next as usize;
            if next & LEAF != 0 {
                let symbol = next & !LEAF;
                step.symbol = symbol as u8;
                step.flags |= if symbol as usize == EOS { INVALID } else { SYMBOL };
                node = 0;
            }
        }
        step.node = node as u8;
        step.flags |= ends[node];
        steps[i] = step;
        i += 1;
    }
    steps
}

/// Decodes a string into `out`, whose bytes are replaced.
pub(super) fn decode(text: &[u8], out: &mut Vec<u8>) -> Result<(), Invalid> {
    // Each step writes, and the next one writes over what was not a symbol: faster than to ask. There is a byte for
    // each step, where 8 of 5 are the most that can be symbols.
    out.clear();
    out.resize(text.len() * 2, 0);
    let (mut node, mut len, mut faults, mut end) = (0, 0, 0, END);
    for &byte in text {
        for bits in [byte >> 4, byte & 0xf] {
            let step = STEPS[usize::from(node) << 4 | usize::from(bits)];
            out[len] = step.symbol;
            len += usize::from(step.flags & SYMBOL);
            node = step.node;
            faults |= step.flags;
            end = step.flags;
        }
    }
    if faults & INVALID != 0 || end & END == 0 {
        return Err(Invalid);
    }
    out.truncate(len);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    static CODES: [u32; EOS + 1] = codes();

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
        // A node without a child would have that of 0, the root.
        assert!(tree().iter().flatten().all(|&child| child != 0));
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
