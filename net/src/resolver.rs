//! [`Resolver`]: from host names to addresses, without blocking a worker.
//!
//! Nouns: to *ask* is the blocking call, `getaddrinfo` or what stands in for it; it happens on a
//! thread of the resolver's own pool. A *flight* is one ask that is queued or under way, with those
//! who wait for it. An *answer* is addresses or an error; the cache keeps both.
//!
//! A name in the table:
//! | from | to | who |
//! |---|---|---|
//! | absent, or an answer that is too old | flight | the first who wants it, who also starts the job |
//! | flight | answer | the job, at its end |
//! | flight | absent | the job, if it panics, cannot be started, or finds that nobody waits any more |
//! | answer | absent | the eldest, when there are too many |
//! | any | absent | `clear`; a flight goes on for those who wait, and leaves nothing behind |
//!
//! Invariants
//! - At most one flight for a name is in the table; a job changes its own only.
//! - No user code runs under the lock, and nobody parks.
//! - An answer is as old as the distance of its clock to the caller's: a virtual clock that is
//!   ahead makes answers that are too old for others, not eternal ones.
//!
//! Rejected: the runtime's pool for blocking jobs (a name server that is silent would hold all of
//! its threads); the asker's task as the one that asks (killed, it would take the look-up along);
//! a resolver that speaks DNS itself (it would not see what `nsswitch.conf` says: files, mDNS, VPNs).

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use sward_runtime::sync::{Abandoned, Promise, Setter, ShortLock, promise};
use sward_runtime::{BlockingPool, now, on_worker_stack};

use crate::host;

/// Returns the addresses of a host, by the process-wide [`Resolver`] (gevent's
/// `socket.getaddrinfo`).
///
/// Numeric addresses, also in brackets and with a scope (`fe80::1%eth0`), need no look-up.
///
/// # Blocking
/// Parks under [`WaitKind::OnceValue`](sward_runtime::WaitKind::OnceValue) while the name is looked
/// up; honours kill and `timeout`. In a task that unwinds it blocks the worker.
///
/// # Errors
/// `InvalidInput` for what can be no host name; what the system says of the name.
///
/// # Cancel safety
/// Killed or timed out, it leaves the look-up to the others who wait for the same name, and its
/// answer to those who come later.
///
/// # Examples
/// ```
/// let addresses = sward_net::lookup_host("127.0.0.1", 80)?;
/// assert_eq!(addresses, ["127.0.0.1:80".parse().unwrap()]);
/// assert!(!sward_net::lookup_host("localhost", 80)?.is_empty());
/// # std::io::Result::Ok(())
/// ```
pub fn lookup_host(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    Resolver::global().lookup_host(host, port)
}

/// Looks up host names on threads of its own, and keeps the answers for a short time.
///
/// Those who want the same name at the same time share one look-up. [`lookup_host`] and all that
/// takes a name use the one that [`global`](Self::global) returns.
///
/// # Examples
/// A table of one's own in place of the system's resolver:
/// ```
/// use std::io::{Error, ErrorKind};
/// use std::net::IpAddr;
/// use sward_net::Resolver;
/// let resolver = Resolver::builder()
///     .with(|name| match name {
///         "db" => Ok(vec![IpAddr::from([10, 0, 0, 7])]),
///         _ => Err(Error::new(ErrorKind::NotFound, "it is not in the table")),
///     })
///     .build();
/// assert_eq!(resolver.lookup_host("DB", 5432)?, ["10.0.0.7:5432".parse().unwrap()]);
/// # std::io::Result::Ok(())
/// ```
pub struct Resolver {
    pool: BlockingPool,
    shared: Arc<Shared>,
    /// A fork leaves flights behind that never end.
    process: u32,
}

/// The knobs of a [`Resolver`].
#[must_use = "a builder does nothing until `build`"]
pub struct ResolverBuilder {
    ttl: Duration,
    negative_ttl: Duration,
    capacity: usize,
    threads: usize,
    ask: Box<Ask>,
}

type Ask = dyn Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync;

struct Shared {
    table: ShortLock<Table>,
    ttl: Duration,
    negative_ttl: Duration,
    capacity: usize,
    ask: Box<Ask>,
}

#[derive(Default)]
struct Table {
    names: HashMap<Arc<str>, Entry>,
    /// Those with an answer, the eldest first.
    answered: BTreeMap<u64, Arc<str>>,
    /// The number of the next answer.
    next: u64,
}

enum Entry {
    Flight(Arc<Flight>),
    Known {
        answer: Answer,
        at: Instant,
        number: u64,
    },
}

enum Found {
    Answer(Answer),
    Flight(Wait),
}

struct Flight {
    answer: Promise<Answer>,
    waiting: AtomicUsize,
}

/// Addresses with port 0; they may have a scope.
type Answer = Result<Arc<[SocketAddr]>, Failure>;

/// An `io::Error` that can be kept.
#[derive(Clone)]
struct Failure {
    kind: io::ErrorKind,
    text: Arc<str>,
}

