//! What is wrong with settings is told in one line, before anything starts.

use crate::common::tidegate;
use crate::filters::{MARK, put};
use crate::home::modules;
use std::path::Path;

/// What a proxy says that does not start, and its exit code.
fn refused(folder: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = tidegate();
    command.current_dir(folder).arg("proxy").args(arguments);
    command.arg("--cache").arg(modules());
    let output = command.output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn every_wrong_file_gets_its_message() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/proxy/bad");
    let mut files: Vec<_> = folder.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|it| it == "yaml"));
    files.sort();
    assert!(files.len() > 10, "{files:?}");
    for file in files {
        let name = file.file_name().unwrap().to_str().unwrap();
        let (code, said) = refused(&folder, &["--settings", name]);
        let wanted = std::fs::read_to_string(file.with_extension("stderr")).unwrap_or_default();
        assert_eq!((code, said.as_str()), (Some(78), wanted.as_str()), "{name}");
    }
}

#[test]
fn flags_that_contradict_each_other_are_wrong_usage() {
    let folder = tempfile::tempdir().unwrap();
    for (arguments, said) in [
        (&[][..], "<--settings <FILE>"),
        (&["--policy", "a.yaml"], "--upstream <URL>"),
        (&["--settings", "a", "--policy", "b"], "cannot be used with"),
        (&["--settings", "a", "--component", "b"], "cannot be used with"),
        (&["--upstream", "http://a", "--component", "b"], "--policy <FILE>"),
        (&["--upstream", "origin:80"], "wanted http://host:port"),
        (
            &["--upstream", "http://a", "--filter", "a", "--filter", "b", "--config", "c"],
            "2 --filter and 1 --config",
        ),
        (&["--upstream", "http://a", "--tls-key", "a"], "--tls-certificate"),
        (&["--upstream", "http://a", "--cache", "a", "--no-cache"], "cannot be used with"),
    ] {
        let mut command = tidegate();
        let output = command.current_dir(folder.path()).arg("proxy").args(arguments).output();
        let output = output.unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(64), "{arguments:?}: {stderr}");
        assert!(stderr.contains(said), "{arguments:?}: {stderr}");
    }
}

#[test]
fn what_settings_name_is_looked_at_before_anything_starts() {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), "good.wasm", MARK);
    std::fs::write(folder.path().join("bad"), "bad").unwrap();
    std::fs::write(folder.path().join("no.wasm"), "hello").unwrap();
    std::fs::write(folder.path().join("shop.yaml"), "tidegate: 1\nlimit: []\n").unwrap();
    let policy = "tidegate: 1\ndomain: shop\nlimits: [{ name: any, rate: 1/1h }]\n";
    std::fs::write(folder.path().join("good.yaml"), policy).unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let to = ["--upstream", "http://127.0.0.1:9", "--listen", "127.0.0.1:0"];
    let with = |more: &[&str]| -> (Option<i32>, String) {
        refused(folder.path(), &[&to[..], more].concat())
    };
    for (more, said) in [
        (&["--filter", "none.wasm"][..], "none.wasm: cannot be read: No such file"),
        (&["--filter", "no.wasm"], "no.wasm: "),
        (&["--filter", "good.wasm", "--config", "bad"], "good"),
        (&["--policy", "shop.yaml"], "shop.yaml:2:1: limit: "),
        (&["--policy", "none.yaml"], "none.yaml: cannot be read: "),
        (
            &["--policy", "good.yaml", "--component", "none.wasm"],
            "none.wasm: cannot be read: No such file",
        ),
        (
            &["--policy", "good.yaml", "--component", "good.wasm"],
            "good.wasm: not a component: it is a core module; wanted one of the world edge-guard",
        ),
        (&["--tls-certificate", "bad", "--tls-key", "bad"], "bad: holds no certificates in PEM"),
        (&["--admin", &taken], "cannot listen on 127.0.0.1:"),
    ] {
        let (code, stderr) = with(more);
        assert_eq!(code, Some(1), "{more:?}: {stderr}");
        assert!(stderr.contains(said), "{more:?}: {stderr}");
    }
}

#[test]
fn the_example_shows_every_setting_with_its_default() {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("proxy.yaml");
    let text = std::fs::read_to_string(&example).unwrap();
    // As it stands it only lacks the files that it names.
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("proxy.yaml"), &text).unwrap();
    let (code, said) = refused(folder.path(), &["--settings", "proxy.yaml"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("shop.yaml: cannot be read"), "{said}");
    // And so it does with everything that has no default, but for what stands in place of
    // something else.
    let is_instead =
        |line: &&str| line.contains("#~configuration_file") || line.contains("#~respond");
    let lines = text.lines().filter(|line| !is_instead(line));
    let full: String = lines.map(|line| line.replacen("#~", "", 1) + "\n").collect();
    let full = full.replace("url: http:", "url: https:");
    std::fs::write(folder.path().join("proxy.yaml"), &full).unwrap();
    let (code, said) = refused(folder.path(), &["--settings", "proxy.yaml"]);
    assert_eq!(code, Some(1), "{said}\n{full}");
}
