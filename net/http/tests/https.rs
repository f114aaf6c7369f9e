//! https: our client and our server, and curl; bodies that must not be cut off.
#![allow(clippy::unwrap_used)]

mod common;
#[path = "../../tests/common/programs.rs"]
mod programs;

use std::io::{Read, Write};
use std::process::Command;
use std::time::Duration;

use common::on_workers;
use http::{Request, Response, Version};
use sward_http::{Body, Client, Error, Server};
use sward_net::TcpListener;
use sward_net::tls::{self, rustls};
use sward_runtime::{blocking, join_all, spawn};

const SOON: Duration = Duration::from_secs(20);

fn configs() -> (rustls::ServerConfig, rustls::ClientConfig) {
    tls::self_signed(&["localhost", "127.0.0.1"]).unwrap()
}

fn echo(request: Request<Body>) -> Response<Body> {
    assert_eq!(request.version(), Version::HTTP_11);
    Response::new(request.into_body())
}

#[test]
fn many_requests() {
    on_workers("many_requests", || {
        let (server, client) = configs();
        let server = Server::bind("127.0.0.1:0").unwrap().tls(server);
        let server = server.start(echo).unwrap();
        let url = format!("https://localhost:{}/", server.local_addr().port());
        let client = Client::new().tls(client);
        let tasks = (0..20).map(|i| {
            let (client, url) = (client.clone(), url.clone());
            spawn(move || {
                for length in [0, 1, 1000, 100_000] {
                    let sent = vec![i; length];
                    let answer = client.post(&url, sent.clone()).unwrap();
                    let got = answer.into_body().bytes().unwrap();
                    assert!(got == sent, "{length}");
                }
            })
        });
        let tasks: Vec<_> = tasks.collect();
        join_all(tasks).into_iter().for_each(|t| t.unwrap());
        // Far fewer connections than requests: they are kept.
        assert!(server.connections() <= 20);
        assert!(client.idle_connections() > 0);
        drop(client);
        assert_eq!(server.stop(SOON).killed, 0);
    });
}

#[test]
fn who_is_not_trusted_is_not_asked() {
    on_workers("who_is_not_trusted_is_not_asked", || {
        let (server, _) = configs();
        let server = Server::bind("127.0.0.1:0").unwrap().tls(server);
        let server = server.start(|_| Response::new("secret")).unwrap();
        let url = format!("https://localhost:{}/", server.local_addr().port());
        let e = Client::new().get(&url).unwrap_err();
        assert!(matches!(e, Error::Connect(..)), "{e}");
        assert!(e.to_string().contains("certificate"), "{e}");
        assert_eq!(server.stats().answered, 0);
        server.stop(SOON);
    });
}

#[test]
fn a_body_that_is_cut_off_is_an_error() {
    on_workers("a_body_that_is_cut_off_is_an_error", || {
        let (server, client) = configs();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!(
            "https://localhost:{}/",
            listener.local_addr().unwrap().port()
        );
        let cuts = spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let mut stream = tls::accept(server, stream).unwrap();
            assert!(stream.read(&mut [0; 1024]).unwrap() > 0);
            // Until the end of the connection, which comes without a close_notify.
            stream
                .write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhalf")
                .unwrap();
            stream.get_ref().close().unwrap();
        });
        let answer = Client::new().tls(client).get(&url).unwrap();
        let e = answer.into_body().text().unwrap_err();
        assert_eq!(e.kind(), std::io::ErrorKind::UnexpectedEof, "{e}");
        cuts.join().unwrap();
    });
}

#[test]
fn curl() {
    on_workers("curl", || {
        let (server, _) = configs();
        let server = Server::bind("127.0.0.1:0").unwrap().tls(server);
        let server = server.start(|_| Response::new("hello")).unwrap();
        let url = format!("https://127.0.0.1:{}/", server.local_addr().port());
        let output = blocking(move || {
            let mut curl = Command::new(programs::program("curl"));
            curl.args(["-sS", "--insecure", "--max-time", "20", &url, &url]);
            curl.output().unwrap()
        });
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.stdout, b"hellohello", "{errors}");
        assert_eq!(server.stop(SOON).killed, 0);
    });
}
