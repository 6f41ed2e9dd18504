//! The command line: what it prints and how it ends, as in `cli/NAME.txt`: a command in each line
//! that begins with `$ `, and then what came of it. Certain texts stand for others: `{now}` for
//! the second in which it ran.
//!
//! `TIDEGATE_BLESS=1` writes the files as things are now; read them before committing.

use crate::home::Home;
use std::path::Path;

async fn session(home: &Home, name: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/revocations_api/cli").join(name);
    let wanted = std::fs::read_to_string(&file).unwrap();
    let mut found = String::new();
    for command in wanted.lines().filter_map(|line| line.strip_prefix("$ ")) {
        let arguments: Vec<&str> = command.split(' ').skip(1).collect();
        let output = home.run(&arguments).await;
        let code = output.status.code().unwrap();
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8(said).unwrap().replace(&home.api.to_string(), "SERVER");
        found += &format!("$ {command}\n{said}= {code}\n");
    }
    if std::env::var("TIDEGATE_BLESS").is_ok_and(|bless| bless == "1") {
        std::fs::write(&file, &found).unwrap();
    }
    assert_eq!(found, wanted, "{name}");
}

/// Puts what the sessions name.
fn files(folder: &Path) {
    let put = |name: &str, text: &str| std::fs::write(folder.join(name), text).unwrap();
    put("opaque", "opaque~token\n");
    put("cookie", "session=value\n");
    // {"alg":"RS256","kid":"k1"} and {"iss":"https://id.example","jti":"4f1c","sub":"alice",
    // "iat":1795000000,"exp":1900000000}
    put(
        "token",
        "eyJhbGciOiJSUzI1NiIsImtpZCI6ImsxIn0.eyJpc3MiOiJodHRwczovL2lkLmV4YW1wbGUiLCJqdGkiOiI0Zj\
         FjIiwic3ViIjoiYWxpY2UiLCJpYXQiOjE3OTUwMDAwMDAsImV4cCI6MTkwMDAwMDAwMH0.c2ln\n",
    );
    put("empty", "\n");
    put("stranger", "another-token-of-length\n");
    put(
        "some.ndjson",
        "{\"jti\":\"1\",\"iss\":\"i\",\"exp\":1900000000}\n{\"jti\":\"2\",\"iss\":\"i\",\"exp\":1}\n\
         {\"jti\":\"3\",\"iss\":\"i\",\"ex\":1900000000}\n{\"jti\":\"4\",\"iss\":\"i\",\"exp\":1900000000}\n",
    );
}

#[tokio::test]
async fn what_is_revoked_and_lifted_is_told_in_a_few_lines() {
    let section = "api: { listen: 127.0.0.1:0, token_file: FOLDER/tokens }";
    session(&Home::prepared(section, "", files), "revoke.txt").await;
}

#[tokio::test]
async fn imports_and_exports_are_told_too() {
    let section = "api: { listen: 127.0.0.1:0, token_file: FOLDER/tokens }";
    session(&Home::prepared(section, "", files), "lines.txt").await;
}

#[tokio::test]
async fn what_is_wrong_is_told_with_its_exit_code() {
    let section = "api: { listen: 127.0.0.1:0, token_file: FOLDER/tokens }";
    session(&Home::prepared(section, "", files), "wrong.txt").await;
}

#[tokio::test]
async fn help_tells_all_of_it() {
    session(&Home::new(), "help.txt").await;
}
