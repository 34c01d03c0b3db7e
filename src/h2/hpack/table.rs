//! The static table of HPACK (RFC 7541 Appendix A), and the dynamic table (§2.3.2, §4).
//!
//! ```text
//!   index 1 … 61: STATIC              62 is the newest entry
//!                                        ▼
//!   entries [ evicted │ oldest │ … │ newest │ room ]
//!   text    [ evicted │ oldest: name value │ … │ newest: name value │ room ]
//!             └ until there is no room
//! ```
//! Entries and text stay where they are until there is no room. Then they move to the front, or, if little was evicted,
//! get more memory. So a byte is moved few times, and the memory is near to what the entries need.

use std::ops::Range;

/// The number of entries of the static table.
pub(super) const STATICS: usize = STATIC.len();

/// The most bytes of a dynamic table: the default of SETTINGS_HEADER_TABLE_SIZE (RFC 9113 §6.5.2).
pub(super) const MOST: usize = 4096;

/// What an entry counts beside its name and value (RFC 7541 §4.1).
const OVERHEAD: usize = 32;

/// The bytes by which the memory of the text grows. A table that fills up grows a few times.
const STEP: usize = 256;

#[rustfmt::skip]
pub(super) static STATIC: [(&[u8], &[u8]); 61] = [
    (b":authority", b""),
    (b":method", b"GET"),
    (b":method", b"POST"),
    (b":path", b"/"),
    (b":path", b"/index.html"),
    (b":scheme", b"http"),
    (b":scheme", b"https"),
    (b":status", b"200"),
    (b":status", b"204"),
    (b":status", b"206"),
    (b":status", b"304"),
    (b":status", b"400"),
    (b":status", b"404"),
    (b":status", b"500"),
    (b"accept-charset", b""),
    (b"accept-encoding", b"gzip, deflate"),
    (b"accept-language", b""),
    (b"accept-ranges", b""),
    (b"accept", b""),
    (b"access-control-allow-origin", b""),
    (b"age", b""),
    (b"allow", b""),
    (b"authorization", b""),
    (b"cache-control", b""),
    (b"content-disposition", b""),
    (b"content-encoding", b""),
    (b"content-language", b""),
    (b"content-length", b""),
    (b"content-location", b""),
    (b"content-range", b""),
    (b"content-type", b""),
    (b"cookie", b""),
    (b"date", b""),
    (b"etag", b""),
    (b"expect", b""),
    (b"expires", b""),
    (b"from", b""),
    (b"host", b""),
    (b"if-match", b""),
    (b"if-modified-since", b""),
    (b"if-none-match", b""),
    (b"if-range", b""),
    (b"if-unmodified-since", b""),
    (b"last-modified", b""),
    (b"link", b""),
    (b"location", b""),
    (b"max-forwards", b""),
    (b"proxy-authenticate", b""),
    (b"proxy-authorization", b""),
    (b"range", b""),
    (b"referer", b""),
    (b"refresh", b""),
    (b"retry-after", b""),
    (b"server", b""),
    (b"set-cookie", b""),
    (b"strict-transport-security", b""),
    (b"transfer-encoding", b""),
    (b"user-agent", b""),
    (b"vary", b""),
    (b"via", b""),
    (b"www-authenticate", b""),
];

/// What the owner of a table has found out about a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Valid {
    /// Its name, which further fields can have by a reference to the entry.
    pub(crate) name: bool,
    /// All of it.
    pub(crate) field: bool,
}

impl Valid {
    pub(crate) const BOTH: Self = Self { name: true, field: true };
}

/// What is known of a field before it is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    Nothing,
    /// Its name is that of an entry: whether it is valid.
    Name(bool),
    /// All of it is an entry: whether it is valid.
    Field(bool),
}

/// The name of an entry that is added.
#[derive(Clone, Copy)]
pub(super) enum Name<'a> {
    Text(&'a [u8]),
    /// That of an entry, by its place behind the newest one.
    Of(usize),
}

/// A dynamic table.
pub(super) struct Table {
    /// Names and values. The front is of entries that were evicted.
    text: Vec<u8>,
    /// The newest entry is last. The front has entries that were evicted.
    entries: Vec<Entry>,
    /// The number of entries that were evicted.
    evicted: usize,
    /// The position of the front of `text`.
    front: u32,
    /// As RFC 7541 §4.1 counts.
    size: usize,
    /// The most that `size` may be.
    limit: usize,
}

struct Entry {
    /// The position of the name, which the value follows. Positions count all text that there was, and wrap.
    at: u32,
    name: u16,
    value: u16,
    valid: Valid,
}

impl Entry {
    fn len(&self) -> usize {
        usize::from(self.name) + usize::from(self.value)
    }
}

impl Table {
    /// Creates an empty table, without memory. `limit`: at most [`MOST`] bytes.
    pub(super) const fn new(limit: usize) -> Self {
        Self { text: Vec::new(), entries: Vec::new(), evicted: 0, front: 0, size: 0, limit }
    }

    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// Returns `true` if an entry of these lengths can be in the table.
    pub(super) fn fits(&self, name: usize, value: usize) -> bool {
        name + value + OVERHEAD <= self.limit
    }

