//! A file uses files of lower layers of its crate only, by the tables in `docs/architecture.md`.
//!
//! What counts as a use: every path that begins with `crate`, `self`, `super` or a module that
//! the file declares, in `use` and anywhere else, macros included. What does not: comments,
//! `#[cfg(test)]` modules, and `pub(in crate::...)`. A path counts for the deepest module that it
//! leads to, so `crate::JoinHandle` is a use of `lib.rs`: name the module that defines a thing.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::mem_forget,
    clippy::type_complexity,
    dropping_copy_types
)]

use std::collections::{BTreeMap, BTreeSet};

mod scan;

use scan::Token;

type Path = Vec<String>;

/// The module path of a file: `hub/mod.rs` is `hub`, `hub/cell.rs` is `hub::cell`.
fn module(file: &str) -> Path {
    let stem = file.strip_suffix(".rs").unwrap();
    let stem = stem.strip_suffix("/mod").unwrap_or(stem);
    if stem == "lib" {
        Path::new()
    } else {
        stem.split('/').map(str::to_owned).collect()
    }
}

/// Returns the paths, from the crate's root, that the code of module `me` names.
fn paths(source: &str, me: &Path) -> Vec<Path> {
    let tokens = without_tests(&scan::tokens(source));
    let children: BTreeSet<&str> = tokens
        .windows(3)
        .filter(|w| w[0].is("mod") && w[2].is(";"))
        .filter_map(|w| w[1].word())
        .collect();
    let mut found = Vec::new();
    let mut inline: Vec<(String, usize)> = Vec::new();
    let mut depth = 0;
    let mut i = 0;
    while i < tokens.len() {
        let token = &tokens[i];
        if token.is("{") {
            depth += 1;
        } else if token.is("}") {
            depth -= 1;
            inline.retain(|(_, opened)| *opened <= depth);
        } else if token.is("mod") && tokens.get(i + 2).is_some_and(|t| t.is("{")) {
            inline.push((
                tokens[i + 1].word().unwrap_or_default().to_owned(),
                depth + 1,
            ));
        }
        let starts = token.word().is_some_and(|word| {
            ["crate", "self", "super"].contains(&word)
                || (inline.is_empty() && children.contains(word))
        });
        let continues = i >= 2 && tokens[i - 1].is(":") && tokens[i - 2].is(":");
        let visibility = i >= 1 && tokens[i - 1].is("in");
        if starts && !continues && !visibility && is_path_separator(&tokens, i + 1) {
            let here: Path = me
                .iter()
                .cloned()
                .chain(inline.iter().map(|m| m.0.clone()))
                .collect();
            let mut end = i;
            collect(&tokens, &mut end, &Path::new(), &mut |path| {
                found.push(absolute(&path, &here))
            });
            // A group inside the path holds no further path of its own; go on behind it.
            i = end.max(i + 1);
        } else {
            i += 1;
        }
    }
    found
}

fn is_path_separator(tokens: &[Token], i: usize) -> bool {
    tokens.get(i).is_some_and(|t| t.is(":")) && tokens.get(i + 1).is_some_and(|t| t.is(":"))
}

/// Reads one path, or one tree of a `use`, from `*i` on; gives every leaf to `leaf`.
fn collect(tokens: &[Token], i: &mut usize, prefix: &Path, leaf: &mut impl FnMut(Path)) {
    let mut path = prefix.clone();
    loop {
        match tokens.get(*i) {
            Some(Token::Word(word)) => {
                path.push(word.clone());
                *i += 1;
            }
            Some(Token::Sign('*')) => *i += 1,
            Some(Token::Sign('{')) => {
                *i += 1;
                while tokens.get(*i).is_some_and(|t| !t.is("}")) {
                    if tokens[*i].is(",") {
                        *i += 1;
                    } else {
                        collect(tokens, i, &path, leaf);
                        // `as name`, and whatever else stands before the next comma.
                        while tokens.get(*i).is_some_and(|t| !t.is(",") && !t.is("}")) {
                            *i += 1;
                        }
                    }
                }
                *i += 1;
                return;
            }
            _ => {}
        }
        if is_path_separator(tokens, *i) {
            *i += 2;
            // `::<` of a generic call ends the part that can name a module.
            let goes_on = matches!(
                tokens.get(*i),
                Some(Token::Word(_) | Token::Sign('*' | '{'))
            );
            if goes_on {
                continue;
            }
        }
        leaf(path);
        return;
    }
}

