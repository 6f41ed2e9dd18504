//! Without a Redis, and without a configuration that is one.

use crate::{doctor, run, text};

#[test]
fn without_a_redis_it_says_so() {
    let told = doctor("provider: memory\n");
    told.is_well();
    told.has("OK", "store", "gets its budget once more when this process restarts");
    told.has("OK", "memory", "1000000 keys");
}

#[test]
fn what_is_wrong_with_the_configuration_is_told_as_serve_tells_it() {
    let output = run("redis:\n  adresses: [h:1]\n", &[]);
    assert_eq!(output.status.code(), Some(78));
    assert!(text(&output.stderr).contains("adresses"), "{}", text(&output.stderr));
    let output = run("", &["--jason"]);
    assert_eq!(output.status.code(), Some(64));
}

#[test]
fn what_is_odd_about_the_configuration_is_a_finding() {
    let told = doctor("provider: memory\nredis:\n  url: redis://127.0.0.1:1\n");
    assert_eq!(told.exit, 1);
    told.has("WARNING", "configuration", "no effect");
}
