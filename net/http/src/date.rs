//! The `Date` field: written once a second on each thread, copied for each response. Which second it
//! is, `watch.rs` says, so that a response does not cost a look at the clock.

use std::cell::RefCell;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Bytes of `date: `, an IMF-fixdate, and the end of the line.
const LENGTH: usize = 37;

thread_local! {
    // Borrowed for the time of a copy, never across a switch.
    static LAST: RefCell<(u64, [u8; LENGTH])> = const { RefCell::new((u64::MAX, [0; LENGTH])) };
}

/// The present second, since 1970.
pub(crate) fn second() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_secs()
}

/// Appends the line for a second.
pub(crate) fn append(out: &mut Vec<u8>, second: u64) {
    LAST.with_borrow_mut(|(last, text)| {
        if *last != second {
            let at = UNIX_EPOCH + Duration::from_secs(second);
            let written = format!("date: {}\r\n", httpdate::fmt_http_date(at));
            if let Ok(written) = written.as_bytes().try_into() {
                (*last, *text) = (second, written);
            }
        }
        out.extend_from_slice(text);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_a_date_of_now() {
        for _ in 0..3 {
            let mut out = Vec::new();
            append(&mut out, second());
            let text = String::from_utf8(out).unwrap();
            let date = text.strip_prefix("date: ").unwrap().trim_end();
            let at = httpdate::parse_http_date(date).unwrap();
            assert!(at.elapsed().unwrap() < Duration::from_secs(60), "{text}");
        }
    }
}