/// Resolves `crate`, `self` and `super` at the head of a path in the module `here`.
fn absolute(path: &Path, here: &Path) -> Path {
    let mut base = here.clone();
    let mut rest = path.as_slice();
    while let [first, tail @ ..] = rest {
        match first.as_str() {
            "crate" => base.clear(),
            "super" => drop(base.pop()),
            "self" => {}
            _ => break,
        }
        rest = tail;
    }
    base.extend(rest.iter().filter(|part| *part != "self").cloned());
    base
}

/// Removes `#[cfg(test)]` and `#[cfg(all(test, ..))]` modules.
fn without_tests(tokens: &[Token]) -> Vec<Token> {
    let mut out = Vec::new();
    let mut i = 0;
    while i < tokens.len() {
        if let Some(end) = test_module_end(&tokens[i..]) {
            i += end;
        } else {
            out.push(tokens[i].clone());
            i += 1;
        }
    }
    out
}

fn test_module_end(tokens: &[Token]) -> Option<usize> {
    let [hash, bracket, cfg, ..] = tokens else {
        return None;
    };
    if !(hash.is("#") && bracket.is("[") && cfg.is("cfg")) {
        return None;
    }
    let close = tokens.iter().position(|t| t.is("]"))?;
    let condition = &tokens[3..close];
    // `test` itself, not inside `not(..)` or `any(..)`.
    let plain = |i: usize| i < 2 || !(condition[i - 2].is("not") || condition[i - 2].is("any"));
    let is_test = |i: usize| condition[i].is("test") && plain(i);
    if condition.iter().any(|t| t.is("any")) || !(0..condition.len()).any(is_test) {
        return None;
    }
    let mut i = close + 1;
    if !tokens.get(i)?.is("mod") || !tokens.get(i + 2)?.is("{") {
        return None;
    }
    i += 3;
    let mut depth = 1;
    while depth > 0 {
        let token = tokens.get(i)?;
        depth += i32::from(token.is("{")) - i32::from(token.is("}"));
        i += 1;
    }
    Some(i)
}

/// What the page says: the layer of each file, and the pairs allowed within a layer.
struct Layers {
    layer: BTreeMap<String, u32>,
    allowed: BTreeSet<(String, String)>,
}

/// Reads the tables; what is wrong with them goes to `faults`.
fn layers(page: &str, faults: &mut Vec<String>) -> Layers {
    let mut layer = BTreeMap::new();
    for row in scan::table(page, &["layer", "file", "responsibility"]) {
        let Ok(number) = row[0].parse() else {
            faults.push(format!("`{}` is not the number of a layer", row[0]));
            continue;
        };
        for file in scan::names(&row[1]) {
            if layer.insert(file.clone(), number).is_some() {
                faults.push(format!("{file} is in the table twice"));
            }
        }
    }
    let mut allowed = BTreeSet::new();
    for row in scan::table(page, &["file", "may use", "why"]) {
        for from in scan::names(&row[0]) {
            for to in scan::names(&row[1]) {
                if !layer.contains_key(&from) || layer.get(&from) != layer.get(&to) {
                    faults.push(format!(
                        "the exception {from} -> {to} is not within one layer"
                    ));
                }
                allowed.insert((from.clone(), to));
            }
        }
    }
    Layers { layer, allowed }
}

/// Compares the files (name, source) with the page; returns what is wrong.
fn check(page: &str, files: &[(String, String)]) -> Vec<String> {
    let mut faults = Vec::new();
    let Layers { layer, allowed } = layers(page, &mut faults);
    let by_module: BTreeMap<Path, &String> = files.iter().map(|(f, _)| (module(f), f)).collect();
    for file in layer
        .keys()
        .filter(|file| !files.iter().any(|(f, _)| f == *file))
    {
        faults.push(format!("{file} is in the table but not there"));
    }
    let mut needed = BTreeSet::new();
    for (file, source) in files {
        let Some(&mine) = layer.get(file) else {
            faults.push(format!(
                "{file} is not in the table of docs/architecture.md"
            ));
            continue;
        };
        let mut used: BTreeSet<&String> = BTreeSet::new();
        for path in paths(source, &module(file)) {
            let deepest = (0..=path.len())
                .rev()
                .find_map(|n| by_module.get(&path[..n]));
            used.extend(deepest.filter(|target| **target != file));
        }
        for target in used {
            let Some(&theirs) = layer.get(target) else {
                continue;
            };
            let pair = (file.clone(), target.clone());
            if theirs == mine && allowed.contains(&pair) {
                needed.insert(pair);
            } else if theirs >= mine {
                faults.push(format!(
                    "{file} (layer {mine}) uses {target} (layer {theirs})"
                ));
            }
        }
    }
    for (from, to) in allowed.difference(&needed) {
        faults.push(format!("the exception {from} -> {to} is not needed"));
    }
    faults
}

