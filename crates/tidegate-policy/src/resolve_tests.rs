use super::*;
use crate::text::{self, Field, Node, Value};
use alloc::string::{String, ToString};
use alloc::vec;
use proptest::prelude::*;
use tidegate_core::limit::{Algorithm, Quota};
use tidegate_core::policy::{
    Cost, KeyPart, KeyValue, Missing, OnError, Override, Pattern, Subject,
};

fn read(json: &str) -> Resolved {
    resolve(&serde_json::from_str(json).unwrap())
}

/// Resolves a policy of one limit, given without its name.
fn limit(json: &str) -> (Policy, Limit) {
    let whole = format!(
        r#"{{"tidegate": 1, "domain": "d", "host": {{"cluster": "h"}}, "limits": [{{"name": "l", {json}}}]}}"#
    );
    let resolved = read(&whole);
    assert_eq!(resolved.diagnostics, [], "{json}");
    let mut policy = resolved.policy.unwrap();
    let limit = policy.limits.remove(0);
    (policy, limit)
}

fn told(json: &str) -> Vec<String> {
    read(json).diagnostics.iter().map(ToString::to_string).collect()
}

fn quota(algorithm: Algorithm, count: u32, secs: u64, burst: u32) -> Option<Quota> {
    Some(Quota::new(algorithm, count, Span::from_secs(secs), burst).unwrap())
}

#[test]
fn a_short_policy_gets_every_default() {
    let resolved =
        read(r#"{"tidegate": 1, "domain": "shop", "limits": [{"name": "all", "rate": "100/1m"}]}"#);
    assert_eq!(resolved.diagnostics, []);
    let all = Limit {
        name: "all".into(),
        when: Matcher::All(vec![]),
        key: vec![],
        missing: Missing::Shared,
        quota: quota(Algorithm::TokenBucket, 100, 60, 100),
        overrides: vec![],
        scope: Scope::Local,
        on_error: OnError::LocalShare,
        cost: Cost::Const(1),
        shadow: false,
    };
    let policy = Policy {
        domain: "shop".into(),
        wants: vec![],
        limits: vec![all],
        allow: vec![],
        preflight: Preflight::Count,
        headers: HeaderFields { ratelimit: true, x_ratelimit: false, on_allow: false },
        token: None,
        plugins: vec![],
        revocation: None,
        host: None,
        proxies_max: 1,
        table_keys_max: 65_536,
    };
    assert_eq!(resolved.policy, Some(policy));
}

#[test]
fn everything_outside_limits_is_read() {
    let resolved = read(
        r#"{"tidegate": 1, "domain": "shop", "allow": ["10.0.0.0/8", "::1"], "cors_preflight": "bypass",
            "headers": {"ratelimit": false, "x_ratelimit": true, "send": "always"},
            "host": {"cluster": "tidegate", "authority": "tidegate.svc:8081", "deadline": "50ms", "breaker": "2s"},
            "proxies_max": 8, "table_keys_max": 4096,
            "limits": [{"name": "g", "rate": "1/s", "scope": "global"}]}"#,
    );
    assert_eq!(resolved.diagnostics, []);
    let policy = resolved.policy.unwrap();
    assert_eq!(
        policy.allow.iter().map(Cidr::to_string).collect::<Vec<_>>(),
        ["10.0.0.0/8", "::1/128"]
    );
    assert!(policy.wants.contains(&Want::ClientAddress));
    let Preflight::Bypass { method, origin, requested } = policy.preflight else { panic!() };
    let header = |id: WantId| match &policy.wants[usize::from(id.0)] {
        Want::Header(name) => name.to_string(),
        other => panic!("{other:?}"),
    };
    assert_eq!(header(method), ":method");
    assert_eq!(header(origin), "origin");
    assert_eq!(header(requested), "access-control-request-method");
    assert_eq!(
        policy.headers,
        HeaderFields { ratelimit: false, x_ratelimit: true, on_allow: true }
    );
    let host = Host {
        cluster: "tidegate".into(),
        authority: "tidegate.svc:8081".into(),
        deadline: Span::from_millis(50),
        breaker: Span::from_secs(2),
    };
    assert_eq!(policy.host, Some(host));
    assert_eq!((policy.proxies_max, policy.table_keys_max), (8, 4096));
}

