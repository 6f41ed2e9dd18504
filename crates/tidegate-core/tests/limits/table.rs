//! Whom a full set forgets, and that a flood of new keys frees no abuser.

use tidegate_core::key::Key;
use tidegate_core::limit::{Algorithm, Quota, State, Weight};
use tidegate_core::table::{SETS_MAX, Set, Table, WAYS};
use tidegate_core::time::{Instant, Span};

fn key(number: u64) -> Key {
    let mixed = mix(number);
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&mixed.to_le_bytes());
    bytes[8..].copy_from_slice(&mix(mixed).to_le_bytes());
    Key(bytes)
}

/// SplitMix64: a fixed stream of numbers, the same on every run.
fn mix(number: u64) -> u64 {
    let z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn bucket(count: u32, burst: u32) -> Quota {
    Quota::new(Algorithm::TokenBucket, count, Span::from_secs(1), burst).unwrap()
}

fn millis(ms: u64) -> Instant {
    Instant(Span::from_millis(ms).0)
}

/// A state that says which key it was put for.
fn state_of(number: u64) -> State {
    let mut state = State::default();
    bucket(1_000_000, 1_000).take(&mut state, Instant(number * 1_000), 7).unwrap();
    state
}

fn put(set: &mut Set, number: u64, debt: u16, fresh_at: Instant, now: Instant) {
    set.put(&key(number), &state_of(number), Weight { debt, fresh_at }, now);
}

fn here(set: &Set, number: u64) -> bool {
    set.state(&key(number)) == state_of(number)
}

/// Eight keys in debt until 10 s, put at 0, the debt of key `i` being `(i + 1) * 1000`.
fn full_set() -> Set {
    let mut set = Set::empty();
    (0..WAYS as u64)
        .for_each(|i| put(&mut set, i, (i as u16 + 1) * 1_000, millis(10_000), millis(0)));
    assert!((0..WAYS as u64).all(|i| here(&set, i)));
    set
}

#[test]
fn a_key_never_put_is_a_key_never_seen() {
    assert_eq!(Set::empty().state(&key(1)), State::default());
    assert_eq!(full_set().state(&key(99)), State::default());
    // Bytes of a layout to come read as free slots.
    let mut other = full_set();
    other.bytes_mut().iter_mut().for_each(|byte| *byte |= 0x80);
    assert!((0..WAYS as u64).all(|i| other.state(&key(i)) == State::default()));
    put(&mut other, 5, 1, millis(1), millis(0));
    assert!(here(&other, 5));
}

#[test]
fn a_key_that_is_here_keeps_its_place() {
    let mut set = full_set();
    let mut newer = state_of(3);
    bucket(1_000_000, 1_000).take(&mut newer, millis(1), 7).unwrap();
    set.put(&key(3), &newer, Weight { debt: 1, fresh_at: millis(2) }, millis(1));
    assert_eq!(set.state(&key(3)), newer);
    assert!((0..WAYS as u64).filter(|i| *i != 3).all(|i| here(&set, i)));
}

#[test]
fn a_fresh_key_goes_first_however_much_it_owed() {
    let mut set = full_set();
    put(&mut set, 7, u16::MAX, millis(2_000), millis(0));
    put(&mut set, 99, 1, millis(9_000), millis(2_000));
    assert!(here(&set, 99) && !here(&set, 7));
    assert!((0..7).all(|i| here(&set, i)));
}

#[test]
fn otherwise_the_least_indebted_goes() {
    let mut set = full_set();
    put(&mut set, 5, 999, millis(10_000), millis(0));
    put(&mut set, 99, u16::MAX, millis(10_000), millis(1_000));
    assert!(here(&set, 99) && !here(&set, 5));
    put(&mut set, 98, 1, millis(10_000), millis(1_000));
    assert!(here(&set, 98) && !here(&set, 0), "however little the new key owes");
    assert!([1, 2, 3, 4, 6, 7, 99].iter().all(|i| here(&set, *i)));
}

#[test]
fn debts_are_compared_as_they_have_decayed() {
    let mut set = full_set();
    // Owes most of all when put, but nearly all of it has drained by 900 ms.
    put(&mut set, 4, 9_000, millis(1_000), millis(0));
    put(&mut set, 99, 1, millis(10_000), millis(900));
    assert!(here(&set, 99) && !here(&set, 4), "9000 × 1/10 is less than 1000 × 91/100");
    assert!(here(&set, 0));
}

#[test]
fn among_equal_debts_the_one_that_is_gone_first_goes() {
    let mut set = Set::empty();
    for i in 0..WAYS as u64 {
        put(&mut set, i, 500, millis(10_000 - i), millis(0));
    }
    put(&mut set, 99, 500, millis(10_000), millis(0));
    assert!(!here(&set, WAYS as u64 - 1) && here(&set, 99));
}

#[test]
fn a_table_has_room_for_its_keys_in_a_power_of_two_of_sets() {
    for (keys, sets) in [(0, 1), (1, 1), (8, 1), (9, 2), (65_536, 8_192), (65_537, 16_384)] {
        assert_eq!(Table::new(keys).sets(), sets, "{keys} keys");
    }
    assert_eq!(Table::new(u32::MAX).sets(), SETS_MAX);
    let table = Table::new(65_536);
    let mut used = vec![false; 8_192];
    (0..200_000).for_each(|i| used[table.set_of(&key(i)) as usize] = true);
    assert!(used.iter().all(|used| *used), "every set is used");
}

/// Nine of ten requests bring a key never seen before; the tenth is one of 1000 abusers,
/// each asking eight times as fast as it may. The table holds 65,536 keys, one in eight
/// of those that come. What abusers get beyond their limit is what the table forgot.
#[test]
fn a_flood_of_new_keys_frees_no_abuser() {
    const ABUSERS: u64 = 1_000;
    const ROUNDS: u64 = 60;
    let quota = bucket(10, 10);
    let table = Table::new(65_536);
    let mut sets = vec![Set::empty(); table.sets() as usize];
    let mut admitted = 0_u64;
    // 80 requests a second from each abuser, evenly among the flood.
    let gap_ns = 1_000_000_000 / 80 / ABUSERS / 10;
    let mut now = Instant(5_000_000_000);
    for request in 0..ROUNDS * ABUSERS * 10 {
        now = now.after(Span(gap_ns));
        let abuser = request % 10 == 0;
        let key = if abuser { key(mix(request) % ABUSERS) } else { key(request + ABUSERS) };
        let set = &mut sets[table.set_of(&key) as usize];
        let mut state = set.state(&key);
        if quota.take(&mut state, now, 1).is_ok() {
            set.put(&key, &state, quota.weight(&state, now), now);
            admitted += u64::from(abuser);
        }
    }
    let seconds = (ROUNDS as f64) / 80.0;
    let allowed = ABUSERS as f64 * (10.0 + 10.0 * seconds);
    let freed = admitted as f64 / allowed;
    assert!(freed <= 1.05, "{admitted} admitted of {allowed} allowed: {freed:.3}");
    assert!(freed >= 0.9, "the flood held abusers back: {freed:.3}");
}
