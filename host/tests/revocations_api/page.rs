//! What `host/deploy/REVOCATION.md` tells people to type.

use crate::home::{Home, TOKEN};
use std::path::Path;

/// What stands in the page's blocks of this kind.
fn blocks(page: &str, kind: &str) -> String {
    let (mut text, mut is_in) = (String::new(), false);
    for line in page.lines() {
        match line.strip_prefix("```") {
            Some(fence) => is_in = !is_in && fence == kind,
            None if is_in => text += &format!("{line}\n"),
            None => {}
        }
    }
    text
}

#[test]
fn every_setting_of_the_page_is_one() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/REVOCATION.md");
    let page = std::fs::read_to_string(page).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut apis = Vec::new();
    for (number, section) in blocks(&page, "yaml").split("revocations:").skip(1).enumerate() {
        let file = folder.path().join(format!("{number}.yaml"));
        std::fs::write(&file, format!("revocations:{section}")).unwrap();
        let config = tidegate::config::load(Some(&file), &|_| None, &[]).unwrap().config;
        apis.extend(config.revocations.unwrap().api);
    }
    assert_eq!(apis.len(), 2);
    let receiver = &apis[1].receivers["keycloak"];
    assert_eq!(receiver.token_issuers, std::slice::from_ref(&receiver.issuer));
}

#[tokio::test]
async fn every_command_of_the_page_works() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/REVOCATION.md");
    let page = std::fs::read_to_string(page).unwrap();
    let home = Home::new();
    let token = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJpIiwianRpIjoiaiIsImV4cCI6MTkwMDAwMDAwMH0.c2ln";
    std::fs::write(home.path("stolen.jwt"), token).unwrap();
    // A host's own address, and a token that it knows, for those of the page.
    let commands = blocks(&page, "sh").replace("127.0.0.1:8083", &home.api.to_string());
    let script = format!(
        "set -eux\ntidegate() {{ '{}' \"$@\"; }}\n{}",
        env!("CARGO_BIN_EXE_tidegate"),
        commands
    );
    let (keys, rest) = script.split_once("export ").unwrap();
    let script =
        format!("{keys}test $(wc -c < id-key) = 65\necho tests:{TOKEN} > api-token\nexport {rest}");
    let mut command = std::process::Command::new("sh");
    command.arg("-c").arg(script).current_dir(home.path(""));
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stdout));
    let stats = home.get("/v1/revocations/stats").await.json();
    assert_eq!(stats["by_kind"]["token"], 2, "{stats}");
    // And a file of keys made so is one that a host takes.
    let section =
        "id_key_files: [FOLDER/made]\n  api: { listen: 127.0.0.1:0, token_file: FOLDER/tokens }";
    let made = home.path("id-key");
    Home::prepared(section, "", |folder| {
        std::fs::copy(made, folder.join("made")).unwrap();
    });
}