#[test]
fn a_host_is_known_by_its_cluster_unless_told_otherwise() {
    let (policy, limit) =
        limit(r#""rate": "1/s", "scope": "global", "exact": true, "on_error": "closed""#);
    let host = policy.host.unwrap();
    assert_eq!((&*host.cluster, &*host.authority), ("h", "h"));
    assert_eq!((host.deadline, host.breaker), (Span::from_millis(20), Span::from_secs(1)));
    assert_eq!(
        (limit.scope, limit.on_error),
        (Scope::Global { exact: true, escrow: false }, OnError::Closed)
    );
}

#[test]
fn a_host_that_no_limit_needs_is_left_out() {
    let (policy, _) = limit(r#""rate": "1/s""#);
    assert_eq!(policy.host, None);
}

#[test]
fn every_part_of_a_key_is_read_from_where_it_is() {
    let (policy, limit) = limit(r#""rate": "1/s", "key": ["client_ip", "path"]"#);
    assert_eq!(policy.wants, [Want::ClientAddress, Want::Header(":path".into())]);
    assert_eq!(
        limit.key,
        [
            KeyPart::ClientIp { address: WantId(0), v4_bits: 32, v6_bits: 64 },
            KeyPart::Path(WantId(1)),
        ]
    );
    let (policy, limit) = self::limit(
        r#""rate": "1/s", "key": [{"client_ip": {"v4": 24}}, "method", "host", "route",
            {"cookie": "sid"}, {"query": "q"}, {"const": "x"}, {"header": "X-Tenant"}]"#,
    );
    let header = |name: &str| Want::Header(name.into());
    assert_eq!(
        policy.wants,
        [
            Want::ClientAddress,
            header(":method"),
            header(":authority"),
            Want::Route,
            header("cookie"),
            header(":path"),
            header("x-tenant"),
        ]
    );
    assert_eq!(
        limit.key,
        [
            KeyPart::ClientIp { address: WantId(0), v4_bits: 24, v6_bits: 64 },
            KeyPart::Method(WantId(1)),
            KeyPart::Host(WantId(2)),
            KeyPart::Property(WantId(3)),
            KeyPart::Cookie { header: WantId(4), name: "sid".into() },
            KeyPart::Query { path: WantId(5), name: "q".into() },
            KeyPart::Const("x".into()),
            KeyPart::Header(WantId(6)),
        ]
    );
}

#[test]
fn claims_and_metadata_are_properties() {
    let (policy, limit) = limit(
        r#""rate": "1/s", "key": [{"jwt": "sub"}, {"jwt": ["realm", "https://x.io/tenant"]}, {"metadata": ["ns", "a", "b"]}],
           "when": {"jwt": {"sub": true, "realm": {"tier": "gold*"}}, "metadata": {"ns": {"a": {"b": "x"}}}}"#,
    );
    let path = |path: &[&str]| Want::Property(path.iter().map(|&it| it.into()).collect());
    let jwt = "envoy.filters.http.jwt_authn";
    assert_eq!(
        policy.wants,
        [
            path(&["metadata", "filter_metadata", jwt, "payload", "realm", "tier"]),
            path(&["metadata", "filter_metadata", jwt, "payload", "sub"]),
            path(&["metadata", "filter_metadata", "ns", "a", "b"]),
            path(&["metadata", "filter_metadata", jwt, "payload", "realm", "https://x.io/tenant"]),
        ]
    );
    let parts = [1, 3, 2].map(|id| KeyPart::Property(WantId(id)));
    assert_eq!(limit.key, parts);
    let subject = |id| Subject::Property(WantId(id));
    assert_eq!(
        limit.when,
        Matcher::All(vec![
            Matcher::Test { subject: subject(0), patterns: vec![Pattern::Prefix("gold".into())] },
            Matcher::Present { subject: subject(1), present: true },
            Matcher::Test { subject: subject(2), patterns: vec![Pattern::Exact("x".into())] },
        ])
    );
}

#[test]
fn the_payload_key_says_where_claims_are() {
    let resolved = read(
        r#"{"tidegate": 1, "domain": "d", "jwt_payload_key": "claims",
            "limits": [{"name": "l", "rate": "1/s", "key": {"jwt": "sub"}}]}"#,
    );
    let wants = resolved.policy.unwrap().wants;
    let path = ["metadata", "filter_metadata", "envoy.filters.http.jwt_authn", "claims", "sub"];
    assert_eq!(wants, [Want::Property(path.map(Box::from).to_vec())]);
}

#[test]
fn conditions_mean_all_of_them() {
    let (policy, limit) = limit(
        r#""rate": "1/s", "when": {"method": ["get", "POST"], "path": "/api/*", "host": "Shop.Example",
            "not": {"client_ip": "10.0.0.0/8"}, "header": {"X-A": false, "x-version": 2},
            "any": [{"query": {"debug": "1"}}, {"cookie": {"beta": true}}]}"#,
    );
    let header = |name: &str| Want::Header(name.into());
    assert_eq!(
        policy.wants,
        [
            header(":path"),
            header(":method"),
            header(":authority"),
            header("x-a"),
            header("x-version"),
            Want::ClientAddress,
            header("cookie"),
        ]
    );
    let exact = |text: &str| Pattern::Exact(text.into());
    let test = |subject, patterns: Vec<Pattern>| Matcher::Test { subject, patterns };
    assert_eq!(
        limit.when,
        Matcher::All(vec![
            test(Subject::Path(WantId(0)), vec![Pattern::Prefix("/api/".into())]),
            test(Subject::Method(WantId(1)), vec![exact("GET"), exact("POST")]),
            test(Subject::Host(WantId(2)), vec![exact("shop.example")]),
            Matcher::Present { subject: Subject::Header(WantId(3)), present: false },
            test(Subject::Header(WantId(4)), vec![exact("2")]),
            Matcher::Not(Box::new(Matcher::ClientIn {
                address: WantId(5),
                networks: vec![Cidr { network: "10.0.0.0".parse().unwrap(), bits: 8 }],
            })),
            Matcher::Any(vec![
                test(Subject::Query { path: WantId(0), name: "debug".into() }, vec![exact("1")]),
                Matcher::Present {
                    subject: Subject::Cookie { header: WantId(6), name: "beta".into() },
                    present: true
                },
            ]),
        ])
    );
}

