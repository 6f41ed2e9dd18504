use super::*;
use std::thread;

fn value(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

#[test]
fn numbers_start_at_one_and_are_one_row_for_all() {
    let data = Data::new();
    data.set("a", b"x", value("1"), 0).unwrap();
    data.set("b", b"x", value("2"), 0).unwrap();
    data.set("a", b"x", value("3"), 0).unwrap();
    assert_eq!(data.get("a", b"x"), Some((value("3"), 3)));
    assert_eq!(data.get("b", b"x"), Some((value("2"), 2)));
}

#[test]
fn a_key_never_set_is_absent_and_an_empty_value_is_not() {
    let data = Data::new();
    assert_eq!(data.get("", b""), None);
    data.set("", b"", Bytes::new(), 0).unwrap();
    assert_eq!(data.get("", b""), Some((Bytes::new(), 1)));
    assert_eq!(data.get("other", b""), None);
}

#[test]
fn a_number_that_has_changed_is_a_mismatch() {
    let data = Data::new();
    data.set("", b"k", value("1"), 77).unwrap();
    assert_eq!(data.set("", b"k", value("2"), 77), Err(Status::CasMismatch));
    assert_eq!(data.get("", b"k"), Some((value("1"), 1)));
    data.set("", b"k", value("2"), 1).unwrap();
    // A refused set uses up no number.
    assert_eq!(data.get("", b"k"), Some((value("2"), 2)));
    assert_eq!(data.set("", b"k", value("3"), 1), Err(Status::CasMismatch));
}

#[test]
fn zero_is_no_number() {
    let data = Data::new();
    data.next_cas.store(u32::MAX, Relaxed);
    data.set("", b"k", value("1"), 0).unwrap();
    data.set("", b"k", value("2"), u32::MAX).unwrap();
    assert_eq!(data.get("", b"k"), Some((value("2"), 1)));
}

#[test]
fn at_the_bound_nothing_changes() {
    let data = Data::with_bounds(Bounds { things: 2, bytes: 8 });
    data.set("", b"a", value("123"), 0).unwrap();
    data.set("", b"b", value("123"), 0).unwrap();
    assert_eq!(data.set("", b"c", value(""), 0), Err(Status::InternalFailure));
    assert_eq!(data.set("", b"a", value("1234"), 1), Err(Status::InternalFailure));
    assert_eq!(data.get("", b"a"), Some((value("123"), 1)));
    assert_eq!(data.get("", b"c"), None);
    // Others have room of their own, and less is always possible.
    data.set("other", b"c", value("12345"), 0).unwrap();
    data.set("", b"b", value(""), 0).unwrap();
    data.set("", b"a", value("123456"), 0).unwrap();
    assert_eq!(data.set("", b"a", value("1234567"), 0), Err(Status::InternalFailure));
}

#[test]
fn no_update_by_read_and_compare_is_lost() {
    const THREADS: u64 = 4;
    const TURNS: u64 = 2000;
    let data = Data::new();
    let add_one = || {
        let (old, cas) = data.get("vm", b"n").unwrap_or_default();
        let old = old.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        let new = Bytes::copy_from_slice(&(old + 1).to_le_bytes());
        data.set("vm", b"n", new, cas).is_ok()
    };
    data.set("vm", b"n", Bytes::new(), 0).unwrap();
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| (0..TURNS).for_each(|_| while !add_one() {}));
        }
    });
    let (sum, cas) = data.get("vm", b"n").unwrap();
    assert_eq!(*sum, (THREADS * TURNS).to_le_bytes());
    assert_eq!(u64::from(cas), 1 + THREADS * TURNS);
}

#[test]
fn a_quota_is_exact_after_threads_have_fought_over_it() {
    let data = Data::with_bounds(Bounds { things: 100, bytes: 1 << 20 });
    thread::scope(|scope| {
        for thread in 0..4_u8 {
            let data = &data;
            scope.spawn(move || {
                for key in 0..100_u8 {
                    let _ = data.set("vm", &[thread, key], Bytes::from_static(b"12345678"), 0);
                }
            });
        }
    });
    let kept = (0..4).flat_map(|thread| (0..100).map(move |key| [thread, key]));
    let kept = kept.filter(|key| data.get("vm", key).is_some()).count();
    // Every thread kept trying to the end, so the room is used up.
    assert_eq!(kept, 100);
}
