//! The server over real connections: bodies both ways, keep-alive, time-outs, upgrades, stopping,
//! and clients that do not behave.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod common;

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use common::{on_workers, statuses, undated};
use http::{Request, Response, StatusCode};
use sward_http::{Body, BodyError, IntoResponse, Peer, Server, Serving, on_upgrade};
use sward_net::{TcpListener, TcpStream};
use sward_runtime::spawn;
use sward_runtime::sync::{Event, ShortLock, unbounded};

type S = Server<TcpListener>;

const SOON: Duration = Duration::from_secs(20);

fn serve<R: IntoResponse>(
    limits: impl FnOnce(S) -> S,
    handler: impl Fn(Request<Body>) -> R + Send + Sync + 'static,
) -> Serving<SocketAddr> {
    limits(Server::bind("127.0.0.1:0").unwrap())
        .start(handler)
        .unwrap()
}

fn connect(server: &Serving<SocketAddr>) -> TcpStream {
    let stream = TcpStream::connect(server.local_addr()).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream
}

/// Sends; everything that comes back until the server closes.
fn exchange(server: &Serving<SocketAddr>, text: &str) -> String {
    let mut stream = connect(server);
    stream.write_all(text.as_bytes()).unwrap();
    let mut all = Vec::new();
    stream.read_to_end(&mut all).unwrap();
    undated(&all)
}

/// Reads a head.
fn head(mut stream: &TcpStream) -> String {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    undated(&head)
}

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const LAST: &str = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

#[test]
fn hello() {
    on_workers("hello", || {
        let server = serve(|s| s, |_| Response::new("hello"));
        let text = exchange(&server, LAST);
        let wanted = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello";
        assert_eq!(text, wanted);
        assert_eq!(server.stop(SOON).killed, 0);
    });
}

#[test]
fn kinds_of_responses() {
    on_workers("kinds_of_responses", || {
        let server = serve(
            |s| s,
            |request| {
                let body: Body = match request.uri().path() {
                    "/empty" => ().into(),
                    "/text" => "text".into(),
                    "/large" => vec![b'x'; 300_000].into(),
                    "/chunks" => Body::from_chunks(["one", "", "two"]),
                    "/reader" => Body::from_reader("reader".as_bytes()),
                    "/sized" => Body::from_sized_reader("sized!".as_bytes(), 5),
                    "/writer" => Body::from_writer(|w| {
                        w.write_all(b"a")?;
                        w.flush()?;
                        w.write_all(&[b'x'; 20_000])
                    }),
                    "/short" => Body::from_sized_reader("short".as_bytes(), 10),
                    "/broken" => {
                        Body::from_results([Ok("begun"), Err(std::io::Error::other("broken"))])
                    }
                    "/panic" => Body::from_writer(|_| panic!("as it should")),
                    _ => return Err("no such page"),
                };
                Ok(Response::new(body))
            },
        );
        let get = |version: &str, method: &str, path: &str| {
            let line =
                format!("{method} {path} HTTP/{version}\r\nHost: a\r\nConnection: close\r\n\r\n");
            let text = exchange(&server, &line);
            let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
            let framing = head
                .lines()
                .find(|l| l.starts_with("content-l") || l.starts_with("tr"));
            (framing.unwrap_or("").to_owned(), body.to_owned())
        };
        let is = |got: (String, String), framing: &str, body: &str| {
            assert_eq!((got.0.as_str(), got.1.as_str()), (framing, body));
        };
        let chunked = "transfer-encoding: chunked";
        is(get("1.1", "GET", "/empty"), "content-length: 0", "");
        is(get("1.1", "GET", "/text"), "content-length: 4", "text");
        is(get("1.1", "HEAD", "/text"), "content-length: 4", "");
        is(
            get("1.1", "GET", "/large"),
            "content-length: 300000",
            &"x".repeat(300_000),
        );
        is(
            get("1.1", "GET", "/chunks"),
            chunked,
            "3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n",
        );
        is(get("1.1", "HEAD", "/chunks"), "", "");
        is(get("1.0", "GET", "/chunks"), "", "onetwo");
        is(
            get("1.1", "GET", "/reader"),
            chunked,
            "6\r\nreader\r\n0\r\n\r\n",
        );
        is(get("1.1", "GET", "/sized"), "content-length: 5", "sized");
        let large = format!("1\r\na\r\n4e20\r\n{}\r\n0\r\n\r\n", "x".repeat(20_000));
        is(get("1.1", "GET", "/writer"), chunked, &large);
        is(
            get("1.1", "GET", "/missing"),
            "content-length: 22",
            "Internal Server Error\n",
        );
        // Cut: no end.
        is(get("1.1", "GET", "/short"), "content-length: 10", "short");
        is(get("1.1", "GET", "/broken"), chunked, "5\r\nbegun\r\n");
        is(get("1.1", "GET", "/panic"), "", "");
        assert_eq!(server.stats().panicked, 1);
        assert_eq!(server.stop(SOON).killed, 0);
    });
}

