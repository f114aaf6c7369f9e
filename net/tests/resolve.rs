//! Names: one look-up for all who want the same, answers that are kept for a while, and no worker
//! that is blocked.
#![allow(clippy::unwrap_used, clippy::disallowed_types)]

use std::io::{Error, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::{self, ThreadId};
use std::time::Duration;

use sward_net::{Resolver, ResolverBuilder, TcpListener, TcpStream, ToSocketAddrs, lookup_host};
use sward_runtime::{Runtime, advance, join_all, sleep, spawn, timeout, yield_now};

const MS: Duration = Duration::from_millis(1);
const S: Duration = Duration::from_secs(1);

fn within<T>(name: &str, f: impl FnOnce() -> T) -> T {
    sward_runtime::__private::test_body(Duration::from_secs(60), name, f)
}

fn until(mut done: impl FnMut() -> bool) {
    while !done() {
        yield_now();
    }
}

fn on_workers(check: impl Fn() + Send + Sync) {
    for workers in [1, 2] {
        let runtime = Runtime::builder().workers(workers).build().unwrap();
        runtime.run(&check);
    }
}

fn on_virtual(check: impl FnOnce() + Send) {
    let runtime = Runtime::builder().virtual_clock().build().unwrap();
    runtime.run(check);
}

/// Counts what is asked; names that begin with "no" are unknown.
#[derive(Clone, Default)]
struct Asked(Arc<Mutex<Vec<String>>>);

impl Asked {
    fn resolver(&self, knobs: impl FnOnce(ResolverBuilder) -> ResolverBuilder) -> Resolver {
        let asked = self.0.clone();
        let look_up = move |name: &str| {
            asked.lock().unwrap().push(name.to_owned());
            if name.starts_with("no") {
                return Err(Error::new(ErrorKind::NotFound, "there is no such thing"));
            }
            Ok(vec![IpAddr::from([10, 0, 0, name.len() as u8])])
        };
        knobs(Resolver::builder().with(look_up)).build()
    }

    fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

/// A resolver whose look-ups wait for a message each; the number of those that have begun.
fn gated(threads: usize) -> (Arc<Resolver>, Sender<()>, Arc<AtomicUsize>) {
    let (open, gate) = channel::<()>();
    let (gate, begun) = (Mutex::new(gate), Arc::new(AtomicUsize::new(0)));
    let count = begun.clone();
    let look_up = move |name: &str| {
        count.fetch_add(1, SeqCst);
        gate.lock().unwrap().recv().map_err(Error::other)?;
        Ok(vec![IpAddr::from([10, 0, 0, name.len() as u8])])
    };
    let resolver = Resolver::builder().threads(threads).with(look_up).build();
    (Arc::new(resolver), open, begun)
}

fn addresses(text: &str) -> Vec<SocketAddr> {
    text.split_whitespace()
        .map(|a| a.parse().unwrap())
        .collect()
}

#[test]
fn numeric_addresses_are_not_looked_up() {
    within("numeric_addresses_are_not_looked_up", || {
        let asked = Asked::default();
        let resolver = asked.resolver(|b| b);
        for (host, address) in [
            ("127.0.0.1", "127.0.0.1:7"),
            ("::1", "[::1]:7"),
            ("[::1]", "[::1]:7"),
            ("fe80::1%1", "[fe80::1%1]:7"),
            ("[fe80::1%1]", "[fe80::1%1]:7"),
            ("fe80::1%lo", "[fe80::1%1]:7"),
            ("[fe80::1%lo]", "[fe80::1%1]:7"),
        ] {
            assert_eq!(resolver.lookup_host(host, 7).unwrap(), addresses(address));
        }
        let e = resolver.lookup_host("fe80::1%sward-none", 7).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::InvalidInput);
        assert!(e.to_string().contains("sward-none"), "{e}");
        assert!(resolver.lookup_host("fe80::1%", 7).is_err());
        assert_eq!(asked.count(), 0);
    });
}

#[test]
fn what_is_no_name_is_refused_without_a_look_up() {
    within("what_is_no_name_is_refused_without_a_look_up", || {
        let asked = Asked::default();
        let resolver = asked.resolver(|b| b);
        let long = "a".repeat(254);
        let dotted = "a".repeat(254) + ".";
        let names = [
            "",
            ".",
            "a\0b",
            "[a]",
            "[]",
            "[127.0.0.1]",
            "[::1",
            &long,
            &dotted,
        ];
        for name in names {
            let e = resolver.lookup_host(name, 1).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::InvalidInput, "{name:?}: {e}");
            assert!(e.to_string().len() < 200, "{e}");
        }
        assert_eq!(asked.count(), 0);
        for name in ["a".repeat(253), "a".repeat(253) + "."] {
            resolver.lookup_host(&name, 1).unwrap();
        }
        assert_eq!(asked.count(), 2);
    });
}

