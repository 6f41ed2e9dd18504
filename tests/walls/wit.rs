//! What users wrote against `wit/` goes on running, or the version says that it does not.
//!
//! Of `policy-plugin` users write the component and we the host; of `edge-guard` we ship the
//! component, and users write the hosts. What one side may gain is therefore what the other side
//! must not: a published component has to fit into a new host, and a new component into a published
//! host. A type may change in neither: wasmtime holds the types of a component against those that a
//! host was compiled for, case by case and field by field, whichever way a value travels.
//!
//! `wit/published/` has what was published, each version in a folder of its own, and [`PUBLISHED`]
//! what each of them says. What changes after that needs a new version: of the last number if all that
//! users wrote goes on running, else of a new series, which before 1.0 is a new minor version.

use harness::parts::root;
use sha2::{Digest, Sha256};
use std::fs;
use std::path::{Path, PathBuf};
use wit_component::semver_check;
use wit_parser::Resolve;

const PACKAGE: &str = "package tidegate:edge@";

/// Each published version and the SHA-256 of [`Package::said`]. A new one adds its line; no line
/// ever changes.
const PUBLISHED: [(&str, &str); 1] =
    [("0.1.0", "f322f1ee81ba694b8141d6092200b41e13e18a87d3f8d5902125af191407ee0e")];

/// Who writes against each world.
const USERS: [(&str, Users); 2] =
    [("edge-guard", Users::WriteHosts), ("policy-plugin", Users::WriteComponents)];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Users {
    WriteHosts,
    WriteComponents,
}

/// A package as text: its files one after the other, that with the package's name first.
#[derive(Clone)]
struct Package(String);

/// What a change is to what users wrote before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    /// Comments, at most.
    None,
    Compatible,
    Breaking,
}

#[test]
fn what_users_wrote_still_runs_unless_the_version_says_otherwise() {
    let mut packages: Vec<_> = published().into_iter().map(|(_, package)| package).collect();
    packages.push(Package::in_folder(&root().join("wit")));
    for pair in packages.windows(2) {
        let [before, after] = pair else { continue };
        let (from, to, change) = (before.version(), after.version(), change(before, after));
        assert!(
            may_follow(&from, &to, change),
            "wit/: after {from} comes {to}, and the change is {change:?}\n  hint: what adds raises the \
             last number, what breaks the minor one; put a copy into wit/published/"
        );
    }
}

#[test]
fn what_was_published_stays_as_it_was() {
    let published = published();
    let found = published.iter().map(|(version, package)| (version.as_str(), package.digest()));
    let found: Vec<_> = found.collect();
    let pinned = PUBLISHED.map(|(version, digest)| (version, digest.to_owned()));
    assert_eq!(
        found, pinned,
        "wit/published/ is not what was published\n  hint: put it back; what is new goes into a \
         folder of its own, and into PUBLISHED"
    );
}

#[test]
fn only_comments_and_spaces_say_nothing() {
    let package = Package("interface a {\n  /// One.\n  f: func(); // it\n}\n".to_owned());
    let same = ["interface a { f: func(); }", "// b\ninterface a {\n\tf: func();\n}"];
    for text in same {
        assert_eq!(Package(text.to_owned()).digest(), package.digest(), "{text}");
    }
    for text in ["interface a { g: func(); }", "interface a { }", "interfacea { f: func(); }"] {
        assert_ne!(Package(text.to_owned()).digest(), package.digest(), "{text}");
    }
}

#[test]
fn compatible_changes_and_breaking_ones_are_told_apart() {
    let (_, published) = published().pop().expect("a published version");
    for (told, from, to, wanted) in CHANGES {
        assert!(published.0.contains(from), "{from:?} is not in the package any more");
        let changed = Package(published.0.replacen(from, to, 1));
        assert_eq!(change(&published, &changed), wanted, "{told}");
    }
}

