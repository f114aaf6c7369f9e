//! Random interleavings: small random programs under shuffled schedules on the virtual clock, with
//! a kill, a time-out or a panic at every park, and a look at what must hold afterwards.
//!
//! Nouns: an *object* is a primitive under test with its operations and its model
//! (`interleavings/objects.rs`: one row of `KINDS` for each). A *program* is a seed's objects and
//! tasks, each a list of operations. A *round* runs one program once undisturbed, then once for
//! each switch out of a task (a park or a yield) and each kind of fault. All is *quiet* when no
//! task can run and no timer is left: the driver then sleeps for longer than anybody else.
//!
//! A seed gives one schedule, so the runs of a round are the same up to their fault. The one who
//! commits it (the *reaper*) is a task as well: chance says what happens between the park and it.
//!
//! What must hold
//! - each value is received once, or dropped by one who had it: sent, then dropped unseen, is lost;
//! - a send that unwinds has sent nothing; values of a sender come to a receiver in order;
//! - when all is quiet nobody waits for what is there, and nobody who was killed still waits;
//! - nobody has a lock that another has; it is free at the end;
//! - time-outs and sleeps end at their very moment; a task ends as it was told to;
//! - at the end no task, no timer, no value and no stack is left.
//!
//! `SWARD_SEED=n` begins with that seed, `SWARD_ROUNDS=n` runs so many (`docs/testing.md`).
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::mem_forget,
    clippy::disallowed_methods,
    clippy::disallowed_types
)]

#[path = "interleavings/carriers.rs"]
mod carriers;
mod common;
#[path = "interleavings/families.rs"]
mod families;
#[path = "interleavings/holders.rs"]
mod holders;
#[path = "interleavings/objects.rs"]
mod objects;
#[path = "interleavings/world.rs"]
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use common::within;
use objects::{KINDS, Kind};
use sward_runtime::{
    Builder, JoinError, OnDeadlock, Runtime, advance, dump, now, on_switch, park, run, shield,
    sleep, spawn, stack_census, stats, timeout,
};
use world::{FAR, Injected, MS, Me, Random, World, YEARS};

/// What happens to the task that is the `at`th to be switched out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Fault {
    at: usize,
    what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Kill,
    /// A `timeout` around the operation that it is in fires.
    TimeOut,
    /// It panics once the wait has returned.
    Panic,
}

const FAULTS: [What; 3] = [What::Kill, What::TimeOut, What::Panic];

/// How an operation is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Around {
    Nothing,
    /// `timeout` of so many milliseconds.
    TimeOut(u32),
    /// `timeout` that does not fire.
    LongTimeOut,
    /// `shield`, so that neither kill nor time-out ends it.
    Shield,
    /// A `shield` inside of a `timeout`, which fires afterwards.
    Both(u32),
}

#[derive(Clone, Debug)]
struct Operation {
    object: usize,
    choice: u64,
    around: Around,
    /// The operation comes at the end of a slice: at one of the next looks at the budget, of
    /// which this is the number, the task has to yield.
    tired: Option<u64>,
}

/// What a seed makes.
struct Program {
    seed: u64,
    kinds: Vec<&'static Kind>,
    tasks: Vec<Vec<Operation>>,
}

