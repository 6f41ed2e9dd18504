//! Which limits apply.

use crate::proxy::{Process, Request, limits, policy};
use serde_json::{Value, json};

/// Whether a limit with this `when` applies to a request.
fn applies(when: Value, request: &Request) -> bool {
    let policy = limits(json!([{ "name": "a", "when": when, "rate": "1/1d" }]));
    let mut worker = Process::default().worker(&policy);
    worker.admitted(request, 2) == 1
}

#[test]
fn paths_match_with_stars_and_without_queries() {
    let at = |path: &str| Request::new().with(":path", path);
    for (pattern, path, expected) in [
        ("/api/*", "/api/v1/items?x=/no", true),
        ("/api/*", "/apis", false),
        ("/api", "/api?x", true),
        ("*.php", "/a/b.php?q", true),
        ("/a/*/c/*", "/a/b/c/", true),
        ("/a/*/c", "/a/c", false),
        ("/a*a", "/a", false),
        ("*", "/", true),
        ("/", "?x", true),
    ] {
        assert_eq!(applies(json!({ "path": pattern }), &at(path)), expected, "{pattern} {path}");
    }
}

#[test]
fn all_entries_of_a_rule_must_match() {
    let when = json!({
        "path": "/api/*", "method": ["GET", "POST"], "host": "*.example",
        "header": { "x-tier": "free*" }, "query": { "v": "2" }, "cookie": { "beta": true },
    });
    let full = Request::new()
        .with(":path", "/api/x?v=2")
        .with(":method", "POST")
        .with(":authority", "SHOP.example:8443")
        .with("x-tier", "free-eu")
        .with("cookie", "beta=1");
    assert!(applies(when.clone(), &full));
    for (name, value) in [
        (":path", "/api/x?v=3"),
        (":method", "PUT"),
        (":authority", "shop.test"),
        ("x-tier", "paid"),
        ("cookie", "alpha=1"),
    ] {
        assert!(!applies(when.clone(), &full.clone().with(name, value)), "{name}: {value}");
    }
}

#[test]
fn not_and_any_combine() {
    let when = json!({
        "not": { "path": "/health" },
        "any": [{ "method": "POST" }, { "header": { "x-bulk": true } }],
    });
    let request = Request::new().with(":path", "/x");
    assert!(!applies(when.clone(), &request));
    assert!(applies(when.clone(), &request.clone().with(":method", "POST")));
    assert!(applies(when.clone(), &request.clone().with("x-bulk", "")));
    assert!(!applies(when, &request.with(":method", "POST").with(":path", "/health?x")));
}

#[test]
fn networks_can_be_a_condition_and_can_be_let_through() {
    let when = json!({ "client_ip": ["198.51.100.0/24", "2001:db8::/32"] });
    let at = |address: &str| Request::new().with("address", address);
    assert!(applies(when.clone(), &at("198.51.100.200:1")));
    assert!(applies(when.clone(), &at("[2001:db8:ffff::1]:1")));
    assert!(!applies(when, &at("198.51.101.1:1")));
    let policy = policy(json!({
        "tidegate": 1, "domain": "shop", "allow": ["10.0.0.0/8"],
        "limits": [{ "name": "a", "rate": "1/1d" }],
    }));
    let mut worker = Process::default().worker(&policy);
    assert_eq!(worker.admitted(&at("10.9.8.7:1"), 10), 10);
    assert_eq!(worker.admitted(&at("11.9.8.7:1"), 10), 1);
    assert_eq!(
        worker.admitted(&Request::default(), 10),
        0,
        "an unknown address is not let through"
    );
}

#[test]
fn preflights_pass_only_if_the_policy_says_so() {
    let preflight = Request::new()
        .with(":method", "OPTIONS")
        .with("origin", "https://a.example")
        .with("access-control-request-method", "PUT");
    for (mode, expected) in [("count", 1), ("bypass", 10)] {
        let policy = policy(json!({
            "tidegate": 1, "domain": "shop", "cors_preflight": mode,
            "limits": [{ "name": "a", "rate": "1/1d" }],
        }));
        let mut worker = Process::default().worker(&policy);
        assert_eq!(worker.admitted(&preflight, 10), expected, "{mode}");
        let plain = Request::new().with(":method", "OPTIONS");
        assert!(worker.admitted(&plain, 10) <= 1, "OPTIONS alone is no preflight");
    }
}
