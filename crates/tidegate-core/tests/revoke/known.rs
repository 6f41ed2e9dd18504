//! What a worker says of an id is true, whatever it has heard in whatever order.

use crate::host::{HOSTS, Host, SPAN_SECS, Thing};
use proptest::prelude::*;
use std::collections::HashMap;
use tidegate_core::revoke::deltas::UNNUMBERED;
use tidegate_core::revoke::images::SharedPage;
use tidegate_core::revoke::known::{Found, Heard, Known, shared_pages};
use tidegate_core::revoke::message::{CHUNK_BYTES, Delta, Form, News};
use tidegate_core::revoke::{EVER, Id, Position};
use tidegate_core::time::{Instant, Span};

const NOW: Instant = Instant(1_000_000_000);

/// The n-th of some things: every third belongs to no token.
fn thing(n: u64) -> Thing {
    let id = Id::of(tidegate_core::revoke::Kind::Token, &[&n.to_le_bytes()]);
    (id, (!n.is_multiple_of(3)).then(|| n % 5 * u64::from(SPAN_SECS)))
}

fn pull_news(known: &mut Known, host: &Host, most: usize) -> bool {
    let ask = known.news_ask();
    known.hear(&host.news(&ask, most), &ask.known, NOW)
}

fn pull_chunk(known: &mut Known, host: &Host) -> bool {
    let chunk = known.chunk_ask().and_then(|ask| host.chunk(&ask));
    chunk.is_some_and(|chunk| known.hear_chunk(&chunk) == Heard::Kept)
}

/// What workers share: here there is one of them.
#[derive(Default)]
struct Ground(HashMap<SharedPage, Vec<u8>>);

impl Ground {
    /// Fetches a piece, and puts it where it goes.
    fn pull_chunk(&mut self, known: &mut Known, host: &Host) {
        let Some(chunk) = known.chunk_ask().and_then(|ask| host.chunk(&ask)) else { return };
        if let Heard::Shared(slot) = known.hear_chunk(&chunk) {
            shared_pages(&chunk, slot, |page, bytes| {
                self.0.insert(page, bytes.to_vec());
            });
        }
        self.lay(known);
    }

    /// If all images that are shared lie there: they are in use.
    fn lay(&mut self, known: &mut Known) {
        let left = known.take_sheet().and_then(|sheet| known.hear_sheet(&sheet));
        let left = left.into_iter().flatten().chain(
            known.take_left().into_iter().flat_map(|sheet| sheet.rows).map(|(_, slot)| (slot, 9)),
        );
        for (slot, pages) in left {
            (0..pages).for_each(|page| drop(self.0.remove(&SharedPage { slot, page })));
        }
    }

    /// Until it knows all, from one host, which has made images lately.
    fn pull_all(&mut self, known: &mut Known, host: &mut Host) {
        host.cut();
        for _ in 0..10_000 {
            pull_news(known, host, 100);
            self.lay(known);
            if known.chunk_ask().is_some() {
                self.pull_chunk(known, host);
            } else if known.position() == host.position() && known.is_fresh(NOW, Span::ZERO) {
                return;
            }
        }
        panic!("it does not come to an end");
    }

    fn look(&self, known: &Known, (id, exp): Thing) -> Found {
        known.look(&id, exp, &mut |page, read| read(self.0.get(&page).map_or(&[], |it| it)))
    }
}

fn pull_all(known: &mut Known, host: &Host) {
    for _ in 0..10_000 {
        pull_news(known, host, 100);
        if known.chunk_ask().is_some() {
            pull_chunk(known, host);
        } else if known.position() == host.position() && known.is_fresh(NOW, Span::ZERO) {
            return;
        }
    }
    panic!("it does not come to an end");
}

fn look(known: &Known, (id, exp): Thing) -> Found {
    known.look(&id, exp, &mut |_, _| panic!("nothing is shared"))
}

