//! The examples of `std::net`'s documentation, as one text that is compiled and run twice: against
//! std, and against this crate. (`set_nonblocking` is left out: there is none here.)

/// The examples, for the module that has the types.
macro_rules! examples {
    ($name:ident, $($net:ident)::+) => {
        mod $name {
            use std::io::prelude::*;
            use std::io::{BufReader, ErrorKind, IoSlice, IoSliceMut};
            use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, SocketAddrV4};
            use std::os::fd::{AsFd, AsRawFd};
            use std::time::Duration;

            use $($net)::+::{TcpListener, TcpStream};

            fn pair() -> (TcpStream, TcpStream) {
                let listener = TcpListener::bind("127.0.0.1:0").unwrap();
                let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
                let (other, _) = listener.accept().unwrap();
                (stream, other)
            }

            pub(super) fn listen() -> std::io::Result<()> {
                let listener = TcpListener::bind("127.0.0.1:0").unwrap();
                let port = listener.local_addr().unwrap().port();
                let addrs = [
                    SocketAddr::from(([127, 0, 0, 1], port)),
                    SocketAddr::from(([127, 0, 0, 1], 0)),
                ];
                let second = TcpListener::bind(&addrs[..]).unwrap();
                assert_eq!(
                    second.local_addr().unwrap(),
                    SocketAddr::V4(SocketAddrV4::new(
                        Ipv4Addr::new(127, 0, 0, 1),
                        second.local_addr()?.port()
                    ))
                );
                let listener_clone = listener.try_clone().unwrap();
                let client = TcpStream::connect(("127.0.0.1", port))?;
                match listener_clone.accept() {
                    Ok((_socket, addr)) => assert_eq!(addr, client.local_addr()?),
                    Err(e) => panic!("couldn't get client: {e:?}"),
                }
                listener.set_ttl(100).expect("could not set TTL");
                assert_eq!(listener.ttl().unwrap_or(0), 100);
                assert!(listener.take_error().expect("take_error").is_none());
                assert!(listener.as_raw_fd() > 2);
                let client = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
                for stream in listener.incoming().take(1) {
                    match stream {
                        Ok(mut stream) => stream.write_all(b"taken")?,
                        Err(e) => return Err(e),
                    }
                }
                let mut text = String::new();
                BufReader::new(client).read_to_string(&mut text)?;
                assert_eq!(text, "taken");
                let error = TcpListener::bind(listener.local_addr()?).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::AddrInUse);
                Ok(())
            }

            pub(super) fn connect() -> std::io::Result<()> {
                let listener = TcpListener::bind((IpAddr::V4(Ipv4Addr::LOCALHOST), 0))?;
                let good = listener.local_addr()?;
                let (_bound, gone) = crate::common::refusing();
                let addrs = [gone, good];
                let Ok(stream) = TcpStream::connect(&addrs[..]) else {
                    panic!("Couldn't connect to server...");
                };
                assert_eq!(stream.peer_addr().unwrap(), good);
                let text = good.to_string();
                assert!(TcpStream::connect(text.as_str()).is_ok());
                assert!(TcpStream::connect(text).is_ok());
                assert!(TcpStream::connect(good).is_ok());
                let error = TcpStream::connect(gone).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
                assert!(TcpStream::connect_timeout(&good, Duration::from_secs(10)).is_ok());
                let error = TcpStream::connect_timeout(&good, Duration::ZERO).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::InvalidInput);
                let error = TcpStream::connect("no port here").unwrap_err();
                assert_eq!(error.kind(), ErrorKind::InvalidInput);
                Ok(())
            }

            pub(super) fn streams() -> std::io::Result<()> {
                let (mut stream, mut other) = pair();
                stream.write(&[1])?;
                other.write_all(&[2; 9])?;
                other.flush()?;
                let mut buf = [0; 10];
                let len = stream.peek(&mut buf).expect("peek failed");
                assert!(len > 0);
                stream.read(&mut [0; 128])?;
                other.read_exact(&mut buf[..1])?;
                assert_eq!(buf[0], 1);
                assert_eq!(stream.write_vectored(&[IoSlice::new(b"ab"), IoSlice::new(b"c")])?, 3);
                let (mut one, mut two) = ([0; 1], [0; 9]);
                let mut into = [IoSliceMut::new(&mut one), IoSliceMut::new(&mut two)];
                assert_eq!(other.read_vectored(&mut into)?, 3);

                let stream_clone = stream.try_clone().expect("clone failed...");
                (&stream_clone).write_all(b"by reference")?;
                stream.shutdown(Shutdown::Write).expect("shutdown call failed");
                let mut text = String::new();
                other.read_to_string(&mut text)?;
                assert_eq!(text, "by reference");
                assert_eq!((&stream).write(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
                assert!(stream_clone.as_fd().as_raw_fd() != stream.as_raw_fd());
                Ok(())
            }

            pub(super) fn settings() -> std::io::Result<()> {
                let (mut stream, _other) = pair();
                stream.set_read_timeout(None).expect("set_read_timeout call failed");
                assert_eq!(stream.read_timeout().unwrap(), None);
                stream.set_write_timeout(None).expect("set_write_timeout call failed");
                assert_eq!(stream.write_timeout().unwrap(), None);
                let result = stream.set_read_timeout(Some(Duration::new(0, 0)));
                assert_eq!(result.unwrap_err().kind(), ErrorKind::InvalidInput);
                let result = stream.set_write_timeout(Some(Duration::new(0, 0)));
                assert_eq!(result.unwrap_err().kind(), ErrorKind::InvalidInput);
                stream.set_read_timeout(Some(Duration::from_millis(20)))?;
                assert_eq!(stream.read_timeout()?, Some(Duration::from_millis(20)));
                // std: WouldBlock on Linux, TimedOut elsewhere.
                let kind = stream.read(&mut [0]).unwrap_err().kind();
                assert!(matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut));
                stream.set_nodelay(true).expect("set_nodelay call failed");
                assert!(stream.nodelay().unwrap_or(false));
                stream.set_ttl(100).expect("set_ttl call failed");
                assert_eq!(stream.ttl().unwrap_or(0), 100);
                assert!(stream.take_error().expect("No error was expected...").is_none());
                Ok(())
            }
        }
    };
}

examples!(with_std, std::net);
examples!(with_ours, sward_net);

#[test]
fn std_does_it() {
    crate::common::within("std_does_it", || {
        with_std::listen().unwrap();
        with_std::connect().unwrap();
        with_std::streams().unwrap();
        with_std::settings().unwrap();
    });
}

#[test]
fn so_do_we() {
    crate::common::everywhere_within("so_do_we", || {
        with_ours::listen().unwrap();
        with_ours::connect().unwrap();
        with_ours::streams().unwrap();
        with_ours::settings().unwrap();
    });
}
