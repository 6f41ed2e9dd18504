//! Plugins as a gate asks them: only where a rule comes to one, for no longer than a request may
//! wait, and by the policy's defaults where there is no answer.

use crate::proxy::{Process, Request, Worker, policy};
use serde_json::{Value, json};
use tidegate_core::ask::{Answer, NoAnswer, Reply};
use tidegate_core::gate::{Answered, Asked, PluginTally, Question, RESOLVING_MAX, Step, Ticket};
use tidegate_core::limit::Standing;
use tidegate_core::plugin::{FACTS_BYTES_MAX, Resolve, Resolved, Unresolved};
use tidegate_core::policy::Policy;
use tidegate_core::revoke::message::Checked;
use tidegate_core::revoke::{EVER, Position};
use tidegate_core::time::Span;
use tidegate_core::verdict::Verdict;

const DEADLINE: Span = Span::from_millis(20);

/// A policy whose plugins are `tiers`, of a tier and a cost, and `regions`, of a region.
fn rules(limits: Value) -> Policy {
    policy(document(limits))
}

fn document(limits: Value) -> Value {
    json!({
        "tidegate": 1, "domain": "shop", "limits": limits, "host": { "cluster": "host" },
        "plugins": {
            "tiers": {
                "wants": [{ "header": "x-key" }, "path"],
                "defaults": { "tier": "free", "cost": 2 },
            },
            "regions": { "wants": ["client_ip"], "defaults": { "region": null } },
        },
    })
}

/// Who is gold has ten a second, all others one.
fn tiered() -> Policy {
    rules(json!([
        { "name": "gold", "rate": "10/s", "when": { "path": "/api/*", "plugin": { "tiers.tier": "gold" } } },
        { "name": "free", "rate": "1/s", "when": { "path": "/api/*", "not": { "plugin": { "tiers.tier": "gold" } } } },
    ]))
}

fn api() -> Request {
    Request::key("k").with(":path", "/api/x?q=1")
}

fn gives(outputs: &[Option<&str>]) -> Result<Answered, NoAnswer> {
    let said = Ok(outputs.iter().map(|it| it.map(Into::into)).collect());
    Ok(Answered::Resolved { said, is_own: false })
}

fn fails(why: Unresolved) -> Result<Answered, NoAnswer> {
    let said: Resolved = Err(why);
    Ok(Answered::Resolved { said, is_own: false })
}

/// `cost` comes before `tier`: outputs stand in the order of their names.
fn gold() -> Result<Answered, NoAnswer> {
    gives(&[Some("1"), Some("gold")])
}

fn held(worker: &mut Worker, request: &Request) -> Ticket {
    match worker.step(request) {
        Step::Hold(ticket) => ticket,
        Step::Answer(verdict) => panic!("answered {verdict:?}"),
    }
}

fn question(worker: &mut Worker) -> Question {
    let mut questions = worker.gate.take_questions();
    assert_eq!(questions.len(), 1, "{questions:?}");
    questions.remove(0)
}

fn resolve(worker: &mut Worker) -> (Question, Resolve) {
    let question = question(worker);
    let Asked::Resolve(ask) = &question.ask else { panic!("asked {question:?}") };
    let ask = ask.clone();
    (question, ask)
}

fn reply(worker: &mut Worker, to: &Question, reply: Result<Answered, NoAnswer>) {
    worker.gate.on_reply(&mut worker.process, to.id, reply, &mut |_| true);
}

fn decided(worker: &mut Worker) -> Vec<bool> {
    let is_let_through = |(_, verdict)| matches!(verdict, Verdict::Allow(_));
    worker.gate.take_decided().into_iter().map(is_let_through).collect()
}

fn tally(worker: &mut Worker, name: &str) -> PluginTally {
    let mut tallies = worker.gate.take_plugin_tallies();
    tallies.find(|(plugin, _)| *plugin.name == *name).unwrap().1
}

/// Asks, and has the plugin answer so.
fn through(worker: &mut Worker, request: &Request, answer: Result<Answered, NoAnswer>) -> bool {
    held(worker, request);
    let (asked, _) = resolve(worker);
    reply(worker, &asked, answer);
    decided(worker)[0]
}

