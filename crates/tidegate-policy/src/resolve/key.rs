//! `key`: whose budget a request draws on, and which particular values have another.
//!
//! ```yaml
//! key: [client_ip, { header: x-device }, { jwt: [realm, tenant] }]
//! ```

use super::Resolver;
use super::matcher::{PATH_ELEMENTS_MAX, metadata_path};
use crate::diagnostic::found;
use crate::reading::{Reader, Spot, did_you_mean};
use crate::spelling;
use crate::text::Value;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use tidegate_core::facts::Want;
use tidegate_core::policy::{Cidr, KEY_PARTS_MAX, KeyPart, KeyValue};

/// Parts that stand for themselves.
const PLAIN: &[&str] = &["client_ip", "path", "method", "host", "route"];

/// Parts that need a name, or bits.
const NAMED: &[&str] = &[
    "client_ip",
    "header",
    "cookie",
    "query",
    "claim",
    "unverified_claim",
    "jwt",
    "metadata",
    "plugin",
    "const",
];

const WANTED: &str = "client_ip, path, method, host, route, or one of { header: NAME }, \
                      { cookie: NAME }, { query: NAME }, { claim: NAME }, { jwt: CLAIM }, \
                      { metadata: [NAMESPACE, KEY] }, { plugin: NAME.OUTPUT }, { const: TEXT }, { client_ip: { v4: BITS, v6: BITS } }";

/// One client has one IPv4 address.
const V4_BITS: u8 = 32;

/// One client has a whole /64 of IPv6 addresses, and may use a new one for each request.
const V6_BITS: u8 = 64;

impl Resolver {
    /// The parts of a key, or one part alone; an empty list is one budget for all.
    pub(super) fn key(&mut self, spot: &Spot<'_>) -> Option<Vec<KeyPart>> {
        let items = self.one_or_more(spot, KEY_PARTS_MAX, "key parts")?;
        let parts = self.every(&items, Self::part)?;
        for (index, (part, item)) in parts.iter().zip(&items).enumerate() {
            if parts.iter().take(index).any(|earlier| earlier == part) {
                let wanted = format_args!("it once: a second time tells no two requests apart");
                self.doubt(item, "the same part of the key again", wanted, None);
            }
        }
        Some(parts)
    }

    fn part(&mut self, spot: &Spot<'_>) -> Option<KeyPart> {
        if let Some(word) = spot.text() {
            return self.plain_part(word, spot);
        }
        let Value::Map(fields) = &spot.node.value else {
            self.wrong(spot, format_args!("{WANTED}"));
            return None;
        };
        if fields.len() != 1 {
            let found = format!("a map of {} fields", fields.len());
            let wanted = format_args!("a map of one field: each part of a key stands by itself");
            self.wrong_found(spot, &found, wanted, None);
            return None;
        }
        self.fields(spot, NAMED)?;
        NAMED
            .iter()
            .find_map(|name| Some((*name, spot.field(name)?)))
            .and_then(|(kind, inner)| self.named_part(kind, &inner))
    }

    fn plain_part(&mut self, word: &str, spot: &Spot<'_>) -> Option<KeyPart> {
        let header = |name: &str| Want::Header(name.into());
        Some(match word {
            "client_ip" => {
                let address = self.want(spot, Want::ClientAddress)?;
                KeyPart::ClientIp { address, v4_bits: V4_BITS, v6_bits: V6_BITS }
            }
            "path" => KeyPart::Path(self.want(spot, header(":path"))?),
            "method" => KeyPart::Method(self.want(spot, header(":method"))?),
            "host" => KeyPart::Host(self.want(spot, header(":authority"))?),
            "route" => KeyPart::Property(self.want(spot, Want::Route)?),
            _ => {
                let hint = if NAMED.contains(&word) {
                    Some(format!("write {{ {word}: NAME }}"))
                } else {
                    did_you_mean(spelling::nearest(word, PLAIN))
                };
                self.wrong_found(spot, &found(spot.node), format_args!("{WANTED}"), hint);
                return None;
            }
        })
    }

    fn named_part(&mut self, kind: &str, spot: &Spot<'_>) -> Option<KeyPart> {
        Some(match kind {
            "client_ip" => return self.prefixes(spot),
            "header" => {
                let name = self.header_name(spot)?;
                KeyPart::Header(self.want(spot, Want::Header(name))?)
            }
            "cookie" => {
                let name = self.text(spot, "a cookie's name")?;
                let name = self.cookie_named(name, spot)?;
                KeyPart::Cookie { header: self.want(spot, Want::Header("cookie".into()))?, name }
            }
            "query" => {
                let name = self.text(spot, "a query parameter's name")?;
                let name = self.query_named(name, spot)?;
                KeyPart::Query { path: self.want(spot, Want::Header(":path".into()))?, name }
            }
            "claim" | "unverified_claim" => {
                let name = self.text(spot, "a claim's name")?;
                KeyPart::Property(self.claim_fact(kind, name, spot)?)
            }
            "plugin" => {
                let name = self.text(spot, "an output, as NAME.OUTPUT")?;
                KeyPart::Property(self.output_fact(name, spot)?)
            }
            "jwt" => self.property(spot, self.claims_path(), 1)?,
            "metadata" => self.property(spot, metadata_path(), 2)?,
            _ => KeyPart::Const(self.text(spot, "a text")?.into()),
        })
    }

