//! Our client against nginx, our server against wrk and curl: programs that others wrote.
#![allow(clippy::unwrap_used)]

mod common;
#[path = "../../tests/common/nginx.rs"]
mod nginx;
#[path = "../../tests/common/programs.rs"]
mod programs;

use std::time::Duration;

use common::on_workers;
use http::{Request, Response, StatusCode};
use nginx::{LARGE, Nginx, contents};
use programs::program;
use sward_http::{Body, Client, Server};
use sward_runtime::process::Command;
use sward_runtime::{join_all, spawn};

const SOON: Duration = Duration::from_secs(20);

#[test]
fn our_client_and_nginx() {
    on_workers("our_client_and_nginx", || {
        let nginx = Nginx::start();
        let origin = format!("http://{}", nginx.address);
        let client = Client::new();
        let tasks: Vec<_> = (0..50)
            .map(|i| {
                let (client, origin) = (client.clone(), origin.clone());
                spawn(move || {
                    for n in 0..10 {
                        let url = format!("{origin}/echo/{i}/{n}?x=y");
                        let response = client.get(&url).unwrap();
                        let text = response.into_body().text().unwrap();
                        assert_eq!(text, format!("/echo/{i}/{n}?x=y"));
                    }
                })
            })
            .collect();
        join_all(tasks).into_iter().for_each(|t| t.unwrap());

        let large = client.get(&format!("{origin}/large")).unwrap();
        let bytes = large.into_body().bytes_within(LARGE as u64).unwrap();
        assert!(bytes == contents(LARGE));
        let missing = client.get(&format!("{origin}/missing")).unwrap();
        assert_eq!(missing.status(), StatusCode::NOT_FOUND);
        assert!(client.idle_connections() > 0);
        nginx.stop();
        // Its connections are gone, and so is it.
        assert!(client.get(&origin).is_err());
    });
}

#[test]
fn our_server_and_wrk() {
    on_workers("our_server_and_wrk", || {
        let server = Server::bind("127.0.0.1:0").unwrap();
        let server = server.start(|_| Response::new("hello")).unwrap();
        let url = format!("http://{}/", server.local_addr());
        let mut wrk = Command::new(program("wrk"));
        let output = wrk.args(["-t1", "-c50", "-d1s", &url]).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{text}");
        // It names these only if there are any.
        assert!(!text.contains("Non-2xx"), "{text}");
        assert!(!text.contains("Socket errors"), "{text}");
        assert!(server.stats().answered > 50, "{text}");
        assert_eq!(server.stop(SOON).killed, 0);
    });
}

#[test]
fn our_server_and_curl() {
    on_workers("our_server_and_curl", || {
        let echo = |request: Request<Body>| request.into_body().text().map(Response::new);
        let server = Server::bind("127.0.0.1:0").unwrap().start(echo).unwrap();
        let url = format!("http://{}/", server.local_addr());
        let run = |args: &[&str]| {
            let mut curl = Command::new(program("curl"));
            curl.args(["-sS", "--max-time", "20"]).args(args).arg(&url);
            String::from_utf8(curl.output().unwrap().stdout).unwrap()
        };
        let large = "x".repeat(3000);
        assert_eq!(run(&["-d", "hello"]), "hello");
        for args in [
            &["-H", "Expect: 100-continue", "-d", &large][..],
            &["-H", "Transfer-Encoding: chunked", "-d", &large],
            &["-0", "-d", &large],
        ] {
            assert_eq!(run(args), large, "{args:?}");
        }
        assert!(run(&["-I"]).starts_with("HTTP/1.1 200 OK\r\n"));
        assert_eq!(server.stop(SOON).killed, 0);
    });
}
