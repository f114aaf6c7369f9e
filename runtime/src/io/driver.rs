//! Drivers (design R11): objects that a worker calls when their descriptor is ready or their time
//! has come, without a task. Ten thousand idle connections are ten thousand of these.
//!
//! A driver, its descriptor and the handle's state are one heap block, which the worker's poller
//! refers to. It is called under its own [`ShortLock`], so by one thread at a time: by its worker;
//! by the monitor's thread while the worker is stalled, as if it were ready for everything
//! (spurious calls are legal); or by who uses [`DriverHandle::with`].
//!
//! Invariants
//! - `body` and `registered` go together, under the lock: who takes them deregisters first and
//!   drops the body after the lock is given back.
//! - The monitor's thread never touches timers or the poller's events: it leaves a message.
//! - A call never parks: on the worker it is a callback of the hub, on the monitor's thread
//!   `current::forbid_waiting` says the same.
//!
//! Rejected: a task for each (a stack); callbacks of closures (a heap block for each event).

use std::any::type_name;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{
    AtomicBool,
    Ordering::{AcqRel, SeqCst},
};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use mio::unix::SourceFd;

use super::entry::home_for_caller;
use super::fault;
use super::safe::IoSafe;
use super::sys;
use crate::clock::{self, Nanos};
use crate::error::payload_text;
use crate::fork::Epoch;
use crate::hub::current::{self, Caller};
use crate::hub::poller::{After, Ready, Subscriber, Token};
use crate::hub::timers::TimerKey;
use crate::hub::worker::{Mail, WorkerShared};
use crate::report;
use crate::sync::short_lock::{ShortGuard, ShortLock};
use crate::unwinding::discard;

/// An object that its worker calls without a task; see [`drive`].
pub trait Driver: Send + 'static {
    /// What it reads from and writes to.
    type Io: AsFd + IoSafe + Send + 'static;

    /// Does what can be done now, and says when to be called again.
    ///
    /// `ready` says what has become ready **since the last call**; it is empty for the first call
    /// and for [`DriverHandle::call`]. So a driver goes on until the system says `WouldBlock`, or
    /// remembers that it did not, or returns [`Next::Again`]. It may be called without a reason:
    /// while its worker is stalled it is, by another thread.
    ///
    /// It runs in place of all tasks of its worker, so it must be short. It must not wait: a call
    /// that would park panics. Its panic ends this driver only, with a line on stderr.
    fn drive(&mut self, io: &Self::Io, ready: Ready) -> Next;
}

/// When a driver wants to be called again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Next {
    /// When its descriptor becomes ready; a time that was set is forgotten.
    Wait,
    /// When its descriptor becomes ready, and at that time at the latest.
    At(Instant),
    /// After others have had their turn; a time that was set stays.
    Again,
    /// Never: driver and descriptor are dropped.
    Close,
}

struct Body<D: Driver> {
    driver: D,
    io: D::Io,
}

struct Home {
    worker: &'static WorkerShared,
    token: Token,
}

struct State<D: Driver> {
    body: Option<Body<D>>,
    /// Whether the descriptor is registered at home.
    registered: bool,
    /// What the worker knows of the time that was set.
    at: Option<Nanos>,
}

struct Entry<D: Driver> {
    fd: RawFd,
    epoch: Epoch,
    /// Set once, before anybody else has the entry. Its token finds nobody once the driver is gone.
    home: OnceLock<Home>,
    /// A message to the worker is on its way.
    called: AtomicBool,
    state: ShortLock<State<D>>,
}

