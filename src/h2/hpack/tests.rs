//! The decoder with the examples of RFC 7541 Appendix C and with blocks that break its rules, and the encoder against
//! the decoder.

use super::{primitive::Invalid, *};

type Fields = Vec<(Vec<u8>, Vec<u8>)>;

/// Decodes a block. Returns the fields up to its end or to the fault.
fn decode(decoder: &mut Decoder, block: &[u8]) -> (Fields, Result<(), Invalid>) {
    let mut fields = Fields::new();
    let result = decoder.decode_fields(block, |name, value| fields.push((name.to_vec(), value.to_vec())));
    (fields, result)
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits: String = hex.split_whitespace().collect();
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect()
}

/// Reads lines of `name: value`.
fn parsed(lines: &str) -> Vec<(String, String)> {
    let lines = lines.lines().map(str::trim).filter(|line| !line.is_empty());
    let field = |line: &str| {
        let at = line[1..].find(": ").expect("a name and a value") + 1;
        (line[..at].to_owned(), line[at + 2..].to_owned())
    };
    lines.map(field).collect()
}

/// Decodes one block after the other. Each comes with its fields, the table afterwards, and its size.
fn examples(decoder: &mut Decoder, blocks: &[(&str, &str, &str, usize)]) {
    for (block, fields, table, size) in blocks {
        let (got, result) = decode(decoder, &bytes(block));
        assert_eq!(result, Ok(()), "{block}");
        let text = |text: Vec<u8>| String::from_utf8(text).unwrap();
        let got: Vec<_> = got.into_iter().map(|(name, value)| (text(name), text(value))).collect();
        assert_eq!(got, parsed(fields), "{block}");
        assert_eq!(decoder.table().fields(), parsed(table), "{block}");
        assert_eq!(decoder.table().size(), *size, "{block}");
    }
}

#[test]
fn c_2_representations() {
    for (block, field, table, size) in [
        (
            "400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572",
            "custom-key: custom-header",
            "custom-key: custom-header",
            55,
        ),
        ("040c 2f73 616d 706c 652f 7061 7468", ":path: /sample/path", "", 0),
        ("1008 7061 7373 776f 7264 0673 6563 7265 74", "password: secret", "", 0),
        ("82", ":method: GET", "", 0),
    ] {
        examples(&mut Decoder::new(), &[(block, field, table, size)]);
    }
}

#[test]
fn c_3_and_c_4_requests() {
    let plain = [
        "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
        "8286 84be 5808 6e6f 2d63 6163 6865",
        "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
    ];
    let huffman = [
        "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
        "8286 84be 5886 a8eb 1064 9cbf",
        "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
    ];
    for [first, second, third] in [plain, huffman] {
        let host = ":authority: www.example.com";
        let cache = "cache-control: no-cache";
        let begin = ":method: GET\n:scheme: http\n:path: /\n:authority: www.example.com\n";
        let custom = "custom-key: custom-value";
        examples(
            &mut Decoder::new(),
            &[
                (first, begin, host, 57),
                (second, &format!("{begin}{cache}"), &format!("{cache}\n{host}"), 110),
                (
                    third,
                    &format!(":method: GET\n:scheme: https\n:path: /index.html\n{host}\n{custom}"),
                    &format!("{custom}\n{cache}\n{host}"),
                    164,
                ),
            ],
        );
    }
}

#[test]
fn c_5_and_c_6_responses() {
    let plain = [
        "4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3120
         474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
        "4803 3330 37c1 c0bf",
        "88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 5a04 677a 6970 7738
         666f 6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851 5745 4f49 553b 206d 6178 2d61 6765 3d33
         3630 303b 2076 6572 7369 6f6e 3d31",
    ];
    let huffman = [
        "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad 1718
         63c7 8f0b 97c8 e9ae 82ae 43d3",
        "4883 640e ffc1 c0bf",
        "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2 e6c7
         b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07",
    ];
    for [first, second, third] in [plain, huffman] {
        let mut decoder = Decoder::new();
        // These examples have SETTINGS_HEADER_TABLE_SIZE of 256.
        decoder.table().set_limit(256);
        let private = "cache-control: private";
        let date = "date: Mon, 21 Oct 2013 20:13:21 GMT";
        let later = "date: Mon, 21 Oct 2013 20:13:22 GMT";
        let place = "location: https://www.example.com";
        let gzip = "content-encoding: gzip";
        let cookie = "set-cookie: foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1";
        examples(
            &mut decoder,
            &[
                (
                    first,
                    &format!(":status: 302\n{private}\n{date}\n{place}"),
                    &format!("{place}\n{date}\n{private}\n:status: 302"),
                    222,
                ),
                (
                    second,
                    &format!(":status: 307\n{private}\n{date}\n{place}"),
                    &format!(":status: 307\n{place}\n{date}\n{private}"),
                    222,
                ),
                (
                    third,
                    &format!(":status: 200\n{private}\n{later}\n{place}\n{gzip}\n{cookie}"),
                    &format!("{cookie}\n{gzip}\n{later}"),
                    215,
                ),
            ],
        );
    }
}

