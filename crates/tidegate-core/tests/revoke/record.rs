//! How records of one id go together, and what they are as bytes.

use crate::made_up::any_record;
use proptest::prelude::*;
use tidegate_core::revoke::record::RECORD_BYTES;
use tidegate_core::revoke::{EVER, Id, Kind, Record};

fn revokes(at_ms: u64, before_secs: u64, until_secs: u64) -> Record {
    let (id, kind) = (Id([7; 16]), Kind::Subject);
    Record { id, kind, lifts: false, before_secs, until_secs, by_exp: false, at_ms }
}

fn lifts(at_ms: u64) -> Record {
    Record { lifts: true, ..revokes(at_ms, 0, 0) }
}

proptest! {
    #[test]
    fn a_record_is_its_bytes(record in any_record()) {
        prop_assert_eq!(Record::from_bytes(&record.to_bytes()), Some(record));
    }

    #[test]
    fn bytes_that_are_no_record_are_none(bytes in any::<[u8; RECORD_BYTES]>()) {
        let made = Record::from_bytes(&bytes);
        prop_assert!(made.is_none_or(|record| record.to_bytes() == bytes));
    }

    #[test]
    fn a_record_heard_twice_is_heard_once(record in any_record()) {
        prop_assert_eq!(record.and(&record), record);
    }

    #[test]
    fn two_records_are_the_same_in_either_order(one in any_record(), other in any_record()) {
        let other = Record { id: one.id, kind: one.kind, ..other };
        let same_moment_liftings = one.lifts && other.lifts && one.at_ms == other.at_ms;
        prop_assume!(!same_moment_liftings);
        prop_assert_eq!(one.and(&other), other.and(&one));
    }

    /// In whatever order: what one order revokes, another may revoke more of, never less than
    /// what came after the last lifting.
    #[test]
    fn whatever_came_after_the_last_lifting_holds_in_any_order(
        records in prop::collection::vec(any_record(), 1..6).prop_shuffle(),
        issued in 0..5_u64,
    ) {
        let merged = records.iter().copied().reduce(|all, one| all.and(&one)).unwrap();
        let last = records.iter().filter(|record| record.lifts).map(|record| record.at_ms).max();
        let holds = records
            .iter()
            .filter(|record| !record.lifts && last.is_none_or(|last| record.at_ms >= last))
            .any(|record| record.revokes(Some(issued)));
        prop_assert!(!holds || merged.revokes(Some(issued)));
        let all_lifted = last.is_some_and(|last| records.iter().all(|it| it.lifts || it.at_ms < last));
        prop_assert!(!all_lifted || !merged.revokes(Some(issued)));
    }
}

#[test]
fn no_revocation_takes_back_what_another_said() {
    let merged = revokes(1, 100, 900).and(&revokes(2, 50, 1000));
    assert_eq!((merged.before_secs, merged.until_secs, merged.at_ms), (100, 1000, 2));
}

#[test]
fn the_later_of_a_revocation_and_a_lifting_holds() {
    assert!(!revokes(1, EVER, EVER).and(&lifts(2)).revokes(Some(5)));
    assert!(revokes(3, EVER, EVER).and(&lifts(2)).revokes(Some(5)));
    assert!(revokes(2, EVER, EVER).and(&lifts(2)).revokes(Some(5)), "in doubt it is revoked");
}

#[test]
fn what_does_not_say_when_it_was_issued_is_revoked() {
    let record = revokes(1, 100, EVER);
    assert!(record.revokes(None) && record.revokes(Some(100)) && !record.revokes(Some(101)));
}

#[test]
fn a_generation_that_two_exps_were_told_of_is_relied_on_no_more() {
    let by_exp = |until| Record { by_exp: true, ..revokes(1, EVER, until) };
    assert!(by_exp(10).and(&by_exp(10)).by_exp);
    assert!(!by_exp(10).and(&by_exp(11)).by_exp);
    assert!(!by_exp(10).and(&revokes(1, EVER, 10)).by_exp);
}
