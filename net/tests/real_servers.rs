//! Our streams against a server that others wrote: nginx, by plain text.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod common;

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use common::nginx::{LARGE, MEDIUM, Nginx, contents};
use common::{program_in, within};
use sward_net::TcpStream;
use sward_runtime::signal::{SIGKILL, SIGQUIT};
use sward_runtime::{Runtime, join_all, spawn, yield_now};

fn connect(address: SocketAddr) -> BufReader<TcpStream> {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    BufReader::new(stream)
}

/// In tasks of one worker, of two, and on an ordinary thread, each time with a new server.
fn everywhere(name: &str, check: impl Fn(Nginx) + Send + Sync) {
    within(name, || {
        for workers in [1, 2] {
            let runtime = Runtime::builder().workers(workers).build().unwrap();
            runtime.run(|| check(Nginx::start()));
        }
        check(Nginx::start());
    });
}

fn ask(stream: &TcpStream, method: &str, path: &str, more: &str) {
    let text = format!("{method} {path} HTTP/1.1\r\nHost: test\r\n{more}\r\n");
    (&*stream).write_all(text.as_bytes()).unwrap();
}

/// Reads a head up to its empty line; returns it, and the length that it names.
fn head(reader: &mut impl BufRead) -> io::Result<(String, usize)> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head)? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
    }
    let lower = head.to_lowercase();
    let length = lower
        .lines()
        .find_map(|l| l.strip_prefix("content-length: "));
    let length = length.map_or(0, |n| n.parse().unwrap());
    Ok((head, length))
}

#[track_caller]
fn expect(reader: &mut impl BufRead, body: &str) {
    let (head, length) = head(reader).unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    let mut bytes = vec![0; length];
    reader.read_exact(&mut bytes).unwrap();
    assert_eq!(String::from_utf8(bytes).unwrap(), body);
}

#[test]
fn one_connection_for_many_requests() {
    everywhere("one_connection_for_many_requests", |nginx| {
        let mut reader = connect(nginx.address);
        for n in 0..200 {
            let path = format!("/echo/{n}");
            ask(reader.get_ref(), "GET", &path, "");
            expect(&mut reader, &path);
        }
        nginx.stop();
    });
}

#[test]
fn requests_that_do_not_wait_for_replies() {
    everywhere("requests_that_do_not_wait_for_replies", |nginx| {
        let mut reader = connect(nginx.address);
        // A second handle, so that one task writes while another reads.
        let writer = reader.get_ref().try_clone().unwrap();
        let asking =
            spawn(move || (0..500).for_each(|n| ask(&writer, "GET", &format!("/echo/{n}"), "")));
        for n in 0..500 {
            expect(&mut reader, &format!("/echo/{n}"));
        }
        asking.join().unwrap();
        nginx.stop();
    });
}

#[test]
fn a_large_file() {
    everywhere("a_large_file", |nginx| {
        let mut reader = connect(nginx.address);
        ask(reader.get_ref(), "HEAD", "/large", "");
        assert_eq!(head(&mut reader).unwrap().1, LARGE);
        // No body: the next reply follows.
        ask(reader.get_ref(), "GET", "/large", "");
        assert_eq!(head(&mut reader).unwrap().1, LARGE);
        let mut bytes = vec![0; LARGE];
        reader.read_exact(&mut bytes).unwrap();
        assert!(bytes == contents(LARGE));
        ask(reader.get_ref(), "GET", "/echo/after", "");
        expect(&mut reader, "/echo/after");
        nginx.stop();
    });
}

#[test]
fn the_server_closes() {
    everywhere("the_server_closes", |nginx| {
        let mut reader = connect(nginx.address);
        ask(
            reader.get_ref(),
            "GET",
            "/echo/last",
            "Connection: close\r\n",
        );
        expect(&mut reader, "/echo/last");
        for _ in 0..2 {
            assert_eq!(reader.read(&mut [0; 16]).unwrap(), 0);
        }
        // What is no request is refused, and ends the connection too.
        let mut reader = connect(nginx.address);
        reader
            .get_ref()
            .write_all(b"this is no request\r\n\r\n")
            .unwrap();
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert!(text.contains("400 Bad Request"), "{text}");
        nginx.stop();
    });
}

