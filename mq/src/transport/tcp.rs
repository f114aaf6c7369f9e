//! The transport `tcp`.
//!
//! What a name means is asked anew for each bind and each connection: an interface where one binds
//! (and for the source of a connection), a host where one connects. All options are set before a
//! socket is bound or connected, and connections inherit what their listener has.
//!
//! Deviations from libzmq: a host's addresses are all tried (libzmq: the first); numeric IPv6
//! addresses need no option; IPv4 peers of an IPv6 listener are shown by their IPv4 address; an IPv6
//! address of a link has its interface.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;
use std::vec;

use rustix::io::Errno;
use rustix::net::{AddressFamily, sockopt};
use sward_net::{ConnectOptions, ListenOptions, TcpListener, ToSocketAddrs, lookup_host};
use sward_runtime::__private::{bind_to_device, set_priority};

use super::{ByteLink, Listening, Transport, interface};
use crate::endpoint::{Address, Endpoint, Host, HostPort, TcpAddress};
use crate::error::{Error, OptionError, at, errno_of};
use crate::options::{Options, TcpKeepalive};

/// TCP.
pub(super) struct Tcp;

impl Transport for Tcp {
    fn listen(&self, endpoint: &Endpoint, options: &Options) -> Result<Box<dyn Listening>, Error> {
        let listener = match options.use_fd.as_ref().and_then(|fd| fd.take()) {
            Some(fd) => given(fd)?,
            None => listen(endpoint, options)?,
        };
        let endpoint = Endpoint::of_tcp(listener.local_addr()?);
        Ok(Box::new(Listener { listener, endpoint }))
    }

    fn dial(&self, endpoint: &Endpoint, options: &Options) -> io::Result<ByteLink> {
        let TcpAddress { source, target } = address(endpoint)?;
        let sources = match source {
            Some(source) => sources(source, options)?,
            None => Vec::new(),
        };
        let target = Target {
            target,
            ipv6: options.ipv6,
            sources: &sources,
        };
        let prepared = Prepared::new(options);
        let connect = ConnectOptions::new()
            .nodelay(true)
            .prepare(move |socket| prepared.set(socket));
        let limit = options.connect_timeout;
        let stream = if sources.is_empty() {
            match limit {
                Some(limit) => connect.connect_timeout(target, limit)?,
                None => connect.connect(target)?,
            }
        } else {
            // As libzmq: one local port may serve for connections to several peers.
            dial_from(&connect.reuse_address(true), &sources, &target, limit)?
        };
        let local = stream.local_addr()?;
        let peer = stream
            .peer_addr()
            .map_err(|e| at(format!("{endpoint} closed the connection at once"), e))?;
        Ok(link(stream.into(), local, peer))
    }
}

struct Listener {
    listener: TcpListener,
    endpoint: Endpoint,
}

impl Listening for Listener {
    fn endpoint(&self) -> Endpoint {
        self.endpoint.clone()
    }

    fn accept(&self) -> io::Result<ByteLink> {
        let (stream, peer) = self.listener.accept()?;
        // It may have gone already; that is no fault of the listener's.
        let local = stream.local_addr()?;
        Ok(link(stream.into(), local, peer))
    }

    fn close(&self) {
        // An error is about the number of the descriptor, which the drop gives back.
        let _ = self.listener.close();
    }
}

fn link(fd: OwnedFd, local: SocketAddr, peer: SocketAddr) -> ByteLink {
    let text = |address| Endpoint::of_tcp(canonical(address)).to_string();
    ByteLink {
        fd,
        peer_address: peer.ip().to_canonical().to_string(),
        local: text(local),
        remote: text(peer),
        short_is_all: true,
    }
}

/// An IPv4 address that came by an IPv6 socket, as what it is.
fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        ip @ IpAddr::V4(_) => SocketAddr::new(ip, address.port()),
        IpAddr::V6(_) => address,
    }
}

fn address(endpoint: &Endpoint) -> io::Result<&TcpAddress> {
    match endpoint.address() {
        Address::Tcp(tcp) => Ok(tcp),
        _ => Err(invalid(format!("{endpoint} is no tcp endpoint"))),
    }
}

#[cold]
fn invalid(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, text)
}

/// A listener of the options' making.
fn given(fd: OwnedFd) -> Result<TcpListener, Error> {
    let family = sockopt::socket_domain(&fd).map_err(io::Error::from)?;
    let listens = sockopt::socket_acceptconn(&fd).map_err(io::Error::from)?;
    if !listens || ![AddressFamily::INET, AddressFamily::INET6].contains(&family) {
        return Err(not_listening(
            &fd,
            "for a tcp endpoint, it is a TCP socket that listens",
        ));
    }
    Ok(TcpListener::try_from(fd)?)
}

