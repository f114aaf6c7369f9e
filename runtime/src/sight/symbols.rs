//! Names for return addresses, and the frames that a person wants to see.
//!
//! Trimmed at both ends are the runtime's own frames and those of the standard library next to
//! them: at the top what leads from the user's call to the switch, at the bottom what leads from
//! the stack's first instruction to the user's closure. So the first frame is the user's own.
//!
//! Symbolising reads the program's debug information: tens of milliseconds at the first time, and
//! more stack than a task need have. It is done by whoever prints, a task on its worker's stack.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::lend;

/// The return addresses of a task, innermost first; [`frames`](Self::frames) and `Display` give them
/// names.
#[derive(Clone, PartialEq, Eq)]
pub struct TaskBacktrace {
    addresses: Arc<[usize]>,
}

/// One frame of a [`TaskBacktrace`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TaskFrame {
    /// The function's name, or its address where there is none.
    pub function: String,
    /// The source file and line, as far as the program has debug information.
    pub location: Option<(PathBuf, u32)>,
}

impl TaskBacktrace {
    pub(crate) fn new(addresses: Arc<[usize]>) -> Self {
        Self { addresses }
    }

    /// Returns the addresses as they were on the stack, with the runtime's own frames.
    pub fn addresses(&self) -> &[usize] {
        &self.addresses
    }

    /// Finds the names of the frames, without the runtime's own at both ends.
    ///
    /// # Blocking
    /// Never parks. The first call in a process reads its debug information, which may take tens of
    /// milliseconds, and much longer in code that is not optimised.
    pub fn frames(&self) -> Vec<TaskFrame> {
        Symbols::default().frames(&self.addresses)
    }
}

impl fmt::Debug for TaskBacktrace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TaskBacktrace({} addresses)", self.addresses.len())
    }
}

impl fmt::Display for TaskBacktrace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.frames().iter().try_for_each(|x| writeln!(f, "{x}"))
    }
}

impl fmt::Display for TaskFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.function)?;
        match &self.location {
            Some((file, line)) => write!(f, "  {}:{line}", file.display()),
            None => Ok(()),
        }
    }
}

/// Names found so far.
#[derive(Default)]
pub(crate) struct Symbols {
    known: HashMap<usize, Vec<Named>>,
}

#[derive(Clone)]
struct Named {
    frame: TaskFrame,
    owner: Owner,
}

impl Symbols {
    pub(crate) fn frames(&mut self, addresses: &[usize]) -> Vec<TaskFrame> {
        lend::on_worker_stack(|| {
            let all = addresses.iter().flat_map(|&a| self.at(a).clone());
            trim(all.collect())
        })
    }

    /// The function at that address, and those that it was inlined into.
    fn at(&mut self, address: usize) -> &Vec<Named> {
        self.known.entry(address).or_insert_with(|| {
            let mut found = Vec::new();
            backtrace::resolve(std::ptr::without_provenance_mut(address), |symbol| {
                let Some(name) = symbol.name() else { return };
                // Without the hash that tells instances from each other.
                let name = format!("{name:#}");
                let file = symbol.filename();
                let owner = owner(file.map(Path::to_string_lossy).as_deref(), &name);
                let location = file.map(shorter).zip(symbol.lineno());
                let function = without_generics(&name);
                let frame = TaskFrame { function, location };
                found.push(Named { frame, owner });
            });
            if found.is_empty() {
                found.push(Named {
                    frame: TaskFrame {
                        function: format!("{address:#x}"),
                        location: None,
                    },
                    owner: Owner::Neutral,
                });
            }
            found
        })
    }
}

/// The path below the current directory, the standard library or the registry, if it is there.
fn shorter(file: &Path) -> PathBuf {
    if let Ok(dir) = std::env::current_dir()
        && let Ok(below) = file.strip_prefix(dir)
    {
        return below.into();
    }
    let text = file.to_string_lossy();
    // `/rustc/HASH/library/...`, `.../registry/src/INDEX/CRATE-1.0.0/src/...`
    let below = ["/rustc/", "/registry/src/"]
        .iter()
        .find_map(|mark| text.split_once(mark)?.1.split_once('/'));
    below.map_or_else(|| file.into(), |(_, rest)| rest.into())
}

