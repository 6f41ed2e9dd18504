//! A policy plugin: the tier that an API key was sold as, and what a request costs by its path.

use exports::tidegate::edge::policy::{Description, Guest};
use tidegate::edge::log::{Level, write};
use tidegate::edge::types::{Fact, Want};

wit_bindgen::generate!({ path: "../..", world: "policy-plugin" });
export!(Tiers);

struct Tiers;

const TIERS: [(&[u8], &str); 2] = [(b"gk_", "gold"), (b"sk_", "silver")];

impl Guest for Tiers {
    fn describe() -> Description {
        write(Level::Info, "tiers by the prefixes of API keys");
        let wants = ["x-api-key", ":path"].map(|name| Want::Header(name.into())).into();
        let gives = ["tier".into(), "cost".into()].into();
        Description { name: "tiers".into(), version: "1.0.0".into(), wants, gives }
    }

    fn resolve(facts: Vec<Fact>) -> Result<Vec<Option<String>>, String> {
        let [key, Some(path)] = &facts[..] else { return Err("a request without a path".into()) };
        let key = key.as_deref().unwrap_or_default();
        let tier = TIERS.iter().find(|(prefix, _)| key.starts_with(prefix));
        let cost = if path.starts_with(b"/export/") { "10" } else { "1" };
        Ok(vec![tier.map(|(_, tier)| (*tier).into()), Some(cost.into())])
    }
}
