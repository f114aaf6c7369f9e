//! libzmq's sockets as [`Sock`]. Each is behind a lock, so that a test can hand it to threads; libzmq
//! itself wants one thread at a time.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crate::support::{
    DISCONNECTED, EAGAIN, Frames, Kind, LONG, Library, MONITOR_STOPPED, Opt, SUCCEEDED, Sock,
    Socket,
};

/// Sockets of libzmq, in a context of their own.
pub(crate) struct Libzmq(pub zmq::Context);

impl Default for Libzmq {
    fn default() -> Self {
        Self(zmq::Context::new())
    }
}

impl Library for Libzmq {
    fn socket(&self, kind: Kind) -> Socket {
        Box::new(Theirs::new(&self.0, kind, 0xFFFF))
    }

    fn unwatched(&self, kind: Kind) -> Socket {
        Box::new(Theirs::new(&self.0, kind, MONITOR_STOPPED as i32))
    }
}

pub(crate) struct Theirs {
    inner: Mutex<Inner>,
    kind: Kind,
}

struct Inner {
    socket: Option<zmq::Socket>,
    monitor: Arc<Mutex<zmq::Socket>>,
    seen: Vec<(u32, u64)>,
}

pub fn kind_of(kind: Kind) -> zmq::SocketType {
    match kind {
        Kind::Pair => zmq::PAIR,
        Kind::Pub => zmq::PUB,
        Kind::Sub => zmq::SUB,
        Kind::Req => zmq::REQ,
        Kind::Rep => zmq::REP,
        Kind::Dealer => zmq::DEALER,
        Kind::Router => zmq::ROUTER,
        Kind::Pull => zmq::PULL,
        Kind::Push => zmq::PUSH,
        Kind::XPub => zmq::XPUB,
        Kind::XSub => zmq::XSUB,
        Kind::Stream => zmq::STREAM,
    }
}

fn ms(limit: Duration) -> i32 {
    i32::try_from(limit.as_millis()).unwrap()
}

/// libzmq's number of the option, and its value.
fn encode(option: Opt) -> (i32, Vec<u8>) {
    let int = |number: i32, value: i32| (number, value.to_ne_bytes().to_vec());
    let bool = |number: i32, value: bool| (number, i32::from(value).to_ne_bytes().to_vec());
    match option {
        Opt::RoutingId(id) => (5, id),
        Opt::SendHwm(n) => int(23, n),
        Opt::RecvHwm(n) => int(24, n),
        Opt::Linger(n) => int(17, n),
        Opt::ReconnectIvl(n) => int(18, n),
        Opt::ReconnectIvlMax(n) => int(21, n),
        Opt::Immediate(on) => bool(39, on),
        Opt::MaxMsgSize(n) => (22, n.to_ne_bytes().to_vec()),
        Opt::RouterMandatory(on) => bool(33, on),
        Opt::RouterHandover(on) => bool(56, on),
        Opt::ProbeRouter(on) => bool(51, on),
        Opt::ReqCorrelate(on) => bool(52, on),
        Opt::ReqRelaxed(on) => bool(53, on),
        Opt::Conflate(on) => bool(54, on),
        Opt::XpubVerbose(on) => bool(40, on),
        Opt::XpubVerboser(on) => bool(78, on),
        Opt::XpubNodrop(on) => bool(69, on),
        Opt::XpubManual(on) => bool(71, on),
        Opt::XpubWelcome(text) => (72, text),
        Opt::InvertMatching(on) => bool(74, on),
        Opt::StreamNotify(on) => bool(73, on),
        Opt::ConnectRoutingId(id) => (61, id),
        Opt::HeartbeatIvl(n) => int(75, n),
        Opt::HeartbeatTtl(n) => int(76, n),
        Opt::HeartbeatTimeout(n) => int(77, n),
        Opt::HandshakeIvl(n) => int(66, n),
        Opt::SendTimeout(n) => int(28, n),
        Opt::RecvTimeout(n) => int(27, n),
        Opt::Ipv6(on) => bool(42, on),
        Opt::SendBuffer(n) => int(11, n),
        Opt::RecvBuffer(n) => int(12, n),
        Opt::Tos(n) => int(57, n),
    }
}

impl Inner {
    fn socket(&self) -> &zmq::Socket {
        self.socket.as_ref().unwrap()
    }
}