#[test]
fn statuses_without_a_body() {
    on_workers("statuses_without_a_body", || {
        let server = serve(
            |s| s,
            |request| {
                let status: u16 = request.uri().path()[1..].parse().unwrap();
                let mut response = Response::new("not sent");
                *response.status_mut() = StatusCode::from_u16(status).unwrap();
                response.headers_mut().insert("content-length", 8.into());
                response
            },
        );
        let get = |status: u16| {
            exchange(
                &server,
                &format!("GET /{status} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"),
            )
        };
        assert_eq!(
            get(204),
            "HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n"
        );
        let unchanged =
            "HTTP/1.1 304 Not Modified\r\ncontent-length: 8\r\nconnection: close\r\n\r\n";
        assert_eq!(get(304), unchanged);
        // No final responses.
        assert!(get(100).starts_with("HTTP/1.1 500 "));
        assert!(get(101).starts_with("HTTP/1.1 500 "));
        assert_eq!(server.stop(SOON).killed, 0);
    });
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    on_workers("pipelined_requests_are_answered_in_order", || {
        for coalesce in [false, true] {
            let path = |request: Request<Body>| Response::new(request.uri().path().to_owned());
            let server = serve(|s| s.coalesce(coalesce), path);
            let mut text = String::new();
            for n in 0..500 {
                text += &format!("GET /{n:03} HTTP/1.1\r\nHost: a\r\n\r\n");
            }
            let text = exchange(&server, &(text + LAST));
            let bodies = text.split("\r\n\r\n/").skip(1).map(|rest| rest.get(..3));
            let bodies: Vec<_> = bodies.take(500).flatten().collect();
            let wanted: Vec<_> = (0..500).map(|n| format!("{n:03}")).collect();
            assert_eq!(bodies, wanted);
            assert_eq!(statuses(text.as_bytes()).len(), 501);
            assert_eq!(server.stop(SOON).killed, 0);
        }
    });
}

#[test]
fn an_echo_while_it_comes() {
    on_workers("an_echo_while_it_comes", || {
        let server = serve(|s| s, |request| Response::new(request.into_body()));
        let mut stream = connect(&server);
        let begin = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n";
        stream.write_all(begin.as_bytes()).unwrap();
        assert!(head(&stream).contains("chunked"));
        let mut piece = [0; 8];
        stream.read_exact(&mut piece).unwrap();
        assert_eq!(&piece, b"3\r\none\r\n");
        stream.write_all(b"3\r\ntwo\r\n").unwrap();
        stream.read_exact(&mut piece).unwrap();
        assert_eq!(&piece, b"3\r\ntwo\r\n");
        stream.write_all(b"0\r\n\r\n").unwrap();
        stream.read_exact(&mut piece[..5]).unwrap();
        assert_eq!(&piece[..5], b"0\r\n\r\n");
        // And the connection goes on; with the client told to.
        let post =
            "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n";
        stream.write_all(post.as_bytes()).unwrap();
        assert_eq!(head(&stream), "HTTP/1.1 100 Continue\r\n\r\n");
        stream.write_all(b"ok").unwrap();
        assert!(head(&stream).starts_with("HTTP/1.1 200 OK"));
        stream.read_exact(&mut piece[..2]).unwrap();
        assert_eq!(&piece[..2], b"ok");
        assert_eq!(server.stop(SOON).killed, 0);
    });
}