#[test]
fn a_plugin_is_handed_what_it_wants_and_its_answer_picks_the_limit() {
    let mut worker = Process::default().worker(&tiered());
    held(&mut worker, &api());
    let (asked, ask) = resolve(&mut worker);
    assert_eq!((&*ask.plugin, ask.outputs.len()), ("tiers", 2));
    assert_eq!(ask.facts, [Some(b"k".to_vec()), Some(b"/api/x?q=1".to_vec())]);
    reply(&mut worker, &asked, gold());
    assert_eq!(decided(&mut worker), [true]);
    for _ in 0..9 {
        assert!(through(&mut worker, &api(), gold()));
    }
    assert!(!through(&mut worker, &api(), gold()), "gold has ten");
    assert!(through(&mut worker, &api(), gives(&[None, Some("free")])));
    assert!(!through(&mut worker, &api(), gives(&[None, None])), "all others share one");
    assert_eq!(tally(&mut worker, "tiers").answered, 13);
}

#[test]
fn a_request_whose_rules_come_to_no_plugin_asks_none() {
    let mut worker = Process::default().worker(&tiered());
    assert!(worker.admits(&Request::key("k").with(":path", "/other")));
    assert!(!worker.gate.has_questions());
}

#[test]
fn without_an_answer_the_defaults_hold_and_are_counted() {
    let mut worker = Process::default().worker(&tiered());
    let (unreachable, failed) = (Err(NoAnswer::Unreachable), fails(Unresolved::Failed));
    let away = Err(NoAnswer::StoreAway(Span::from_secs(1)));
    assert!(through(&mut worker, &api(), failed), "free has one");
    assert!(!through(&mut worker, &api(), away));
    assert!(!through(&mut worker, &api(), fails(Unresolved::Mismatch)));
    assert!(!through(&mut worker, &api(), gives(&[Some("1")])), "too few outputs");
    assert!(!through(&mut worker, &api(), unreachable));
    let PluginTally { answered, defaulted, mismatched, nonsense } = tally(&mut worker, "tiers");
    assert_eq!((answered, defaulted, mismatched, nonsense), (0, 5, 1, 0));
}

#[test]
fn a_host_that_is_away_is_waited_for_once() {
    let mut worker = Process::default().worker(&tiered());
    assert!(through(&mut worker, &api(), Err(NoAnswer::Unreachable)));
    assert!(worker.gate.is_store_away());
    assert!(!worker.admits(&api()), "by the defaults, at once");
    assert!(!worker.gate.has_questions());
}

/// As [`gold`], of a plugin that the proxy runs itself.
fn own_gold() -> Result<Answered, NoAnswer> {
    let said = Ok(vec![Some("1".into()), Some("gold".into())]);
    Ok(Answered::Resolved { said, is_own: true })
}

/// Has the breaker open by an exact limit that nobody answers.
fn lose_the_host(worker: &mut Worker) {
    held(worker, &Request::key("k").with(":path", "/exact"));
    let asked = question(worker);
    reply(worker, &asked, Err(NoAnswer::Unreachable));
    worker.gate.take_decided();
    assert!(worker.gate.is_store_away());
}

#[test]
fn a_plugin_of_the_proxy_itself_is_asked_whether_or_not_the_host_is_away() {
    let policy = rules(json!([
        { "name": "gold", "rate": "10/s", "when": { "plugin": { "tiers.tier": "gold" }, "path": "/api/*" } },
        { "name": "exact", "rate": "9/s", "scope": "global", "exact": true,
          "when": { "path": "/exact" } },
    ]));
    let mut worker = Process::default().worker(&policy);
    lose_the_host(&mut worker);
    assert!(through(&mut worker, &api(), own_gold()), "nobody knows yet where it runs");
    assert!(worker.gate.is_store_away(), "its answer says nothing of the host");
    assert!(through(&mut worker, &api(), own_gold()));
    assert!(through(&mut worker, &api(), Err(NoAnswer::Unreachable)), "it was late");
    assert!(through(&mut worker, &api(), own_gold()));
    assert_eq!(tally(&mut worker, "tiers").answered, 3);
}

#[test]
fn a_late_plugin_of_the_proxy_itself_says_nothing_of_the_host() {
    let mut worker = Process::default().worker(&tiered());
    assert!(through(&mut worker, &api(), own_gold()));
    assert!(through(&mut worker, &api(), Err(NoAnswer::Unreachable)));
    assert!(!worker.gate.is_store_away());
}

