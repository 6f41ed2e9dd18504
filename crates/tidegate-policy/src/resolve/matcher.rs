//! `when`: which requests a limit applies to.
//!
//! ```yaml
//! when:
//!   path: [/api/*, "*.json"]             # one of these
//!   method: POST                         # and this
//!   header: { x-beta: true, x-tier: "gold*" }   # and this header is there, and that one like so
//!   claim: { tier: gold }                # of the token that `token` finds, if it is verified
//!   jwt: { realm: { tenant: acme } }     # a verified claim within a claim
//!   metadata: { my.namespace: { tier: gold } }
//!   plugin: { tiers.tier: gold }         # an output of a plugin
//!   not: { client_ip: 10.0.0.0/8 }
//!   any: [{ query: { debug: "1" } }, { cookie: { beta: true } }]
//! ```

use super::Resolver;
use crate::diagnostic::found;
use crate::reading::{Reader, Spot};
use crate::spelling;
use crate::text::Value;
use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::format;
use alloc::vec::Vec;
use tidegate_core::facts::Want;
use tidegate_core::policy::{Matcher, PATTERNS_MAX, Pattern, Subject, TEXT_BYTES_MAX};

/// In the order in which they are tested: cheap and likely to tell requests apart first.
const CONDITIONS: &[&str] = &[
    "path",
    "method",
    "host",
    "header",
    "client_ip",
    "cookie",
    "query",
    "route",
    "claim",
    "unverified_claim",
    "jwt",
    "metadata",
    "plugin",
    "not",
    "any",
];

/// The most elements in a property's path.
pub(super) const PATH_ELEMENTS_MAX: usize = 16;

impl Resolver {
    /// A map of conditions, all of which must hold.
    pub(super) fn matcher(&mut self, spot: &Spot<'_>) -> Option<Matcher> {
        self.fields(spot, CONDITIONS)?;
        let (mut all, mut complete) = (Vec::new(), true);
        for condition in CONDITIONS {
            if let Some(inner) = spot.field(condition) {
                complete &= self.condition(condition, &inner, &mut all).is_some();
            }
        }
        if !complete {
            return None;
        }
        let contradicted = |m: &Matcher| matches!(m, Matcher::Not(inner) if follows(&all, inner));
        if all.iter().any(contradicted) {
            let wanted = format_args!("conditions that a request can meet");
            self.doubt(spot, "a condition and, under not, its opposite", wanted, None);
        }
        Some(one_of(all, Matcher::All))
    }

    fn condition(&mut self, name: &str, spot: &Spot<'_>, all: &mut Vec<Matcher>) -> Option<()> {
        let header = |name: &str| Want::Header(name.into());
        match name {
            "path" => {
                let subject = Subject::Path(self.want(spot, header(":path"))?);
                all.push(self.test(spot, subject)?);
            }
            "method" => {
                let subject = Subject::Method(self.want(spot, header(":method"))?);
                all.push(self.test(spot, subject)?);
            }
            "host" => {
                let subject = Subject::Host(self.want(spot, header(":authority"))?);
                all.push(self.test(spot, subject)?);
            }
            "route" => {
                let subject = Subject::Property(self.want(spot, Want::Route)?);
                all.push(self.test(spot, subject)?);
            }
            "client_ip" => {
                let networks = self.networks(spot)?;
                if networks.is_empty() {
                    self.doubt_empty(spot);
                }
                let address = self.want(spot, Want::ClientAddress)?;
                all.push(Matcher::ClientIn { address, networks });
            }
            "not" => {
                let inner = self.matcher(spot)?;
                if inner == Matcher::All(Vec::new()) {
                    let wanted = format_args!("a condition: this excludes every request");
                    self.doubt(spot, "an empty map", wanted, None);
                }
                all.push(Matcher::Not(Box::new(inner)));
            }
            "any" => {
                let items = self.items(spot, PATTERNS_MAX, "maps of conditions")?;
                if items.is_empty() {
                    self.doubt_empty(spot);
                }
                let alternatives = self.every(&items, Self::matcher)?;
                all.push(one_of(alternatives, Matcher::Any));
            }
            "jwt" => {
                let path = self.claims_path();
                return self.properties(spot, &path, all);
            }
            "metadata" => {
                return self.properties(spot, &metadata_path(), all);
            }
            _ => return self.named(name, spot, all),
        }
        Some(())
    }

