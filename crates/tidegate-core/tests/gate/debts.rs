//! What is let through while the store is away is charged when it is back: over an outage and
//! its end, the fleet stays within the limit.

use crate::proxy::{Process, Request, Worker, limits};
use proptest::prelude::*;
use serde_json::json;
use tidegate_core::ask::{Answer, Ask, MemoryStore, NoAnswer, Reply, SHARE_WHOLE_PPM};
use tidegate_core::gate::{DEBTS_MAX, QuestionId, Step};
use tidegate_core::policy::Policy;
use tidegate_core::time::{Instant, Span};
use tidegate_core::verdict::Verdict;

fn policy(rate: &str, burst: u32, algorithm: &str) -> Policy {
    let limit = match algorithm {
        "token_bucket" => json!({ "rate": rate, "burst": burst }),
        _ => json!({ "rate": rate, "algorithm": algorithm }),
    };
    let mut limit = limit;
    for (name, value) in [
        ("name", json!("a")),
        ("scope", json!("global")),
        ("exact", json!(true)),
        ("key", json!([{ "header": "x-key" }])),
    ] {
        limit[name] = value;
    }
    limits(json!([limit]))
}

/// Proxies of one worker each, the store that they share, and whether it is there.
struct Fleet {
    proxies: Vec<Worker>,
    store: MemoryStore,
    is_up: bool,
    /// While it is away, whether somebody is there who says so; otherwise there is silence.
    is_told: bool,
    away_since: Instant,
    now: Instant,
}

impl Fleet {
    fn new(policy: &Policy, proxies: usize) -> Self {
        Self {
            proxies: (0..proxies).map(|_| Process::default().worker(policy)).collect(),
            store: MemoryStore::new(100_000),
            is_up: true,
            is_told: false,
            away_since: Instant::default(),
            now: Instant::default(),
        }
    }

    fn pass(&mut self, span: Span) {
        self.now = self.now.after(span);
        self.proxies.iter().for_each(|proxy| proxy.process.pass(span));
    }

    fn answer(&mut self, ask: &Ask) -> Result<Reply, NoAnswer> {
        if !self.is_up {
            return Err(match self.is_told {
                true => NoAnswer::StoreAway(self.now.since(self.away_since)),
                false => NoAnswer::Unreachable,
            });
        }
        let share_ppm = SHARE_WHOLE_PPM / self.proxies.len() as u32;
        let reply = self.store.answer(self.now, ask);
        let answers = reply.answers.into_iter().map(|answer| Answer { share_ppm, ..answer });
        Ok(Reply { answers: answers.collect() })
    }

    fn fail(&mut self) {
        if self.is_up {
            (self.is_up, self.away_since) = (false, self.now);
        }
    }

    fn admits(&mut self, proxy: usize, key: &str) -> bool {
        let verdict = match self.proxies[proxy].step(&Request::key(key)) {
            Step::Answer(verdict) => verdict,
            Step::Hold(_) => {
                let (question, ask) = self.proxies[proxy].questions().pop().unwrap();
                self.reply(proxy, question, &ask).unwrap()
            }
        };
        matches!(verdict, Verdict::Allow(_))
    }

    fn reply(&mut self, proxy: usize, question: QuestionId, ask: &Ask) -> Option<Verdict> {
        let reply = self.answer(ask);
        self.proxies[proxy].reply(question, reply)
    }

    /// What ticks bring to all proxies: probes, and debts to be told.
    fn tick(&mut self) {
        for proxy in 0..self.proxies.len() {
            if self.proxies[proxy].tick() {
                let is_up = self.is_up;
                let Worker { gate, process } = &mut self.proxies[proxy];
                gate.on_probe(process, is_up);
            }
            self.proxies[proxy].tick();
            for (question, ask) in self.proxies[proxy].questions() {
                assert_eq!(self.reply(proxy, question, &ask), None);
            }
        }
    }

    /// Until every proxy has seen that the store is back, and told its debts.
    fn heal(&mut self) {
        self.is_up = true;
        for _ in 0..40 {
            self.pass(Span::from_millis(100));
            self.tick();
        }
        assert!(self.proxies.iter().all(|proxy| !proxy.gate.is_store_away()));
    }
}

#[test]
fn what_was_used_is_charged_on_return() {
    let mut fleet = Fleet::new(&policy("60/1m", 60, "token_bucket"), 1);
    assert!(fleet.admits(0, "k"), "and so it knows its share");
    fleet.fail();
    assert!(!fleet.admits(0, "k"), "it begins with nothing");
    fleet.pass(Span::from_secs(20));
    let alone = (0..100).filter(|_| fleet.admits(0, "k")).count();
    assert_eq!(alone, 20);
    fleet.heal();
    let back = (0..100).filter(|_| fleet.admits(0, "k")).count();
    assert_eq!(back, 60 - 20 + 3, "a burst, less what was used, and 3.9 seconds' worth");
}

