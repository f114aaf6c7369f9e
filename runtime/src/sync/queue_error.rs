//! Why an operation on a queue failed.

use super::refusal::errors;

errors! {
    /// Why `put` failed; the value comes back.
    PutError<T> {
        /// The queue is closed.
        Closed [Closed] => "the queue is closed",
        /// The queue is full, and a task that unwinds may not wait.
        Unwinding [Unwinding TimedOut Full] =>
            "the queue is full, and a task that unwinds may not wait for room",
    }
    /// Why `try_put` failed; the value comes back.
    TryPutError<T> {
        /// There is no room (gevent's `Full`).
        Full [Full TimedOut Unwinding] => "the queue is full",
        /// The queue is closed.
        Closed [Closed] => "the queue is closed",
    }
    /// Why `put_timeout` failed; the value comes back.
    PutTimeoutError<T> {
        /// There was no room in time.
        TimedOut [TimedOut Full] => "the queue stayed full until the time-out",
        /// The queue is closed.
        Closed [Closed] => "the queue is closed",
        /// The queue is full, and a task that unwinds may not wait.
        Unwinding [Unwinding] => "the queue is full, and a task that unwinds may not wait for room",
    }
    /// Why `get` or `peek` failed.
    GetError {
        /// The queue is empty and closed (gevent's `ShutDown`).
        Closed [Closed] => "the queue is empty and closed",
        /// The queue is empty, and a task that unwinds may not wait.
        Unwinding [Unwinding TimedOut Empty] =>
            "the queue is empty, and a task that unwinds may not wait for a value",
    }
    /// Why `try_get` or `try_peek` failed.
    TryGetError {
        /// There is no value now (gevent's `Empty`).
        Empty [Empty TimedOut Unwinding] => "the queue is empty",
        /// The queue is empty and closed.
        Closed [Closed] => "the queue is empty and closed",
    }
    /// Why `get_timeout` or `peek_timeout` failed.
    GetTimeoutError {
        /// No value came in time.
        TimedOut [TimedOut Empty] => "the queue stayed empty until the time-out",
        /// The queue is empty and closed.
        Closed [Closed] => "the queue is empty and closed",
        /// The queue is empty, and a task that unwinds may not wait.
        Unwinding [Unwinding] =>
            "the queue is empty, and a task that unwinds may not wait for a value",
    }
}
