//! What clients are told.

use crate::proxy::{Process, Request, policy};
use serde_json::{Value, json};
use tidegate_core::headers::{self, Field};
use tidegate_core::policy::Policy;
use tidegate_core::time::Span;
use tidegate_core::verdict::Verdict;

fn shop(headers: Value, limits: Value) -> Policy {
    policy(json!({ "tidegate": 1, "domain": "shop", "headers": headers, "limits": limits }))
}

fn field<'a>(fields: &'a [Field], name: &str) -> Option<&'a str> {
    fields.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str())
}

#[test]
fn a_refusal_says_what_and_how_long() {
    let policy = shop(
        json!({ "x_ratelimit": true }),
        json!([{ "name": "per-client", "rate": "10/1m", "burst": 3 }]),
    );
    let process = Process::default();
    let mut worker = process.worker(&policy);
    assert_eq!(worker.admitted(&Request::new(), 3), 3);
    process.pass(Span::from_millis(1_500));
    let response = headers::refusal(&policy, &worker.denial(&Request::new()));
    assert_eq!((response.status, response.grpc_status), (429, 8));
    assert_eq!(response.details, "tidegate{limit=per-client}");
    let told = |name| field(&response.fields, name);
    assert_eq!(told("content-type"), Some("application/problem+json"));
    assert_eq!(told("retry-after"), Some("5"), "4.5 s, rounded up");
    assert_eq!(told("ratelimit-policy"), Some("\"per-client\";q=3;w=18"));
    assert_eq!(told("ratelimit"), Some("\"per-client\";r=0;t=5"));
    assert_eq!(told("x-ratelimit-limit"), Some("3"));
    assert_eq!(told("x-ratelimit-remaining"), Some("0"));
    assert_eq!(told("x-ratelimit-reset"), Some("5"));
    let body: Value = serde_json::from_str(&response.body).unwrap();
    assert_eq!(body["type"], "https://iana.org/assignments/http-problem-types#quota-exceeded");
    assert_eq!(body["status"], 429);
    assert_eq!(body["violated-policies"], json!(["per-client"]));
}

#[test]
fn a_hopeless_cost_names_no_time() {
    let policy = shop(
        json!({}),
        json!([
            { "name": "a", "rate": "5/1m", "cost": { "header": "x-cost", "default": 1, "max": 100 } }
        ]),
    );
    let mut worker = Process::default().worker(&policy);
    let response = headers::refusal(&policy, &worker.denial(&Request::new().with("x-cost", "6")));
    assert_eq!(response.status, 429);
    assert_eq!(field(&response.fields, "retry-after"), None);
    assert!(response.body.contains("\"violated-policies\":[\"a\"]"), "{}", response.body);
}

#[test]
fn fields_that_are_not_wanted_are_not_sent() {
    let policy = shop(json!({ "ratelimit": false }), json!([{ "name": "a", "rate": "1/1m" }]));
    let mut worker = Process::default().worker(&policy);
    worker.admits(&Request::new());
    let response = headers::refusal(&policy, &worker.denial(&Request::new()));
    assert!(response.fields.iter().all(|(name, _)| !name.contains("ratelimit")));
    assert_eq!(field(&response.fields, "retry-after"), Some("60"));
}

#[test]
fn clients_let_through_can_be_told_too() {
    let policy = shop(
        json!({ "send": "always" }),
        json!([
            { "name": "a", "rate": "100/1m" }, { "name": "b", "rate": "5/1m", "algorithm": "sliding_window" },
        ]),
    );
    let mut worker = Process::default().worker(&policy);
    for left in [(99, 4), (98, 3)] {
        let Verdict::Allow(standings) = worker.verdict(&Request::new()) else { panic!("refused") };
        let mut fields = Vec::new();
        headers::standing_fields(&policy, &standings, &mut fields);
        let (a, b) = left;
        let told = field(&fields, "ratelimit").unwrap();
        assert!(told.starts_with(&format!("\"a\";r={a};t=")), "{told}");
        assert!(told.contains(&format!("\"b\";r={b};t=")), "{told}");
    }
}
