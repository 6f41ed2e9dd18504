//! Revocations as a gate enforces them: known at once, asked where it is unsure, shared by workers.

use crate::host::{Host, SPAN_SECS};
use crate::proxy::{Process, Request, Worker, policy};
use serde_json::{Value, json};
use std::collections::HashSet;
use tidegate_core::ask::{self, Answer, NoAnswer};
use tidegate_core::gate::{Answered, Asked, CHECKS_MAX, Question, RevocationTally, Step, Ticket};
use tidegate_core::limit::Standing;
use tidegate_core::policy::Policy;
use tidegate_core::revoke::message::DELTAS_MAX;
use tidegate_core::revoke::{EVER, Id, Kind};
use tidegate_core::time::Span;
use tidegate_core::verdict::{Rejection, Verdict};
use tidegate_core::wire::revoke::{encode_chunk, encode_news};

const EXP: u64 = 10_000;
const TICK: Span = Span::from_millis(25);

fn rules(revocation: Value, limits: Value) -> Policy {
    policy(json!({
        "tidegate": 1, "domain": "shop", "limits": limits, "host": { "cluster": "host" },
        "token": { "from": [{ "payload_header": "x-payload" }] }, "revocation": revocation,
    }))
}

fn closed() -> Policy {
    rules(json!({}), json!([]))
}

fn open() -> Policy {
    rules(json!({ "on_error": "open" }), json!([]))
}

/// A request with a token of somebody's, issued at 5,000.
fn shows(jti: &str) -> Request {
    let claims = json!({ "iss": "i", "jti": jti, "sub": "alice", "iat": 5_000, "exp": EXP });
    Request::new().with("x-payload", base64url(claims.to_string().as_bytes()))
}

fn base64url(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let word = three.iter().fold(0_u32, |word, byte| word << 8 | u32::from(*byte))
            << (8 * (3 - three.len()));
        let digit = |at: usize| char::from(DIGITS[(word >> (18 - 6 * at)) as usize & 63]);
        text.extend((0..=three.len()).map(digit));
    }
    text
}

fn token(jti: &str) -> (Id, Option<u64>) {
    (Id::of(Kind::Token, &[b"i", jti.as_bytes()]), Some(EXP))
}

fn subject() -> (Id, Option<u64>) {
    (Id::of(Kind::Subject, &[b"i", b"alice"]), None)
}

/// One process's workers and a host that they can reach, or not.
struct Lab {
    process: Process,
    workers: Vec<Worker>,
    host: Host,
    is_up: bool,
    /// Questions for news that the host keeps: it has none yet.
    kept: Vec<(usize, Question)>,
    decided: Vec<(Ticket, Verdict)>,
    /// Workers that asked for news or pieces; and how many pieces were sent.
    askers: HashSet<usize>,
    pieces: usize,
    /// How many of the next pieces get lost on their way.
    loses_pieces: usize,
}

impl Lab {
    fn new(policy: &Policy, workers: usize) -> Self {
        let process = Process::default();
        process.pass(Span::from_secs(100));
        Self {
            workers: process.workers(policy, workers),
            process,
            host: Host::new(9),
            is_up: true,
            kept: Vec::new(),
            decided: Vec::new(),
            askers: HashSet::new(),
            pieces: 0,
            loses_pieces: 0,
        }
    }

    /// A tick of every worker, and whatever comes of it; then time passes.
    fn tick(&mut self) {
        for at in 0..self.workers.len() {
            self.workers[at].tick();
            self.answer(at);
        }
        self.process.pass(TICK);
        let (process, waits) = (self.process.clone(), Span::from_secs(1));
        let (over, kept): (Vec<_>, Vec<_>) = std::mem::take(&mut self.kept)
            .into_iter()
            .partition(|_| process.now().0.is_multiple_of(waits.0) || !self.is_up);
        self.kept = kept;
        over.into_iter().for_each(|(at, question)| self.tell(at, &question));
    }

    fn ticks(&mut self, count: usize) {
        (0..count).for_each(|_| self.tick());
    }

    /// Takes a worker out. Those after it move up: what the host keeps by their place is answered.
    fn remove(&mut self, at: usize) -> Worker {
        for (at, question) in std::mem::take(&mut self.kept) {
            self.tell(at, &question);
        }
        self.workers.remove(at)
    }

