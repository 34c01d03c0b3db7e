//! Encodes blocks for the peer (RFC 7541 §6), without Huffman.
//!
//! ```text
//!   field ─┬─ in the dynamic table ─────────────────▶ index
//!          ├─ Kind::Never ──────────────────────────▶ literal that no proxy may add to a table
//!          ├─ in the static table, name and value ──▶ index
//!          ├─ Kind::Plain, or a long value ─────────▶ literal, not added
//!          └─ Kind::Add ────────────────────────────▶ literal, added to the dynamic table
//! ```
//! The table has at most 1,024 bytes, where the peer's may have 4,096 without an update: so the peer keeps entries that
//! this table has evicted. Indexes count from the newest entry, so both mean the same as long as this table is the
//! smaller one. Only a limit of the peer below its current one needs an update (§4.2).

use super::{
    primitive::{write_integer, write_string},
    table::{MOST, Name, STATIC, STATICS, Table, Valid},
};

/// The most bytes of the table: enough for the fields that a server repeats, and little for each connection.
const TABLE: usize = 1024;

/// The most bytes of a value that is added to the table. A longer one would evict most of what is there.
const LONG: usize = 256;

/// How a field is encoded that is in neither table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// It may repeat: it is added to the table.
    Add,
    /// It changes with each message: it would displace fields that repeat.
    Plain,
    /// It is secret: no proxy may add it to a table either (§7.1.3).
    Never,
}

/// The encoder of a connection.
pub(crate) struct Encoder {
    table: Table,
    /// The limit of the peer's table, in bytes: 4,096, or that of the last update.
    peer: usize,
    /// The smallest limit that the peer has set since the last block.
    least: usize,
}

impl Encoder {
    /// Creates an encoder for a peer that has not sent SETTINGS. It allocates nothing before it is used.
    pub(crate) const fn new() -> Self {
        Self { table: Table::new(TABLE), peer: MOST, least: usize::MAX }
    }

    /// Sets the peer's SETTINGS_HEADER_TABLE_SIZE, in bytes. Default: 4,096. The table never has more than 1,024.
    pub(crate) fn set_limit(&mut self, bytes: u32) {
        let limit = usize::try_from(bytes).unwrap_or(usize::MAX);
        self.least = self.least.min(limit);
        self.table.set_limit(limit.min(TABLE));
    }

    /// Begins a block: writes the updates of the table's size that are owed. After several changes these are the
    /// smallest limit and the last (RFC 7541 §4.2).
    pub(crate) fn begin(&mut self, block: &mut Vec<u8>) {
        if self.least < self.peer {
            self.update(self.least.min(TABLE), block);
        }
        self.least = usize::MAX;
        if self.peer < self.table.limit() {
            self.update(self.table.limit(), block);
        }
    }

    /// Writes `:status`, which comes first in a response. `status` has three digits.
    pub(crate) fn status(&mut self, status: u16, block: &mut Vec<u8>) {
        let index = match status {
            200 => 8,
            204 => 9,
            206 => 10,
            304 => 11,
            400 => 12,
            404 => 13,
            500 => 14,
            _ => {
                let digit = |unit| b'0' + (status / unit % 10) as u8;
                return self.field(b":status", &[digit(100), digit(10), digit(1)], block);
            }
        };
        write_index(index, block);
    }

    /// Writes a field. `name` is lowercase, or that of a pseudo-header field.
    pub(crate) fn field(&mut self, name: &[u8], value: &[u8], block: &mut Vec<u8>) {
        // First what most fields of a response are: one that was sent before.
        let may_be_added = value.len() <= LONG && self.table.fits(name.len(), value.len());
        if may_be_added && let Some(place) = self.table.find(name, value) {
            return write_index(STATICS + 1 + place, block);
        }
        let index = static_name(name);
        let kind = kind(index);
        if kind == Kind::Never {
            return write_literal(0x10, 4, index, name, value, block);
        }
        if let Some(index) = static_field(index, value) {
            return write_index(index, block);
        }
        if kind == Kind::Plain || !may_be_added {
            return write_literal(0, 4, index, name, value, block);
        }
        let index = match index {
            0 => self.table.find_name(name).map_or(0, |place| STATICS + 1 + place),
            _ => index,
        };
        write_literal(0x40, 6, index, name, value, block);
        self.table.add(Name::Text(name), value, Valid::BOTH);
    }

    fn update(&mut self, limit: usize, block: &mut Vec<u8>) {
        write_integer(limit, 0x20, 5, block);
        self.peer = limit;
    }