impl Program {
    /// Makes one with objects of these kinds, and the tasks themselves as the first.
    fn new(seed: u64, kinds: &[&'static Kind]) -> Self {
        let mut random = Random::new(seed);
        let mut chosen = vec![&objects::TASKS];
        for _ in 0..=random.below(2) {
            chosen.push(kinds[random.below(kinds.len())]);
        }
        let n = 2 + random.below(4);
        let tasks = (0..n).map(|_| {
            (0..=random.below(5))
                .map(|_| Operation {
                    // Every third is about tasks.
                    object: match random.below(3) {
                        0 => 0,
                        _ => 1 + random.below(chosen.len() - 1),
                    },
                    choice: random.next(),
                    tired: (random.below(6) == 0).then(|| random.below(4) as u64),
                    around: match random.below(12) {
                        0..=2 => Around::TimeOut(random.below(4) as u32),
                        3 => Around::Shield,
                        4 => Around::LongTimeOut,
                        5 => Around::Both(random.below(4) as u32),
                        _ => Around::Nothing,
                    },
                })
                .collect()
        });
        Self {
            seed,
            tasks: tasks.collect(),
            kinds: chosen,
        }
    }
}

/// What a run has shown.
struct Outcome {
    /// Who was switched out, in which operation.
    switches: Vec<(usize, usize)>,
    errors: Vec<String>,
    log: Vec<String>,
}

fn run_once(program: &Program, fault: Option<Fault>, victim: (usize, usize), log: bool) -> Outcome {
    let runtime = Runtime::builder()
        .virtual_clock()
        .shuffle(program.seed)
        .stack_size(64 << 10)
        .on_deadlock(OnDeadlock::Ignore)
        .build()
        .unwrap();
    let made = program.kinds.iter().enumerate();
    let made = made
        .map(|(id, kind)| (kind.make)(id, program.seed))
        .collect();
    let world = Arc::new(World::new(made, program.tasks.len(), log));
    let driven = catch_unwind(AssertUnwindSafe(|| {
        runtime.run(|| drive(program, fault, victim, &world));
    }));
    if driven.is_err() {
        world.fail("the driver panicked".into());
    }
    let leaked = runtime.shutdown(Duration::from_secs(5));
    if leaked > 0 {
        world.fail(format!("{leaked} tasks had to be leaked"));
    }
    world.look_at_values();
    world.outcome()
}

impl World {
    fn outcome(&self) -> Outcome {
        let mut state = self.state.lock();
        Outcome {
            switches: std::mem::take(&mut state.switches),
            errors: std::mem::take(&mut state.errors),
            log: std::mem::take(&mut state.log),
        }
    }
}

/// The first task: starts the others, lets all come to rest, and looks.
fn drive(program: &Program, fault: Option<Fault>, victim: (usize, usize), world: &Arc<World>) {
    let begun = now();
    let reaper = {
        let world = world.clone();
        let name = format!("reaper of seed {} with {fault:?}", program.seed);
        let reap = move || reap(&world, fault);
        Builder::new().name(name).spawn(reap).unwrap()
    };
    let reapers_task = reaper.task();
    for (index, operations) in program.tasks.iter().enumerate() {
        let me = Me::new(index, world.clone());
        let operations = operations.clone();
        let reaper = reapers_task.clone();
        let task = spawn(move || {
            let me = me;
            let (counted, at) = (me.clone_plain(), fault.map(|f| f.at));
            let out = move || {
                if counted.switched_out(at) {
                    reaper.unpark();
                }
            };
            on_switch(out, || {});
            let timed_out = fault.is_some_and(|f| f.what == What::TimeOut);
            for (i, operation) in operations.iter().enumerate() {
                let extra = timed_out && victim == (index, i);
                perform(&me, i, operation, extra);
                me.point();
            }
            me.make()
        });
        world.started(index, task);
    }
    sleep(YEARS);
    world.look_while_quiet();
    world.release();
    sleep(YEARS);
    world.look_at_ends(|end| match end {
        Ok(_) => "returned",
        Err(JoinError::Killed) => "killed",
        Err(JoinError::Panicked(payload)) if payload.is::<Injected>() => "injected",
        Err(_) => "panicked",
    });
    reaper.kill();
    drop(reaper.join());
    sleep(MS);
    let (timers, live, tasks) = (stats().timers, stack_census().live, dump().tasks().len());
    if (timers, live, tasks) != (0, 1, 1) {
        world.fail(format!(
            "{timers} timers, {live} stacks, {tasks} tasks left"
        ));
    }
    assert!(now() > begun + YEARS);
}

/// Commits the fault when the time has come.
fn reap(world: &Arc<World>, fault: Option<Fault>) {
    loop {
        park();
        let (Some(fault), Some(victim)) = (fault, world.victim()) else {
            continue;
        };
        world.note(|| format!("{fault:?} for task {victim}"));
        match fault.what {
            What::Kill => world.kill(victim),
            What::Panic => world.state.lock().tasks[victim].panics = true,
            What::TimeOut => {
                world.state.lock().advanced = true;
                advance(FAR);
            }
        }
    }
}

/// With an end: two that wait for each other under shields could not be released.
fn shielded(act: impl FnOnce()) {
    let _ = shield(|| timeout(2 * FAR, act));
}

fn perform(me: &Me, i: usize, operation: &Operation, timed_out: bool) {
    let object = me.world.objects[operation.object].clone();
    if !me.begins(i) {
        return;
    }
    me.note(|| format!("{i}: {} {operation:?}", object.name()));
    if let Some(left) = operation.tired {
        me.tire(left);
    }
    let act = || object.act(me, operation.choice);
    let act = || match operation.around {
        Around::Nothing => act(),
        Around::LongTimeOut => {
            if timeout(3 * YEARS, act).is_err() {
                me.world.fail("a time-out has fired too early".into());
            }
        }
        Around::Shield => shielded(act),
        Around::Both(n) => {
            let both = || {
                shielded(act);
                sleep(9 * MS);
            };
            if timeout(n * MS, both).is_ok() {
                me.world
                    .fail(format!("task {} was not timed out", me.index));
            }
        }
        Around::TimeOut(n) => {
            let begun = now();
            if timeout(n * MS, act).is_err() {
                me.on_time(begun, n * MS);
            }
        }
    };
    if timed_out {
        // Whether it fires is up to the reaper.
        let _ = timeout(FAR, act);
    } else {
        act();
    }
}

/// Runs a seed's program with every fault; returns how many runs that were.
fn round(seed: u64, kinds: &[&'static Kind]) -> Result<usize, String> {
    let program = Program::new(seed, kinds);
    let check = |fault: Option<Fault>, victim| {
        let outcome = run_once(&program, fault, victim, false);
        if outcome.errors.is_empty() {
            return Ok(outcome.switches);
        }
        // The same again, with words.
        let again = run_once(&program, fault, victim, true);
        Err(format!(
            "seed {seed}, {fault:?}:\n  {}\ncourse (seen again: {}):\n  {}",
            outcome.errors.join("\n  "),
            again.errors == outcome.errors,
            again.log.join("\n  ")
        ))
    };
    let switches = check(None, (0, 0))?;
    let mut runs = 1;
    for (at, &victim) in switches.iter().enumerate() {
        for what in FAULTS {
            check(Some(Fault { at, what }), victim)?;
            runs += 1;
        }
    }
    Ok(runs)
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name}={text}: not a number")),
    )
}