#[test]
fn who_does_not_read_the_body() {
    on_workers("who_does_not_read_the_body", || {
        let server = serve(|s| s, |_| Response::new("ok"));
        // A small rest is read for it.
        let small = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello{LAST}");
        assert_eq!(statuses(exchange(&server, &small).as_bytes()), [200, 200]);
        let chunked = format!(
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n{LAST}"
        );
        assert_eq!(statuses(exchange(&server, &chunked).as_bytes()), [200, 200]);
        // For a large one it closes, and the client sees the response.
        let body = "x".repeat(200_000);
        let large = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n\r\n{body}");
        let text = exchange(&server, &large);
        assert_eq!(statuses(text.as_bytes()), [200]);
        assert!(text.contains("connection: close"));
        // Who waits for a go gets none.
        let expects =
            "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n";
        let mut stream = connect(&server);
        stream.write_all(expects.as_bytes()).unwrap();
        let answer = head(&stream);
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("connection: close"));
        drop(stream);
        assert_eq!(server.stop(SOON).killed, 0);
    });
}

#[test]
fn a_body_that_outlives_its_exchange_is_revoked() {
    on_workers("a_body_that_outlives_its_exchange_is_revoked", || {
        let (send, bodies) = unbounded();
        let server = serve(
            |s| s,
            move |request| {
                if !request.body().is_empty() {
                    send.send(request.into_body()).unwrap();
                }
                Response::new("ok")
            },
        );
        let post = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello{LAST}");
        assert_eq!(statuses(exchange(&server, &post).as_bytes()), [200, 200]);
        let e = bodies.recv().unwrap().text().unwrap_err();
        let inner = e.get_ref().and_then(|e| e.downcast_ref::<BodyError>());
        assert_eq!(inner, Some(&BodyError::Revoked));
        assert_eq!(server.stop(SOON).killed, 0);
    });
}

#[test]
fn a_body_read_by_another_task_costs_the_connection() {
    on_workers("a_body_read_by_another_task_costs_the_connection", || {
        let reading = Arc::new(Event::new());
        let (send, results) = unbounded();
        let server = serve(|s| s, {
            let reading = reading.clone();
            move |request| {
                let (reading, send) = (reading.clone(), send.clone());
                let reads = {
                    let reading = reading.clone();
                    move || {
                        let mut body = request.into_body();
                        let mut five = [0; 5];
                        body.read_exact(&mut five).unwrap();
                        reading.set();
                        send.send(body.read(&mut five)).unwrap();
                    }
                };
                spawn(reads);
                reading.wait();
                // It is in its read, or will be.
                sward_runtime::sleep(Duration::from_millis(20));
                Response::new("ok")
            }
        });
        let post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello";
        let text = exchange(&server, post);
        assert_eq!(statuses(text.as_bytes()), [200]);
        assert!(results.recv().unwrap().is_err());
        assert_eq!(server.stop(SOON).killed, 0);
    });
}

#[test]
fn limits_of_the_body() {
    on_workers("limits_of_the_body", || {
        let collect = |request: Request<Body>| {
            let limit = request.uri().path()[1..].parse().unwrap();
            match request.into_body().bytes_within(limit) {
                Ok(bytes) => Response::new(format!("{}", bytes.len())),
                Err(_) => Response::new("the handler's answer is not sent".to_owned()),
            }
        };
        let server = serve(|s| s.max_body(10), collect);
        let post = |path: &str, framing: &str, body: &str| {
            let text = format!(
                "POST {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{framing}\r\n\r\n{body}"
            );
            statuses(exchange(&server, &text).as_bytes())
        };
        assert_eq!(post("/10", "Content-Length: 10", "0123456789"), [200]);
        assert_eq!(post("/9", "Content-Length: 10", "0123456789"), [413]);
        assert_eq!(post("/99", "Content-Length: 11", "0123456789a"), [413]);
        let chunked = "Transfer-Encoding: chunked";
        assert_eq!(post("/99", chunked, "a\r\n0123456789\r\n0\r\n\r\n"), [200]);
        assert_eq!(
            post("/99", chunked, "a\r\n0123456789\r\n1\r\nx\r\n0\r\n\r\n"),
            [413]
        );
        assert_eq!(
            post("/3", chunked, "2\r\n01\r\n2\r\n23\r\n0\r\n\r\n"),
            [413]
        );
        assert_eq!(server.stop(SOON).killed, 0);
    });
}

