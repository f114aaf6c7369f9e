//! Pages fetched by at most eight tasks at a time, taken in order and as they come; each page has
//! a limit, and one of them is bad.
//!
//! ```sh
//! cargo run --release --example pool_map
//! ```

use std::io::{self, Write};
use std::time::{Duration, Instant};

use sward::{JoinError, Pool, TimedOut, sleep, timeout};

/// Stands for a request: takes 1 to 16 ms.
fn fetch(page: u64) -> String {
    if page == 13 {
        // As a panic, without the message of the hook.
        std::panic::resume_unwind(Box::new("there is no page 13"));
    }
    sleep(Duration::from_millis(1 + page * 7 % 16));
    format!("page {page}")
}

/// With a limit that some pages miss.
fn fetch_in_time(page: u64) -> Result<String, TimedOut> {
    timeout(Duration::from_millis(14), || fetch(page))
}

#[sward::main]
fn main() -> io::Result<()> {
    let begun = Instant::now();
    let pool = Pool::named(8, "fetchers");
    let mut out = io::stdout();

    // In order: what comes early waits for its turn.
    for (page, text) in (0..12).zip(pool.imap(0..12, fetch)) {
        let ms = begun.elapsed().as_millis();
        writeln!(out, "{ms:>4} ms  {page:>2}: {text:?}")?;
    }
    // As they come: without end, until there is enough.
    let mut good = 0;
    for page in pool.imap_unordered(0.., fetch_in_time) {
        match page {
            Ok(Ok(_)) => good += 1,
            Ok(Err(late)) => writeln!(out, "a page is missing: {late}")?,
            Err(JoinError::Panicked(_)) => writeln!(out, "a page is bad")?,
            Err(other) => writeln!(out, "a page is missing: {other}")?,
        }
        if good == 30 {
            break; // what still runs is killed
        }
    }
    pool.join();
    writeln!(out, "{good} good pages, {} places free", pool.free_count())
}
