//! `docs/zeromq.md` is true as far as a test can see: the tests that it names are there, and it names
//! every option.

use std::fs;
use std::path::Path;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn page() -> String {
    fs::read_to_string(root().join("../docs/zeromq.md")).unwrap()
}

/// What stands between back quotes.
fn quoted(page: &str) -> Vec<&str> {
    page.lines()
        .flat_map(|line| line.split('`').skip(1).step_by(2))
        .collect()
}

/// The named tests that are not there.
fn missing(page: &str) -> Vec<&str> {
    let mut names = quoted(page);
    names.retain(|name| {
        let Some((file, function)) = name.split_once("::") else {
            return false;
        };
        let text = fs::read_to_string(root().join(format!("tests/spec/{file}.rs")));
        !text.is_ok_and(|text| text.contains(&format!("fn {function}(")))
    });
    names
}

/// The options that it does not name.
fn unnamed(page: &str) -> Vec<String> {
    let names = quoted(page);
    let source = fs::read_to_string(root().join("src/options.rs")).unwrap();
    let fields = source.lines().filter_map(|line| {
        let (name, rest) = line.strip_prefix("        ")?.split_once(": ")?;
        let plain = name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
        (plain && rest.contains(" = ")).then(|| name.to_owned())
    });
    let fields: Vec<String> = fields.collect();
    assert!(fields.len() > 40, "{fields:?}");
    let named = |field: &String| names.contains(&field.as_str());
    fields.into_iter().filter(|field| !named(field)).collect()
}

#[test]
fn the_page_names_tests_and_options_that_are_there() {
    let page = page();
    assert!(
        quoted(&page)
            .iter()
            .filter(|name| name.contains("::"))
            .count()
            > 80
    );
    assert_eq!(missing(&page), [""; 0]);
    assert_eq!(unnamed(&page), [""; 0]);
}

#[test]
fn the_check_can_fail() {
    let page = page()
        .replace("push_goes_round", "push_goes_wild")
        .replace("`linger`", "linger");
    assert_eq!(missing(&page), ["pipeline::push_goes_wild"]);
    assert_eq!(unnamed(&page), ["linger"]);
}
