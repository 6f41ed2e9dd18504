//! A holder, answered by hand.

use crate::made_up::{KEY, LIMIT, NOW, bucket, terms};
use tidegate_core::lease::{
    Due, Flight, Grant, Holder, HolderId, LIFE, Purse, SOON_LIFE, Take, Terms, Want,
};
use tidegate_core::time::{Instant, Span};

const BY: (HolderId, u64) = (HolderId(9), 1);

fn at(ms: u64) -> Instant {
    NOW.after(Span::from_millis(ms))
}

fn grant(units: u32) -> Grant {
    let horizon = Span::from_millis(400);
    Grant { units, era: 1, epoch: 4_000, version: 1, horizon, ..Grant::default() }
}

fn asked(holder: &mut Holder, ms: u64, terms: &Terms, waiting: u32) -> (Want, Flight) {
    holder.ask(at(ms), terms, (KEY, LIMIT), (waiting, waiting.min(1)), true)
}

/// A holder that was granted so many units at 0 ms.
fn holding(terms: &Terms, units: u32) -> Holder {
    let mut holder = Holder::default();
    let (_, flight) = asked(&mut holder, 0, terms, 0);
    holder.on_reply(at(1), terms, flight, BY, &grant(units));
    holder
}

#[test]
fn it_spends_what_it_holds_until_it_lapses_since_it_asked() {
    let terms = terms(bucket(100, 100));
    let last = NOW.after(LIFE);
    let mut holder = holding(&terms, 2);
    assert_eq!(holder.take(Instant(last.0 - 1), &terms, 1), Take::Admitted);
    assert_eq!(holder.take(last, &terms, 1), Take::Asks);
}

#[test]
fn a_purse_lapses_with_the_lot_it_came_from() {
    let terms = terms(bucket(100, 100));
    let (mut holder, mut purse) = (holding(&terms, 9), Purse::default());
    assert_eq!(holder.exchange(at(5), &terms, &mut purse, 1, 1), Take::Admitted);
    assert_eq!(purse.left(), 4);
    assert!(purse.take(at(6), 1));
    let last = NOW.after(LIFE);
    assert!(!purse.take(last, 1), "{purse:?}");
}

#[test]
fn what_a_purse_spent_and_kept_is_told_and_kept() {
    let terms = terms(bucket(100, 100));
    let (mut holder, mut purse) = (holding(&terms, 9), Purse::default());
    holder.exchange(at(5), &terms, &mut purse, 1, 1);
    assert!(purse.take(at(6), 1));
    holder.empty(at(7), &mut purse);
    assert_eq!((purse.left(), holder.left(at(7))), (0, 7));
    let (want, _) = asked(&mut holder, 8, &terms, 1);
    assert_eq!(want.settled.map(|settled| settled.spent), [0, 0, 2]);
    let (want, _) = asked(&mut holder, 9, &terms, 1);
    assert_eq!(want.settled.map(|settled| settled.spent), [0, 0, 0], "it is told once");
}

#[test]
fn one_ask_is_on_its_way_and_the_rest_queue() {
    let terms = terms(bucket(100, 100));
    let mut holder = Holder::default();
    assert_eq!(holder.take(at(0), &terms, 1), Take::Asks);
    let (want, flight) = asked(&mut holder, 0, &terms, 1);
    assert_eq!((want.units, want.soon), (1, 1));
    assert_eq!(holder.take(at(1), &terms, 1), Take::Waits);
    holder.on_lost(flight);
    assert_eq!(holder.take(at(2), &terms, 1), Take::Asks);
}

#[test]
fn what_comes_late_serves_nobody_and_later_still_is_not_held() {
    let terms = terms(bucket(100, 100));
    let reply = Grant { soon: 3, ..grant(5) };
    let served = |took: Span| {
        let mut holder = Holder::default();
        let (_, flight) = asked(&mut holder, 0, &terms, 3);
        let now = NOW.after(took);
        let served = holder.on_reply(now, &terms, flight, BY, &reply);
        (served.units, holder.left(now))
    };
    assert_eq!(served(Span::from_millis(1)), (3, 2));
    assert_eq!(served(SOON_LIFE), (0, 2));
    assert_eq!(served(LIFE), (0, 0));
}