#[test]
fn texts_and_types_that_are_addresses() {
    within("texts_and_types_that_are_addresses", || {
        fn all(a: impl ToSocketAddrs) -> Vec<SocketAddr> {
            a.to_socket_addrs().unwrap().collect()
        }
        let a: SocketAddr = "127.0.0.1:7".parse().unwrap();
        let v6: SocketAddr = "[::1]:7".parse().unwrap();
        assert_eq!(all("127.0.0.1:7"), [a]);
        assert_eq!(all("127.0.0.1:7".to_owned()), [a]);
        assert_eq!(all(("127.0.0.1", 7)), [a]);
        assert_eq!(all(("[::1]".to_owned(), 7)), [v6]);
        assert_eq!(all(("[::1%1]:7", 7).0), addresses("[::1%1]:7"));
        assert_eq!(all("[fe80::1%lo]:7"), addresses("[fe80::1%1]:7"));
        assert_eq!(all((a.ip(), 7)), [a]);
        assert_eq!(all(a), [a]);
        let (one, two) = (&a, &[a, v6]);
        assert_eq!(all(one), [a]);
        assert_eq!(all([a, v6]), [a, v6]);
        assert_eq!(all(two), [a, v6]);
        assert_eq!(all(&[a, v6][..]), [a, v6]);
        assert_eq!(all(vec![v6]), [v6]);
        for text in [
            "",
            "127.0.0.1",
            "127.0.0.1:",
            "127.0.0.1:65536",
            "127.0.0.1:x",
            ":80",
        ] {
            let e = text.to_socket_addrs().unwrap_err();
            assert_eq!(e.kind(), ErrorKind::InvalidInput, "{text}: {e}");
        }
    });
}

#[test]
fn one_look_up_for_all_who_want_it() {
    within("one_look_up_for_all_who_want_it", || {
        on_workers(|| {
            let (resolver, open, begun) = gated(8);
            let asking = Arc::new(AtomicUsize::new(0));
            let ask = |name: &'static str| {
                let (resolver, asking) = (resolver.clone(), asking.clone());
                move || {
                    asking.fetch_add(1, SeqCst);
                    resolver.lookup_host(name, 80).unwrap()
                }
            };
            let names = ["Example.org", "example.ORG", "example.org"];
            let tasks: Vec<_> = (0..60).map(|i| spawn(ask(names[i % 3]))).collect();
            let threads: Vec<_> = names.map(|name| thread::spawn(ask(name))).into();
            until(|| asking.load(SeqCst) == 63 && begun.load(SeqCst) > 0);
            (0..63).for_each(|_| open.send(()).unwrap());
            let wanted = addresses("10.0.0.11:80");
            join_all(tasks)
                .into_iter()
                .for_each(|a| assert_eq!(a.unwrap(), wanted));
            threads
                .into_iter()
                .for_each(|t| assert_eq!(t.join().unwrap(), wanted));
            assert_eq!(begun.load(SeqCst), 1);
            // With the dot it is a name of its own.
            resolver.lookup_host("example.org.", 80).unwrap();
            assert_eq!(begun.load(SeqCst), 2);
        });
    });
}