/// A function's name without the types that it is generic over.
fn without_generics(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    let (mut depth, mut before) = (0, ' ');
    for c in name.chars() {
        let named = before.is_alphanumeric() || matches!(before, '_' | '}');
        match c {
            '<' if depth > 0 || named => depth += 1,
            '>' if depth > 0 => depth -= i32::from(before != '-'),
            _ if depth == 0 => out.push(c),
            _ => {}
        }
        before = c;
    }
    out
}

/// Who a function belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Owner {
    /// This crate, and what it calls to switch.
    Runtime,
    /// The standard library, C, and what has no name.
    Neutral,
    User,
}

/// Where the sources of this crate were when it was compiled, and those of its siblings.
const SOURCES: [&str; 3] = [
    concat!(env!("CARGO_MANIFEST_DIR"), "/src/"),
    concat!(env!("CARGO_MANIFEST_DIR"), "/../net/src/"),
    concat!(env!("CARGO_MANIFEST_DIR"), "/../mq/src/"),
];

/// By the source file: with line tables only, a function has no crate in its name.
fn owner_by_file(file: &str) -> Option<Owner> {
    let crates = [
        "/corosensei-",
        "/backtrace-0.",
        "/sward-runtime-",
        "/sward-net-",
        "/sward-mq-",
    ];
    let plain = |dir: &str| match dir.split_once("/runtime/../") {
        Some((root, sibling)) => file
            .strip_prefix(root)
            .and_then(|f| f.strip_prefix('/'))
            .is_some_and(|f| f.starts_with(sibling)),
        None => file.starts_with(dir),
    };
    if SOURCES.iter().any(|dir| plain(dir)) || crates.iter().any(|c| file.contains(c)) {
        return Some(Owner::Runtime);
    }
    let library = file.starts_with("/rustc/") || file.contains("/rustlib/src/rust/library/");
    library.then_some(Owner::Neutral)
}

fn owner(file: Option<&str>, function: &str) -> Owner {
    if let Some(owner) = file.and_then(owner_by_file) {
        return owner;
    }
    // `<&mut krate::Type as Trait>::f` belongs to `krate`.
    let mut path = function;
    while let Some(rest) = ["<", "&", "mut ", "dyn ", "*const ", "*mut "]
        .iter()
        .find_map(|p| path.strip_prefix(p))
    {
        path = rest;
    }
    match path.split_once("::").map(|(krate, _)| krate) {
        Some("sward_runtime" | "sward_net" | "sward_mq" | "corosensei") => Owner::Runtime,
        Some("std" | "core" | "alloc") => Owner::Neutral,
        Some("backtrace") if path.starts_with("backtrace::backtrace::") => Owner::Runtime,
        // A function in a file that is nobody else's; those of C libraries have files too.
        None if file.is_some_and(|f| Path::new(f).extension().is_some_and(|e| e == "rs")) => {
            Owner::User
        }
        None => Owner::Neutral,
        Some(_) if path.starts_with("__") => Owner::Neutral,
        Some(_) => Owner::User,
    }
}