#[test]
fn time_outs() {
    on_workers("time_outs", || {
        let short = Duration::from_millis(50);
        let limits = |s: S| {
            s.head_timeout(short)
                .idle_timeout(short)
                .body_timeout(short)
        };
        let server = serve(limits, |request| {
            request.into_body().text().map(Response::new)
        });
        // Nothing at all, and nothing after a request: closed without a word.
        assert_eq!(exchange(&server, ""), "");
        assert_eq!(statuses(exchange(&server, GET).as_bytes()), [200]);
        // Part of a head, part of a body.
        assert_eq!(statuses(exchange(&server, "GET / HT").as_bytes()), [408]);
        let post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhel";
        assert_eq!(statuses(exchange(&server, post).as_bytes()), [408]);
        assert_eq!(server.stop(SOON).killed, 0);
    });
}

#[test]
fn a_slow_loris_is_cut_off() {
    on_workers("a_slow_loris_is_cut_off", || {
        let server = serve(
            |s| s.head_timeout(Duration::from_millis(100)),
            |_| Response::new("ok"),
        );
        let stream = Arc::new(connect(&server));
        // A byte now and then, which does not begin the time anew.
        let drips = spawn({
            let stream = stream.clone();
            move || {
                let mut stream = &*stream;
                stream
                    .write_all(b"GET / HTTP/1.1\r\nHost: a\r\nx: ")
                    .unwrap();
                while stream.write_all(b"x").is_ok() {
                    sward_runtime::sleep(Duration::from_millis(10));
                }
            }
        });
        let mut all = Vec::new();
        (&*stream).read_to_end(&mut all).unwrap();
        assert_eq!(statuses(&all), [408]);
        stream.shutdown(Shutdown::Both).unwrap();
        drips.join().unwrap();
        assert_eq!(server.stop(SOON).killed, 0);
    });
}

#[test]
fn who_never_reads_is_not_buffered_for() {
    on_workers("who_never_reads_is_not_buffered_for", || {
        let made = Arc::new(AtomicUsize::new(0));
        let limits = |s: S| s.write_timeout(Duration::from_millis(100));
        let (tell, told) = unbounded();
        let tell = ShortLock::new(tell);
        let server = serve(
            |s| {
                limits(s).on_access(move |access| {
                    let _ = tell.lock().try_send(access.error.is_some());
                })
            },
            {
                let made = made.clone();
                move |_| {
                    let made = made.clone();
                    Response::new(Body::from_chunks(std::iter::repeat_with(move || {
                        made.fetch_add(1, SeqCst);
                        vec![b'x'; 100_000]
                    })))
                }
            },
        );
        let mut stream = connect(&server);
        stream.write_all(GET.as_bytes()).unwrap();
        assert!(told.recv().unwrap());
        // What the buffers of two sockets hold, and not more.
        assert!(made.load(SeqCst) < 200, "{made:?}");
        assert_eq!(server.stop(SOON).killed, 0);
    });
}

#[test]
fn a_handler_that_panics() {
    on_workers("a_handler_that_panics", || {
        let server = serve(
            |s| s,
            |request| {
                assert!(request.uri() == "/", "as it should");
                Response::new("ok")
            },
        );
        let text = format!("{GET}GET /x HTTP/1.1\r\nHost: a\r\n\r\n{GET}");
        assert_eq!(statuses(exchange(&server, &text).as_bytes()), [200, 500]);
        assert_eq!(server.stats().panicked, 1);
        assert_eq!(statuses(exchange(&server, LAST).as_bytes()), [200]);
        assert_eq!(server.stop(SOON).killed, 0);
    });
}

