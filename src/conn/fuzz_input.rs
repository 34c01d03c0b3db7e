//! The input of the fuzz targets, and the ways to split it.

/// A size, the letters of a script, a newline, and what the peer sends.
pub(super) struct FuzzInput<'d> {
    size: u8,
    pub(super) script: &'d [u8],
    pub(super) wire: &'d [u8],
}

impl<'d> FuzzInput<'d> {
    /// Takes the parts from `data`, and at most `most` letters.
    pub(super) fn parse(data: &'d [u8], most: usize) -> Option<Self> {
        let (&size, data) = data.split_first()?;
        let size = if size.is_ascii_digit() { size - b'0' } else { size };
        let script = data.split(|&b| b == b'\n').next().unwrap_or_default();
        let wire = data.get(script.len() + 1..).unwrap_or_default();
        Some(Self { size, script: &script[..script.len().min(most)], wire })
    }

    /// Calls `run` with the sizes of the pieces: once for the whole input at once, and for three ways to split it.
    pub(super) fn run<T>(&self, run: impl Fn(&mut dyn FnMut() -> usize) -> T) -> (T, [T; 3]) {
        let mut random = u32::from(self.size);
        let mut any = || {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (random >> 28) as usize
        };
        let split = [run(&mut || 1), run(&mut || usize::from(self.size)), run(&mut any)];
        (run(&mut || usize::MAX), split)
    }
}

/// Calls `feed` with pieces of `wire`, of the sizes that `size` returns, until it returns `false`.
pub(super) fn in_pieces(wire: &[u8], mut size: impl FnMut() -> usize, mut feed: impl FnMut(&[u8]) -> bool) {
    let mut rest = wire;
    while !rest.is_empty() {
        let (piece, next) = rest.split_at(size().clamp(1, rest.len()));
        if !feed(piece) {
            return;
        }
        rest = next;
    }
}