/// Runs rounds with objects of these kinds.
fn rounds(test: &str, kinds: &[&'static Kind], default: u64) {
    let first = number("SWARD_SEED").unwrap_or(0);
    let n = number("SWARD_ROUNDS").unwrap_or(default);
    let mut runs = 0;
    for seed in first..first + n {
        match round(seed, kinds) {
            Ok(more) => runs += more,
            Err(what) => panic!(
                "{what}\nto see it again: SWARD_SEED={seed} SWARD_ROUNDS=1 \
                 cargo test -p sward-runtime --test interleavings {test}"
            ),
        }
    }
    println!("{test}: seeds {first}..{}, {runs} runs", first + n);
}

/// One test for each kind, and one for all of them together.
macro_rules! tests {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            let name = stringify!($name);
            let kind = KINDS.iter().find(|kind| kind.name == name).unwrap();
            limited(name, || rounds(name, &[kind], ROUNDS));
        })*

        #[test]
        fn every_kind_has_a_test() {
            let tested = [$(stringify!($name)),*];
            assert!(KINDS.iter().all(|kind| tested.contains(&kind.name)));
        }
    };
}

/// How many seeds each test tries.
const ROUNDS: u64 = 40;

/// A run of many rounds takes its time.
fn limited(name: &str, f: impl FnOnce()) {
    if number("SWARD_ROUNDS").is_some() {
        f();
    } else {
        within(name, f);
    }
}

tests! {
    bounded unbounded rendezvous mutex event tasks
    semaphore rwlock condvar select queue priority_queue lifo_queue barrier once_value
    pool group scope broadcast watch
}

#[test]
fn all_together() {
    let kinds: Vec<_> = KINDS.iter().collect();
    limited("all_together", || rounds("all_together", &kinds, ROUNDS));
}

/// One seed gives one course: otherwise faults would not be where they are said to be.
#[test]
fn a_seed_gives_one_course() {
    within("a_seed_gives_one_course", || {
        let kinds: Vec<_> = KINDS.iter().collect();
        for seed in 1000..1100 {
            let program = Program::new(seed, &kinds);
            let once = |fault| {
                let outcome = run_once(&program, fault, (0, 0), true);
                assert_eq!(outcome.errors, [""; 0], "seed {seed}");
                (outcome.switches, outcome.log)
            };
            let first = once(None);
            assert_eq!(first, once(None), "seed {seed}");
            let at = first.0.len() / 2;
            let what = What::Kill;
            let killed = once(Some(Fault { at, what }));
            assert_eq!(killed.0[..at], first.0[..at], "seed {seed}");
            assert_eq!(killed, once(Some(Fault { at, what })), "seed {seed}");
        }
    });
}

/// A queue that loses the value of a receiver that is killed after it was taken out, and a flag
/// whose setter wakes nobody if chance will have it: the harness finds both.
#[test]
fn the_check_can_fail() {
    within("the_check_can_fail", || {
        for (kind, what) in [(&objects::LOSES, "lost"), (&objects::FORGETS, "waits")] {
            let found = (0..50).find_map(|seed| round(seed, &[kind]).err());
            let text = found.unwrap_or_else(|| panic!("{} was not found out", kind.name));
            assert!(text.contains(what), "{text}");
            assert!(text.contains("seen again: true"), "{text}");
        }
        // And nothing is found where nothing is wrong.
        run(|| {});
    });
}
