//! Ids are the same in every version, or nothing that is stored is found.

use tidegate_core::revoke::message::generation;
use tidegate_core::revoke::{Id, Kind};

#[test]
fn ids_are_what_they_always_were() {
    let token = Id::of(Kind::Token, &[b"https://issuer.example", b"4711"]);
    assert_eq!(token.to_string(), "5b7d345ebc118dfbb1bd0003050360f9");
    let opaque = Id::keyed(Kind::Opaque, &[9; 32], b"secret");
    assert_eq!(opaque.to_string(), "a1a95923a62b7e3f8c0ca389e0abd979");
}

#[test]
fn no_part_imitates_another() {
    let ids = [
        Id::of(Kind::Token, &[b"ab", b"c"]),
        Id::of(Kind::Token, &[b"a", b"bc"]),
        Id::of(Kind::Token, &[b"abc"]),
        Id::of(Kind::Session, &[b"ab", b"c"]),
        Id::keyed(Kind::Opaque, &[1; 32], b"abc"),
        Id::keyed(Kind::Opaque, &[2; 32], b"abc"),
        Id::keyed(Kind::Cookie, &[1; 32], b"abc"),
    ];
    for (place, id) in ids.iter().enumerate() {
        assert!(!ids[..place].contains(id), "{place}");
    }
}

#[test]
fn a_token_belongs_to_one_generation_and_none_to_the_first() {
    assert_eq!(generation(0, 300), 1);
    assert_eq!((generation(299, 300), generation(300, 300)), (1, 2));
    assert_eq!(generation(u64::MAX, 300), u32::MAX);
    assert_eq!(generation(5, 0), 0);
}
