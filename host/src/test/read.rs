//! From a file to its cases, with everything that is wrong on the way told at once.
//!
//! ```yaml
//! policy: shop.yaml                    # beside this file, or a policy right here
//! plugins: { tiers: tiers.wasm }       # the policy's; of one that is left out the defaults hold
//! request: { host: shop.example }      # what requests are unless told otherwise
//! cases:
//!   - name: a burst passes, and then one request in 600 ms
//!     request: { path: /api/items }
//!     steps:
//!       - { times: 21, expect: { allowed: 20, limited: 1, limit: per-client } }
//!       - { at: 600ms, expect: allowed }
//! ```
//!
//! A case's steps are read in `read/step.rs`, requests in `read/request.rs`, what is expected
//! in `read/expect.rs`; each file has its spelling at its head.

mod expect;
mod request;
mod step;

use super::case::{Case, CaseFile, Request};
use crate::plugins;
use crate::policy_file::{self, Judged};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;
use tidegate_core::policy::{LIMITS_MAX, Policy};
use tidegate_policy::diagnostic::{Diagnostic, Severity, quoted};
use tidegate_policy::reading::{Reader, Spot, did_you_mean};
use tidegate_policy::resolve::{Resolved, resolve};
use tidegate_policy::spelling;
use tidegate_policy::text::{Document, Mark, Value};

/// The most cases in one file; nobody finds their way through more.
const CASES_MAX: usize = 1_024;

const FILE_FIELDS: &[&str] = &["policy", "plugins", "request", "cases"];

const CASE_FIELDS: &[&str] = &["name", "request", "steps"];

/// Reads a file of cases.
///
/// # Errors
///
/// What is wrong with it, or with its policy: messages of one line, perhaps with a hint on
/// a second, in the order of the file.
pub(super) fn read(path: &Path) -> Result<CaseFile, Vec<String>> {
    let document = policy_file::read(path).map_err(|unreadable| {
        let space = if unreadable.mark.is_some() { "" } else { " " };
        vec![format!("{}:{space}{unreadable}", path.display())]
    })?;
    let mut reader = CaseReader {
        path,
        diagnostics: Vec::new(),
        elsewhere: Vec::new(),
        limits: None,
        jwt_payload_key: "payload".into(),
    };
    let file = reader.file(&Spot::root(&document));
    let CaseReader { mut diagnostics, elsewhere: mut told, .. } = reader;
    diagnostics.sort_by_key(|diagnostic| diagnostic.mark);
    told.extend(diagnostics.iter().map(|diagnostic| message(path, diagnostic)));
    match file {
        Some(file) if told.is_empty() => Ok(file),
        _ => Err(told),
    }
}

fn message(path: &Path, diagnostic: &Diagnostic) -> String {
    let space = if diagnostic.mark.is_some() { "" } else { " " };
    format!("{}:{space}{diagnostic}", path.display())
}

struct CaseReader<'a> {
    path: &'a Path,
    diagnostics: Vec<Diagnostic>,
    /// About the policy, where that is another file.
    elsewhere: Vec<String>,
    /// The names of the policy's limits, if it could be read.
    limits: Option<Vec<Box<str>>>,
    /// Under which key the policy looks for a token's claims.
    jwt_payload_key: Box<str>,
}

impl Reader for CaseReader<'_> {
    fn diagnostics(&mut self) -> &mut Vec<Diagnostic> {
        &mut self.diagnostics
    }
}