/// The crates, and the headings of their tables.
const CRATES: [(&str, &str); 5] = [
    ("runtime/src", "## Layers of the runtime"),
    ("net/src", "## Layers of net"),
    ("net/http/src", "## Layers of net/http"),
    ("mq/zmtp/src", "## Layers of mq/zmtp"),
    ("mq/src", "## Layers of mq"),
];

/// The part of the page below a heading, up to the next one.
fn section<'a>(page: &'a str, heading: &str) -> &'a str {
    let start = page.find(&format!("\n{heading}\n"));
    let start = start.unwrap_or_else(|| panic!("the page has no '{heading}'"));
    let rest = &page[start + heading.len() + 2..];
    rest.split("\n## ").next().unwrap_or(rest)
}

#[test]
fn files_use_lower_layers_only() {
    let root = scan::workspace();
    let page = scan::read(&root.join("docs/architecture.md"));
    let mut all = Vec::new();
    for (crate_, heading) in CRATES {
        let src = root.join(crate_);
        let files: Vec<(String, String)> = scan::rust_files(&src, &src)
            .into_iter()
            .filter(|file| !file.ends_with("/tests.rs"))
            .map(|file| (file.clone(), scan::read(&src.join(file))))
            .collect();
        assert!(!files.is_empty());
        let faults = check(section(&page, heading), &files);
        all.extend(faults.iter().map(|fault| format!("{crate_}: {fault}")));
    }
    assert!(all.is_empty(), "\n{}\n", all.join("\n"));
}

#[test]
fn paths_are_found_in_every_form() {
    let source = "
        //! [`crate::comment`]
        mod child;
        use crate::a::{self, b::{C, D as E}, *};
        use super::{x::Y, z};
        pub(in crate::not_a_use) struct S;
        pub(super) use self::child::Thing;
        fn f() { child::make::<crate::g::H>(crate::call()); other::crate_name(); }
        mod inner { use super::super::up; fn g() { child::not_ours(); } }
        #[cfg(all(test, loom))]
        mod tests { use crate::test_only; mod deep { } }
        #[cfg(all(test, not(loom)))]
        mod more { use crate::test_only; }
        #[cfg(not(test))]
        mod kept { use crate::kept_use; }
        fn h() { crate::last() }
    ";
    let me: Path = vec!["hub".to_owned(), "cell".to_owned()];
    let found: BTreeSet<String> = paths(source, &me).iter().map(|p| p.join("::")).collect();
    let expected = [
        "a",
        "a::b::C",
        "a::b::D",
        "call",
        "g::H",
        "hub::cell::child::Thing",
        "hub::cell::child::make",
        "hub::up",
        "hub::x::Y",
        "hub::z",
        "kept_use",
        "last",
    ];
    assert_eq!(found, expected.iter().map(|s| (*s).to_owned()).collect());
}

#[test]
fn the_check_can_fail() {
    let page = "
| layer | file | responsibility |
|---|---|---|
| 0 | `error.rs`, `gone.rs` | x |
| 1 | `hub/mod.rs`, `hub/cell.rs`, `park.rs` | x |
| 2 | `lib.rs` | x |

| file | may use | why |
|---|---|---|
| `hub/mod.rs` | `hub/cell.rs` | x |
| `hub/cell.rs` | `park.rs` | never used |
| `park.rs` | `lib.rs` | other layer |
";
    let file = |name: &str, source: &str| (name.to_owned(), source.to_owned());
    let files = [
        file("error.rs", "use crate::park::Reason;"),
        file(
            "hub/mod.rs",
            "pub mod cell; use cell::Cell; use crate::error::E;",
        ),
        file("hub/cell.rs", "use super::Hub;"),
        file("park.rs", "fn f(_: crate::Handle) {}"),
        file(
            "lib.rs",
            "mod error; mod hub; mod park; mod stray; pub use park::f;",
        ),
        file("stray.rs", ""),
    ];
    let mut faults = check(page, &files);
    faults.sort();
    let expected = [
        "error.rs (layer 0) uses park.rs (layer 1)",
        "gone.rs is in the table but not there",
        "hub/cell.rs (layer 1) uses hub/mod.rs (layer 1)",
        "park.rs (layer 1) uses lib.rs (layer 2)",
        "stray.rs is not in the table of docs/architecture.md",
        "the exception hub/cell.rs -> park.rs is not needed",
        "the exception park.rs -> lib.rs is not needed",
        "the exception park.rs -> lib.rs is not within one layer",
    ];
    assert_eq!(faults, expected);
}
