//! Filters: read here as they were built there, and whatever else arrives is no filter.

use proptest::prelude::*;
use tidegate_core::revoke::fuse::{HEAD_BYTES, Head};
use xorf::{BinaryFuse8, DmaSerializable as _, Filter as _};

/// An image as hosts build it.
fn image(shorts: &[u64]) -> Vec<u8> {
    let filter = BinaryFuse8::try_from(shorts).unwrap();
    let mut bytes = vec![0; HEAD_BYTES];
    filter.dma_copy_descriptor_to(&mut bytes);
    bytes.extend(filter.dma_fingerprints());
    bytes
}

/// Numbers that look drawn, the same each time.
fn shorts(count: u64) -> Vec<u64> {
    let mix = |n: u64| (n ^ n >> 31).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (1..=count).map(|n| mix(mix(n))).collect()
}

#[test]
fn a_filter_misses_none_of_its_ids_whatever_their_number() {
    for count in [1, 2, 3, 5, 10, 100, 1_000, 100_000] {
        let held = shorts(count);
        let image = image(&held);
        let head = Head::read(&image).expect("a filter");
        assert!(held.iter().all(|short| head.holds(&image, *short)), "{count}");
    }
}

#[test]
fn it_takes_one_in_256_others_for_one_of_them() {
    let all = shorts(400_000);
    let (held, others) = all.split_at(100_000);
    let image = image(held);
    let head = Head::read(&image).expect("a filter");
    let taken = others.iter().filter(|short| head.holds(&image, **short)).count();
    let part = taken as f64 / others.len() as f64;
    assert!((0.0034..0.0044).contains(&part), "{part}");
}

proptest! {
    #[test]
    fn it_answers_as_its_builder_does(held in prop::collection::hash_set(any::<u64>(), 1..500), other: u64) {
        let held: Vec<u64> = held.into_iter().collect();
        let filter = BinaryFuse8::try_from(&held).unwrap();
        let image = image(&held);
        let head = Head::read(&image).expect("a filter");
        prop_assert_eq!(head.holds(&image, other), filter.contains(&other));
    }

    #[test]
    fn what_is_cut_or_grown_is_no_filter(held in 1..200_u64, cut in 1..64_usize) {
        let mut image = image(&shorts(held));
        let cut = cut.min(image.len());
        prop_assert_eq!(Head::read(&image[..image.len() - cut]), None);
        image.extend(vec![0; cut]);
        prop_assert_eq!(Head::read(&image), None);
    }

    #[test]
    fn no_bytes_at_all_make_a_look_up_fail(bytes in prop::collection::vec(any::<u8>(), 0..256), short: u64) {
        if let Some(head) = Head::read(&bytes) {
            head.holds(&bytes, short);
            head.holds(&[], short);
        }
    }
}
