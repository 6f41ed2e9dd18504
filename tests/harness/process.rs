//! One child process: logs to a file, dies with its handle and with its test.

use crate::{Result, stage::leave_log};
use anyhow::Context;
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, kill_process, set_parent_process_death_signal, waitid,
};
use std::fs::{File, read_to_string};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

/// Lines of a failed test's process log that are printed: the end is what tells.
const LOG_LINES_SHOWN: usize = 80;

/// A running child.
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command` with its standard error in `folder/NAME.log` and its standard
    /// output in `folder/NAME.out`.
    ///
    /// The child is killed if this thread ends, so call it on the test's own.
    ///
    /// # Errors
    ///
    /// If the program cannot be started.
    pub fn start(name: &str, command: &mut Command, folder: &Path) -> Result<Self> {
        let log = folder.join(format!("{name}.log"));
        command
            .stdin(Stdio::null())
            .stdout(File::create(folder.join(format!("{name}.out")))?)
            .stderr(File::create(&log)?)
            // Ctrl-C in a terminal is for whoever started us: children end with their handles.
            .process_group(0);
        // SAFETY: between fork and exec only prctl(2) runs, which is async-signal-safe.
        unsafe {
            command.pre_exec(|| Ok(set_parent_process_death_signal(Some(Signal::KILL))?));
        }
        let child = command.spawn().with_context(|| format!("start {command:?}"))?;
        Ok(Self { name: name.to_owned(), child, log })
    }

    /// What it has written to its standard error so far.
    pub fn log(&self) -> String {
        read_to_string(&self.log).unwrap_or_default()
    }

    /// What it has written to its standard output so far.
    pub fn out(&self) -> String {
        read_to_string(self.log.with_extension("out")).unwrap_or_default()
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    ///
    /// If the system does not know the child.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal, such as `CONT`. After `STOP` all its threads do stand still: the
    /// signal is only a request, and a thread on another core may still answer somebody.
    ///
    /// # Errors
    ///
    /// If it is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_raw(self.child.id().cast_signed()).context("a process id")?;
        kill_process(pid, signal)?;
        if signal == Signal::STOP {
            waitid(WaitId::Pid(pid), WaitIdOptions::STOPPED)?;
        }
        Ok(())
    }

    /// Kills it and waits until it is gone; its ports are free then.
    ///
    /// # Errors
    ///
    /// If the system refuses.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Already gone is what we want.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let log = self.log();
        let skipped = log.lines().count().saturating_sub(LOG_LINES_SHOWN);
        let end: Vec<&str> = log.lines().skip(skipped).collect();
        leave_log(format!("---- the end of {}'s log:\n{}", self.name, end.join("\n")));
    }
}
