//! Generators: a walk over a tree, a listing that comes in pages, and the same-fringe problem.
//!
//! ```sh
//! cargo run --release --example generators
//! ```
//!
//! A generator is an iterator written as a loop: its body stops at each `yield_`, also deep inside
//! a recursion, and goes on at the next `next`. What it waits for, its task waits for.

use std::error::Error;
use std::io::{self, Write};
use std::rc::Rc;
use std::time::Duration;

use sward::{Generator, Yielder, sleep, spawn};

enum Tree {
    Leaf(u32),
    Fork(Rc<Tree>, Rc<Tree>),
}

fn leaf(n: u32) -> Rc<Tree> {
    Rc::new(Tree::Leaf(n))
}

fn fork(left: Rc<Tree>, right: Rc<Tree>) -> Rc<Tree> {
    Rc::new(Tree::Fork(left, right))
}

/// The leaves from left to right: plain recursion, on one stack.
fn leaves(tree: Rc<Tree>) -> Generator<u32> {
    fn walk(tree: &Tree, y: &Yielder<u32>) {
        match tree {
            Tree::Leaf(n) => y.yield_(*n),
            Tree::Fork(left, right) => {
                walk(left, y);
                walk(right, y);
            }
        }
    }
    Generator::new(move |y| walk(&tree, y))
}

/// Whether two trees have the same leaves. It looks no further than the first difference.
fn same_fringe(a: &Rc<Tree>, b: &Rc<Tree>) -> bool {
    leaves(a.clone()).eq(leaves(b.clone()))
}

/// Stands for a service that gives a few rows at a time, and where the next ones begin.
fn fetch(from: u32) -> (Vec<u32>, Option<u32>) {
    sleep(Duration::from_millis(2));
    let to = (from + 4).min(10);
    ((from..to).collect(), (to < 10).then_some(to))
}

/// All rows, one by one. Returns how many pages it took.
fn rows() -> Generator<u32, usize> {
    Generator::new(|y| {
        let (mut pages, mut next) = (0, Some(0));
        while let Some(from) = next {
            let (page, more) = fetch(from);
            (pages, next) = (pages + 1, more);
            y.yield_from(page);
        }
        pages
    })
}

#[sward::main]
fn main() -> Result<(), Box<dyn Error>> {
    let mut out = Vec::new();
    let left = fork(fork(leaf(1), leaf(2)), fork(leaf(3), leaf(4)));
    let right = fork(leaf(1), fork(leaf(2), fork(leaf(3), leaf(4))));
    let other = fork(leaf(1), fork(leaf(9), right.clone()));
    writeln!(
        out,
        "leaves: {:?}",
        leaves(left.clone()).collect::<Vec<_>>()
    )?;
    writeln!(
        out,
        "same fringe: {}, {}",
        same_fringe(&left, &right),
        same_fringe(&left, &other)
    )?;

    // Each page is waited for only when its rows are asked for; other tasks run meanwhile.
    let beside = spawn(|| (0..3).for_each(|_| sleep(Duration::from_millis(1))));
    let mut all = rows();
    writeln!(
        out,
        "even rows: {:?}",
        all.by_ref().filter(|n| n % 2 == 0).collect::<Vec<_>>()
    )?;
    writeln!(out, "pages: {:?}", all.into_result())?;
    writeln!(
        out,
        "first rows only: {:?}",
        rows().take(3).collect::<Vec<_>>()
    )?;
    beside.join()?;
    Ok(io::stdout().write_all(&out)?)
}
