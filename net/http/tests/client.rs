//! The client: the pool, stale connections, redirects, time-outs, and servers that do not behave.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod common;

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use common::on_workers;
use http::{Method, Request, Response, StatusCode};
use sward_http::{Body, Client, Error, IntoResponse, Malformed, Server, Serving};
use sward_net::{TcpListener, TcpStream};
use sward_runtime::{JoinHandle, spawn};

const SOON: Duration = Duration::from_secs(20);

fn serve<R: IntoResponse>(
    handler: impl Fn(Request<Body>) -> R + Send + Sync + 'static,
) -> (Serving<SocketAddr>, String) {
    let server = Server::bind("127.0.0.1:0").unwrap().start(handler).unwrap();
    let url = format!("http://{}", server.local_addr());
    (server, url)
}

/// A server that says the same to each connection in turn, once a request's head has come; the
/// number of connections.
fn canned(answers: &'static [&'static [u8]]) -> (JoinHandle<usize>, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let task = spawn(move || {
        let mut open = Vec::new();
        for answer in answers {
            let (mut stream, _) = listener.accept().unwrap();
            read_head(&mut stream);
            stream.write_all(answer).unwrap();
            if answer.ends_with(b"~") {
                open.push(stream);
            }
        }
        answers.len()
    });
    (task, url)
}

fn read_head(stream: &mut TcpStream) {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).unwrap() == 0 {
            return;
        }
        head.push(byte[0]);
    }
}

#[test]
fn a_connection_is_used_again() {
    on_workers("a_connection_is_used_again", || {
        let (server, url) = serve(|request| {
            let text = format!("{} {}", request.method(), request.uri());
            request
                .into_body()
                .text()
                .map(|body| Response::new(text + &body))
        });
        let client = Client::new();
        for _ in 0..5 {
            let response = client.get(&format!("{url}/a?b")).unwrap();
            assert_eq!(response.into_body().text().unwrap(), "GET /a?b");
            let response = client.post(&url, "body").unwrap();
            assert_eq!(response.into_body().text().unwrap(), "POST /body");
            let chunks = Body::from_chunks(["b", "ody"]);
            let response = client.post(&url, chunks).unwrap();
            assert_eq!(response.into_body().text().unwrap(), "POST /body");
        }
        assert_eq!((server.connections(), client.idle_connections()), (1, 1));
        // One whose body is not read to its end is not.
        drop(client.get(&url).unwrap());
        assert_eq!(client.idle_connections(), 0);
        let mut head = Request::new(());
        *head.method_mut() = Method::HEAD;
        *head.uri_mut() = url.parse().unwrap();
        assert!(client.request(head).unwrap().into_body().is_empty());
        assert_eq!(client.idle_connections(), 1);
        assert_eq!(server.stop(SOON).killed, 0);
    });
}

#[test]
fn many_at_a_time() {
    on_workers("many_at_a_time", || {
        let (server, url) = serve(|request| {
            let text = request.uri().path().to_owned();
            Response::new(Body::from_writer(move |w| w.write_all(text.as_bytes())))
        });
        let client = Client::new();
        let tasks: Vec<_> = (0..50)
            .map(|n| {
                let (client, url) = (client.clone(), url.clone());
                spawn(move || {
                    for k in 0..20 {
                        let path = format!("/{n}/{k}");
                        let response = client.get(&format!("{url}{path}")).unwrap();
                        assert_eq!(response.into_body().text().unwrap(), path);
                    }
                })
            })
            .collect();
        tasks.into_iter().for_each(|task| task.join().unwrap());
        assert!(client.idle_connections() <= 8);
        assert_eq!(server.stop(SOON).killed, 0);
    });
}

#[test]
fn a_stale_connection_is_replaced() {
    on_workers("a_stale_connection_is_replaced", || {
        const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
        let (task, url) = canned(&[OK, OK, OK]);
        let client = Client::new();
        for _ in 0..3 {
            assert_eq!(client.get(&url).unwrap().into_body().text().unwrap(), "ok");
        }
        assert_eq!(task.join().unwrap(), 3);

        // Closed just when the request comes: sent again if it may be.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let task = spawn(move || {
            for _ in 0..2 {
                let (mut stream, _) = listener.accept().unwrap();
                read_head(&mut stream);
                stream.write_all(OK).unwrap();
                read_head(&mut stream);
            }
        });
        for _ in 0..2 {
            assert_eq!(client.get(&url).unwrap().into_body().text().unwrap(), "ok");
        }
        let e = client.post(&url, "").unwrap_err();
        assert!(
            matches!(e, Error::NoResponse | Error::Receive(_) | Error::Send(_)),
            "{e}"
        );
        task.join().unwrap();
    });
}

#[test]
fn responses_of_all_framings() {
    on_workers("responses_of_all_framings", || {
        for (answer, wanted) in [
            (&b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"[..], "ok"),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\no\r\n1\r\nk\r\n0\r\nx: y\r\n\r\n", "ok"),
            (b"HTTP/1.1 200 OK\r\n\r\nuntil it closes", "until it closes"),
            (b"HTTP/1.0 200 OK\r\n\r\nold", "old"),
            (b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", ""),
            (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nx: y\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "ok"),
        ] {
            let answers: &'static [&'static [u8]] = Box::leak(Box::new([answer]));
            let (task, url) = canned(answers);
            let body = Client::new().get(&url).unwrap().into_body();
            assert_eq!(body.text().unwrap(), wanted);
            task.join().unwrap();
        }
    });
}