#[test]
fn upgrades() {
    on_workers("upgrades", || {
        let shout = |request: Request<Body>| {
            let mut response = Response::new(Body::empty());
            if request.method() != "CONNECT" {
                *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
                response
                    .headers_mut()
                    .insert("upgrade", "shout".parse().unwrap());
                response
                    .headers_mut()
                    .insert("connection", "upgrade".parse().unwrap());
            }
            on_upgrade(response, |mut stream| {
                let mut word = [0; 5];
                while stream.read_exact(&mut word).is_ok() {
                    word.make_ascii_uppercase();
                    stream.write_all(&word).unwrap();
                }
            })
        };
        let server = serve(|s| s, shout);
        for (request, status) in [
            (
                "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: shout\r\n\r\n",
                101,
            ),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nConnection: upgrade\r\nUpgrade: shout\r\n\r\nabc",
                101,
            ),
            ("CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n", 200),
        ] {
            let mut stream = connect(&server);
            // With the first bytes behind the head.
            stream
                .write_all(format!("{request}hel").as_bytes())
                .unwrap();
            let head = head(&stream);
            assert_eq!(head[9..12].parse::<u16>().unwrap(), status);
            assert_eq!(head.contains("connection: upgrade"), status == 101);
            assert!(!head.contains("content-length"));
            stream.write_all(b"loworld").unwrap();
            let mut words = [0; 10];
            stream.read_exact(&mut words).unwrap();
            assert_eq!(&words, b"HELLOWORLD");
        }
        assert_eq!(server.stop(SOON).killed, 0);
    });
}

#[test]
fn a_stop_lets_requests_finish_and_closes_the_idle() {
    on_workers("a_stop_lets_requests_finish_and_closes_the_idle", || {
        let (begun, go) = (Arc::new(Event::new()), Arc::new(Event::new()));
        let server = serve(|s| s, {
            let (begun, go) = (begun.clone(), go.clone());
            move |request| {
                if request.uri() == "/slow" {
                    begun.set();
                    go.wait();
                }
                Response::new("ok")
            }
        });
        let mut idle = connect(&server);
        idle.write_all(GET.as_bytes()).unwrap();
        assert!(head(&idle).starts_with("HTTP/1.1 200"));
        let mut slow = connect(&server);
        slow.write_all(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
            .unwrap();
        begun.wait();
        let stop = spawn(move || server.stop(SOON));
        let mut rest = Vec::new();
        idle.read_to_end(&mut rest).unwrap();
        assert_eq!(rest, b"ok");
        go.set();
        let mut rest = Vec::new();
        slow.read_to_end(&mut rest).unwrap();
        assert!(undated(&rest).contains("connection: close"));
        assert_eq!(statuses(&rest), [200]);
        assert_eq!(stop.join().unwrap().killed, 0);
    });
}

#[test]
fn a_stop_kills_after_its_grace() {
    on_workers("a_stop_kills_after_its_grace", || {
        let begun = Arc::new(Event::new());
        let server = serve(|s| s, {
            let begun = begun.clone();
            move |_| {
                begun.set();
                sward_runtime::park();
                Response::new("never")
            }
        });
        let mut stream = connect(&server);
        stream.write_all(GET.as_bytes()).unwrap();
        begun.wait();
        assert_eq!(server.stop(Duration::from_millis(10)).killed, 1);
        let mut all = Vec::new();
        let _ = stream.read_to_end(&mut all);
        assert!(all.is_empty());
    });
}

#[test]
fn numbers_of_requests_and_connections() {
    on_workers("numbers_of_requests_and_connections", || {
        let server = serve(
            |s| s.max_requests(2).max_connections(1),
            |_| Response::new("ok"),
        );
        let text = exchange(&server, &GET.repeat(3));
        assert_eq!(statuses(text.as_bytes()), [200, 200]);
        // The second waits until the first is gone.
        let mut first = connect(&server);
        first.write_all(GET.as_bytes()).unwrap();
        assert!(head(&first).starts_with("HTTP/1.1 200"));
        let mut second = connect(&server);
        second.write_all(LAST.as_bytes()).unwrap();
        second
            .set_read_timeout(Some(Duration::from_millis(50)))
            .unwrap();
        let e = second.read(&mut [0]).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::TimedOut);
        drop(first);
        second.set_read_timeout(Some(SOON)).unwrap();
        assert!(head(&second).starts_with("HTTP/1.1 200"));
        assert_eq!(server.stop(SOON).killed, 0);
    });
}

