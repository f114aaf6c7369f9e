//! What came of a run, as a block to read or as a line of JSON.

use std::fmt::Write;
use std::time::Duration;

use crate::memory::Memory;

#[derive(Debug)]
pub struct Outcome {
    /// `tasks` or `threads`.
    pub what: &'static str,
    pub tasks: usize,
    pub sleep: Duration,
    /// 0 for threads, which need none.
    pub workers: usize,
    pub elapsed: Duration,
    /// How many were parked at once when the memory was read.
    pub parked: usize,
    /// What that took, above what there was before the first spawn.
    pub memory: Memory,
    /// Why fewer than all were parked.
    pub note: Option<String>,
}

impl Outcome {
    pub fn json(&self) -> String {
        format!(
            "{{\"tasks\":{},\"sleep_ms\":{},\"workers\":{},\"elapsed_ms\":{:.3},\
             \"rss_bytes\":{},\"pte_bytes\":{},\"bytes_per_task\":{:.0}}}\n",
            self.tasks,
            self.sleep.as_secs_f64() * 1e3,
            self.workers,
            self.elapsed.as_secs_f64() * 1e3,
            self.memory.rss,
            self.memory.pte,
            self.bytes_per_task(),
        )
    }

    pub fn block(&self) -> String {
        let above = self.elapsed.saturating_sub(self.sleep);
        let on = match self.workers {
            0 => String::new(),
            1 => " on 1 worker".into(),
            n => format!(" on {n} workers"),
        };
        let n = grouped(self.tasks);
        let mut text = format!("{n} {} asleep for {}{on}\n\n", self.what, time(self.sleep));
        let mut row = |name: &str, value: String, more: &str| {
            let line = format!("  {name:<18} {value:>12}  {more}");
            let _ = writeln!(text, "{}", line.trim_end());
        };
        row(
            "elapsed",
            time(self.elapsed),
            "from the first spawn to the last join",
        );
        row("above the sleep", time(above), &self.each(above));
        row(
            "resident memory",
            bytes(self.memory.rss),
            &format!("{} parked", grouped(self.parked)),
        );
        row("page tables", bytes(self.memory.pte), "");
        row(
            "both, each",
            format!("{} B", grouped(self.bytes_per_task() as usize)),
            "",
        );
        row(
            "address space",
            bytes(self.memory.reserved),
            "reserved; most is never touched",
        );
        text
    }

    fn each(&self, above: Duration) -> String {
        if self.tasks == 0 {
            return String::new();
        }
        format!(
            "{} each",
            time(Duration::from_secs_f64(
                above.as_secs_f64() / self.tasks as f64
            ))
        )
    }

    /// Resident memory and page tables.
    fn bytes_per_task(&self) -> f64 {
        if self.parked == 0 {
            return 0.0;
        }
        (self.memory.rss + self.memory.pte) as f64 / self.parked as f64
    }
}

/// Returns `n` as `1,000,000`.
pub fn grouped(n: usize) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Returns a time in the unit that suits it.
pub fn time(t: Duration) -> String {
    let s = t.as_secs_f64();
    match s {
        _ if t.is_zero() => "0 ms".into(),
        1e-6.. if s < 1e-3 => format!("{} us", rounded(s * 1e6)),
        ..1e-6 => format!("{:.0} ns", s * 1e9),
        ..0.999_5 => format!("{} ms", rounded(s * 1e3)),
        ..600.0 => format!("{} s", rounded(s)),
        ..7_200.0 => format!("{} min", rounded(s / 60.0)),
        ..172_800.0 => format!("{} h", rounded(s / 3_600.0)),
        _ => format!("{} d", rounded(s / 86_400.0)),
    }
}

/// Returns bytes in decimal units, as the talk does.
pub fn bytes(n: u64) -> String {
    let n = n as f64;
    match n {
        ..1e3 => format!("{n} B"),
        ..1e6 => format!("{} kB", rounded(n / 1e3)),
        ..1e9 => format!("{} MB", rounded(n / 1e6)),
        _ => format!("{} GB", rounded(n / 1e9)),
    }
}

/// Returns a number with three digits or more, and none that say nothing.
fn rounded(x: f64) -> String {
    match x {
        _ if x.fract() == 0.0 => format!("{x:.0}"),
        ..9.995 => format!("{x:.2}"),
        ..99.95 => format!("{x:.1}"),
        _ => format!("{x:.0}"),
    }
}
