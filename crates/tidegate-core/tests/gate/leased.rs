//! Leased limits as a whole gate decides them: who waits, what is asked, what goes back.

use crate::proxy::{Process, Request, Worker, limits, policy};
use serde_json::json;
use tidegate_core::ask::{self, Answer, NoAnswer};
use tidegate_core::gate::{Answered, Asked, Question, Step, Ticket, WAITING_MAX};
use tidegate_core::lease::{self, Place};
use tidegate_core::limit::Standing;
use tidegate_core::policy::Policy;
use tidegate_core::time::Span;
use tidegate_core::verdict::{Reason, Verdict};

/// One worker, and a store that answers when it is told to.
struct Lab {
    worker: Worker,
    store: lease::Store,
    asked: Vec<Question>,
    /// Asks for leases, so far.
    asks: usize,
}

impl Lab {
    fn new(policy: &Policy) -> Self {
        let worker = Process::default().worker(policy);
        worker.process.pass(Span::from_secs(100));
        Self { worker, store: lease::Store::new(1_000), asked: Vec::new(), asks: 0 }
    }

    /// A request's verdict, or the ticket with which it waits.
    fn step(&mut self, request: &Request) -> Result<Verdict, Ticket> {
        let step = self.worker.step(request);
        self.gather();
        match step {
            Step::Answer(verdict) => Ok(verdict),
            Step::Hold(ticket) => Err(ticket),
        }
    }

    fn gather(&mut self) {
        let questions = self.worker.gate.take_questions();
        self.asks += questions.iter().filter(|it| matches!(it.ask, Asked::Leases(_))).count();
        self.asked.extend(questions);
    }

    /// What the store says to all that was asked; exact limits are always within.
    fn answer(&mut self) -> Vec<(Ticket, Verdict)> {
        self.answer_those_who(&mut |_| true)
    }

    fn answer_those_who(
        &mut self,
        is_there: &mut dyn FnMut(Ticket) -> bool,
    ) -> Vec<(Ticket, Verdict)> {
        let mut decided = Vec::new();
        while !self.asked.is_empty() {
            let Question { id, ask, .. } = self.asked.remove(0);
            let place = Place { now: self.worker.process.now(), stamp: 1, began: None };
            let answered = match ask {
                Asked::Leases(ask) => Answered::Leases(self.store.answer(&place, &ask).unwrap()),
                Asked::Exact(ask) => {
                    let outcome = Ok(Standing { remaining: 1, reset: Span::ZERO });
                    let answers = vec![Answer { outcome, share_ppm: 0 }; ask.items.len()];
                    Answered::Exact(ask::Reply { answers })
                }
                other => panic!("asked {other:?}"),
            };
            let Worker { gate, process } = &mut self.worker;
            gate.on_reply(process, id, Ok(answered), is_there);
            decided.extend(self.worker.gate.take_decided());
            self.gather();
        }
        decided
    }

    /// Nobody answers what was asked.
    fn silence(&mut self) -> Vec<(Ticket, Verdict)> {
        for Question { id, .. } in std::mem::take(&mut self.asked) {
            let Worker { gate, process } = &mut self.worker;
            gate.on_reply(process, id, Err(NoAnswer::Unreachable), &mut |_| true);
        }
        self.gather();
        self.worker.gate.take_decided()
    }

    /// Whether a request is let through, the store answering at once.
    fn admits(&mut self, request: &Request) -> bool {
        let verdict = match self.step(request) {
            Ok(verdict) => verdict,
            Err(ticket) => {
                let decided = self.answer();
                let own = decided.into_iter().find(|(decided, _)| *decided == ticket);
                own.expect("it is decided").1
            }
        };
        self.answer();
        matches!(verdict, Verdict::Allow(_))
    }

    fn admitted(&mut self, request: &Request, count: u32) -> u32 {
        (0..count).map(|_| u32::from(self.admits(request))).sum()
    }

    fn pass(&mut self, millis: u64) {
        for _ in 0..millis / 25 {
            self.worker.process.pass(Span::from_millis(25));
            self.worker.tick();
            self.gather();
            self.answer();
        }
    }
}

fn global(more: serde_json::Value) -> Policy {
    let mut limit = json!({ "name": "a", "scope": "global", "key": [{ "header": "x-key" }] });
    for (name, value) in more.as_object().unwrap() {
        limit[name] = value.clone();
    }
    limits(json!([limit]))
}

#[test]
fn a_hot_key_is_admitted_to_the_last_unit_and_mostly_without_asking() {
    let mut lab = Lab::new(&global(json!({ "rate": "1000/1h" })));
    let mut admitted = 0;
    for _ in 0..200 {
        admitted += lab.admitted(&Request::key("k"), 10);
        lab.pass(25);
    }
    assert_eq!(admitted, 1_000 + 1, "an hour's 1000, and 5 s of the next");
    assert!(lab.asks < 150, "{} asks", lab.asks);
}