    /// `header`, `cookie`, `query`, claims and outputs: a map from names to patterns.
    fn named(&mut self, kind: &str, spot: &Spot<'_>, all: &mut Vec<Matcher>) -> Option<()> {
        let wanted = "a map of names and patterns, such as { x-tier: gold* }";
        let mut complete = true;
        for (name, inner) in self.entries(spot, wanted)? {
            let subject = match kind {
                "header" => self.header_subject(name, &inner),
                "cookie" => self.cookie_subject(name, &inner),
                "claim" | "unverified_claim" => {
                    self.claim_fact(kind, name, &inner).map(Subject::Property)
                }
                "plugin" => self.output_fact(name, &inner).map(Subject::Property),
                _ => self.query_subject(name, &inner),
            };
            let test = subject.and_then(|subject| self.test(&inner, subject));
            complete &= test.is_some();
            all.extend(test);
        }
        complete.then_some(())
    }

    fn header_subject(&mut self, name: &str, spot: &Spot<'_>) -> Option<Subject> {
        let name = self.header_named(name, spot)?;
        Some(Subject::Header(self.want(spot, Want::Header(name))?))
    }

    fn cookie_subject(&mut self, name: &str, spot: &Spot<'_>) -> Option<Subject> {
        let name = self.cookie_named(name, spot)?;
        let header = self.want(spot, Want::Header("cookie".into()))?;
        Some(Subject::Cookie { header, name })
    }

    fn query_subject(&mut self, name: &str, spot: &Spot<'_>) -> Option<Subject> {
        let name = self.query_named(name, spot)?;
        let path = self.want(spot, Want::Header(":path".into()))?;
        Some(Subject::Query { path, name })
    }

    /// A query parameter's name.
    pub(super) fn query_named(&mut self, name: &str, spot: &Spot<'_>) -> Option<Box<str>> {
        if !name.is_empty() && name.len() <= TEXT_BYTES_MAX {
            return Some(name.into());
        }
        self.wrong(spot, format_args!("a query parameter's name of 1 to {TEXT_BYTES_MAX} bytes"));
        None
    }

    /// `jwt` and `metadata`: a map from keys to patterns, or to such a map one level down.
    fn properties(
        &mut self,
        spot: &Spot<'_>,
        above: &[Box<str>],
        all: &mut Vec<Matcher>,
    ) -> Option<()> {
        let wanted = "a map of names and patterns, such as { tier: gold* }";
        let mut complete = true;
        for (name, inner) in self.entries(spot, wanted)? {
            let mut path = above.to_vec();
            path.push(name.into());
            if path.len() > PATH_ELEMENTS_MAX || name.is_empty() || name.len() > TEXT_BYTES_MAX {
                self.wrong(&inner, format_args!("at most {PATH_ELEMENTS_MAX} names, none empty"));
                complete = false;
            } else if matches!(inner.node.value, Value::Map(_)) {
                complete &= self.properties(&inner, &path, all).is_some();
            } else if path == [metadata_path(), alloc::vec![name.into()]].concat() {
                // A namespace is a map itself; nothing in it has been named yet.
                let hint = name.split_once('/').map(|(namespace, key)| {
                    format!("write {{ {namespace}: {{ {key}: PATTERN }} }}")
                });
                let wanted = format_args!("a map of the namespace's keys and their patterns");
                self.wrong_found(&inner, &found(inner.node), wanted, hint);
                complete = false;
            } else {
                let want = self.want(&inner, Want::Property(path));
                let test = want.and_then(|want| self.test(&inner, Subject::Property(want)));
                complete &= test.is_some();
                all.extend(test);
            }
        }
        complete.then_some(())
    }

    /// A pattern or several, one of which must match; or `true` for any value and `false`
    /// for none at all.
    fn test(&mut self, spot: &Spot<'_>, subject: Subject) -> Option<Matcher> {
        let always_there =
            matches!(subject, Subject::Path(_) | Subject::Method(_) | Subject::Host(_));
        if let Value::Bool(present) = spot.node.value
            && !always_there
        {
            return Some(Matcher::Present { subject, present });
        }
        let items = self.one_or_more(spot, PATTERNS_MAX, "patterns")?;
        if items.is_empty() {
            self.doubt_empty(spot);
        }
        let patterns = self.every(&items, |this, item| this.pattern(item, &subject))?;
        Some(Matcher::Test { subject, patterns })
    }

    fn pattern(&mut self, spot: &Spot<'_>, subject: &Subject) -> Option<Pattern> {
        let is_text = matches!(subject, Subject::Property(fact) if !self.has_digits(*fact));
        let text = self.value(spot, !is_text)?;
        let text = match subject {
            Subject::Method(_) => self.method(&text, spot)?,
            Subject::Host(_) => text.to_ascii_lowercase().into(),
            _ => text,
        };
        if let Some((wanted, hint)) = misses(&text, subject) {
            self.doubt(spot, &found(spot.node), format_args!("{wanted}"), hint);
        }
        let pattern = spelling::pattern(&text);
        if pattern.is_none() {
            self.wrong(spot, format_args!("a pattern with at most {} *", spelling::STARS_MAX));
        }
        pattern
    }