#[test]
fn servers_that_do_not_behave() {
    on_workers("servers_that_do_not_behave", || {
        let get = |answer: &'static [u8]| {
            let (task, url) = canned(Box::leak(Box::new([answer])));
            let client = Client::new().max_head(1000);
            let done = client.get(&url).map_err(|e| match e {
                Error::Malformed(malformed) => Some(malformed),
                _ => None,
            });
            task.join().unwrap();
            done.map(|response| response.into_body().text().map_err(|e| e.kind()))
        };
        assert!(matches!(get(b""), Err(None)));
        assert!(matches!(get(b"HTTP/1.1 200 OK\r\n"), Err(None)));
        let malformed = |answer| get(answer).unwrap_err().unwrap();
        assert_eq!(malformed(b"hello\r\n\r\n"), Malformed::StatusLine);
        assert_eq!(
            malformed(b"HTTP/1.1 200 OK\nx: y\n\n"),
            Malformed::BareLineFeed
        );
        assert_eq!(
            malformed(b"HTTP/1.1 200 OK\r\nx : y\r\n\r\n"),
            Malformed::FieldLine
        );
        assert_eq!(
            malformed(b"HTTP/1.1 200 OK\r\nx: y\r\n z\r\n\r\n"),
            Malformed::FoldedLine
        );
        let both = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(malformed(both), Malformed::TransferAndLength);
        let twice = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok";
        assert_eq!(malformed(twice), Malformed::ContentLength);
        let large = [b"HTTP/1.1 200 OK\r\nx: ".as_slice(), &[b'x'; 2000]].concat();
        assert_eq!(malformed(large.leak()), Malformed::HeadTooLarge);
        let eof = Err(std::io::ErrorKind::UnexpectedEof);
        assert_eq!(
            get(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nok").unwrap(),
            eof
        );
        let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n";
        assert_eq!(get(chunked).unwrap(), eof);
    });
}

#[test]
fn redirects() {
    on_workers("redirects", || {
        let seen = Arc::new(AtomicUsize::new(0));
        let (server, url) = serve({
            let seen = seen.clone();
            move |request| {
                seen.fetch_add(1, SeqCst);
                let (parts, body) = request.into_parts();
                let body = body.text()?;
                let path = parts.uri.path().to_owned();
                let Some((status, to)) = path[1..].split_once('/') else {
                    let text = format!("{} {path} {body}", parts.method);
                    return Ok(Response::new(text));
                };
                let mut response = Response::new(String::new());
                *response.status_mut() = StatusCode::from_bytes(status.as_bytes()).unwrap();
                let to = if to == "loop" {
                    path.clone()
                } else {
                    format!("/{to}")
                };
                response
                    .headers_mut()
                    .insert("location", to.parse().unwrap());
                std::io::Result::Ok(response)
            }
        });
        let plain = Client::new();
        assert_eq!(plain.get(&format!("{url}/302/x")).unwrap().status(), 302);
        let client = plain.redirects(3);
        let text = |response: Response<Body>| response.into_body().text().unwrap();
        assert_eq!(
            text(client.get(&format!("{url}/302/x")).unwrap()),
            "GET /x "
        );
        assert_eq!(
            text(client.post(&format!("{url}/303/x"), "b").unwrap()),
            "GET /x "
        );
        assert_eq!(
            text(client.post(&format!("{url}/307/x"), "b").unwrap()),
            "POST /x b"
        );
        // What cannot be sent again is not.
        let chunks = Body::from_chunks(["b"]);
        assert_eq!(
            client
                .post(&format!("{url}/308/x"), chunks)
                .unwrap()
                .status(),
            308
        );
        let before = seen.load(SeqCst);
        let e = client.get(&format!("{url}/302/loop")).unwrap_err();
        assert!(matches!(e, Error::Redirects(3)), "{e}");
        assert_eq!(seen.load(SeqCst) - before, 4);
        assert_eq!(server.stop(SOON).killed, 0);
    });
}

#[test]
fn time_outs() {
    on_workers("time_outs", || {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let short = Duration::from_millis(30);
        let e = Client::new().read_timeout(short).get(&url).unwrap_err();
        assert!(e.is_timeout(), "{e}");
        let e = Client::new().timeout(short).get(&url).unwrap_err();
        assert!(e.is_timeout(), "{e}");
        // The whole time-out is for the body too.
        let (server, url) = serve(|_| {
            Response::new(Body::from_chunks(std::iter::repeat_with(|| {
                sward_runtime::sleep(Duration::from_millis(5));
                "x"
            })))
        });
        let e = Client::new()
            .timeout(short)
            .get(&url)
            .unwrap()
            .into_body()
            .text()
            .unwrap_err();
        assert_eq!(e.kind(), std::io::ErrorKind::TimedOut);
        assert_eq!(server.stop(SOON).killed, 0);
    });
}

#[test]
fn nobody_there() {
    on_workers("nobody_there", || {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        drop(listener);
        let e = Client::new().get(&url).unwrap_err();
        assert!(matches!(e, Error::Connect(..)), "{e}");
        let mut wrong = vec!["", "/", "no url", "http://u@a/", "ftp://a/"];
        if cfg!(not(feature = "tls")) {
            wrong.push("https://a/");
        }
        for wrong in wrong {
            assert!(
                matches!(Client::new().get(wrong), Err(Error::Url(..))),
                "{wrong}"
            );
        }
    });
}

#[test]
fn who_answers_early_is_heard() {
    on_workers("who_answers_early_is_heard", || {
        let (server, url) = serve(|_| {
            let mut response = Response::new("too much");
            *response.status_mut() = StatusCode::PAYLOAD_TOO_LARGE;
            response
        });
        let client = Client::new().write_timeout(SOON);
        let body = Body::from_chunks(std::iter::repeat_n(vec![b'x'; 64 * 1024], 100));
        let response = client.post(&url, body).unwrap();
        assert_eq!(response.status(), 413);
        assert_eq!(server.stop(SOON).killed, 0);
    });
}
