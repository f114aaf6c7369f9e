//! The talk's web server: `hello world` on 127.0.0.1:8080, and a line for each request.
//!
//! ```sh
//! cargo run --release --example http_hello
//! curl -i http://127.0.0.1:8080/
//! ```
//!
//! With `--self-test` it listens on a free port, asks itself three times, and ends.

use std::io::{self, Write};
use std::time::Duration;

use sward::http::http::{Request, Response, header};
use sward::http::{Body, Client, Server};

fn hello(_: Request<Body>) -> Result<Response<&'static str>, Box<dyn std::error::Error>> {
    writeln!(io::stdout(), "new http request!")?;
    let response = Response::builder().header(header::CONTENT_TYPE, "text/html");
    Ok(response.body("hello world")?)
}

#[sward::main]
fn main() -> io::Result<()> {
    let test = std::env::args()
        .nth(1)
        .is_some_and(|arg| arg == "--self-test");
    if !test {
        return Server::bind("127.0.0.1:8080")?.serve_forever(hello);
    }
    let server = Server::bind("127.0.0.1:0")?.start(hello)?;
    let url = format!("http://{}/", server.local_addr());
    let client = Client::new();
    for _ in 0..3 {
        let response = client.get(&url)?;
        assert_eq!(response.headers()[header::CONTENT_TYPE], "text/html");
        assert_eq!(response.into_body().text()?, "hello world");
    }
    assert_eq!(server.stop(Duration::from_secs(5)).killed, 0);
    Ok(())
}
