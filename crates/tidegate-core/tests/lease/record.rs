//! A record, asked by hand.

use crate::made_up::{NOW, bucket, want, window};
use tidegate_core::lease::{Grant, HolderId, Place, Record, Settled, Want};
use tidegate_core::limit::{Algorithm, Quota};
use tidegate_core::time::{Instant, Span};

const ME: HolderId = HolderId(9);

fn after(ms: u64) -> Place {
    Place { now: NOW.after(Span::from_millis(ms)), stamp: 1, began: None }
}

fn ask(record: &mut Record, ms: u64, want: &Want) -> Grant {
    record.answer(&after(ms), ME, want, true)
}

/// Tells of what was granted, and wants no more.
fn told(want: &Want, grant: &Grant, spent: u32, returned: u32) -> Want {
    let mut told = Want { era: grant.era, version: grant.version, units: 0, ..want.clone() };
    told.settled[0] = Settled { epoch: grant.epoch, spent, returned };
    told
}

/// What a record would still grant: it is asked for all, by itself.
fn room(record: &Record, ms: u64, want: &Want) -> u32 {
    let mut copy = *record;
    let nothing = Want { units: 0, ..want.clone() };
    ask(&mut copy, ms, &nothing).remaining
}

#[test]
fn time_does_not_refill_what_is_outstanding() {
    let want = want(bucket(100, 100), 50);
    let mut record = Record::default();
    let grant = ask(&mut record, 0, &want);
    assert_eq!((grant.units, grant.remaining), (50, 50));
    assert_eq!(room(&record, 900, &want), 50);
    // Told of, it refills; for half of it there was time already.
    ask(&mut record, 900, &told(&want, &grant, 50, 0));
    assert_eq!([900, 1_000, 1_500].map(|ms| room(&record, ms, &want)), [50, 60, 100]);
}

/// The record is not asked between the grant and long after the lapse. Had the
/// units, spent in their last moment, refilled all that time, a hundred more would come at once.
#[test]
fn what_lapses_refills_from_that_moment_on() {
    let want = want(bucket(100, 100), 50);
    let mut record = Record::default();
    ask(&mut record, 0, &want);
    // NOW begins an epoch, so it lapses in five.
    assert_eq!([1_249, 1_250, 1_260, 1_750].map(|ms| room(&record, ms, &want)), [50, 50, 51, 100]);
}

/// A clock that was set back shows the same time twice: it refills once.
#[test]
fn time_does_not_go_back() {
    let want = want(bucket(100, 100), 0);
    let mut record = Record::default();
    ask(&mut record, 1_000, &Want { owed: 100, ..want.clone() });
    ask(&mut record, 1_300, &want);
    ask(&mut record, 1_000, &want);
    assert_eq!([1_000, 1_300, 1_500].map(|ms| room(&record, ms, &want)), [30, 30, 50]);
}

#[test]
fn what_is_returned_is_there_at_once() {
    let want = want(bucket(100, 100), 50);
    let mut record = Record::default();
    let grant = ask(&mut record, 0, &want);
    ask(&mut record, 10, &told(&want, &grant, 20, 30));
    assert_eq!(record.outstanding(), 0);
    assert_eq!(room(&record, 10, &want), 80);
}

#[test]
fn nobody_can_tell_of_more_than_was_granted() {
    let want = want(bucket(100, 100), 20);
    let mut record = Record::default();
    let grant = ask(&mut record, 0, &want);
    ask(&mut record, 0, &told(&want, &grant, 0, u32::MAX));
    assert_eq!(room(&record, 0, &want), 100);
    let grant = ask(&mut record, 0, &want);
    // What was spent is believed before what came back.
    ask(&mut record, 0, &told(&want, &grant, 20, 20));
    assert_eq!(room(&record, 0, &want), 80);
    // What lapsed is not to be told of any more: it has begun to refill.
    let grant = ask(&mut record, 0, &want);
    ask(&mut record, 1_250, &told(&want, &grant, 0, 20));
    assert_eq!(room(&record, 1_250, &want), 80);
}

