//! The knobs of a runtime, and the environment variables that set their defaults.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::fiber::stack::{DEFAULT_GUARD, DEFAULT_STACK, StackSpec};

/// The most workers that a runtime takes: each costs a thread, a stack and four descriptors.
pub(crate) const MAX_WORKERS: usize = 1024;

/// What to do when nothing in the runtime can ever wake again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnDeadlock {
    /// Print the parked tasks and what they wait for on stderr, once, and go on waiting.
    Report,
    /// Print, then abort the process.
    Abort,
    /// Say nothing.
    Ignore,
}

#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) workers: usize,
    pub(crate) spec: StackSpec,
    pub(crate) max_stacks: Option<usize>,
    pub(crate) name: String,
    pub(crate) on_deadlock: OnDeadlock,
    pub(crate) shutdown: Duration,
    pub(crate) unwind_wait: Duration,
    pub(crate) sigquit: bool,
    pub(crate) virtual_clock: bool,
    pub(crate) shuffle: Option<u64>,
    pub(crate) blocking_threads: usize,
    pub(crate) blocking_idle: Duration,
    pub(crate) busy_poll: Duration,
    pub(crate) sampling: bool,
    pub(crate) stall_threshold: Duration,
    pub(crate) console: Option<PathBuf>,
}

impl Config {
    /// Resolves what the builder was told, then the environment, then the defaults.
    pub(crate) fn new(asked: &Asked) -> io::Result<Self> {
        let told = match asked.virtual_clock {
            // Whatever the environment says: who builds it wants the clock.
            true => Some(asked.workers.unwrap_or(1)),
            false => asked.workers.or(env("SWARD_WORKERS", parse_count)?),
        };
        let workers = match told {
            None => std::thread::available_parallelism()
                .map_or(1, usize::from)
                .min(MAX_WORKERS),
            Some(n @ 2..) if asked.virtual_clock => {
                return Err(invalid(format!(
                    "a runtime with a virtual clock and {n} workers was asked for; it takes 1, \
                     because only one worker knows when nothing is left to run"
                )));
            }
            Some(n @ 1..=MAX_WORKERS) => n,
            Some(n) => {
                return Err(invalid(format!(
                    "a runtime with {n} workers was asked for; it takes 1 to {MAX_WORKERS} \
                     (Runtime::builder().workers(n) or SWARD_WORKERS)"
                )));
            }
        };
        if asked.max_stacks == Some(0) {
            return Err(invalid(
                "max_stacks(0) would let no task start; it takes 1 or more".into(),
            ));
        }
        let threads = asked
            .blocking_threads
            .or(env("SWARD_BLOCKING_THREADS", parse_count)?);
        let blocking_threads = match threads {
            None => default_blocking_threads(),
            Some(n @ 1..) => n,
            Some(0) => {
                return Err(invalid(
                    "a blocking pool of 0 threads would never do a job; it takes 1 or more \
                     (Runtime::builder().blocking_threads(n) or SWARD_BLOCKING_THREADS)"
                        .into(),
                ));
            }
        };
        let size = asked.stack_size.or(env("SWARD_STACK_SIZE", parse_size)?);
        let guard = asked.guard_size.unwrap_or(DEFAULT_GUARD);
        let on_deadlock = match asked.on_deadlock.or(env("SWARD_DEADLOCK", parse_deadlock)?) {
            Some(what) => what,
            None => OnDeadlock::Report,
        };
        Ok(Self {
            workers,
            spec: StackSpec::new(size.unwrap_or(DEFAULT_STACK), guard)?,
            max_stacks: asked.max_stacks,
            name: asked.name.clone().unwrap_or_else(|| "sward".into()),
            on_deadlock,
            shutdown: asked.shutdown.unwrap_or(Duration::from_secs(5)),
            unwind_wait: asked.unwind_wait.unwrap_or(Duration::from_secs(1)),
            sigquit: asked
                .sigquit
                .or(env("SWARD_SIGQUIT", parse_flag)?)
                .unwrap_or(false),
            virtual_clock: asked.virtual_clock,
            shuffle: asked.shuffle,
            blocking_threads,
            blocking_idle: asked.blocking_idle.unwrap_or(BLOCKING_IDLE),
            busy_poll: asked
                .busy_poll
                .or(env("SWARD_BUSY_POLL", parse_duration)?)
                .unwrap_or(Duration::ZERO),
            sampling: asked
                .sampling
                .or(env("SWARD_SAMPLING", parse_flag)?)
                .unwrap_or(false),
            stall_threshold: asked
                .stall_threshold
                .or(env("SWARD_STALL", parse_duration)?)
                .unwrap_or(Duration::from_secs(1)),
            console: asked.console.clone(),
        })
    }
}

/// How long a thread of a blocking pool stays without a job.
pub(crate) const BLOCKING_IDLE: Duration = Duration::from_secs(10);

/// Enough for disks and name lookups that take their time; jobs wait rather than compute.
fn default_blocking_threads() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    (8 * cores).max(128)
}