#[derive(Clone, Debug)]
enum Step {
    Set(u64, bool),
    /// A host makes images, by a clock that says so many generations.
    Cut {
        host: usize,
        as_of: u64,
    },
    News {
        host: usize,
        most: usize,
    },
    /// News that somebody heard long ago.
    Replay(prop::sample::Index),
    Chunk,
    /// A piece that is not what it says.
    Damaged {
        flip: prop::sample::Index,
    },
    GiveUp,
    Form(Form),
    Check(u64),
    Lose(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..40_u64, prop::bool::weighted(0.8)).prop_map(|(n, on)| Step::Set(n, on)),
        2 => (0..HOSTS, 0..5_u64).prop_map(|(host, as_of)| Step::Cut { host, as_of }),
        6 => (0..HOSTS, 1..8_usize).prop_map(|(host, most)| Step::News { host, most }),
        2 => any::<prop::sample::Index>().prop_map(Step::Replay),
        8 => Just(Step::Chunk),
        1 => any::<prop::sample::Index>().prop_map(|flip| Step::Damaged { flip }),
        1 => Just(Step::GiveUp),
        1 => prop::sample::select(vec![Form::Fuse, Form::Pages]).prop_map(Step::Form),
        4 => (0..40_u64).prop_map(Step::Check),
        1 => (1..6_usize).prop_map(Step::Lose),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn what_it_says_of_an_id_is_true_as_of_its_position_or_later(
        steps in prop::collection::vec(step(), 1..150)
    ) {
        let (mut host, mut known) = (Host::new(77), Known::default());
        let mut ground = Ground::default();
        let mut heard: Vec<(Position, News)> = Vec::new();
        for step in steps {
            match step {
                Step::Set(n, true) => host.set(thing(n), EVER - n),
                Step::Set(n, false) => host.set(thing(n), 0),
                Step::Cut { host: of, as_of } => host.cut_by(of, as_of * u64::from(SPAN_SECS)),
                Step::News { host: of, most } => {
                    let ask = known.news_ask();
                    let news = host.news_of(of, &ask, most);
                    prop_assert!(known.hear(&news, &ask.known, NOW));
                    ground.lay(&mut known);
                    heard.push((ask.known, news));
                }
                // Only what begins anew may be taken from where one does not stand; that comes from
                // the host one asks, and is never old.
                Step::Replay(at) if !heard.is_empty() => {
                    let (from, news) = at.get(&heard);
                    if !news.anew && *from != known.position() {
                        let before = known.position();
                        prop_assert!(!known.hear(news, from, NOW));
                        prop_assert_eq!(known.position(), before);
                    }
                }
                Step::Replay(_) => {}
                Step::Chunk => ground.pull_chunk(&mut known, &host),
                Step::Damaged { flip } => {
                    if let Some(mut chunk) = known.chunk_ask().and_then(|ask| host.chunk(&ask)) {
                        let at = flip.index(chunk.bytes.len());
                        chunk.bytes[at] ^= 1;
                        if let Heard::Shared(slot) = known.hear_chunk(&chunk) {
                            shared_pages(&chunk, slot, |page, bytes| {
                                ground.0.insert(page, bytes.to_vec());
                            });
                        }
                    }
                }
                Step::GiveUp => known.give_up_images(),
                Step::Form(form) => known.follow_form(form),
                Step::Check(n) => {
                    let ids = [thing(n).0];
                    known.hear_checked(&ids, &host.checked(&ids), Span::from_secs(5));
                }
                Step::Lose(entries) => {
                    let lost = host.lose(entries);
                    host.set(thing(39), EVER);
                    lost.into_iter().for_each(|(thing, before_secs)| host.set(thing, before_secs));
                    heard.clear();
                    // What it heard of the lost entries it knows until it hears of that: nothing
                    // can be held against the host before.
                    ground.pull_all(&mut known, &mut host);
                }
            }
            if !known.is_fresh(NOW, Span::ZERO) {
                continue;
            }
            let (ours, theirs) = (known.position().number, host.position().number);
            for n in 0..40 {
                let (id, _) = thing(n);
                let mut later = (ours..=theirs).map(|number| host.before_secs(&id, number));
                match ground.look(&known, thing(n)) {
                    Found::Clear => prop_assert!(later.any(|it| it == 0), "{n} was revoked"),
                    Found::Before(said) => prop_assert!(later.any(|it| it == said), "{n}: {said}"),
                    Found::Perhaps => {}
                }
            }
        }
        ground.pull_all(&mut known, &mut host);
        for n in 0..40 {
            let truth = host.before_secs(&thing(n).0, host.position().number);
            let said = ground.look(&known, thing(n));
            prop_assert!(matches!(said, Found::Perhaps) || said == Found::Before(truth)
                || (said == Found::Clear && truth == 0), "{n}: {said:?}, truth {truth}");
        }
    }
}

