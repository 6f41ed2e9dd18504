//! What is revoked or lifted, and its times, as flags: the fields of the API's JSON.

use super::Failure;
use super::secret;
use super::time::{self, Time};
use serde_json::{Map, Value};
use std::path::PathBuf;

/// What is revoked or lifted: one of these, most of them with `--iss`.
#[derive(clap::Args)]
#[group(skip)]
pub(super) struct Arguments {
    /// One token, by its id; with --iss
    #[arg(long, group = "thing", requires = "iss")]
    jti: Option<String>,
    /// All tokens of a subject; with --iss
    #[arg(long, group = "thing", requires = "iss")]
    sub: Option<String>,
    /// All tokens of a client; with --iss
    #[arg(long, group = "thing", requires = "iss")]
    client: Option<String>,
    /// All tokens of a tenant; with --iss
    #[arg(long, group = "thing", requires = "iss")]
    tenant: Option<String>,
    /// All tokens of a session; with --iss
    #[arg(long, group = "thing", requires = "iss")]
    sid: Option<String>,
    /// All tokens signed with a key; with --iss
    #[arg(long, group = "thing", requires = "iss")]
    kid: Option<String>,
    /// The issuer; alone, all its tokens
    #[arg(long)]
    iss: Option<String>,
    /// A session by its cookie's value, from a file, or - for standard input
    #[arg(long, value_name = "FILE", group = "thing", conflicts_with = "iss")]
    cookie_file: Option<PathBuf>,
    /// One token without jti: the SHA-256 of its header.payload, in hex
    #[arg(long, value_name = "HEX", group = "thing", conflicts_with = "iss")]
    token_hash: Option<String>,
    /// Whatever it is, by its id as lists and the audit log show it; with --kind
    #[arg(long, value_name = "HEX", group = "thing", requires = "kind", conflicts_with = "iss")]
    id: Option<String>,
    /// Of which kind that is
    #[arg(long, requires = "id")]
    kind: Option<String>,
    /// Why; it goes to the server's audit log
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// How durable it has to be: shared, this_host, replicas=1 [default: shared]
    #[arg(long, value_name = "HOW")]
    pub(super) durability: Option<String>,
}

/// Until when what was issued is revoked, and how long that is kept.
///
/// A time is in seconds of Unix time, or 2026-09-21T14:13:20Z, now, +1h, -30m, ever.
#[derive(clap::Args)]
#[group(id = "times", multiple = true)]
pub(super) struct Times {
    /// The token's own exp, exactly
    #[arg(long, value_name = "TIME", value_parser = time::read, conflicts_with = "until")]
    exp: Option<Time>,
    /// When the last of what is revoked has expired, if exp is not known
    #[arg(long, value_name = "TIME", value_parser = time::read)]
    until: Option<Time>,
    /// Only what was issued at or before then [default: now, for many tokens]
    #[arg(long, value_name = "TIME", value_parser = time::read, allow_hyphen_values = true)]
    before: Option<Time>,
}

impl Arguments {
    /// As the API takes it.
    ///
    /// # Errors
    ///
    /// That nothing is named, or that the cookie's file cannot be read.
    pub(super) fn to_json(&self) -> Result<Map<String, Value>, Failure> {
        let text = [
            ("jti", &self.jti),
            ("sub", &self.sub),
            ("client", &self.client),
            ("tenant", &self.tenant),
            ("sid", &self.sid),
            ("kid", &self.kid),
            ("iss", &self.iss),
            ("token_hash", &self.token_hash),
            ("id", &self.id),
            ("kind", &self.kind),
            ("reason", &self.reason),
        ];
        let mut fields: Map<String, Value> = text
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), value.clone()?.into())))
            .collect();
        if let Some(path) = &self.cookie_file {
            let cookie = String::from_utf8(secret::read(path)?).map_err(|_| {
                Failure::File(format!("{}: a cookie's value is text", secret::name(path)))
            })?;
            fields.insert("cookie".to_owned(), cookie.into());
        }
        if fields.keys().all(|name| name == "reason") {
            return Err(Failure::Usage(
                "wanted what: --jti, --sub, --client, --tenant, --sid or --kid, each with --iss; \
                 --iss alone; --cookie-file, --token-hash, or --id with --kind"
                    .to_owned(),
            ));
        }
        Ok(fields)
    }

    /// What stands behind the path.
    pub(super) fn query(&self) -> String {
        self.durability.as_ref().map_or_else(String::new, |durability| {
            let mut query = form_urlencoded::Serializer::new("?".to_owned());
            query.append_pair("durability", durability);
            query.finish()
        })
    }
}

impl Times {
    /// Adds them to what they are of.
    pub(super) fn add_to(&self, fields: &mut Map<String, Value>) {
        for (name, time) in [("exp", &self.exp), ("until", &self.until), ("before", &self.before)] {
            if let Some(Time(time)) = time {
                fields.insert(name.to_owned(), time.clone());
            }
        }
    }
}