impl Resolver {
    /// Returns the one of this process, with the system's resolver and the default settings.
    pub fn global() -> &'static Self {
        // Made without a wait, so std's will do.
        static GLOBAL: LazyLock<Resolver> = LazyLock::new(|| Resolver::builder().build());
        &GLOBAL
    }

    /// Returns the knobs: by default the system's resolver, 8 threads, 1,000 names, 10 s for an
    /// answer and 1 s for an error.
    pub fn builder() -> ResolverBuilder {
        ResolverBuilder {
            ttl: Duration::from_secs(10),
            negative_ttl: Duration::from_secs(1),
            capacity: 1_000,
            threads: 8,
            ask: Box::new(|name| Ok((name, 0).to_socket_addrs()?.collect())),
        }
    }

    /// Returns the addresses of a host, in the order in which they should be tried; see
    /// [`lookup_host`](fn@lookup_host).
    ///
    /// # Blocking
    /// As the function.
    ///
    /// # Errors
    /// As the function.
    pub fn lookup_host(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        if let Some(address) = host::numeric(host, port)? {
            return Ok(vec![address]);
        }
        let addresses = self.addresses(&host::checked(host)?);
        let addresses = addresses.map_err(|e| io::Error::new(e.kind, &*e.text))?;
        let with_port = |&(mut address): &SocketAddr| {
            address.set_port(port);
            address
        };
        Ok(addresses.iter().map(with_port).collect())
    }

    /// Forgets all answers. Look-ups that are under way end for those who wait for them.
    ///
    /// # Blocking
    /// Never parks.
    pub fn clear(&self) {
        let mut table = self.shared.table.lock();
        let next = table.next;
        let old = std::mem::take(&mut *table);
        table.next = next;
        drop(table);
        drop(old);
    }

    fn addresses(&self, name: &Arc<str>) -> Answer {
        if let Some(answer) = self.shared.table.lock().answer(name, &self.shared) {
            return answer;
        }
        if std::thread::panicking() {
            // It may not park. Nobody else of this worker is needed for it.
            return on_worker_stack(|| self.shared.ask(name));
        }
        if self.process != std::process::id() {
            return Err(Failure::other(
                name,
                "this process was forked after its Resolver was made: make one in the child, or \
                 start a program there (exec)",
            ));
        }
        let wait = match self.join_or_start(name)? {
            Found::Answer(answer) => return answer,
            Found::Flight(wait) => wait,
        };
        match wait.0.answer.get() {
            Ok(answer) => answer.clone(),
            Err(Abandoned) => Err(Failure::other(
                name,
                "it was given up: the resolver panicked, or no thread could be had for it",
            )),
        }
    }

    /// What is known of a name, or its flight, which the first who wants it starts.
    fn join_or_start(&self, name: &Arc<str>) -> Result<Found, Failure> {
        let mut table = self.shared.table.lock();
        // It may have come since the last look.
        if let Some(answer) = table.answer(name, &self.shared) {
            return Ok(Found::Answer(answer));
        }
        if let Some(Entry::Flight(flight)) = table.names.get(name) {
            return Ok(Found::Flight(Wait::new(flight)));
        }
        table.remove(name);
        let (setter, answer) = promise();
        let flight = Arc::new(Flight {
            answer,
            waiting: AtomicUsize::new(0),
        });
        let wait = Wait::new(&flight);
        let entry = Entry::Flight(flight.clone());
        table.names.insert(name.clone(), entry);
        drop(table);
        let job = Job {
            shared: self.shared.clone(),
            name: name.clone(),
            flight,
            setter: Some(setter),
            begun: (now(), Instant::now()),
        };
        // Without a thread the job is dropped, and takes its flight along.
        match self.pool.try_spawn(move || job.run()) {
            Ok(_) => Ok(Found::Flight(wait)),
            Err(e) => Err(Failure::other(name, &e.to_string())),
        }
    }
}

impl ResolverBuilder {
    /// Sets how long addresses are kept. The system's resolver does not tell what the name server
    /// said of that. Zero: not at all.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// Sets how long errors are kept. Zero: not at all.
    pub fn negative_ttl(mut self, ttl: Duration) -> Self {
        self.negative_ttl = ttl;
        self
    }

    /// Sets how many names are kept at the most; a new one then takes the place of the eldest.
    pub fn capacity(mut self, names: usize) -> Self {
        self.capacity = names;
        self
    }

    /// Sets how many names may be looked up at a time; more wait in line.
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = threads;
        self
    }

    /// Sets what looks names up instead of the system's resolver. It gets them in lower case, is
    /// called on a thread of the resolver, may block, and must not ask the same resolver.
    pub fn with<F>(mut self, look_up: F) -> Self
    where
        F: Fn(&str) -> io::Result<Vec<IpAddr>> + Send + Sync + 'static,
    {
        let with_port = |ip| SocketAddr::new(ip, 0);
        self.ask = Box::new(move |name| Ok(look_up(name)?.into_iter().map(with_port).collect()));
        self
    }

    /// Returns the resolver; it has no threads yet.
    ///
    /// # Panics
    /// If it may have no threads.
    pub fn build(self) -> Resolver {
        Resolver {
            pool: BlockingPool::named("sward-dns", self.threads),
            shared: Arc::new(Shared {
                table: ShortLock::new(Table::default()),
                ttl: self.ttl,
                negative_ttl: self.negative_ttl,
                capacity: self.capacity,
                ask: self.ask,
            }),
            process: std::process::id(),
        }
    }
}

