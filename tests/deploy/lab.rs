//! Redis as `host/deploy/` deploys it, with processes in the place of pods.

use anyhow::{Context, bail, ensure};
use harness::parts::{self, root};
use harness::process::Process;
use harness::{Result, ports, wait};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tempfile::TempDir;

/// The users of the ACL files. Each gets `NAME-secret` for a password.
pub(crate) const USERS: [&str; 6] = ["tidegate", "sentinel", "replica", "probe", "peer", "admin"];

/// What all pods of a form have in common.
pub(crate) struct Lab {
    pods: RefCell<Vec<Pod>>,
    // Dropped last: processes still write there.
    folder: TempDir,
}

/// A process in a pod's place: its folders, its variables, and whether it runs.
struct Pod {
    name: String,
    script: &'static str,
    port: u16,
    variables: BTreeMap<String, String>,
    process: Option<Process>,
}

impl Lab {
    /// The ConfigMaps of these folders of `host/deploy/`, mounted as one, and the Secret.
    pub(crate) fn new(configured_by: &[&str]) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let at = folder.path();
        for below in ["conf", "passwords", "bin"] {
            fs::create_dir(at.join(below))?;
        }
        for from in configured_by {
            for entry in fs::read_dir(shipped(from))? {
                let entry = entry?;
                fs::copy(entry.path(), at.join("conf").join(entry.file_name()))?;
            }
        }
        // Scripts take what is on PATH.
        symlink(parts::redis()?, at.join("bin/redis-server"))?;
        symlink(parts::redis_cli()?, at.join("bin/redis-cli"))?;
        let lab = Self { pods: RefCell::default(), folder };
        for user in USERS {
            lab.set_passwords(user, &[&secret(user)])?;
        }
        Ok(lab)
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What the Secret holds for a user, one password a line.
    pub(crate) fn set_passwords(&self, user: &str, passwords: &[&str]) -> Result<()> {
        fs::write(self.folder().join("passwords").join(user), passwords.join("\n") + "\n")?;
        Ok(())
    }