fn trim(frames: Vec<Named>) -> Vec<TaskFrame> {
    let is_user = |f: &Named| f.owner == Owner::User;
    let public = |f: &Named| {
        let hidden = ["/hub/", "/fiber/", "::hub::", "::fiber::", "corosensei"];
        let file = f.frame.location.as_ref().map(|l| l.0.to_string_lossy());
        let file = file.unwrap_or_default();
        let hides = |h: &&str| f.frame.function.contains(*h) || file.contains(*h);
        f.owner == Owner::Runtime && !hidden.iter().any(hides)
    };
    let bare = |kept: Vec<Named>| kept.into_iter().map(|f| f.frame).collect();
    let (Some(first), Some(last)) = (
        frames.iter().position(is_user),
        frames.iter().rposition(is_user),
    ) else {
        // `spawn(park)`: the outermost function of the runtime that is not the scheduler's.
        return bare(frames.into_iter().rev().filter(public).take(1).collect());
    };
    // What the user called into, if that is not us: `malloc`, `core::hint::spin_loop`.
    let ours = frames[..first].iter().any(|f| f.owner == Owner::Runtime);
    let first = if ours { first } else { 0 };
    bare(frames.into_iter().take(last + 1).skip(first).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trimmed(functions: &[&str]) -> Vec<String> {
        let frame = |f: &&str| Named {
            owner: owner(None, f),
            frame: TaskFrame {
                function: (*f).into(),
                location: None,
            },
        };
        let frames = trim(functions.iter().map(frame).collect());
        frames.into_iter().map(|f| f.function).collect()
    }

    #[test]
    fn the_runtime_is_trimmed_at_both_ends() {
        let bottom = [
            "core::ops::function::FnOnce::call_once",
            "std::panicking::catch_unwind",
            "__rust_try",
            "sward_runtime::hub::cell::run",
            "corosensei::coroutine::Coroutine<I,Y,R,S>::with_stack::coroutine_func",
        ];
        let with = |top: &[&'static str]| trimmed(&[top, &bottom].concat());
        let parked = with(&[
            "sward_runtime::hub::switch::<impl sward_runtime::hub::Hub>::resumed",
            "<sward_runtime::sync::channel::IntoIter<T> as core::iter::Iterator>::next",
            "core::iter::Iterator::fold",
            "app::sum",
            "std::collections::HashMap<K,V>::entry",
            "app::main::{{closure}}",
        ]);
        assert_eq!(
            parked,
            [
                "app::sum",
                "std::collections::HashMap<K,V>::entry",
                "app::main::{{closure}}"
            ]
        );
        assert_eq!(with(&["malloc", "app::f"]), ["malloc", "app::f"]);
        let bare = with(&[
            "sward_runtime::hub::Hub::park",
            "sward_runtime::park::park_until",
            "sward_runtime::park::park",
        ]);
        assert_eq!(bare, ["sward_runtime::park::park"]);
        assert!(trimmed(&[]).is_empty() && trimmed(&["0x17"]).is_empty());
    }

    #[test]
    fn the_crate_of_a_function() {
        let is = |f, o| assert_eq!(owner(None, f), o, "{f}");
        is("<&mut sward_runtime::x::Y as core::Z>::f", Owner::Runtime);
        is("<app::X as core::fmt::Debug>::fmt", Owner::User);
        is("epoll_wait", Owner::Neutral);
        is("sward_runtime_user::f", Owner::User);
        let by_file = |file, o| assert_eq!(owner(Some(file), "f"), o, "{file}");
        let own = format!("{}time.rs", SOURCES[0]);
        assert_eq!(owner(Some(&own), "f"), Owner::Runtime);
        by_file("/x/corosensei-0.3.4/src/unwind.rs", Owner::Runtime);
        by_file("/rustc/5980/library/core/src/ops.rs", Owner::Neutral);
        by_file("/home/me/app/src/main.rs", Owner::User);
        by_file("./time/../sysdeps/clock_gettime.c", Owner::Neutral);
    }

    #[test]
    fn names_and_paths_are_short() {
        let short = |n, s| assert_eq!(without_generics(n), s);
        short("app::f", "app::f");
        short("fold<Range<u64>, app::f::{closure_env#0}>", "fold");
        short("<app::X<T> as Y<U>>::f<fn() -> V>", "<app::X as Y>::f");
        short("app::{closure#0}<fn(u8) -> Z>::g", "app::{closure#0}::g");
        let path = |p: &str| shorter(Path::new(p)).display().to_string();
        assert_eq!(path("/rustc/abc/library/core/x.rs"), "library/core/x.rs");
        let registry = "/h/.cargo/registry/src/index-1/mio-1.0.4/src/x.rs";
        assert_eq!(path(registry), "mio-1.0.4/src/x.rs");
        assert_eq!(path("/elsewhere/x.rs"), "/elsewhere/x.rs");
    }

    #[inline(never)]
    fn known() -> usize {
        known as *const () as usize + 1
    }

    #[test]
    fn a_function_has_its_name() {
        let frame = &Symbols::default().at(known())[0].frame.clone();
        assert!(frame.function.ends_with("symbols::tests::known"), "{frame}");
        let file = frame.location.as_ref().unwrap();
        assert!(file.0.ends_with("sight/symbols.rs"), "{frame}");
    }
}