#[test]
fn requests_that_wait_for_one_budget_are_one_ask() {
    let mut lab = Lab::new(&global(json!({ "rate": "100/1h" })));
    let waiting: Vec<_> = (0..20).map(|_| lab.step(&Request::key("k")).unwrap_err()).collect();
    assert_eq!(lab.asks, 1);
    let decided = lab.answer();
    assert_eq!(decided.len(), 20);
    assert!(decided.iter().all(|(ticket, verdict)| {
        waiting.contains(ticket) && matches!(verdict, Verdict::Allow(_))
    }));
    assert!(lab.asks <= 2, "those who came after it was sent, together: {}", lab.asks);
    assert!(!lab.worker.gate.is_asking());
}

#[test]
fn a_flood_that_is_refused_asks_next_to_nothing() {
    let mut lab = Lab::new(&global(json!({ "rate": "10/1m" })));
    assert_eq!(lab.admitted(&Request::key("k"), 50), 10);
    let before = lab.asks;
    for _ in 0..40 {
        assert_eq!(lab.admitted(&Request::key("k"), 100), 0);
        lab.pass(25);
    }
    assert!(lab.asks - before <= 5, "{} asks for 4,000 refusals", lab.asks - before);
}

#[test]
fn a_refusal_by_one_limit_charges_no_other() {
    let mut lab = Lab::new(&limits(json!([
        { "name": "local", "rate": "1/1h", "burst": 10 },
        { "name": "narrow", "when": { "path": "/narrow" }, "rate": "2/1h", "scope": "global" },
        { "name": "wide", "rate": "10/1h", "scope": "global" },
    ])));
    assert_eq!(lab.admitted(&Request::new().with(":path", "/narrow"), 6), 2);
    assert_eq!(lab.admitted(&Request::new(), 20), 8);
}

#[test]
fn the_same_where_requests_may_wait_for_long() {
    let mut lab = Lab::new(&policy(json!({
        "tidegate": 1, "domain": "shop", "host": { "cluster": "host", "deadline": "4s" },
        "limits": [
            { "name": "narrow", "when": { "path": "/narrow" }, "rate": "2/1h", "scope": "global" },
            { "name": "wide", "rate": "10/1h", "scope": "global" },
        ],
    })));
    let narrow = Request::new().with(":path", "/narrow");
    let mut admitted = 0;
    for _ in 0..6 {
        admitted += lab.admitted(&narrow, 1);
        lab.pass(75);
    }
    assert_eq!(admitted, 2);
    let mut admitted = 0;
    for _ in 0..20 {
        admitted += lab.admitted(&Request::new(), 1);
        lab.pass(400);
    }
    assert_eq!(admitted, 8);
}

#[test]
fn a_request_that_dies_waiting_leaves_its_units_to_others() {
    let policy = limits(json!([
        { "name": "local", "rate": "1/1h", "burst": 5 },
        { "name": "a", "scope": "global", "rate": "3/1h" },
        { "name": "exact", "scope": "global", "exact": true, "rate": "1000/1h" },
    ]));
    let mut lab = Lab::new(&policy);
    for _ in 0..10 {
        lab.step(&Request::new()).unwrap_err();
        assert!(lab.answer_those_who(&mut |_| false).is_empty());
        lab.pass(25);
    }
    assert!(!lab.worker.gate.is_asking());
    lab.pass(2_000);
    assert_eq!(lab.admitted(&Request::new(), 10), 3);
}

#[test]
fn what_is_held_goes_back_when_the_policy_is_replaced() {
    let policy = global(json!({ "rate": "1000/1h" }));
    let mut lab = Lab::new(&policy);
    for _ in 0..20 {
        lab.admitted(&Request::key("k"), 10);
        lab.pass(25);
    }
    let Worker { gate, process } = &mut lab.worker;
    gate.drain(process);
    lab.gather();
    lab.answer();
    let other = Process::default().worker(&policy);
    other.process.pass(Span(lab.worker.process.now().0));
    lab.worker = other;
    let left = (0..2_000).filter(|_| lab.admits(&Request::key("k"))).count();
    assert!(left >= 800, "another proxy has all {left} of the 800 that were left");
}

