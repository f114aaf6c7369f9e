//! Our sockets as [`Sock`].

use std::fmt;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use sward_mq::{Context, Frame, Message, Monitor, Options, Socket as Ours};

use super::{DISCONNECTED, Frames, Kind, LONG, Library, Opt, SUCCEEDED, Sock, Socket, until};

/// Sockets of this crate, in a context of their own.
#[derive(Default)]
pub struct Sward(pub Context);

impl Library for Sward {
    fn socket(&self, kind: Kind) -> Socket {
        Box::new(Wrapped::new(&self.0, kind, Options::new()))
    }
}

/// One of them, with what its monitor has told so far.
pub struct Wrapped {
    pub socket: Ours,
    kind: Kind,
    monitor: Monitor,
    seen: Mutex<Vec<(u32, u64)>>,
    inproc: Mutex<bool>,
}

impl Wrapped {
    pub fn new(context: &Context, kind: Kind, options: Options) -> Self {
        let options = options.send_timeout(LONG).recv_timeout(LONG);
        let socket = context.socket_with(kind, options).unwrap();
        let monitor = socket.monitor();
        Self {
            socket,
            kind,
            monitor,
            seen: Mutex::default(),
            inproc: Mutex::new(false),
        }
    }

    fn wait(&self, events: u32, n: usize) -> Vec<(u32, u64)> {
        let begin = Instant::now();
        let mut seen = self.seen.lock().unwrap();
        while seen.iter().filter(|(code, _)| code & events != 0).count() < n {
            let left = LONG.saturating_sub(begin.elapsed());
            let Ok(event) = self.monitor.recv_timeout(left) else {
                panic!("{self:?}: not {n} times {events:#x} within {LONG:?}: {seen:x?}");
            };
            seen.push((event.code(), event.value()));
        }
        while let Ok(event) = self.monitor.try_recv() {
            seen.push((event.code(), event.value()));
        }
        seen.clone()
    }

    fn note(&self, endpoint: &str) {
        *self.inproc.lock().unwrap() |= endpoint.starts_with("inproc");
    }
}

fn frames(message: &Message) -> Frames {
    message
        .frames()
        .iter()
        .map(|frame| frame.as_slice().to_vec())
        .collect()
}

fn message(frames: Frames) -> Message {
    Message::from(frames.into_iter().map(Frame::from).collect::<Vec<Frame>>())
}

fn ms(value: i32) -> Option<Duration> {
    u64::try_from(value).ok().map(Duration::from_millis)
}

/// Zero is none for these.
fn ms_or_none(value: i32) -> Option<Duration> {
    ms(value).filter(|value| !value.is_zero())
}

pub fn option(options: Options, option: Opt) -> Options {
    let size = |n: i32| usize::try_from(n).unwrap();
    match option {
        Opt::RoutingId(id) => options.routing_id(id),
        Opt::SendHwm(n) => options.send_hwm(size(n)),
        Opt::RecvHwm(n) => options.recv_hwm(size(n)),
        Opt::Linger(limit) => options.linger(ms(limit)),
        Opt::ReconnectIvl(n) => options.reconnect_interval(ms(n)),
        Opt::ReconnectIvlMax(n) => options.reconnect_interval_max(ms_or_none(n)),
        Opt::Immediate(on) => options.immediate(on),
        Opt::MaxMsgSize(n) => options.max_message_size(u64::try_from(n).ok()),
        Opt::RouterMandatory(on) => options.router_mandatory(on),
        Opt::RouterHandover(on) => options.router_handover(on),
        Opt::ProbeRouter(on) => options.probe_router(on),
        Opt::ReqCorrelate(on) => options.req_correlate(on),
        Opt::ReqRelaxed(on) => options.req_relaxed(on),
        Opt::Conflate(on) => options.conflate(on),
        Opt::XpubVerbose(on) => options.xpub_verbose(on),
        Opt::XpubVerboser(on) => options.xpub_verboser(on),
        Opt::XpubNodrop(on) => options.xpub_nodrop(on),
        Opt::XpubManual(on) => options.xpub_manual(on),
        Opt::XpubWelcome(text) => options.xpub_welcome(text),
        Opt::InvertMatching(on) => options.invert_matching(on),
        Opt::StreamNotify(on) => options.stream_notify(on),
        Opt::ConnectRoutingId(id) => options.connect_routing_id(id),
        Opt::HeartbeatIvl(n) => options.heartbeat_interval(ms_or_none(n)),
        Opt::HeartbeatTtl(n) => options.heartbeat_ttl(ms_or_none(n)),
        Opt::HeartbeatTimeout(n) => options.heartbeat_timeout(ms_or_none(n)),
        Opt::HandshakeIvl(n) => options.handshake_interval(ms_or_none(n)),
        Opt::SendTimeout(n) => options.send_timeout(ms(n)),
        Opt::RecvTimeout(n) => options.recv_timeout(ms(n)),
        Opt::Ipv6(on) => options.ipv6(on),
        Opt::SendBuffer(n) => options.send_buffer(size(n)),
        Opt::RecvBuffer(n) => options.recv_buffer(size(n)),
        Opt::Tos(n) => options.tos(u8::try_from(n).unwrap()),
    }
}