    /// Until all workers know all there is.
    fn settle(&mut self) {
        for _ in 0..200 {
            self.tick();
            let number = self.host.position().number;
            let is_there = |worker: &Worker| {
                let state = worker.gate.revocation_state().unwrap();
                state.is_fresh && state.number == number
            };
            if self.workers.iter().all(is_there) {
                return;
            }
        }
        panic!("they do not come to know it");
    }

    fn set(&mut self, thing: (Id, Option<u64>), before_secs: u64) {
        self.host.set(thing, before_secs);
        for (at, question) in std::mem::take(&mut self.kept) {
            self.tell(at, &question);
        }
    }

    /// Sets so much, one by one, that who comes later finds no news of what was before.
    fn trickle(&mut self, name: &str) {
        for n in 0..100 {
            self.set(token(&format!("{name}{n}")), EVER);
            self.ticks(2);
        }
    }

    /// Answers all that a worker asks.
    fn answer(&mut self, at: usize) {
        loop {
            let questions = self.workers[at].gate.take_questions();
            if questions.is_empty() {
                break;
            }
            for question in questions {
                match &question.ask {
                    Asked::News(ask)
                        if self.is_up
                            && ask.known == self.host.position()
                            && ask.cut
                                == self
                                    .host
                                    .news(ask, 1)
                                    .manifest
                                    .map_or(ask.cut, |_| u64::MAX) =>
                    {
                        self.askers.insert(at);
                        self.kept.push((at, question));
                    }
                    Asked::News(_) | Asked::Chunk(_) => {
                        self.askers.insert(at);
                        self.tell(at, &question);
                    }
                    _ => self.tell(at, &question),
                }
            }
        }
        self.decided.extend(self.workers[at].gate.take_decided());
    }

    fn tell(&mut self, at: usize, question: &Question) {
        let answered = match &question.ask {
            _ if !self.is_up => Err(NoAnswer::Unreachable),
            Asked::News(ask) => Ok(Answered::News(encode_news(&self.host.news(ask, DELTAS_MAX)))),
            Asked::Chunk(ask) => {
                self.pieces += 1;
                let lost = self.loses_pieces.checked_sub(1).map(|left| self.loses_pieces = left);
                let chunk = self.host.chunk(ask).filter(|_| lost.is_none());
                let chunk = chunk.ok_or(NoAnswer::Unreachable);
                chunk.map(|it| Answered::Chunk(encode_chunk(it.image, it.offset, &it.bytes)))
            }
            Asked::Check(check) => Ok(Answered::Checked(self.host.checked(&check.ids))),
            Asked::Exact(ask) => {
                let outcome = Ok(Standing { remaining: 1, reset: Span::ZERO });
                let answers = vec![Answer { outcome, share_ppm: 0 }; ask.items.len()];
                Ok(Answered::Exact(ask::Reply { answers }))
            }
            Asked::Leases(_) | Asked::Resolve(_) => panic!("no limit is leased or uses a plugin"),
        };
        let Worker { gate, process } = &mut self.workers[at];
        gate.on_reply(process, question.id, answered, &mut |_| true);
        self.decided.extend(self.workers[at].gate.take_decided());
    }

    /// What becomes of a request, and whether the host was asked for it.
    fn send(&mut self, at: usize, request: &Request) -> (Verdict, bool) {
        match self.workers[at].step(request) {
            Step::Answer(verdict) => (verdict, false),
            Step::Hold(ticket) => {
                self.answer(at);
                let (decided, verdict) = self.decided.pop().expect("it is decided");
                assert_eq!(decided, ticket);
                (verdict, true)
            }
        }
    }

    fn tally(&mut self, at: usize) -> RevocationTally {
        self.workers[at].gate.take_revocation_tally().unwrap()
    }
}

const ALLOW: Verdict = Verdict::Allow(Vec::new());
const REVOKED: Verdict = Verdict::Reject(Rejection::Revoked);
const UNKNOWN: Verdict = Verdict::Reject(Rejection::Unknown);