/// Hands an object and its descriptor to a worker: that of the calling task, or on an ordinary
/// thread one of the default runtime's.
///
/// The descriptor is made non-blocking and watched in both directions. The first call comes soon,
/// without a reason. The driver lives until it returns [`Next::Close`], panics, or its worker ends,
/// whatever becomes of the handle.
///
/// # Errors
/// For what `epoll` cannot watch; in a forked child.
///
/// # Examples
/// A counter of the bytes that come in.
/// ```
/// use std::io::{ErrorKind, PipeReader, Read, Write};
/// use sward_runtime::io::{Driver, Next, Ready, drive};
/// use sward_runtime::sync::{Sender, unbounded};
///
/// struct Count(usize, Sender<usize>);
/// impl Driver for Count {
///     type Io = PipeReader;
///     fn drive(&mut self, mut io: &PipeReader, _ready: Ready) -> Next {
///         let mut buffer = [0; 512];
///         loop {
///             match io.read(&mut buffer) {
///                 Ok(0) => {
///                     let _ = self.1.try_send(self.0);
///                     return Next::Close;
///                 }
///                 Ok(n) => self.0 += n,
///                 Err(e) if e.kind() == ErrorKind::WouldBlock => return Next::Wait,
///                 Err(_) => return Next::Close,
///             }
///         }
///     }
/// }
///
/// let (reader, mut writer) = std::io::pipe()?;
/// let (tell, told) = unbounded();
/// drive(reader, Count(0, tell))?;
/// writer.write_all(b"green")?;
/// drop(writer);
/// assert_eq!(told.recv(), Ok(5));
/// # std::io::Result::Ok(())
/// ```
pub fn drive<D: Driver>(io: D::Io, driver: D) -> io::Result<DriverHandle<D>> {
    let worker = home_for_caller()?;
    sys::set_nonblocking(io.as_fd())?;
    let fd = io.as_fd().as_raw_fd();
    let entry = Arc::new(Entry {
        fd,
        epoch: Epoch::current(),
        home: OnceLock::new(),
        called: AtomicBool::new(true),
        state: ShortLock::new(State {
            body: Some(Body { driver, io }),
            registered: false,
            at: None,
        }),
    });
    // Held: an event that comes at once waits for the home.
    let mut state = entry.state.lock();
    let token = worker
        .poller
        .register(fd, entry.clone())
        .map_err(|e| fault::registration(fd, e));
    let token = match token {
        Ok(token) => token,
        Err(e) => {
            let body = state.body.take();
            drop(state);
            drop(body);
            return Err(e);
        }
    };
    let _ = entry.home.set(Home { worker, token });
    state.registered = true;
    drop(state);
    worker.send(Mail::Call(token));
    Ok(DriverHandle { entry })
}

/// Drops a driver, whose destructor may panic.
fn drop_body<D: Driver>(body: Option<Body<D>>) {
    discard(catch_unwind(AssertUnwindSafe(|| drop(body))));
}

impl<D: Driver> Entry<D> {
    /// Takes the driver out, deregistered.
    fn take(&self, state: &mut State<D>) -> (Option<Body<D>>, Option<TimerKey>) {
        let timer = self
            .home
            .get()
            .filter(|_| std::mem::take(&mut state.registered))
            .and_then(|home| home.worker.poller.deregister(self.fd, home.token));
        (state.body.take(), timer)
    }

    /// Asks the worker to call, if it has not been asked. Takes no lock.
    fn call_soon(&self) {
        if let Some(home) = self.home.get()
            && !self.called.swap(true, AcqRel)
        {
            home.worker.send(Mail::Call(home.token));
        }
    }