/// What a builder was told; `None` is the default.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asked {
    pub(crate) workers: Option<usize>,
    pub(crate) stack_size: Option<usize>,
    pub(crate) guard_size: Option<usize>,
    pub(crate) max_stacks: Option<usize>,
    pub(crate) name: Option<String>,
    pub(crate) on_deadlock: Option<OnDeadlock>,
    pub(crate) shutdown: Option<Duration>,
    pub(crate) unwind_wait: Option<Duration>,
    pub(crate) sigquit: Option<bool>,
    pub(crate) virtual_clock: bool,
    pub(crate) shuffle: Option<u64>,
    pub(crate) blocking_threads: Option<usize>,
    pub(crate) blocking_idle: Option<Duration>,
    pub(crate) busy_poll: Option<Duration>,
    pub(crate) sampling: Option<bool>,
    pub(crate) stall_threshold: Option<Duration>,
    pub(crate) console: Option<PathBuf>,
}

fn invalid(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, text)
}

fn env<T>(name: &str, parse: fn(&str) -> Option<T>) -> io::Result<Option<T>> {
    let Some(value) = std::env::var_os(name) else {
        return Ok(None);
    };
    let text = value.to_string_lossy();
    match parse(text.trim()) {
        Some(value) => Ok(Some(value)),
        None => Err(invalid(format!(
            "the environment has {name}={text:?}, which is not valid"
        ))),
    }
}

fn parse_count(text: &str) -> Option<usize> {
    text.parse().ok()
}

/// Bytes, with an optional K, M or G.
pub(crate) fn parse_size(text: &str) -> Option<usize> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match text[digits.len()..].to_ascii_uppercase().as_str() {
        "" | "B" => 1,
        "K" | "KB" | "KIB" => 1 << 10,
        "M" | "MB" | "MIB" => 1 << 20,
        "G" | "GB" | "GIB" => 1 << 30,
        _ => return None,
    };
    digits.parse::<usize>().ok()?.checked_mul(unit)
}

/// A whole number with a unit: `ns`, `us`, `ms` or `s`; 0 needs none.
fn parse_duration(text: &str) -> Option<Duration> {
    if text == "off" {
        return Some(Duration::MAX);
    }
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let n: u64 = digits.parse().ok()?;
    match &text[digits.len()..] {
        "ns" => Some(Duration::from_nanos(n)),
        "us" => Some(Duration::from_micros(n)),
        "ms" => Some(Duration::from_millis(n)),
        "s" => Some(Duration::from_secs(n)),
        "" if n == 0 => Some(Duration::ZERO),
        _ => None,
    }
}

fn parse_deadlock(text: &str) -> Option<OnDeadlock> {
    match text {
        "report" => Some(OnDeadlock::Report),
        "abort" => Some(OnDeadlock::Abort),
        "ignore" => Some(OnDeadlock::Ignore),
        _ => None,
    }
}

fn parse_flag(text: &str) -> Option<bool> {
    match text {
        "1" | "true" | "on" => Some(true),
        "0" | "false" | "off" | "" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(parse_size("65536"), Some(65536));
        assert_eq!(parse_size("64K"), Some(65536));
        assert_eq!(parse_size("1MiB"), Some(1 << 20));
        assert_eq!(parse_size("64Q"), None);
        assert_eq!(parse_size("99999999999999G"), None);
        assert_eq!(parse_size("K"), None);
    }

    #[test]
    fn durations() {
        assert_eq!(parse_duration("50us"), Some(Duration::from_micros(50)));
        assert_eq!(parse_duration("2ms"), Some(Duration::from_millis(2)));
        assert_eq!(parse_duration("0"), Some(Duration::ZERO));
        assert_eq!(parse_duration("50"), None);
        assert_eq!(parse_duration("us"), None);
        let ms = |n| Some(Duration::from_millis(n));
        assert_eq!(parse_duration("250ms"), ms(250));
        assert_eq!(parse_duration("3s"), ms(3000));
        assert_eq!(parse_duration("off"), Some(Duration::MAX));
        for wrong in ["", "5", "s", "-1s", "99999999999999999999s"] {
            assert_eq!(parse_duration(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn worker_counts() {
        for n in [0, 10_000] {
            let asked = Asked {
                workers: Some(n),
                ..Asked::default()
            };
            let text = Config::new(&asked).unwrap_err().to_string();
            assert!(text.contains("1 to 1024"), "{text}");
        }
        let asked = Asked {
            workers: Some(3),
            ..Asked::default()
        };
        assert_eq!(Config::new(&asked).unwrap().workers, 3);
    }

    #[test]
    fn a_virtual_clock_takes_one_worker() {
        let with = |workers| Asked {
            workers,
            virtual_clock: true,
            ..Asked::default()
        };
        assert_eq!(Config::new(&with(None)).unwrap().workers, 1);
        assert_eq!(Config::new(&with(Some(1))).unwrap().workers, 1);
        let text = Config::new(&with(Some(2))).unwrap_err().to_string();
        assert!(text.contains("virtual clock and 2 workers"), "{text}");
    }
}
