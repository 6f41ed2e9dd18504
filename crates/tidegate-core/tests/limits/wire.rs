//! Whatever arrives is a message that could have been sent, or is malformed.

use crate::history::any_quota;
use proptest::prelude::*;
use tidegate_core::ask::{Answer, Ask, ITEMS_MAX, Item, LimitTag, Reply};
use tidegate_core::key::Key;
use tidegate_core::limit::{Algorithm, Quota, Refused, Standing};
use tidegate_core::time::Span;
use tidegate_core::wire::{
    ASK_BYTES_MAX, REPLY_BYTES_MAX, decode_ask, decode_reply, encode_ask, encode_reply,
};

fn ask() -> impl Strategy<Value = Ask> {
    let item = (any::<[u8; 15]>(), any::<u64>(), any_quota(), any::<u32>());
    prop::collection::vec(item, 1..=ITEMS_MAX).prop_map(|items| {
        let items = items.into_iter().zip(0..).map(|((rest, limit, quota, cost), number)| {
            let mut key = [number; 16];
            key[1..].copy_from_slice(&rest);
            Item { key: Key(key), limit: LimitTag(limit), quota, cost, owed: cost / 3 }
        });
        Ask { items: items.collect() }
    })
}

fn reply() -> impl Strategy<Value = Reply> {
    let standing = || {
        (any::<u32>(), any::<u64>())
            .prop_map(|(remaining, reset)| Standing { remaining, reset: Span(reset) })
    };
    let outcome = prop_oneof![
        standing().prop_map(Ok),
        (any::<u64>(), standing())
            .prop_map(|(wait, standing)| Err(Refused::Wait { wait: Span(wait), standing })),
        Just(Err(Refused::Never)),
    ];
    let answer =
        (outcome, 0..=1_000_000_u32).prop_map(|(outcome, share_ppm)| Answer { outcome, share_ppm });
    prop::collection::vec(answer, 1..=ITEMS_MAX).prop_map(|answers| Reply { answers })
}

/// A message with some bytes changed, cut, or put in.
fn damage(mut bytes: Vec<u8>, wounds: &[(u16, u8, u8)]) -> Vec<u8> {
    for (at, byte, how) in wounds {
        let at = usize::from(*at) % (bytes.len() + 1);
        match how % 4 {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, *byte),
            _ if at < bytes.len() => bytes[at] = *byte,
            _ => bytes.push(*byte),
        }
    }
    bytes
}

fn wounds() -> impl Strategy<Value = Vec<(u16, u8, u8)>> {
    prop::collection::vec(any::<(u16, u8, u8)>(), 1..6)
}

proptest! {
    #[test]
    fn an_ask_arrives_as_it_was_sent(ask in ask()) {
        let bytes = encode_ask(&ask);
        prop_assert!(bytes.len() <= ASK_BYTES_MAX);
        prop_assert_eq!(decode_ask(&bytes), Ok(ask));
        prop_assert!(decode_reply(&bytes).is_err(), "an ask is no reply");
    }

    #[test]
    fn a_reply_arrives_as_it_was_sent(reply in reply()) {
        let bytes = encode_reply(&reply);
        prop_assert!(bytes.len() <= REPLY_BYTES_MAX);
        prop_assert_eq!(decode_reply(&bytes), Ok(reply));
        prop_assert!(decode_ask(&bytes).is_err(), "a reply is no ask");
    }

    #[test]
    fn every_truncation_and_every_tail_is_malformed(ask in ask(), reply in reply(), tail: u8) {
        let (mut asked, mut replied) = (encode_ask(&ask), encode_reply(&reply));
        for end in 0..asked.len() {
            let malformed = decode_ask(&asked[..end]).unwrap_err();
            prop_assert!(malformed.at <= end, "{malformed}");
        }
        for end in 0..replied.len() {
            let malformed = decode_reply(&replied[..end]).unwrap_err();
            prop_assert!(malformed.at <= end, "{malformed}");
        }
        asked.push(tail);
        replied.push(tail);
        prop_assert!(decode_ask(&asked).is_err());
        prop_assert!(decode_reply(&replied).is_err());
    }

    /// There is one encoding of each message, so whatever decodes encodes to itself.
    #[test]
    fn damage_gives_malformed_or_another_message(
        ask in ask(), reply in reply(), wounds in wounds(),
    ) {
        let bytes = damage(encode_ask(&ask), &wounds);
        if let Ok(read) = decode_ask(&bytes) {
            prop_assert_eq!(encode_ask(&read), bytes);
        }
        let bytes = damage(encode_reply(&reply), &wounds);
        if let Ok(read) = decode_reply(&bytes) {
            prop_assert_eq!(encode_reply(&read), bytes);
        }
    }

    #[test]
    fn noise_is_survived(bytes in prop::collection::vec(any::<u8>(), 0..800)) {
        let _ = decode_ask(&bytes);
        let _ = decode_reply(&bytes);
    }
}