    /// Returns the entry at `place` behind the newest one, and whether it is valid.
    #[inline]
    pub(super) fn get(&self, place: usize) -> Option<(&[u8], &[u8], Valid)> {
        let entry = self.entry(place)?;
        let (name, value) = self.text[self.range(entry)].split_at(usize::from(entry.name));
        Some((name, value, entry.valid))
    }

    /// Returns the place of a field, the newest one of them. Lengths are compared first: most entries differ there.
    pub(super) fn find(&self, name: &[u8], value: &[u8]) -> Option<usize> {
        self.live().iter().rev().position(|entry| {
            usize::from(entry.name) == name.len() && usize::from(entry.value) == value.len() && {
                let (of, is) = self.text[self.range(entry)].split_at(name.len());
                is == value && of == name
            }
        })
    }

    /// Returns the place of the newest field of that name.
    pub(super) fn find_name(&self, name: &[u8]) -> Option<usize> {
        self.live()
            .iter()
            .rev()
            .position(|entry| usize::from(entry.name) == name.len() && self.text[self.range(entry)].starts_with(name))
    }

    /// Adds an entry, and evicts what it displaces (§4.4). One that is larger than the table empties it.
    ///
    /// A name that is `Of` an entry is copied before that entry is evicted.
    pub(super) fn add(&mut self, name: Name<'_>, value: &[u8], valid: Valid) {
        let name_len = match name {
            Name::Text(name) => name.len(),
            Name::Of(place) => self.entry(place).map_or(0, |entry| usize::from(entry.name)),
        };
        if !self.fits(name_len, value.len()) {
            self.clear();
            return;
        }
        self.make_room(name_len + value.len());
        let at = self.position(self.text.len());
        let entry = Entry { at, name: name_len as u16, value: value.len() as u16, valid };
        match name {
            Name::Text(name) => self.text.extend_from_slice(name),
            Name::Of(place) => {
                if let Some(entry) = self.entry(place) {
                    let start = self.range(entry).start;
                    self.text.extend_from_within(start..start + name_len);
                }
            }
        }
        self.text.extend_from_slice(value);
        self.size += entry.len() + OVERHEAD;
        self.evict();
        self.entries.push(entry);
    }

    /// Changes the limit, and evicts what is above it (§4.3). A table that loses entries gives their memory back.
    pub(super) fn set_limit(&mut self, limit: usize) {
        self.limit = limit.min(MOST);
        if self.size <= self.limit {
            return;
        }
        self.evict();
        self.compact();
        self.text.shrink_to_fit();
        self.entries.shrink_to_fit();
    }

    fn clear(&mut self) {
        *self = Self::new(self.limit);
    }

    /// Evicts the oldest entries until `size` is within the limit.
    fn evict(&mut self) {
        while self.size > self.limit
            && let Some(entry) = self.entries.get(self.evicted)
        {
            self.size -= entry.len() + OVERHEAD;
            self.evicted += 1;
        }
    }

    /// Makes room for an entry and `len` bytes behind the text, without moving or growing each time.
    fn make_room(&mut self, len: usize) {
        if self.entries.len() == self.entries.capacity() && self.evicted * 2 >= self.entries.len() {
            self.entries.drain(..self.evicted);
            self.evicted = 0;
        }
        if self.text.capacity() - self.text.len() >= len {
            return;
        }
        if self.evicted_text() * 2 >= self.text.len() {
            self.compact();
        }
        let lacks = (self.text.len() + len).saturating_sub(self.text.capacity());
        if lacks > 0 {
            self.text.reserve_exact(self.text.capacity() - self.text.len() + lacks.next_multiple_of(STEP));
        }
    }

    /// Moves the entries and their text to the front.
    fn compact(&mut self) {
        self.entries.drain(..self.evicted);
        self.evicted = 0;
        let len = self.evicted_text();
        self.text.drain(..len);
        self.front = self.position(len);
    }

    /// Returns the entries that are in the table, the oldest first.
    fn live(&self) -> &[Entry] {
        self.entries.get(self.evicted..).unwrap_or_default()
    }

    fn entry(&self, place: usize) -> Option<&Entry> {
        let at = self.entries.len().checked_sub(place + 1)?;
        if at >= self.evicted { self.entries.get(at) } else { None }
    }

    /// Returns how many bytes at the front of the text are of no entry.
    fn evicted_text(&self) -> usize {
        self.live().first().map_or(self.text.len(), |oldest| self.range(oldest).start)
    }

    /// Returns the position of an index of `text`, which has a few thousand bytes.
    fn position(&self, index: usize) -> u32 {
        self.front.wrapping_add(index as u32)
    }

    fn range(&self, entry: &Entry) -> Range<usize> {
        let start = entry.at.wrapping_sub(self.front) as usize;
        start..start + entry.len()
    }

    #[cfg(test)]
    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// Returns the bytes of memory beside the table itself.
    #[cfg(test)]
    pub(super) fn memory(&self) -> usize {
        self.text.capacity() + self.entries.capacity() * size_of::<Entry>()
    }

