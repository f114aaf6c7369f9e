//! One suite for all transports, then what is special in each. Each test runs on an ordinary thread
//! and in tasks of one and of two workers.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::OFlags;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, socket, sockopt};
use sward_runtime::__private::test_body;
use sward_runtime::io::{Direction, Limit, Source, is_closed, is_exhausted};
use sward_runtime::{JoinHandle, Runtime, TaskState, dump, join_all, spawn, yield_now};

use super::registry::find;
use super::*;
use crate::options::{ListenFd, TcpKeepalive};

/// Runs a test with its time limit, on a thread and in tasks.
fn everywhere(name: &str, test: fn()) {
    test_body(Duration::from_secs(60), name, || {
        test();
        for workers in [1, 2] {
            let runtime = Runtime::builder().workers(workers).build().unwrap();
            runtime.run(test);
        }
    });
}

fn parse(text: &str) -> Endpoint {
    text.parse().unwrap_or_else(|e| panic!("{e}"))
}

fn transport(endpoint: &Endpoint) -> &'static dyn Transport {
    find(endpoint.scheme()).unwrap()
}

fn listen_with(endpoint: &Endpoint, options: &Options) -> Result<Arc<dyn Listening>, Error> {
    options.check()?;
    endpoint.check_bind()?;
    Ok(transport(endpoint).listen(endpoint, options)?.into())
}

fn listen(text: &str) -> Arc<dyn Listening> {
    listen_with(&parse(text), &Options::new()).unwrap_or_else(|e| panic!("{e}"))
}

fn dial_with(endpoint: &Endpoint, options: &Options) -> io::Result<ByteLink> {
    transport(endpoint).dial(endpoint, options)
}

fn dial(endpoint: &Endpoint) -> ByteLink {
    dial_with(endpoint, &Options::new()).unwrap_or_else(|e| panic!("{e}"))
}

fn fails<T>(result: Result<T, Error>) -> Error {
    match result {
        Ok(_) => panic!("it did not fail"),
        Err(e) => e,
    }
}

/// A connection; both ends.
fn connect(listening: &Arc<dyn Listening>, options: &Options) -> (ByteLink, ByteLink) {
    let accepting = listening.clone();
    let accepted = spawn(move || accepting.accept());
    let dialled = dial_with(&listening.endpoint(), options).unwrap();
    (dialled, accepted.join().unwrap().unwrap())
}

/// Sends bytes from one to the other, and looks at what kind of descriptors they are.
fn send(from: &OwnedFd, to: &OwnedFd, bytes: &[u8]) {
    for fd in [from, to] {
        assert!(
            rustix::fs::fcntl_getfl(fd)
                .unwrap()
                .contains(OFlags::NONBLOCK)
        );
        let flags = rustix::io::fcntl_getfd(fd).unwrap();
        assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
    }
    // It must be registered nowhere: a duplicate in epoll would say `AlreadyExists`.
    let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
    let (from, to) = (Source::new(from).unwrap(), Source::new(to).unwrap());
    let sent = from.io(Direction::Write, Limit::NONE, |s| {
        Ok(rustix::io::write(s, bytes)?)
    });
    assert_eq!(sent.unwrap(), bytes.len());
    let mut got: Vec<u8> = Vec::new();
    while got.len() < bytes.len() {
        let mut buffer = [0; 256];
        let n = to.io(Direction::Read, Limit::NONE, |s| {
            Ok(rustix::io::read(s, &mut buffer)?)
        });
        got.extend(&buffer[..n.unwrap()]);
    }
    assert_eq!(got, bytes);
}

fn is_parked<T>(task: &JoinHandle<T>) -> bool {
    dump().tasks().iter().any(|t| {
        t.id == task.id()
            && t.state == TaskState::Parked
            && t.reason.to_string().starts_with("descriptor")
    })
}

fn until_parked<T>(task: &JoinHandle<T>) {
    while !is_parked(task) {
        assert!(!task.is_finished(), "it has ended instead of waiting");
        yield_now();
    }
}

