//! Inputs near a given one, for the fuzz targets.

/// Calls `fuzz` with `input`, with each of its beginnings, and with each byte replaced by one of `bytes`, once and
/// twice.
pub(super) fn fuzz_neighbours(input: &[u8], bytes: &[u8], fuzz: fn(&[u8])) {
    fuzz(input);
    for i in 0..input.len() {
        fuzz(&input[..i]);
        for &b in bytes {
            let mut changed = input.to_vec();
            changed[i] = b;
            fuzz(&changed);
            changed.insert(i, b);
            fuzz(&changed);
        }
    }
}
