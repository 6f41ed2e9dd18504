//! Filters in pages: none of their ids is missed, and few others are taken for one.

use proptest::prelude::*;
use tidegate_core::revoke::pages::{PAGE_BYTES, Place, pages};

/// An image as hosts build it.
fn image(shorts: &[u64]) -> Vec<[u8; PAGE_BYTES]> {
    let count = pages(shorts.len() as u64);
    let mut image = vec![[0; PAGE_BYTES]; count as usize];
    for short in shorts {
        let place = Place::of(*short, count);
        place.put(&mut image[place.page as usize]);
    }
    image
}

fn holds(image: &[[u8; PAGE_BYTES]], short: u64) -> bool {
    let place = Place::of(short, image.len() as u32);
    place.is_in(&image[place.page as usize])
}

fn shorts(count: u64) -> Vec<u64> {
    let mix = |n: u64| (n ^ n >> 31).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (1..=count).map(|n| mix(mix(n))).collect()
}

#[test]
fn a_filter_misses_none_of_its_ids_and_takes_few_others_for_one() {
    for count in [1, 10, 2_730, 2_731, 100_000] {
        let all = shorts(count + 300_000);
        let (held, others) = all.split_at(count as usize);
        let image = image(held);
        assert!(held.iter().all(|short| holds(&image, *short)), "{count}");
        let taken = others.iter().filter(|short| holds(&image, **short)).count();
        let part = taken as f64 / others.len() as f64;
        assert!(part < 0.0065, "{part} of {count}");
    }
}

/// They are made by hosts and read by proxies of other versions.
#[test]
fn a_place_is_what_it_always_was() {
    let place = Place::of(0x0123_4567_89ab_cdef, 1_000);
    let mut page = [0; PAGE_BYTES];
    place.put(&mut page);
    let set: Vec<usize> =
        (0..PAGE_BYTES * 8).filter(|bit| page[bit / 8] & 1 << (bit % 8) != 0).collect();
    let wanted = [14_874, 14_908, 14_937, 14_961, 15_004, 15_011, 15_048, 15_079];
    assert_eq!((place.page, set.as_slice()), (530, &wanted[..]));
}

#[test]
fn twelve_bits_are_kept_for_each_id() {
    assert_eq!([0, 1, 2_730, 2_731].map(pages), [1, 1, 1, 2]);
    assert_eq!(pages(10_000_000), 3_663);
    assert_eq!(pages(u64::MAX), u32::MAX);
}

proptest! {
    #[test]
    fn no_page_makes_a_look_up_fail(page in prop::collection::vec(any::<u8>(), 0..64), short: u64, count: u32) {
        prop_assert!(!Place::of(short, count).is_in(&page));
        prop_assert!(!Place::of(short, count).is_in(&[0; PAGE_BYTES]));
        prop_assert!(Place::of(short, count).is_in(&[255; PAGE_BYTES]));
        prop_assert!(count == 0 || Place::of(short, count).page < count);
    }
}
