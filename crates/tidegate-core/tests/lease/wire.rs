//! Whatever arrives is a message that could have been sent, or is malformed.

use crate::made_up::{any_grant, any_want};
use proptest::prelude::*;
use tidegate_core::key::Key;
use tidegate_core::lease::{Ask, Away, HolderId, Reply, WANTS_MAX};
use tidegate_core::time::Span;
use tidegate_core::wire::{
    Kind, LEASE_ASK_BYTES_MAX, LEASE_REPLY_BYTES_MAX, decode_ask, decode_lease_ask,
    decode_lease_reply, decode_reply, encode_lease_ask, encode_lease_reply, kind,
};

fn ask() -> impl Strategy<Value = Ask> {
    let wants = prop::collection::vec(any_want(), 1..=WANTS_MAX);
    (any::<u64>(), any::<u64>(), wants).prop_map(|(holder, seq, mut wants)| {
        for (want, number) in wants.iter_mut().zip(0..) {
            let Key(bytes) = &mut want.key;
            bytes[0] = number;
        }
        Ask { holder: HolderId(holder), seq, wants }
    })
}

fn reply() -> impl Strategy<Value = Reply> {
    let away = any::<u64>().prop_map(|ns| Err(Away(Span(ns))));
    let grant = prop_oneof![4 => any_grant().prop_map(Ok), 1 => away];
    let grants = prop::collection::vec(grant, 1..=WANTS_MAX);
    (any::<u64>(), grants).prop_map(|(seq, grants)| Reply { seq, grants })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn an_ask_arrives_as_it_was_sent(ask in ask()) {
        let bytes = encode_lease_ask(&ask);
        prop_assert!(bytes.len() <= LEASE_ASK_BYTES_MAX);
        prop_assert_eq!(kind(&bytes), Some(Kind::LeaseAsk));
        prop_assert_eq!(decode_lease_ask(&bytes), Ok(ask));
        prop_assert!(decode_ask(&bytes).is_err(), "it is no exact ask");
        prop_assert!(decode_lease_ask(&bytes[..bytes.len() - 1]).is_err(), "cut short");
    }

    #[test]
    fn a_reply_arrives_as_it_was_sent(reply in reply()) {
        let bytes = encode_lease_reply(&reply);
        prop_assert!(bytes.len() <= LEASE_REPLY_BYTES_MAX);
        prop_assert_eq!(kind(&bytes), Some(Kind::LeaseReply));
        prop_assert_eq!(decode_lease_reply(&bytes), Ok(reply));
        prop_assert!(decode_reply(&bytes).is_err(), "it is no exact reply");
    }

    #[test]
    fn damaged_bytes_are_malformed_or_another_message(
        ask in ask(),
        reply in reply(),
        wounds in prop::collection::vec(any::<(u16, u8)>(), 1..4),
    ) {
        let (mut asked, mut replied) = (encode_lease_ask(&ask), encode_lease_reply(&reply));
        for (at, byte) in wounds {
            let (place, other) = (usize::from(at) % asked.len(), usize::from(at) % replied.len());
            (asked[place], replied[other]) = (byte, byte);
        }
        if let Ok(other) = decode_lease_ask(&asked) {
            prop_assert_eq!(encode_lease_ask(&other), asked);
        }
        if let Ok(other) = decode_lease_reply(&replied) {
            prop_assert_eq!(encode_lease_reply(&other), replied);
        }
    }
}

#[test]
fn no_key_is_asked_for_twice() {
    let want = crate::made_up::want(crate::made_up::bucket(10, 10), 1);
    let ask = Ask { holder: HolderId(1), seq: 1, wants: vec![want.clone(), want] };
    let malformed = decode_lease_ask(&encode_lease_ask(&ask)).unwrap_err();
    assert_eq!(malformed.what, "the same key twice");
}

#[test]
fn what_begins_as_nothing_known_has_no_kind() {
    for bytes in [&b""[..], b"\x02", b"\x01L", b"\x02l", b"\x03A"] {
        assert_eq!(kind(bytes), None, "{bytes:?}");
    }
    assert_eq!([kind(b"\x02A"), kind(b"\x02R")], [Some(Kind::Ask), Some(Kind::Reply)]);
}