#[test]
fn costs_and_keys_come_of_outputs() {
    let mut worker = Process::default().worker(&rules(json!([{
        "name": "l", "rate": "4/s", "key": [{ "plugin": "tiers.tier" }],
        "cost": { "plugin": "tiers.cost", "max": 3 },
    }])));
    assert!(through(&mut worker, &api(), gives(&[Some("3"), Some("a")])));
    assert!(!through(&mut worker, &api(), gives(&[Some("3"), Some("a")])), "one is left");
    assert!(through(&mut worker, &api(), gives(&[Some("99"), Some("b")])), "at most 3");
    assert!(through(&mut worker, &api(), gives(&[None, Some("c")])), "2 where there is none");
    assert!(through(&mut worker, &api(), gives(&[Some("many"), Some("c")])), "and for nonsense");
    assert!(!through(&mut worker, &api(), gives(&[Some("1"), Some("c")])));
    assert_eq!(tally(&mut worker, "tiers").nonsense, 1);
}

#[test]
fn all_that_are_needed_are_asked_and_the_last_answer_decides() {
    let mut worker = Process::default().worker(&rules(json!([
        { "name": "a", "rate": "1/s", "key": [{ "plugin": "tiers.tier" }] },
        { "name": "b", "rate": "9/s", "key": [{ "plugin": "regions.region" }] },
    ])));
    held(&mut worker, &api());
    let questions = worker.gate.take_questions();
    let answers = |ask: &Asked| match ask {
        Asked::Resolve(ask) if *ask.plugin == *"tiers" => gold(),
        _ => gives(&[Some("eu")]),
    };
    assert_eq!(questions.len(), 2);
    reply(&mut worker, &questions[0], answers(&questions[0].ask));
    assert!(decided(&mut worker).is_empty());
    reply(&mut worker, &questions[1], answers(&questions[1].ask));
    assert_eq!(decided(&mut worker), [true]);
}

#[test]
fn a_plugin_that_only_an_answer_leads_to_is_asked_next() {
    let mut worker = Process::default().worker(&rules(json!([{
        "name": "l", "rate": "1/s",
        "when": { "plugin": { "tiers.tier": "gold" } }, "key": [{ "plugin": "regions.region" }],
    }])));
    let ticket = held(&mut worker, &api());
    let (first, _) = resolve(&mut worker);
    worker.process.pass(Span::from_millis(4));
    reply(&mut worker, &first, gold());
    assert!(decided(&mut worker).is_empty());
    let (second, ask) = resolve(&mut worker);
    assert_eq!((&*ask.plugin, second.waits), ("regions", Span::from_millis(8)));
    reply(&mut worker, &second, gives(&[None]));
    assert_eq!(worker.gate.take_decided(), [(ticket, Verdict::Allow(Vec::new()))]);
    assert!(!worker.gate.is_asking());
}

#[test]
fn plugin_and_store_together_take_no_longer_than_one_may() {
    let limits = json!([{
        "name": "l", "rate": "9/s", "scope": "global", "exact": true,
        "key": [{ "plugin": "tiers.tier" }],
    }]);
    let mut worker = Process::default().worker(&rules(limits));
    let ticket = held(&mut worker, &api());
    let (asked, _) = resolve(&mut worker);
    assert_eq!(asked.waits, Span(DEADLINE.0 / 2));
    worker.process.pass(Span::from_millis(9));
    reply(&mut worker, &asked, gold());
    let store = question(&mut worker);
    assert_eq!(store.waits, Span::from_millis(11));
    let answer = Answer { outcome: Ok(Standing { remaining: 1, reset: Span::ZERO }), share_ppm: 0 };
    reply(&mut worker, &store, Ok(Answered::Exact(Reply { answers: vec![answer] })));
    assert_eq!(worker.gate.take_decided(), [(ticket, Verdict::Allow(Vec::new()))]);
}