/// The error for a `use_fd` that is none.
#[cold]
pub(super) fn not_listening(fd: &OwnedFd, range: &'static str) -> Error {
    let error = OptionError {
        option: "use_fd",
        value: format!("{fd:?}"),
        range,
    };
    error.into()
}

fn listen(endpoint: &Endpoint, options: &Options) -> Result<TcpListener, Error> {
    let HostPort { host, port } = &address(endpoint)?.target;
    let port = port.unwrap_or(0);
    let mut addresses = local(host, port, options)?;
    if addresses.is_empty() {
        return Err(Error::NoInterface(endpoint.clone()));
    }
    // An interface has one address that is meant, as in libzmq.
    let address = addresses.swap_remove(0);
    let prepared = Prepared::new(options);
    let listen = ListenOptions::new()
        .backlog(options.backlog)
        .nodelay(true)
        .prepare(move |socket| prepared.set(socket));
    let all = address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    let listen = if all { listen.only_v6(false) } else { listen };
    let any_v4 = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
    let listened = match listen.listen(address) {
        // A kernel without IPv6.
        Err(e) if all && matches!(host, Host::Any) && lacks_family(&e) => listen.listen(any_v4),
        listened => listened,
    };
    listened.map_err(|e| Error::bind(endpoint, e))
}

fn lacks_family(e: &io::Error) -> bool {
    errno_of(e) == Errno::AFNOSUPPORT.raw_os_error()
}

/// The addresses of this machine that a host means, the best first; none if there is no interface
/// and no host of that name. A host's may be another machine's, which a bind then says.
fn local(host: &Host, port: u16, options: &Options) -> io::Result<Vec<SocketAddr>> {
    match host {
        Host::Any if options.ipv6 => Ok(vec![(Ipv6Addr::UNSPECIFIED, port).into()]),
        Host::Any => Ok(vec![(Ipv4Addr::UNSPECIFIED, port).into()]),
        Host::Ip(ip, scope) => Ok(vec![numeric(*ip, scope.as_deref(), port)?]),
        Host::Name(name) => {
            let mut all = interface::addresses(name)?;
            all.retain(|address| options.ipv6 || address.ip.is_ipv4());
            // Stable: within a family the order stays.
            all.sort_by_key(|address| options.ipv6 && address.ip.is_ipv4());
            let with_port = |address: interface::InterfaceAddress| match address.ip {
                IpAddr::V6(ip) if ip.is_unicast_link_local() => {
                    SocketAddrV6::new(ip, port, 0, address.index).into()
                }
                ip => SocketAddr::new(ip, port),
            };
            if all.is_empty() {
                // No interface: a name of this machine, such as localhost.
                let mut named = lookup_host(name, port).unwrap_or_default();
                named.retain(|address| options.ipv6 || address.is_ipv4());
                return Ok(named);
            }
            Ok(all.into_iter().map(with_port).collect())
        }
    }
}

/// A numeric address with its scope.
fn numeric(ip: IpAddr, scope: Option<&str>, port: u16) -> io::Result<SocketAddr> {
    let (IpAddr::V6(v6), Some(scope)) = (ip, scope) else {
        return Ok(SocketAddr::new(ip, port));
    };
    let index = match scope.parse() {
        Ok(index) => Some(index),
        Err(_) => interface::index(scope)?,
    };
    let index = index.ok_or_else(|| {
        invalid(format!(
            "no network interface {scope:?} for the address {ip} (`ip link` lists them)"
        ))
    })?;
    Ok(SocketAddrV6::new(v6, port, 0, index).into())
}

/// Where connections may come from.
fn sources(source: &HostPort, options: &Options) -> io::Result<Vec<SocketAddr>> {
    let port = source.port.unwrap_or(0);
    let mut addresses = local(&source.host, port, options)?;
    if matches!(source.host, Host::Any) && options.ipv6 {
        addresses.push((Ipv4Addr::UNSPECIFIED, port).into());
    }
    if addresses.is_empty() {
        let text = format!(
            "no interface of this machine has the name of the source {source} and an address of \
             the wanted kind (`ip addr` lists them)"
        );
        return Err(io::Error::new(io::ErrorKind::AddrNotAvailable, text));
    }
    Ok(addresses)
}

/// Connects from the first source to the addresses of its family, then from the next.
fn dial_from(
    connect: &ConnectOptions,
    sources: &[SocketAddr],
    target: &Target<'_>,
    limit: Option<Duration>,
) -> io::Result<sward_net::TcpStream> {
    let deadline = limit.and_then(|limit| sward_runtime::now().checked_add(limit));
    let mut last = None;
    let mut families = Vec::new();
    for &source in sources {
        // One for each family: several of an interface would lead the same way.
        if families.contains(&source.is_ipv6()) {
            continue;
        }
        families.push(source.is_ipv6());
        let connect = connect.clone().bind(source);
        let target = Target {
            sources: &[source],
            ..*target
        };
        let connected = match deadline {
            None => connect.connect(target),
            Some(deadline) => {
                let left = deadline.saturating_duration_since(sward_runtime::now());
                connect.connect_timeout(target, left.max(Duration::from_nanos(1)))
            }
        };
        match connected {
            Ok(stream) => return Ok(stream),
            Err(e) => last = Some(e),
        }
    }
    Err(last.unwrap_or_else(|| invalid("there is no source".to_owned())))
}