#[test]
fn those_who_wait_go_on_in_their_order() {
    within("those_who_wait_go_on_in_their_order", || {
        Runtime::builder().workers(1).build().unwrap().run(|| {
            let (resolver, open, _) = gated(8);
            let (asking, order) = (Arc::new(AtomicUsize::new(0)), Arc::default());
            let tasks = (0..20).map(|i| {
                let (resolver, order) = (resolver.clone(), Arc::<Mutex<Vec<_>>>::clone(&order));
                let asking = asking.clone();
                spawn(move || {
                    asking.fetch_add(1, SeqCst);
                    resolver.lookup_host("name", 1).unwrap();
                    order.lock().unwrap().push(i);
                })
            });
            let tasks: Vec<_> = tasks.collect();
            until(|| asking.load(SeqCst) == 20);
            open.send(()).unwrap();
            join_all(tasks).into_iter().for_each(|r| r.unwrap());
            assert_eq!(*order.lock().unwrap(), (0..20).collect::<Vec<_>>());
        });
    });
}

#[test]
fn the_end_of_an_asker_is_not_that_of_the_look_up() {
    within("the_end_of_an_asker_is_not_that_of_the_look_up", || {
        on_workers(|| {
            let (resolver, open, begun) = gated(8);
            let ask = || {
                let resolver = resolver.clone();
                move || resolver.lookup_host("name", 1)
            };
            let first = spawn(ask());
            until(|| begun.load(SeqCst) == 1);
            let (second, limited) = (spawn(ask()), ask());
            let late = timeout(5 * MS, limited);
            assert!(late.is_err());
            first.kill();
            assert!(first.join().is_err());
            open.send(()).unwrap();
            assert_eq!(second.join().unwrap().unwrap(), addresses("10.0.0.4:1"));
            assert_eq!(begun.load(SeqCst), 1);
            // What came after the end of its only asker is kept too.
            let other = resolver.clone();
            let only = spawn(move || other.lookup_host("other", 1));
            until(|| begun.load(SeqCst) == 2);
            only.kill();
            assert!(only.join().is_err());
            open.send(()).unwrap();
            assert_eq!(
                resolver.lookup_host("other", 1).unwrap(),
                addresses("10.0.0.5:1")
            );
            assert_eq!(begun.load(SeqCst), 2);
        });
    });
}

#[test]
fn what_nobody_wants_any_more_is_not_looked_up() {
    within("what_nobody_wants_any_more_is_not_looked_up", || {
        on_workers(|| {
            let (resolver, open, begun) = gated(1);
            let ask = |name: &'static str| {
                let resolver = resolver.clone();
                spawn(move || resolver.lookup_host(name, 1))
            };
            let busy = ask("busy");
            until(|| begun.load(SeqCst) == 1);
            let queued: Vec<_> = ["a", "b", "a", "c"].map(ask).into();
            // Until all stand in line: two names under way besides the first.
            until(|| format!("{resolver:?}").contains("under_way: 4"));
            queued.iter().for_each(|task| task.kill());
            join_all(queued)
                .into_iter()
                .for_each(|r| assert!(r.is_err()));
            let again = ask("b");
            (0..2).for_each(|_| open.send(()).unwrap());
            busy.join().unwrap().unwrap();
            again.join().unwrap().unwrap();
            assert_eq!(begun.load(SeqCst), 2);
            until(|| format!("{resolver:?}").contains("under_way: 0"));
        });
    });
}

