//! A configuration becomes a policy, or the reasons why not.

use tidegate_core::policy::Policy;
use tidegate_policy::diagnostic::Severity;
use tidegate_policy::resolve::resolve;
use tidegate_policy::text;

/// The largest configuration that is read.
const CONFIG_BYTES_MAX: usize = 4 << 20;

/// The policy and what is odd about it.
///
/// # Errors
///
/// What is wrong, one text for each problem.
pub(crate) fn read(text: &str) -> Result<(Policy, Vec<String>), Vec<String>> {
    if text.len() > CONFIG_BYTES_MAX {
        let bytes = text.len();
        return Err(vec![format!(
            "the policy has {bytes} bytes; wanted at most {CONFIG_BYTES_MAX}"
        )]);
    }
    let document =
        text::from_json(text.as_bytes()).map_err(|error| vec![format!("not JSON: {error}")])?;
    let resolved = resolve(&document);
    let texts = |severity: Severity| {
        let told = resolved.diagnostics.iter().filter(|it| it.severity == severity);
        told.map(ToString::to_string).collect::<Vec<_>>()
    };
    let (errors, warnings) = (texts(Severity::Error), texts(Severity::Warning));
    resolved.policy.map(|policy| (policy, warnings)).ok_or(errors)
}