#[test]
fn many_tasks_at_once() {
    everywhere("many_tasks_at_once", |nginx| {
        let address = nginx.address;
        let fetch = move |task| {
            let mut reader = connect(address);
            for n in 0..10 {
                let path = format!("/echo/{task}/{n}");
                ask(reader.get_ref(), "GET", &path, "");
                expect(&mut reader, &path);
            }
        };
        let tasks = (0..300).map(|task| spawn(move || fetch(task)));
        join_all(tasks).into_iter().for_each(|done| done.unwrap());
        nginx.stop();
    });
}

/// A read that is over time has taken nothing: all bytes come, in order.
#[test]
fn time_outs_in_the_middle_of_an_answer() {
    everywhere("time_outs_in_the_middle_of_an_answer", |nginx| {
        let mut reader = connect(nginx.address);
        ask(reader.get_ref(), "GET", "/slow/medium", "");
        assert_eq!(head(&mut reader).unwrap().1, MEDIUM);
        let limit = Some(Duration::from_millis(20));
        reader.get_ref().set_read_timeout(limit).unwrap();
        let mut bytes = Vec::new();
        let mut late = 0;
        while bytes.len() < MEDIUM {
            match reader.fill_buf() {
                Ok(more) => {
                    assert!(!more.is_empty(), "the end came after {} bytes", bytes.len());
                    bytes.extend_from_slice(more);
                    let n = more.len();
                    reader.consume(n);
                }
                Err(e) => {
                    assert_eq!(e.kind(), ErrorKind::TimedOut, "{e}");
                    late += 1;
                }
            }
        }
        assert!(late > 0, "the answer was not slow");
        assert!(bytes == contents(MEDIUM));
        nginx.stop();
    });
}

#[test]
fn the_server_is_killed_in_the_middle_of_its_answers() {
    everywhere(
        "the_server_is_killed_in_the_middle_of_its_answers",
        |mut nginx| {
            let readers: Vec<_> = (0..20)
                .map(|_| {
                    let mut reader = connect(nginx.address);
                    ask(reader.get_ref(), "GET", "/slow/large", "");
                    // It has begun.
                    assert_eq!(head(&mut reader).unwrap().1, LARGE);
                    let mut idle = connect(nginx.address);
                    let idle = spawn(move || idle.read(&mut [0; 16]));
                    let rest = spawn(move || reader.read_exact(&mut vec![0; LARGE]));
                    (idle, rest)
                })
                .collect();
            nginx.child.process().signal_group(SIGKILL).unwrap();
            assert_eq!(nginx.child.wait().unwrap().signal(), Some(SIGKILL));
            let ends = [ErrorKind::UnexpectedEof, ErrorKind::ConnectionReset];
            for (idle, rest) in readers {
                let cut = rest.join().unwrap().unwrap_err();
                assert!(ends.contains(&cut.kind()), "{cut}");
                match idle.join().unwrap() {
                    Ok(n) => assert_eq!(n, 0),
                    Err(e) => assert_eq!(e.kind(), ErrorKind::ConnectionReset, "{e}"),
                }
            }
            // The worker may end a little after its master.
            let refused = loop {
                match TcpStream::connect(nginx.address) {
                    Err(e) if e.kind() == ErrorKind::ConnectionRefused => break e.to_string(),
                    _ => yield_now(),
                }
            };
            assert!(refused.contains(&nginx.address.to_string()), "{refused}");
        },
    );
}

#[test]
fn the_server_goes_while_the_connection_is_idle() {
    everywhere(
        "the_server_goes_while_the_connection_is_idle",
        |mut nginx| {
            let mut reader = connect(nginx.address);
            ask(reader.get_ref(), "GET", "/echo/1", "");
            expect(&mut reader, "/echo/1");
            let waits = spawn(move || reader.read(&mut [0; 16]));
            nginx.child.signal(SIGQUIT).unwrap();
            assert_eq!(waits.join().unwrap().unwrap(), 0);
            assert!(nginx.child.wait().unwrap().success());
        },
    );
}

#[test]
#[should_panic(expected = "apt-get install nginx-light")]
fn a_missing_program_is_named_with_its_package() {
    program_in([], "nginx");
}