#[test]
fn what_shows_something_revoked_asks_no_plugin_and_what_does_not_asks_afterwards() {
    let mut document =
        document(json!([{ "name": "l", "rate": "1/s", "key": [{ "plugin": "tiers.tier" }] }]));
    document["revocation"] = json!({ "check": ["token"] });
    document["token"] = json!({ "from": [{ "payload_header": "x-payload" }] });
    let policy = policy(document);
    let checked = |before_secs| {
        let position = Position { log: 1, number: 1, chain: 1 };
        Ok(Answered::Checked(Checked { position, age_ms: 0, before_secs: vec![before_secs] }))
    };
    // {"iss":"i","jti":"t","iat":5,"exp":10000}
    let payload = "eyJpc3MiOiJpIiwianRpIjoidCIsImlhdCI6NSwiZXhwIjoxMDAwMH0";
    let request = api().with("x-payload", payload);
    for (before_secs, is_revoked) in [(EVER, true), (0, false)] {
        let mut worker = Process::default().worker(&policy);
        let ticket = held(&mut worker, &request);
        let check = question(&mut worker);
        assert!(matches!(check.ask, Asked::Check(_)));
        worker.process.pass(Span::from_millis(4));
        reply(&mut worker, &check, checked(before_secs));
        if is_revoked {
            assert!(matches!(worker.gate.take_decided()[..], [(_, Verdict::Reject(_))]));
            assert!(!worker.gate.is_asking());
            continue;
        }
        let (asked, ask) = resolve(&mut worker);
        assert_eq!((ask.facts[0].as_deref(), asked.waits), (Some(&b"k"[..]), Span::from_millis(8)));
        reply(&mut worker, &asked, gold());
        assert_eq!(worker.gate.take_decided(), [(ticket, Verdict::Allow(Vec::new()))]);
    }
}

#[test]
fn a_request_that_is_gone_takes_nothing() {
    let mut worker = Process::default().worker(&tiered());
    held(&mut worker, &api());
    let (asked, _) = resolve(&mut worker);
    worker.gate.on_reply(&mut worker.process, asked.id, gives(&[None, None]), &mut |_| false);
    let ticket = held(&mut worker, &api());
    let (late, _) = resolve(&mut worker);
    worker.gate.on_gone(&mut worker.process, ticket);
    reply(&mut worker, &late, gives(&[None, None]));
    assert!(decided(&mut worker).is_empty());
    assert!(!worker.gate.is_asking());
    assert!(through(&mut worker, &api(), gives(&[None, None])), "the one unit is there");
}

#[test]
fn no_more_than_so_many_wait_and_the_rest_go_by_the_defaults() {
    let mut worker = Process::default().worker(&tiered());
    for _ in 0..RESOLVING_MAX {
        held(&mut worker, &api());
    }
    assert!(worker.admits(&api()) && !worker.admits(&api()), "free has one");
    let asked = worker.gate.take_questions();
    assert_eq!(asked.len(), RESOLVING_MAX);
    for question in &asked {
        reply(&mut worker, question, gold());
    }
    assert_eq!(decided(&mut worker).into_iter().filter(|is_let| *is_let).count(), 10);
    held(&mut worker, &api());
}

#[test]
fn a_request_of_more_facts_than_are_held_goes_by_the_defaults() {
    let mut worker = Process::default().worker(&tiered());
    let large = api().with("x-key", "k".repeat(FACTS_BYTES_MAX + 1));
    assert!(worker.admits(&large) && !worker.admits(&large), "free has one");
    assert_eq!(tally(&mut worker, "tiers").defaulted, 2);
}

#[test]
fn claims_are_read_before_a_request_waits() {
    let mut document = document(json!([{
        "name": "l", "rate": "1/s", "key": [{ "claim": "tenant" }, { "plugin": "tiers.tier" }],
    }]));
    document["token"] = json!({ "from": [{ "payload_header": "x-payload" }] });
    let mut worker = Process::default().worker(&policy(document));
    let of = |payload: &str| api().with("x-payload", payload);
    // {"tenant":"a"} and {"tenant":"b"}: each has a budget of its own, also while both wait.
    let (a, b) = (of("eyJ0ZW5hbnQiOiJhIn0"), of("eyJ0ZW5hbnQiOiJiIn0"));
    held(&mut worker, &a);
    held(&mut worker, &b);
    let asked = worker.gate.take_questions();
    asked.iter().for_each(|question| reply(&mut worker, question, gold()));
    assert_eq!(decided(&mut worker), [true, true]);
    assert!(!through(&mut worker, &a, gold()));
}
