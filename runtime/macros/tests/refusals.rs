//! What the attributes refuse: the message, and the line and column where it stands.
//!
//! The compiler is asked itself, with the macro library that this test was built beside.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::PathBuf;
use std::process::Command;
use std::{env, fs};

/// The newest build of the macro library.
fn library() -> PathBuf {
    let exe = env::current_exe().unwrap();
    fs::read_dir(exe.parent().unwrap())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            name.starts_with("libsward_macros-") && name.ends_with(".so")
        })
        .max_by_key(|path| fs::metadata(path).unwrap().modified().unwrap())
        .expect("no libsward_macros-*.so beside the test")
}

/// Compiles `source` and returns what the compiler says, one line for each error.
fn compile(name: &str, source: &str) -> String {
    let dir = env::temp_dir().join(format!("sward-refusals-{}-{name}", std::process::id()));
    fs::create_dir_all(&dir).unwrap();
    let file = dir.join("code.rs");
    fs::write(&file, source).unwrap();
    let output = Command::new(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))
        .args([
            "--edition=2024",
            "--crate-type=lib",
            "--emit=metadata",
            "--error-format=short",
        ])
        .args([
            "--cfg=test",
            "-Adead_code",
            "--crate-name=code",
            "code.rs",
            "--extern",
        ])
        .arg(format!("sward_macros={}", library().display()))
        .current_dir(&dir)
        .output()
        .unwrap();
    fs::remove_dir_all(&dir).unwrap();
    String::from_utf8(output.stderr).unwrap()
}

/// Checks that `source` gives one error, which stands at `at` and contains each of `parts`.
#[track_caller]
fn refused(name: &str, source: &str, at: &str, parts: &[&str]) {
    let text = compile(name, source);
    let errors: Vec<&str> = text
        .lines()
        .filter(|line| line.contains(": error"))
        .collect();
    assert_eq!(errors.len(), 1, "{text}");
    assert!(errors[0].starts_with(&format!("code.rs:{at}: ")), "{text}");
    for part in parts {
        assert!(errors[0].contains(part), "no `{part}` in {text}");
    }
}

#[test]
fn what_is_right_compiles() {
    let source = "
        mod run_time { pub fn run<T>(f: impl FnOnce() -> T) -> T { f() } }
        #[sward_macros::main(crate = \"crate::run_time\")]
        /// Documented.
        pub(in crate) fn f() -> u8 { 1 }
    ";
    assert_eq!(compile("right", source), "");
}

#[test]
fn functions_of_the_wrong_shape() {
    let cases = [
        (
            "async",
            "#[sward_macros::main]\nasync fn f() {}",
            "2:1",
            "remove `async`",
        ),
        (
            "const",
            "#[sward_macros::main]\npub const fn f() {}",
            "2:5",
            "remove `const`",
        ),
        (
            "unsafe",
            "#[sward_macros::main]\nunsafe fn f() {}",
            "2:1",
            "remove `unsafe`",
        ),
        (
            "extern",
            "#[sward_macros::main]\nextern \"C\" fn f() {}",
            "2:1",
            "remove `extern`",
        ),
        (
            "argument",
            "#[sward_macros::main]\nfn f(n: u8) {}",
            "2:5",
            "without arguments",
        ),
        (
            "generics",
            "#[sward_macros::main]\nfn f<T>() {}",
            "2:5",
            "without generics",
        ),
        (
            "where",
            "#[sward_macros::main]\nfn f() where u8: Copy {}",
            "2:8",
            "without generics",
        ),
        (
            "struct",
            "#[sward_macros::main]\nstruct S;",
            "2:1",
            "only be put on a function",
        ),
        (
            "test",
            "#[sward_macros::test]\n#[test]\nfn f() {}",
            "2:2",
            "a test already",
        ),
    ];
    for (name, source, at, part) in cases {
        refused(name, source, at, &[part]);
    }
}

#[test]
fn arguments_that_do_not_exist() {
    refused(
        "unknown-main",
        "#[sward_macros::main(workers = 1, timeout = \"1s\")]\nfn f() {}",
        "1:35",
        &["`timeout`", "`workers`, `stack_size`, `crate`"],
    );
    refused(
        "unknown-test",
        "#[sward_macros::test(threads = 1)]\nfn f() {}",
        "1:22",
        &[
            "`threads`",
            "`workers`, `stack_size`, `virtual_clock`, `timeout`, `crate`",
        ],
    );
}

#[test]
fn values_that_make_no_sense() {
    let cases = [
        (
            "workers",
            "workers = \"two\"",
            "1:32",
            "whole decimal number",
        ),
        ("size", "stack_size = \"64X\"", "1:35", "not a size"),
        ("duration", "timeout = \"1 day\"", "1:32", "not a duration"),
        ("number", "timeout = 30", "1:32", "\\\"60s\\\""),
        ("zero", "timeout = \"0s\"", "1:32", "above zero"),
        ("path", "crate = \"a; b\"", "1:30", "not the path"),
        ("twice", "workers = 1, workers = 2", "1:35", "given twice"),
        ("equals", "workers", "1:22", "expected `workers = value`"),
        ("value", "workers =", "1:22", "lacks its value"),
        ("flag", "virtual_clock = 1", "1:36", "expected a comma"),
        (
            "clock",
            "virtual_clock, workers = 2",
            "1:37",
            "has one worker",
        ),
        ("comma", "workers = 1 timeout", "1:34", "expected a comma"),
    ];
    for (name, arguments, at, part) in cases {
        let source = format!("#[sward_macros::test({arguments})]\nfn f() {{}}");
        refused(name, &source, at, &[&part.replace('\\', "")]);
    }
}