/// A host to connect to, which is looked up when it is asked for its addresses.
struct Target<'a> {
    target: &'a HostPort,
    ipv6: bool,
    /// Only addresses of their families are of use; empty: of any.
    sources: &'a [SocketAddr],
}

impl ToSocketAddrs for Target<'_> {
    type Iter = vec::IntoIter<SocketAddr>;

    fn to_socket_addrs(&self) -> io::Result<Self::Iter> {
        let HostPort { host, port } = self.target;
        // `check_connect` has seen to it that both are there.
        let (Some(port), true) = (*port, !matches!(host, Host::Any)) else {
            return Err(invalid(format!(
                "tcp://{} is not to connect to",
                self.target
            )));
        };
        let (mut addresses, named) = match host {
            Host::Ip(ip, scope) => (vec![numeric(*ip, scope.as_deref(), port)?], false),
            Host::Name(name) => (lookup_host(name, port)?, true),
            Host::Any => (Vec::new(), false),
        };
        let known = addresses.len();
        addresses.retain(|address| {
            let usable = !named || self.ipv6 || address.is_ipv4();
            let reachable = |source: &SocketAddr| source.is_ipv6() == address.is_ipv6();
            usable && (self.sources.is_empty() || self.sources.iter().any(reachable))
        });
        if addresses.is_empty() {
            let why = if named && !self.ipv6 && self.sources.is_empty() {
                "all are of IPv6, which the option ipv6 allows"
            } else {
                "none is of the family of the source"
            };
            let text = format!("{} has {known} addresses, and {why}", self.target);
            return Err(io::Error::new(io::ErrorKind::AddrNotAvailable, text));
        }
        Ok(addresses.into_iter())
    }
}

/// The options that are set on each new socket.
struct Prepared {
    keepalive: Option<TcpKeepalive>,
    max_retransmission: Option<u32>,
    tos: u8,
    priority: u32,
    send_buffer: Option<usize>,
    recv_buffer: Option<usize>,
    device: Option<Box<str>>,
}

impl Prepared {
    fn new(options: &Options) -> Self {
        let millis = |limit: Duration| {
            // Rounded up: less than a millisecond is not "none".
            let millis = limit.as_nanos().div_ceil(1_000_000);
            i32::try_from(millis).unwrap_or(i32::MAX).unsigned_abs()
        };
        Self {
            keepalive: options.tcp_keepalive,
            max_retransmission: options.tcp_maxrt.map(millis),
            tos: options.tos,
            priority: options.priority,
            send_buffer: options.send_buffer,
            recv_buffer: options.recv_buffer,
            device: options.bind_to_device.clone(),
        }
    }

    fn set(&self, socket: impl AsFd) -> io::Result<()> {
        let socket = socket.as_fd();
        if let Some(keepalive) = self.keepalive {
            sockopt::set_socket_keepalive(socket, true)?;
            if let Some(idle) = keepalive.idle {
                sockopt::set_tcp_keepidle(socket, idle)?;
            }
            if let Some(interval) = keepalive.interval {
                sockopt::set_tcp_keepintvl(socket, interval)?;
            }
            if let Some(retries) = keepalive.retries {
                sockopt::set_tcp_keepcnt(socket, retries)?;
            }
        }
        if let Some(millis) = self.max_retransmission {
            sockopt::set_tcp_user_timeout(socket, millis)?;
        }
        if self.tos != 0 {
            sockopt::set_ip_tos(socket, self.tos)?;
            if sockopt::socket_domain(socket)? == AddressFamily::INET6 {
                sockopt::set_ipv6_tclass(socket, self.tos.into())?;
            }
        }
        if self.priority != 0 {
            set_priority(socket, self.priority)?;
        }
        buffers(socket, self.send_buffer, self.recv_buffer)?;
        match &self.device {
            Some(device) => bind_to_device(socket, device)
                .map_err(|e| at(format!("cannot use only the interface {device:?}"), e)),
            None => Ok(()),
        }
    }
}

/// Sets the sizes of a socket's buffers.
pub(super) fn buffers(
    socket: impl AsFd,
    send: Option<usize>,
    recv: Option<usize>,
) -> io::Result<()> {
    if let Some(bytes) = send {
        sockopt::set_socket_send_buffer_size(&socket, bytes)?;
    }
    if let Some(bytes) = recv {
        sockopt::set_socket_recv_buffer_size(&socket, bytes)?;
    }
    Ok(())
}