#[test]
fn where_replies_are_slow_what_waits_is_leased() {
    let slow = Terms::new(bucket(100, 100), Span::from_millis(61), 0).unwrap();
    let (want, _) = asked(&mut Holder::default(), 0, &slow, 3);
    assert_eq!((want.units, want.soon), (3, 0));
}

#[test]
fn an_empty_key_is_refused_without_asking_and_not_by_all_until_the_same_moment() {
    let terms = terms(bucket(100, 100));
    let nothing = Grant { wait: Span::from_millis(100), ..grant(0) };
    let waits = [1, 2, 3, 4].map(|seq| {
        let mut holder = Holder::default();
        let (_, flight) = asked(&mut holder, 0, &terms, 1);
        holder.on_reply(at(0), &terms, flight, (HolderId(9), seq), &nothing);
        let Take::Denied { wait } = holder.take(at(0), &terms, 1) else { panic!("{holder:?}") };
        assert_eq!(wait, Span::from_millis(100 + 125), "what others were granted lapses first");
        assert_eq!(holder.due(at(0), &terms), Due::Nothing);
        (0..1_000).find(|ms| holder.take(at(*ms), &terms, 1) == Take::Asks).unwrap()
    });
    assert!(waits.iter().all(|wait| (75..=125).contains(wait)), "{waits:?}");
    assert!(waits.windows(2).all(|two| two[0] != two[1]), "{waits:?}");
}

#[test]
fn a_refusal_for_long_is_believed_for_five_seconds_and_never_for_longer_than_told() {
    let terms = terms(bucket(100, 100));
    for (told_ms, from_ms, to_ms) in [(2_000, 1_750, 2_000), (3_600_000, 4_750, 5_000)] {
        let mut holder = Holder::default();
        let (_, flight) = asked(&mut holder, 0, &terms, 1);
        let nothing = Grant { wait: Span::from_millis(told_ms), ..grant(0) };
        holder.on_reply(at(0), &terms, flight, BY, &nothing);
        let Take::Denied { wait } = holder.take(at(1), &terms, 1) else { panic!("{holder:?}") };
        assert_eq!(wait, Span::from_millis(told_ms + 125 - 1));
        let asks = (0..10_000).find(|ms| holder.take(at(*ms), &terms, 1) == Take::Asks).unwrap();
        assert!((from_ms..=to_ms).contains(&asks), "{asks}");
    }
}

#[test]
fn of_a_small_budget_nothing_is_held_ahead() {
    for (burst, is_held) in [(31, false), (32, true)] {
        let terms = terms(bucket(10_000, burst));
        let mut holder = Holder::default();
        let (_, flight) = asked(&mut holder, 0, &terms, 1);
        holder.on_reply(at(0), &terms, flight, BY, &grant(1));
        for _ in 0..200 {
            holder.take(at(1), &terms, 1);
        }
        let (want, _) = asked(&mut holder, 1, &terms, 3);
        assert_eq!(want.units > 3, is_held, "{want:?}");
    }
}

#[test]
fn it_takes_ahead_what_it_needs_and_returns_what_it_does_not() {
    let terms = terms(bucket(10_000, 10_000));
    let mut holder = holding(&terms, 1);
    for ms in 0..500 {
        holder.take(at(ms), &terms, 1);
    }
    let (want, flight) = asked(&mut holder, 500, &terms, 0);
    assert!((350..=450).contains(&want.units), "{} of 1000/s for 400 ms", want.units);
    let granted = Grant { epoch: 4_002, ..grant(400) };
    holder.on_reply(at(501), &terms, flight, BY, &granted);
    assert_eq!(holder.due(at(501), &terms), Due::Nothing);
    // Nobody comes any more.
    assert_eq!(holder.due(at(1_200), &terms), Due::Settlement);
    let (want, _) = asked(&mut holder, 1_200, &terms, 0);
    let returned: u32 = want.settled.iter().map(|settled| settled.returned).sum();
    assert!(returned > 390 && want.units == 0, "{want:?}");
    assert!(holder.left(at(1_200)) < 10);
}