#[test]
fn what_was_told_is_enforced_at_once_and_what_was_not_revoked_asks_nobody() {
    let mut lab = Lab::new(&closed(), 1);
    lab.settle();
    assert_eq!(lab.send(0, &shows("a")), (ALLOW, false));
    lab.set(token("a"), EVER);
    assert_eq!(lab.send(0, &shows("a")), (REVOKED, false), "without a tick between");
    assert_eq!(lab.send(0, &shows("b")), (ALLOW, false));
    // News come at most every 20 ms.
    lab.tick();
    lab.set(token("a"), 0);
    lab.tick();
    assert_eq!(lab.send(0, &shows("a")), (ALLOW, false), "lifted");
    assert_eq!(lab.send(0, &Request::new()), (ALLOW, false), "who shows nothing");
    let tally = lab.tally(0);
    assert_eq!((tally.clear, tally.revoked, tally.asked_unsure), (3, 1, 0));
}

#[test]
fn what_was_issued_later_is_not_revoked() {
    let mut lab = Lab::new(&closed(), 1);
    lab.settle();
    lab.set(subject(), 4_999);
    assert_eq!(lab.send(0, &shows("a")).0, ALLOW, "issued at 5,000");
    lab.tick();
    lab.set(subject(), 5_000);
    lab.tick();
    assert_eq!(lab.send(0, &shows("a")).0, REVOKED);
    lab.host.cut();
    lab.settle();
    lab.ticks(50);
    assert_eq!(lab.send(0, &shows("a")), (REVOKED, true), "an image does not tell when");
    assert_eq!(lab.send(0, &shows("b")), (REVOKED, false), "the answer does, for all her tokens");
}

#[test]
fn what_an_image_seems_to_hold_is_asked_once() {
    let mut lab = Lab::new(&closed(), 1);
    (0..1_000).for_each(|n| lab.host.set(token(&format!("r{n}")), EVER));
    lab.host.cut();
    lab.settle();
    for n in 0..1_000 {
        assert_eq!(lab.send(0, &shows(&format!("r{n}"))).0, REVOKED, "{n}");
    }
    let mistaken: Vec<_> = (0..2_000)
        .map(|n| shows(&format!("c{n}")))
        .filter(|request| {
            let (verdict, asked) = lab.send(0, request);
            assert_eq!(verdict, ALLOW);
            asked
        })
        .collect();
    assert!((1..30).contains(&mistaken.len()), "{}", mistaken.len());
    assert!(mistaken.iter().all(|request| lab.send(0, request) == (ALLOW, false)));
}

#[test]
fn before_anything_is_known_each_request_is_asked_about() {
    let mut lab = Lab::new(&closed(), 1);
    lab.set(token("a"), EVER);
    assert_eq!(lab.send(0, &shows("a")), (REVOKED, true));
    assert_eq!(lab.send(0, &shows("b")), (ALLOW, true));
    assert_eq!(lab.send(0, &shows("b")), (ALLOW, true), "nothing is there to mend such an answer");
    assert_eq!(lab.tally(0).asked_unsure, 3);
}

#[test]
fn without_an_answer_the_policy_decides() {
    for (policy, verdict) in [(closed(), UNKNOWN), (open(), ALLOW)] {
        let mut lab = Lab::new(&policy, 1);
        lab.is_up = false;
        assert_eq!(lab.send(0, &shows("a")), (verdict.clone(), true));
        // That it is away is known by now.
        assert_eq!(lab.send(0, &shows("a")), (verdict, false));
        assert_eq!(lab.send(0, &Request::new()), (ALLOW, false));
        assert_eq!(lab.tally(0).degraded, 2);
    }
}

#[test]
fn who_hears_nothing_new_for_long_asks_and_what_it_knows_to_be_revoked_stays_so() {
    let mut lab = Lab::new(&closed(), 1);
    lab.set(token("a"), EVER);
    lab.settle();
    lab.is_up = false;
    lab.ticks(160);
    assert_eq!(lab.send(0, &shows("b")), (ALLOW, false), "for 4 s");
    lab.ticks(60);
    assert_eq!(lab.send(0, &shows("a")), (REVOKED, false), "after 5.5 s");
    assert_eq!(lab.send(0, &shows("b")).0, UNKNOWN);
    lab.is_up = true;
    lab.settle();
    // The breaker is closed by the probe, not by news.
    assert_eq!(lab.send(0, &shows("b")), (ALLOW, false));
}