    /// `{ v4: 24, v6: 48 }`
    fn prefixes(&mut self, spot: &Spot<'_>) -> Option<KeyPart> {
        self.fields(spot, &["v4", "v6"])?;
        let v4 = self.optional(spot, "v4", V4_BITS, |this, at| this.bits(at, 32));
        let v6 = self.optional(spot, "v6", V6_BITS, |this, at| {
            let bits = this.bits(at, 128)?;
            if bits > V6_BITS {
                let wanted = format_args!("at most 64: who has one address has 2^64 of them");
                this.doubt(at, &found(at.node), wanted, None);
            }
            Some(bits)
        });
        let address = self.want(spot, Want::ClientAddress)?;
        Some(KeyPart::ClientIp { address, v4_bits: v4?, v6_bits: v6? })
    }

    fn bits(&mut self, spot: &Spot<'_>, most: u32) -> Option<u8> {
        u8::try_from(self.whole(spot, (1, most))?).ok()
    }

    /// A property, by the names of its path below `path`; at least `least` of them.
    fn property(
        &mut self,
        spot: &Spot<'_>,
        mut path: Vec<Box<str>>,
        least: usize,
    ) -> Option<KeyPart> {
        let items = self.one_or_more(spot, PATH_ELEMENTS_MAX - path.len(), "names")?;
        if items.len() < least {
            let wanted: &[&str] = &["", "a claim's name", "a list: [NAMESPACE, KEY]"];
            let wanted = wanted.get(least).copied().unwrap_or_default();
            self.wrong(spot, format_args!("{wanted}"));
            return None;
        }
        path.extend(self.every(&items, Self::element)?);
        Some(KeyPart::Property(self.want(spot, Want::Property(path))?))
    }

    /// The key values of an override of the last limit: one for each part of its key.
    pub(super) fn values(&mut self, spot: &Spot<'_>) -> Option<Vec<Option<KeyValue>>> {
        let items = self.one_or_more(spot, KEY_PARTS_MAX, "key values")?;
        let key = &self.policy.limits.last()?.key;
        if items.len() != key.len() {
            let found = plural(items.len(), "value");
            let parts = plural(key.len(), "part");
            let wanted = format_args!("one for each part of the limit's key, which has {parts}");
            self.wrong_found(spot, &found, wanted, Some("* stands for any value".into()));
            return None;
        }
        let mut parts = 0..;
        self.every(&items, |this, item| this.key_value(item, parts.next()?))
    }

    fn key_value(&mut self, spot: &Spot<'_>, part: usize) -> Option<Option<KeyValue>> {
        if spot.text() == Some("*") {
            return Some(None);
        }
        let part = self.policy.limits.last()?.key.get(part)?;
        if let KeyPart::ClientIp { v4_bits, v6_bits, .. } = *part {
            return Some(Some(KeyValue::In(self.key_network(spot, v4_bits, v6_bits)?)));
        }
        let is_text = matches!(part, KeyPart::Property(fact) if !self.has_digits(*fact));
        let (is_host, is_method) =
            (matches!(part, KeyPart::Host(_)), matches!(part, KeyPart::Method(_)));
        let text = self.value(spot, !is_text)?;
        if text.contains('*') {
            self.wrong(spot, format_args!("a whole value, or * alone for any"));
            return None;
        }
        Some(Some(KeyValue::Is(if is_host {
            text.to_ascii_lowercase().into()
        } else if is_method {
            text.to_ascii_uppercase().into()
        } else {
            text.into()
        })))
    }

    /// A network as wide as the key's prefix or wider: a key holds no more of an address.
    fn key_network(&mut self, spot: &Spot<'_>, v4_bits: u8, v6_bits: u8) -> Option<Cidr> {
        let network = self.network(spot)?;
        let bits = if network.network.is_ipv4() { v4_bits } else { v6_bits };
        if network.bits <= bits {
            return Some(network);
        }
        let hint = format!("the key holds {}", Cidr::holding(network.network, bits));
        let wanted = format_args!("a network no narrower than the key's own /{bits}");
        self.wrong_found(spot, &found(spot.node), wanted, Some(hint));
        None
    }
}

/// Whether every key that `narrow` matches is one that `wide` matches.
pub(super) fn covers(wide: &[Option<KeyValue>], narrow: &[Option<KeyValue>]) -> bool {
    wide.iter().zip(narrow).all(|(wide, narrow)| match (wide, narrow) {
        (None, _) => true,
        (Some(KeyValue::In(wide)), Some(KeyValue::In(narrow))) => {
            wide.bits <= narrow.bits && wide.contains(narrow.network)
        }
        _ => wide == narrow,
    })
}

fn plural(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}