fn small_ask() -> Vec<u8> {
    let quota = Quota::new(Algorithm::SlidingWindow, 5, Span::from_secs(1), 5).unwrap();
    let item = Item { key: Key([7; 16]), limit: LimitTag(9), quota, cost: 1, owed: 4 };
    encode_ask(&Ask { items: vec![item] })
}

/// The bytes themselves, so that a change of the format is a choice and not an accident.
#[test]
fn the_format_is_as_its_head_says() {
    let mut wanted = vec![2, b'A', 1];
    wanted.extend([7; 16]);
    wanted.extend([9, 0, 0, 0, 0, 0, 0, 0]);
    wanted.extend([2, 5, 0, 0, 0]);
    wanted.extend(1_000_000_000_u64.to_le_bytes());
    wanted.extend([5, 0, 0, 0, 1, 0, 0, 0, 4, 0, 0, 0]);
    assert_eq!(small_ask(), wanted);
    let standing = Standing { remaining: 3, reset: Span(4) };
    let answer = |outcome| Answer { outcome, share_ppm: 258 };
    let reply = Reply {
        answers: vec![
            answer(Ok(standing)),
            answer(Err(Refused::Wait { wait: Span(5), standing })),
            answer(Err(Refused::Never)),
        ],
    };
    let mut wanted = vec![2, b'R', 3];
    wanted.extend([0, 2, 1, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0]);
    wanted.extend([1, 2, 1, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0]);
    wanted.extend([2, 2, 1, 0, 0]);
    assert_eq!(encode_reply(&reply), wanted);
}

#[test]
fn what_is_wrong_is_said_and_where() {
    let told = |at: usize, byte: u8| {
        let mut bytes = small_ask();
        bytes[at] = byte;
        decode_ask(&bytes).unwrap_err().to_string()
    };
    assert_eq!(told(0, 1), "a version other than 2 at byte 0");
    assert_eq!(told(1, b'R'), "another kind of message at byte 1");
    assert_eq!(told(2, 0), "not 1 to 16 items at byte 2");
    assert_eq!(told(2, 17), "not 1 to 16 items at byte 2");
    assert_eq!(told(2, 2), "cut short at byte 52");
    assert_eq!(told(27, 0), "no such algorithm at byte 27");
    assert_eq!(told(28, 0), "a quota that cannot be at byte 27");
    // A window whose burst is not its count cannot have been sent.
    assert_eq!(told(40, 6), "a quota that cannot be at byte 27");
    let mut twice = small_ask();
    twice[2] = 2;
    twice.extend_from_within(3..);
    assert_eq!(decode_ask(&twice).unwrap_err().to_string(), "the same key twice at byte 52");
    let over =
        Reply { answers: vec![Answer { outcome: Err(Refused::Never), share_ppm: 1_000_001 }] };
    let told = decode_reply(&encode_reply(&over)).unwrap_err().to_string();
    assert_eq!(told, "a share of more than the whole at byte 4");
}

#[test]
fn what_is_beyond_the_bounds_does_not_decode() {
    let quota = Quota::new(Algorithm::TokenBucket, 1, Span::from_secs(1), 1).unwrap();
    let item = |n| Item { key: Key([n; 16]), limit: LimitTag(0), quota, cost: 1, owed: 0 };
    for count in [0_u16, 17, 250, 300] {
        let items: Vec<_> = (0..count).map(|n| item(n as u8)).collect();
        assert!(decode_ask(&encode_ask(&Ask { items })).is_err(), "{count} items");
    }
}
