//! [`Options`]: what can be said of a socket, typed, and the check of their values.
//!
//! The fields are public and each has a method of its own name that takes and gives the value, for
//! chains. Neither refuses anything: [`Options::check`] does, when the options meet a socket, and its
//! error names option, value and range. So options can be built anywhere, in constants too, without
//! an error to handle at each step.
//!
//! Rejected: setters by number and bytes (libzmq's `setsockopt`), whose type errors show at run time;
//! a builder beside the options, which would have every field twice.

use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use sward_runtime::sync::ShortLock;
use sward_zmtp::{Frame, Heartbeat, Limits, Message, Setup, SocketType};

use crate::endpoint::LONGEST_INTERFACE;
use crate::error::OptionError;
use crate::pattern::PatternOptions;

const MS: Duration = Duration::from_millis(1);

/// One field and its method each: `name: Type = default, |argument: its type| conversion;`
macro_rules! options {
    ($(#[$outer:meta])* pub struct Options {$(
        $(#[$doc:meta])*
        $name:ident: $Type:ty = $default:expr, |$arg:ident: $Arg:ty| $convert:expr;
    )*}) => {
        $(#[$outer])*
        #[derive(Clone, Debug)]
        #[non_exhaustive]
        #[must_use = "options do nothing until a socket is given them"]
        pub struct Options {
            $($(#[$doc])* pub $name: $Type,)*
        }

        impl Default for Options {
            fn default() -> Self {
                Self { $($name: $default,)* }
            }
        }

        impl Options {
            $(
                #[doc = concat!("Sets [`", stringify!($name), "`](Self#structfield.", stringify!($name), ").")]
                pub fn $name(mut self, $arg: $Arg) -> Self {
                    self.$name = $convert;
                    self
                }
            )*
        }
    };
}

options! {
    /// What can be said of a socket.
    ///
    /// A `Duration` may stand where `Some` of it is meant. Where libzmq has -1 or 0 for "none", this
    /// has `None`. High-water marks and limits count from 1; 0 is "no limit" only where it says so.
    ///
    /// | libzmq | here | libzmq's default | ours |
    /// |---|---|---|---|
    /// | `ROUTING_ID` | [`routing_id`](Self#structfield.routing_id) | none | none |
    /// | `SNDHWM`, `RCVHWM` | `send_hwm`, `recv_hwm` | 1000 | 1000 |
    /// | `LINGER` | `linger` | for ever | **30 s** |
    /// | `SNDTIMEO`, `RCVTIMEO` | `send_timeout`, `recv_timeout` | none | none |
    /// | `RECONNECT_IVL` | `reconnect_interval` | 100 ms | 100 ms |
    /// | `RECONNECT_IVL_MAX` | `reconnect_interval_max` | none | none |
    /// | `RECONNECT_STOP` (draft) | `reconnect_stop` | never | never |
    /// | `CONNECT_TIMEOUT` | `connect_timeout` | the kernel's | the kernel's |
    /// | `HANDSHAKE_IVL` | `handshake_interval` | 30 s | 30 s |
    /// | | `allow_old_peers` | on | on |
    /// | `IMMEDIATE` | `immediate` | off | off |
    /// | `BACKLOG` | `backlog` | 100 | **4096** |
    /// | `MAXMSGSIZE` | `max_message_size` (of one frame) | none | none |
    /// | | `max_total_size`, `max_parts` (of a whole message) | none | **1 GiB, 65,536** |
    /// | | `max_handshakes` | none | **1024** |
    /// | | `max_subscriptions`, `max_subscription_bytes`, `max_topic_size` | none | **4 million, 256 MiB, 64 KiB** |
    /// | `HEARTBEAT_IVL`, `_TTL`, `_TIMEOUT` | `heartbeat_interval`, `heartbeat_ttl`, `heartbeat_timeout` | off | off |
    /// | `IPV6` | `ipv6` | off | off |
    /// | `TCP_KEEPALIVE` and its `_IDLE`, `_INTVL`, `_CNT` | `tcp_keepalive` | the system's (off) | the same |
    /// | `TCP_MAXRT` | `tcp_maxrt` | the kernel's | the kernel's |
    /// | `TOS`, `PRIORITY` (draft) | `tos`, `priority` | 0 | 0 |
    /// | `SNDBUF`, `RCVBUF` | `send_buffer`, `recv_buffer` | the kernel's; over ipc 512 KiB to send | the kernel's |
    /// | `BINDTODEVICE` | `bind_to_device` | none | none |
    /// | `USE_FD` | `use_fd` | none | none |
    /// | `CONNECT_ROUTING_ID` | `connect_routing_id` | none | none |
    /// | `ROUTER_MANDATORY`, `ROUTER_HANDOVER`, `PROBE_ROUTER` | `router_mandatory`, `router_handover`, `probe_router` | off | off |
    /// | `ROUTER_NOTIFY` (draft) | `router_notify` | off | off |
    /// | `REQ_CORRELATE`, `REQ_RELAXED` | `req_correlate`, `req_relaxed` | off | off |
    /// | `CONFLATE` | `conflate` | off | off |
    /// | `XPUB_VERBOSE`, `XPUB_VERBOSER`, `XPUB_NODROP`, `XPUB_MANUAL` | `xpub_verbose`, `xpub_verboser`, `xpub_nodrop`, `xpub_manual` | off | off |
    /// | `XPUB_MANUAL_LAST_VALUE` (draft) | `xpub_manual_last_value` | off | off |
    /// | `XPUB_WELCOME_MSG` | `xpub_welcome` | none | none |
    /// | `XSUB_VERBOSE_UNSUBSCRIBE`, `ONLY_FIRST_SUBSCRIBE` (drafts) | `xsub_verbose_unsubscribe`, `only_first_subscribe` | off | off |
    /// | `INVERT_MATCHING` | `invert_matching` | off | off |
    /// | `STREAM_NOTIFY` | `stream_notify` | on | on |
    /// | `METADATA` (draft) | `metadata` | none | none |
    ///
    /// What is bold is safer than libzmq: a program does not hang at its end because a peer has gone
    /// ([`Options::linger`]), and a peer cannot fill the memory.
    ///
    /// Not options here: `SUBSCRIBE`, `UNSUBSCRIBE`, `LAST_ENDPOINT`, `TYPE`, `EVENTS`, `TOPICS_COUNT`
    /// are methods of sockets; `RCVMORE` and `ROUTER_RAW` have no use where a message is one value
    /// and STREAM is a type. Not there at all:
    ///
    /// | libzmq | why |
    /// |---|---|
    /// | `AFFINITY`, `THREAD_SAFE`, `BUSY_POLL`, `IN_BATCH_SIZE`, `OUT_BATCH_SIZE` | there are no I/O threads; all sockets may be shared; the runtime has `busy_poll`, and finds batches itself |
    /// | `FD` | a socket is waited for by its calls, `select!` and the poller |
    /// | `MECHANISM`, `PLAIN_*`, `CURVE_*`, `GSSAPI_*`, `ZAP_*` | NULL is the only mechanism so far |
    /// | `RATE`, `RECOVERY_IVL`, `MULTICAST_*`, `NORM_*`, `VMCI_*`, `WSS_*`, `SOCKS_*`, `LOOPBACK_FASTPATH` | the transports are not there |
    /// | `TCP_ACCEPT_FILTER`, `IPC_FILTER_*` | old in libzmq; use a firewall, or the rights of the file |
    /// | `HELLO_MSG`, `DISCONNECT_MSG`, `HICCUP_MSG` | drafts; monitor events tell the same |
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// use sward_mq::Options;
    /// let options = Options::new().send_hwm(10).linger(Duration::from_secs(1));
    /// assert_eq!(options.send_hwm, 10);
    /// assert_eq!(options.linger, Some(Duration::from_secs(1)));
    /// let wrong = Options::new().routing_id("\0");
    /// assert!(wrong.check().unwrap_err().to_string().contains("routing_id"));
    /// ```
    pub struct Options {
        /// The name by which ROUTER peers know this socket: 1 to 255 bytes, of which the first is
        /// not 0; `None`: they make one up. Counts for later binds and connects (`ROUTING_ID`).
        routing_id: Option<Frame> = None, |id: impl Into<Frame>| Some(id.into());
        /// How many messages may wait to be sent to one peer; 0: no limit. What happens beyond
        /// depends on the kind of socket: it waits, or drops (`SNDHWM`).
        send_hwm: usize = 1000, |messages: usize| messages;
        /// How many messages from one peer may wait to be received; 0: no limit (`RCVHWM`).
        recv_hwm: usize = 1000, |messages: usize| messages;
        /// How long what was sent may still go out after the socket was closed, in the background;
        /// `None`: until it has, zero: not at all. What is dropped is counted and reported. libzmq
        /// waits for ever by default, and a program whose peer has gone then never ends (`LINGER`).
        linger: Option<Duration> = Some(Duration::from_secs(30)),
            |limit: impl Into<Option<Duration>>| limit.into();
        /// How long a send waits; `None`: for ever, zero: not at all (`SNDTIMEO`).
        send_timeout: Option<Duration> = None, |limit: impl Into<Option<Duration>>| limit.into();
        /// How long a receive waits; `None`: for ever, zero: not at all (`RCVTIMEO`).
        recv_timeout: Option<Duration> = None, |limit: impl Into<Option<Duration>>| limit.into();

        /// The pause before a connection that was lost or refused is tried again, to which chance
        /// adds up to as much; `None`: never again (`RECONNECT_IVL`).
        reconnect_interval: Option<Duration> = Some(Duration::from_millis(100)),
            |pause: impl Into<Option<Duration>>| pause.into();
        /// If larger than the interval: the pause doubles up to this, without chance; a connection
        /// that stands sets it back (`RECONNECT_IVL_MAX`).
        reconnect_interval_max: Option<Duration> = None,
            |pause: impl Into<Option<Duration>>| pause.into();
        /// When it is given up to connect again (`RECONNECT_STOP`, a draft of libzmq).
        reconnect_stop: ReconnectStop = ReconnectStop::NEVER, |when: ReconnectStop| when;
        /// How long an attempt to connect may take, the look-up of the name included; `None`: the
        /// kernel's time, about two minutes (`CONNECT_TIMEOUT`).
        connect_timeout: Option<Duration> = None, |limit: impl Into<Option<Duration>>| limit.into();
        /// How long a new connection may take to say who it is; `None`: for ever, which lets silent
        /// peers keep their descriptors (`HANDSHAKE_IVL`).
        handshake_interval: Option<Duration> = Some(Duration::from_secs(30)),
            |limit: impl Into<Option<Duration>>| limit.into();
        /// Whether peers that speak ZMTP 1.0 and 2.0 only (libzmq before 4.0) are let in. Without them
        /// the handshake is a round trip shorter. libzmq always lets them in.
        allow_old_peers: bool = true, |on: bool| on;
        /// Whether messages are queued for complete connections only; else they may wait for a peer
        /// that is not there yet (`IMMEDIATE`).
        immediate: bool = false, |on: bool| on;

        /// How many connections the kernel keeps until they are accepted. It cuts this at
        /// `net.core.somaxconn` (`BACKLOG`).
        backlog: u32 = 4096, |connections: u32| connections;
        /// The most bytes that one frame from a peer may have; a peer that announces more is
        /// disconnected. `None`: as `max_total_size` (`MAXMSGSIZE`).
        max_message_size: Option<u64> = None, |bytes: impl Into<Option<u64>>| bytes.into();
        /// The most bytes that all frames of a message from a peer may have together; `None`: no
        /// limit, and the memory is the peer's to fill.
        max_total_size: Option<u64> = Some(1 << 30), |bytes: impl Into<Option<u64>>| bytes.into();
        /// The most frames that a message from a peer may have.
        max_parts: usize = 65_536, |frames: usize| frames;
        /// How many accepted connections of an endpoint may be in their handshake at a time; more
        /// wait in the kernel's line. One that has taken a second makes way for those that wait.
        max_handshakes: usize = 1024, |connections: usize| connections;
        /// How many different topics one peer may subscribe to; one that wants more is disconnected.
        max_subscriptions: usize = 4_000_000, |topics: usize| topics;
        /// How many bytes the topics of one peer may have together.
        max_subscription_bytes: usize = 256 << 20, |bytes: usize| bytes;
        /// How many bytes a topic that a peer subscribes to may have.
        max_topic_size: usize = 64 * 1024, |bytes: usize| bytes;

        /// How often a peer is asked whether it lives; `None`: never (`HEARTBEAT_IVL`).
        heartbeat_interval: Option<Duration> = None,
            |every: impl Into<Option<Duration>>| every.into();
        /// After which silence of ours the peer should give the connection up: rounded down to a
        /// tenth of a second, 6553.5 s at the most; sent along when asking (`HEARTBEAT_TTL`).
        heartbeat_ttl: Option<Duration> = None, |after: impl Into<Option<Duration>>| after.into();
        /// How long a peer may be silent after it was asked; `None`: as long as the interval
        /// (`HEARTBEAT_TIMEOUT`).
        heartbeat_timeout: Option<Duration> = None,
            |limit: impl Into<Option<Duration>>| limit.into();

        /// Whether `*`, interfaces and names mean IPv6 too, and IPv6 rather than IPv4 where there is
        /// a choice. Numeric IPv6 addresses are taken either way (`IPV6`).
        ipv6: bool = false, |on: bool| on;
        /// When the kernel asks idle connections whether they still live; `None`: as the system has
        /// it, which is never (`TCP_KEEPALIVE`).
        tcp_keepalive: Option<TcpKeepalive> = None,
            |keepalive: impl Into<Option<TcpKeepalive>>| keepalive.into();
        /// After which time of sent bytes without an answer the kernel gives a connection up
        /// (`TCP_MAXRT`, `TCP_USER_TIMEOUT`).
        tcp_maxrt: Option<Duration> = None, |limit: impl Into<Option<Duration>>| limit.into();
        /// The type of service of packets (`TOS`): differentiated services and congestion bits.
        tos: u8 = 0, |bits: u8| bits;
        /// The priority of packets within this machine: 0 to 6, more with the right to it
        /// (`PRIORITY`, `SO_PRIORITY`).
        priority: u32 = 0, |priority: u32| priority;
        /// The size of the kernel's send buffer, which ends its own tuning (`SNDBUF`); there is none
        /// over ipc, where 512 KiB are the default.
        send_buffer: Option<usize> = None, |bytes: impl Into<Option<usize>>| bytes.into();
        /// The size of the kernel's receive buffer, which ends its own tuning (`RCVBUF`).
        recv_buffer: Option<usize> = None, |bytes: impl Into<Option<usize>>| bytes.into();
        /// The only network interface that is used, whatever the routes say (`BINDTODEVICE`).
        bind_to_device: Option<Box<str>> = None, |interface: impl Into<Box<str>>| Some(interface.into());
        /// A socket that listens already, for the next bind of a tcp or ipc endpoint (`USE_FD`).
        use_fd: Option<ListenFd> = None, |fd: impl Into<ListenFd>| Some(fd.into());
        /// The routing id that ROUTER and STREAM give to the peer of the next connect
        /// (`CONNECT_ROUTING_ID`).
        connect_routing_id: Option<Frame> = None, |id: impl Into<Frame>| Some(id.into());
        /// What peers can read of this socket beside its type and routing id: names that begin with
        /// `X-`, and values (`METADATA`, a draft of libzmq).
        metadata: Vec<(String, Vec<u8>)> = Vec::new(), |pairs: Vec<(String, Vec<u8>)>| pairs;

        /// ROUTER: whether a send fails if nobody has the routing id, and waits if the peer's queue
        /// is full; else both are dropped (`ROUTER_MANDATORY`).
        router_mandatory: bool = false, |on: bool| on;
        /// ROUTER: whether a new peer takes over the routing id of an older one (`ROUTER_HANDOVER`).
        router_handover: bool = false, |on: bool| on;
        /// ROUTER: whether peers that come or go show as a message of their routing id and an empty
        /// frame (`ROUTER_NOTIFY`, a draft of libzmq).
        router_notify: RouterNotify = RouterNotify::NONE, |when: RouterNotify| when;
        /// REQ, DEALER, ROUTER: whether an empty message is sent to each peer as soon as it is
        /// connected (`PROBE_ROUTER`).
        probe_router: bool = false, |on: bool| on;
        /// REQ: whether requests carry a number, by which late replies are known (`REQ_CORRELATE`).
        req_correlate: bool = false, |on: bool| on;
        /// REQ: whether a new request may be sent before the reply has come, which is then given up
        /// (`REQ_RELAXED`).
        req_relaxed: bool = false, |on: bool| on;
        /// Whether queues keep the newest message only; messages then have one frame (`CONFLATE`).
        conflate: bool = false, |on: bool| on;
        /// XPUB: whether each subscription is handed out, not only the first to a topic
        /// (`XPUB_VERBOSE`).
        xpub_verbose: bool = false, |on: bool| on;
        /// XPUB: whether each subscription and each end of one is handed out (`XPUB_VERBOSER`).
        xpub_verboser: bool = false, |on: bool| on;
        /// PUB, XPUB: whether a send waits for subscribers whose queue is full; else they miss it
        /// (`XPUB_NODROP`).
        xpub_nodrop: bool = false, |on: bool| on;
        /// XPUB: whether subscriptions count only once the program has confirmed them
        /// (`XPUB_MANUAL`).
        xpub_manual: bool = false, |on: bool| on;
        /// XPUB: as `xpub_manual`; and the next message goes to the peer of the last subscription
        /// only (`XPUB_MANUAL_LAST_VALUE`, a draft of libzmq).
        xpub_manual_last_value: bool = false, |on: bool| on;
        /// XPUB: what each new subscriber is sent first (`XPUB_WELCOME_MSG`).
        xpub_welcome: Option<Message> = None, |message: impl Into<Message>| Some(message.into());
        /// XSUB: whether each end of a subscription is sent on, not only the last of a topic
        /// (`XSUB_VERBOSE_UNSUBSCRIBE`, a draft of libzmq).
        xsub_verbose_unsubscribe: bool = false, |on: bool| on;
        /// XPUB, XSUB: whether only the first frame of a message can be a subscription
        /// (`ONLY_FIRST_SUBSCRIBE`, a draft of libzmq).
        only_first_subscribe: bool = false, |on: bool| on;
        /// PUB, SUB: whether what does not match is sent and received (`INVERT_MATCHING`).
        invert_matching: bool = false, |on: bool| on;
        /// STREAM: whether connections that come or go show as an empty message (`STREAM_NOTIFY`).
        stream_notify: bool = true, |on: bool| on;
    }
}

impl Options {
    /// Returns the defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns what a program should have that must not hang or lose messages unnoticed; wire and
    /// peers are the same.
    ///
    /// | option | here | default | so that |
    /// |---|---|---|---|
    /// | `heartbeat_interval` | 5 s | never | a peer that vanished is noticed |
    /// | `heartbeat_timeout`, `heartbeat_ttl` | 15 s | | one packet late is no end |
    /// | `linger` | 10 s | 30 s | the program ends |
    /// | `connect_timeout` | 10 s | two minutes | a host that does not answer is tried again soon |
    /// | `req_relaxed`, `req_correlate` | on | off | a lost reply does not block a REQ for ever |
    /// | `router_mandatory` | on | off | a reply to nobody is an error |
    ///
    /// # Examples
    /// ```
    /// use sward_mq::Options;
    /// let options = Options::safe().send_hwm(100);
    /// assert!(options.req_relaxed && options.router_mandatory);
    /// ```
    pub fn safe() -> Self {
        Self::default()
            .heartbeat_interval(Duration::from_secs(5))
            .heartbeat_timeout(Duration::from_secs(15))
            .heartbeat_ttl(Duration::from_secs(15))
            .linger(Duration::from_secs(10))
            .connect_timeout(Duration::from_secs(10))
            .req_relaxed(true)
            .req_correlate(true)
            .router_mandatory(true)
    }

    /// Says whether every value can be used. Sockets ask this when they are given options.
    ///
    /// # Errors
    /// Names the first option whose value cannot be, and the range.
    pub fn check(&self) -> Result<(), OptionError> {
        for (option, id) in [
            ("routing_id", &self.routing_id),
            ("connect_routing_id", &self.connect_routing_id),
        ] {
            let Some(id) = id else { continue };
            if id.is_empty() || id.len() > 255 {
                let value = format!("{} bytes long", id.len());
                return wrong(option, value, "it has 1 to 255 bytes");
            }
            if id.as_slice().first() == Some(&0) {
                let value = format!("{:?}", id.as_slice().escape_ascii().to_string());
                let range = "its first byte is not 0, such ids are made up by ROUTER";
                return wrong(option, value, range);
            }
        }
        for (option, limit) in [
            ("connect_timeout", self.connect_timeout),
            ("handshake_interval", self.handshake_interval),
            ("heartbeat_interval", self.heartbeat_interval),
            ("heartbeat_timeout", self.heartbeat_timeout),
            ("tcp_maxrt", self.tcp_maxrt),
        ] {
            if limit == Some(Duration::ZERO) {
                return wrong(option, "zero", "None takes it away");
            }
        }
        for (option, count) in [
            ("backlog", self.backlog as usize),
            ("max_parts", self.max_parts),
            ("max_handshakes", self.max_handshakes),
            ("max_subscriptions", self.max_subscriptions),
        ] {
            if count == 0 {
                return wrong(option, "0", "it is at least 1");
            }
        }
        self.check_kernel()?;
        self.check_metadata()?;
        match self.heartbeat_ttl {
            Some(ttl) if ttl >= 65_536 * 100 * MS => wrong(
                "heartbeat_ttl",
                format!("{ttl:?}"),
                "it is 6553.5 s at the most, since the protocol has 16 bits for tenths of seconds",
            ),
            _ => Ok(()),
        }
    }

    /// What the connections of a socket of this type have in common.
    pub(crate) fn setup(&self, kind: SocketType) -> Setup {
        let heartbeat = self.heartbeat_interval.map(|interval| Heartbeat {
            interval,
            timeout: self.heartbeat_timeout.unwrap_or(interval),
            ttl: self.heartbeat_ttl.unwrap_or_default(),
        });
        Setup {
            identity: self.routing_id.clone().unwrap_or_default(),
            metadata: self.metadata.clone(),
            limits: Limits {
                max_message_size: self.max_message_size,
                max_total_size: self.max_total_size,
                max_parts: self.max_parts,
                max_topic_size: self.max_topic_size,
                ..Limits::DEFAULT
            },
            heartbeat,
            handshake_interval: self.handshake_interval,
            allow_old_peers: self.allow_old_peers,
            ..Setup::new(kind)
        }
    }

    /// What the kernel would refuse later, on each connection.
    fn check_kernel(&self) -> Result<(), OptionError> {
        if let Some(keepalive) = self.tcp_keepalive {
            let seconds = Duration::from_secs(1)..=Duration::from_secs(32_767);
            let times = [keepalive.idle, keepalive.interval];
            let good = times.iter().flatten().all(|time| seconds.contains(time));
            if !good || keepalive.retries.is_some_and(|n| !(1..=127).contains(&n)) {
                return wrong(
                    "tcp_keepalive",
                    format!("{keepalive:?}"),
                    "times are 1 to 32767 s, retries 1 to 127",
                );
            }
        }
        let most = Duration::from_millis(i32::MAX.unsigned_abs().into());
        if let Some(limit) = self.tcp_maxrt.filter(|&limit| limit > most) {
            return wrong(
                "tcp_maxrt",
                format!("{limit:?}"),
                "it is 2147483.647 s at the most",
            );
        }
        for (option, bytes) in [
            ("send_buffer", self.send_buffer),
            ("recv_buffer", self.recv_buffer),
        ] {
            // The kernel doubles it.
            if let Some(bytes) = bytes.filter(|&bytes| bytes > i32::MAX as usize / 2) {
                return wrong(
                    option,
                    bytes.to_string(),
                    "it is 1073741823 bytes at the most",
                );
            }
        }
        if self.priority > i32::MAX.unsigned_abs() {
            let value = self.priority.to_string();
            return wrong(
                "priority",
                value,
                "it is 0 to 6, or more for a privileged process",
            );
        }
        if let Some(name) = &self.bind_to_device
            && (name.is_empty() || name.len() > LONGEST_INTERFACE || name.contains(['\0', '/']))
        {
            let range = "the name of a network interface has 1 to 15 bytes, without '/' and NUL";
            return wrong("bind_to_device", format!("{name:?}"), range);
        }
        Ok(())
    }

    fn check_metadata(&self) -> Result<(), OptionError> {
        for (name, value) in &self.metadata {
            let good = |b: u8| b.is_ascii_alphanumeric() || b"-_.+".contains(&b);
            if !name.starts_with("X-") || name.len() > 255 || !name.bytes().all(good) {
                let shown = format!("{:?}", name.chars().take(60).collect::<String>());
                let range = "names begin with X- and have up to 255 letters, digits, '-', '_', '.' \
                             and '+'";
                return wrong("metadata", shown, range);
            }
            if i32::try_from(value.len()).is_err() {
                let range = "values have less than 2 GiB";
                return wrong(
                    "metadata",
                    format!("{} bytes for {name}", value.len()),
                    range,
                );
            }
        }
        Ok(())
    }
}

fn wrong(
    option: &'static str,
    value: impl Into<String>,
    range: &'static str,
) -> Result<(), OptionError> {
    let value = value.into();
    Err(OptionError {
        option,
        value,
        range,
    })
}

impl From<&Options> for PatternOptions {
    fn from(o: &Options) -> Self {
        Self {
            router_mandatory: o.router_mandatory,
            router_handover: o.router_handover,
            router_notify: u8::from(o.router_notify.connect)
                | u8::from(o.router_notify.disconnect) << 1,
            probe_router: o.probe_router,
            req_correlate: o.req_correlate,
            req_relaxed: o.req_relaxed,
            xpub_verbose: o.xpub_verbose,
            xpub_verboser: o.xpub_verboser,
            xpub_nodrop: o.xpub_nodrop,
            xpub_manual: o.xpub_manual,
            xpub_manual_last_value: o.xpub_manual_last_value,
            xpub_welcome: o.xpub_welcome.clone(),
            xsub_verbose_unsubscribe: o.xsub_verbose_unsubscribe,
            only_first_subscribe: o.only_first_subscribe,
            invert_matching: o.invert_matching,
            stream_notify: o.stream_notify,
            max_subscriptions: o.max_subscriptions,
            max_subscription_bytes: o.max_subscription_bytes,
        }
    }
}

/// After what a connection is given up instead of being tried again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ReconnectStop {
    /// Nobody listens there.
    pub refused: bool,
    /// The peer and this side did not come to an understanding.
    pub handshake_failed: bool,
    /// A connection that stood was lost.
    pub disconnected: bool,
}

impl ReconnectStop {
    /// It is tried again after everything.
    pub const NEVER: Self = Self {
        refused: false,
        handshake_failed: false,
        disconnected: false,
    };
}

/// Of what a ROUTER makes a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct RouterNotify {
    /// A peer has come.
    pub connect: bool,
    /// A peer has gone.
    pub disconnect: bool,
}

impl RouterNotify {
    /// Of nothing.
    pub const NONE: Self = Self {
        connect: false,
        disconnect: false,
    };
    /// Of both.
    pub const BOTH: Self = Self {
        connect: true,
        disconnect: true,
    };
}

/// When the kernel asks an idle connection's other end whether it is still there; `None`: as the
/// system has it.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use sward_mq::{Options, TcpKeepalive};
/// let keepalive = TcpKeepalive { idle: Some(Duration::from_secs(30)), ..TcpKeepalive::default() };
/// let options = Options::new().tcp_keepalive(keepalive);
/// assert!(options.check().is_ok());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct TcpKeepalive {
    /// How long nothing comes before it asks (`TCP_KEEPALIVE_IDLE`): whole seconds, rounded up.
    pub idle: Option<Duration>,
    /// How long it waits before it asks again (`TCP_KEEPALIVE_INTVL`): whole seconds, rounded up.
    pub interval: Option<Duration>,
    /// How often it asks (`TCP_KEEPALIVE_CNT`).
    pub retries: Option<u32>,
}

