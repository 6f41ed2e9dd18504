//! Global limits: one ask, one answer, and what happens without one.

use crate::proxy::{Process, Request, Worker, limits};
use serde_json::json;
use tidegate_core::ask::{Answer, Ask, MemoryStore, NoAnswer, Reply};
use tidegate_core::gate::{Answered, QuestionId, WAITING_MAX};
use tidegate_core::time::Span;
use tidegate_core::verdict::{Reason, Verdict};

fn asked(worker: &mut Worker, request: &Request) -> (QuestionId, Ask) {
    let (_, question, ask) = worker.asked(request);
    (question, ask)
}

fn reply(worker: &mut Worker, question: QuestionId, reply: Result<Reply, NoAnswer>) -> Verdict {
    worker.reply(question, reply).unwrap()
}

/// One request all the way, with this store.
fn admits(worker: &mut Worker, store: &mut MemoryStore, request: &Request) -> bool {
    let (ticket, ask) = asked(worker, request);
    let answer = store.answer(worker.process.now(), &ask);
    matches!(reply(worker, ticket, Ok(answer)), Verdict::Allow(_))
}

fn away(on_error: &str, rate: &str) -> Worker {
    let policy = limits(json!([
        { "name": "a", "scope": "global", "exact": true, "rate": rate, "on_error": on_error }
    ]));
    let mut worker = Process::default().worker(&policy);
    let (ticket, _) = asked(&mut worker, &Request::new());
    let _ = reply(&mut worker, ticket, Err(NoAnswer::Unreachable));
    worker
}

#[test]
fn proxies_share_one_budget() {
    let policy = limits(json!([
        { "name": "a", "scope": "global", "exact": true, "key": [{ "header": "x-key" }], "rate": "10/1m" }
    ]));
    let mut store = MemoryStore::new(1_000);
    let mut proxies = [Process::default().worker(&policy), Process::default().worker(&policy)];
    let request = Request::key("k");
    let admitted = (0..40).filter(|at| admits(&mut proxies[at % 2], &mut store, &request)).count();
    assert_eq!(admitted, 10);
}

#[test]
fn all_global_limits_of_a_request_go_in_one_ask() {
    let policy = limits(json!([
        { "name": "a", "scope": "global", "exact": true, "rate": "10/1m" },
        { "name": "here", "rate": "10/1m" },
        { "name": "b", "scope": "global", "exact": true, "rate": "10/1m", "algorithm": "sliding_window" },
    ]));
    let (_, ask) = asked(&mut Process::default().worker(&policy), &Request::new());
    assert_eq!(ask.items.len(), 2);
    assert_ne!(ask.items[0].key, ask.items[1].key);
}

#[test]
fn a_local_refusal_is_not_even_asked_about() {
    let policy = limits(json!([
        { "name": "g", "scope": "global", "exact": true, "rate": "10/1m" },
        { "name": "here", "rate": "1/1d" },
    ]));
    let mut worker = Process::default().worker(&policy);
    asked(&mut worker, &Request::new());
    assert_eq!(worker.denial(&Request::new()).limit.0, 1);
}

#[test]
fn what_the_store_refuses_goes_back_to_local_limits() {
    let policy = limits(json!([
        { "name": "here", "rate": "2/1d" },
        { "name": "g", "scope": "global", "exact": true, "rate": "1/1d" },
    ]));
    let mut worker = Process::default().worker(&policy);
    let mut store = MemoryStore::new(100);
    assert!(admits(&mut worker, &mut store, &Request::new()));
    for _ in 0..5 {
        assert!(
            !admits(&mut worker, &mut store, &Request::new()),
            "refused by the store each time"
        );
    }
}

