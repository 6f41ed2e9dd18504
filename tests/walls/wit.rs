//! What components are compiled against stays, or gets a new version.
//!
//! A change is compatible if every component of the published package still runs in a host of the
//! new one: imports may gain, exports may not, and no type may change. Any other change needs a new
//! series, which before 1.0 is a new minor version. `wit/published/` has what was published last,
//! in a folder named by its version; a new version brings its own copy there.

use harness::parts::root;
use std::fs;
use std::path::Path;
use wit_component::semver_check;
use wit_parser::Resolve;

const PACKAGE: &str = "package tidegate:edge@";

/// A package as text: its files one after the other, that with the package's name first.
struct Package(String);

/// What a change is to components that were compiled before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Compatible,
    Breaking,
}

#[test]
fn what_was_published_still_runs_unless_the_version_says_otherwise() {
    let (published, now) = (Package::published(), Package::in_folder(&root().join("wit")));
    let change = change(&published, &now);
    assert!(
        may_follow(&published.version(), &now.version(), change),
        "wit/ is {} and {change:?} beside the published {}\n  hint: give it a new minor version, and \
         put a copy into wit/published/",
        now.version(),
        published.version()
    );
}

#[test]
fn compatible_changes_and_breaking_ones_are_told_apart() {
    let published = Package::published();
    for (told, from, to, wanted) in [
        ("nothing", "", "", Change::Compatible),
        (
            "a function more that a host offers",
            "write: func(level: level, message: string);",
            "write: func(level: level, message: string);\n flush: func();",
            Change::Compatible,
        ),
        (
            "a function more that a component must have",
            "take-tallies: func() -> tallies;",
            "take-tallies: func() -> tallies;\n nap: func();",
            Change::Breaking,
        ),
        ("a record's field more", "waits: nanos,", "waits: nanos, again: bool,", Change::Breaking),
        (
            "a record's field of another type",
            "authority: string",
            "authority: u8",
            Change::Breaking,
        ),
        ("a case more", "unreachable,", "unreachable, asleep,", Change::Breaking),
        ("a function less", "now: func() -> nanos;", "", Change::Breaking),
        ("an import less", "import log;", "", Change::Breaking),
        (
            "another result",
            "put: func(key: list<u8>, value: list<u8>, version: option<u32>) -> bool",
            "put: func(key: list<u8>, value: list<u8>, version: option<u32>)",
            Change::Breaking,
        ),
    ] {
        assert!(published.0.contains(from), "{from:?} is not in the package any more");
        let changed = Package(published.0.replacen(from, to, 1));
        assert_eq!(change(&published, &changed), wanted, "{told}");
    }
}

#[test]
fn a_breaking_change_needs_a_new_series() {
    use Change::{Breaking, Compatible};
    for (from, to, change, may) in [
        ("0.1.0", "0.1.0", Compatible, true),
        ("0.1.0", "0.1.1", Compatible, true),
        ("0.1.0", "0.1.1", Breaking, false),
        ("0.1.0", "0.1.0", Breaking, false),
        ("0.1.4", "0.2.0", Breaking, true),
        ("0.2.0", "0.1.9", Compatible, false),
        ("1.2.0", "1.3.0", Breaking, false),
        ("1.2.0", "2.0.0", Breaking, true),
    ] {
        assert_eq!(may_follow(from, to, change), may, "{from} to {to}, {change:?}");
    }
}

impl Package {
    fn published() -> Self {
        let folder = root().join("wit/published");
        let versions = fs::read_dir(&folder).expect("wit/published");
        let versions = versions.map(|entry| entry.expect("an entry").path());
        let named = |path: &Path| {
            numbers(path.file_name().and_then(|name| name.to_str()).unwrap_or_default())
        };
        let last = versions.max_by_key(|path| named(path)).expect("a published version");
        let package = Self::in_folder(&last);
        assert_eq!(numbers(&package.version()), named(&last), "{}", last.display());
        package
    }

    fn in_folder(folder: &Path) -> Self {
        let files = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("it").path());
        let files = files.filter(|path| path.extension().is_some_and(|it| it == "wit"));
        let mut texts: Vec<_> =
            files.map(|path| fs::read_to_string(path).expect("a text")).collect();
        texts.sort_by_key(|text| !text.contains(PACKAGE));
        Self(texts.join("\n"))
    }

    fn version(&self) -> String {
        let (_, rest) = self.0.split_once(PACKAGE).expect("a package with a version");
        rest.split(';').next().unwrap_or_default().to_owned()
    }

    /// The same under another version, so that both fit beside each other.
    fn called(&self, version: &str) -> String {
        self.0.replacen(&format!("{PACKAGE}{}", self.version()), &format!("{PACKAGE}{version}"), 1)
    }
}

/// What the change from the one to the other is to components of the one.
fn change(before: &Package, after: &Package) -> Change {
    let mut resolve = Resolve::default();
    let one = resolve.push_str("before.wit", &before.called("0.0.1")).expect("it parses");
    let other = resolve.push_str("after.wit", &after.called("0.0.2"));
    let other = other.unwrap_or_else(|error| panic!("wit/ does not parse: {error:?}"));
    let worlds = |package| resolve.packages[package].worlds.clone();
    let is_kept = |(name, world): (&String, &wit_parser::WorldId)| {
        let new = worlds(other).get(name).copied();
        new.is_some_and(|new| semver_check(resolve.clone(), *world, new).is_ok())
    };
    match worlds(one).iter().all(is_kept) {
        true => Change::Compatible,
        false => Change::Breaking,
    }
}

fn may_follow(from: &str, to: &str, change: Change) -> bool {
    let (from, to) = (numbers(from), numbers(to));
    let series = |[major, minor, _]: [u32; 3]| (major, if major == 0 { minor } else { 0 });
    to >= from && (change == Change::Compatible || series(to) > series(from))
}

fn numbers(version: &str) -> [u32; 3] {
    let mut parts = version.split('.').map(|part| part.parse().expect("a version's number"));
    [(); 3].map(|()| parts.next().expect("three numbers"))
}