impl CaseReader<'_> {
    fn file(&mut self, spot: &Spot<'_>) -> Option<CaseFile> {
        self.fields(spot, FILE_FIELDS)?;
        let policy = match spot.field("policy") {
            Some(at) => self.policy(&at),
            None => {
                let hint = self.policy_beside().map(|name| format!("policy: {name}"));
                let wanted = format_args!("the policy's file, or a policy");
                self.missing(spot, "policy", wanted, hint);
                None
            }
        };
        let plugins = self.optional(spot, "plugins", BTreeMap::new(), |this, at| {
            this.plugins(at, policy.as_ref().map(|(policy, _)| policy))
        });
        let usual = self.optional(spot, "request", Request::default(), |this, at| {
            this.request(at, &Request::default())
        });
        let usual = usual.unwrap_or_default();
        let cases = self.required(spot, "cases", "a list of cases", |this, at| {
            let items = this.items(at, CASES_MAX, "cases")?;
            if items.is_empty() {
                this.wrong(at, format_args!("at least one case"));
            }
            this.name_each_once(&items);
            this.every(&items, |this, item| this.case(item, &usual))
        });
        let (policy, configuration) = policy?;
        let path = self.path.to_owned();
        Some(CaseFile { path, policy, configuration, plugins: plugins?, cases: cases? })
    }

    /// A file's name, from this file's folder, or a policy right here.
    fn policy(&mut self, spot: &Spot<'_>) -> Option<(Policy, Vec<u8>)> {
        let document = match &spot.node.value {
            Value::Map(_) => Document { root: spot.node.clone() },
            _ => {
                let name = self.text(spot, "the policy's file, or a policy")?;
                let file = self.path.with_file_name(name);
                if !file.is_file() {
                    let found = format!("{}, which is no file", quoted(name));
                    self.wrong_found(spot, &found, format_args!("the policy's file"), None);
                    return None;
                }
                let Judged { lines, usable } = policy_file::judge(&file);
                let Some((document, policy)) = usable else {
                    self.elsewhere = lines;
                    return None;
                };
                return Some(self.learn(&document, policy));
            }
        };
        let Resolved { policy, mut diagnostics } = resolve(&document);
        // What only looks wrong is for `tidegate check` to say.
        diagnostics.retain(|diagnostic| diagnostic.severity == Severity::Error);
        self.diagnostics.extend(diagnostics.into_iter().map(within_policy));
        Some(self.learn(&document, policy?))
    }

    /// Components of the policy's plugins, from this file's folder.
    fn plugins(
        &mut self,
        spot: &Spot<'_>,
        policy: Option<&Policy>,
    ) -> Option<BTreeMap<String, plugins::Settings>> {
        let mut plugins = BTreeMap::new();
        for (name, at) in self.entries(spot, "a map of names and files")? {
            // A policy that could not be read was told of already.
            let known = policy.map(|policy| policy.plugins.iter().map(|it| &*it.name));
            let known: Vec<&str> = known.into_iter().flatten().collect();
            if policy.is_some() && !known.contains(&name) {
                let hint = did_you_mean(spelling::nearest(name, &known));
                let wanted = match known.as_slice() {
                    [] => "none: the policy uses no plugins".to_owned(),
                    known => format!("a plugin of the policy: {}", known.join(", ")),
                };
                self.wrong_found(&at, &quoted(name), format_args!("{wanted}"), hint);
                continue;
            }
            let file = self.text(&at, "a component's file")?;
            let path = self.path.with_file_name(file);
            if !path.is_file() {
                let found = format!("{}, which is no file", quoted(file));
                self.wrong_found(&at, &found, format_args!("a component's file"), None);
                continue;
            }
            plugins.insert(name.to_owned(), plugins::Settings::of(path));
        }
        Some(plugins)
    }

    /// Keeps what the reading of cases needs to know of their policy.
    fn learn(&mut self, document: &Document, policy: Policy) -> (Policy, Vec<u8>) {
        self.limits = Some(policy.limits.iter().map(|limit| limit.name.clone()).collect());
        if let Some(key) = Spot::root(document).field("jwt_payload_key").and_then(|at| at.text()) {
            self.jwt_payload_key = key.into();
        }
        (policy, policy_file::to_json(document).into_bytes())
    }

    /// `shop.yaml` for `shop.test.yaml`, if it is there.
    fn policy_beside(&self) -> Option<String> {
        let name = self.path.file_name()?.to_str()?;
        let name = name.replace(".test.", ".");
        let beside = self.path.with_file_name(&name);
        (beside != self.path && beside.is_file()).then_some(name)
    }

    fn case(&mut self, spot: &Spot<'_>, usual: &Request) -> Option<Case> {
        self.fields(spot, CASE_FIELDS)?;
        let name = self.required(spot, "name", "what the case shows", Self::element);
        let usual = self
            .optional(spot, "request", usual.clone(), |this, at| this.request(at, usual))
            .unwrap_or_else(|| usual.clone());
        let steps =
            self.required(spot, "steps", "a list of steps", |this, at| this.steps(at, &usual));
        Some(Case { name: name?, mark: mark(spot), steps: steps? })
    }

    fn name_each_once(&mut self, cases: &[Spot<'_>]) {
        for (index, case) in cases.iter().enumerate() {
            let Some(name) = case.field("name") else { continue };
            let same =
                |other: &Spot<'_>| other.field("name").and_then(|at| at.text()) == name.text();
            if name.text().is_some()
                && let Some(first) = cases.iter().take(index).position(same)
            {
                self.wrong(&name, format_args!("a name of its own: cases[{first}] has this one"));
            }
        }
    }

    /// The name of one of the policy's limits.
    fn limit(&mut self, spot: &Spot<'_>) -> Option<Box<str>> {
        let name = self.name(spot)?;
        self.limit_named(&name, spot)
    }

    /// The same for a name that is a map's field.
    fn limit_named(&mut self, name: &str, spot: &Spot<'_>) -> Option<Box<str>> {
        // A policy that could not be read was told of already.
        let Some(limits) = &self.limits else { return Some(name.into()) };
        let known: Vec<&str> = limits.iter().take(LIMITS_MAX).map(|limit| &**limit).collect();
        if known.contains(&name) {
            return Some(name.into());
        }
        let hint = spelling::nearest(name, &known).map(|name| format!("did you mean {name}?"));
        let wanted = format!("a limit of the policy: {}", known.join(", "));
        self.wrong_found(spot, &quoted(name), format_args!("{wanted}"), hint);
        None
    }

    /// A text; a whole number counts as its digits.
    fn value<'s>(&mut self, spot: &Spot<'s>) -> Option<Cow<'s, str>> {
        match spot.node.value {
            Value::Whole(number) => Some(number.to_string().into()),
            _ => self.text(spot, "a text").map(Cow::Borrowed),
        }
    }
}

/// Where a value stands. YAML has marks; JSON has none, and is then told as its first line.
fn mark(spot: &Spot<'_>) -> Mark {
    spot.mark().unwrap_or(Mark { line: 1, column: 1 })
}

/// A policy's diagnostic, where the policy is a field of this file.
fn within_policy(mut diagnostic: Diagnostic) -> Diagnostic {
    let dot = if diagnostic.path.is_empty() || diagnostic.path.starts_with('[') { "" } else { "." };
    diagnostic.path = format!("policy{dot}{}", diagnostic.path);
    diagnostic
}