/// A request took one token and waited; meanwhile the bucket refilled what it took, and
/// others emptied the bucket. Putting the token back then filled the bucket twice.
#[test]
fn a_wait_never_refills_a_bucket_twice() {
    let policy = limits(json!([
        { "name": "here", "rate": "100/1s", "burst": 5 },
        { "name": "g", "scope": "global", "exact": true, "rate": "9/1d", "when": { "path": "/g" } },
    ]));
    let mut worker = Process::default().worker(&policy);
    let waits = Request::new().with(":path", "/g");
    let tickets: Vec<_> = (0..5).map(|_| worker.asked(&waits).0).collect();
    worker.process.pass(Span::from_millis(50));
    assert_eq!(worker.admitted(&Request::new(), 10), 0, "outstanding, so not refilled");
    for ticket in tickets {
        worker.gate.on_gone(&mut worker.process, ticket);
    }
    worker.process.pass(Span::from_millis(100)); // past the remembered refusal
    assert_eq!(worker.admitted(&Request::new(), 10), 5);
}

#[test]
fn a_request_that_dies_waiting_leaves_nothing_behind() {
    let policy = limits(json!([
        { "name": "here", "rate": "1/1d" },
        { "name": "g", "scope": "global", "exact": true, "rate": "9/1d" },
    ]));
    let mut worker = Process::default().worker(&policy);
    let (ticket, question, _) = worker.asked(&Request::new());
    assert!(worker.gate.is_asking());
    worker.gate.on_gone(&mut worker.process, ticket);
    assert_eq!(worker.reply(question, Ok(Reply { answers: Vec::new() })), None);
    assert!(!worker.gate.is_asking());
    asked(&mut worker, &Request::new());
}

#[test]
fn one_that_dies_unheard_is_seen_to_be_dead_when_its_answer_is_there() {
    let policy = limits(json!([
        { "name": "here", "rate": "1/1d" },
        { "name": "g", "scope": "global", "exact": true, "rate": "9/1d" },
    ]));
    let mut worker = Process::default().worker(&policy);
    let (_, question, ask) = worker.asked(&Request::new());
    let answer = MemoryStore::new(8).answer(worker.process.now(), &ask);
    let Worker { gate, process } = &mut worker;
    gate.on_reply(process, question, Ok(Answered::Exact(answer)), &mut |_| false);
    assert!(gate.take_decided().is_empty() && !gate.is_asking());
    worker.asked(&Request::new());
}

#[test]
fn closed_refuses_with_503_while_the_store_is_away() {
    let mut worker = away("closed", "10/1m");
    let denial = worker.denial(&Request::new());
    assert_eq!((denial.reason, denial.retry_after), (Reason::StoreAway, None));
}

#[test]
fn a_store_that_is_said_to_be_away_is_asked_on() {
    let policy = limits(json!([{
        "name": "a", "scope": "global", "exact": true, "rate": "10/1m", "on_error": "closed",
        "key": [{ "header": "x-key" }],
    }]));
    let mut worker = Process::default().worker(&policy);
    let mut store = MemoryStore::new(8);
    for _ in 0..3 {
        let (ticket, _) = asked(&mut worker, &Request::key("of the lost shard"));
        let away = Err(NoAnswer::StoreAway(Span::from_millis(1)));
        let Verdict::Deny(denial) = reply(&mut worker, ticket, away) else { panic!("admitted") };
        assert_eq!(denial.reason, Reason::StoreAway);
        assert!(!worker.gate.is_store_away(), "of the others nobody knows that");
        assert!(admits(&mut worker, &mut store, &Request::key("of another")));
    }
}

#[test]
fn who_answers_others_meanwhile_is_only_slow() {
    let policy = limits(json!([
        { "name": "a", "scope": "global", "exact": true, "rate": "10/1m", "on_error": "closed" }
    ]));
    let mut worker = Process::default().worker(&policy);
    let mut store = MemoryStore::new(8);
    let slow = asked(&mut worker, &Request::new()).0;
    assert!(admits(&mut worker, &mut store, &Request::new()));
    let _ = reply(&mut worker, slow, Err(NoAnswer::Unreachable));
    assert!(!worker.gate.is_store_away());
    let silent = asked(&mut worker, &Request::new()).0;
    let _ = reply(&mut worker, silent, Err(NoAnswer::Unreachable));
    assert!(worker.gate.is_store_away());
}

