//! The cases.

use harness::tokens::{ISSUER, claims, now_secs, sign};
use serde_json::{Value, json};

/// A policy, and what becomes of requests under it.
pub(super) struct Row {
    pub(super) name: &'static str,
    pub(super) limits: Value,
    /// Further fields of the policy.
    pub(super) more: Value,
    pub(super) behind: Behind,
    pub(super) asked: Vec<Asked>,
}

/// What the policy's host is.
pub(super) enum Behind {
    /// Nobody: the policy asks for nothing.
    Nothing,
    /// A host service, in which this is revoked.
    Host { revoked: Vec<Value> },
}

/// The same request several times.
pub(super) struct Asked {
    pub(super) path: &'static str,
    pub(super) headers: Vec<(&'static str, String)>,
    /// What each of them gets.
    pub(super) statuses: Vec<u16>,
    /// What the last of them is told, if anything is said of that.
    pub(super) fields: Vec<(&'static str, &'static str)>,
}

fn ask(path: &'static str, statuses: &[u16]) -> Asked {
    Asked { path, headers: Vec::new(), statuses: statuses.to_vec(), fields: Vec::new() }
}

impl Asked {
    fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    fn told(mut self, name: &'static str, value: &'static str) -> Self {
        self.fields.push((name, value));
        self
    }
}

fn local(name: &'static str, limits: Value, asked: Vec<Asked>) -> Row {
    Row { name, limits, more: json!({}), behind: Behind::Nothing, asked }
}

fn global(name: &'static str, limits: Value, asked: Vec<Asked>) -> Row {
    let behind = Behind::Host { revoked: Vec::new() };
    Row { name, limits, more: json!({}), behind, asked }
}

pub(super) fn rows() -> Vec<Row> {
    let mut rows = algorithms();
    rows.extend(rules());
    rows.extend(globals());
    rows.push(revoked());
    rows
}

/// Local limits of every algorithm.
fn algorithms() -> Vec<Row> {
    let bucket = ask("/", &[200, 200, 429])
        .told("retry-after", "1800")
        .told("content-type", "application/problem+json")
        .told("ratelimit-policy", r#""bucket";q=2;w=3600"#)
        .told("ratelimit", r#""bucket";r=0;t=1800"#);
    vec![
        local("a token bucket", json!([{ "name": "bucket", "rate": "2/1h" }]), vec![bucket]),
        local(
            "a bucket with a burst",
            json!([{ "name": "bucket", "rate": "1/1h", "burst": 3 }]),
            vec![ask("/", &[200, 200, 200, 429])],
        ),
        local(
            "a sliding window",
            json!([{ "name": "window", "rate": "3/1h", "algorithm": "sliding_window" }]),
            vec![
                ask("/", &[200, 200, 200, 429]).told("ratelimit-policy", r#""window";q=3;w=3600"#),
            ],
        ),
        local(
            "an interpolated counter",
            json!([{ "name": "counter", "rate": "3/1h", "algorithm": "sliding_counter" }]),
            vec![
                ask("/", &[200, 200, 200, 429]).told("ratelimit-policy", r#""counter";q=3;w=3600"#),
            ],
        ),
    ]
}

/// What applies to whom, at what cost.
fn rules() -> Vec<Row> {
    let cost = json!({ "header": "x-cost", "default": 2, "max": 8 });
    vec![
        local(
            "keys and conditions",
            json!([{
                "name": "tenant", "when": { "path": "/paid" }, "key": [{ "header": "x-tenant" }],
                "rate": "1/1h",
            }]),
            vec![
                ask("/paid", &[200, 429]).header("x-tenant", "a"),
                ask("/paid", &[200, 429]).header("x-tenant", "b"),
                ask("/free", &[200, 200]).header("x-tenant", "a"),
            ],
        ),
        local(
            "the client's address",
            json!([{ "name": "address", "key": ["client_ip"], "rate": "2/1h" }]),
            vec![ask("/", &[200, 200, 429])],
        ),
        local(
            "several limits, all or nothing",
            json!([
                { "name": "wide", "rate": "3/1h" },
                { "name": "narrow", "when": { "path": "/narrow" }, "rate": "1/1h" },
            ]),
            vec![
                ask("/narrow", &[200, 429, 429]).told("ratelimit-policy", r#""narrow";q=1;w=3600"#),
                ask("/", &[200, 200, 429]).told("ratelimit-policy", r#""wide";q=3;w=3600"#),
            ],
        ),
        local(
            "costs",
            json!([{ "name": "units", "rate": "10/1h", "cost": cost }]),
            vec![
                ask("/", &[200]).header("x-cost", "8"),
                ask("/", &[429]).header("x-cost", "3"),
                ask("/", &[200, 429]),
            ],
        ),
        local(
            "a shadow refuses nothing",
            json!([{ "name": "trial", "rate": "1/1h", "shadow": true }]),
            vec![ask("/", &[200, 200, 200]).told("ratelimit", "")],
        ),
        Row {
            more: json!({ "headers": { "send": "always" } }),
            ..local(
                "standings on what is let through",
                json!([{ "name": "shown", "rate": "1/1h", "burst": 3 }]),
                vec![ask("/", &[200]).told("ratelimit-policy", r#""shown";q=3;w=10800"#)],
            )
        },
    ]
}

/// Limits over all proxies.
fn globals() -> Vec<Row> {
    let limit = |more: Value| {
        let mut limit = json!({ "name": "all", "rate": "3/1h", "scope": "global" });
        if let (Some(limit), Value::Object(more)) = (limit.as_object_mut(), more) {
            limit.extend(more);
        }
        json!([limit])
    };
    vec![
        global(
            "an exact global limit",
            limit(json!({ "exact": true, "on_error": "closed" })),
            vec![ask("/", &[200, 200, 200, 429]).told("ratelimit-policy", r#""all";q=3;w=3600"#)],
        ),
        global(
            "a leased global limit",
            limit(json!({ "on_error": "closed" })),
            vec![ask("/", &[200, 200, 200, 429]).told("ratelimit-policy", r#""all";q=3;w=3600"#)],
        ),
        Row {
            behind: Behind::Nothing,
            ..global(
                "a store that is away, closed",
                limit(json!({ "exact": true, "on_error": "closed" })),
                vec![ask("/", &[503])],
            )
        },
        Row {
            behind: Behind::Nothing,
            ..global(
                "a store that is away, open",
                limit(json!({ "exact": true, "on_error": "open" })),
                vec![ask("/", &[200, 200, 200, 200])],
            )
        },
    ]
}

/// What the host knows to be revoked.
fn revoked() -> Row {
    let exp = now_secs() + 600;
    let token = |jti: &str| sign(&claims(jti, &json!({ "exp": exp })));
    Row {
        name: "revocation",
        limits: json!([]),
        more: json!({
            "token": { "from": [{ "bearer": { "header": "x-token", "unverified": true } }] },
            "revocation": {},
        }),
        behind: Behind::Host { revoked: vec![json!({ "iss": ISSUER, "jti": "bad", "exp": exp })] },
        asked: vec![
            ask("/", &[200, 200]).header("x-token", token("good")),
            ask("/", &[401, 401])
                .header("x-token", token("bad"))
                .told("content-type", "application/problem+json"),
        ],
    }
}
