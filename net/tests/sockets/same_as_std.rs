//! The same code, once with std's datagram and Unix sockets and once with ours: it compiles with
//! both and does the same.

use crate::common::{everywhere, within};

macro_rules! suite {
    ($name:ident, $UdpSocket:path, $UnixStream:path, $UnixListener:path, $UnixDatagram:path) => {
        mod $name {
            use std::io::prelude::*;
            use std::io::{ErrorKind, IoSlice, IoSliceMut};
            use std::net::{Ipv4Addr, Shutdown, SocketAddr};
            use std::os::fd::{AsFd, AsRawFd, OwnedFd};
            use std::os::linux::net::SocketAddrExt;
            use std::os::unix::net;
            use std::path::Path;
            use std::time::Duration;

            use $UdpSocket as UdpSocket;
            use $UnixDatagram as UnixDatagram;
            use $UnixListener as UnixListener;
            use $UnixStream as UnixStream;

            // std's are in ticks of the kernel.
            const SHORT: Option<Duration> = Some(Duration::from_millis(40));

            pub(super) fn udp() -> std::io::Result<()> {
                let addrs = [
                    SocketAddr::from(([127, 0, 0, 1], 0)),
                    SocketAddr::from(([127, 0, 0, 2], 0)),
                ];
                let a = UdpSocket::bind(&addrs[..])?;
                let b = UdpSocket::bind(("127.0.0.1", 0))?;
                let (at_a, at_b) = (a.local_addr()?, b.local_addr()?);
                let buf = &mut [0; 10];
                assert_eq!(a.send_to(&[0; 10], &at_b)?, 10);
                assert_eq!(b.peek_from(buf)?, (10, at_a));
                assert_eq!(b.recv_from(buf)?, (10, at_a));
                assert_eq!(a.peer_addr().unwrap_err().kind(), ErrorKind::NotConnected);
                a.connect((Ipv4Addr::LOCALHOST, at_b.port()))?;
                b.connect(at_a.to_string())?;
                assert_eq!(a.peer_addr()?, at_b);
                assert_eq!(
                    (a.send(b"hello")?, b.peek(buf)?, b.recv(&mut buf[..3])?),
                    (5, 5, 3)
                );
                let c = b.try_clone()?;
                a.send(b"")?;
                assert_eq!(c.recv(buf)?, 0);
                b.set_read_timeout(SHORT)?;
                b.set_write_timeout(SHORT)?;
                assert_eq!((b.read_timeout()?, b.write_timeout()?), (SHORT, SHORT));
                let zero = b.set_read_timeout(Some(Duration::ZERO)).unwrap_err();
                assert_eq!(zero.kind(), ErrorKind::InvalidInput);
                assert!(b.recv(buf).is_err());
                b.set_read_timeout(None)?;
                a.set_broadcast(true)?;
                a.set_multicast_loop_v4(false)?;
                a.set_multicast_ttl_v4(42)?;
                a.set_ttl(41)?;
                assert!(a.broadcast()? && !a.multicast_loop_v4()?);
                assert_eq!((a.multicast_ttl_v4()?, a.ttl()?), (42, 41));
                assert!(a.take_error()?.is_none());
                assert_eq!(a.as_fd().as_raw_fd(), a.as_raw_fd());
                let again = UdpSocket::try_from(OwnedFd::from(a)).unwrap();
                assert_eq!(again.local_addr()?, at_a);

                let gone = UdpSocket::bind("127.0.0.1:0")?;
                b.connect(gone.local_addr()?)?;
                drop(gone);
                b.send(b"x")?;
                assert_eq!(
                    b.recv(buf).unwrap_err().kind(),
                    ErrorKind::ConnectionRefused
                );
                assert_eq!(
                    b.send(&[0; 70_000]).unwrap_err().raw_os_error(),
                    Some(90) // EMSGSIZE
                );
                Ok(())
            }

            pub(super) fn streams(path: &Path) -> std::io::Result<()> {
                let missing = UnixStream::connect(path).unwrap_err();
                assert_eq!(missing.kind(), ErrorKind::NotFound);
                let listener = UnixListener::bind(path)?;
                let again = UnixListener::bind(path).unwrap_err();
                assert_eq!(again.kind(), ErrorKind::AddrInUse);
                let mut client = UnixStream::connect(path)?;
                let (mut server, from) = listener.accept()?;
                assert!(from.is_unnamed() && client.local_addr()?.is_unnamed());
                assert_eq!(listener.local_addr()?.as_pathname(), Some(path));
                assert_eq!(client.peer_addr()?.as_pathname(), Some(path));
                assert_eq!(server.local_addr()?.as_pathname(), Some(path));
                client.write_all(b"hello world")?;
                let (mut one, mut two) = ([0; 6], [0; 20]);
                let parts = &mut [IoSliceMut::new(&mut one), IoSliceMut::new(&mut two)];
                assert_eq!((&server).read_vectored(parts)?, 11);
                assert_eq!((&one, &two[..5]), (b"hello ", &b"world"[..]));
                let parts = [IoSlice::new(b"a"), IoSlice::new(b""), IoSlice::new(b"bc")];
                assert_eq!((&server).write_vectored(&parts)?, 3);
                server.shutdown(Shutdown::Write)?;
                let mut response = String::new();
                client.try_clone()?.read_to_string(&mut response)?;
                assert_eq!(response, "abc");
                assert_eq!(
                    server.write(b"x").unwrap_err().kind(),
                    ErrorKind::BrokenPipe
                );
                client.set_read_timeout(SHORT)?;
                client.set_write_timeout(SHORT)?;
                assert_eq!(
                    (client.read_timeout()?, client.write_timeout()?),
                    (SHORT, SHORT)
                );
                drop(client);
                assert_eq!(server.read(&mut [0])?, 0);
                assert!(server.take_error()?.is_none());
                drop(UnixStream::connect(path)?);
                for stream in listener.incoming().take(1) {
                    assert_eq!(stream?.read(&mut [0])?, 0);
                }
                drop(UnixStream::connect(path)?);
                assert!((&listener).into_iter().next().unwrap().is_ok());
                drop(listener);
                let left_over = UnixStream::connect(path).unwrap_err();
                assert_eq!(left_over.kind(), ErrorKind::ConnectionRefused);
                std::fs::remove_file(path)?;

                let name =
                    net::SocketAddr::from_abstract_name(path.as_os_str().as_encoded_bytes())?;
                let listener = UnixListener::bind_addr(&name)?;
                let (mut a, mut b) = (UnixStream::connect_addr(&name)?, listener.accept()?.0);
                a.write_all(b"x")?;
                assert_eq!(b.read(&mut [0; 2])?, 1);
                let (c, d) = UnixStream::pair()?;
                (&c).write_all(b"x")?;
                assert_eq!((&d).read(&mut [0; 2])?, 1);
                (&c).flush()
            }

            pub(super) fn datagrams(path: &Path) -> std::io::Result<()> {
                let name =
                    net::SocketAddr::from_abstract_name(path.as_os_str().as_encoded_bytes())?;
                let (a, b) = (UnixDatagram::bind(path)?, UnixDatagram::bind_addr(&name)?);
                let again = UnixDatagram::bind(path).unwrap_err();
                assert_eq!(again.kind(), ErrorKind::AddrInUse);
                let none = UnixDatagram::unbound()?;
                let buf = &mut [0; 4];
                assert_eq!(none.send(b"x").unwrap_err().kind(), ErrorKind::NotConnected);
                assert_eq!(none.send_to(b"larger", path)?, 6);
                let (n, from) = a.recv_from(buf)?;
                assert!(n == 4 && from.is_unnamed());
                assert_eq!(a.send_to_addr(b"", &name)?, 0);
                let (n, from) = b.recv_from(buf)?;
                assert_eq!((n, from.as_pathname()), (0, Some(path)));
                none.connect(path)?;
                none.connect_addr(&name)?;
                assert_eq!(
                    none.peer_addr()?.as_abstract_name(),
                    name.as_abstract_name()
                );
                assert!(none.local_addr()?.is_unnamed());
                assert_eq!((none.send(b"abc")?, b.try_clone()?.recv(buf)?), (3, 3));
                b.set_read_timeout(SHORT)?;
                b.set_write_timeout(SHORT)?;
                assert_eq!((b.read_timeout()?, b.write_timeout()?), (SHORT, SHORT));
                assert!(b.recv(buf).is_err() && b.take_error()?.is_none());
                drop(b);
                assert_eq!(
                    none.send(b"x").unwrap_err().kind(),
                    ErrorKind::ConnectionRefused
                );
                let (c, d) = UnixDatagram::pair()?;
                assert_eq!((c.send(b"ab")?, d.recv(buf)?), (2, 2));
                d.shutdown(Shutdown::Both)?;
                assert_eq!(d.recv(buf)?, 0);
                assert_eq!(c.send(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
                drop(a);
                std::fs::remove_file(path)
            }
        }
    };
}

suite!(
    std_types,
    std::net::UdpSocket,
    std::os::unix::net::UnixStream,
    std::os::unix::net::UnixListener,
    std::os::unix::net::UnixDatagram
);
suite!(
    our_types,
    sward_net::UdpSocket,
    sward_net::UnixStream,
    sward_net::UnixListener,
    sward_net::UnixDatagram
);

#[test]
fn the_same() {
    within("the_same", || {
        let path = std::env::temp_dir().join(format!("sward-same-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        std_types::udp().unwrap();
        std_types::streams(&path).unwrap();
        std_types::datagrams(&path).unwrap();
        everywhere(|| {
            our_types::udp().unwrap();
            our_types::streams(&path).unwrap();
            our_types::datagrams(&path).unwrap();
        });
    });
}
