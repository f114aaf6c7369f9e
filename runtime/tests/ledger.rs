//! Every file with `unsafe` in it stands in the table of `docs/unsafe.md`, and no other does.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::mem_forget,
    clippy::type_complexity,
    dropping_copy_types
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

mod scan;

/// Crates whose code may hold no `unsafe`, or in single modules only, with the attribute that
/// their first file carries.
const PROMISES: [(&str, &[&str]); 7] = [
    ("lib.rs", &["forbid"]),
    ("runtime/macros/src/lib.rs", &["forbid"]),
    ("runtime/src/lib.rs", &["deny"]),
    ("net/src/lib.rs", &["forbid"]),
    ("net/http/src/lib.rs", &["forbid"]),
    ("mq/src/lib.rs", &["forbid"]),
    ("mq/zmtp/src/lib.rs", &["forbid"]),
];

/// Whether the code (not a comment, not a string) holds the keyword.
fn is_unsafe(source: &str) -> bool {
    scan::tokens(source).iter().any(|token| token.is("unsafe"))
}

/// Whether the file has `#![level(.., unsafe_code, ..)]` for one of `levels`.
fn promises(source: &str, levels: &[&str]) -> bool {
    let tokens = scan::tokens(source);
    let mut heads = tokens
        .windows(5)
        .enumerate()
        .filter(|(_, w)| w[0].is("#") && w[1].is("!") && w[2].is("[") && w[4].is("("));
    heads.any(|(i, w)| {
        levels.iter().any(|level| w[3].is(level))
            && tokens[i + 5..]
                .iter()
                .take_while(|t| !t.is(")"))
                .any(|t| t.is("unsafe_code"))
    })
}

/// Returns every `src` directory beside a `Cargo.toml`, at any depth.
fn source_trees(root: &Path) -> Vec<PathBuf> {
    let mut trees = Vec::new();
    let mut open = vec![root.to_path_buf()];
    while let Some(dir) = open.pop() {
        if dir.join("Cargo.toml").exists() && dir.join("src").is_dir() {
            trees.push(dir.join("src"));
        }
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir()
                && !name.starts_with('.')
                && !["target", "src"].contains(&name.as_str())
            {
                open.push(path);
            }
        }
    }
    trees
}

/// Compares the unsafe files with the ledger; returns what is wrong.
fn compare(unsafe_files: &BTreeSet<String>, page: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let mut listed = BTreeSet::new();
    for row in scan::table(page, &["file", "why", "invariant", "test"]) {
        for file in scan::names(&row[0]) {
            if row.iter().any(String::is_empty) {
                faults.push(format!("the row of {file} has an empty cell"));
            }
            if !listed.insert(file.clone()) {
                faults.push(format!("{file} is in the ledger twice"));
            }
        }
    }
    faults.extend(
        unsafe_files
            .difference(&listed)
            .map(|f| format!("{f} is not in the ledger")),
    );
    faults.extend(
        listed
            .difference(unsafe_files)
            .map(|f| format!("{f} has no unsafe code")),
    );
    faults
}

#[test]
fn the_ledger_lists_the_files_with_unsafe_code() {
    let root = scan::workspace();
    let trees = source_trees(&root);
    assert!(trees.contains(&root.join("runtime/src")), "{trees:?}");
    let mut files: Vec<String> = trees
        .iter()
        .flat_map(|tree| scan::rust_files(tree, &root))
        .collect();
    files.push("lib.rs".to_owned());
    let unsafe_files: BTreeSet<String> = files
        .into_iter()
        .filter(|file| is_unsafe(&scan::read(&root.join(file))))
        .collect();
    let faults = compare(&unsafe_files, &scan::read(&root.join("docs/unsafe.md")));
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

#[test]
fn crates_keep_their_promise() {
    let root = scan::workspace();
    for (file, levels) in PROMISES {
        let kept = promises(&scan::read(&root.join(file)), levels);
        assert!(
            kept,
            "{file} lacks #![{}(unsafe_code)]",
            levels.join(" or ")
        );
    }
}

#[test]
fn the_check_can_fail() {
    assert!(is_unsafe("fn f() { unsafe { g() } }"));
    assert!(is_unsafe("#[unsafe(no_mangle)] fn f() {}"));
    assert!(!is_unsafe(
        "#![deny(unsafe_code)] // unsafe\nfn f() { g(\"unsafe\") }"
    ));

    assert!(promises(
        "#![deny(missing_docs, unsafe_code)]",
        &["deny", "forbid"]
    ));
    assert!(!promises("#![deny(unsafe_code)]", &["forbid"]));
    assert!(!promises("#![allow(unsafe_code)]", &["deny", "forbid"]));
    assert!(!promises(
        "// #![forbid(unsafe_code)]\n#![forbid(missing_docs)]",
        &["forbid"]
    ));

    let page = "
| file | why | invariant | test |
|---|---|---|---|
| `a.rs` | x | x | x |
| `a.rs` | x | x | x |
| `b.rs` | x | | x |
";
    let unsafe_files = ["a.rs", "c.rs"].map(str::to_owned).into();
    let expected = [
        "a.rs is in the ledger twice",
        "the row of b.rs has an empty cell",
        "c.rs is not in the ledger",
        "b.rs has no unsafe code",
    ];
    assert_eq!(compare(&unsafe_files, page), expected);
}