#[test]
fn answers_are_kept_for_their_time() {
    within("answers_are_kept_for_their_time", || {
        on_virtual(|| {
            let asked = Asked::default();
            let resolver = asked.resolver(|b| b);
            let mut count = 0;
            let mut ask = |name, new| {
                let answer = resolver.lookup_host(name, 1);
                count += new;
                assert_eq!(asked.count(), count, "{name}");
                answer
            };
            ask("host", 1).unwrap();
            ask("HOST", 0).unwrap();
            let e = ask("nohost", 1).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::NotFound);
            let (text, again) = (e.to_string(), ask("nohost", 0).unwrap_err());
            assert_eq!(again.to_string(), text);
            assert!(
                text.contains("\"nohost\"") && text.contains("no such thing"),
                "{text}"
            );
            assert!(text.contains("/etc/resolv.conf"), "{text}");
            sleep(900 * MS);
            ask("nohost", 0).unwrap_err();
            sleep(200 * MS);
            ask("nohost", 1).unwrap_err();
            sleep(8 * S);
            ask("host", 0).unwrap();
            sleep(S);
            ask("host", 1).unwrap();
            ask("host", 0).unwrap();
        });
    });
}

#[test]
fn an_answer_of_another_clock_is_not_eternal() {
    within("an_answer_of_another_clock_is_not_eternal", || {
        let asked = Asked::default();
        let resolver = asked.resolver(|b| b);
        on_virtual(|| {
            advance(3_600 * S);
            resolver.lookup_host("host", 1).unwrap();
            resolver.lookup_host("host", 1).unwrap();
            assert_eq!(asked.count(), 1);
        });
        resolver.lookup_host("host", 1).unwrap();
        assert_eq!(asked.count(), 2);
    });
}

#[test]
fn the_eldest_makes_room() {
    within("the_eldest_makes_room", || {
        let asked = Asked::default();
        let resolver = asked.resolver(|b| b.capacity(2).ttl(3_600 * S).negative_ttl(3_600 * S));
        let ask = |names: [&str; 3]| names.map(|name| drop(resolver.lookup_host(name, 1)));
        ask(["a", "nob", "c"]);
        ask(["c", "nob", "c"]);
        assert_eq!(asked.count(), 3);
        ask(["a", "a", "c"]); // in place of nob
        assert_eq!(asked.count(), 4);
        ask(["nob", "a", "nob"]); // in place of c
        assert_eq!(asked.count(), 5);
        for i in 0..10_000 {
            let _ = resolver.lookup_host(&format!("n{i}"), 1);
        }
        assert!(format!("{resolver:?}").contains("known: 2"), "{resolver:?}");
        for knob in [
            |b: ResolverBuilder| b.capacity(0),
            |b: ResolverBuilder| b.ttl(Duration::ZERO),
        ] {
            let asked = Asked::default();
            let resolver = asked.resolver(knob);
            (0..3).for_each(|_| drop(resolver.lookup_host("a", 1).unwrap()));
            assert_eq!(asked.count(), 3);
        }
    });
}

#[test]
fn clear_forgets_also_what_is_under_way() {
    within("clear_forgets_also_what_is_under_way", || {
        on_workers(|| {
            let (resolver, open, begun) = gated(8);
            let ask = |name: &'static str| {
                let resolver = resolver.clone();
                spawn(move || resolver.lookup_host(name, 1))
            };
            open.send(()).unwrap();
            resolver.lookup_host("name", 1).unwrap();
            resolver.clear();
            let old = ask("name");
            until(|| begun.load(SeqCst) == 2);
            resolver.clear();
            let new = ask("name");
            until(|| begun.load(SeqCst) == 3);
            open.send(()).unwrap();
            until(|| old.is_finished() || new.is_finished());
            // The old one came first to the gate, most probably. Its end is not that of the new one.
            if old.is_finished() {
                let text = format!("{resolver:?}");
                assert!(text.contains("known: 0, under_way: 1"), "{text}");
            }
            open.send(()).unwrap();
            old.join().unwrap().unwrap();
            new.join().unwrap().unwrap();
            resolver.lookup_host("name", 1).unwrap();
            assert_eq!(begun.load(SeqCst), 3);
            assert!(
                format!("{resolver:?}").contains("known: 1, under_way: 0"),
                "{resolver:?}"
            );
        });
    });
}

