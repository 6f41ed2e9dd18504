//! Holders in bytes that all workers of a process share, changed by compare-and-swap.
//!
//! As in [`table`](crate::table), a key names a set, which is one value of the shared memory
//! and here has places for four holders; the two may share one [`Slots`], each with numbers of
//! its own. Where all places are taken, a new key takes that of the holder which is longest
//! unused and may be dropped: what it holds lapses, which costs units but admits none. If none
//! may be, the new key finds no place.
//!
//! Bytes of a place: 0 the half of the key that names no set, 8 last used (ns), 16 the holder.

use super::{HOLDER_BYTES, Holder};
use crate::field;
use crate::key::Key;
use crate::table::{SET_BYTES, Slots};
use crate::time::{Instant, Span};

/// Holders in a set.
const WAYS: usize = SET_BYTES / PLACE_BYTES;

const PLACE_BYTES: usize = 16 + HOLDER_BYTES;

/// The most sets: 2^20 of four holders, 768 MiB.
const SETS_MAX: u32 = 1 << 20;

/// How often a change is tried again when other workers keep changing the same set.
const CONFLICTS_MAX: usize = 64;

/// Who only looks at a holder need not say that it is used, if that was said so lately.
const USED_LATELY: Span = Span::from_secs(1);

/// Where the holders of a process are.
#[derive(Clone, Copy, Debug)]
pub struct Shelf {
    first_set: u32,
    sets: u32,
}

impl Shelf {
    /// A shelf for at least `keys_max` holders, in sets numbered from `first_set` on: after
    /// those of a [`Table`](crate::table::Table) in the same memory.
    pub fn new(first_set: u32, keys_max: u32) -> Self {
        let sets = keys_max.div_ceil(WAYS as u32).clamp(1, SETS_MAX);
        Self { first_set, sets: sets.next_power_of_two() }
    }

    /// Changes a key's holder. `None` if there is no place for it, or others kept changing its
    /// set: then nothing is changed. `by` may be called several times, on what is there then.
    pub fn change<S: Slots, R>(
        &self,
        slots: &mut S,
        now: Instant,
        key: &Key,
        mut by: impl FnMut(&mut Holder) -> R,
    ) -> Option<R> {
        let mut result = None;
        let is_done = self.change_by(slots, now, key, &mut |holder| result = Some(by(holder)));
        result.filter(|_| is_done)
    }

    // Once, and not for each thing that is done to holders: it is as long as all of them.
    #[inline(never)]
    fn change_by<S: Slots>(
        &self,
        slots: &mut S,
        now: Instant,
        key: &Key,
        by: &mut dyn FnMut(&mut Holder),
    ) -> bool {
        let set = self.set_of(key);
        for _ in 0..CONFLICTS_MAX {
            let mut bytes = [0; SET_BYTES];
            let version = slots.load(set, &mut bytes);
            let Some(place) = place_of(&mut bytes, tag_of(key), now) else { return false };
            let before: [u8; HOLDER_BYTES] = field::get(place, 16);
            let mut holder = Holder::from_bytes(&before);
            by(&mut holder);
            let after = holder.to_bytes();
            let used_at = Instant(u64::from_le_bytes(field::get(place, 8)));
            if after == before && now.since(used_at) < USED_LATELY {
                return true;
            }
            field::set(place, 0, tag_of(key).to_le_bytes());
            field::set(place, 8, now.0.to_le_bytes());
            field::set(place, 16, after);
            if slots.store(set, &bytes, version).is_ok() {
                return true;
            }
        }
        false
    }

    fn set_of(&self, key: &Key) -> u32 {
        let number = u32::from_le_bytes(field::get(&key.0, 0)) & (self.sets - 1);
        self.first_set.saturating_add(number)
    }
}

fn tag_of(key: &Key) -> u64 {
    u64::from_le_bytes(field::get(&key.0, 8))
}

/// The place of a key's holder: its own, or one made free.
fn place_of(bytes: &mut [u8; SET_BYTES], tag: u64, now: Instant) -> Option<&mut [u8; PLACE_BYTES]> {
    let (places, _) = bytes.as_chunks_mut();
    let is_own = |place: &[u8; PLACE_BYTES]| {
        let [layout] = field::get(place, 16);
        layout != 0 && u64::from_le_bytes(field::get(place, 0)) == tag
    };
    if let Some(own) = places.iter().position(is_own) {
        return places.get_mut(own);
    }
    let place = places.get_mut(droppable(places, now)?)?;
    place.fill(0);
    Some(place)
}

fn droppable(places: &[[u8; PLACE_BYTES]], now: Instant) -> Option<usize> {
    let droppable = places.iter().enumerate().filter_map(|(at, place)| {
        let holder = Holder::from_bytes(&field::get(place, 16));
        let used_at = u64::from_le_bytes(field::get(place, 8));
        // One that holds nothing before one that does.
        holder.may_be_dropped(now).then(|| (holder.left(now) > 0, used_at, at))
    });
    droppable.min().map(|(.., at)| at)
}

const _: () = assert!(WAYS == 4);
