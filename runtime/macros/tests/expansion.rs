//! What the attributes expand to, seen by a stand-in for the runtime that notes the calls.

use std::cell::RefCell;
use std::error::Error;
use std::io;
use std::time::Duration;

thread_local! {
    static CALLS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

fn note(call: String) {
    CALLS.with_borrow_mut(|calls| calls.push(call));
}

fn calls() -> Vec<String> {
    CALLS.take()
}

type Array<const N: usize> = [u8; N];

/// The items that an expansion may name.
mod runtime {
    use super::*;

    pub(crate) fn run<T: Send>(f: impl FnOnce() -> T + Send) -> T {
        note("run".to_owned());
        f()
    }

    pub(crate) struct Runtime;

    impl Runtime {
        pub(crate) fn builder() -> Builder {
            note("builder".to_owned());
            Builder { workers: 1 }
        }

        pub(crate) fn run<T: Send>(self, f: impl FnOnce() -> T + Send) -> T {
            note("Runtime::run".to_owned());
            f()
        }
    }

    pub(crate) struct Builder {
        workers: usize,
    }

    impl Builder {
        pub(crate) fn workers(mut self, n: usize) -> Self {
            note(format!("workers {n}"));
            self.workers = n;
            self
        }

        pub(crate) fn stack_size(self, bytes: usize) -> Self {
            note(format!("stack_size {bytes}"));
            self
        }

        pub(crate) fn virtual_clock(self) -> Self {
            note("virtual_clock".to_owned());
            self
        }

        pub(crate) fn build(self) -> io::Result<Runtime> {
            match self.workers {
                0 => Err(io::Error::other("zero workers")),
                _ => Ok(Runtime),
            }
        }
    }

    pub(crate) mod __private {
        use super::*;

        pub(crate) fn test_body<T>(
            timeout: Duration,
            name: &str,
            f: impl FnOnce() -> T + Send,
        ) -> T {
            note(format!("test {name} {timeout:?}"));
            f()
        }

        pub(crate) fn builder_error(error: io::Error) -> ! {
            panic!("cannot build the runtime: {error}")
        }
    }
}

#[sward_macros::main(crate = "crate::runtime")]
fn plain() {
    note("body".to_owned());
}

#[sward_macros::main(crate = "crate::runtime")]
pub(crate) fn with_value() -> Array<{ 1 + 1 }> {
    #![allow(clippy::needless_return)]
    return [1, 2];
}

#[sward_macros::main(workers = 2, stack_size = "64K", crate = "runtime")]
fn with_options() -> u32 {
    7
}

#[sward_macros::main(crate = "runtime", stack_size = 1_000_000usize)]
fn with_bytes() {}

#[sward_macros::main(workers = 0, crate = "crate::runtime")]
fn impossible() {}

mod program {
    use super::*;

    // `Box<dyn Error>` is not `Send`, and the stand-in's `run` wants that as the real one does.
    #[sward_macros::main(crate = "crate::runtime")]
    pub(crate) fn main() -> Result<(), Box<dyn Error>> {
        "x".parse::<u32>()?;
        Ok(())
    }
}

macro_rules! define {
    ($(#[$attribute:meta])* $vis:vis $name:ident $workers:literal $output:ty $body:block) => {
        #[sward_macros::main(workers = $workers, crate = "crate::runtime")]
        $(#[$attribute])*
        $vis fn $name() -> $output $body
    };
}

define!(#[allow(dead_code)] pub(crate) from_macro 3 Option<u8> { Some(1) });
define!(private_from_macro 4 u8 { 1 });

#[test]
fn the_default_runtime() {
    plain();
    assert_eq!(calls(), ["run", "body"]);
    assert_eq!(with_value(), [1, 2]);
}

#[test]
fn options_go_to_the_builder() {
    assert_eq!(with_options(), 7);
    assert_eq!(
        calls(),
        ["builder", "workers 2", "stack_size 65536", "Runtime::run"]
    );
    with_bytes();
    assert_eq!(calls(), ["builder", "stack_size 1000000", "Runtime::run"]);
}

#[test]
#[should_panic = "cannot build the runtime: zero workers"]
fn a_failing_builder_says_why() {
    impossible();
}

#[test]
fn mains_error_becomes_an_exit_code() {
    let code = program::main();
    assert_eq!(
        format!("{code:?}"),
        format!("{:?}", std::process::ExitCode::FAILURE)
    );
}

#[test]
fn fragments_of_macros() {
    assert_eq!(from_macro(), Some(1));
    assert_eq!(private_from_macro(), 1);
    assert!(calls().contains(&"workers 4".to_owned()));
}

#[sward_macros::test(crate = "crate::runtime")]
fn a_test() {
    assert_eq!(calls(), ["test expansion::a_test 60s", "run"]);
}

#[sward_macros::test(workers = 1, timeout = "200ms", crate = "crate::runtime")]
fn a_test_with_options() {
    let expected = [
        "test expansion::a_test_with_options 200ms",
        "builder",
        "workers 1",
        "Runtime::run",
    ];
    assert_eq!(calls(), expected);
}

#[sward_macros::test(virtual_clock, stack_size = "64K", crate = "crate::runtime")]
fn a_test_on_a_virtual_clock() {
    let expected = [
        "test expansion::a_test_on_a_virtual_clock 60s",
        "builder",
        "virtual_clock",
        "stack_size 65536",
        "Runtime::run",
    ];
    assert_eq!(calls(), expected);
}

#[sward_macros::test(crate = "crate::runtime")]
#[should_panic = "as it should"]
fn a_test_that_panics() {
    panic!("as it should");
}

#[sward_macros::test(crate = "crate::runtime")]
fn a_test_with_a_result() -> Result<(), Box<dyn Error>> {
    "1".parse::<u32>()?;
    Ok(())
}

#[sward_macros::test(crate = "crate::runtime")]
#[ignore = "shows that the attribute is kept: it would fail"]
fn an_ignored_test() {
    panic!("ran");
}
