//! The SDK before 0.2.5 leaves host calls undefined without saying that a proxy has them.

fn main() {
    println!("cargo::rustc-link-arg-examples=--allow-undefined");
}
