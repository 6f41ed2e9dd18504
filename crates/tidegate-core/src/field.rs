//! Fixed fields in fixed bytes, without a way to panic.
//!
//! Offsets are constants everywhere, so the bounds checks compile away.

/// The `N` bytes at `at`; zeros if they are not all there.
pub(crate) fn get<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes.get(at..).and_then(|tail| tail.first_chunk()).copied().unwrap_or([0; N])
}

/// Writes the `N` bytes at `at`, if they are all there.
pub(crate) fn set<const N: usize>(bytes: &mut [u8], at: usize, value: [u8; N]) {
    if let Some(place) = bytes.get_mut(at..).and_then(|tail| tail.first_chunk_mut()) {
        *place = value;
    }
}
