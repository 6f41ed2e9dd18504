//! What the section `revocations` means: whether this host keeps what is revoked, where, and how
//! long things live.

use super::kinds::Time;
use super::revocations_api::{self, RevocationsApi};
use super::{Node, Problem};
use serde::Deserialize;
use std::path::PathBuf;
use std::time::Duration;
use tidegate_core::revoke::message::ID_KEYS_MAX;

const DAY_SECS: u64 = 86_400;
const DAY_MS: u64 = 1_000 * DAY_SECS;

/// The section as typed.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Text {
    /// Left out, nothing can be revoked.
    data_dir: Option<PathBuf>,
    /// 24 h: few issuers go beyond. Too long costs memory, too short lets what was revoked live
    /// again.
    token_ttl_max: Time<60_000, { 400 * DAY_MS }>,
    /// 30 days: what "remember me" commonly means.
    session_ttl_max: Time<60_000, { 400 * DAY_MS }>,
    /// 400 days: the longest that browsers keep a cookie.
    retention_max: Time<60_000, { 3_660 * DAY_MS }>,
    /// 60 s: what Envoy allows a token's times to be off by.
    leeway: Time<0, 3_600_000>,
    /// 32 bytes each, in hex or base64.
    id_key_files: Vec<PathBuf>,
    pub(super) api: revocations_api::Text,
}

/// Where what is revoked is kept, and how long things live.
#[derive(Clone, Debug)]
pub struct Revocations {
    /// The ledger's folder.
    pub data_dir: PathBuf,
    /// The longest life of a token.
    pub token_ttl_max: Duration,
    /// The longest life of a session, and of a token that does not say.
    pub session_ttl_max: Duration,
    /// How long anything with an end may be kept.
    pub retention_max: Duration,
    /// How far clocks may be apart.
    pub leeway: Duration,
    /// Where the keys are that secrets are known by, the one in use first.
    pub id_key_files: Vec<PathBuf>,
    /// Where tokens are revoked, if that is to be here.
    pub api: Option<RevocationsApi>,
}

/// What the section means; `None` if nothing is kept here.
///
/// # Errors
///
/// The first thing in it that is missing or contradicts another.
pub(super) fn resolve(text: Text, tree: &Node) -> Result<Option<Revocations>, Problem> {
    let problem = |name: &str, what: &str| {
        Problem::new(what.to_owned()).located(tree, &format!("revocations.{name}"))
    };
    let api = revocations_api::resolve(text.api, tree)?;
    let Some(data_dir) = text.data_dir else {
        let said = [(api.is_some(), "api.listen"), (!text.id_key_files.is_empty(), "id_key_files")];
        return match said.into_iter().find(|(is_said, _)| *is_said) {
            None => Ok(None),
            Some((_, name)) => Err(problem(name, "is set, and revocations.data_dir is not").hint(
                "say where they are kept: data_dir: /var/lib/tidegate, a volume in a container"
                    .to_owned(),
            )),
        };
    };
    if text.id_key_files.len() > ID_KEYS_MAX {
        let what = format!("names {} files, wanted at most {ID_KEYS_MAX}", text.id_key_files.len());
        return Err(problem("id_key_files", &what)
            .hint("one in use, and one that replaces it or was replaced".to_owned()));
    }
    for (life, name) in
        [(text.token_ttl_max.0, "token_ttl_max"), (text.session_ttl_max.0, "session_ttl_max")]
    {
        if life > text.retention_max.0 {
            return Err(problem(name, "is more than revocations.retention_max"));
        }
    }
    Ok(Some(Revocations {
        data_dir,
        token_ttl_max: text.token_ttl_max.0,
        session_ttl_max: text.session_ttl_max.0,
        retention_max: text.retention_max.0,
        leeway: text.leeway.0,
        id_key_files: text.id_key_files,
        api,
    }))
}

impl Default for Text {
    fn default() -> Self {
        Self {
            data_dir: None,
            token_ttl_max: Time(Duration::from_secs(DAY_SECS)),
            session_ttl_max: Time(Duration::from_secs(30 * DAY_SECS)),
            retention_max: Time(Duration::from_secs(400 * DAY_SECS)),
            leeway: Time(Duration::from_secs(60)),
            id_key_files: Vec::new(),
            api: revocations_api::Text::default(),
        }
    }
}