    #[cfg(test)]
    pub(super) fn table(&self) -> &Table {
        &self.table
    }
}

fn write_index(index: usize, block: &mut Vec<u8>) {
    write_integer(index, 0x80, 7, block);
}

/// Writes a literal. `first` and `bits`: the kind, and the bits of its index. `index`: where its name is, or 0.
fn write_literal(first: u8, bits: u32, index: usize, name: &[u8], value: &[u8], block: &mut Vec<u8>) {
    write_integer(index, first, bits, block);
    if index == 0 {
        write_string(name, block);
    }
    write_string(value, block);
}

/// Returns how a field is encoded. `index`: its name in the static table, or 0.
fn kind(index: usize) -> Kind {
    match index {
        // `:path`, `age`, `content-length`, `content-range`, `etag`, `expires`, `last-modified`, `location`.
        4 | 21 | 28 | 30 | 34 | 36 | 44 | 46 => Kind::Plain,
        // `authorization`, `proxy-authorization`, `set-cookie`.
        23 | 49 | 55 => Kind::Never,
        _ => Kind::Add,
    }
}

/// Returns the index of a field in the static table. `index`: the first one of its name, or 0.
fn static_field(index: usize, value: &[u8]) -> Option<usize> {
    let count = match index {
        0 => return None,
        // `:method`, `:path`, `:scheme`, `:status`.
        2 | 4 | 6 => 2,
        8 => 7,
        _ => 1,
    };
    (index..index + count).find(|index| STATIC[index - 1].1 == value)
}

/// Returns the first index of a name in the static table, or 0.
fn static_name(name: &[u8]) -> usize {
    let index = usize::from(NAMES[hash(name)]);
    if index > 0 && STATIC[index - 1].0 == name { index } else { 0 }
}

/// For each hash of a name of the static table, its first index.
static NAMES: [u8; 256] = names();

/// Returns a number below 256, another one for each name of the static table. The factors were found by trying.
const fn hash(name: &[u8]) -> usize {
    match name {
        [] => 0,
        [first, ..] => (name.len() + 10 * *first as usize + 4 * name[name.len() - 1] as usize) & 0xff,
    }
}

