//! [`Patience`]: how long the operations of a socket or a pipe wait, as its owner has set it.

use std::io;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::source::Limit;

/// A time-out that a stream keeps for its operations, as std's `set_read_timeout` sets it: for
/// types that stand on a [`Source`](super::Source).
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use sward_runtime::io::Patience;
/// let patience = Patience::for_ever();
/// patience.set(Some(Duration::from_secs(5)))?;
/// assert_eq!(patience.get(), Some(Duration::from_secs(5)));
/// assert!(patience.set(Some(Duration::ZERO)).is_err());
/// # std::io::Result::Ok(())
/// ```
#[derive(Debug, Default)]
pub struct Patience {
    /// Nanoseconds; 0 is for ever.
    limit: AtomicU64,
}

impl Patience {
    /// No limit.
    pub const fn for_ever() -> Self {
        Self {
            limit: AtomicU64::new(0),
        }
    }

    /// The limit that is set.
    #[inline]
    pub fn get(&self) -> Option<Duration> {
        match self.limit.load(Relaxed) {
            0 => None,
            nanos => Some(Duration::from_nanos(nanos)),
        }
    }

    /// The limit for one operation that begins now.
    #[inline]
    pub fn limit(&self) -> Limit {
        self.get().into()
    }

    /// Sets or takes away the limit of later operations.
    ///
    /// # Errors
    /// `InvalidInput` for a limit of zero, as in std.
    pub fn set(&self, limit: Option<Duration>) -> io::Result<()> {
        let nanos = match limit {
            None => 0,
            Some(Duration::ZERO) => {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidInput,
                    "a time-out of zero: use the operation's try_ form, or None for no time-out",
                ));
            }
            Some(limit) => u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX),
        };
        self.limit.store(nanos, Relaxed);
        Ok(())
    }
}

impl Clone for Patience {
    /// One of its own, with the same limit.
    fn clone(&self) -> Self {
        Self {
            limit: AtomicU64::new(self.limit.load(Relaxed)),
        }
    }
}