/// A directory that goes at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        let listening = listen("ipc://*");
        let endpoint = listening.endpoint();
        let parent = endpoint.path().unwrap().parent().unwrap().to_owned();
        listening.close();
        fs::create_dir(&parent).unwrap();
        Self(parent)
    }

    fn endpoint(&self) -> Endpoint {
        parse(&format!("ipc://{}", self.path().display()))
    }

    fn path(&self) -> PathBuf {
        self.0.join("s")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What holds for every transport; `$wildcard` is what its test binds.
macro_rules! transport_suite {
    ($name:ident, $wildcard:literal) => {
        mod $name {
            use super::*;

            macro_rules! each {
                ($test:ident) => {
                    #[test]
                    fn $test() {
                        everywhere(concat!(stringify!($name), "::", stringify!($test)), || {
                            super::suite::$test($wildcard)
                        });
                    }
                };
            }

            each!(bytes_go_both_ways);
            each!(many_at_once);
            each!(close_wakes_those_who_accept);
            each!(an_address_is_free_after_close);
            each!(in_use_names_the_endpoint);
            each!(nobody_listens);
            each!(a_killed_accept_takes_nothing_with_it);
            each!(the_time_to_connect_is_limited);
            each!(buffers_are_set_at_both_ends);
            each!(a_given_descriptor_listens);

            #[test]
            fn no_descriptors_left() {
                let name = concat!(
                    "transport::tests::",
                    stringify!($name),
                    "::no_descriptors_left"
                );
                if !is_child() {
                    return rerun_with(name, 64);
                }
                test_body(Duration::from_secs(60), name, || {
                    super::suite::no_descriptors_left($wildcard)
                });
            }
        }
    };
}

transport_suite!(tcp4, "tcp://127.0.0.1:*");
transport_suite!(tcp6, "tcp://[::1]:*");
transport_suite!(ipc_path, "ipc://*");
transport_suite!(ipc_abstract, "ipc://@sward-test-*");

const CHILD: &str = "SWARD_TEST_CHILD";

fn is_child() -> bool {
    std::env::var_os(CHILD).is_some()
}

/// Runs a test again in a process that may have so many descriptors.
fn rerun_with(name: &str, descriptors: u32) {
    let script = format!("ulimit -n {descriptors}; exec \"$@\"");
    let output = Command::new("sh")
        .args(["-c", &script, "sh"])
        .arg(std::env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture", "--test-threads=1"])
        .env(CHILD, "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}\n{errors}");
    assert!(text.contains("1 passed"), "the child ran no test:\n{text}");
}

/// A wildcard of ours for abstract names, which have none.
fn wildcard(text: &str) -> String {
    match text.strip_suffix("-*") {
        Some(name) => {
            let made = listen("ipc://*").endpoint();
            let unique = made.path().unwrap().parent().unwrap().file_name().unwrap();
            format!("{name}-{}", unique.display())
        }
        None => text.to_owned(),
    }
}

mod suite {
    use super::*;

    pub(super) fn bytes_go_both_ways(text: &str) {
        let listening = listen(&wildcard(text));
        let endpoint = listening.endpoint();
        assert!(!endpoint.is_wildcard());
        assert_eq!(parse(endpoint.as_str()), endpoint);
        let (dialled, accepted) = connect(&listening, &Options::new());
        send(&dialled.fd, &accepted.fd, b"there");
        send(&accepted.fd, &dialled.fd, b"and back");
        assert_eq!(dialled.remote, endpoint.to_string());
        assert_eq!(accepted.local, endpoint.to_string());
        assert_eq!(dialled.local, accepted.remote);
        assert_eq!(dialled.peer_address, accepted.peer_address);
        assert_eq!(dialled.peer_address.is_empty(), endpoint.scheme() == "ipc");
        for text in [&dialled.local, &dialled.remote] {
            assert!(
                text.is_empty() || text.parse::<Endpoint>().is_ok(),
                "{text}"
            );
        }
    }

    pub(super) fn many_at_once(text: &str) {
        let listening = listen(&wildcard(text));
        let dialled = (0..50u8).map(|n| {
            let endpoint = listening.endpoint();
            spawn(move || {
                let link = dial(&endpoint);
                rustix::io::write(&link.fd, &[n]).unwrap();
                link
            })
        });
        let dialled: Vec<_> = dialled.collect();
        let accepted = (0..50).map(|_| {
            let listening = listening.clone();
            spawn(move || {
                let source = Source::new(listening.accept().unwrap().fd).unwrap();
                let mut byte = [0];
                let read = |s: &OwnedFd| Ok(rustix::io::read(s, &mut byte)?);
                source.io(Direction::Read, Limit::NONE, read).unwrap();
                byte[0]
            })
        });
        let mut got: Vec<u8> = join_all(accepted).into_iter().map(Result::unwrap).collect();
        got.sort_unstable();
        assert!(got.into_iter().eq(0..50));
        assert!(join_all(dialled).into_iter().all(|link| link.is_ok()));
    }

    pub(super) fn close_wakes_those_who_accept(text: &str) {
        let listening = listen(&wildcard(text));
        let waiting: Vec<_> = (0..3)
            .map(|_| {
                let listening = listening.clone();
                spawn(move || listening.accept().map(drop))
            })
            .collect();
        waiting.iter().for_each(until_parked);
        listening.close();
        for accepted in join_all(waiting) {
            assert!(is_closed(&accepted.unwrap().unwrap_err()));
        }
        listening.close();
        assert!(is_closed(&listening.accept().map(drop).unwrap_err()));
    }

    pub(super) fn an_address_is_free_after_close(text: &str) {
        let listening = listen(&wildcard(text));
        let (dialled, accepted) = connect(&listening, &Options::new());
        listening.close();
        // What a bind to a wildcard has made goes with it.
        if let Some(path) = listening.endpoint().path() {
            fs::create_dir(path.parent().unwrap()).unwrap();
        }
        // The listener is not dropped, and its connections live.
        let again = listen(listening.endpoint().as_str());
        assert_eq!(again.endpoint(), listening.endpoint());
        let (other, _) = connect(&again, &Options::new());
        send(&dialled.fd, &accepted.fd, b"still here");
        drop(other);
        drop(listening);
        // Nor does the drop of the old one take anything from the new.
        connect(&again, &Options::new());
        again.close();
        let _ = again
            .endpoint()
            .path()
            .map(|path| fs::remove_dir(path.parent().unwrap()));
    }

    pub(super) fn in_use_names_the_endpoint(text: &str) {
        let listening = listen(&wildcard(text));
        let endpoint = listening.endpoint();
        let e = fails(listen_with(&endpoint, &Options::new()));
        assert!(matches!(&e, Error::AddrInUse(at) if *at == endpoint), "{e}");
        assert_eq!(e.errno(), 98);
        assert!(e.to_string().contains(endpoint.as_str()), "{e}");
        // The one who has it has not noticed.
        connect(&listening, &Options::new());
    }

    pub(super) fn nobody_listens(text: &str) {
        let listening = listen(&wildcard(text));
        let endpoint = listening.endpoint();
        listening.close();
        let e = dial_with(&endpoint, &Options::new()).map(drop).unwrap_err();
        let nobody = [io::ErrorKind::ConnectionRefused, io::ErrorKind::NotFound];
        assert!(nobody.contains(&e.kind()), "{e}");
        let (_, address) = endpoint.as_str().split_once("://").unwrap();
        assert!(e.to_string().contains(address), "{e}");
    }

    pub(super) fn a_killed_accept_takes_nothing_with_it(text: &str) {
        let listening = listen(&wildcard(text));
        let accepting = listening.clone();
        let killed = spawn(move || accepting.accept());
        until_parked(&killed);
        killed.kill();
        let link = dial(&listening.endpoint());
        // On another worker the connection may be there before the kill is seen.
        let accepted = match killed.join() {
            Ok(accepted) => accepted.unwrap(),
            Err(_) => listening.accept().unwrap(),
        };
        send(&link.fd, &accepted.fd, b"not lost");
    }

    pub(super) fn the_time_to_connect_is_limited(text: &str) {
        let options = Options::new().backlog(1);
        let listening = listen_with(&parse(&wildcard(text)), &options).unwrap();
        let limited = Options::new().connect_timeout(Duration::from_millis(20));
        let mut links = Vec::new();
        // Nobody accepts: soon there is no place in the kernel's line.
        let e = loop {
            assert!(links.len() < 16, "there is no end to the line");
            match dial_with(&listening.endpoint(), &limited) {
                Ok(link) => links.push(link),
                Err(e) => break e,
            }
        };
        assert_eq!(e.kind(), io::ErrorKind::TimedOut, "{e}");
    }

    pub(super) fn buffers_are_set_at_both_ends(text: &str) {
        let options = Options::new().send_buffer(30_000).recv_buffer(40_000);
        let listening = listen_with(&parse(&wildcard(text)), &options).unwrap();
        let (dialled, accepted) = connect(&listening, &options);
        for fd in [&dialled.fd, &accepted.fd] {
            // The kernel doubles them.
            assert_eq!(sockopt::socket_send_buffer_size(fd).unwrap(), 60_000);
            assert_eq!(sockopt::socket_recv_buffer_size(fd).unwrap(), 80_000);
        }
    }

    pub(super) fn a_given_descriptor_listens(text: &str) {
        // One that another program has made.
        let other = listen(&wildcard(text));
        let endpoint = other.endpoint();
        other.close();
        let given: OwnedFd = match (endpoint.path(), endpoint.as_str().strip_prefix("ipc://@")) {
            (Some(path), _) => {
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                sward_net::UnixListener::bind(path).unwrap().into()
            }
            (None, Some(name)) => {
                use std::os::linux::net::SocketAddrExt;
                let name = std::os::unix::net::SocketAddr::from_abstract_name(name).unwrap();
                sward_net::UnixListener::bind_addr(&name).unwrap().into()
            }
            (None, None) => {
                let (_, address) = endpoint.as_str().split_once("://").unwrap();
                sward_net::TcpListener::bind(address).unwrap().into()
            }
        };
        let options = Options::new().use_fd(ListenFd::new(given));
        let listening = listen_with(&endpoint, &options).unwrap();
        assert_eq!(listening.endpoint(), endpoint);
        let (dialled, accepted) = connect(&listening, &Options::new());
        send(&dialled.fd, &accepted.fd, b"given");
        // It was taken; this bind is an ordinary one.
        let e = fails(listen_with(&endpoint, &options));
        assert!(matches!(e, Error::AddrInUse(_)), "{e}");
        listening.close();
        if let Some(path) = endpoint.path() {
            assert!(path.exists(), "its file belongs to who made it");
            fs::remove_dir_all(path.parent().unwrap()).unwrap();
        }
        // A descriptor of another kind.
        let (pipe, _) = io::pipe().unwrap();
        let unconnected = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        for fd in [OwnedFd::from(pipe), unconnected] {
            let e = fails(listen_with(
                &endpoint,
                &Options::new().use_fd(ListenFd::new(fd)),
            ));
            assert!(matches!(e, Error::Option(_) | Error::Io(_)), "{e}");
        }
    }

    pub(super) fn no_descriptors_left(text: &str) {
        let open = || fs::read_dir("/proc/self/fd").unwrap().count();
        let listening = listen(&wildcard(text));
        // Whatever a first wait needs is there afterwards.
        connect(&listening, &Options::new());
        let links: Vec<_> = (0..3).map(|_| dial(&listening.endpoint())).collect();
        let before = open();
        let mut fill = Vec::new();
        while let Ok(fd) = links[0].fd.try_clone() {
            fill.push(fd);
        }
        for _ in 0..3 {
            let e = listening.accept().map(drop).unwrap_err();
            assert!(is_exhausted(&e), "{e}");
            assert!(
                dial_with(&listening.endpoint(), &Options::new()).is_err_and(|e| is_exhausted(&e))
            );
            assert!(listen_with(&parse(text), &Options::new()).is_err());
        }
        drop(fill);
        assert_eq!(open(), before);
        let accepted: Vec<_> = (0..3).map(|_| listening.accept().unwrap()).collect();
        assert_eq!(open(), before + 3);
        send(&links[2].fd, &accepted[2].fd, b"in its turn");
    }
}

// ---- tcp ----------------------------------------------------------------------------------------

#[test]
fn tcp_options_reach_both_ends() {
    everywhere("tcp_options_reach_both_ends", || {
        let keepalive = TcpKeepalive {
            idle: Some(Duration::from_secs(11)),
            interval: None,
            retries: Some(3),
        };
        let options = Options::new()
            .tcp_keepalive(keepalive)
            .tcp_maxrt(Duration::from_millis(5_000))
            .tos(0x28)
            .priority(4)
            .bind_to_device("lo");
        for (wildcard, six) in [("tcp://127.0.0.1:*", false), ("tcp://[::1]:*", true)] {
            let listening = listen_with(&parse(wildcard), &options).unwrap();
            let (dialled, accepted) = connect(&listening, &options);
            for fd in [&dialled.fd, &accepted.fd] {
                assert!(sockopt::tcp_nodelay(fd).unwrap());
                assert!(sockopt::socket_keepalive(fd).unwrap());
                assert_eq!(sockopt::tcp_keepidle(fd).unwrap(), Duration::from_secs(11));
                assert_eq!(sockopt::tcp_keepcnt(fd).unwrap(), 3);
                assert_eq!(sockopt::tcp_user_timeout(fd).unwrap(), 5_000);
                let tos = match six {
                    true => sockopt::ipv6_tclass(fd).unwrap(),
                    false => sockopt::ip_tos(fd).unwrap().into(),
                };
                assert_eq!(tos, 0x28);
            }
        }
        let plain = listen("tcp://127.0.0.1:*");
        let (dialled, accepted) = connect(&plain, &Options::new());
        for fd in [&dialled.fd, &accepted.fd] {
            assert!(sockopt::tcp_nodelay(fd).unwrap());
            assert!(!sockopt::socket_keepalive(fd).unwrap());
        }
        let nowhere = Options::new().bind_to_device("no-such");
        let e = fails(listen_with(&parse("tcp://127.0.0.1:*"), &nowhere));
        assert!(e.to_string().contains("\"no-such\""), "{e}");
        assert_eq!(e.errno(), 19);
    });
}

#[test]
fn tcp_interfaces_and_wildcards() {
    everywhere("tcp_interfaces_and_wildcards", || {
        let ipv6 = Options::new().ipv6(true);
        let bound = |text: &str, options: &Options| {
            let listening = listen_with(&parse(text), options).unwrap();
            let endpoint = listening.endpoint();
            let (host, _) = endpoint.as_str().rsplit_once(':').unwrap();
            (host.to_owned(), listening)
        };
        for (text, options, host) in [
            ("tcp://lo:*", &Options::new(), "tcp://127.0.0.1"),
            ("tcp://lo:*", &ipv6, "tcp://[::1]"),
            ("tcp://*:*", &Options::new(), "tcp://0.0.0.0"),
            ("tcp://*:*", &ipv6, "tcp://[::]"),
            ("tcp://[::1%lo]:*", &Options::new(), "tcp://[::1]"),
        ] {
            let (got, listening) = bound(text, options);
            // `::1` may come back with or without its interface.
            assert!(got.starts_with(host.trim_end_matches(']')), "{text}: {got}");
            let port = listening.endpoint().port().unwrap();
            assert_ne!(port, 0);
        }
        // Both families at one port; an IPv4 peer is shown as one.
        let (_, both) = bound("tcp://*:*", &ipv6);
        let port = both.endpoint().port().unwrap();
        for (host, address) in [("127.0.0.1", "127.0.0.1"), ("[::1]", "::1")] {
            let link = dial(&parse(&format!("tcp://{host}:{port}")));
            let accepted = both.accept().unwrap();
            assert_eq!(
                (&*accepted.peer_address, &*link.peer_address),
                (address, address)
            );
            assert_eq!(accepted.remote, link.local);
        }
        let e = fails(listen_with(&parse("tcp://no-such:*"), &Options::new()));
        assert!(matches!(e, Error::NoInterface(_)), "{e}");
        let named = listen("tcp://localhost:*").endpoint().to_string();
        assert!(named.starts_with("tcp://127.0.0.1:"), "{named}");
        let e = fails(listen_with(&parse("tcp://203.0.113.1:*"), &Options::new()));
        assert!(matches!(&e, Error::AddrNotAvailable(at) if at.as_str() == "tcp://203.0.113.1:*"));
        let e = fails(listen_with(
            &parse("tcp://[fe80::1%no-such]:*"),
            &Options::new(),
        ));
        assert!(
            e.to_string().contains("no network interface \"no-such\""),
            "{e}"
        );
    });
}

#[test]
fn tcp_names_are_looked_up_and_sources_bound() {
    everywhere("tcp_names_are_looked_up_and_sources_bound", || {
        let four = listen("tcp://127.0.0.1:*");
        let port = four.endpoint().port().unwrap();
        for options in [Options::new(), Options::new().ipv6(true)] {
            for text in [
                "localhost",
                "127.0.0.1:*;localhost",
                "lo:*;127.0.0.1",
                "*:*;localhost",
            ] {
                let link = dial_with(&parse(&format!("tcp://{text}:{port}")), &options).unwrap();
                assert_eq!(link.peer_address, "127.0.0.1", "{text}");
                assert_eq!(four.accept().unwrap().remote, link.local);
            }
        }
        let from = dial(&parse(&format!("tcp://127.0.0.7:*;127.0.0.1:{port}")));
        assert!(from.local.starts_with("tcp://127.0.0.7:"), "{}", from.local);
        assert_eq!(four.accept().unwrap().peer_address, "127.0.0.7");
        // A port of its own, which serves for two peers.
        let taken = parse(&from.local).port().unwrap();
        drop(from);
        let other = listen("tcp://127.0.0.1:*");
        let links = [&four, &other].map(|listening| {
            let to = listening.endpoint().port().unwrap();
            dial(&parse(&format!("tcp://127.0.0.8:{taken};127.0.0.1:{to}")))
        });
        assert!(
            links
                .iter()
                .all(|link| link.local == format!("tcp://127.0.0.8:{taken}"))
        );
        for (text, says) in [
            (
                format!("tcp://no-such:*;127.0.0.1:{port}"),
                "the name of the source no-such:*",
            ),
            (
                format!("tcp://[::1]:*;127.0.0.1:{port}"),
                "the family of the source",
            ),
            (
                format!("tcp://203.0.113.1:*;127.0.0.1:{port}"),
                "203.0.113.1",
            ),
        ] {
            let e = dial_with(&parse(&text), &Options::new())
                .map(drop)
                .unwrap_err();
            assert_eq!(e.kind(), io::ErrorKind::AddrNotAvailable, "{e}");
            assert!(e.to_string().contains(says), "{e}");
        }
        let e = dial_with(&parse("tcp://no-such.invalid:1"), &Options::new());
        assert!(
            e.map(drop)
                .unwrap_err()
                .to_string()
                .contains("no-such.invalid")
        );
        let e = dial_with(&parse("tcp://*:1"), &Options::new())
            .map(drop)
            .unwrap_err();
        assert_eq!(e.kind(), io::ErrorKind::InvalidInput);
    });
}

/// A kill in the middle of a connection leaves no descriptor.
#[test]
fn tcp_a_killed_dial_leaves_nothing() {
    let name = "transport::tests::tcp_a_killed_dial_leaves_nothing";
    if !is_child() {
        return rerun_with(name, 1024);
    }
    test_body(Duration::from_secs(60), name, || {
        let one = Options::new().backlog(1);
        let listening = listen_with(&parse("tcp://127.0.0.1:*"), &one).unwrap();
        let open = || fs::read_dir("/proc/self/fd").unwrap().count();
        // Whatever a first wait needs is there afterwards.
        connect(&listening, &Options::new());
        // Nobody accepts: soon there is no place in the kernel's line, and a dial waits.
        let mut links = Vec::new();
        loop {
            assert!(links.len() < 16, "there is no end to the line");
            let (before, endpoint) = (open(), listening.endpoint());
            let task = spawn(move || dial(&endpoint));
            while !task.is_finished() && !is_parked(&task) {
                yield_now();
            }
            task.kill();
            match task.join() {
                Ok(link) => links.push(link),
                Err(_) => {
                    assert_eq!(open(), before);
                    break;
                }
            }
        }
    });
}

// ---- ipc ----------------------------------------------------------------------------------------

fn exists(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

#[test]
fn ipc_files_go_with_their_listener() {
    everywhere("ipc_files_go_with_their_listener", || {
        let scratch = Scratch::new();
        let text = scratch.endpoint().to_string();
        let closed = listen(&text);
        assert!(exists(&scratch.path()));
        closed.close();
        assert!(!exists(&scratch.path()));
        drop(listen(&text));
        assert!(!exists(&scratch.path()));
        // The name belongs to somebody else meanwhile: it is left.
        let replaced = listen(&text);
        fs::remove_file(scratch.path()).unwrap();
        let new = listen(&text);
        replaced.close();
        drop(replaced);
        connect(&new, &Options::new());
        let made = listen("ipc://*");
        let endpoint = made.endpoint();
        let directory = endpoint.path().unwrap().parent().unwrap();
        let mode = fs::metadata(directory).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        assert_ne!(listen("ipc://*").endpoint(), endpoint);
        made.close();
        assert!(!exists(directory));
    });
}

/// A socket file that nobody has open, as a program that was killed leaves it.
fn leave_stale(path: &Path) {
    let fd = socket(AddressFamily::UNIX, SocketType::STREAM, None).unwrap();
    rustix::net::bind(&fd, &SocketAddrUnix::new(path).unwrap()).unwrap();
    rustix::net::listen(&fd, 1).unwrap();
    drop(fd);
    assert!(exists(path));
}

#[test]
fn ipc_stale_files_are_replaced_and_nothing_else() {
    everywhere("ipc_stale_files_are_replaced_and_nothing_else", || {
        let scratch = Scratch::new();
        let (endpoint, path) = (scratch.endpoint(), scratch.path());
        leave_stale(&path);
        let e = dial_with(&endpoint, &Options::new()).map(drop).unwrap_err();
        assert_eq!(e.kind(), io::ErrorKind::ConnectionRefused);
        let listening = listen(endpoint.as_str());
        connect(&listening, &Options::new());
        listening.close();

        let in_use = |what: &str| {
            let e = fails(listen_with(&endpoint, &Options::new()));
            assert!(matches!(e, Error::AddrInUse(_)), "{what}: {e}");
            assert!(exists(&path));
            fs::remove_file(&path).unwrap();
        };
        for (kind, what) in [
            (
                SocketType::STREAM,
                "one that is bound and does not listen yet",
            ),
            (SocketType::DGRAM, "one of another kind"),
        ] {
            let fd = socket(AddressFamily::UNIX, kind, None).unwrap();
            rustix::net::bind(&fd, &SocketAddrUnix::new(&path).unwrap()).unwrap();
            in_use(what);
        }

        fs::write(&path, "somebody's data").unwrap();
        let e = fails(listen_with(&endpoint, &Options::new()));
        assert!(e.to_string().contains("it is no socket"), "{e}");
        assert_eq!(fs::read(&path).unwrap(), b"somebody's data");
        fs::remove_file(&path).unwrap();

        let other = scratch.0.join("other");
        leave_stale(&other);
        std::os::unix::fs::symlink(&other, &path).unwrap();
        assert!(listen_with(&endpoint, &Options::new()).is_err());
        assert!(exists(&path) && exists(&other));

        let nowhere = parse(&format!("ipc://{}/no/such", scratch.0.display()));
        let e = fails(listen_with(&nowhere, &Options::new()));
        assert_eq!(e.errno(), 2, "{e}");
        assert!(e.to_string().contains("/no/such"), "{e}");
    });
}

/// The one who listens is asked nothing when somebody else wants its address.
#[test]
fn ipc_a_vain_bind_is_not_seen_by_the_listener() {
    everywhere("ipc_a_vain_bind_is_not_seen_by_the_listener", || {
        let scratch = Scratch::new();
        let listening = listen(scratch.endpoint().as_str());
        assert!(listen_with(&scratch.endpoint(), &Options::new()).is_err());
        // Were there a connection before this one, it would be accepted first.
        let link = dial(&scratch.endpoint());
        send(&link.fd, &listening.accept().unwrap().fd, b"the first");
    });
}

#[test]
fn ipc_of_many_binds_on_a_stale_file_one_wins() {
    everywhere("ipc_of_many_binds_on_a_stale_file_one_wins", || {
        let scratch = Scratch::new();
        for _ in 0..20 {
            leave_stale(&scratch.path());
            let bind = |endpoint: Endpoint| move || listen_with(&endpoint, &Options::new());
            let tasks: Vec<_> = (0..4).map(|_| spawn(bind(scratch.endpoint()))).collect();
            let threads: Vec<_> = (0..2)
                .map(|_| std::thread::spawn(bind(scratch.endpoint())))
                .collect();
            let bound = join_all(tasks).into_iter().map(Result::unwrap);
            let bound: Vec<_> = bound
                .chain(threads.into_iter().map(|t| t.join().unwrap()))
                .collect();
            let won: Vec<_> = bound.iter().flatten().collect();
            assert_eq!(won.len(), 1);
            for e in bound.iter().filter_map(|bound| bound.as_ref().err()) {
                assert!(matches!(e, Error::AddrInUse(_)), "{e}");
            }
            let link = dial(&scratch.endpoint());
            send(&link.fd, &won[0].accept().unwrap().fd, b"reachable");
        }
    });
}

#[test]
fn schemes() {
    assert!(find("inproc").is_none() && find("udp").is_none());
    // An endpoint of another transport is no panic.
    let inproc = parse("inproc://a");
    for scheme in ["tcp", "ipc"] {
        let transport = find(scheme).unwrap();
        assert!(transport.listen(&inproc, &Options::new()).is_err());
        assert!(transport.dial(&inproc, &Options::new()).is_err());
    }
}