#[test]
fn nothing_is_known_before_all_images_are_there() {
    let (mut host, mut known) = (Host::new(1), Known::default());
    (0..100).for_each(|n| host.set(thing(n), EVER));
    host.cut();
    host.set(thing(200), EVER);
    assert!(pull_news(&mut known, &host, 10));
    assert_eq!(look(&known, thing(200)), Found::Before(EVER), "what is told is known at once");
    let mut pieces = 0;
    while known.chunk_ask().is_some() {
        assert!(!known.is_fresh(NOW, Span::from_secs(3600)));
        assert!(pull_chunk(&mut known, &host));
        pieces += 1;
    }
    assert_eq!(pieces, 6, "five generations, and what belongs to none");
    assert!(known.is_fresh(NOW, Span::ZERO));
    assert!((0..100).all(|n| look(&known, thing(n)) == Found::Perhaps));
    let clear = (1_000..2_000).filter(|n| look(&known, thing(*n)) == Found::Clear).count();
    assert!(clear > 970, "{clear}");
}

#[test]
fn what_comes_into_its_own_generation_is_held_by_images_all_the_while() {
    let (mut host, mut known) = (Host::new(1), Known::default());
    let span = u64::from(SPAN_SECS);
    let far = (Id([9; 16]), Some(4 * span));
    host.set(far, EVER);
    (0..40).for_each(|n| host.set(thing(n), EVER));
    host.cut_by(0, 0);
    pull_all(&mut known, &host);
    // Into its own, and by a host whose clock is behind into none again; each is fetched in part,
    // too, before it is known of another.
    for (turn, as_of) in [4, 0, 4, 1, 3].into_iter().enumerate() {
        host.set(thing(50 + turn as u64), EVER);
        host.cut_by(0, as_of * span);
        pull_news(&mut known, &host, 10);
        for _ in 0..turn + 1 {
            assert_eq!(look(&known, far), Found::Perhaps, "{turn}");
            assert!(known.is_fresh(NOW, Span::ZERO));
            pull_chunk(&mut known, &host);
        }
        if turn > 2 {
            known.give_up_images();
        }
    }
    pull_all(&mut known, &host);
    assert_eq!(look(&known, far), Found::Perhaps);
    let mut other = Known::default();
    pull_all(&mut other, &host);
    assert_eq!(known.size(), other.size(), "what is in use no more is not kept");
}

#[test]
fn an_answer_holds_until_news_say_otherwise_even_when_these_are_forgotten() {
    let (mut host, mut known) = (Host::new(1), Known::default());
    // It looks revoked: an image that is older than the lifting.
    host.set(thing(1), EVER);
    host.cut();
    pull_all(&mut known, &host);
    host.set(thing(1), 0);
    let ids = [thing(1).0];
    assert_eq!(look(&known, thing(1)), Found::Perhaps);
    assert!(known.hear_checked(&ids, &host.checked(&ids), Span::ZERO).is_some());
    assert_eq!(look(&known, thing(1)), Found::Before(0));
    host.set(thing(1), 5);
    pull_all(&mut known, &host);
    assert_eq!(look(&known, thing(1)), Found::Before(5));
    host.cut();
    pull_all(&mut known, &host);
    assert_eq!(known.size().1, 0, "the images hold it");
    assert_eq!(look(&known, thing(1)), Found::Before(5));
}

#[test]
fn what_a_host_holds_until_the_log_takes_it_outlives_images_that_do_not_have_it() {
    let (mut host, mut known) = (Host::new(1), Known::default());
    let held = |host: &Host, known: &mut Known| {
        let ask = known.news_ask();
        let mut news = host.news(&ask, 10);
        let id = thing(1).0;
        news.deltas.push(Delta { number: UNNUMBERED, id, before_secs: EVER, age_ms: 5 });
        assert!(known.hear(&news, &ask.known, NOW));
    };
    held(&host, &mut known);
    pull_all(&mut known, &host);
    // Another host's entries, and images of those alone.
    (10..20).for_each(|n| host.set(thing(n), EVER));
    host.cut();
    pull_all(&mut known, &host);
    assert_eq!(look(&known, thing(1)), Found::Before(EVER));
    held(&host, &mut known);
    assert_eq!(known.size().1, 1);
    // The log has it: from then on it is like any other.
    host.set(thing(1), EVER);
    pull_all(&mut known, &host);
    assert_eq!(look(&known, thing(1)), Found::Before(EVER));
    host.cut();
    pull_all(&mut known, &host);
    assert_eq!((look(&known, thing(1)), known.size().1), (Found::Perhaps, 0), "images have it");
}