    /// Calls the driver, if it is still there, and gives the lock back.
    fn drive(&self, mut state: ShortGuard<'_, State<D>>, ready: Ready, here: bool) -> After {
        let Some(Body { driver, io }) = &mut state.body else {
            return After::Nothing;
        };
        let next = catch_unwind(AssertUnwindSafe(|| driver.drive(io, ready)));
        let at = match &next {
            Ok(Next::Wait) => None,
            Ok(Next::At(at)) => Some(clock::nanos(*at)),
            Ok(Next::Again) if here => return After::Again,
            Ok(Next::Again) => {
                self.call_soon();
                return After::Nothing;
            }
            Ok(Next::Close) | Err(_) => {
                let (body, timer) = self.take(&mut state);
                drop(state);
                if let Err(payload) = next {
                    report::line(&format!(
                        "sward: the driver {} of descriptor {} panicked and is closed: {}",
                        type_name::<D>(),
                        self.fd,
                        payload_text(payload.as_ref())
                    ));
                    discard::<()>(Err(payload));
                }
                drop_body(body);
                return After::Closed(timer);
            }
        };
        if !here {
            if state.at != at {
                // The worker's own call will set it.
                self.call_soon();
            }
            return After::Nothing;
        }
        if std::mem::replace(&mut state.at, at) == at {
            return After::Nothing;
        }
        After::At(at)
    }
}

impl<D: Driver> Subscriber for Entry<D> {
    fn call(&self, ready: Ready) -> After {
        let mut state = self.state.lock();
        // Before the driver runs: what is asked for from now on needs another call.
        self.called.store(false, SeqCst);
        if ready.contains(Ready::DUE) {
            state.at = None;
        }
        self.drive(state, ready, true)
    }

    fn call_stalled(&self) {
        // Held: somebody drives it right now.
        if let Some(state) = self.state.try_lock() {
            let _ = self.drive(state, Ready::READABLE | Ready::WRITABLE | Ready::DUE, false);
        }
    }

    fn orphan(&self, token: Token, registry: &mio::Registry) {
        let mut state = self.state.lock();
        if !state.registered || self.home.get().is_none_or(|home| home.token != token) {
            return;
        }
        let _ = registry.deregister(&mut SourceFd(&self.fd));
        state.registered = false;
        let body = state.body.take();
        drop(state);
        drop_body(body);
    }

    fn is_waited_for(&self) -> bool {
        // It may wake anybody.
        true
    }
}

/// Leads to a driver, from any task or thread. Dropping it changes nothing.
pub struct DriverHandle<D: Driver> {
    entry: Arc<Entry<D>>,
}

impl<D: Driver> DriverHandle<D> {
    /// Gives the driver and its descriptor to `f`, while nobody else uses them. `None`: it is
    /// closed.
    ///
    /// What `f` changes about when the driver wants to be called takes effect at its next call:
    /// see [`call`](Self::call).
    ///
    /// # Blocking
    /// Blocks the thread while another one uses the driver, as [`ShortLock::lock`] does.
    ///
    /// # Panics
    /// At a park inside `f`, in a task; when `f` uses this driver's handle other than for a
    /// [`call`](Self::call); with what `f` panics
    /// with (the driver stays).
    pub fn with<R>(&self, f: impl FnOnce(&mut D, &D::Io) -> R) -> Option<R> {
        if self.entry.epoch.is_stale() {
            return None;
        }
        let mut state = self.entry.state.lock();
        let Body { driver, io } = state.body.as_mut()?;
        let call = || f(driver, io);
        Some(match current::caller() {
            Caller::Task(_, fiber) => fiber.header().forbid_parks(call),
            Caller::Hub(_) | Caller::Thread => call(),
        })
    }

    /// Lets the worker call the driver soon, without a reason. Any number of these before that
    /// call are one.
    ///
    /// # Blocking
    /// Never; it takes no lock, so the driver itself may be calling what calls this.
    pub fn call(&self) {
        if !self.entry.epoch.is_stale() {
            self.entry.call_soon();
        }
    }

    /// Ends the driver and gives it back, deregistered. `None`: it is closed.
    ///
    /// # Blocking
    /// As [`with`](Self::with).
    pub fn take(&self) -> Option<(D, D::Io)> {
        if self.entry.epoch.is_stale() {
            return None;
        }
        // A timer that is left finds nobody.
        let (body, _timer) = self.entry.take(&mut self.entry.state.lock());
        body.map(|body| (body.driver, body.io))
    }

