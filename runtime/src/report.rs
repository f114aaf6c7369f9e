//! The one place that writes to stderr: what a person must see although nobody asked.

use std::io::Write;

/// Writes text as it is. Errors are ignored: there is nowhere to tell them.
pub(crate) fn text(text: &str) {
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}

/// Writes one line.
pub(crate) fn line(line: &str) {
    text(&format!("{line}\n"));
}