    /// A method, in capitals.
    fn method(&mut self, text: &str, spot: &Spot<'_>) -> Option<Cow<'static, str>> {
        if spelling::is_token(text) {
            return Some(text.to_ascii_uppercase().into());
        }
        let words: Vec<&str> = text.split([' ', ',', '|']).filter(|it| !it.is_empty()).collect();
        let several = words.len() > 1 && words.iter().all(|word| spelling::is_token(word));
        let hint = several.then(|| format!("write [{}]", words.join(", ")));
        self.wrong_found(spot, &found(spot.node), format_args!("a method, such as GET"), hint);
        None
    }

    /// A text to compare with; a whole number counts as its digits if the proxy would give
    /// digits too.
    pub(super) fn value<'s>(&mut self, spot: &Spot<'s>, digits: bool) -> Option<Cow<'s, str>> {
        match spot.node.value {
            Value::Whole(number) if digits => Some(format!("{number}").into()),
            Value::Whole(_) => {
                let wanted = format_args!("a text: claims and metadata are compared as text only");
                self.wrong(spot, wanted);
                None
            }
            _ => self.text(spot, "a text").map(Cow::Borrowed),
        }
    }

    /// Where the proxy's JWT filter keeps verified claims.
    pub(super) fn claims_path(&self) -> Vec<Box<str>> {
        let mut path = metadata_path();
        path.extend(["envoy.filters.http.jwt_authn".into(), self.jwt_payload_key.clone()]);
        path
    }

    fn doubt_empty(&mut self, spot: &Spot<'_>) {
        let wanted = format_args!("at least one: an empty list matches no request");
        self.doubt(spot, "an empty list", wanted, None);
    }
}

/// Where the proxy keeps what other filters noted about a request.
pub(super) fn metadata_path() -> Vec<Box<str>> {
    alloc::vec!["metadata".into(), "filter_metadata".into()]
}

/// Why a pattern can never match its subject, and what may have been meant.
fn misses(text: &str, subject: &Subject) -> Option<(&'static str, Option<alloc::string::String>)> {
    match subject {
        Subject::Path(_) if text.contains(['?', '#']) => {
            let hint = "the path is compared without its query; there is query: { NAME: VALUE }";
            Some(("a path without ? and #", Some(hint.into())))
        }
        // `*` alone is the path of `OPTIONS *`, and a pattern for anything.
        Subject::Path(_) if !text.starts_with(['/', '*']) => {
            Some(("a path, which starts with / (or *)", Some(format!("write /{text}"))))
        }
        Subject::Host(_) if text.contains('/') => Some(("a host name, without / in it", None)),
        Subject::Host(_) if !text.starts_with('[') => {
            let (name, _) = text.rsplit_once(':')?;
            let hint = format!("hosts are compared without their port: write {name}");
            Some(("a host name without a port", Some(hint)))
        }
        _ => None,
    }
}

/// Wraps several in `group`; one alone needs no group.
fn one_of(mut matchers: Vec<Matcher>, group: fn(Vec<Matcher>) -> Matcher) -> Matcher {
    match matchers.pop() {
        Some(only) if matchers.is_empty() => only,
        Some(last) => {
            matchers.push(last);
            group(matchers)
        }
        None => group(matchers),
    }
}

/// Whether a request that meets all of `given` surely meets `claim`. May say no where a
/// cleverer one would say yes.
fn follows(given: &[Matcher], claim: &Matcher) -> bool {
    match claim {
        Matcher::All(parts) => !parts.is_empty() && parts.iter().all(|part| follows(given, part)),
        Matcher::Any(parts) => parts.iter().any(|part| follows(given, part)),
        _ => given.iter().any(|known| implies(known, claim)),
    }
}

fn implies(known: &Matcher, claim: &Matcher) -> bool {
    match (known, claim) {
        (
            Matcher::Test { subject, patterns },
            Matcher::Test { subject: other, patterns: wider },
        ) => {
            let covered = |narrow: &Pattern| wider.iter().any(|wide| covers(wide, narrow));
            subject == other && !patterns.is_empty() && patterns.iter().all(covered)
        }
        (Matcher::Test { subject, .. }, Matcher::Present { subject: other, present: true }) => {
            subject == other
        }
        _ => known == claim,
    }
}

/// Whether every text that `narrow` matches is one that `wide` matches.
fn covers(wide: &Pattern, narrow: &Pattern) -> bool {
    match (wide, narrow) {
        (Pattern::Prefix(wide), Pattern::Exact(text) | Pattern::Prefix(text)) => {
            text.starts_with(&**wide)
        }
        (Pattern::Suffix(wide), Pattern::Exact(text) | Pattern::Suffix(text)) => {
            text.ends_with(&**wide)
        }
        _ => wide == narrow,
    }
}