#[test]
fn blocks_that_break_a_rule_are_invalid() {
    for (block, fields) in [
        // Index 0, one that the empty table does not have, one that is too long, one without its end.
        ("80", 0),
        ("82 be", 1),
        ("ff ff ff ff ff 0f", 0),
        ("ff", 0),
        ("82 ff 80", 1),
        // The same in the name of a literal.
        ("7e 01 61", 0),
        ("0f 2f 01 61", 0),
        ("1f 2f 01 61", 0),
        ("7f ff ff ff ff 0f 01 61", 0),
        // Strings without their end.
        ("40", 0),
        ("40 01", 0),
        ("40 01 61", 0),
        ("40 01 61 02 62", 0),
        ("04 05 2f", 0),
        // Huffman: EOS, padding of 8 bits, padding with a zero; in the name and in the value.
        ("40 84 ff ff ff ff 01 61", 0),
        ("82 44 84 ff ff ff ff", 1),
        ("44 82 07 ff", 0),
        ("44 81 06", 0),
        // Updates: above 4,096, without an end, behind a field.
        ("3f e2 1f", 0),
        ("3f", 0),
        ("82 20", 1),
        ("82 3f e1 1f", 1),
        ("20 82 20", 1),
        ("04 01 2f 20", 1),
    ] {
        let (got, result) = decode(&mut Decoder::new(), &bytes(block));
        assert_eq!((got.len(), result), (fields, Err(Invalid)), "{block}");
    }
    // The largest ones that are valid: the last static index, and an update to 4,096.
    for block in ["", "bd", "3f e1 1f", "20 3f e1 1f 20 82", "44 81 07", "44 80", "40 00 00"] {
        assert_eq!(decode(&mut Decoder::new(), &bytes(block)).1, Ok(()), "{block}");
    }
}

#[test]
fn updates_evict_and_an_entry_that_is_too_large_empties_the_table() {
    let mut decoder = Decoder::new();
    let a = "4001 6101 31";
    let b = "4001 6201 32";
    examples(
        &mut decoder,
        &[
            (a, "a: 1", "a: 1", 34),
            (b, "b: 2", "b: 2\na: 1", 68),
            // 67, where both need 68.
            ("3f24 be", "b: 2", "b: 2", 34),
            (a, "a: 1", "a: 1", 34),
            // 34, then 4,096.
            ("3f03 3fe1 1f", "", "a: 1", 34),
            (b, "b: 2", "b: 2\na: 1", 68),
            ("20", "", "", 0),
            (a, "a: 1", "", 0),
            ("3f03", "", "", 0),
            (a, "a: 1", "a: 1", 34),
            // An entry of 35 bytes: the field is there, and the table is empty.
            ("7e02 3233", "a: 23", "", 0),
        ],
    );
    // An entry that is evicted gives its name to the one which displaces it.
    examples(&mut decoder, &[(a, "a: 1", "a: 1", 34), ("7e01 39 7e01 38", "a: 9\na: 8", "a: 8", 34)]);
    assert_eq!(decode(&mut decoder, &[0xbf]).1, Err(Invalid));
}

#[test]
fn the_decoder_allocates_what_it_needs() {
    let mut decoder = Decoder::new();
    let fixed = "8286 8404 0c2f 7361 6d70 6c65 2f70 6174 68";
    assert_eq!(decode(&mut decoder, &bytes(fixed)).1, Ok(()));
    assert_eq!(decoder.memory(), 0, "neither an index nor a plain literal needs memory");
    assert_eq!(decode(&mut decoder, &bytes("8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff")).1, Ok(()));
    let table = decoder.table().memory();
    assert!(decoder.memory() > table);
    decoder.rest();
    assert_eq!(decoder.memory(), table, "the table stays");
    assert_eq!(decode(&mut decoder, &[0xbe]).0[0].1, b"www.example.com");
    assert_eq!(decoder.memory(), table);
}

/// Numbers that look random, and are the same each time.
struct Lcg(u64);

