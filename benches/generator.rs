//! What an item of a generator costs, and a generator itself, beside an iterator written by hand and
//! corosensei alone.
//!
//! `generator [ITEMS [ROUNDS]]`: the median of so many rounds of so many items, and of a hundredth
//! as many generators, in ns each.

use std::hint::black_box;
use std::process::ExitCode;
use std::time::Instant;

use corosensei::stack::DefaultStack;
use corosensei::{Coroutine, CoroutineResult};
use sward::{Generator, Runtime};

struct ByHand(u64);

impl Iterator for ByHand {
    type Item = u64;

    #[inline(never)]
    fn next(&mut self) -> Option<u64> {
        self.0 += 1;
        Some(self.0)
    }
}

fn endless() -> Generator<u64> {
    Generator::new(|y| {
        for n in 0.. {
            y.yield_(n);
        }
    })
}

fn one() -> Generator<u64> {
    Generator::new(|y| y.yield_(1))
}

fn items(mut iterator: impl Iterator<Item = u64>, n: usize) {
    for _ in 0..n {
        black_box(iterator.next());
    }
}

fn times(n: usize, f: impl Fn()) {
    (0..n).for_each(|_| f());
}

/// One coroutine: made, resumed to its item and its end; its stack comes back.
fn raw_once(stack: DefaultStack) -> DefaultStack {
    let mut raw = Coroutine::<(), u64, (), _>::with_stack(stack, |y, ()| y.suspend(1));
    while let CoroutineResult::Yield(n) = raw.resume(()) {
        black_box(n);
    }
    raw.into_stack()
}

/// What, how often, and how.
type Row = (&'static str, usize, Box<dyn FnMut()>);

fn measure(n: usize, rounds: usize) -> Vec<(&'static str, f64)> {
    let few = (n / 100).max(1);
    let mut rows: Vec<Row> = vec![
        (
            "item: iterator by hand, not inlined",
            n,
            Box::new(move || items(ByHand(0), n)),
        ),
        ("item: the same, as dyn Iterator", n, {
            Box::new(move || {
                let boxed: Box<dyn Iterator<Item = u64>> = black_box(Box::new(ByHand(0)));
                items(boxed, n);
            })
        }),
        ("item: corosensei, resume and suspend", n, {
            Box::new(move || {
                let mut raw = Coroutine::<(), u64, ()>::new(|y, ()| {
                    for n in 0.. {
                        y.suspend(n);
                    }
                });
                for _ in 0..n {
                    black_box(raw.resume(()).as_yield());
                }
            })
        }),
        (
            "item: Generator, next and yield_",
            n,
            Box::new(move || items(endless(), n)),
        ),
        ("made and dropped before its first item", few, {
            Box::new(move || times(few, || drop(black_box(endless()))))
        }),
        ("made, one item, ended: Generator", few, {
            Box::new(move || times(few, || assert_eq!(one().count(), 1)))
        }),
        ("the same: corosensei, stack used again", few, {
            let mut stack = Some(DefaultStack::default());
            Box::new(move || {
                for _ in 0..few {
                    stack = stack.take().map(raw_once);
                }
            })
        }),
        ("the same: corosensei, new stack each", few, {
            Box::new(move || times(few, || drop(raw_once(DefaultStack::default()))))
        }),
        ("made, one item, dropped: Generator", few, {
            Box::new(move || times(few, || assert_eq!(endless().next(), Some(0))))
        }),
    ];
    let mut all = vec![Vec::new(); rows.len()];
    for _ in 0..rounds.max(1) {
        for ((_, n, run), ns) in rows.iter_mut().zip(&mut all) {
            let begun = Instant::now();
            run();
            ns.push(begun.elapsed().as_nanos() as f64 / *n as f64);
        }
    }
    let median = |mut ns: Vec<f64>| {
        ns.sort_by(f64::total_cmp);
        ns[ns.len() / 2]
    };
    let names = rows.into_iter().map(|row| row.0);
    names.zip(all.into_iter().map(median)).collect()
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    let number = |i: usize, default| args.get(i).and_then(|s| s.parse().ok()).unwrap_or(default);
    let (n, rounds) = (number(1, 2_000_000), number(2, 9));
    match Runtime::builder().workers(1).build() {
        Ok(runtime) => {
            for (what, ns) in runtime.run(move || measure(n, rounds)) {
                println!("{what:<42} {ns:>9.1} ns");
            }
            ExitCode::SUCCESS
        }
        Err(e) => {
            eprintln!("generator: {e}");
            ExitCode::FAILURE
        }
    }
}