#[test]
fn one_worker_asks_and_all_know() {
    let mut lab = Lab::new(&closed(), 4);
    let things: Vec<_> = (0..300_000).map(|n| token(&format!("r{n}"))).collect();
    things.iter().for_each(|thing| lab.host.set(*thing, EVER));
    lab.host.cut();
    lab.settle();
    lab.set(token("late"), EVER);
    lab.tick();
    for at in 0..4 {
        assert_eq!(lab.send(at, &shows("late")), (REVOKED, false), "{at}");
        assert_eq!(lab.send(at, &shows("r7")).0, REVOKED, "{at}");
    }
    assert_eq!((lab.askers.len(), lab.pieces), (1, 2), "each piece was fetched once");
    lab.ticks(100);
    assert_eq!(lab.askers.len(), 1);
    assert!(lab.process.shared_image_bytes() > 256 * 1024);
    lab.ticks(400);
    assert!(lab.process.shared_image_bytes() == 0, "memory that no one needs is given back");
}

#[test]
fn no_piece_of_many_images_takes_the_place_of_another_before_all_have_read_it() {
    let mut lab = Lab::new(&closed(), 3);
    for n in 0..1_000_u64 {
        lab.host.set((token(&format!("r{n}")).0, Some(n / 10 * u64::from(SPAN_SECS))), EVER);
    }
    lab.host.cut();
    lab.ticks(60);
    assert!(lab.workers.iter().all(|it| it.gate.revocation_state().unwrap().is_fresh));
    assert_eq!((lab.askers.len(), lab.pieces), (1, 100));
}

#[test]
fn many_workers_share_one_copy_of_which_each_look_up_reads_a_page() {
    let mut lab = Lab::new(&closed(), 3);
    lab.workers.iter_mut().for_each(|worker| worker.gate.set_workers(100_000));
    (0..30_000).for_each(|n| lab.host.set(token(&format!("r{n}")), EVER));
    (0..500).for_each(|n| lab.host.set((Id::of(Kind::Session, &[&[n as u8, 9]]), None), EVER));
    lab.host.cut();
    lab.settle();
    let states = |lab: &Lab| {
        let of = |worker: &Worker| worker.gate.revocation_state().unwrap().image_bytes;
        lab.workers.iter().map(of).collect::<Vec<_>>()
    };
    assert_eq!(states(&lab), [0, 0, 0], "none has a copy of its own");
    assert_eq!(lab.askers.len(), 1);
    let check = |lab: &mut Lab, gone: u32, revoked: u32| {
        for at in 0..3 {
            for n in (gone..revoked).step_by(97) {
                assert_eq!(lab.send(at, &shows(&format!("r{n}"))).0, REVOKED, "{at} {n}");
            }
            let asked = (0..500).filter(|n| {
                let (verdict, asked) = lab.send(at, &shows(&format!("c{n}")));
                assert_eq!(verdict, ALLOW);
                asked
            });
            let asked = asked.count();
            assert!(asked < 20, "{asked}");
        }
    };
    check(&mut lab, 0, 30_000);
    let once = lab.process.shared_image_bytes();
    // Other images take other places, and the old ones' memory is given back.
    for round in 1..4 {
        (0..100).for_each(|n| lab.host.set(token(&format!("r{}", 30_000 + round * 100 + n)), EVER));
        lab.host.cut();
        lab.settle();
        check(&mut lab, 0, 30_000);
        lab.ticks(450);
    }
    let bytes = lab.process.shared_image_bytes();
    assert!(bytes < once + once / 8, "{bytes}, at first {once}");
    // Somebody else's pages in their place: that is noticed, and asked about.
    lab.process.muddle_pages();
    assert_eq!(lab.send(1, &shows("r1111")), (REVOKED, true));
    assert_eq!(lab.send(1, &shows("other")), (ALLOW, true));
}

/// A lab of workers whose host holds some thousands, and has made images of them.
fn filled(workers: usize) -> Lab {
    let mut lab = Lab::new(&closed(), workers);
    (0..3_000).for_each(|n| lab.host.set(token(&format!("r{n}")), EVER));
    lab.host.cut();
    lab
}

/// Whether each worker has copies of its own; all of them know what is revoked.
fn has_copies(lab: &mut Lab) -> Vec<bool> {
    let mut has = Vec::new();
    for at in 0..lab.workers.len() {
        assert_eq!(lab.send(at, &shows("r11")).0, REVOKED, "{at}");
        assert_eq!(lab.send(at, &shows("clear")).0, ALLOW, "{at}");
        has.push(lab.workers[at].gate.revocation_state().unwrap().image_bytes > 0);
    }
    has
}

