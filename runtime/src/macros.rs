//! The macros: `select!`, `task_local!`. They name what they expand to by public paths of the crate.

/// Waits for several things at once, and runs the code of the first that is ready.
///
/// `pattern = arm => code`, for any number of arms that are [`Arm`](crate::sync::Arm)s:
///
/// | arm | ready | gives |
/// |---|---|---|
/// | `receiver.receiving()` | a value is there, or all senders have gone | `Result<T, RecvError>` |
/// | `sender.sending(value)` | there is room, or all receivers have gone | `Result<(), SendError<T>>` |
/// | `event.waiting()` | it is set | `()` |
/// | `handle.ending()` | the task has ended | `()` |
/// | [`after(d)`](crate::sync::after), [`at(t)`](crate::sync::at) | the time has come | `Instant` |
///
/// `pattern = arm, if condition => code` takes part only if the condition holds. With
/// `default => code` as the last one nothing is waited for. When several are ready, one of them is
/// taken at random; `biased;` before the first takes the first that is ready.
///
/// What is not chosen has no effect: no value is taken, and one that was to be sent is dropped.
/// Arms are made anew at each use, so a loop makes its timer before (`at`), not inside (`after`).
///
/// # Blocking
/// Parks under [`WaitKind::Select`](crate::WaitKind::Select); honours kill and `timeout`.
///
/// # Panics
/// If no arm takes part and there is no default.
///
/// # Cancel safety
/// A kill or a time-out while it waits takes nothing and sends nothing. Once an arm has been
/// chosen, its code runs, and the kill comes at the next park.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use sward_runtime::{select, spawn, sync::{after, unbounded}};
///
/// let (numbers, number) = unbounded();
/// let (words, word) = unbounded();
/// spawn(move || numbers.send(7));
/// let got = select! {
///     n = number.receiving() => format!("{}", n.unwrap()),
///     w = word.receiving() => w.unwrap(),
///     _ = after(Duration::from_secs(10)) => "nothing came".to_owned(),
/// };
/// assert_eq!(got, "7");
/// # drop::<sward_runtime::sync::Sender<String>>(words);
/// ```
#[macro_export]
macro_rules! select {
    (biased; $($rest:tt)+) => {
        $crate::__select!(@parse true (a b c d e f g h i j k l m n o p) () $($rest)+)
    };
    ($($rest:tt)+) => {
        $crate::__select!(@parse false (a b c d e f g h i j k l m n o p) () $($rest)+)
    };
}

/// Declares variables of which each task has its own value (gevent's `local`): statics of type
/// [`LocalKey`](crate::LocalKey). As [`std::thread_local!`], by tasks.
///
/// With `, inherit` after the initialiser, a task begins with clones of the values that the task
/// which spawned it has at that moment (the type must be `Clone` and `Send`). What ordinary threads
/// have is not inherited.
///
/// # Examples
/// ```
/// use std::cell::{Cell, RefCell};
/// use sward_runtime::{run, spawn, task_local};
/// task_local! {
///     /// Each task counts for itself.
///     static COUNT: Cell<u32> = Cell::new(0);
///     /// The tasks of a request know which one it is.
///     pub static REQUEST: RefCell<String> = RefCell::default(), inherit;
/// }
/// run(|| {
///     COUNT.set(7);
///     REQUEST.set("r1".to_owned());
///     let task = spawn(|| (COUNT.get(), REQUEST.take()));
///     assert_eq!(task.join().unwrap(), (0, "r1".to_owned()));
///     assert_eq!((COUNT.get(), REQUEST.take()), (7, "r1".to_owned()));
/// });
/// ```
#[macro_export]
macro_rules! task_local {
    () => {};
    ($(#[$attr:meta])* $vis:vis static $name:ident: $t:ty = $init:expr, inherit $(; $($rest:tt)*)?) => {
        $(#[$attr])*
        $vis static $name: $crate::LocalKey<$t> = $crate::LocalKey::inherited({
            fn init() -> $t {
                $init
            }
            init
        });
        $($crate::task_local!($($rest)*);)?
    };
    ($(#[$attr:meta])* $vis:vis static $name:ident: $t:ty = $init:expr $(; $($rest:tt)*)?) => {
        $(#[$attr])*
        $vis static $name: $crate::LocalKey<$t> = $crate::LocalKey::new({
            fn init() -> $t {
                $init
            }
            init
        });
        $($crate::task_local!($($rest)*);)?
    };
}

/// The parts of `select!`.
#[doc(hidden)]
#[macro_export]
macro_rules! __select {
    // The last: a default, or nothing more.
    (@parse $biased:tt ($($names:ident)*) ($($done:tt)*) default => $body:expr $(,)?) => {
        $crate::__select!(@run $biased true ($body) $($done)*)
    };
    (@parse $biased:tt ($($names:ident)*) ($($done:tt)*)) => {
        $crate::__select!(@run $biased false (unreachable!("a select ended without an arm")) $($done)*)
    };
    // One arm: with a condition or without, and a block or an expression as its code.
    (@parse $biased:tt ($name:ident $($names:ident)*) ($($done:tt)*)
        $pat:pat = $arm:expr, if $cond:expr => $body:block $(,)? $($rest:tt)*) => {
        $crate::__select!(@parse $biased ($($names)*)
            ($($done)* { $name ($pat) ($cond.then(|| $arm)) ($body) }) $($rest)*)
    };
    (@parse $biased:tt ($name:ident $($names:ident)*) ($($done:tt)*)
        $pat:pat = $arm:expr, if $cond:expr => $body:expr $(, $($rest:tt)*)?) => {
        $crate::__select!(@parse $biased ($($names)*)
            ($($done)* { $name ($pat) ($cond.then(|| $arm)) ($body) }) $($($rest)*)?)
    };
    (@parse $biased:tt ($name:ident $($names:ident)*) ($($done:tt)*)
        $pat:pat = $arm:expr => $body:block $(,)? $($rest:tt)*) => {
        $crate::__select!(@parse $biased ($($names)*)
            ($($done)* { $name ($pat) ($arm) ($body) }) $($rest)*)
    };
    (@parse $biased:tt ($name:ident $($names:ident)*) ($($done:tt)*)
        $pat:pat = $arm:expr => $body:expr $(, $($rest:tt)*)?) => {
        $crate::__select!(@parse $biased ($($names)*)
            ($($done)* { $name ($pat) ($arm) ($body) }) $($($rest)*)?)
    };
    (@parse $biased:tt () $($rest:tt)*) => {
        compile_error!("select! has too many arms (16 at most)")
    };
    (@parse $biased:tt ($($names:ident)*) ($($done:tt)*) $($rest:tt)*) => {
        compile_error!("select! wants `pattern = arm => code`, and `default => code` as the last")
    };
    // The arms go before the code runs, so that it may use what they borrow.
    (@run $biased:tt $now:tt ($default:expr) $({ $name:ident ($pat:pat) ($arm:expr) ($body:expr) })*) => {{
        let ($($name,)*) = {
            $(let mut $name = $crate::__private::Tried::new($arm);)*
            $crate::__private::select_any(&mut [$(&mut $name),*], $biased, $now);
            ($($name.into_output(),)*)
        };
        $crate::__select!(@choose ($default) $({ $name ($pat) ($body) })*)
    }};
    (@choose ($default:expr)) => {
        $default
    };
    (@choose ($default:expr) { $name:ident ($pat:pat) ($body:expr) } $($rest:tt)*) => {
        if let Some($name) = $name {
            let $pat = $name;
            $body
        } else {
            $crate::__select!(@choose ($default) $($rest)*)
        }
    };
}