const fn names() -> [u8; 256] {
    let mut names = [0; 256];
    // From the end: the first index of a name is what remains.
    let mut index = STATICS;
    while index > 0 {
        names[hash(STATIC[index - 1].0)] = index as u8;
        index -= 1;
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(encoder: &mut Encoder, fields: &[(&str, &str)]) -> Vec<u8> {
        let mut block = Vec::new();
        encoder.begin(&mut block);
        for (name, value) in fields {
            encoder.field(name.as_bytes(), value.as_bytes(), &mut block);
        }
        block
    }

    fn field(encoder: &mut Encoder, name: &str, value: &str) -> Vec<u8> {
        fields(encoder, &[(name, value)])
    }

    #[test]
    fn names_have_the_first_index_of_the_static_table() {
        for (name, _) in STATIC {
            let first = STATIC.iter().position(|(other, _)| *other == name).unwrap() + 1;
            assert_eq!(static_name(name), first, "{}", String::from_utf8_lossy(name));
        }
        for name in [&b"x-other"[..], b"", b"a", b"aXe", b"Age", b"content-lengtH", b"cXntent-length"] {
            assert_eq!(static_name(name), 0);
        }
    }

    #[test]
    fn fields_of_the_static_table_are_one_byte() {
        let mut encoder = Encoder::new();
        for (i, (name, value)) in STATIC.iter().enumerate() {
            if kind(static_name(name)) != Kind::Never {
                let mut block = Vec::new();
                encoder.field(name, value, &mut block);
                assert_eq!(block, [0x81 + i as u8]);
            }
        }
        for (status, byte) in
            [(200, 0x88), (204, 0x89), (206, 0x8a), (304, 0x8b), (400, 0x8c), (404, 0x8d), (500, 0x8e)]
        {
            let mut block = Vec::new();
            encoder.status(status, &mut block);
            assert_eq!(block, [byte], "{status}");
            assert_eq!(field(&mut encoder, ":status", &status.to_string()), [byte]);
        }
        assert_eq!(encoder.table().memory(), 0, "none of them needs the dynamic table");
    }

    #[test]
    fn what_repeats_is_one_byte_the_second_time() {
        let mut encoder = Encoder::new();
        let mut block = Vec::new();
        encoder.status(302, &mut block);
        assert_eq!(block, b"\x48\x03302");
        encoder.status(302, &mut block);
        assert_eq!(block, b"\x48\x03302\xbe");
        assert_eq!(field(&mut encoder, "server", "uncork"), b"\x76\x06uncork");
        assert_eq!(field(&mut encoder, "x-a", "1"), b"\x40\x03x-a\x011");
        assert_eq!(field(&mut encoder, "x-a", "2"), b"\x7e\x012", "the name is in the dynamic table");
        assert_eq!(field(&mut encoder, "x-a", "2"), [0xbe]);
        assert_eq!(field(&mut encoder, "x-a", "1"), [0xbf]);
        assert_eq!(field(&mut encoder, "server", "uncork"), [0xc0]);
        assert_eq!(field(&mut encoder, ":status", "302"), [0xc1]);
    }

    #[test]
    fn what_changes_or_is_secret_is_not_added() {
        let mut encoder = Encoder::new();
        for (name, first) in [
            ("content-length", &b"\x0f\x0d"[..]),
            ("etag", b"\x0f\x13"),
            ("last-modified", b"\x0f\x1d"),
            ("location", b"\x0f\x1f"),
            ("content-range", b"\x0f\x0f"),
            ("age", b"\x0f\x06"),
            ("expires", b"\x0f\x15"),
            (":path", b"\x04"),
            ("authorization", b"\x1f\x08"),
            ("proxy-authorization", b"\x1f\x22"),
            ("set-cookie", b"\x1f\x28"),
        ] {
            for _ in 0..2 {
                assert_eq!(field(&mut encoder, name, "/x"), [first, b"\x02/x"].concat(), "{name}");
            }
        }
        let long = "v".repeat(257);
        for _ in 0..2 {
            assert_eq!(field(&mut encoder, "x-a", &long)[..7], *b"\0\x03x-a\x7f\x82");
            // The name takes what the value leaves.
            assert_eq!(field(&mut encoder, &"n".repeat(1024 - 32), "v")[..2], [0, 0x7f]);
        }
        assert_eq!(encoder.table().memory(), 0);
        assert_eq!(field(&mut encoder, "x-a", &long[1..])[0], 0x40);
        assert_eq!(field(&mut encoder, "x-a", &long[1..]), [0xbe]);
    }

    #[test]
    fn updates_are_those_that_the_peer_needs() {
        let updates = |limits: &[u32], encoder: &mut Encoder| {
            limits.iter().for_each(|&limit| encoder.set_limit(limit));
            fields(encoder, &[])
        };
        for (limits, block) in [
            // The peer's table has 4,096 bytes: ours is smaller, and it need not know.
            (&[][..], &b""[..]),
            (&[4096], b""),
            (&[65_536], b""),
            (&[u32::MAX], b""),
            // 1,024 is what we use.
            (&[4095], b"\x3f\xe1\x07"),
            (&[1024], b"\x3f\xe1\x07"),
            (&[1023], b"\x3f\xe0\x07"),
            (&[0], b"\x20"),
            // The smallest, and the last.
            (&[10, 0, 4096], b"\x20\x3f\xe1\x07"),
            (&[4096, 0, 20, 30], b"\x20\x3e"),
            (&[20, 10], b"\x2a"),
            (&[3000, 5000], b"\x3f\xe1\x07"),
        ] {
            let mut encoder = Encoder::new();
            assert_eq!(updates(limits, &mut encoder), block, "{limits:?}");
            assert_eq!(updates(&[], &mut encoder), b"", "{limits:?}: written once");
        }
        // The peer's table has 1,024 bytes now: a larger limit changes nothing, and a smaller one does.
        let mut encoder = Encoder::new();
        assert_eq!(updates(&[2000], &mut encoder), b"\x3f\xe1\x07");
        assert_eq!(updates(&[1500], &mut encoder), b"");
        assert_eq!(updates(&[4096], &mut encoder), b"");
        assert_eq!(updates(&[30], &mut encoder), b"\x3e");
        assert_eq!(updates(&[4096], &mut encoder), b"\x3f\xe1\x07");
    }

    #[test]
    fn without_a_table_nothing_is_added() {
        let mut encoder = Encoder::new();
        field(&mut encoder, "server", "uncork");
        encoder.set_limit(0);
        assert_eq!(field(&mut encoder, "server", "uncork"), b"\x20\x0f\x27\x06uncork");
        assert_eq!(field(&mut encoder, "server", "uncork"), b"\x0f\x27\x06uncork");
        encoder.set_limit(4096);
        assert_eq!(field(&mut encoder, "server", "uncork"), b"\x3f\xe1\x07\x76\x06uncork");
        assert_eq!(field(&mut encoder, "server", "uncork"), [0xbe]);
    }
}