#[test]
fn a_second_outage_begins_with_nothing_too() {
    let mut fleet = Fleet::new(&policy("60/1m", 60, "token_bucket"), 1);
    for _ in 0..2 {
        assert!(fleet.admits(0, "k"));
        fleet.fail();
        assert!(!fleet.admits(0, "k"));
        fleet.pass(Span::from_secs(5));
        assert_eq!((0..100).filter(|_| fleet.admits(0, "k")).count(), 5);
        fleet.heal();
        fleet.pass(Span::from_secs(600));
    }
}

#[test]
fn of_a_store_that_is_said_to_be_away_the_same_is_charged_on_return() {
    let mut fleet = Fleet::new(&policy("60/1m", 60, "token_bucket"), 1);
    fleet.is_told = true;
    for _ in 0..2 {
        assert!(fleet.admits(0, "k"));
        fleet.fail();
        assert!(!fleet.admits(0, "k"), "each outage begins with nothing");
        fleet.pass(Span::from_secs(20));
        assert_eq!((0..100).filter(|_| fleet.admits(0, "k")).count(), 20);
        fleet.heal();
        let back = (0..100).filter(|_| fleet.admits(0, "k")).count();
        assert!((60 - 20..=60 - 20 + 4).contains(&back), "{back}");
        fleet.pass(Span::from_secs(600));
    }
}

#[test]
fn debts_are_not_told_at_every_tick_to_a_store_that_is_away() {
    let mut fleet = Fleet::new(&policy("60/1m", 60, "token_bucket"), 1);
    fleet.is_told = true;
    assert!(fleet.admits(0, "k"));
    fleet.fail();
    assert!(!fleet.admits(0, "k"));
    fleet.pass(Span::from_secs(1));
    assert!(fleet.admits(0, "k"));
    let mut told = 0;
    for _ in 0..50 {
        fleet.pass(Span::from_millis(100));
        fleet.proxies[0].tick();
        for (question, ask) in fleet.proxies[0].questions() {
            told += 1;
            assert_eq!(fleet.reply(0, question, &ask), None);
        }
    }
    assert_eq!(told, 5, "once a second");
}

#[test]
fn a_question_about_the_key_carries_its_debt() {
    let mut fleet = Fleet::new(&policy("60/1m", 60, "token_bucket"), 1);
    assert!(fleet.admits(0, "k"));
    fleet.fail();
    assert!(!fleet.admits(0, "k"));
    fleet.pass(Span::from_secs(3));
    assert!(fleet.admits(0, "k") && fleet.admits(0, "k"));
    let Worker { gate, process } = &mut fleet.proxies[0];
    gate.on_probe(process, true);
    let owed = |worker: &mut Worker| {
        let (ticket, question, ask) = worker.asked(&Request::key("k"));
        (ticket, question, ask.items[0].owed)
    };
    let (ticket, question, first) = owed(&mut fleet.proxies[0]);
    let (.., second) = owed(&mut fleet.proxies[0]);
    assert_eq!((first, second), (2, 0), "told once");
    // It stays without an answer: perhaps it was charged, perhaps not.
    let Worker { gate, process } = &mut fleet.proxies[0];
    gate.on_gone(process, ticket);
    gate.on_reply(process, question, Err(NoAnswer::StoreAway(Span::ZERO)), &mut |_| false);
    assert_eq!(owed(&mut fleet.proxies[0]).2, 2, "told again");
}

#[test]
fn a_new_policy_keeps_what_is_owed() {
    let policy = policy("60/1m", 60, "token_bucket");
    let mut fleet = Fleet::new(&policy, 1);
    assert!(fleet.admits(0, "k"));
    fleet.fail();
    assert!(!fleet.admits(0, "k"));
    fleet.pass(Span::from_secs(30));
    assert_eq!((0..100).filter(|_| fleet.admits(0, "k")).count(), 30);
    let mut next = fleet.proxies[0].process.worker(&policy);
    next.gate.take_over(&mut fleet.proxies[0].gate);
    fleet.proxies[0] = next;
    fleet.heal();
    assert_eq!((0..100).filter(|_| fleet.admits(0, "k")).count(), 60 - 30 + 3);
}