#[test]
fn all_workers_follow_the_one_that_chooses_the_form_however_late_they_learn_their_number() {
    let mut lab = filled(4);
    lab.settle();
    assert_eq!(has_copies(&mut lab), [true; 4]);
    for at in 0..4 {
        lab.workers[at].gate.set_workers(100_000);
        lab.tick();
        lab.settle();
        has_copies(&mut lab);
    }
    lab.ticks(100);
    assert_eq!(has_copies(&mut lab), [false; 4], "one copy for all");
    // One that comes later has never heard of what the others were told.
    lab.set(token("since"), EVER);
    let late = lab.process.worker(&closed());
    lab.workers.push(late);
    lab.settle();
    assert_eq!(has_copies(&mut lab), [false; 5]);
    // Fewer of them: each has its own again, and what they shared is given back.
    lab.workers.iter_mut().for_each(|worker| worker.gate.set_workers(5));
    lab.ticks(100);
    lab.settle();
    assert_eq!(has_copies(&mut lab), [true; 5]);
    lab.ticks(500);
    assert_eq!(lab.process.shared_image_bytes(), 0);
    assert_eq!(has_copies(&mut lab), [true; 5]);
}

#[test]
fn one_that_was_told_of_images_that_nobody_lays_lays_them_itself() {
    let mut lab = filled(2);
    lab.workers.iter_mut().for_each(|worker| worker.gate.set_workers(100_000));
    lab.settle();
    // There are newer images, of which a host tells only who asks from the beginning.
    lab.host.is_sparing = true;
    lab.trickle("s");
    lab.host.cut();
    let mut late = lab.process.worker(&closed());
    late.gate.set_workers(100_000);
    lab.workers.push(late);
    lab.ticks(400);
    lab.settle();
    assert_eq!(has_copies(&mut lab), [false; 3]);
    lab.ticks(400);
    for at in 0..3 {
        let asked = (0..200).filter(|n| lab.send(at, &shows(&format!("c{n}"))).1).count();
        assert!(asked < 20, "{at}: {asked}: it looks where nothing lies any more");
    }
}

#[test]
fn one_that_slept_through_a_change_of_form_finds_its_way_back() {
    let mut lab = filled(3);
    lab.settle();
    let sleeper = (0..3).find(|at| !lab.askers.contains(at)).unwrap();
    lab.workers.iter_mut().for_each(|worker| worker.gate.set_workers(100_000));
    let asleep = lab.remove(sleeper);
    lab.trickle("s");
    lab.settle();
    assert_eq!(has_copies(&mut lab), [false; 2]);
    lab.workers.push(asleep);
    lab.ticks(400);
    lab.settle();
    assert_eq!(has_copies(&mut lab), [false; 3]);
    lab.workers.iter_mut().for_each(|worker| worker.gate.set_workers(3));
    let asleep = lab.remove(2);
    lab.trickle("t");
    lab.workers.push(asleep);
    lab.ticks(800);
    lab.settle();
    assert_eq!(has_copies(&mut lab), [true; 3]);
}

#[test]
fn one_that_comes_late_fetches_for_itself_and_begins_again_if_that_fails() {
    let mut lab = filled(2);
    lab.settle();
    lab.trickle("s");
    lab.ticks(500);
    let late = lab.process.worker(&closed());
    lab.workers.push(late);
    lab.loses_pieces = 1;
    lab.ticks(200);
    lab.settle();
    assert_eq!((has_copies(&mut lab), lab.loses_pieces), (vec![true; 3], 0));
}

#[test]
fn large_images_are_not_fetched_before_the_workers_are_counted() {
    let mut lab = Lab::new(&closed(), 1);
    // Copies of these for 64 workers would be more than may be.
    (0..1_000_000).for_each(|n| lab.host.set(token(&format!("r{n}")), EVER));
    lab.host.cut();
    lab.ticks(20);
    assert_eq!(lab.pieces, 0);
    lab.workers[0].gate.set_workers(1);
    lab.settle();
    assert!(lab.pieces > 0);
    // Nor for ever, if nobody counts them.
    lab.workers = vec![lab.process.worker(&closed())];
    lab.kept.clear();
    lab.ticks(100);
    lab.settle();
}

