//! The console: its socket, its commands, and clients that misbehave.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::mem_forget,
    clippy::type_complexity,
    clippy::disallowed_types, // std's sockets, on ordinary threads
    dropping_copy_types
)]

mod common;

use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use common::{assert_passed, is_child, rerun, stderr, until, within};
use sward_runtime::sync::{Event, Mutex};
use sward_runtime::{Builder, JoinHandle, Runtime, RuntimeBuilder, join_all, park};

/// A directory of its own for each test, removed with it.
struct Dir(PathBuf);

impl Dir {
    fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let n = NEXT.fetch_add(1, SeqCst);
        let name = format!("sward-console-{}-{n}", std::process::id());
        let dir = std::env::temp_dir().join(name);
        fs::create_dir(&dir).unwrap();
        Self(dir)
    }

    fn path(&self) -> PathBuf {
        self.0.join("console")
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn builder(workers: usize, path: &Path) -> RuntimeBuilder {
    Runtime::builder().workers(workers).console(path)
}

struct Client(BufReader<UnixStream>);

impl Client {
    fn new(path: &Path) -> Self {
        Self(BufReader::new(UnixStream::connect(path).unwrap()))
    }

    fn send(&mut self, bytes: &[u8]) {
        self.0.get_mut().write_all(bytes).unwrap();
    }

    /// Reads up to the dot.
    fn reply(&mut self) -> String {
        let mut text = String::new();
        loop {
            let mut line = String::new();
            let n = self.0.read_line(&mut line).unwrap();
            assert!(n > 0, "the connection ended after {text:?}");
            if line == ".\n" {
                return text;
            }
            text.push_str(&line);
        }
    }

    fn ask(&mut self, command: &str) -> String {
        self.send(format!("{command}\n").as_bytes());
        self.reply()
    }
}

#[test]
fn every_command() {
    within("every_command", || {
        for workers in [1, 2] {
            let dir = Dir::new();
            let runtime = builder(workers, &dir.path()).name("asked").build().unwrap();
            let lock = Arc::new(Mutex::new(()));
            let held = lock.lock();
            let wants = lock.clone();
            let locker = runtime
                .spawn_with(Builder::new().name("locker"), move || drop(wants.lock()))
                .unwrap();
            let parks: Vec<_> = (0..20).map(|_| runtime.spawn(park)).collect();
            let mut client = Client::new(&dir.path());
            until(|| client.ask("ps parked limit=0").contains("and 21 more"));

            let help = client.ask("help");
            for command in [
                "ps", "stack", "kill", "dump", "json", "stats", "workers", "quit",
            ] {
                assert!(help.lines().any(|l| l.starts_with(command)), "{help}");
            }
            let ps = client.ask("ps locker");
            assert_eq!(ps.lines().count(), 2, "{ps}");
            assert!(
                ps.contains("mutex 0x") && ps.contains(&locker.id().to_string()),
                "{ps}"
            );
            assert_eq!(client.ask("ps limit=5").lines().count(), 7);
            assert_eq!(client.ask("ps running"), "no such task\n");
            assert_eq!(client.ask("ps worker=77"), "no such task\n");
            assert_eq!(client.ask("ps limit=x"), "limit= takes a number\n");

            let stack = client.ask(&format!("stack {}", locker.id()));
            assert!(
                stack.contains("console.rs") && stack.contains("at "),
                "{stack}"
            );
            let none = "no worker that answered has a task 999999999\n";
            assert_eq!(client.ask("stack 999999999"), none);
            for wrong in ["stack", "stack x", "stack 1 2", "kill", "kill -1"] {
                assert!(client.ask(wrong).contains("`ps` shows them"), "{wrong}");
            }

            let dump = client.ask("dump");
            assert!(
                dump.starts_with("21 tasks: ") && dump.contains("x20"),
                "{dump}"
            );
            assert_eq!(client.ask("dump all").matches("  park, ").count(), 20);
            let json = client.ask("json");
            assert!(
                json.starts_with("{\"tasks\":[{") && json.ends_with("}\n"),
                "{json}"
            );
            assert!(client.ask("stats").contains("queue delay"));
            let list = client.ask("workers");
            assert_eq!(list.lines().count(), 1 + workers, "{list}");
            assert!(client.ask("frob").contains("no command frob"));

            let killed = client.ask(&format!("kill {}", parks[3].id()));
            assert!(killed.contains("is asked to end"), "{killed}");
            until(|| parks[3].is_finished());
            let gone = client.ask(&format!("kill {}", parks[3].id()));
            assert!(gone.starts_with("there is no task"), "{gone}");

            drop(held);
            locker.join().unwrap();
            parks.iter().for_each(JoinHandle::kill);
            join_all(parks);
            assert_eq!(client.ask("ps"), "no such task\n");
            client.send(b"quit\n");
            let mut rest = String::new();
            assert_eq!(client.0.read_to_string(&mut rest).unwrap(), 0);
        }
    });
}

#[test]
fn works_while_a_worker_is_stalled() {
    within("works_while_a_worker_is_stalled", || {
        let dir = Dir::new();
        let runtime = builder(2, &dir.path())
            .sampling(true)
            .stall_threshold(Duration::MAX)
            .build()
            .unwrap();
        let (begun, stop) = (Arc::new(Event::new()), Arc::new(AtomicBool::new(false)));
        let on = |w, f: Box<dyn FnOnce() + Send>| {
            runtime.spawn_with(Builder::new().on_worker(w), f).unwrap()
        };
        let here = on(0, Box::new(park));
        let there = on(1, Box::new(park));
        let mut client = Client::new(&dir.path());
        until(|| client.ask("ps parked limit=0").contains("and 2 more"));
        let (tell, until_told) = (begun.clone(), stop.clone());
        let hog = on(
            1,
            Box::new(move || {
                tell.set();
                while !until_told.load(SeqCst) {
                    std::hint::spin_loop();
                }
            }),
        );
        begun.wait();
        let ps = client.ask("ps");
        assert!(ps.contains("worker 1 stalled for"), "{ps}");
        assert!(ps.contains("other tasks (2 live) are not listed"), "{ps}");
        assert!(ps.contains(&format!("{:>8}  0 ", here.id())), "{ps}");
        let stack = client.ask(&format!("stack {}", hog.id()));
        assert!(stack.contains("tests/console.rs"), "{stack}");
        let refused = client.ask(&format!("kill {}", there.id()));
        assert!(refused.contains("it was not killed"), "{refused}");
        assert!(
            client
                .ask("workers")
                .contains(&format!("task {} ", hog.id()))
        );
        stop.store(true, SeqCst);
        hog.join().unwrap();
        // The question that came too late does nothing.
        let ps = client.ask("ps parked");
        assert!(
            ps.contains(&there.id().to_string()) && !ps.contains("killed"),
            "{ps}"
        );
        [here, there].iter().for_each(JoinHandle::kill);
    });
}

#[test]
fn bad_input() {
    within("bad_input", || {
        let dir = Dir::new();
        let _runtime = builder(1, &dir.path()).build().unwrap();
        let mut client = Client::new(&dir.path());
        client.send(b"\n  \n\xff\xfe\x00 x\n");
        assert!(client.reply().contains("there is no command"));
        client.send(&[b'a'; 100_000]);
        client.send(b"\nhelp\n");
        assert!(client.reply().contains("too long"));
        assert!(client.reply().starts_with("ps"));
        let just = "x".repeat(1023);
        assert!(client.ask(&just).contains("there is no command xxx"));
        assert!(client.ask(&"x".repeat(1024)).contains("too long"));
        assert!(client.ask("ps \x1b[2J").contains("no such task"));
        // In pieces, and the last line without its end.
        for piece in [&b"he"[..], b"l", b"p\nsta", b"ts"] {
            client.send(piece);
        }
        client.0.get_ref().shutdown(Shutdown::Write).unwrap();
        assert!(client.reply().starts_with("ps"));
        assert!(client.reply().contains("switches"));
        assert_eq!(client.0.read_line(&mut String::new()).unwrap(), 0);
        // One line without an end, longer than a client may keep.
        let mut endless = Client::new(&dir.path());
        endless.send(&vec![b'b'; 1 << 20]);
        drop(endless);
        assert!(Client::new(&dir.path()).ask("help").starts_with("ps"));
    });
}

#[test]
fn clients_that_vanish_and_clients_in_crowds() {
    within("clients_that_vanish_and_clients_in_crowds", || {
        let dir = Dir::new();
        let runtime = builder(2, &dir.path()).build().unwrap();
        let parks: Vec<_> = (0..3000).map(|_| runtime.spawn(park)).collect();
        until(|| runtime.stats().live == 3000);
        for _ in 0..50 {
            // More than a socket's buffer comes back, and nobody reads it.
            let mut client = Client::new(&dir.path());
            let commands = b"dump all\ndump all\nps limit=100000\n";
            // Refused, if those before have not been missed yet.
            let _ = client.0.get_mut().write_all(commands);
            drop(client);
            drop(UnixStream::connect(dir.path()).unwrap());
        }
        // Places come free again.
        let mut many: Vec<Client> = Vec::new();
        while many.len() < 16 {
            let mut client = Client::new(&dir.path());
            if client.ask_or_full() {
                many.push(client);
            }
        }
        let refused = Client::new(&dir.path()).reply();
        assert!(refused.contains("too many clients"), "{refused}");
        for client in &mut many {
            assert!(client.ask("ps").contains("and 2900 more"));
        }
        parks.iter().for_each(JoinHandle::kill);
        join_all(parks);
    });
}

impl Client {
    /// Whether the console had a place for this client.
    fn ask_or_full(&mut self) -> bool {
        let mut line = String::new();
        self.0.get_mut().write_all(b"help\n").is_ok()
            && self.0.read_line(&mut line).is_ok()
            && line.starts_with("ps")
            && !self.reply().is_empty()
    }
}

#[test]
fn the_socket_comes_and_goes() {
    within("the_socket_comes_and_goes", || {
        let dir = Dir::new();
        let path = dir.path();
        let runtime = builder(1, &path).build().unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(
            fs::read_dir(&dir.0).unwrap().count(),
            1,
            "nothing beside it"
        );
        let mut client = Client::new(&path);
        assert!(client.ask("help").starts_with("ps"));
        // Taken: refused, and the first one goes on.
        let error = builder(1, &path).build().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
        let text = error.to_string();
        assert!(text.contains("console") && text.contains("%p"), "{text}");
        assert!(client.ask("help").starts_with("ps"));
        drop(runtime);
        assert!(!path.exists(), "removed at the end");
        assert_eq!(client.0.read_line(&mut String::new()).unwrap_or(0), 0);

        // Left by a process that died.
        drop(UnixListener::bind(&path).unwrap());
        let runtime = builder(1, &path).build().unwrap();
        assert!(Client::new(&path).ask("help").starts_with("ps"));
        // Somebody else's by then: left alone.
        fs::remove_file(&path).unwrap();
        fs::write(&path, "mine").unwrap();
        drop(runtime);
        assert_eq!(fs::read(&path).unwrap(), b"mine");
        let error = builder(1, &path).build().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"mine");

        let error = builder(1, &dir.0.join("no/such")).build().unwrap_err();
        assert!(error.to_string().contains("no/such"), "{error}");
        let error = builder(1, &dir.0.join("x".repeat(200)))
            .build()
            .unwrap_err();
        assert!(error.to_string().contains("xxx"), "{error}");
        let runtime = builder(1, &dir.0.join("pid-%p")).build().unwrap();
        assert!(dir.0.join(format!("pid-{}", std::process::id())).exists());
        drop(runtime);
    });
}

