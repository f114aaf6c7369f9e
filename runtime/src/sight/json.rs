//! The dump as JSON.
//!
//! Rejected: `serde_json`, for a hundred lines of writing and none of reading.

use std::fmt::Write;
use std::time::Duration;

use crate::hub::question::{TaskState, Traced};
use crate::sight::dump::Dump;
use crate::sight::rows::{self, Row};
use crate::sight::symbols::Symbols;
use crate::sight::text;
use crate::wait_name::Named;
use crate::wait_reason::{WaitKind, WaitReason};

/// JSON under construction. A value follows a value of the same object or array with a comma.
struct Json {
    out: String,
    first: bool,
}

impl Json {
    fn comma(&mut self) {
        if !std::mem::replace(&mut self.first, false) {
            self.out.push(',');
        }
    }

    fn key(&mut self, key: &str) {
        self.comma();
        self.quoted(key);
        self.out.push(':');
        self.first = true;
    }

    fn open(&mut self, bracket: char) {
        self.comma();
        self.out.push(bracket);
        self.first = true;
    }

    fn close(&mut self, bracket: char) {
        self.out.push(bracket);
        self.first = false;
    }

    fn number(&mut self, n: impl Into<u64>) {
        self.comma();
        // Writing to a String cannot fail.
        let _ = write!(self.out, "{}", n.into());
    }

    fn flag(&mut self, on: bool) {
        self.comma();
        self.out.push_str(if on { "true" } else { "false" });
    }

    fn null(&mut self) {
        self.comma();
        self.out.push_str("null");
    }

    fn text(&mut self, text: &str) {
        self.comma();
        self.quoted(text);
    }

    fn quoted(&mut self, text: &str) {
        self.out.push('"');
        for c in text.chars() {
            match c {
                '"' | '\\' => self.out.extend(['\\', c]),
                '\n' => self.out.push_str("\\n"),
                c if c < ' ' => {
                    let _ = write!(self.out, "\\u{:04x}", u32::from(c));
                }
                c => self.out.push(c),
            }
        }
        self.out.push('"');
    }
}

/// The whole dump.
pub(crate) fn dump(dump: &Dump) -> String {
    let mut json = Json {
        out: String::new(),
        first: true,
    };
    let mut symbols = Symbols::default();
    json.open('{');
    json.key("tasks");
    json.open('[');
    for row in rows::rows(&dump.listings, dump.every_task) {
        task(&mut json, dump, &row, &mut symbols);
    }
    json.close(']');
    json.key("unstarted_elsewhere");
    json.number(dump.injected as u64);
    json.key("blocking_jobs");
    json.open('{');
    json.key("running");
    json.number(dump.jobs.running as u64);
    json.key("queued");
    json.number(dump.jobs.queued as u64);
    json.close('}');
    json.key("stalled");
    json.open('[');
    for (line, hog) in dump.stalled.iter().zip(&dump.hogs) {
        json.open('{');
        json.key("text");
        json.text(line.trim_end());
        if let Some(hog) = hog {
            json.key("backtrace");
            frames(&mut json, hog.addresses(), &mut symbols);
        }
        json.close('}');
    }
    json.close(']');
    json.key("circles");
    json.open('[');
    for circle in dump.circles() {
        json.open('[');
        circle.into_iter().for_each(|id| json.number(id));
        json.close(']');
    }
    json.close(']');
    json.close('}');
    json.out
}

fn task(json: &mut Json, dump: &Dump, row: &Row<'_>, symbols: &mut Symbols) {
    let t = row.task;
    json.open('{');
    json.key("id");
    json.number(t.id);
    json.key("count");
    json.number(row.count as u64);
    if row.count > 1 {
        json.key("last_id");
        json.number(row.last_id);
    }
    json.key("name");
    match (&t.name, row.names_differ) {
        (Some(name), false) => json.text(name),
        _ => json.null(),
    }
    json.key("owner");
    match &t.owner {
        None => json.null(),
        Some((id, name)) => {
            json.open('{');
            json.key("id");
            json.number(*id);
            json.key("name");
            json.text(name);
            json.close('}');
        }
    }
    json.key("worker");
    if row.workers_differ {
        json.null();
    } else {
        json.number(row.worker as u64);
    }
    json.key("state");
    json.text(text::state_name(t.state));
    json.key("waits_for");
    if t.state == TaskState::Parked {
        reason(json, t.reason, row.reasons_differ);
    } else {
        json.null();
    }
    json.key("age_us");
    match dump.age(t.state, row.since) {
        Some(age) => json.number(micros(age)),
        None => json.null(),
    }
    json.key("spawned_at");
    json.text(&t.site.to_string());
    json.key("killed");
    json.flag(t.killed);
    if let Some(trace) = row.trace {
        json.key("backtrace");
        frames(json, trace, symbols);
    } else if t.trace == Traced::NoRoom {
        json.key("backtrace");
        json.null();
    }
    json.close('}');
}

fn reason(json: &mut Json, reason: WaitReason, differ: bool) {
    json.open('{');
    json.key("kind");
    match reason.kind() {
        WaitKind::Other(what) | WaitKind::Named(what) => json.text(what),
        kind => json.text(&format!("{kind:?}").to_lowercase()),
    }
    let object = reason.object();
    if object != 0 && !differ {
        if reason.kind() == WaitKind::Join {
            json.key("task");
            json.number(object);
        } else if let Some(name) = Named(reason).name() {
            json.key("name");
            json.text(&name);
        } else {
            json.key("object");
            json.text(&format!("{object:#x}"));
        }
        if let Some(holder) = reason.holder() {
            json.key("holder");
            json.number(holder);
        }
    }
    json.close('}');
}

fn frames(json: &mut Json, addresses: &[usize], symbols: &mut Symbols) {
    json.open('[');
    for frame in symbols.frames(addresses) {
        json.open('{');
        json.key("function");
        json.text(&frame.function);
        if let Some((file, line)) = frame.location {
            json.key("file");
            json.text(&file.to_string_lossy());
            json.key("line");
            json.number(line);
        }
        json.close('}');
    }
    json.close(']');
}

fn micros(age: Duration) -> u64 {
    u64::try_from(age.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_escaped() {
        let mut json = Json {
            out: String::new(),
            first: true,
        };
        json.open('[');
        json.text("a\"b\\c\nd\u{1}é");
        json.null();
        json.flag(true);
        json.number(7_u64);
        json.close(']');
        assert_eq!(json.out, "[\"a\\\"b\\\\c\\nd\\u0001é\",null,true,7]");
    }
}
