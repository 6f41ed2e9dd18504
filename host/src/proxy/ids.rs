//! New ids for requests: random UUIDs.
//!
//! Randomness is fetched for many at once: a call to the kernel for each request would cost
//! as much as the rest of its headers.

use rustls::crypto::ring::default_provider;
use std::cell::RefCell;
use std::fmt::Write;

/// How much randomness is fetched at once: for 256 ids.
const POOL_BYTES: usize = 4_096;

thread_local! {
    static POOL: RefCell<Pool> = const { RefCell::new(Pool { bytes: [0; POOL_BYTES], used: POOL_BYTES }) };
}

struct Pool {
    bytes: [u8; POOL_BYTES],
    used: usize,
}

/// Fills a buffer with randomness.
pub(super) fn fill_random(to: &mut [u8]) {
    if default_provider().secure_random.fill(to).is_err() {
        // The kernel has none yet: ids and keys made now may come twice, no more.
        tracing::error!("this system gives no randomness");
    }
}

/// A UUID of version 4.
pub(super) fn request_id() -> String {
    let mut id = POOL.with_borrow_mut(Pool::next);
    id[6] = id[6] & 0x0f | 0x40;
    id[8] = id[8] & 0x3f | 0x80;
    let mut text = String::with_capacity(36);
    for (place, byte) in id.iter().enumerate() {
        if matches!(place, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        let _ = write!(text, "{byte:02x}");
    }
    text
}

impl Pool {
    fn next(&mut self) -> [u8; 16] {
        if self.used + 16 > POOL_BYTES {
            fill_random(&mut self.bytes);
            self.used = 0;
        }
        let mut id = [0; 16];
        id.copy_from_slice(&self.bytes[self.used..self.used + 16]);
        self.used += 16;
        id
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn ids_are_uuids_and_do_not_come_twice() {
        let ids: BTreeSet<String> = (0..1_000).map(|_| request_id()).collect();
        assert_eq!(ids.len(), 1_000);
        for id in ids {
            let places: Vec<usize> = id.match_indices('-').map(|(at, _)| at).collect();
            assert_eq!((id.len(), places), (36, vec![8, 13, 18, 23]), "{id}");
            assert_eq!(&id[14..15], "4", "{id}");
            assert!("89ab".contains(&id[19..20]), "{id}");
        }
    }
}