#[test]
fn who_says_that_its_store_is_away_is_there_itself() {
    let worker = away("closed", "10/1m");
    let policy = worker.gate.policy().clone();
    let mut asking = worker.process.worker(&policy);
    let waits = asked(&mut asking, &Request::new()).0;
    let fails = asked(&mut asking, &Request::new()).0;
    let _ = reply(&mut asking, fails, Err(NoAnswer::Unreachable));
    assert!(asking.gate.is_store_away());
    let _ = reply(&mut asking, waits, Err(NoAnswer::StoreAway(Span::ZERO)));
    assert!(!asking.gate.is_store_away());
    let _ = asked(&mut asking, &Request::new());
}

#[test]
fn open_lets_requests_through_while_the_store_is_away() {
    assert_eq!(away("open", "10/1m").admitted(&Request::new(), 100), 100);
}

#[test]
fn a_local_share_starts_empty_and_refills_at_its_rate() {
    let mut worker = away("local_share", "60/1m");
    assert_eq!(worker.admitted(&Request::new(), 10), 0, "what it had before is not granted again");
    worker.process.pass(Span::from_secs(5));
    assert_eq!(worker.admitted(&Request::new(), 100), 5, "alone, it is the whole fleet");
}

#[test]
fn a_share_is_what_the_store_last_said() {
    let policy = limits(json!([
        { "name": "a", "scope": "global", "exact": true, "rate": "60/1m" }
    ]));
    let mut worker = Process::default().worker(&policy);
    let (ticket, ask) = asked(&mut worker, &Request::new());
    let mut told = MemoryStore::new(8).answer(worker.process.now(), &ask);
    told.answers[0] = Answer { share_ppm: 250_000, ..told.answers[0] };
    let _ = reply(&mut worker, ticket, Ok(told));
    let (ticket, _) = asked(&mut worker, &Request::new());
    let _ = reply(&mut worker, ticket, Err(NoAnswer::Unreachable));
    worker.process.pass(Span::from_secs(40));
    assert_eq!(worker.admitted(&Request::new(), 100), 10);
}

#[test]
fn nobody_waits_for_a_store_that_is_known_to_be_away() {
    let mut worker = away("open", "10/1m");
    assert!(worker.gate.is_store_away());
    assert!(worker.admits(&Request::new()), "without asking");
    assert!(!worker.tick(), "too soon to probe");
    worker.process.pass(Span::from_millis(100));
    assert!(worker.tick());
    assert!(!worker.tick(), "one probe at a time");
    worker.gate.on_probe(&mut worker.process, true);
    asked(&mut worker, &Request::new());
}

#[test]
fn half_an_answer_is_no_answer() {
    let policy = limits(json!([
        { "name": "a", "scope": "global", "exact": true, "rate": "9/1d", "on_error": "closed" },
        { "name": "b", "scope": "global", "exact": true, "rate": "9/1d", "on_error": "closed" },
    ]));
    let mut worker = Process::default().worker(&policy);
    let (ticket, ask) = asked(&mut worker, &Request::new());
    let mut half = MemoryStore::new(8).answer(worker.process.now(), &ask);
    half.answers.pop();
    assert!(matches!(reply(&mut worker, ticket, Ok(half)), Verdict::Deny(_)));
}

#[test]
fn waiting_requests_are_bounded() {
    let policy = limits(json!([
        { "name": "a", "scope": "global", "exact": true, "rate": "10/1m", "on_error": "open" }
    ]));
    let mut worker = Process::default().worker(&policy);
    for _ in 0..WAITING_MAX / 2 {
        asked(&mut worker, &Request::new());
    }
    assert!(worker.admits(&Request::new()));
}

#[test]
fn a_global_shadow_is_asked_about_without_holding_anybody() {
    let policy = limits(json!([
        { "name": "a", "scope": "global", "exact": true, "rate": "1/1d", "shadow": true }
    ]));
    let mut worker = Process::default().worker(&policy);
    let mut store = MemoryStore::new(8);
    for _ in 0..3 {
        assert!(worker.admits(&Request::new()));
        for (question, ask) in worker.questions() {
            let answer = store.answer(worker.process.now(), &ask);
            assert!(worker.reply(question, Ok(answer)).is_none());
        }
    }
    let tally = worker.gate.take_tallies().next().unwrap().1;
    assert_eq!((tally.allowed, tally.shadowed), (1, 2));
}