#[test]
fn a_new_policy_keeps_what_the_last_questions_of_the_old_one_leave() {
    let policy = policy("60/1m", 60, "token_bucket");
    let mut fleet = Fleet::new(&policy, 1);
    assert!(fleet.admits(0, "k"));
    fleet.is_up = false;
    assert!(!fleet.admits(0, "k"));
    fleet.pass(Span::from_secs(30));
    assert_eq!((0..100).filter(|_| fleet.admits(0, "k")).count(), 30);
    // Two questions about it are under way, the first with the debt, when the policy is replaced.
    let Worker { gate, process } = &mut fleet.proxies[0];
    gate.on_probe(process, true);
    let mut next = fleet.proxies[0].process.worker(&policy);
    let ask = |worker: &mut Worker| {
        let (_, question, ask) = worker.asked(&Request::key("k"));
        (question, ask.items[0].owed)
    };
    let old = &mut fleet.proxies[0];
    let ((first, owed), (second, _)) = (ask(old), ask(old));
    next.gate.take_over(&mut old.gate);
    assert_eq!((owed, ask(&mut next).1), (30, 0), "it is on its way");
    // Neither gets an answer, and the second is let through by the share: one a second.
    let verdict = old.reply(first, Err(NoAnswer::Unreachable));
    assert!(matches!(verdict, Some(Verdict::Deny(_))), "{verdict:?}");
    old.process.pass(Span::from_secs(1));
    let verdict = old.reply(second, Err(NoAnswer::Unreachable));
    assert!(matches!(verdict, Some(Verdict::Allow(_))), "{verdict:?}");
    assert!(!old.gate.is_asking());
    next.gate.take_over(&mut old.gate);
    assert_eq!(ask(&mut next).1, 31);
}

#[test]
fn debts_are_bounded() {
    let mut fleet = Fleet::new(&policy("1000/1m", 1000, "token_bucket"), 1);
    assert!(fleet.admits(0, "k"));
    fleet.fail();
    assert!(!fleet.admits(0, "k"));
    fleet.pass(Span::from_millis(500));
    let keys: Vec<_> = (0..DEBTS_MAX + 100).map(|number| format!("k{number}")).collect();
    assert!(keys.iter().all(|key| fleet.admits(0, key)));
    fleet.is_up = true;
    let mut told = 0;
    for _ in 0..100 {
        fleet.pass(Span::from_millis(100));
        let worker = &mut fleet.proxies[0];
        if worker.tick() {
            worker.gate.on_probe(&mut worker.process, true);
        }
        for (_, ask) in worker.questions() {
            told += ask.items.iter().filter(|item| item.owed > 0).count();
        }
    }
    assert_eq!(told, DEBTS_MAX);
}

/// A step of a made-up history: who asks how often, how much time passes, what breaks.
#[derive(Clone, Debug)]
enum Event {
    Requests { proxy: usize, count: u32 },
    Pass { millis: u64 },
    Down,
    Up,
}

fn event(proxies: usize) -> impl Strategy<Value = Event> {
    prop_oneof![
        5 => (0..proxies, 1..30_u32).prop_map(|(proxy, count)| Event::Requests { proxy, count }),
        4 => (1..4_000_u64).prop_map(|millis| Event::Pass { millis }),
        1 => Just(Event::Down),
        1 => Just(Event::Up),
    ]
}

proptest! {
    #[test]
    fn outages_give_nobody_more_than_the_limit(
        proxies in 1..4_usize,
        is_told in any::<bool>(),
        events in proptest::collection::vec(event(3), 1..120),
    ) {
        // Ten a second, forty at once.
        let mut fleet = Fleet::new(&policy("10/1s", 40, "token_bucket"), proxies);
        fleet.is_told = is_told;
        let mut admitted: Vec<Instant> = Vec::new();
        for proxy in 0..proxies {
            if fleet.admits(proxy, "k") {
                admitted.push(fleet.now);
            }
        }
        for event in events {
            match event {
                Event::Requests { proxy, count } => {
                    for _ in 0..count {
                        if fleet.admits(proxy % proxies, "k") {
                            admitted.push(fleet.now);
                        }
                    }
                }
                Event::Pass { millis } => fleet.pass(Span::from_millis(millis)),
                Event::Down => fleet.fail(),
                Event::Up => fleet.heal(),
            }
        }
        // A share is never less than one request at a time.
        let most = |span: Span| 40.0 + span.0 as f64 / 1e9 * 10.0 + proxies as f64;
        for (first, from) in admitted.iter().enumerate() {
            for (count, to) in admitted[first..].iter().enumerate() {
                let within = most(Span(to.0 - from.0));
                prop_assert!((count + 1) as f64 <= within, "{} in {} ms", count + 1, (to.0 - from.0) / 1_000_000);
            }
        }
    }
}