#[test]
fn a_slow_resolver_blocks_no_worker_and_has_few_threads() {
    within(
        "a_slow_resolver_blocks_no_worker_and_has_few_threads",
        || {
            Runtime::builder().workers(1).build().unwrap().run(|| {
                let (resolver, open, begun) = gated(2);
                let tasks = (0..10).map(|i| {
                    let resolver = resolver.clone();
                    spawn(move || resolver.lookup_host(&format!("name{i}"), 1))
                });
                let tasks: Vec<_> = tasks.collect();
                until(|| begun.load(SeqCst) == 2);
                // Other tasks sleep and run; a third look-up does not begin.
                join_all((0..10).map(|_| spawn(|| sleep(MS))));
                assert_eq!(begun.load(SeqCst), 2);
                (0..10).for_each(|_| open.send(()).unwrap());
                join_all(tasks)
                    .into_iter()
                    .for_each(|r| drop(r.unwrap().unwrap()));
            });
        },
    );
}

#[test]
fn a_resolver_that_panics_fails_the_look_up() {
    within("a_resolver_that_panics_fails_the_look_up", || {
        on_workers(|| {
            let times = AtomicUsize::new(0);
            let look_up = move |_: &str| match times.fetch_add(1, SeqCst) {
                0 => panic!("on purpose"),
                1 => Ok(Vec::new()),
                _ => Ok(vec![IpAddr::from([10, 0, 0, 1])]),
            };
            let resolver = Resolver::builder()
                .with(look_up)
                .negative_ttl(Duration::ZERO)
                .build();
            let e = resolver.lookup_host("name", 1).unwrap_err();
            assert!(e.to_string().contains("panicked"), "{e}");
            let e = resolver.lookup_host("name", 1).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::NotFound);
            assert_eq!(
                resolver.lookup_host("name", 1).unwrap(),
                addresses("10.0.0.1:1")
            );
        });
    });
}

#[test]
fn a_task_that_unwinds_gets_its_answer_on_its_own_thread() {
    within(
        "a_task_that_unwinds_gets_its_answer_on_its_own_thread",
        || {
            struct Asks<'a>(&'a Resolver, &'a Mutex<Vec<ThreadId>>);
            impl Drop for Asks<'_> {
                fn drop(&mut self) {
                    self.0.lookup_host("name", 1).unwrap();
                    self.1.lock().unwrap().push(thread::current().id());
                }
            }
            let check = || {
                let threads = Arc::new(Mutex::new(Vec::new()));
                let asked = threads.clone();
                let look_up = move |_: &str| {
                    asked.lock().unwrap().push(thread::current().id());
                    Ok(vec![IpAddr::from([10, 0, 0, 1])])
                };
                let resolver = Resolver::builder().with(look_up).build();
                let unwinds = || {
                    let _asks = Asks(&resolver, &threads);
                    panic!("on purpose");
                };
                assert!(catch_unwind(AssertUnwindSafe(unwinds)).is_err());
                assert_eq!(*threads.lock().unwrap(), [thread::current().id(); 2]);
            };
            check();
            on_workers(check);
        },
    );
}

#[test]
fn the_system_knows_localhost() {
    within("the_system_knows_localhost", || {
        on_workers(|| {
            let found = lookup_host("LocalHost", 80).unwrap();
            assert!(!found.is_empty());
            assert!(found.iter().all(|a| a.ip().is_loopback() && a.port() == 80));
            let listener = TcpListener::bind("localhost:0").unwrap();
            let address = listener.local_addr().unwrap();
            let stream = TcpStream::connect(("localhost", address.port())).unwrap();
            let (_, peer) = listener.accept().unwrap();
            assert_eq!(peer, stream.local_addr().unwrap());
        });
    });
}