    /// Returns whether the driver has ended.
    pub fn is_closed(&self) -> bool {
        self.entry.epoch.is_stale() || self.entry.state.lock().body.is_none()
    }
}

impl<D: Driver> Clone for DriverHandle<D> {
    fn clone(&self) -> Self {
        Self {
            entry: self.entry.clone(),
        }
    }
}

impl<D: Driver> fmt::Debug for DriverHandle<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DriverHandle")
            .field("driver", &type_name::<D>())
            .field("fd", &self.entry.fd)
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::io::{PipeReader, Read, Write};
    use std::sync::atomic::AtomicUsize;
    use std::time::Duration;

    use super::*;
    use crate::hub::current;
    use crate::runtime::Runtime;
    use crate::sync::unbounded;
    use crate::time::sleep;

    /// Counts calls and bytes; sets a time at the third call; waits, against the rules, at the
    /// fifth byte.
    struct Counts {
        calls: Arc<AtomicUsize>,
        bytes: Arc<AtomicUsize>,
        at: Option<Instant>,
        due: Arc<AtomicBool>,
    }

    impl Driver for Counts {
        type Io = PipeReader;

        fn drive(&mut self, mut io: &PipeReader, ready: Ready) -> Next {
            self.calls.fetch_add(1, SeqCst);
            let worker = current::hub().is_some();
            if worker && ready.contains(Ready::DUE) {
                self.due.store(true, SeqCst);
            }
            let mut byte = [0];
            while let Ok(1) = io.read(&mut byte) {
                if self.bytes.fetch_add(1, SeqCst) == 4 {
                    sleep(Duration::from_millis(1));
                }
                self.at = Some(clock::now() + Duration::from_millis(1));
            }
            self.at.map_or(Next::Wait, Next::At)
        }
    }

    #[test]
    fn driven_while_the_worker_is_stalled() {
        let runtime = Runtime::builder().workers(1).build().unwrap();
        let (tell, told) = unbounded();
        let go = Arc::new(AtomicBool::new(false));
        let going = go.clone();
        let stalls = runtime.spawn(move || {
            let (reader, writer) = io::pipe().unwrap();
            let (calls, bytes) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
            let due = Arc::new(AtomicBool::new(false));
            let counts = Counts {
                calls: calls.clone(),
                bytes: bytes.clone(),
                at: None,
                due: due.clone(),
            };
            let handle = drive(reader, counts).unwrap();
            let worker = current::hub().unwrap().shared;
            tell.send((worker, handle, writer, calls, bytes, due))
                .unwrap();
            while !going.load(SeqCst) {
                std::hint::spin_loop();
            }
        });
        let (worker, handle, mut writer, calls, bytes, due) = told.recv().unwrap();
        assert_eq!(calls.load(SeqCst), 0, "the worker has had no time");
        worker.drive_stalled();
        assert_eq!((calls.load(SeqCst), bytes.load(SeqCst)), (1, 0));
        writer.write_all(b"ab").unwrap();
        worker.drive_stalled();
        assert_eq!((calls.load(SeqCst), bytes.load(SeqCst)), (2, 2));
        // The time that it set then is kept by the worker, once that runs again.
        assert!(!due.load(SeqCst));
        go.store(true, SeqCst);
        stalls.join().unwrap();
        while !due.load(SeqCst) {
            std::thread::yield_now();
        }
        // While somebody has it, it is left alone.
        let before = handle.with(|driver, _| {
            driver.at = None;
            worker.drive_stalled();
            driver.calls.load(SeqCst)
        });
        assert!(before.is_some());
        // A wait on the monitor's thread is refused as on the worker.
        writer.write_all(b"cde").unwrap();
        while !handle.is_closed() {
            worker.drive_stalled();
        }
        assert_eq!(bytes.load(SeqCst), 5);
        sleep(Duration::from_micros(10));
        assert_eq!(runtime.shutdown(Duration::from_secs(10)), 0);
    }
}
