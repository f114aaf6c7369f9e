//! What `#[sward::test]` and `#[sward::main]` expand to.

use std::io;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use crate::registry;
use crate::report;
use crate::sight::dump::{self, DumpOptions};

/// Runs a test's body with a time limit: a test that hangs is aborted with the dump of all
/// runtimes.
#[doc(hidden)]
pub fn test_body<T>(limit: Duration, name: &str, f: impl FnOnce() -> T) -> T {
    let (done, waits) = channel::<()>();
    let name = name.to_owned();
    let watch = move || {
        if waits.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
            report::text(&format!(
                "sward: test {name} has not ended after {limit:?}; tasks:\n"
            ));
            for rt in registry::all() {
                report::text(&dump::headed(&rt, DumpOptions::new().backtraces(true)));
            }
            std::process::abort();
        }
    };
    let watchdog = std::thread::Builder::new().name("sward-watchdog".into());
    let watchdog = crate::thread::start(watchdog, watch);
    let result = f();
    drop(done);
    if let Ok(watchdog) = watchdog {
        // It only waits for `done`.
        let _ = watchdog.join();
    }
    result
}

/// Ends with what kept `#[sward::main(...)]` from building its runtime.
#[doc(hidden)]
pub fn builder_error(error: io::Error) -> ! {
    panic!("sward: the runtime cannot be started: {error}")
}
