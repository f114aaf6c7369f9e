//! Reads Rust files as tokens and Markdown files as tables: what `layers.rs` and `ledger.rs` share.
#![allow(dead_code, clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::path::{Path, PathBuf};

/// The part of a token that the checks need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    Word(String),
    Sign(char),
}

impl Token {
    pub(crate) fn word(&self) -> Option<&str> {
        match self {
            Self::Word(word) => Some(word),
            Self::Sign(_) => None,
        }
    }

    pub(crate) fn is(&self, text: &str) -> bool {
        match self {
            Self::Word(word) => word == text,
            Self::Sign(sign) => text.len() == 1 && text.starts_with(*sign),
        }
    }
}

/// Returns the words and signs of `source`, without comments, literals and lifetimes.
pub(crate) fn tokens(source: &str) -> Vec<Token> {
    let chars: Vec<char> = source.chars().collect();
    let at = |i: usize| chars.get(i).copied().unwrap_or('\0');
    let mut out = Vec::new();
    let mut i = 0;
    while i < chars.len() {
        let c = at(i);
        if c == '/' && at(i + 1) == '/' {
            while i < chars.len() && at(i) != '\n' {
                i += 1;
            }
        } else if c == '/' && at(i + 1) == '*' {
            i = after_block_comment(&chars, i);
        } else if c == '"' {
            i = after_string(&chars, i);
        } else if c == '\'' {
            // A lifetime has no closing quote behind its first character, a literal does.
            if at(i + 1) == '\\' {
                i += 3;
                while i < chars.len() && at(i) != '\'' {
                    i += 1;
                }
                i += 1;
            } else if at(i + 2) == '\'' {
                i += 3;
            } else {
                i += 1;
                while at(i).is_alphanumeric() || at(i) == '_' {
                    i += 1;
                }
            }
        } else if c.is_alphanumeric() || c == '_' {
            let start = i;
            while at(i).is_alphanumeric() || at(i) == '_' {
                i += 1;
            }
            let word: String = chars[start..i].iter().collect();
            match word.as_str() {
                "r" | "br" | "cr" if at(i) == '"' || is_raw_string(&chars, i) => {
                    i = after_raw_string(&chars, i);
                }
                "b" | "c" if at(i) == '"' => i = after_string(&chars, i),
                // `r#name`: the name alone counts.
                "r" if at(i) == '#' => i += 1,
                _ => out.push(Token::Word(word)),
            }
        } else {
            if !c.is_whitespace() {
                out.push(Token::Sign(c));
            }
            i += 1;
        }
    }
    out
}

fn after_block_comment(chars: &[char], mut i: usize) -> usize {
    let mut depth = 0;
    while i < chars.len() {
        match chars[i..] {
            ['/', '*', ..] => {
                depth += 1;
                i += 2;
            }
            ['*', '/', ..] => {
                depth -= 1;
                i += 2;
                if depth == 0 {
                    return i;
                }
            }
            _ => i += 1,
        }
    }
    i
}

fn after_string(chars: &[char], mut i: usize) -> usize {
    i += 1;
    while i < chars.len() && chars[i] != '"' {
        i += if chars[i] == '\\' { 2 } else { 1 };
    }
    i + 1
}

/// Whether hashes and then a quote stand at `i`.
fn is_raw_string(chars: &[char], i: usize) -> bool {
    let hashes = chars[i..].iter().take_while(|c| **c == '#').count();
    hashes > 0 && chars.get(i + hashes) == Some(&'"')
}

fn after_raw_string(chars: &[char], i: usize) -> usize {
    let hashes = chars[i..].iter().take_while(|c| **c == '#').count();
    let mut i = i + hashes + 1;
    while i < chars.len() {
        let closes = chars[i] == '"'
            && chars[i + 1..]
                .iter()
                .take(hashes)
                .filter(|c| **c == '#')
                .count()
                == hashes;
        i += 1;
        if closes {
            return i + hashes;
        }
    }
    i
}

/// Returns the rows below each table head that begins with the cells `head`, cell by cell,
/// without the back-quotes around a cell.
pub(crate) fn table(markdown: &str, head: &[&str]) -> Vec<Vec<String>> {
    let cells = |line: &str| -> Option<Vec<String>> {
        let inner = line.trim().strip_prefix('|')?.strip_suffix('|')?;
        Some(
            inner
                .split('|')
                .map(|cell| cell.trim().to_owned())
                .collect(),
        )
    };
    let mut rows = Vec::new();
    let mut inside = false;
    for line in markdown.lines() {
        let Some(row) = cells(line) else {
            inside = false;
            continue;
        };
        if inside {
            if !row
                .iter()
                .all(|cell| cell.starts_with('-') || cell.starts_with(':'))
            {
                rows.push(row);
            }
        } else {
            inside = row.len() >= head.len() && row.iter().zip(head).all(|(a, b)| a == b);
        }
    }
    rows
}

/// Returns the names in a cell: parts between commas, without back-quotes.
pub(crate) fn names(cell: &str) -> Vec<String> {
    cell.split(',')
        .map(|name| name.trim().trim_matches('`').to_owned())
        .collect()
}

/// The directory of the workspace.
pub(crate) fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_path_buf()
}

/// Reads a file, or panics with its path.
pub(crate) fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Returns all `.rs` files below `dir`, sorted, as paths relative to `base`.
pub(crate) fn rust_files(dir: &Path, base: &Path) -> Vec<String> {
    let mut files = Vec::new();
    let mut open = vec![dir.to_path_buf()];
    while let Some(dir) = open.pop() {
        let entries = fs::read_dir(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
        for entry in entries {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                files.push(
                    path.strip_prefix(base)
                        .unwrap()
                        .to_str()
                        .unwrap()
                        .to_owned(),
                );
            }
        }
    }
    files.sort();
    files
}

#[test]
fn tokens_leave_out_comments_and_literals() {
    let source = r####"
        // unsafe
        /* unsafe /* unsafe */ unsafe */
        let a = "unsafe \" unsafe"; let b = r#"unsafe " unsafe"#; let c = b"unsafe";
        let d = 'u'; let e = '\''; let f: &'unsafe_ str = r"unsafe\";
        keep(r#type, '"', "x");
    "####;
    let words: Vec<String> = tokens(source)
        .iter()
        .filter_map(|t| t.word().map(str::to_owned))
        .collect();
    let expected = "let a let b let c let d let e let f str keep type";
    assert_eq!(words.join(" "), expected);
    assert!(tokens("unsafe { f('{') }").contains(&Token::Word("unsafe".to_owned())));
    assert_eq!(
        tokens("f('{', '\\u{1F600}', b'{')")
            .iter()
            .filter(|t| t.is("{"))
            .count(),
        0
    );
}

#[test]
fn tables_are_found_by_their_head() {
    let text = "| x | y |\n|---|---|\n| 1 | 2 |\n\n| layer | file | what |\n|--:|---|---|\n| 0 | `a.rs`, `b.rs` | c |\n\ntext\n";
    let rows = table(text, &["layer", "file"]);
    assert_eq!(rows, [["0", "`a.rs`, `b.rs`", "c"]]);
    assert_eq!(names(&rows[0][1]), ["a.rs", "b.rs"]);
    assert!(table(text, &["file"]).is_empty());
}