#[test]
fn another_worker_takes_the_turn_of_one_that_is_gone() {
    let mut lab = Lab::new(&closed(), 3);
    lab.settle();
    let gone = *lab.askers.iter().next().unwrap();
    lab.workers.remove(gone);
    lab.kept.clear();
    lab.askers.clear();
    lab.ticks(110);
    lab.set(token("a"), EVER);
    lab.tick();
    for at in 0..2 {
        assert_eq!(lab.send(at, &shows("a")), (REVOKED, false), "{at}");
    }
    assert_eq!(lab.askers.len(), 1, "it was never stale, and one asks again");
}

#[test]
fn a_host_that_lost_entries_is_believed_and_what_it_holds_is_fetched_anew() {
    let mut lab = Lab::new(&closed(), 2);
    (0..10).for_each(|n| lab.set(token(&format!("r{n}")), EVER));
    lab.settle();
    lab.host.lose(3);
    (10..20).for_each(|n| lab.set(token(&format!("r{n}")), EVER));
    lab.ticks(45);
    lab.settle();
    for at in 0..2 {
        for n in (0..7).chain(10..20) {
            assert_eq!(lab.send(at, &shows(&format!("r{n}"))).0, REVOKED, "{at} {n}");
        }
    }
}

#[test]
fn who_must_begin_anew_knows_that_before_its_next_tick() {
    let mut lab = Lab::new(&closed(), 1);
    lab.settle();
    lab.set(token("a"), EVER);
    assert_eq!(lab.send(0, &shows("a")), (REVOKED, false));
    lab.tick();
    // Another past, of which images are all that is told.
    lab.host.lose(1);
    lab.host.set(token("b"), EVER);
    lab.host.set(token("a"), EVER);
    lab.host.cut();
    for (at, question) in std::mem::take(&mut lab.kept) {
        lab.tell(at, &question);
    }
    assert_eq!(lab.send(0, &shows("a")), (REVOKED, true), "without a tick between");
}

#[test]
fn a_new_policy_keeps_what_was_known() {
    let mut lab = Lab::new(&closed(), 1);
    (0..100).for_each(|n| lab.host.set(token(&format!("r{n}")), EVER));
    lab.host.cut();
    lab.settle();
    let mut old = std::mem::replace(&mut lab.workers[0], lab.process.worker(&open()));
    lab.workers[0].gate.take_over(&mut old.gate);
    assert_eq!(lab.send(0, &shows("r1")).0, REVOKED);
    assert_eq!(lab.send(0, &shows("b")), (ALLOW, false));
    // The old gate's question is still with the host; its answer means nothing by now.
    lab.set(token("b"), EVER);
    lab.ticks(1);
    lab.settle();
    assert_eq!(lab.send(0, &shows("b")), (REVOKED, false));
}

#[test]
fn a_flood_of_what_must_be_asked_about_has_a_bound() {
    let mut lab = Lab::new(&closed(), 1);
    let held = (0..CHECKS_MAX + 5)
        .filter(|n| matches!(lab.workers[0].step(&shows(&format!("f{n}"))), Step::Hold(_)))
        .count();
    assert_eq!(held, CHECKS_MAX);
    lab.answer(0);
    assert_eq!(lab.decided.len(), CHECKS_MAX);
    assert!(lab.decided.drain(..).all(|(_, verdict)| verdict == ALLOW));
    assert_eq!(lab.send(0, &shows("g")), (ALLOW, true), "and there is room again");
}

#[test]
fn a_request_that_died_while_it_waited_is_forgotten() {
    let mut lab = Lab::new(&closed(), 1);
    let Step::Hold(ticket) = lab.workers[0].step(&shows("a")) else { panic!("it asks") };
    let Worker { gate, process } = &mut lab.workers[0];
    gate.on_gone(process, ticket);
    lab.answer(0);
    assert!(lab.decided.is_empty() && !lab.workers[0].gate.is_asking());
}