    #[cfg(test)]
    pub(super) fn fields(&self) -> Vec<(String, String)> {
        let text = |text: &[u8]| String::from_utf8_lossy(text).into_owned();
        (0..).map_while(|place| self.get(place)).map(|(name, value, _)| (text(name), text(value))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(table: &mut Table, name: &str, value: &str) {
        table.add(Name::Text(name.as_bytes()), value.as_bytes(), Valid::BOTH);
    }

    fn fields(table: &Table) -> String {
        let fields: Vec<String> = table.fields().iter().map(|(name, value)| format!("{name}:{value}")).collect();
        fields.join(" ")
    }

    #[test]
    fn entries_are_counted_with_32_bytes_and_evicted_in_their_order() {
        let mut table = Table::new(100);
        assert_eq!((table.memory(), table.get(0)), (0, None), "an empty table has no memory");
        add(&mut table, "a", "1");
        add(&mut table, "b", "2");
        assert_eq!((table.size(), fields(&table).as_str()), (68, "b:2 a:1"));
        // 100 bytes are within the limit, 101 are not.
        table.set_limit(101);
        add(&mut table, "c", "");
        assert_eq!((table.size(), fields(&table).as_str()), (101, "c: b:2 a:1"));
        table.set_limit(100);
        assert_eq!((table.size(), fields(&table).as_str()), (67, "c: b:2"));
        add(&mut table, "dddd", &"4".repeat(60));
        assert_eq!((table.size(), table.fields().len()), (96, 1));
        // The largest entry that fits, and one that empties the table.
        add(&mut table, "e", &"5".repeat(67));
        assert_eq!((table.size(), table.fields().len()), (100, 1));
        add(&mut table, "f", &"6".repeat(68));
        assert_eq!((table.size(), fields(&table).as_str()), (0, ""));
        add(&mut table, "g", "7");
        assert_eq!((table.size(), fields(&table).as_str()), (34, "g:7"));
        table.set_limit(0);
        assert_eq!((table.size(), table.memory(), fields(&table).as_str()), (0, 0, ""));
    }

    #[test]
    fn a_name_may_be_of_the_entry_that_is_evicted() {
        for limit in [72, 80, 110] {
            let mut table = Table::new(limit);
            add(&mut table, "some-name", "first");
            for i in 0..100 {
                let oldest = table.fields().len() - 1;
                let value = format!("{i:023}");
                table.add(Name::Of(oldest), value.as_bytes(), Valid::BOTH);
                assert_eq!(table.fields()[0], ("some-name".into(), value));
                assert!(table.size() <= limit);
            }
        }
    }

    #[test]
    fn a_name_of_an_entry_counts_before_it_is_copied() {
        let mut table = Table::new(100);
        add(&mut table, &"n".repeat(50), "");
        table.add(Name::Of(0), &[b'v'; 19], Valid::BOTH);
        assert_eq!((table.size(), table.fields().len()), (0, 0));
    }

    #[test]
    fn fields_are_found_the_newest_first() {
        let mut table = Table::new(MOST);
        assert_eq!((table.find(b"a", b"1"), table.find_name(b"a")), (None, None));
        for (name, value) in [("a", "1"), ("b", "1"), ("a", "2"), ("a", "1"), ("aa", "1")] {
            add(&mut table, name, value);
        }
        assert_eq!(table.find(b"a", b"1"), Some(1));
        assert_eq!(table.find(b"a", b"2"), Some(2));
        assert_eq!(table.find(b"b", b"1"), Some(3));
        assert_eq!(table.find(b"a", b"3"), None);
        assert_eq!(table.find(b"c", b"1"), None);
        assert_eq!(table.find_name(b"a"), Some(1));
        assert_eq!(table.find_name(b"aa"), Some(0));
        assert_eq!(table.find_name(b"c"), None);
        // The same bytes, but another end of the name.
        assert_eq!(table.find(b"a", b"a1"), None);
    }

    #[test]
    fn memory_is_near_to_what_the_entries_need_and_entries_stay_as_they_were() {
        let mut table = Table::new(MOST);
        // Positions wrap on the way.
        table.front = u32::MAX - 10_000;
        let mut model = std::collections::VecDeque::new();
        let mut most = 0;
        for i in 0..5000usize {
            let field = (format!("name-{}", i % 17), "v".repeat(i * 37 % 150));
            add(&mut table, &field.0, &field.1);
            model.push_front(field);
            let mut size = 0;
            model.retain(|(name, value)| {
                size += name.len() + value.len() + 32;
                size <= MOST
            });
            if i % 100 == 0 {
                assert_eq!(table.fields(), Vec::from_iter(model.iter().cloned()));
            }
            most = most.max(table.memory());
        }
        assert!(most <= MOST * 5 / 2, "{most}");
        // A few fields have little.
        let mut table = Table::new(MOST);
        for name in ["user-agent", "accept", ":authority", "cookie"] {
            add(&mut table, name, "a value of twenty chars");
        }
        assert!(table.memory() <= STEP + 4 * size_of::<Entry>(), "{}", table.memory());
    }
}