impl Sock for Wrapped {
    fn set(&self, wanted: Opt) -> Result<(), i32> {
        let changed = self.socket.configure(|options| {
            let old = std::mem::replace(options, Options::new());
            *options = option(old, wanted.clone());
        });
        changed.map_err(|e| e.errno())
    }

    fn bind(&self, endpoint: &str) -> Result<String, i32> {
        self.note(endpoint);
        let bound = self.socket.bind(endpoint).map_err(|e| e.errno())?;
        Ok(bound.to_string())
    }

    fn connect(&self, endpoint: &str) -> Result<(), i32> {
        self.note(endpoint);
        self.socket.connect(endpoint).map_err(|e| e.errno())
    }

    fn unbind(&self, endpoint: &str) -> Result<(), i32> {
        self.socket.unbind(endpoint).map_err(|e| e.errno())
    }

    fn disconnect(&self, endpoint: &str) -> Result<(), i32> {
        self.socket.disconnect(endpoint).map_err(|e| e.errno())
    }

    fn last_endpoint(&self) -> String {
        self.socket
            .last_endpoint()
            .map_or_else(String::new, |e| e.to_string())
    }

    fn send(&self, frames: Frames) -> Result<(), i32> {
        self.socket
            .send(message(frames))
            .map_err(|e| e.error().errno())
    }

    fn try_send(&self, frames: Frames) -> Result<(), i32> {
        self.socket
            .try_send(message(frames))
            .map_err(|e| e.error().errno())
    }

    fn recv(&self) -> Result<Frames, i32> {
        self.socket
            .recv()
            .map(|m| frames(&m))
            .map_err(|e| e.errno())
    }

    fn try_recv(&self) -> Result<Frames, i32> {
        self.socket
            .try_recv()
            .map(|m| frames(&m))
            .map_err(|e| e.errno())
    }

    fn recv_for(&self, limit: Duration) -> Result<Frames, i32> {
        self.socket
            .recv_timeout(limit)
            .map(|m| frames(&m))
            .map_err(|e| e.errno())
    }

    fn subscribe(&self, topic: &[u8]) -> Result<(), i32> {
        if self.kind == Kind::XSub {
            return self.send(vec![[&[1], topic].concat()]);
        }
        self.socket.subscribe(topic).map_err(|e| e.errno())
    }

    fn unsubscribe(&self, topic: &[u8]) -> Result<(), i32> {
        if self.kind == Kind::XSub {
            return self.send(vec![[&[0], topic].concat()]);
        }
        self.socket.unsubscribe(topic).map_err(|e| e.errno())
    }

    fn wait_for(&self, events: u32, n: usize) -> Vec<(u32, u64)> {
        self.wait(events, n)
    }

    fn wait_up(&self, n: usize) {
        if *self.inproc.lock().unwrap() {
            return until("peers within the process", || {
                self.socket.peers().len() >= n
            });
        }
        self.wait(SUCCEEDED, n);
    }

    fn wait_down(&self, n: usize) {
        if *self.inproc.lock().unwrap() {
            return until("no peers within the process", || {
                self.socket.peers().is_empty()
            });
        }
        self.wait(DISCONNECTED, n);
    }

    fn close(self: Box<Self>) {}
}

impl fmt::Debug for Wrapped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "our {:?}", self.kind)
    }
}