#[test]
fn what_was_on_its_way_when_the_policy_was_replaced_goes_back_too() {
    let mut lab = Lab::new(&global(json!({ "rate": "1000/1h" })));
    for _ in 0..20 {
        lab.admitted(&Request::key("k"), 10);
        lab.pass(25);
    }
    // All that is held is used, and more is asked for.
    while matches!(lab.step(&Request::key("k")), Ok(Verdict::Allow(_))) {}
    let drain = |lab: &mut Lab| {
        let Worker { gate, process } = &mut lab.worker;
        gate.drain(process);
        lab.gather();
    };
    drain(&mut lab);
    let asks = lab.asks;
    lab.answer();
    drain(&mut lab);
    assert_eq!(lab.asks, asks + 1, "it tells of what came since");
    let returned = lab.asked.iter().flat_map(|question| match &question.ask {
        Asked::Leases(ask) => ask.wants.iter().flat_map(|want| want.settled).collect::<Vec<_>>(),
        _ => Vec::new(),
    });
    assert!(returned.map(|settled| settled.returned).sum::<u32>() > 0);
    lab.answer();
    assert!(!lab.worker.gate.is_asking());
}

#[test]
fn what_is_longer_than_its_life_in_the_making_is_not_used() {
    let policy = limits(json!([
        { "name": "a", "scope": "global", "rate": "1000/1s", "on_error": "closed" },
        { "name": "exact", "scope": "global", "exact": true, "rate": "1000/1h" },
    ]));
    let mut lab = Lab::new(&policy);
    lab.step(&Request::new()).unwrap_err();
    let leases = lab.asked.remove(0);
    let Asked::Leases(ask) = leases.ask else { panic!("leases come first") };
    let place = Place { now: lab.worker.process.now(), stamp: 1, began: None };
    let reply = Answered::Leases(lab.store.answer(&place, &ask).unwrap());
    let Worker { gate, process } = &mut lab.worker;
    gate.on_reply(process, leases.id, Ok(reply), &mut |_| true);
    lab.gather();
    // The answer about the exact limit is looked at when the lease has lapsed.
    lab.worker.process.pass(Span::from_secs(2));
    let decided = lab.answer();
    assert!(matches!(decided[..], [(_, Verdict::Deny(_))]), "{decided:?}");
}

#[test]
fn a_store_that_is_away_for_a_key_is_asked_on_for_others() {
    let mut lab = Lab::new(&global(json!({ "rate": "10/1m", "on_error": "closed" })));
    lab.step(&Request::key("of the lost shard")).unwrap_err();
    let Question { id, ask, .. } = lab.asked.remove(0);
    let Asked::Leases(ask) = ask else { panic!("leases") };
    let away = Err(lease::Away(Span::from_millis(5)));
    let reply = lease::Reply { seq: ask.seq, grants: vec![away] };
    let Worker { gate, process } = &mut lab.worker;
    gate.on_reply(process, id, Ok(Answered::Leases(reply)), &mut |_| true);
    let decided = gate.take_decided();
    let [(_, Verdict::Deny(denial))] = &decided[..] else { panic!("{decided:?}") };
    assert_eq!(denial.reason, Reason::StoreAway);
    assert!(!lab.worker.gate.is_store_away());
    assert!(lab.admits(&Request::key("of another")));
}

#[test]
fn silence_decides_all_who_wait_at_once() {
    let mut lab = Lab::new(&global(json!({ "rate": "10/1m", "on_error": "open" })));
    for _ in 0..7 {
        lab.step(&Request::key("k")).unwrap_err();
    }
    let decided = lab.silence();
    assert_eq!(decided.len(), 7);
    assert!(decided.iter().all(|(_, verdict)| matches!(verdict, Verdict::Allow(_))));
    assert!(lab.worker.gate.is_store_away() && !lab.worker.gate.is_asking());
    assert!(matches!(lab.step(&Request::key("k")), Ok(Verdict::Allow(_))), "nobody waits again");
}

#[test]
fn a_limit_that_looks_on_counts_and_holds_nobody() {
    let mut lab = Lab::new(&limits(json!([
        { "name": "a", "scope": "global", "rate": "3/1h", "shadow": true }
    ])));
    for _ in 0..10 {
        assert!(matches!(lab.step(&Request::new()), Ok(Verdict::Allow(_))));
        assert!(lab.answer_those_who(&mut |_| false).is_empty(), "there is no request");
    }
    let tally = lab.worker.gate.take_tallies().next().unwrap().1;
    assert_eq!((tally.allowed, tally.shadowed), (3, 7));
}

#[test]
fn with_escrow_the_first_request_of_a_key_waits_for_nobody() {
    let policy = global(json!({ "rate": "100/1h", "escrow": true }));
    let mut lab = Lab::new(&policy);
    assert!(matches!(lab.step(&Request::key("k")), Ok(Verdict::Allow(_))));
    assert_eq!(lab.asks, 1, "it is told at once");
    lab.answer();
    assert_eq!(lab.admitted(&Request::key("k"), 200), 98, "one is kept back for the next time");
}