#[test]
fn what_is_rejected_is_not_charged_and_what_waited_goes_on_to_its_limits() {
    let limits = json!([
        { "name": "own", "rate": "2/1h" },
        { "name": "all", "rate": "100/1h", "scope": "global", "exact": true },
    ]);
    let mut lab = Lab::new(&rules(json!({}), limits), 1);
    lab.set(token("a"), EVER);
    for _ in 0..5 {
        assert_eq!(lab.send(0, &shows("a")).0, REVOKED);
    }
    // Asked about twice: for its token, and for its limit.
    assert_eq!(lab.send(0, &shows("b")).0, ALLOW);
    assert_eq!(lab.send(0, &shows("b")).0, ALLOW);
    assert!(matches!(lab.send(0, &shows("b")).0, Verdict::Deny(_)), "the third");
}

#[test]
fn both_questions_together_wait_no_longer_than_one_may() {
    let limits = json!([{ "name": "all", "rate": "9/1h", "scope": "global", "exact": true }]);
    let mut lab = Lab::new(&rules(json!({}), limits), 1);
    let Step::Hold(_) = lab.workers[0].step(&shows("b")) else { panic!("it asks") };
    let first = lab.workers[0].gate.take_questions().pop().unwrap();
    assert_eq!(first.waits, Span::from_millis(20));
    lab.process.pass(Span::from_millis(8));
    lab.tell(0, &first);
    let second = lab.workers[0].gate.take_questions().pop().unwrap();
    assert_eq!(second.waits, Span::from_millis(12));
    lab.tell(0, &second);
    assert_eq!(lab.decided.pop().unwrap().1, ALLOW);
    // And if too little is left, the limit decides alone.
    let Step::Hold(_) = lab.workers[0].step(&shows("c")) else { panic!("it asks") };
    let first = lab.workers[0].gate.take_questions().pop().unwrap();
    lab.process.pass(Span::from_millis(17));
    lab.tell(0, &first);
    assert!(lab.workers[0].gate.take_questions().is_empty());
    assert_eq!(lab.decided.len(), 1);
}

#[test]
fn how_long_it_took_is_told() {
    let mut lab = Lab::new(&closed(), 2);
    lab.settle();
    lab.set(token("a"), EVER);
    lab.ticks(2);
    for at in 0..2 {
        let lags = lab.workers[at].gate.take_revocation_lags();
        assert_eq!(lags.len(), 1, "{at}");
        assert!(lags[0] >= Span::from_millis(5) && lags[0] <= Span::from_millis(60), "{lags:?}");
    }
}

#[test]
fn a_token_that_cannot_be_read_is_rejected_and_no_token_only_where_the_policy_wants_one() {
    let mut lab = Lab::new(&rules(json!({ "no_token": "refuse" }), json!([])), 1);
    lab.settle();
    assert_eq!(lab.send(0, &Request::new()).0, Verdict::Reject(Rejection::NoToken));
    let broken = Request::new().with("x-payload", "%");
    assert_eq!(lab.send(0, &broken).0, Verdict::Reject(Rejection::Unfit));
    assert_eq!(lab.tally(0).unfit, 2);
}

/// A preflight shows nothing, so nothing is demanded of it; whatever shows something is looked at,
/// for a client of its own may send `OPTIONS` with any headers.
#[test]
fn a_preflight_that_shows_a_token_is_looked_at() {
    let rules = policy(json!({
        "tidegate": 1, "domain": "shop", "host": { "cluster": "host" }, "cors_preflight": "bypass",
        "token": { "from": [{ "payload_header": "x-payload" }] },
        "revocation": { "no_token": "refuse" },
    }));
    let mut lab = Lab::new(&rules, 1);
    lab.settle();
    lab.set(token("bad"), EVER);
    lab.ticks(2);
    let preflight = |request: Request| {
        let request = request.with(":method", "OPTIONS").with("origin", "https://a.example");
        request.with("access-control-request-method", "PUT")
    };
    assert_eq!(lab.send(0, &preflight(Request::new())).0, ALLOW);
    assert_eq!(lab.send(0, &preflight(shows("good"))).0, ALLOW);
    assert_eq!(lab.send(0, &preflight(shows("bad"))).0, Verdict::Reject(Rejection::Revoked));
    let broken = preflight(Request::new().with("x-payload", "%"));
    assert_eq!(lab.send(0, &broken).0, Verdict::Reject(Rejection::Unfit));
    let plain = Request::new().with(":method", "OPTIONS");
    assert_eq!(lab.send(0, &plain).0, Verdict::Reject(Rejection::NoToken), "no preflight");
}