    /// Adds a pod that runs `script`, not started yet.
    pub(crate) fn add(&self, name: &str, script: &'static str, port: u16, more: &[(&str, String)]) {
        let of = |below: &str| self.folder().join(below).display().to_string();
        let mut variables: BTreeMap<String, String> = [
            ("CONF", of("conf")),
            ("SECRETS", of("passwords")),
            ("TLS", of("tls")),
            ("RUN", of(&format!("{name}/run"))),
            ("DATA", of(&format!("{name}/data"))),
            ("PORT", port.to_string()),
            // Every pod is this machine, at a port of its own.
            ("NAME", "localhost".to_owned()),
            ("PATH", format!("{}:{}", of("bin"), std::env::var("PATH").unwrap_or_default())),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
        variables.extend(more.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
        let name = name.to_owned();
        self.pods.borrow_mut().push(Pod { name, script, port, variables, process: None });
    }

    /// Changes a pod's variable, as of its next start.
    pub(crate) fn set(&self, pod: &str, name: &str, value: String) -> Result<()> {
        self.with(pod, |pod| {
            pod.variables.insert(name.to_owned(), value);
            Ok(())
        })
    }

    /// Starts a pod's script, which may wait for others.
    pub(crate) fn start(&self, pod: &str) -> Result<()> {
        let folder = self.folder().join(pod);
        for below in ["run", "data"] {
            fs::create_dir_all(folder.join(below))?;
        }
        self.with(pod, |pod| {
            let mut command = Command::new("sh");
            command.arg(self.folder().join("conf").join(pod.script)).envs(&pod.variables);
            // Redis logs to its standard output, scripts to their error.
            pod.process = Some(Process::start(&pod.name, &mut command, &folder)?);
            Ok(())
        })
    }

    /// Starts whatever has ended, as Kubernetes does.
    pub(crate) fn revive(&self) -> Result<()> {
        for pod in self.names() {
            let has_ended = self.with(&pod, |pod| match &mut pod.process {
                None => Ok(true),
                Some(process) => Ok(process.ended()?.is_some()),
            })?;
            if has_ended {
                self.start(&pod)?;
            }
        }
        Ok(())
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.pods.borrow().iter().map(|pod| pod.name.clone()).collect()
    }

    /// Writes `NAME.env` and `NAME.pid` for each pod, for commands that are not ours.
    pub(crate) fn describe_pods(&self) -> Result<()> {
        for name in self.names() {
            let (variables, id) = self.with(&name, |pod| {
                let id = pod.process.as_ref().map(Process::id);
                Ok((pod.variables.clone(), id.unwrap_or_default()))
            })?;
            let exports =
                variables.iter().map(|(name, value)| format!("export {name}='{value}'\n"));
            fs::write(self.folder().join(format!("{name}.env")), exports.collect::<String>())?;
            fs::write(self.folder().join(format!("{name}.pid")), id.to_string())?;
        }
        Ok(())
    }

    /// Ends a pod as a crash does.
    pub(crate) fn kill(&self, pod: &str) -> Result<()> {
        self.with(pod, |pod| {
            if let Some(mut process) = pod.process.take() {
                process.kill()?;
            }
            Ok(())
        })
    }

    /// Its disk is lost.
    pub(crate) fn wipe(&self, pod: &str) -> Result<()> {
        Ok(fs::remove_dir_all(self.folder().join(pod))?)
    }

    /// Sends a signal to what runs in a pod.
    pub(crate) fn signal(&self, pod: &str, signal: rustix::process::Signal) -> Result<()> {
        self.with(pod, |pod| pod.process.as_ref().context("not running")?.signal(signal))
    }

    pub(crate) fn port(&self, pod: &str) -> Result<u16> {
        self.with(pod, |pod| Ok(pod.port))
    }

    /// The pod that listens at `port`.
    pub(crate) fn at(&self, port: u16) -> Result<String> {
        let pods = self.pods.borrow();
        let found = pods.iter().find(|pod| pod.port == port);
        Ok(found.with_context(|| format!("no pod at {port}"))?.name.clone())
    }

    /// What a pod has said so far.
    pub(crate) fn log(&self, pod: &str) -> Result<String> {
        self.with(pod, |pod| {
            let process = pod.process.as_ref().context("not running")?;
            Ok(process.log() + &process.out())
        })
    }

    /// Runs a command in a pod, as `kubectl exec` does. `/etc/tidegate-redis` is where the
    /// ConfigMaps are.
    pub(crate) fn exec(&self, pod: &str, command: &[&str]) -> Result<Output> {
        let variables = self.with(pod, |pod| Ok(pod.variables.clone()))?;
        let conf = self.folder().join("conf").display().to_string();
        let words = command.iter().map(|word| word.replace("/etc/tidegate-redis", &conf));
        let words: Vec<String> = words.collect();
        let (program, arguments) = words.split_first().context("a command")?;
        let mut command = Command::new(program);
        command.args(arguments).envs(&variables);
        command.output().with_context(|| format!("run {words:?}"))
    }

    /// A script of the ConfigMap in a pod; what it printed, or, if it failed, its complaint.
    pub(crate) fn script(&self, pod: &str, script: &str, arguments: &[&str]) -> Result<String> {
        let script = format!("/etc/tidegate-redis/{script}");
        let words: Vec<&str> =
            ["sh", script.as_str()].into_iter().chain(arguments.iter().copied()).collect();
        let output = self.exec(pod, &words)?;
        if !output.status.success() {
            let complaint = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            bail!("{script} {arguments:?} in {pod}: {}: {complaint}", output.status);
        }
        Ok(String::from_utf8(output.stdout)?.trim_end().to_owned())
    }

    /// A probe's complaint; `None` if it is content.
    pub(crate) fn probe(&self, pod: &str, arguments: &[&str]) -> Result<Option<String>> {
        let words = [&["sh", "/etc/tidegate-redis/probe.sh"], arguments].concat();
        let output = self.exec(pod, &words)?;
        let complaint = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Ok((!output.status.success()).then_some(complaint))
    }

    /// One command to a pod's server as the user `admin`; the reply, one value a line.
    pub(crate) fn admin(&self, pod: &str, words: &[&str]) -> Result<String> {
        self.script(pod, "admin.sh", words)
    }

    /// One command to a pod's server as any user; the reply, an error included.
    pub(crate) fn say(&self, pod: &str, user: &str, words: &[&str]) -> Result<String> {
        // A subscription ends only so.
        let mut command = Command::new("timeout");
        command.arg("3").arg(self.folder().join("bin/redis-cli"));
        command.args(["-p", &self.port(pod)?.to_string(), "--user", user, "--no-auth-warning"]);
        let passwords = fs::read_to_string(self.folder().join("passwords").join(user))?;
        let output = command
            .args(words)
            .env("REDISCLI_AUTH", passwords.lines().next().unwrap_or_default())
            .output()?;
        let said = [output.stdout, output.stderr].concat();
        Ok(String::from_utf8(said)?.trim_end().to_owned())
    }

    /// A configuration of the host service as it ships, for these pods: where they are, and
    /// where their passwords are, is filled in. `pods` are by the name in front of an address.
    pub(crate) fn settings(&self, file: &str, pods: &[&str]) -> Result<PathBuf> {
        let mut text = fs::read_to_string(shipped(file))?;
        let service = pods.first().context("a pod")?.trim_end_matches(|c: char| !c.is_alphabetic());
        for pod in pods {
            let port = self.port(pod)?;
            let host = self.with(pod, |pod| {
                Ok(pod.variables.get("ADDRESS").cloned().unwrap_or_else(|| "localhost".to_owned()))
            })?;
            let there = format!("{pod}.{service}.tidegate.svc.cluster.local");
            text = text.replace(&format!("{there}:6379"), &format!("{host}:{port}"));
            text = text.replace(&format!("{there}:26379"), &format!("{host}:{port}"));
        }
        let passwords = self.folder().join("passwords").display().to_string();
        text = text.replace("/etc/tidegate-redis-passwords", &passwords);
        ensure!(!text.contains(".svc.cluster.local:"), "{file}: {text}");
        let settings = self.folder().join("tidegate.yaml");
        fs::write(&settings, text)?;
        Ok(settings)
    }

    /// Waits until a probe is content in all of these pods.
    pub(crate) async fn ready(&self, kind: &str, pods: &[&str]) -> Result<()> {
        for pod in pods {
            let mut complaint = None;
            let what = format!("{pod} to be ready");
            let content = wait::until(&what, async || {
                complaint = self.probe(pod, &["ready", kind]).ok()?;
                complaint.is_none().then_some(())
            });
            content.await.with_context(|| complaint.unwrap_or_default())?;
        }
        Ok(())
    }

    /// Commands that were refused for want of rights, as `USER COMMAND`, in all that runs.
    pub(crate) fn refusals(&self) -> Result<Vec<String>> {
        let running: Vec<String> = {
            let pods = self.pods.borrow();
            let running = pods.iter().filter(|pod| pod.process.is_some());
            running.map(|pod| pod.name.clone()).collect()
        };
        let mut refusals = Vec::new();
        for pod in running {
            let log = self.admin(&pod, &["ACL", "LOG"])?;
            // Field and value take a line each.
            let lines: Vec<&str> = log.lines().collect();
            let after = |name: &str, entry: &[&str]| {
                let at = entry.iter().position(|line| *line == name)?;
                entry.get(at + 1).map(|value| (*value).to_owned())
            };
            for entry in lines.split(|line| *line == "count").skip(1) {
                let what = after("object", entry).unwrap_or_default();
                let who = after("username", entry).unwrap_or_default();
                refusals.push(format!("{pod}: {who} {what}"));
            }
        }
        Ok(refusals)
    }

    fn with<T>(&self, name: &str, work: impl FnOnce(&mut Pod) -> Result<T>) -> Result<T> {
        let mut pods = self.pods.borrow_mut();
        let pod = pods.iter_mut().find(|pod| pod.name == name);
        work(pod.with_context(|| format!("no pod {name}"))?)
    }
}

/// A user's password.
pub(crate) fn secret(user: &str) -> String {
    format!("{user}-secret")
}

/// A file or folder of `host/deploy/`.
pub(crate) fn shipped(path: &str) -> PathBuf {
    root().join("host/deploy").join(path)
}

/// Free ports, all different.
pub(crate) fn free_ports<const N: usize>() -> Result<[u16; N]> {
    let mut found = [0; N];
    for port in &mut found {
        *port = ports::free()?.port();
    }
    Ok(found)
}

/// What is lost in the race for a port is tried again with others.
pub(crate) async fn with_ports<const N: usize, T>(
    mut bring_up: impl AsyncFnMut([u16; N]) -> Result<T>,
) -> Result<T> {
    let mut last = None;
    for _ in 0..ports::TRIES {
        match bring_up(free_ports()?).await {
            Ok(up) => return Ok(up),
            Err(error) if error.is::<parts::Missing>() => return Err(error),
            Err(error) => last = Some(error),
        }
    }
    Err(last.context("no try at all")?)
}
