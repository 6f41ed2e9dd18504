//! Whatever arrives is a message that could have been sent, or is malformed.

use crate::made_up::{any_id, any_position};
use proptest::prelude::*;
use tidegate_core::revoke::EVER;
use tidegate_core::revoke::deltas::UNNUMBERED;
use tidegate_core::revoke::message::{
    CHECKED_MAX, CHUNK_BYTES, Check, Checked, ChunkAsk, Delta, Form, IMAGE_BYTES_MAX, Image,
    Manifest, News, NewsAsk,
};
use tidegate_core::wire::revoke::{
    CHECKED_BYTES_MAX, CHUNK_MESSAGE_BYTES_MAX, NEWS_BYTES_MAX, REVOKE_ASK_BYTES_MAX, decode_check,
    decode_checked, decode_chunk, decode_chunk_ask, decode_news, decode_news_ask, encode_check,
    encode_checked, encode_chunk, encode_chunk_ask, encode_news, encode_news_ask,
};
use tidegate_core::wire::{Kind, kind};

fn manifest() -> impl Strategy<Value = Manifest> {
    let image = (any::<u64>(), 1..=IMAGE_BYTES_MAX);
    let images = prop::collection::btree_map(any::<u32>(), image, 0..=128);
    let keys = prop::collection::vec(any::<[u8; 32]>(), 0..=2);
    let form = prop::sample::select(vec![Form::Fuse, Form::Pages]);
    (any::<u64>(), form, any::<u32>(), images, keys).prop_map(
        |(cut, form, span_secs, images, id_keys)| {
            let image = |(generation, (checksum, bytes))| Image { generation, checksum, bytes };
            Manifest {
                cut,
                form,
                span_secs,
                images: images.into_iter().map(image).collect(),
                id_keys,
            }
        },
    )
}

fn news() -> impl Strategy<Value = News> {
    // All ones stand for an entry that is not there yet.
    let back = prop::option::weighted(0.8, 0..u32::MAX);
    let delta = (back, any_id(), 0..=EVER, any::<u32>());
    let deltas = prop::collection::vec(delta, 0..50);
    let number = u64::from(u32::MAX)..;
    let flags = any::<(bool, bool, u32, u32)>();
    let keys = prop::option::of(prop::collection::vec(any::<[u8; 32]>(), 0..=2));
    (any_position(), number, flags, prop::option::of(manifest()), keys, deltas).prop_map(
        |(position, number, (more, anew, held_ms, age_ms), manifest, id_keys, deltas)| {
            let position = tidegate_core::revoke::Position { number, ..position };
            let delta = |(back, id, before_secs, age_ms): (Option<u32>, _, _, _)| Delta {
                number: back.map_or(UNNUMBERED, |back| number - u64::from(back)),
                id,
                before_secs,
                age_ms,
            };
            let deltas = deltas.into_iter().map(delta).collect();
            News { position, held_ms, age_ms, more, manifest, anew, id_keys, deltas }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn news_arrive_as_they_were_sent(news in news()) {
        let bytes = encode_news(&news);
        prop_assert!(bytes.len() <= NEWS_BYTES_MAX);
        prop_assert_eq!(kind(&bytes), Some(Kind::News));
        prop_assert!(decode_news(&bytes[..bytes.len() - 1]).is_err(), "cut short");
        prop_assert_eq!(decode_news(&bytes), Ok(news));
    }

    #[test]
    fn what_is_asked_arrives_as_it_was_sent(
        known in any_position(),
        (cut, pages, wants_keys, image) in any::<(u64, bool, bool, u64)>(),
        piece in 0..IMAGE_BYTES_MAX / CHUNK_BYTES as u32,
        ids in prop::collection::vec(any_id(), 1..=CHECKED_MAX),
    ) {
        let form = if pages { Form::Pages } else { Form::Fuse };
        let news = NewsAsk { known, cut, form, wants_keys };
        let chunk = ChunkAsk { image, offset: piece * CHUNK_BYTES as u32 };
        let check = Check { ids };
        let all = [encode_news_ask(&news), encode_chunk_ask(&chunk), encode_check(&check)];
        prop_assert!(all.iter().all(|bytes| bytes.len() <= REVOKE_ASK_BYTES_MAX));
        prop_assert_eq!(decode_news_ask(&all[0]), Ok(news));
        prop_assert_eq!(decode_chunk_ask(&all[1]), Ok(chunk));
        prop_assert_eq!(decode_check(&all[2]), Ok(check));
    }

    #[test]
    fn what_is_known_of_ids_arrives_as_it_was_sent(
        position in any_position(),
        age_ms: u32,
        before_secs in prop::collection::vec(0..=EVER, 1..=CHECKED_MAX),
    ) {
        let checked = Checked { position, age_ms, before_secs };
        let bytes = encode_checked(&checked);
        prop_assert!(bytes.len() <= CHECKED_BYTES_MAX);
        prop_assert_eq!(decode_checked(&bytes), Ok(checked));
    }

    #[test]
    fn a_damaged_piece_of_an_image_is_noticed(
        piece in prop::collection::vec(any::<u8>(), 1..2_000),
        at: prop::sample::Index,
        flipped in 1..=255_u8,
    ) {
        let mut bytes = encode_chunk(7, 0, &piece);
        prop_assert!(bytes.len() <= CHUNK_MESSAGE_BYTES_MAX);
        prop_assert_eq!(decode_chunk(&bytes).map(|chunk| chunk.bytes), Ok(piece));
        let damaged = 14 + at.index(bytes.len() - 14);
        bytes[damaged] ^= flipped;
        prop_assert!(decode_chunk(&bytes).is_err());
    }

    #[test]
    fn no_bytes_at_all_do_harm(bytes in prop::collection::vec(any::<u8>(), 0..300), letter in 0..6_usize) {
        let mut bytes = bytes;
        bytes.splice(0..0, [2, b"NMCKXY"[letter]]);
        let _ = (decode_news_ask(&bytes), decode_news(&bytes), decode_chunk_ask(&bytes));
        let _ = (decode_chunk(&bytes), decode_check(&bytes), decode_checked(&bytes));
    }
}