impl Lcg {
    /// Returns a number below `end`.
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) as usize % end
    }

    fn pick<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len())]
    }

    fn field(&mut self) -> (Vec<u8>, Vec<u8>) {
        const NAMES: &[&str] = &[
            ":path",
            ":method",
            ":authority",
            "server",
            "date",
            "content-type",
            "content-length",
            "set-cookie",
            "accept-encoding",
            "authorization",
            "etag",
            "cookie",
            "vary",
            "x-request-id",
            "x-a",
            "x-b",
            "",
        ];
        const VALUES: &[&str] = &["", "/", "GET", "gzip, deflate", "text/html", "uncork", "1", "2", "3", "a\0\u{ff}b"];
        let name = match self.below(40) {
            0..3 => format!("x-{}", self.below(40)).into_bytes(),
            3 => vec![b'n'; self.below(1100)],
            _ => self.pick(NAMES).as_bytes().to_vec(),
        };
        let value = match self.below(20) {
            0 => vec![b'v'; self.below(300)],
            1 => (0..self.below(40)).map(|_| self.below(256) as u8).collect(),
            2 => vec![b'w'; self.below(6000)],
            _ => self.pick(VALUES).as_bytes().to_vec(),
        };
        (name, value)
    }
}

#[test]
fn what_is_encoded_is_decoded() {
    // Indexes of the dynamic table.
    let mut indexed = 0;
    for seed in 0..60 {
        let mut random = Lcg(seed);
        let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new());
        let mut setting = 4096;
        for _ in 0..150 {
            let mut least = setting;
            while random.below(10) == 0 {
                setting = [0, 31, 40, 100, 500, 1023, 1024, 1025, 4096, 10_000][random.below(10)];
                least = least.min(setting);
                encoder.set_limit(setting);
            }
            let mut block = Vec::new();
            encoder.begin(&mut block);
            let mut fields = Fields::new();
            if random.below(2) == 0 {
                let status = 100 + random.below(500);
                encoder.status(status as u16, &mut block);
                fields.push((b":status".to_vec(), status.to_string().into_bytes()));
            }
            for _ in 0..random.below(12) {
                let (name, value) = random.field();
                let start = block.len();
                encoder.field(&name, &value, &mut block);
                indexed += usize::from(block[start] > 0xbd);
                fields.push((name, value));
            }
            let (got, result) = decode(&mut decoder, &block);
            assert_eq!(result, Ok(()), "seed {seed}");
            assert!(got == fields, "seed {seed}");
            // The decoder that the setting is of would have rejected more.
            assert!(decoder.table().limit() <= setting as usize, "seed {seed}");
            let (ours, theirs) = (encoder.table().fields(), decoder.table().fields());
            assert!(theirs.starts_with(&ours), "seed {seed}: the newest entries are the same");
            assert!(encoder.table().size() <= 1024.min(setting as usize));
            assert!(least >= 34 || ours.len() <= fields.len(), "seed {seed}: the smallest limit was applied");
        }
    }
    assert!(indexed > 1000, "the table was used {indexed} times");
}

#[test]
fn bytes_that_are_changed_at_random_never_panic() {
    let (mut valid, mut invalid) = (0, 0);
    for seed in 0..300 {
        let mut random = Lcg(seed);
        let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new());
        for _ in 0..20 {
            let mut block = if random.below(3) == 0 {
                // Huffman.
                bytes("8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf be")
            } else {
                Vec::new()
            };
            for _ in 0..random.below(8) {
                let (name, value) = random.field();
                encoder.field(&name, &value, &mut block);
            }
            for _ in 0..random.below(6) {
                if !block.is_empty() {
                    let at = random.below(block.len());
                    block[at] ^= 1 << random.below(8);
                }
            }
            let len = block.len() - random.below(block.len().min(3) + 1);
            // A real connection ends at the first fault; this decoder gets what follows as well.
            match decode(&mut decoder, &block[..len]).1 {
                Ok(()) => valid += 1,
                Err(Invalid) => invalid += 1,
            }
            let table = decoder.table();
            assert!((table.fields().len() * 32..=4096).contains(&table.size()));
            assert!(table.memory() <= 4096 * 5 / 2);
        }
    }
    assert!(valid > 1000 && invalid > 1000, "{valid} valid, {invalid} invalid");
}

#[test]
fn a_block_may_not_copy_much_more_than_it_has() {
    let mut large = vec![0x40, 0x7f, 0xa1, 0x1e];
    large.extend([b'n'; 4000]);
    large.push(0);
    // As `Vec`: a literal of a new name with 4,000 bytes, then entries of that name.
    for (size, count, want) in [(4000, 1, Ok(())), (4000, 9, Err(Invalid)), (4000, 8000, Err(Invalid))] {
        let mut decoder = Decoder::new();
        assert_eq!(large[4..].len(), size + 1);
        assert_eq!(decode(&mut decoder, &large).1, Ok(()));
        assert_eq!(decode(&mut decoder, &[0x7e, 0].repeat(count)).1, want, "{count}");
    }
    // Names as clients have them.
    let mut decoder = Decoder::new();
    let mut named = vec![0x40, 60];
    named.extend([b'n'; 60]);
    named.push(0);
    assert_eq!(decode(&mut decoder, &named).1, Ok(()));
    assert_eq!(decode(&mut decoder, &[0x7e, 0].repeat(2000)).1, Ok(()));
}