impl Table {
    /// What is known of a name, if that is not too old.
    fn answer(&self, name: &str, shared: &Shared) -> Option<Answer> {
        let Some(Entry::Known { answer, at, .. }) = self.names.get(name) else {
            return None;
        };
        let now = now();
        let ahead = at.saturating_duration_since(now);
        let age = now.saturating_duration_since(*at).max(ahead);
        (age < shared.ttl_of(answer)).then(|| answer.clone())
    }

    fn remove(&mut self, name: &str) {
        if let Some(Entry::Known { number, .. }) = self.names.remove(name) {
            self.answered.remove(&number);
        }
    }

    fn insert(&mut self, name: &Arc<str>, answer: Answer, at: Instant) {
        let number = self.next;
        self.next += 1;
        self.answered.insert(number, name.clone());
        let known = Entry::Known { answer, at, number };
        self.names.insert(name.clone(), known);
    }
}

impl Shared {
    fn ttl_of(&self, answer: &Answer) -> Duration {
        match answer {
            Ok(_) => self.ttl,
            Err(_) => self.negative_ttl,
        }
    }

    fn ask(&self, name: &str) -> Answer {
        match (self.ask)(name) {
            Ok(addresses) if addresses.is_empty() => {
                let none = io::Error::new(io::ErrorKind::NotFound, "it has no address");
                Err(Failure::new(name, &none))
            }
            Ok(addresses) => Ok(addresses.into()),
            Err(e) => Err(Failure::new(name, &e)),
        }
    }
}

impl Failure {
    /// What the system says of a name.
    #[cold]
    fn new(name: &str, e: &io::Error) -> Self {
        let text = format!(
            "look up {name:?}: {e} (look at /etc/hosts, /etc/resolv.conf and /etc/nsswitch.conf; \
             `getent ahosts {name}` asks the same)"
        );
        Self {
            kind: e.kind(),
            text: text.into(),
        }
    }

    #[cold]
    fn other(name: &str, what: &str) -> Self {
        Self {
            kind: io::ErrorKind::Other,
            text: format!("look up {name:?}: {what}").into(),
        }
    }
}

/// One who waits for a flight.
struct Wait(Arc<Flight>);

impl Wait {
    /// Under the lock.
    fn new(flight: &Arc<Flight>) -> Self {
        flight.waiting.fetch_add(1, Relaxed);
        Self(flight.clone())
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Relaxed);
    }
}

/// What a thread of the pool does for a flight. Dropped, it ends the flight.
struct Job {
    shared: Arc<Shared>,
    name: Arc<str>,
    flight: Arc<Flight>,
    setter: Option<Setter<Answer>>,
    /// By the clock of whoever started it, and by the real one.
    begun: (Instant, Instant),
}

impl Job {
    fn run(mut self) {
        let mut table = self.shared.table.lock();
        let wanted = self.flight.waiting.load(Relaxed) > 0;
        if !wanted {
            // In the same breath, or somebody could still join.
            self.leave(&mut table);
        }
        drop(table);
        if !wanted {
            return;
        }
        let answer = self.shared.ask(&self.name);
        let mut table = self.shared.table.lock();
        let mut eldest = None;
        if self.leave(&mut table) && !self.shared.ttl_of(&answer).is_zero() {
            let (begun, really) = self.begun;
            let at = begun + really.elapsed();
            table.insert(&self.name, answer.clone(), at);
            if table.answered.len() > self.shared.capacity {
                eldest = table.answered.pop_first();
            }
        }
        let forgotten = eldest.map(|(_, name)| table.names.remove(&name));
        drop(table);
        drop(forgotten);
        if let Some(setter) = self.setter.take() {
            setter.set(answer);
        }
    }

    /// Takes the flight out of the table; `false`: it is not there any more.
    fn leave(&self, table: &mut Table) -> bool {
        let there = match table.names.get(&self.name) {
            Some(Entry::Flight(flight)) => Arc::ptr_eq(flight, &self.flight),
            _ => false,
        };
        if there {
            table.names.remove(&self.name);
        }
        there
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        if self.setter.is_some() {
            self.leave(&mut self.shared.table.lock());
        }
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let table = self.shared.table.lock();
        let (known, names) = (table.answered.len(), table.names.len());
        drop(table);
        f.debug_struct("Resolver")
            .field("ttl", &self.shared.ttl)
            .field("negative_ttl", &self.shared.negative_ttl)
            .field("capacity", &self.shared.capacity)
            .field("known", &known)
            .field("under_way", &(names - known))
            .field("pool", &self.pool)
            .finish()
    }
}

impl fmt::Debug for ResolverBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResolverBuilder")
            .field("ttl", &self.ttl)
            .field("negative_ttl", &self.negative_ttl)
            .field("capacity", &self.capacity)
            .field("threads", &self.threads)
            .finish_non_exhaustive()
    }
}
