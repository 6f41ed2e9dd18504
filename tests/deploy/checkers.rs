//! Programs that know what is right, but not ours: fetched by `cargo xtask test --only deploy`,
//! which says where they are in `TIDEGATE_CHECKERS`.

use anyhow::{Context, bail};
use harness::{NotHere, Result};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The Kubernetes whose schemas the manifests are held against: the oldest that is looked after.
const KUBERNETES: &str = "1.34";

/// Prints the JSON schema of a kind of the Prometheus Operator, in which no unknown field may be.
const OPERATOR_SCHEMA: &str = "\
import json, sys
from cloudcoil.models.prometheus_operator import v1
def close(node):
    if isinstance(node, dict):
        if 'properties' in node:
            node.setdefault('additionalProperties', False)
        if '(?i)' in str(node.get('pattern')):
            del node['pattern']  # a regular expression for Go only
        node = list(node.values())
    for part in node if isinstance(node, list) else []:
        close(part)
schema = getattr(v1, sys.argv[1]).model_json_schema(by_alias=True)
close(schema)
json.dump(schema, sys.stdout)
";

pub(crate) struct Checkers {
    folder: PathBuf,
}

impl Checkers {
    /// # Errors
    ///
    /// [`NotHere`].
    pub(crate) fn find() -> Result<Self> {
        let folder = std::env::var_os("TIDEGATE_CHECKERS").map(PathBuf::from);
        let folder = folder.ok_or(NotHere("`cargo xtask test --only deploy` brings the tools"))?;
        Ok(Self { folder })
    }

    /// What `kubectl apply -k` would apply.
    pub(crate) fn kustomize(&self, folder: &Path) -> Result<String> {
        self.run("kubectl", &["kustomize".as_ref(), folder.as_os_str()])
    }

    pub(crate) fn kubectl(&self) -> PathBuf {
        self.folder.join("bin/kubectl")
    }

    /// Checks rules, and expressions with them.
    pub(crate) fn promtool(&self, verb: [&str; 2], file: &Path) -> Result<String> {
        self.run("promtool", &[verb[0].as_ref(), verb[1].as_ref(), file.as_os_str()])
    }

    pub(crate) fn shellcheck(&self, scripts: &[PathBuf], sources: &Path) -> Result<String> {
        let source = format!("--source-path={}", sources.display());
        let mut arguments: Vec<&std::ffi::OsStr> = vec!["-x".as_ref(), source.as_ref()];
        arguments.extend(scripts.iter().map(|script| script.as_os_str()));
        self.run("shellcheck", &arguments)
    }

    /// Holds documents of Kubernetes' own kinds against its schemas. Unknown fields are errors.
    pub(crate) fn kubernetes(&self, file: &Path) -> Result<String> {
        let mut command = self.python();
        command.args(["-m", "kubernetes_validate", "--strict", "-k", KUBERNETES]).arg(file);
        output(command)
    }

    /// Holds a document of the Prometheus Operator's kinds against its schema.
    pub(crate) fn operator(&self, document: &Value, folder: &Path) -> Result<()> {
        let kind = document["kind"].as_str().context("a kind")?;
        let schema = folder.join(format!("{kind}.schema.json"));
        let mut command = self.python();
        command.args(["-c", OPERATOR_SCHEMA, kind]);
        std::fs::write(&schema, output(command)?)?;
        let file = folder.join(format!("{kind}.json"));
        std::fs::write(&file, document.to_string())?;
        let mut command = self.python();
        command.args(["-m", "check_jsonschema", "--schemafile"]).arg(schema).arg(file);
        output(command).map(drop)
    }

    fn python(&self) -> Command {
        let mut command = Command::new("python3");
        command.env("PYTHONPATH", &self.folder);
        command
    }

    fn run(&self, program: &str, arguments: &[&std::ffi::OsStr]) -> Result<String> {
        let mut command = Command::new(self.folder.join("bin").join(program));
        command.args(arguments);
        output(command)
    }
}

fn output(mut command: Command) -> Result<String> {
    let output = command.output().with_context(|| format!("run {command:?}"))?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        bail!("{command:?}: {said}{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(said)
}
