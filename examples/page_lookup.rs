//! The talk's lookup in three steps, one after the other as they are thought: fetch a search page,
//! fetch its first hit, take the title. For several countries at a time, each in a task.
//!
//! ```sh
//! cargo run --release --example page_lookup
//! ```
//!
//! The search engine is a local server.

use std::io::{self, Write};
use std::time::Duration;

use sward::http::http::{Request, Response, StatusCode};
use sward::http::{Body, Client, Server};
use sward::{JoinHandle, sleep, spawn};

/// A page's address, and its title.
type Found = Option<(String, String)>;

fn lookup(client: &Client, engine: &str, country: &str, term: &str) -> io::Result<Found> {
    let page = fetch(
        client,
        &format!("{engine}/search?country={country}&term={term}"),
    )?;
    let Some(url) = between(&page, "<a class=\"hit\" href=\"", "\"") else {
        return Ok(None);
    };
    let hit = fetch(client, &format!("{engine}{url}"))?;
    let title = between(&hit, "<title>", "</title>").unwrap_or("{not-specified}");
    Ok(Some((url.to_owned(), title.to_owned())))
}

fn fetch(client: &Client, url: &str) -> io::Result<String> {
    let response = client.get(url)?;
    match response.status() {
        StatusCode::OK => response.into_body().text(),
        status => Err(io::Error::other(format!("{url}: {status}"))),
    }
}

fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(before)?;
    rest.split_once(after).map(|(found, _)| found)
}

/// Knows a few countries, and takes its time.
fn engine(request: Request<Body>) -> Response<String> {
    sleep(Duration::from_millis(20));
    let hit = |page| format!("<p>About 1 result</p><a class=\"hit\" href=\"{page}\">here</a>");
    let text = match request.uri().to_string().as_str() {
        "/search?country=de&term=green" => hit("/gruen.html"),
        "/search?country=fr&term=green" => hit("/vert.html"),
        "/search?country=is&term=green" => "<p>No results</p>".into(),
        "/gruen.html" => "<html><title>Das Gr\u{fc}ne</title></html>".into(),
        "/vert.html" => "<html>sans titre</html>".into(),
        _ => {
            let mut response = Response::new(String::new());
            *response.status_mut() = StatusCode::NOT_FOUND;
            return response;
        }
    };
    Response::new(text)
}

#[sward::main]
fn main() -> io::Result<()> {
    let server = Server::bind("127.0.0.1:0")?.start(engine)?;
    let address = format!("http://{}", server.local_addr());
    let client = Client::new().timeout(Duration::from_secs(10));

    let tasks: Vec<(&str, JoinHandle<io::Result<Found>>)> = ["de", "fr", "is", "xx"]
        .map(|country| {
            let (client, address) = (client.clone(), address.clone());
            (
                country,
                spawn(move || lookup(&client, &address, country, "green")),
            )
        })
        .into();
    let mut out = io::stdout();
    for (country, task) in tasks {
        match task.join() {
            Ok(Ok(found)) => writeln!(out, ".{country} {found:?}")?,
            Ok(Err(e)) => writeln!(out, ".{country} FAILED: {e}")?,
            Err(e) => writeln!(out, ".{country} FAILED: {e}")?,
        }
    }
    assert_eq!(server.stop(Duration::from_secs(5)).killed, 0);
    Ok(())
}
