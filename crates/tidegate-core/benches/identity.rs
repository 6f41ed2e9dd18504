//! Nanoseconds to find out who a request is, on this machine: `cargo bench -p tidegate-core --bench
//! identity`. A token of ten claims, 300 bytes of payload; hashing its seven ids apart.

#[path = "../tests/identity/request.rs"]
mod request;

use divan::{Bencher, black_box};
use request::{Request, base64url, policy, token, verified};
use serde_json::{Value, json};
use std::cell::RefCell;
use tidegate_core::revoke::identity::Parts;
use tidegate_core::revoke::{Id, Identity};
use tidegate_core::token::Reading;

fn main() {
    divan::main();
}

fn payload() -> Value {
    json!({
        "iss": "https://issuer.example/realms/shop", "sub": "5f1c0a52-8f0e-4f3c-9e4a-0c6d1f6b2a11",
        "jti": "c7a1f0de-31c3-4a6b-a1d2-6f7f0b9c5e44", "aud": ["shop", "account"],
        "azp": "storefront", "sid": "9b7d3c1e-2f4a-4c6d-8e0f-1a2b3c4d5e6f", "tid": "acme",
        "scope": "openid profile email", "iat": 1_700_000_000, "exp": 1_700_003_600,
    })
}

/// Reads the same request over and over, with ids made by `make`.
fn read(bencher: Bencher<'_, '_>, from: Value, request: Request, make: fn(Parts<'_>) -> Id) {
    let policy = policy(json!({
        "token": { "from": [from] }, "revocation": { "claims": { "tenant": "tid" } },
    }));
    let (mut identity, mut reading) = (Identity::default(), Reading::new(&policy));
    let request = RefCell::new(request);
    let rules = policy.revocation.as_ref().expect("rules");
    bencher.bench_local(|| {
        reading.begin();
        let facts = &mut *request.borrow_mut();
        let shows = identity.read(rules, (&policy, facts), &mut reading, &[], &mut |it| make(it));
        assert!(black_box(shows) == Ok(true) && identity.ids.len() >= 6);
    });
}

fn unhashed(parts: Parts<'_>) -> Id {
    Id([black_box(parts).kind as u8; 16])
}

fn hashed(parts: Parts<'_>) -> Id {
    parts.id()
}

#[divan::bench(args = ["verified", "payload", "token"])]
fn claims(bencher: Bencher<'_, '_>, from: &str) {
    let (from, request) = source(from);
    read(bencher, from, request, unhashed);
}

#[divan::bench(args = ["verified", "payload", "token"])]
fn claims_and_ids(bencher: Bencher<'_, '_>, from: &str) {
    let (from, request) = source(from);
    read(bencher, from, request, hashed);
}

fn source(from: &str) -> (Value, Request) {
    let request = Request::default();
    match from {
        "verified" => (json!({ "jwt_authn": {} }), request.metadata(verified(&payload()))),
        "payload" => {
            let payload = base64url(payload().to_string());
            (json!({ "payload_header": "x-payload" }), request.header("x-payload", payload))
        }
        _ => {
            let place = json!({ "header": "authorization", "unverified": true });
            let token = format!("Bearer {}", token(&payload()));
            (json!({ "bearer": place }), request.header("authorization", token))
        }
    }
}
