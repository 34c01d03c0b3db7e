//! The wire format of spdy-proxy, for tests: header blocks compressed as it compresses them.

use flate2::{Compress, Compression, FlushCompress};

use super::dictionary::DICTIONARY;

pub(super) struct Deflater(Compress);

impl Deflater {
    pub(super) fn new(level: u32) -> Self {
        let mut codec = Compress::new(Compression::new(level), true);
        codec.set_dictionary(&DICTIONARY).expect("a dictionary is allowed at the start");
        Self(codec)
    }

    /// Returns the bytes, deflated and flushed.
    pub(super) fn plain(&mut self, plain: &[u8]) -> Vec<u8> {
        let end = self.0.total_in() + plain.len() as u64;
        let mut wire = Vec::new();
        loop {
            wire.reserve(plain.len() / 2 + 100);
            let rest = &plain[plain.len() - (end - self.0.total_in()) as usize..];
            self.0.compress_vec(rest, &mut wire, FlushCompress::Sync).expect("deflate does not fail");
            if self.0.total_in() == end && wire.len() < wire.capacity() {
                return wire;
            }
        }
    }

    /// Returns a block of names and values.
    pub(super) fn block(&mut self, pairs: &[(&str, &str)]) -> Vec<u8> {
        let mut plain = (pairs.len() as u32).to_be_bytes().to_vec();
        for part in pairs.iter().flat_map(|(name, value)| [name, value]) {
            plain.extend_from_slice(&(part.len() as u32).to_be_bytes());
            plain.extend_from_slice(part.as_bytes());
        }
        self.plain(&plain)
    }
}