#[test]
fn what_may_have_been_told_before_is_not_believed() {
    let want = want(bucket(100, 100), 20);
    let mut record = Record::default();
    let grant = ask(&mut record, 0, &want);
    record.answer(&after(0), ME, &told(&want, &grant, 0, 20), false);
    assert_eq!((record.outstanding(), room(&record, 0, &want)), (20, 80));
}

#[test]
fn at_most_half_the_burst_is_leased_at_once() {
    let want = want(bucket(100, 100), 100);
    let mut record = Record::default();
    assert_eq!(ask(&mut record, 0, &want).units, 50);
    assert_eq!(ask(&mut record, 0, &want).units, 0);
    let now = Want { soon: 100, ..want };
    assert_eq!(ask(&mut record, 0, &now).units, 25, "half of what is left, for use at once");
}

#[test]
fn another_stamp_begins_an_era_with_nothing() {
    let want = want(bucket(100, 100), 50);
    let mut record = Record::default();
    let before = ask(&mut record, 0, &want);
    let elsewhere = |ms| Place { stamp: 2, ..after(ms) };
    let now = record.answer(&elsewhere(0), ME, &told(&want, &before, 0, 50), true);
    assert_ne!(now.era, before.era);
    assert_eq!((now.remaining, record.outstanding()), (0, 100));
    // It refills up to half, as the other half may be held for as long as a lease.
    let rest = |ms| {
        let mut copy = record;
        copy.answer(&elsewhere(ms), ME, &Want { units: 0, ..want.clone() }, true).remaining
    };
    assert_eq!([124, 224, 1_249, 1_350, 1_850].map(rest), [0, 9, 50, 60, 100]);
}

#[test]
fn a_holder_that_knows_more_shows_that_grants_were_lost() {
    let want = want(bucket(100, 100), 10);
    let mut record = Record::default();
    let replica = {
        ask(&mut record, 0, &want);
        record
    };
    let grant = ask(&mut record, 0, &want);
    let mut record = replica;
    let again = ask(&mut record, 1, &told(&want, &grant, 10, 0));
    assert_ne!(again.era, grant.era);
    assert!(again.version > grant.version);
    assert_eq!(again.remaining, 0);
}

#[test]
fn of_a_key_made_room_for_holders_tell_what_they_know() {
    let want = want(bucket(100, 100), 10);
    let mut record = Record::default();
    let grant = ask(&mut record, 0, &want);
    // Forgotten; the first to come begins another era.
    let mut record = Record::default();
    let known = Want { known: 60, ..told(&want, &grant, 10, 0) };
    assert_eq!(ask(&mut record, 1, &known).remaining, 40);
}

#[test]
fn soon_after_a_fail_over_an_unknown_key_may_be_a_lost_one() {
    let want = want(bucket(100, 100), 0);
    let began = Some(NOW);
    let remaining = |ms| {
        let place = Place { began, ..after(ms) };
        Record::default().answer(&place, ME, &want, true).remaining
    };
    assert_eq!([0, 999, 1_000].map(remaining), [0, 0, 100], "until it would have refilled");
}

#[test]
fn debts_come_first_and_are_paid_with_what_refills() {
    let want = Want { owed: 150, ..want(bucket(100, 100), 1) };
    let mut record = Record::default();
    let grant = ask(&mut record, 0, &want);
    assert_eq!((grant.units, grant.wait), (0, Span::from_millis(510)));
    let want = Want { owed: 0, ..want };
    assert_eq!([500, 600].map(|ms| room(&record, ms, &want)), [0, 10]);
}