/// A hundred consoles leave no thread and no descriptor behind.
#[test]
fn nothing_is_left_behind() {
    if !is_child() {
        return assert_passed(&rerun("nothing_is_left_behind", &[]));
    }
    within("nothing_is_left_behind", || {
        let dir = Dir::new();
        let count = |what: &str| fs::read_dir(format!("/proc/self/{what}")).unwrap().count();
        let once = || {
            let runtime = builder(1, &dir.path()).build().unwrap();
            let mut client = Client::new(&dir.path());
            assert!(client.ask("help").starts_with("ps"));
            drop(runtime);
        };
        once();
        let mut before = (0, 0);
        until(|| {
            let now = (count("task"), count("fd"));
            std::mem::replace(&mut before, now) == now
        });
        (0..100).for_each(|_| once());
        until(|| count("task") <= before.0 && count("fd") <= before.1);
    });
}

#[test]
fn the_variable() {
    let name = "the_variable";
    if is_child() {
        return within("child", || {
            let path = PathBuf::from(std::env::var("SWARD_CONSOLE").unwrap());
            let said = std::env::var_os("TAKEN").is_some();
            for round in 0..2 {
                let one = Runtime::builder().workers(1).name("one").build().unwrap();
                let two = Runtime::builder().workers(1).name("two").build().unwrap();
                if !said {
                    let reply = Client::new(&path).ask("workers");
                    assert!(
                        reply.contains("'one':") && reply.contains("'two':"),
                        "{round}"
                    );
                }
                drop((one, two));
            }
            if !said {
                assert_eq!(Client::new(&path).ask("ps"), "no runtime is there\n");
            }
        });
    }
    let dir = Dir::new();
    let path = dir.path();
    let variable = ("SWARD_CONSOLE", path.to_str().unwrap());
    assert_passed(&rerun(name, &[variable]));
    assert!(!path.exists(), "removed at the end of the process");
    let _taken = UnixListener::bind(&path).unwrap();
    let output = rerun(name, &[variable, ("TAKEN", "1")]);
    assert_passed(&output);
    let text = stderr(&output);
    assert!(text.contains("going on without (SWARD_CONSOLE)"), "{text}");
    assert!(path.exists());
}

/// A forked child leaves its parent's console alone when it ends.
#[test]
fn a_forked_child_leaves_it_alone() {
    if !is_child() {
        let dir = Dir::new();
        let path = dir.path();
        let variable = ("SWARD_CONSOLE", path.to_str().unwrap());
        return assert_passed(&rerun("a_forked_child_leaves_it_alone", &[variable]));
    }
    within("a_forked_child_leaves_it_alone", || {
        let path = PathBuf::from(std::env::var("SWARD_CONSOLE").unwrap());
        let own = path.with_extension("own");
        let runtime = builder(1, &own).build().unwrap();
        // SAFETY: the child only drops a runtime that stayed in the parent, and exits.
        let child = unsafe { libc::fork() };
        if child == 0 {
            drop(runtime);
            #[allow(clippy::exit)] // `at_exit` closures are the point
            std::process::exit(0);
        }
        let mut status = 1;
        // SAFETY: a live local.
        unsafe { libc::waitpid(child, &raw mut status, 0) };
        assert_eq!(status, 0);
        assert!(Client::new(&path).ask("help").starts_with("ps"));
        assert!(Client::new(&own).ask("help").starts_with("ps"));
        drop(runtime);
    });
}
