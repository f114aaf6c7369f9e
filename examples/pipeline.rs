//! Three stages joined by bounded channels: numbers, their smallest factors (four tasks), a count.
//!
//! ```sh
//! cargo run --release --example pipeline
//! ```
//!
//! A bounded channel holds back a stage that is faster than the next one. A stage ends when the
//! one before it has ended, because then its channel has no sender left.

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{self, Write};

use sward::sync::bounded;
use sward::{join_all, spawn};

const NUMBERS: u64 = 20_000;

fn smallest_factor(n: u64) -> u64 {
    let mut small = (2..).take_while(|f| f * f <= n);
    small.find(|f| n.is_multiple_of(*f)).unwrap_or(n)
}

#[sward::main]
fn main() -> Result<(), Box<dyn Error>> {
    let (numbers, to_factor) = bounded(16);
    let (factors, to_count) = bounded(16);

    let source = spawn(move || (2..=NUMBERS).try_for_each(|n| numbers.send(n)));
    let factor = || {
        let (to_factor, factors) = (to_factor.clone(), factors.clone());
        move || {
            let mut found = to_factor.iter().map(smallest_factor);
            found.try_for_each(|f| factors.send(f))
        }
    };
    let middle: Vec<_> = (0..4).map(|_| spawn(factor())).collect();
    drop(factors); // the clones of the stage are left, and go with it
    let sink = spawn(move || {
        let mut counts = BTreeMap::new();
        for f in to_count {
            *counts.entry(f).or_insert(0) += 1;
        }
        counts
    });

    source.join()??;
    for sent in join_all(middle) {
        sent??;
    }
    let counts: BTreeMap<u64, u32> = sink.join()?;
    let mut out = io::stdout().lock();
    writeln!(out, "{} numbers counted", counts.values().sum::<u32>())?;
    for (factor, count) in counts.iter().take(5) {
        writeln!(out, "{count:>6} have {factor} as their smallest factor")?;
    }
    Ok(())
}