#[test]
fn what_is_given_back_is_not_told_as_spent() {
    let terms = terms(bucket(100, 100));
    let mut holder = holding(&terms, 5);
    holder.take(at(2), &terms, 3);
    holder.give_back(at(3), 3);
    assert_eq!(holder.left(at(3)), 5);
    let want = holder.drain(at(4), &terms, (KEY, LIMIT)).unwrap();
    assert_eq!(want.settled.map(|it| (it.spent, it.returned)), [(0, 0), (0, 0), (0, 5)]);
    assert_eq!(holder.drain(at(5), &terms, (KEY, LIMIT)), None);
}

#[test]
fn it_is_trusted_once_until_it_has_told() {
    let terms = Terms::new(bucket(100, 100), Span::from_millis(20), 10).unwrap();
    let mut holder = Holder::default();
    assert_eq!(holder.take(at(0), &terms, 1), Take::Trusted);
    assert!(!holder.may_be_dropped(at(0)));
    let (want, flight) = asked(&mut holder, 0, &terms, 0);
    assert_eq!((want.owed, want.reserve), (1, 10));
    holder.on_lost(flight);
    assert_eq!(holder.take(at(1), &terms, 1), Take::Asks, "nobody has heard of the first");
    let (want, flight) = asked(&mut holder, 1, &terms, 1);
    assert_eq!(want.owed, 1, "so it is told again");
    holder.on_reply(at(2), &terms, flight, BY, &grant(0));
    assert_eq!(holder.take(at(3), &terms, 1), Take::Trusted);
    assert_eq!(holder.take(at(4), &terms, 91), Take::Never, "the reserve is never granted");
}

#[test]
fn it_forgets_what_the_store_may_forget() {
    let terms = terms(bucket(100, 100));
    let mut holder = holding(&terms, 5);
    let (want, flight) = asked(&mut holder, 1_000, &terms, 1);
    assert_eq!((want.era, want.known), (1, 0));
    holder.on_lost(flight);
    let (want, _) = asked(&mut holder, 10_000, &terms, 1);
    assert_eq!((want.era, want.version), (0, 0));
}

#[test]
fn a_purse_takes_back_what_it_gave_and_no_more() {
    let terms = terms(bucket(100, 100));
    let (mut holder, mut purse) = (holding(&terms, 9), Purse::default());
    holder.exchange(at(5), &terms, &mut purse, 1, 1);
    assert!(purse.take(at(6), 3));
    assert!(purse.give_back(3));
    assert!(!purse.give_back(1), "it has given nothing");
    assert_eq!(purse.left(), 4);
}

/// The store that grants in a new era does not know of what was granted before.
#[test]
fn what_is_of_another_era_is_neither_kept_nor_told() {
    let terms = terms(bucket(100, 100));
    let (mut holder, mut purse) = (holding(&terms, 9), Purse::default());
    holder.exchange(at(5), &terms, &mut purse, 1, 1);
    assert!(purse.take(at(6), 1));
    let (_, flight) = asked(&mut holder, 7, &terms, 1);
    holder.on_reply(at(8), &terms, flight, BY, &Grant { era: 2, ..grant(3) });
    assert_eq!(holder.left(at(8)), 3);
    holder.empty(at(9), &mut purse);
    assert_eq!((purse.left(), holder.left(at(9))), (0, 3));
    let (want, _) = asked(&mut holder, 10, &terms, 1);
    assert_eq!((want.era, want.settled.map(|settled| settled.spent)), (2, [0, 0, 0]));
}