/// What was let through without a grant is told at once, and would refill while it is not used.
#[test]
fn with_escrow_a_request_that_waits_for_others_waits_for_its_units() {
    let mut lab = Lab::new(&limits(json!([
        { "name": "kept", "scope": "global", "rate": "100/1h", "escrow": true },
        { "name": "other", "scope": "global", "rate": "100/1h" },
    ])));
    lab.step(&Request::new()).unwrap_err();
    let [Question { ask: Asked::Leases(ask), .. }] = &lab.asked[..] else { panic!("one ask") };
    let waited_for: Vec<bool> = ask.wants.iter().map(|want| want.is_waited_for()).collect();
    assert_eq!(waited_for, [true, true], "{ask:?}");
    assert!(matches!(lab.answer()[..], [(_, Verdict::Allow(_))]));
}

#[test]
fn debts_of_an_outage_are_charged_to_leases() {
    let mut lab = Lab::new(&global(json!({ "rate": "60/1m" })));
    for _ in 0..20 {
        lab.admits(&Request::key("k"));
        lab.pass(500);
    }
    lab.pass(1_200); // what it held has lapsed
    lab.step(&Request::key("k")).unwrap_err();
    assert!(matches!(lab.silence()[..], [(_, Verdict::Deny(_))]), "a share begins with nothing");
    lab.worker.process.pass(Span::from_secs(20));
    let alone = (0..100).filter(|_| matches!(lab.step(&Request::key("k")), Ok(Verdict::Allow(_))));
    let alone = alone.count() as u32;
    assert_eq!(alone, 20, "of one proxy its share is the whole, unless it was told otherwise");
    lab.worker.process.pass(Span::from_secs(20)); // and so the budget would be whole
    let Worker { gate, process } = &mut lab.worker;
    gate.on_probe(process, true);
    lab.pass(1_000);
    let back = lab.admitted(&Request::key("k"), 100);
    assert!((60 - alone - 3..=60 - alone + 3).contains(&back), "{back} after {alone}");
}

#[test]
fn a_standing_is_told_only_by_a_store_that_was_asked() {
    let mut lab = Lab::new(&policy(json!({
        "tidegate": 1, "domain": "shop", "host": { "cluster": "host" },
        "headers": { "send": "always" },
        "limits": [{ "name": "a", "scope": "global", "rate": "100/1m", "on_error": "open" }],
    })));
    let standings = |decided: Vec<(Ticket, Verdict)>| match &decided[..] {
        [(_, Verdict::Allow(standings))] => standings.len(),
        other => panic!("{other:?}"),
    };
    lab.step(&Request::new()).unwrap_err();
    let decided = lab.answer();
    assert_eq!(standings(decided), 1);
    lab.pass(2_000);
    lab.step(&Request::new()).unwrap_err();
    let decided = lab.silence();
    assert_eq!(standings(decided), 0, "decided without it");
}

/// As many wait as may, and what came for two budgets of one request is too little: were one of
/// them not asked for again, it would wait for ever.
#[test]
fn who_waits_is_asked_for_however_many_wait() {
    let mut lab = Lab::new(&limits(json!([
        { "name": "a", "when": { "path": "/two" }, "rate": "100/1m", "scope": "global" },
        { "name": "b", "when": { "path": "/two" }, "rate": "100/1m", "scope": "global" },
        { "name": "many", "when": { "path": "/many" }, "rate": "100/1m", "scope": "global",
          "on_error": "closed" },
    ])));
    lab.step(&Request::new().with(":path", "/two")).unwrap_err();
    let two = lab.asked.remove(0);
    let many = Request::new().with(":path", "/many");
    let held = (0..WAITING_MAX).take_while(|_| lab.step(&many).is_err()).count();
    assert_eq!(held, WAITING_MAX - 3, "beside the first, its question and that of these");
    let Asked::Leases(ask) = two.ask else { panic!("leases") };
    let nothing = lease::Reply { seq: ask.seq, grants: vec![Ok(Default::default()); 2] };
    let Worker { gate, process } = &mut lab.worker;
    gate.on_reply(process, two.id, Ok(Answered::Leases(nothing)), &mut |_| true);
    lab.gather();
    let again = lab.asked.iter().skip(1).map(|question| match &question.ask {
        Asked::Leases(ask) => ask.wants.len(),
        _ => 0,
    });
    assert_eq!(again.sum::<usize>(), 2, "both are asked for again");
    let decided = lab.answer();
    assert_eq!(decided.len(), held + 1);
    assert!(!lab.worker.gate.is_asking(), "nobody is left");
}
