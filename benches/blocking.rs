//! Round trips to a pool of blocking threads and back, beside tokio's `spawn_blocking`.
//!
//! `blocking [ROUNDS] [TRIPS]`: each round runs every program once for each row, TRIPS round trips
//! in all, and the table has the medians (with the least and the most) in ns per round trip. A trip
//! does nothing on the thread. The rows are one task, and 64 that do their trips side by side.
//! Then what reading a file of 4 KiB costs that is in the page cache, opened each time or not.

use std::time::{Duration, Instant};

const TASKS: [usize; 2] = [1, 64];
const WORKERS: [usize; 2] = [1, 2];

/// Runs `tasks` tasks that make `trips` round trips each.
type Program = Box<dyn Fn(usize, usize) -> Duration>;

fn main() {
    let args: Vec<usize> = std::env::args()
        .skip(1)
        .filter_map(|a| a.parse().ok())
        .collect();
    let rounds = args.first().copied().unwrap_or(15).max(1);
    let trips = args.get(1).copied().unwrap_or(4096).max(64);
    println!("ns per round trip: median (least-most) of {rounds} rounds of {trips}");
    for workers in WORKERS {
        let programs = programs(workers);
        let mut times = vec![vec![Vec::new(); programs.len()]; TASKS.len()];
        for round in 0..=rounds {
            for (row, &tasks) in TASKS.iter().enumerate() {
                for i in 0..programs.len() {
                    // Another one goes first in each round.
                    let which = (i + round) % programs.len();
                    let took = (programs[which].1)(tasks, trips / tasks);
                    // The first round warms up.
                    if round > 0 {
                        let all = (trips / tasks * tasks) as u128;
                        times[row][which].push(took.as_nanos() / all);
                    }
                }
            }
        }
        for (row, &tasks) in TASKS.iter().enumerate() {
            for (which, (name, _)) in programs.iter().enumerate() {
                let t = &mut times[row][which];
                t.sort_unstable();
                let (least, median, most) = (t[0], t[t.len() / 2], t[t.len() - 1]);
                println!(
                    "workers {workers}  tasks {tasks:>2}  {name:<9} {median:>7} ({least}-{most})"
                );
            }
        }
    }
    files(rounds, trips);
}

type Reader = Box<dyn Fn(usize)>;

fn files(rounds: usize, reads: usize) {
    use std::os::unix::fs::FileExt;

    let path = std::env::temp_dir().join(format!("sward-bench-{}", std::process::id()));
    std::fs::write(&path, [7; 4096]).expect("a file");
    let runtime = sward::Runtime::builder().workers(1).build();
    let runtime = std::rc::Rc::new(runtime.expect("a runtime"));
    let tokio = tokio::runtime::Builder::new_current_thread().build();
    let tokio = tokio.expect("a runtime");
    let (p1, p2, p3, p4) = (path.clone(), path.clone(), path.clone(), &path);
    let again = runtime.clone();
    let open = sward::fs::File::open(p4).expect("the file");
    let plain = std::fs::File::open(p4).expect("the file");
    let each = |n: usize, mut read: Box<dyn FnMut() -> usize + Send + '_>| {
        (0..n).for_each(|_| assert_eq!(read(), 4096));
    };
    let programs: Vec<(&str, Reader)> = vec![
        (
            "read(path), std",
            Box::new(move |n| each(n, Box::new(|| std::fs::read(&p1).map_or(0, |b| b.len())))),
        ),
        (
            "read(path), sward",
            Box::new(move |n| {
                let read = || sward::fs::read(&p2).map_or(0, |b| b.len());
                runtime.run(|| each(n, Box::new(read)));
            }),
        ),
        (
            "read(path), tokio-ct",
            Box::new(move |n| {
                tokio.block_on(async {
                    for _ in 0..n {
                        assert_eq!(tokio::fs::read(&p3).await.map_or(0, |b| b.len()), 4096);
                    }
                });
            }),
        ),
        (
            "read_at of an open file, std",
            Box::new(move |n| {
                let mut buffer = [0; 4096];
                each(n, Box::new(|| plain.read_at(&mut buffer, 0).unwrap_or(0)));
            }),
        ),
        (
            "read_at of an open file, sward",
            Box::new(move |n| {
                let mut buffer = [0; 4096];
                let read = || open.read_at(&mut buffer, 0).unwrap_or(0);
                again.run(|| each(n, Box::new(read)));
            }),
        ),
    ];
    let mut times = vec![Vec::new(); programs.len()];
    for round in 0..=rounds {
        for (i, (_, program)) in programs.iter().enumerate() {
            let begun = Instant::now();
            program(reads);
            if round > 0 {
                times[i].push(begun.elapsed().as_nanos() / reads as u128);
            }
        }
    }
    for (i, (name, _)) in programs.iter().enumerate() {
        times[i].sort_unstable();
        let (t, n) = (&times[i], times[i].len());
        println!("{name:<31} {:>7} ({}-{})", t[n / 2], t[0], t[n - 1]);
    }
    let _ = std::fs::remove_file(path);
}

fn programs(workers: usize) -> Vec<(&'static str, Program)> {
    let mut all = vec![("sward", sward(workers))];
    let mut multi = tokio::runtime::Builder::new_multi_thread();
    multi.worker_threads(workers);
    all.push(("tokio", tokio(multi)));
    if workers == 1 {
        let ct = tokio::runtime::Builder::new_current_thread();
        all.push(("tokio-ct", tokio(ct)));
    }
    all
}

fn sward(workers: usize) -> Program {
    let built = sward::Runtime::builder().workers(workers).build();
    let runtime = built.expect("a runtime");
    Box::new(move |tasks, trips| {
        runtime.run(move || {
            let begun = Instant::now();
            let all = (0..tasks).map(|_| {
                sward::spawn(move || {
                    for i in 0..trips {
                        assert_eq!(sward::blocking(move || i + 1), i + 1);
                    }
                })
            });
            for ended in sward::join_all(all) {
                ended.expect("a task");
            }
            begun.elapsed()
        })
    })
}

fn tokio(mut builder: tokio::runtime::Builder) -> Program {
    let runtime = builder.enable_all().build().expect("a runtime");
    Box::new(move |tasks, trips| {
        let main = async move {
            let begun = Instant::now();
            let all: Vec<_> = (0..tasks)
                .map(|_| {
                    tokio::spawn(async move {
                        for i in 0..trips {
                            let next = tokio::task::spawn_blocking(move || i + 1).await;
                            assert_eq!(next.expect("a job"), i + 1);
                        }
                    })
                })
                .collect();
            for task in all {
                task.await.expect("a task");
            }
            begun.elapsed()
        };
        // As a task, on a worker where there are any: `block_on` polls on this thread.
        runtime.block_on(async { tokio::spawn(main).await.expect("the main task") })
    })
}