#[test]
fn a_rate_is_kept_by_waiting() {
    on_workers("a_rate_is_kept_by_waiting", || {
        let server = serve(|s| s.max_rate(100), |_| Response::new("ok"));
        let begun = std::time::Instant::now();
        let text = exchange(&server, &(GET.repeat(120) + LAST));
        assert_eq!(statuses(text.as_bytes()).len(), 121);
        // 100 at once, 21 more 10 ms apart.
        assert!(begun.elapsed() >= Duration::from_millis(200));
        assert_eq!(server.stop(SOON).killed, 0);
    });
}

#[test]
fn the_log_and_the_peer() {
    on_workers("the_log_and_the_peer", || {
        let lines = Arc::new(ShortLock::new(Vec::new()));
        let log = lines.clone();
        let server = serve(
            |s| {
                s.with_peer(true).on_access(move |access| {
                    let target = access.target.map(ToString::to_string);
                    let error = access.error.map(str::to_owned);
                    log.lock()
                        .push((target, access.status.as_u16(), access.bytes, error));
                })
            },
            |request| match request.extensions().get::<Peer>() {
                Some(peer) if request.uri() == "/" => Ok(Response::new(peer.addr.ip().to_string())),
                _ => Err("no such page"),
            },
        );
        let text = exchange(
            &server,
            &format!("{GET}GET /x HTTP/1.1\r\nHost: a\r\n\r\nbad\r\n\r\n"),
        );
        assert!(text.contains("\r\n127.0.0.1"));
        assert_eq!(server.stop(SOON).killed, 0);
        let lines = lines.lock();
        assert_eq!(lines[0], (Some("/".into()), 200, 9, None));
        assert_eq!(
            lines[1],
            (Some("/x".into()), 500, 22, Some("no such page".into()))
        );
        assert_eq!((lines[2].0.as_ref(), lines[2].1), (None, 400));
        assert_eq!(lines.len(), 3);
    });
}

#[test]
fn resets_at_every_moment() {
    on_workers("resets_at_every_moment", || {
        let server = serve(
            |s| s,
            |request| request.into_body().text().map(Response::new),
        );
        let post = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello{GET}");
        for cut in 0..=post.len() {
            for reset in [false, true] {
                let mut stream = connect(&server);
                stream.write_all(&post.as_bytes()[..cut]).unwrap();
                if reset {
                    // Data that was not read makes a close a reset; an abort says so at once.
                    rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
                }
                drop(stream);
            }
        }
        assert_eq!(statuses(exchange(&server, LAST).as_bytes()), [200]);
        assert_eq!(server.stop(SOON).killed, 0);
    });
}

#[test]
fn who_is_killed_in_serve_forever_takes_the_server_along() {
    on_workers("who_is_killed_in_serve_forever", || {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let task = spawn(move || Server::new(listener).serve_forever(|_| Response::new("ok")));
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(GET.as_bytes()).unwrap();
        assert!(head(&stream).starts_with("HTTP/1.1 200"));
        task.kill();
        assert!(task.join().unwrap_err().is_killed());
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        assert!(TcpStream::connect(address).is_err());
    });
}

#[test]
fn a_rest_that_drips_is_not_waited_for() {
    on_workers("a_rest_that_drips_is_not_waited_for", || {
        let server = serve(|s| s, |_| Response::new("ok"));
        let stream = Arc::new(connect(&server));
        let begun = std::time::Instant::now();
        let post = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 60000\r\n\r\n";
        (&*stream).write_all(post).unwrap();
        let drips = spawn({
            let stream = stream.clone();
            move || {
                while (&*stream).write_all(b"x").is_ok() {
                    sward_runtime::sleep(Duration::from_millis(20));
                }
            }
        });
        let mut all = Vec::new();
        let _ = (&*stream).read_to_end(&mut all);
        assert_eq!(statuses(&all), [200]);
        assert!(begun.elapsed() < Duration::from_secs(15));
        stream.shutdown(Shutdown::Both).unwrap();
        drips.join().unwrap();
        assert_eq!(server.stop(SOON).killed, 0);
    });
}