#[test]
fn who_is_fresh_knows_the_keys_of_secret_ids() {
    let (mut host, mut known) = (Host::new(1), Known::default());
    host.set(thing(1), EVER);
    host.cut();
    pull_all(&mut known, &host);
    assert_eq!(known.id_keys().len(), 0);
    // Without new images, and with or without anything else that is new.
    for (turn, keys) in [vec![[1; 32]], vec![[2; 32], [1; 32]], vec![]].into_iter().enumerate() {
        host.id_keys = keys;
        (0..turn as u64).for_each(|n| host.set(thing(n), EVER));
        pull_news(&mut known, &host, 10);
        assert_eq!(known.id_keys(), host.id_keys);
    }
}

#[test]
fn who_knows_less_or_nothing_fresh_gives_no_answer() {
    let (mut host, mut known) = (Host::new(1), Known::default());
    let ids = [thing(1).0];
    let early = host.checked(&ids);
    host.set(thing(1), EVER);
    pull_all(&mut known, &host);
    assert_eq!(known.hear_checked(&ids, &early, Span::from_secs(1)), None, "it lags behind");
    let mut old = host.checked(&ids);
    old.age_ms = 1_001;
    assert_eq!(known.hear_checked(&ids, &old, Span::from_secs(1)), None, "it is out of touch");
    let other = Host::new(2).checked(&ids);
    assert_eq!(known.hear_checked(&ids, &other, Span::from_secs(1)), None, "another log");
    let mut short = host.checked(&ids);
    short.before_secs.clear();
    assert_eq!(known.hear_checked(&ids, &short, Span::from_secs(1)), None, "of other ids");
}

#[test]
fn it_is_as_fresh_as_the_host_was_when_it_answered() {
    let (host, mut known) = (Host::new(1), Known::default());
    let ask = known.news_ask();
    let news = News { held_ms: 300, age_ms: 100, ..host.news(&ask, 1) };
    assert!(known.hear(&news, &ask.known, NOW));
    assert_eq!(known.fresh(), Some(NOW.after(Span::from_millis(200))));
    let more = News { more: true, anew: false, manifest: None, ..host.news(&ask, 1) };
    let later = NOW.after(Span::from_secs(9));
    assert!(known.hear(&more, &host.position(), later));
    assert_eq!(known.fresh(), Some(NOW.after(Span::from_millis(200))), "there is more to know");
}

#[test]
fn an_image_of_many_pieces_replaces_the_old_one_when_it_is_whole() {
    let (mut host, mut known) = (Host::new(1), Known::default());
    let things = 0..300_000;
    // All of one generation.
    let one = |n: u64| (thing(n).0, Some(10));
    things.clone().for_each(|n| host.set(one(n), EVER));
    host.cut();
    pull_all(&mut known, &host);
    let before = known.size().0;
    assert!(before > CHUNK_BYTES);
    host.set(one(500_000), EVER);
    host.cut();
    pull_news(&mut known, &host, 10);
    assert!(pull_chunk(&mut known, &host), "the first piece");
    assert_eq!(look(&known, one(7)), Found::Perhaps, "the old one stays");
    // Out of order, and of another image: neither is taken.
    let ask = known.chunk_ask().unwrap();
    let mut wrong = host.chunk(&ask).unwrap();
    wrong.offset = 0;
    assert_eq!(known.hear_chunk(&wrong), Heard::Useless);
    wrong = host.chunk(&ask).unwrap();
    wrong.image ^= 1;
    assert_eq!(known.hear_chunk(&wrong), Heard::Useless);
    assert!(pull_chunk(&mut known, &host), "the second");
    assert!(known.chunk_ask().is_none() && known.size().0 < before + before / 10);
    assert!(things.step_by(1_000).all(|n| look(&known, one(n)) == Found::Perhaps));
}
