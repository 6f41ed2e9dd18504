//! `wit/README.md`: each of its blocks of code is run or compared.

use harness::Result;
use harness::workshop::{blocks, page};

/// The blocks that tests run; [`crate::plugins`] and [`crate::hosts`] do.
const RUN: [&str; 7] = [
    "javascript-plugin",
    "python-plugin",
    "rust-plugin",
    "javascript-guard",
    "javascript-serve",
    "python-serve",
    "rust-server-serve",
];

#[test]
fn every_block_of_the_page_is_run_or_compared() -> Result<()> {
    let mut seen = Vec::new();
    for (info, text) in blocks()? {
        match info.split_once(' ').unwrap_or((&info, "")) {
            ("sh", name) => assert!(RUN.contains(&name), "nobody runs the block {name:?}"),
            ("rust", "") => assert_eq!(text, page("examples/rust/src/lib.rs")?),
            ("text", "") => check_picture(&text)?,
            _ => panic!("a block of {info:?}, which nobody looks at:\n{text}"),
        }
        seen.push(info);
    }
    for name in RUN {
        assert!(seen.contains(&format!("sh {name}")), "the page no longer has {name:?}");
    }
    assert!(["rust", "text"].iter().all(|info| seen.iter().any(|it| it == info)), "{seen:?}");
    Ok(())
}

/// The picture shows each world with all that it imports and exports.
fn check_picture(picture: &str) -> Result<()> {
    let worlds = page("worlds.wit")?;
    let words: Vec<&str> = worlds.split(|c: char| !c.is_ascii_alphanumeric() && c != '-').collect();
    let named = words.windows(2).filter(|pair| ["world", "import", "export"].contains(&pair[0]));
    let mut checked = 0;
    for pair in named {
        let name = pair[1];
        assert!(picture.contains(name), "the picture lacks {} `{name}`", pair[0]);
        checked += 1;
    }
    assert!(checked >= 9, "worlds.wit has two worlds and what they import and export");
    Ok(())
}