/// What is changed, the first place of its text in the package, what stands there then, and what that
/// is to users.
const CHANGES: [(&str, &str, &str, Change); 22] = {
    use Change::{Breaking, Compatible, None};
    [
        ("nothing", "", "", None),
        ("a comment", "/// The host's log.", "/// The log of the host.", None),
        // Of edge-guard, whose hosts are users'.
        (
            "a function more that hosts must offer",
            "now: func() -> nanos;",
            "now: func() -> nanos;\n zone: func() -> string;",
            Breaking,
        ),
        (
            "an interface more that hosts must offer",
            "world edge-guard {",
            "interface dice { draw: func() -> u64; }\nworld edge-guard {\n import dice;",
            Breaking,
        ),
        ("a function less that hosts must offer", "now: func() -> nanos;", "", Compatible),
        ("an interface less that hosts must offer", "import log;", "", Compatible),
        (
            "a function more that hosts may call",
            "take-tallies: func() -> tallies;",
            "take-tallies: func() -> tallies;\n nap: func();",
            Compatible,
        ),
        ("a function less that hosts call", "take-tallies: func() -> tallies;", "", Breaking),
        ("an interface less that hosts call", "export guard;", "", Breaking),
        // Of policy-plugin, whose components are users'.
        (
            "an interface more that plugins may call",
            "world policy-plugin {",
            "world policy-plugin {\n import clock;",
            Compatible,
        ),
        (
            "a function less that plugins may call",
            "write: func(level: level, message: string);",
            "",
            Breaking,
        ),
        (
            "an interface less that plugins may call",
            "import log;\n    export policy;",
            "export policy;",
            Breaking,
        ),
        (
            "a function more that plugins must have",
            "describe: func() -> description;",
            "describe: func() -> description;\n nap: func();",
            Breaking,
        ),
        (
            "a function less that plugins must have",
            "describe: func() -> description;",
            "",
            Compatible,
        ),
        // Of both: what one world may gain the other may not.
        (
            "a function more that both import",
            "write: func(level: level, message: string);",
            "write: func(level: level, message: string);\n flush: func();",
            Breaking,
        ),
        // Types, whichever way they travel.
        ("a case more that hosts are handed", "route,", "route, listener,", Breaking),
        ("a case more that the guard is handed", "unreachable,", "unreachable, asleep,", Breaking),
        (
            "a field more that hosts are handed",
            "waits: nanos,",
            "waits: nanos, again: bool,",
            Breaking,
        ),
        (
            "a field more that the guard is handed",
            "process: u64,",
            "process: u64, age: u64,",
            Breaking,
        ),
        ("a field of another type", "authority: string", "authority: u8", Breaking),
        (
            "another result",
            "put: func(key: list<u8>, value: list<u8>, version: option<u32>) -> bool",
            "put: func(key: list<u8>, value: list<u8>, version: option<u32>)",
            Breaking,
        ),
        ("a world less", "world policy-plugin", "world other-plugin", Breaking),
    ]
};

#[test]
fn what_is_said_needs_a_version_and_what_breaks_a_series() {
    use Change::{Breaking, Compatible, None};
    for (from, to, change, may) in [
        ("0.1.0", "0.1.0", None, true),
        ("0.1.0", "0.1.1", None, false),
        ("0.1.0", "0.1.0", Compatible, false),
        ("0.1.0", "0.1.1", Compatible, true),
        ("0.1.0", "0.2.0", Compatible, true),
        ("0.2.0", "0.1.9", Compatible, false),
        ("0.1.0", "0.1.0", Breaking, false),
        ("0.1.0", "0.1.1", Breaking, false),
        ("0.1.4", "0.2.0", Breaking, true),
        ("0.2.0", "0.1.0", Breaking, false),
        ("1.2.0", "1.3.0", Breaking, false),
        ("1.2.0", "2.0.0", Breaking, true),
    ] {
        assert_eq!(may_follow(from, to, change), may, "{from} to {to}, {change:?}");
    }
}