#[test]
fn who_is_refused_is_told_when_and_comes_back_sooner_where_others_hold_some() {
    // One in a hundred seconds.
    let quota = Quota::new(Algorithm::TokenBucket, 36, Span::from_secs(3_600), 4).unwrap();
    let want = Want { soon: 2, least: 4, ..want(quota, 4) };
    let mut record = Record::default();
    let grant = ask(&mut record, 0, &want);
    assert_eq!((grant.units, grant.soon), (4, 2));
    let one = Want { units: 1, soon: 1, least: 1, ..want.clone() };
    assert_eq!(ask(&mut record, 0, &one).wait, Span::from_secs(2), "two may come back");
    ask(&mut record, 125, &told(&want, &grant, 2, 0));
    // Those that waited held it at nothing for as long as they could.
    assert_eq!(ask(&mut record, 125, &one).wait, Span::from_secs(100));
    assert_eq!(ask(&mut record, 10_125, &one).wait, Span::from_secs(90));
}

#[test]
fn a_window_counts_leases_until_a_period_after_they_are_told_of() {
    let want = want(window(100, 10), 40);
    let mut record = Record::default();
    let grant = ask(&mut record, 0, &want);
    assert_eq!(grant.units, 40);
    ask(&mut record, 1_000, &told(&want, &grant, 30, 10));
    let rooms = [1_000, 10_999, 11_999, 12_000].map(|ms| room(&record, ms, &want));
    assert_eq!(rooms, [70, 70, 70, 100], "a period and a tenth, for the part that had begun");
}

#[test]
fn a_window_counts_what_nobody_tells_of_from_its_lapse_on() {
    let want = want(window(100, 10), 40);
    let mut record = Record::default();
    ask(&mut record, 0, &want);
    // Lapsed at 1.25 s, within the second part of the window.
    assert_eq!([11_250, 11_999, 12_000].map(|ms| room(&record, ms, &want)), [60, 60, 100]);
}

#[test]
fn another_quota_frees_nobody() {
    let small = want(bucket(10, 10), 10);
    let mut record = Record::default();
    let mut all = Want { soon: 10, least: 10, ..small.clone() };
    assert_eq!(ask(&mut record, 0, &all).units, 10);
    for (quota, left) in [(bucket(20, 20), 10), (bucket(20, 5), 0), (window(30, 60), 20)] {
        all.quota = quota;
        assert_eq!(room(&record, 0, &all), left, "{quota}");
    }
}

#[test]
fn it_is_kept_for_as_long_as_anyone_remembers_it() {
    let want = want(bucket(1, 3_600), 1_800);
    let terms = crate::made_up::terms(want.quota);
    let mut record = Record::default();
    ask(&mut record, 0, &want);
    assert!(record.keep_for(&terms) > Span::from_secs(3_600));
    let owing = Want { owed: 7_200, ..want };
    ask(&mut record, 0, &owing);
    assert!(record.keep_for(&terms) > Span::from_secs(7_200), "{}", record.keep_for(&terms));
    assert!(record.weight(&terms).fresh_at > Instant(NOW.0 + 7_200_000_000_000));
}

#[test]
fn what_has_lapsed_is_not_settled_whatever_year_the_clock_says() {
    // A clock's first minutes, and one that counts from 1970: Redis's.
    for start in [NOW, Instant(1_763_000_000_000_000_000)] {
        let mut record = Record::default();
        let place = |ms| Place { now: start.after(Span::from_millis(ms)), ..Place::default() };
        let want = want(bucket(1, 100), 40);
        let first = record.answer(&place(0), ME, &want, true);
        let second = record.answer(&place(2_000), ME, &Want { units: 10, ..want.clone() }, true);
        assert_eq!(record.outstanding(), second.units);
        record.answer(&place(2_000), ME, &told(&want, &first, 0, 40), true);
        assert_eq!(record.outstanding(), second.units, "the first grant has lapsed");
        record.answer(&place(2_000), ME, &told(&want, &second, 0, 10), true);
        assert_eq!(record.outstanding(), 0);
    }
}