/// A socket that listens already: made by a parent process, systemd, or with options that are not
/// here.
///
/// The first bind takes it, be it of these options or of a clone; later binds make their own. The
/// socket closes it in the end, and leaves the file of an ipc endpoint where it is.
///
/// # Examples
/// ```
/// use sward_mq::{ListenFd, Options};
/// let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
/// let options = Options::new().use_fd(ListenFd::new(listener));
/// # std::io::Result::Ok(())
/// ```
#[derive(Clone)]
pub struct ListenFd(Arc<ShortLock<Option<OwnedFd>>>);

impl ListenFd {
    /// Takes a descriptor of a socket that listens.
    pub fn new(fd: impl Into<OwnedFd>) -> Self {
        Self(Arc::new(ShortLock::new(Some(fd.into()))))
    }

    /// For the bind: the descriptor, if nobody has taken it yet.
    pub(crate) fn take(&self) -> Option<OwnedFd> {
        self.0.lock().take()
    }
}

impl From<OwnedFd> for ListenFd {
    fn from(fd: OwnedFd) -> Self {
        Self::new(fd)
    }
}

impl fmt::Debug for ListenFd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ListenFd").field(&*self.0.lock()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// libzmq's defaults, but where the table says otherwise.
    #[test]
    fn defaults() {
        let options = Options::new();
        assert_eq!((options.send_hwm, options.recv_hwm), (1000, 1000));
        assert_eq!(options.linger, Some(Duration::from_secs(30)));
        assert_eq!(options.reconnect_interval, Some(100 * MS));
        assert_eq!(options.handshake_interval, Some(Duration::from_secs(30)));
        assert!(options.stream_notify && !options.immediate && !options.ipv6);
        assert_eq!(options.check(), Ok(()));
        assert_eq!(Options::safe().check(), Ok(()));
    }

    #[test]
    fn what_cannot_be_names_option_value_and_range() {
        let base = Options::new;
        let keepalive = |idle: u64, retries| TcpKeepalive {
            idle: Some(Duration::from_secs(idle)),
            retries: Some(retries),
            ..TcpKeepalive::default()
        };
        let metadata = |name: &str| base().metadata(vec![(name.to_owned(), b"value".to_vec())]);
        for (options, says) in [
            (
                base().routing_id(""),
                "routing_id cannot be 0 bytes long: it has 1 to 255",
            ),
            (
                base().routing_id(vec![1; 256]),
                "routing_id cannot be 256 bytes long",
            ),
            (
                base().routing_id("\0a"),
                "routing_id cannot be \"\\\\x00a\": its first byte",
            ),
            (base().connect_routing_id(""), "connect_routing_id"),
            (
                base().connect_timeout(Duration::ZERO),
                "connect_timeout cannot be zero: None",
            ),
            (
                base().handshake_interval(Duration::ZERO),
                "handshake_interval",
            ),
            (
                base().heartbeat_interval(Duration::ZERO),
                "heartbeat_interval",
            ),
            (
                base().heartbeat_timeout(Duration::ZERO),
                "heartbeat_timeout",
            ),
            (
                base().heartbeat_ttl(Duration::from_secs(6554)),
                "heartbeat_ttl cannot be 6554s",
            ),
            (base().tcp_maxrt(Duration::ZERO), "tcp_maxrt"),
            (base().tcp_maxrt(Duration::MAX), "tcp_maxrt"),
            (base().backlog(0), "backlog cannot be 0: it is at least 1"),
            (base().max_parts(0), "max_parts"),
            (base().max_handshakes(0), "max_handshakes"),
            (base().max_subscriptions(0), "max_subscriptions"),
            (base().tcp_keepalive(keepalive(0, 1)), "tcp_keepalive"),
            (base().tcp_keepalive(keepalive(32_768, 1)), "1 to 32767 s"),
            (base().tcp_keepalive(keepalive(1, 0)), "retries 1 to 127"),
            (base().tcp_keepalive(keepalive(1, 128)), "retries 1 to 127"),
            (
                base().send_buffer(1 << 30),
                "send_buffer cannot be 1073741824",
            ),
            (base().recv_buffer(usize::MAX), "recv_buffer"),
            (base().priority(u32::MAX), "priority"),
            (base().bind_to_device(""), "bind_to_device"),
            (
                base().bind_to_device("sixteen-long-nam"),
                "bind_to_device cannot be \"sixteen",
            ),
            (base().bind_to_device("a\0"), "bind_to_device"),
            (
                metadata("key"),
                "metadata cannot be \"key\": names begin with X-",
            ),
            (metadata("X-\u{e4}"), "metadata"),
            (metadata(&format!("X-{}", "a".repeat(254))), "metadata"),
        ] {
            let e = options.check().expect_err(says);
            let shown = e.to_string();
            assert!(shown.contains(says), "{shown}");
            assert!(shown.contains(e.option()));
        }
        for options in [
            base()
                .routing_id(vec![255; 255])
                .linger(None)
                .send_timeout(Duration::ZERO),
            base().heartbeat_ttl(Duration::from_millis(6_553_599)),
            base().reconnect_interval(None).max_message_size(0),
            base().tcp_keepalive(keepalive(32_767, 127)),
            metadata("X-key"),
        ] {
            assert_eq!(options.check(), Ok(()));
        }
    }

    #[test]
    fn connections_get_what_was_said() {
        let options = Options::safe().routing_id("me").max_message_size(10);
        let setup = options.setup(SocketType::Dealer);
        assert_eq!(setup.identity, "me");
        assert_eq!(setup.limits.max_message_size, Some(10));
        let heartbeat = setup.heartbeat.unwrap();
        assert_eq!(heartbeat.timeout, Duration::from_secs(15));
        let plain = Options::new()
            .heartbeat_interval(MS)
            .setup(SocketType::Dealer);
        assert_eq!(plain.heartbeat.unwrap().timeout, MS);
        assert!(Options::new().setup(SocketType::Dealer).heartbeat.is_none());
        let notify = RouterNotify {
            disconnect: true,
            ..RouterNotify::NONE
        };
        let pattern = PatternOptions::from(&Options::new().router_notify(notify));
        assert_eq!((pattern.router_notify, pattern.stream_notify), (2, true));
    }

    #[test]
    fn a_given_descriptor_is_taken_once() {
        let (reader, _writer) = std::io::pipe().unwrap();
        let options = Options::new().use_fd(ListenFd::new(reader));
        let clone = options.clone();
        assert!(format!("{options:?}").contains("Some(OwnedFd"));
        assert!(clone.use_fd.unwrap().take().is_some());
        assert!(options.use_fd.unwrap().take().is_none());
    }
}
