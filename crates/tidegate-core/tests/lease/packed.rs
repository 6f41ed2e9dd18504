//! What is packed comes out as it went in, and bytes that nobody packed do no harm.

use crate::made_up::{KEY, LIMIT, NOW, any_grant, any_want, terms};
use proptest::prelude::*;
use tidegate_core::lease::{HOLDER_BYTES, Holder, HolderId, Place, RECORD_BYTES, Record};
use tidegate_core::time::{Instant, Span};

proptest! {
    #[test]
    fn a_record_is_read_as_it_was_written(
        wants in prop::collection::vec((any_want(), 0..3_000_000_000_u64), 1..8),
        same_quota in any::<bool>(),
    ) {
        let mut record = Record::default();
        let mut now = NOW;
        let quota = wants[0].0.quota;
        for (mut want, gap) in wants {
            now = now.after(Span(gap));
            if same_quota {
                (want.quota, want.reserve) = (quota, 0);
            }
            let place = Place { now, ..Place::default() };
            let grant = record.answer(&place, HolderId(gap), &want, true);
            prop_assert!(grant.units <= want.units && grant.soon <= grant.units.min(want.soon));
            prop_assert!(grant.units == 0 || grant.units >= want.least);
            prop_assert_eq!(Record::from_bytes(&record.to_bytes()), record);
        }
    }

    #[test]
    fn any_bytes_answer_and_grant_no_more_than_is_wanted(
        bytes in prop::collection::vec(any::<u8>(), RECORD_BYTES),
        kind in 0..4_u8,
        wants in prop::collection::vec((any_want(), any::<u64>(), 0..3_u64), 1..4),
    ) {
        let mut bytes: [u8; RECORD_BYTES] = bytes.try_into().unwrap();
        (bytes[0], bytes[1]) = (kind, kind);
        let mut record = Record::from_bytes(&bytes);
        for (want, now, stamp) in wants {
            let place = Place { now: Instant(now), stamp, began: None };
            let grant = record.answer(&place, HolderId(now), &want, true);
            prop_assert!(grant.units <= want.units.min(want.quota.burst()));
        }
    }

    #[test]
    fn a_holder_is_read_as_it_was_written(
        steps in prop::collection::vec((any_grant(), any::<u32>(), 0..900_000_000_u64), 1..8),
    ) {
        let terms = terms(crate::made_up::bucket(1_000, 1_000));
        let mut holder = Holder::default();
        let mut now = NOW;
        for (grant, cost, gap) in steps {
            now = now.after(Span(gap));
            holder.take(now, &terms, cost % 1_000);
            let (_, flight) = holder.ask(now, &terms, (KEY, LIMIT), (cost, 1), true);
            holder.on_reply(now.after(Span(gap / 8)), &terms, flight, (HolderId(1), 1), &grant);
            holder.owe(cost);
            prop_assert_eq!(Holder::from_bytes(&holder.to_bytes()), holder);
        }
    }

    #[test]
    fn any_bytes_are_a_holder(
        bytes in prop::collection::vec(any::<u8>(), HOLDER_BYTES),
        now in any::<u64>(),
        grant in any_grant(),
    ) {
        let mut bytes: [u8; HOLDER_BYTES] = bytes.try_into().unwrap();
        bytes[0] = 1;
        let mut holder = Holder::from_bytes(&bytes);
        let (now, terms) = (Instant(now), terms(crate::made_up::bucket(1_000, 1_000)));
        holder.take(now, &terms, 3);
        holder.due(now, &terms);
        let (_, flight) = holder.ask(now, &terms, (KEY, LIMIT), (3, 1), true);
        holder.on_reply(now, &terms, flight, (HolderId(1), 1), &grant);
        holder.standing(now, &terms);
        holder.drain(now, &terms, (KEY, LIMIT));
        prop_assert_eq!(holder.left(now), 0);
    }
}

#[test]
fn nothing_is_the_same_packed_and_not() {
    assert_eq!(Record::from_bytes(&[0; RECORD_BYTES]), Record::default());
    assert_eq!(Record::default().to_bytes(), [0; RECORD_BYTES]);
    assert_eq!(Holder::from_bytes(&[0; HOLDER_BYTES]), Holder::default());
    const { assert!(RECORD_BYTES <= 120) }
}