#[test]
fn it_is_known_who_writes_against_each_world() {
    let mut resolve = Resolve::default();
    let package = Package::in_folder(&root().join("wit"));
    let package = resolve.push_str("wit", &package.0).expect("it parses");
    let mut worlds: Vec<_> = resolve.packages[package].worlds.keys().map(String::as_str).collect();
    worlds.sort_unstable();
    assert_eq!(worlds, USERS.map(|(world, _)| world), "USERS is to say who writes against each");
}

impl Package {
    fn in_folder(folder: &Path) -> Self {
        let mut files = entries(folder);
        files.retain(|path| path.extension().is_some_and(|it| it == "wit"));
        files.sort();
        let mut texts: Vec<_> =
            files.iter().map(|path| fs::read_to_string(path).expect("a text")).collect();
        texts.sort_by_key(|text| !text.contains(PACKAGE));
        Self(texts.join("\n"))
    }

    fn version(&self) -> String {
        let (_, rest) = self.0.split_once(PACKAGE).expect("a package with a version");
        rest.split(';').next().unwrap_or_default().to_owned()
    }

    /// The same under another version, so that both fit beside each other.
    fn called(&self, version: &str) -> Self {
        let own = format!("{PACKAGE}{}", self.version());
        Self(self.0.replacen(&own, &format!("{PACKAGE}{version}"), 1))
    }

    /// All words of it, without comments; WIT has no texts in which `//` could stand.
    fn said(&self) -> String {
        assert!(!self.0.contains("/*"), "comments of wit/ end with their lines");
        let lines = self.0.lines().map(|line| line.split("//").next().unwrap_or_default());
        lines.flat_map(str::split_whitespace).collect::<Vec<_>>().join(" ")
    }

    fn digest(&self) -> String {
        Sha256::digest(self.said()).iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// What was published, by version, the first one first.
fn published() -> Vec<(String, Package)> {
    let folders = entries(&root().join("wit/published")).into_iter().map(|folder| {
        let name = folder.file_name().and_then(|name| name.to_str()).expect("a version");
        let package = Package::in_folder(&folder);
        assert_eq!(package.version(), name, "{}", folder.display());
        (name.to_owned(), package)
    });
    let mut published: Vec<_> = folders.collect();
    published.sort_by_key(|(version, _)| numbers(version));
    published
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{folder:?}: {error}"));
    entries.map(|entry| entry.expect("an entry").path()).collect()
}

/// What the change from the one to the other is to what users wrote against the one.
fn change(before: &Package, after: &Package) -> Change {
    let (before, after) = (before.called("0.0.1"), after.called("0.0.2"));
    if before.called("0.0.2").said() == after.said() {
        return Change::None;
    }
    let mut resolve = Resolve::default();
    let mut push = |name, package: &Package| {
        let pushed = resolve.push_str(name, &package.0);
        pushed.unwrap_or_else(|error| panic!("{name} does not parse: {error:?}"))
    };
    let (one, other) = (push("before.wit", &before), push("after.wit", &after));
    let world = |package, name: &str| resolve.packages[package].worlds.get(name).copied();
    let is_kept = |(name, users): (&str, Users)| {
        let Some(old) = world(one, name) else { return true };
        let Some(new) = world(other, name) else { return false };
        let (component, host) = match users {
            Users::WriteHosts => (new, old),
            Users::WriteComponents => (old, new),
        };
        semver_check(resolve.clone(), component, host).is_ok()
    };
    match USERS.into_iter().all(is_kept) {
        true => Change::Compatible,
        false => Change::Breaking,
    }
}

fn may_follow(from: &str, to: &str, change: Change) -> bool {
    let (from, to) = (numbers(from), numbers(to));
    let series = |[major, minor, _]: [u32; 3]| (major, if major == 0 { minor } else { 0 });
    match change {
        Change::None => to == from,
        Change::Compatible => to > from,
        Change::Breaking => series(to) > series(from),
    }
}

fn numbers(version: &str) -> [u32; 3] {
    let mut parts = version.split('.').map(|part| part.parse().expect("a version's number"));
    [(); 3].map(|()| parts.next().expect("three numbers"))
}