impl Theirs {
    fn new(context: &zmq::Context, kind: Kind, events: i32) -> Self {
        let socket = context.socket(kind_of(kind)).unwrap();
        // A context waits at its end until everything is sent; tests that want that say so.
        socket.set_linger(0).unwrap();
        socket.set_rcvtimeo(ms(LONG)).unwrap();
        socket.set_sndtimeo(ms(LONG)).unwrap();
        let endpoint = format!("inproc://monitor-{:p}", &raw const socket);
        let endpoint = format!("{endpoint}-{}", crate::support::unique());
        socket.monitor(&endpoint, events).unwrap();
        let monitor = context.socket(zmq::PAIR).unwrap();
        monitor.set_linger(0).unwrap();
        monitor.connect(&endpoint).unwrap();
        Self {
            inner: Mutex::new(Inner {
                socket: Some(socket),
                monitor: Arc::new(Mutex::new(monitor)),
                seen: Vec::new(),
            }),
            kind,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Sends, as the flags say.
    fn send_with(&self, frames: Frames, flags: i32) -> Result<(), i32> {
        let sent = self.lock().socket().send_multipart(frames, flags);
        sent.map_err(|e| e.to_raw())
    }

    fn recv_with(&self, flags: i32) -> Result<Frames, i32> {
        self.lock()
            .socket()
            .recv_multipart(flags)
            .map_err(|e| e.to_raw())
    }

    fn wait(&self, events: u32, n: usize) -> Vec<(u32, u64)> {
        let begin = Instant::now();
        let inner = &mut *self.lock();
        let monitor = inner.monitor.clone();
        let monitor = monitor.lock().unwrap();
        loop {
            let there = inner
                .seen
                .iter()
                .filter(|(code, _)| code & events != 0)
                .count()
                >= n;
            let left = if there {
                0
            } else {
                ms(LONG.saturating_sub(begin.elapsed()))
            };
            if monitor.poll(zmq::POLLIN, left.into()).unwrap() == 0 {
                assert!(
                    there,
                    "{self:?}: not {n} times {events:#x}: {:x?}",
                    inner.seen
                );
                break;
            }
            let event = monitor.recv_multipart(0).unwrap();
            let code = u16::from_ne_bytes([event[0][0], event[0][1]]);
            let value = u32::from_ne_bytes(event[0][2..6].try_into().unwrap());
            inner.seen.push((code.into(), value.into()));
        }
        // The socket learns of its new pipes now, not at some later call.
        inner.socket().get_events().unwrap();
        inner.seen.clone()
    }
}

/// libzmq sends a monitor its last event while the socket ends, and waits for ever if nobody is there
/// to take it: then the socket never ends, nor does its context.
impl Drop for Theirs {
    fn drop(&mut self) {
        let inner = self
            .inner
            .get_mut()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        let Some(socket) = inner.socket.take() else {
            return;
        };
        let monitor = inner.monitor.clone();
        drop(socket);
        std::thread::spawn(move || {
            let monitor = monitor
                .lock()
                .unwrap_or_else(|poisoned| poisoned.into_inner());
            monitor.set_rcvtimeo(ms(LONG)).unwrap();
            while let Ok(event) = monitor.recv_multipart(0) {
                if u16::from_ne_bytes([event[0][0], event[0][1]]) == MONITOR_STOPPED as u16 {
                    return;
                }
            }
        });
    }
}

impl Sock for Theirs {
    fn set(&self, option: Opt) -> Result<(), i32> {
        let (number, value) = encode(option);
        set_option(self.lock().socket.as_mut().unwrap(), number, &value)
    }

    fn bind(&self, endpoint: &str) -> Result<String, i32> {
        let inner = self.lock();
        inner.socket().bind(endpoint).map_err(|e| e.to_raw())?;
        Ok(inner.socket().get_last_endpoint().unwrap().unwrap())
    }

    fn connect(&self, endpoint: &str) -> Result<(), i32> {
        self.lock()
            .socket()
            .connect(endpoint)
            .map_err(|e| e.to_raw())
    }

    fn unbind(&self, endpoint: &str) -> Result<(), i32> {
        self.lock()
            .socket()
            .unbind(endpoint)
            .map_err(|e| e.to_raw())
    }

    fn disconnect(&self, endpoint: &str) -> Result<(), i32> {
        self.lock()
            .socket()
            .disconnect(endpoint)
            .map_err(|e| e.to_raw())
    }

    fn last_endpoint(&self) -> String {
        self.lock().socket().get_last_endpoint().unwrap().unwrap()
    }

    fn send(&self, frames: Frames) -> Result<(), i32> {
        self.send_with(frames, 0)
    }

    fn try_send(&self, frames: Frames) -> Result<(), i32> {
        self.send_with(frames, zmq::DONTWAIT)
    }

    fn recv(&self) -> Result<Frames, i32> {
        self.recv_with(0)
    }

    fn try_recv(&self) -> Result<Frames, i32> {
        self.recv_with(zmq::DONTWAIT)
    }

    fn recv_for(&self, limit: Duration) -> Result<Frames, i32> {
        let inner = self.lock();
        match inner.socket().poll(zmq::POLLIN, ms(limit).into()) {
            Ok(0) => Err(EAGAIN),
            Ok(_) => inner
                .socket()
                .recv_multipart(zmq::DONTWAIT)
                .map_err(|e| e.to_raw()),
            Err(e) => Err(e.to_raw()),
        }
    }

    fn subscribe(&self, topic: &[u8]) -> Result<(), i32> {
        if self.kind == Kind::XSub {
            return self.send(vec![[&[1], topic].concat()]);
        }
        self.lock()
            .socket()
            .set_subscribe(topic)
            .map_err(|e| e.to_raw())
    }

    fn unsubscribe(&self, topic: &[u8]) -> Result<(), i32> {
        if self.kind == Kind::XSub {
            return self.send(vec![[&[0], topic].concat()]);
        }
        self.lock()
            .socket()
            .set_unsubscribe(topic)
            .map_err(|e| e.to_raw())
    }

    fn wait_for(&self, events: u32, n: usize) -> Vec<(u32, u64)> {
        self.wait(events, n)
    }

    fn wait_up(&self, n: usize) {
        self.wait(SUCCEEDED, n);
    }

    fn wait_down(&self, n: usize) {
        self.wait(DISCONNECTED, n);
    }

    fn close(self: Box<Self>) {}
}

impl fmt::Debug for Theirs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "libzmq's {:?}", self.kind)
    }
}

/// The crate `zmq` has no methods for some options.
#[allow(unsafe_code)]
fn set_option(socket: &mut zmq::Socket, number: i32, value: &[u8]) -> Result<(), i32> {
    // SAFETY: the socket is there for as long as it is borrowed; the value is read, not kept.
    let status = unsafe {
        zmq_sys::zmq_setsockopt(
            socket.as_mut_ptr(),
            number,
            value.as_ptr().cast(),
            value.len(),
        )
    };
    if status == 0 {
        return Ok(());
    }
    // SAFETY: it takes nothing, and returns the number of this thread's last error.
    Err(unsafe { zmq_sys::zmq_errno() })
}
