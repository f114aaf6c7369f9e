//! A crawler: follows the links of a site, with at most twenty pages at a time.
//!
//! ```sh
//! cargo run --release --example crawler -- 500
//! ```
//!
//! The site is a local server with as many pages as the argument says; each page links to three
//! others, and one link is dead.

use std::collections::HashSet;
use std::io::{self, Write};
use std::time::{Duration, Instant};

use sward::http::http::{Request, Response, StatusCode};
use sward::http::{Body, Client, Server};
use sward::sync::unbounded;
use sward::{Pool, sleep};

/// Page n links to 2n, 2n + 1, and n / 2.
fn site(pages: usize) -> impl Fn(Request<Body>) -> Response<String> + Send + Sync {
    move |request| {
        sleep(Duration::from_millis(5));
        let number = request.uri().path()[1..].parse::<usize>();
        match number {
            Ok(n) if (1..=pages).contains(&n) => {
                let links = [n * 2, n * 2 + 1, n / 2].into_iter();
                let links = links.filter(|n| (1..=pages + 1).contains(n));
                Response::new(
                    links
                        .map(|n| format!("<a href=\"/{n}\">{n}</a>\n"))
                        .collect(),
                )
            }
            _ => {
                let mut response = Response::new(String::new());
                *response.status_mut() = StatusCode::NOT_FOUND;
                response
            }
        }
    }
}

/// The links of a page; `None` if there is no such page.
fn links(client: &Client, url: &str) -> io::Result<Option<Vec<String>>> {
    let response = client.get(url)?;
    if response.status() != StatusCode::OK {
        return Ok(None);
    }
    let text = response.into_body().text()?;
    let hrefs = text
        .split("href=\"")
        .skip(1)
        .filter_map(|rest| rest.split('"').next());
    Ok(Some(hrefs.map(str::to_owned).collect()))
}

#[sward::main]
fn main() -> io::Result<()> {
    let pages = std::env::args()
        .nth(1)
        .and_then(|n| n.parse().ok())
        .unwrap_or(100);
    let server = Server::bind("127.0.0.1:0")?.start(site(pages))?;
    let root = format!("http://{}", server.local_addr());
    let client = Client::new().keep(20, Duration::from_secs(10));

    let begun = Instant::now();
    let pool = Pool::new(20);
    let (found, results) = unbounded();
    let mut seen = HashSet::from(["/1".to_owned()]);
    let mut waiting = vec!["/1".to_owned()];
    let (mut running, mut good, mut dead) = (0, 0, 0);
    while running > 0 || !waiting.is_empty() {
        // As many as there are; the pool makes this task wait when it is full.
        for path in waiting.drain(..) {
            let (client, found, url) = (client.clone(), found.clone(), format!("{root}{path}"));
            pool.spawn(move || found.send(links(&client, &url)));
            running += 1;
        }
        let Ok(result) = results.recv() else { break };
        running -= 1;
        match result? {
            Some(links) => {
                good += 1;
                waiting.extend(links.into_iter().filter(|link| seen.insert(link.clone())));
            }
            None => dead += 1,
        }
    }
    let ms = begun.elapsed().as_millis();
    writeln!(
        io::stdout(),
        "{good} pages and {dead} dead links in {ms} ms"
    )?;
    assert_eq!((good, dead), (pages, 1));
    assert_eq!(server.stop(Duration::from_secs(5)).killed, 0);
    Ok(())
}
