//! Whose budget: keys cannot be forged, merged or evaded.

use crate::proxy::{Process, Request, Worker, limits};
use serde_json::{Value, json};
use std::collections::HashMap;
use tidegate_core::ask::NoAnswer;
use tidegate_core::gate::Gate;
use tidegate_core::lease::HolderId;
use tidegate_core::time::Span;

/// A worker under which each key has one request.
fn one_each(key: Value) -> Worker {
    Process::default().worker(&limits(json!([{ "name": "a", "key": key, "rate": "1/1d" }])))
}

#[test]
fn parts_do_not_run_into_each_other() {
    let mut worker = one_each(json!([{ "header": "x-a" }, { "header": "x-b" }]));
    assert!(worker.admits(&Request::new().with("x-a", "ab").with("x-b", "c")));
    assert!(worker.admits(&Request::new().with("x-a", "a").with("x-b", "bc")));
    assert!(!worker.admits(&Request::new().with("x-a", "ab").with("x-b", "c")));
}

#[test]
fn leaving_a_part_out_is_one_budget_for_all_who_do() {
    let mut worker = one_each(json!([{ "header": "x-a" }]));
    assert!(worker.admits(&Request::new()));
    assert!(!worker.admits(&Request::new()));
    assert!(worker.admits(&Request::new().with("x-a", "")), "empty is not absent");
}

#[test]
fn a_limit_can_skip_requests_without_a_part() {
    let policy = limits(json!([
        { "name": "a", "key": [{ "header": "x-a" }], "rate": "1/1d", "missing": "skip" }
    ]));
    let mut worker = Process::default().worker(&policy);
    assert_eq!(worker.admitted(&Request::new(), 10), 10);
    assert_eq!(worker.admitted(&Request::new().with("x-a", "1"), 10), 1);
}

#[test]
fn a_client_has_one_identity_whatever_its_port_and_form() {
    let mut worker = one_each(json!(["client_ip"]));
    let at = |address: &str| Request::new().with("address", address);
    assert!(worker.admits(&at("192.0.2.7:1000")));
    for same in ["192.0.2.7:2000", "192.0.2.7", "[::ffff:192.0.2.7]:9", "::ffff:192.0.2.7"] {
        assert!(!worker.admits(&at(same)), "{same}");
    }
    assert!(worker.admits(&at("192.0.2.8:1000")));
    assert!(worker.admits(&at("[2001:db8:0:1::1]:5")));
    assert!(!worker.admits(&at("[2001:db8:0:1:ffff::9]:6")), "one /64 is one client");
    assert!(worker.admits(&at("[2001:db8:0:2::1]:5")));
}

#[test]
fn hosts_are_one_whatever_their_case_and_port() {
    let mut worker = one_each(json!(["host"]));
    assert!(worker.admits(&Request::new().with(":authority", "Shop.Example:443")));
    assert!(!worker.admits(&Request::new().with(":authority", "shop.example")));
}

#[test]
fn cookies_queries_and_paths_are_found_where_clients_write_them() {
    let mut worker = one_each(json!([{ "cookie": "sid" }, { "query": "user" }, "path"]));
    let first =
        Request::new().with("cookie", "a=1; sid=x=y ;b").with(":path", "/p?z=1&user=J%6fe+1#f");
    assert!(worker.admits(&first));
    let same = Request::new().with("cookie", "sid=x=y").with(":path", "/p?us%65r=Joe%201");
    assert!(!worker.admits(&same));
    let blanks = same.clone().with("cookie", "a=1; sid\t= x=y ; sid=z");
    assert!(!worker.admits(&blanks), "as origins read it that take blanks off");
    let other = Request::new().with("cookie", "xsid=x=y").with(":path", "/p?user=Joe+1");
    assert!(worker.admits(&other));
}

#[test]
fn any_bytes_can_be_a_key() {
    let mut worker = one_each(json!([{ "header": "x-a" }]));
    let long = vec![b'x'; 60_000];
    for value in [&b"\xff\x00\r\n"[..], b"\xff\x00\r", &long] {
        assert!(worker.admits(&Request::new().with("x-a", value)));
        assert!(!worker.admits(&Request::new().with("x-a", value)));
    }
}

#[test]
fn overrides_give_particular_keys_another_quota() {
    let policy = limits(json!([{
        "name": "a", "key": [{ "header": "x-key" }, "client_ip"], "rate": "2/1d",
        "overrides": [
            { "key": ["partner", "*"], "rate": "unlimited" },
            { "key": ["*", "198.51.100.0/24"], "rate": "1/1d" },
            { "key": ["big", "*"], "rate": "5/1d" },
        ]
    }]));
    let mut worker = Process::default().worker(&policy);
    assert_eq!(worker.admitted(&Request::key("partner"), 50), 50);
    assert_eq!(worker.admitted(&Request::key("other"), 50), 2);
    assert_eq!(worker.admitted(&Request::key("big"), 50), 5);
    let near = Request::key("big").with("address", "198.51.100.9:1");
    assert_eq!(worker.admitted(&near, 50), 1, "the first that matches holds");
}

#[test]
fn claims_are_read_from_verified_metadata() {
    let mut worker = one_each(json!([{ "jwt": "sub" }]));
    let path = "metadata/filter_metadata/envoy.filters.http.jwt_authn/payload/sub";
    assert!(worker.admits(&Request::new().with(path, "alice")));
    assert!(!worker.admits(&Request::new().with(path, "alice")));
    assert!(worker.admits(&Request::new().with(path, "bob")));
}

#[test]
fn limits_of_other_names_and_domains_are_other_budgets() {
    let process = Process::default();
    let named = |name: &str| limits(json!([{ "name": name, "rate": "1/1d" }]));
    assert!(process.worker(&named("a")).admits(&Request::new()));
    assert!(process.worker(&named("b")).admits(&Request::new()));
    assert!(!process.worker(&named("a")).admits(&Request::new()));
}

/// Two proxies share no secret, so each finds keys that it knows in another way.
#[test]
fn every_proxy_has_the_same_global_keys_however_often_it_has_seen_them() {
    let policy = limits(json!([
        { "name": "a", "key": [{ "header": "x-key" }], "rate": "9/1d", "scope": "global",
          "exact": true },
        { "name": "b", "key": [{ "header": "x-key" }], "rate": "9/1d", "scope": "global",
          "exact": true },
    ]));
    let mut proxies = [Process::default().worker(&policy), Process::default().worker(&policy)];
    proxies[1].gate = Gate::new(policy.clone(), &[8; 16], HolderId::new(u64::MAX, 0));
    let mut first = HashMap::new();
    // More than are known at once, again and again.
    for number in (0..3_000).map(|number| number * 7 % 1_000).chain(0..6_000).chain(0..500) {
        let asked = proxies.each_mut().map(|proxy| {
            let (_, question, ask) = proxy.asked(&Request::key(&number.to_string()));
            let _ = proxy.reply(question, Err(NoAnswer::StoreAway(Span::ZERO)));
            [ask.items[0].key, ask.items[1].key]
        });
        assert_eq!(asked[0], asked[1], "{number}");
        assert_ne!(asked[0][0], asked[0][1], "of two limits");
        assert_eq!(*first.entry(number).or_insert(asked[0]), asked[0], "{number}, before and now");
    }
}