#[test]
fn one_condition_alone_needs_no_group() {
    let (_, limit) = limit(r#""rate": "1/s", "when": {"any": [{"path": "/a"}]}"#);
    assert!(matches!(limit.when, Matcher::Test { .. }), "{:?}", limit.when);
}

#[test]
fn overrides_have_quotas_of_their_own() {
    let (_, limit) = limit(
        r#""rate": "100/1m", "burst": 20, "key": [{"header": "x-tenant"}, "client_ip"], "missing": "skip",
            "overrides": [{"key": ["acme", "*"], "rate": "unlimited"}, {"key": ["*", "192.0.2.0/24"], "rate": "10/1m", "burst": 2}]"#,
    );
    assert_eq!(limit.missing, Missing::Skip);
    assert_eq!(limit.quota, quota(Algorithm::TokenBucket, 100, 60, 20));
    let network = Cidr { network: "192.0.2.0".parse().unwrap(), bits: 24 };
    assert_eq!(
        limit.overrides,
        [
            Override { values: vec![Some(KeyValue::Is("acme".into())), None], quota: None },
            Override {
                values: vec![None, Some(KeyValue::In(network))],
                quota: quota(Algorithm::TokenBucket, 10, 60, 2)
            },
        ]
    );
}

#[test]
fn overrides_are_counted_as_their_limit_is() {
    let (_, limit) = limit(
        r#""rate": "unlimited", "algorithm": "sliding_window", "key": "host",
            "overrides": [{"key": "Trial.Example", "rate": "10/1m"}]"#,
    );
    assert_eq!(limit.quota, None);
    let values = vec![Some(KeyValue::Is("trial.example".into()))];
    let quota = quota(Algorithm::SlidingWindow, 10, 60, 10);
    assert_eq!(limit.overrides, [Override { values, quota }]);
}

#[test]
fn a_cost_from_a_header_is_bounded_by_the_burst() {
    let (_, limit) = limit(r#""rate": "100/1m", "burst": 20, "cost": {"header": "X-Cost"}"#);
    assert_eq!(limit.cost, Cost::Header { header: WantId(0), default: 1, max: 20 });
    let (_, limit) =
        self::limit(r#""rate": "100/1m", "cost": {"header": "x-cost", "default": 0, "max": 3}"#);
    assert_eq!(limit.cost, Cost::Header { header: WantId(0), default: 0, max: 3 });
    let (_, limit) = self::limit(r#""rate": "100/1m", "cost": 3, "shadow": true"#);
    assert_eq!((limit.cost, limit.shadow), (Cost::Const(3), true));
}

#[test]
fn all_problems_are_told_at_once() {
    let told = told(
        r#"{"tidegate": 2, "domian": "shop", "limits": [
            {"name": "a", "rate": "1 min"}, {"name": "a", "rate": "0/1m", "exact": true}, 7]}"#,
    );
    assert_eq!(
        told,
        [
            "domian: found a field that is not known here, wanted one of tidegate, domain, limits, allow, \
             cors_preflight, headers, host, token, plugins, revocation, jwt_payload_key, proxies_max, table_keys_max\n  hint: did you mean domain?",
            "tidegate: found 2, wanted 1, the only version of this shape",
            "domain: found nothing, wanted a name for the policy's budgets",
            "limits[0].rate: found \"1 min\", wanted a rate such as 100/1m or 5/s, or unlimited",
            "limits[1].name: found \"a\", wanted a name of its own: limits[0] has this one",
            "limits[1].rate: found \"0/1m\", wanted a count of at least 1\n  \
             hint: a route can refuse every request without counting any",
            "limits[1].exact: found true, wanted exact only with scope: global; local is always exact\n  \
             hint: scope: global",
            "limits[2]: found 7, wanted a map of name, when, key, missing, rate, burst, algorithm, overrides, \
             scope, exact, escrow, on_error, cost, shadow",
        ]
    );
}

#[test]
fn what_a_document_says_cannot_break_a_log_line() {
    let told =
        told("{\"tidegate\": \"1\\n\\u001b[2J\\u202e\\\"\", \"domain\": \"d\", \"limits\": []}");
    assert_eq!(
        told[0],
        "tidegate: found \"1\\n\\u{1b}[2J\\u{202e}\\\"\", wanted 1, the only version of this shape"
    );
    let long = told_domain(&"x".repeat(5_000));
    assert!(long.len() < 200, "{long}");
    let path = self::told(&format!("{{\"{}\\n\": 1}}", "é".repeat(500)));
    assert!(path[0].starts_with("[\"\\u{e9}\\u{e9}"), "{}", path[0]);
    assert!(path[0].len() < 900, "{}", path[0].len());
}

fn told_domain(domain: &str) -> String {
    let all = told(&format!(r#"{{"tidegate": 1, "domain": "{domain}", "limits": []}}"#));
    all.into_iter().find(|one| one.starts_with("domain")).unwrap()
}

#[test]
fn diagnostics_are_bounded_and_warnings_hide_no_error() {
    let limit = r#"{"name": "x", "rate": "1/s", "when": {"path": "api"}},"#;
    let many = limit.repeat(200);
    let told = read(&format!(
        r#"{{"tidegate": 1, "domain": "d", "limits": [{many} {{"name": "last", "rate": "no"}}]}}"#
    ));
    let count = |severity| told.diagnostics.iter().filter(|it| it.severity == severity).count();
    assert_eq!((count(Severity::Error), count(Severity::Warning)), (64, 64));
    assert_eq!(told.policy, None);
}

#[test]
fn wants_are_bounded() {
    let limits: Vec<String> = (0..=WANTS_MAX)
        .map(|n| format!(r#"{{"name": "n{n}", "rate": "1/s", "key": {{"header": "h{n}"}}}}"#))
        .collect();
    let whole = |limits: &[String]| {
        // Each needs a `when`, or too many limits would apply to every request.
        let limits = limits
            .join(",")
            .replace("\"rate\"", "\"when\": {\"header\": {\"h0\": true}}, \"rate\"");
        read(&format!(r#"{{"tidegate": 1, "domain": "d", "limits": [{limits}]}}"#))
    };
    assert_eq!(whole(&limits[..WANTS_MAX]).diagnostics, []);
    let told = whole(&limits);
    assert_eq!(told.diagnostics.len(), 1, "{:?}", told.diagnostics);
    assert_eq!(told.diagnostics[0].path, "limits[64].key[0].header".replace("[0]", ""));
}

/// Documents that look like policies: the fields that exist, and values that nearly fit.
fn documents() -> impl Strategy<Value = Node> {
    const WORDS: &[&str] = &[
        "tidegate",
        "domain",
        "limits",
        "allow",
        "cors_preflight",
        "headers",
        "host",
        "cluster",
        "deadline",
        "name",
        "when",
        "key",
        "missing",
        "rate",
        "burst",
        "algorithm",
        "overrides",
        "scope",
        "exact",
        "on_error",
        "cost",
        "shadow",
        "path",
        "method",
        "header",
        "query",
        "cookie",
        "client_ip",
        "route",
        "metadata",
        "jwt",
        "not",
        "any",
        "v4",
        "v6",
        "const",
        "default",
        "max",
        "100/1m",
        "1 min",
        "5/s",
        "unlimited",
        "*",
        "/a*",
        "10.0.0.0/8",
        "::/0",
        "global",
        "local",
        "bypass",
        "sliding_window",
        "token_bucket",
        "20ms",
        "1s",
        "x-a",
        "é\n",
        "",
        ":path",
        "closed",
        "GET",
        "a,b",
        "999983/1d",
        "4294967295/1ms",
    ];
    let words = || prop::sample::select(WORDS);
    let leaf = prop_oneof![
        words().prop_map(|word| Value::Text(word.into())),
        any::<i64>().prop_map(Value::Whole),
        (-1_i64..200).prop_map(Value::Whole),
        any::<f64>().prop_map(Value::Fraction),
        any::<bool>().prop_map(Value::Bool),
        Just(Value::Null),
        ".{0,20}".prop_map(|text| Value::Text(text.into())),
    ];
    leaf.prop_recursive(8, 128, 8, move |inner| {
        let field = (words(), inner.clone()).prop_map(|(name, value)| Field {
            name: name.into(),
            mark: None,
            node: value.into(),
        });
        prop_oneof![
            prop::collection::vec(inner.prop_map(Node::from), 0..6).prop_map(Value::List),
            prop::collection::vec(field, 0..8).prop_map(Value::Map),
        ]
    })
    .prop_map(Node::from)
}

/// Puts a random tree where a limit's fields are, so that the walk goes deep.
fn around(field: &str, node: Node) -> text::Document {
    let entry = |name: &str, node: Node| Field { name: name.into(), mark: None, node };
    let word = |text: &str| Node::from(Value::Text(text.into()));
    let limit = Value::Map(vec![
        entry("name", word("l")),
        entry("rate", word("10/1m")),
        entry("key", Value::List(vec![word("client_ip")]).into()),
        entry(field, node),
    ]);
    let limits = Value::List(vec![limit.into()]).into();
    let root = vec![
        entry("tidegate", Value::Whole(1).into()),
        entry("domain", word("d")),
        entry("limits", limits),
    ];
    text::Document { root: Value::Map(root).into() }
}

proptest! {
    #[test]
    fn any_tree_resolves_to_a_policy_or_to_reasons_why_not(node in documents()) {
        let root = resolve(&text::Document { root: node.clone() });
        prop_assert_eq!(root.policy.is_none(), root.diagnostics.iter().any(|it| it.severity == Severity::Error));
        for field in ["when", "key", "overrides", "cost", "rate", "burst", "scope"] {
            let resolved = resolve(&around(field, node.clone()));
            let refused = resolved.diagnostics.iter().any(|it| it.severity == Severity::Error);
            prop_assert_eq!(resolved.policy.is_none(), refused, "{} {:?}", field, resolved);
            for told in &resolved.diagnostics {
                prop_assert!(told.to_string().is_ascii(), "{}", told);
            }
        }
    }
}
