//! TLS: what comes out is what went in, whoever is killed over it, and nothing is taken for whole
//! that is not.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::disallowed_types)]

#[path = "common/programs.rs"]
mod programs;

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ServerConfig, SupportedProtocolVersion};
use sward_net::server::Listener;
use sward_net::tls::{self, TlsListener, TlsStream, WithAlpn};
use sward_net::{Shutdown, Stream, TcpListener, TcpStream};
use sward_runtime::{Runtime, spawn, timeout, yield_now};

type Tls = TlsStream<TcpStream>;

fn within<T>(name: &str, f: impl FnOnce() -> T) -> T {
    sward_runtime::__private::test_body(Duration::from_secs(60), name, f)
}

/// Runs a test with one worker and with two.
fn with_workers(name: &str, f: impl Fn() + Send + Sync) {
    for workers in [1, 2] {
        within(name, || {
            let runtime = Runtime::builder().workers(workers).build().unwrap();
            runtime.run(&f);
        });
    }
}

/// A xorshift generator.
#[derive(Clone)]
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        println!("seed {seed}");
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }

    fn bytes(&mut self, n: usize) -> Vec<u8> {
        (0..n).map(|_| self.below(256) as u8).collect()
    }
}

fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let a = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (listener.accept().unwrap().0, a)
}

fn configs() -> (Arc<ServerConfig>, Arc<ClientConfig>) {
    let (server, client) = tls::self_signed(&["localhost"]).unwrap();
    (Arc::new(server), Arc::new(client))
}

/// The same for one version of TLS only.
fn configs_of(
    version: &'static SupportedProtocolVersion,
) -> (Arc<ServerConfig>, Arc<ClientConfig>) {
    let key = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let der = rustls::pki_types::PrivateKeyDer::Pkcs8(key.signing_key.serialize_der().into());
    let server = ServerConfig::builder_with_provider(tls::provider())
        .with_protocol_versions(&[version])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![key.cert.der().clone()], der)
        .unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(key.cert.der().clone()).unwrap();
    let client = ClientConfig::builder_with_provider(tls::provider())
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    (Arc::new(server), Arc::new(client))
}

fn pair_of(configs: &(Arc<ServerConfig>, Arc<ClientConfig>)) -> (Tls, Tls) {
    let (a, b) = tcp_pair();
    (
        tls::accept(configs.0.clone(), a).unwrap(),
        tls::connect_with(configs.1.clone(), "localhost", b).unwrap(),
    )
}

/// Two ends after their handshake.
fn pair() -> (Tls, Tls) {
    let (server, client) = pair_of(&configs());
    shake(&server, &client);
    (server, client)
}

fn shake<S: Stream>(server: &TlsStream<S>, client: &TlsStream<S>) {
    sward_runtime::scope(|s| {
        let task = s.spawn(|| server.handshake());
        client.handshake().unwrap();
        task.join().unwrap().unwrap();
    });
}

/// A stream that moves a few bytes at a time, and gives way before each.
#[derive(Debug)]
struct Trickle(TcpStream, usize);

impl Stream for Trickle {
    fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        yield_now();
        let n = buffer.len().min(self.1);
        self.0.recv(&mut buffer[..n])
    }
    fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        yield_now();
        self.0.send(&bytes[..bytes.len().min(self.1)])
    }
    fn set_read_timeout(&self, limit: Option<Duration>) -> io::Result<()> {
        self.0.set_read_timeout(limit)
    }
    fn set_write_timeout(&self, limit: Option<Duration>) -> io::Result<()> {
        self.0.set_write_timeout(limit)
    }
    fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.0.shutdown(how)
    }
    fn close(&self) -> io::Result<()> {
        self.0.close()
    }
}

#[test]
fn a_clean_end_is_a_clean_end() {
    with_workers("a_clean_end", || {
        for version in [&TLS12, &TLS13] {
            let (mut server, mut client) = pair_of(&configs_of(version));
            let task = spawn(move || {
                let mut text = String::new();
                server.read_to_string(&mut text).unwrap();
                assert_eq!(server.read(&mut [0; 8]).unwrap(), 0, "the end stays");
                server.write_all(text.to_uppercase().as_bytes()).unwrap();
                server.shutdown(Shutdown::Write).unwrap();
            });
            client.write_all(b"half ").unwrap();
            let parts = [IoSlice::new(b"clo"), IoSlice::new(b"sed")];
            assert_eq!(client.write_vectored(&parts).unwrap(), 6);
            assert_eq!(client.protocol_version(), Some(version.version));
            client.shutdown(Shutdown::Write).unwrap();
            let e = client.write(b"more").unwrap_err();
            assert_eq!(e.kind(), ErrorKind::BrokenPipe, "{e}");
            let mut text = String::new();
            client.read_to_string(&mut text).unwrap();
            assert_eq!(text, "HALF CLOSED");
            task.join().unwrap();
        }
    });
}

#[test]
fn bytes_that_come_one_by_one() {
    with_workers("bytes_one_by_one", || {
        let (server, client) = configs();
        let (a, b) = tcp_pair();
        let mut server = tls::accept(server, Trickle(a, 1)).unwrap();
        let mut client = tls::connect_with(client, "localhost", Trickle(b, 1)).unwrap();
        let data = Random::new(1).bytes(20_000);
        let sent = data.clone();
        let task = spawn(move || {
            client.write_all(&sent).unwrap();
            client.shutdown(Shutdown::Write).unwrap();
            client
        });
        let mut got = Vec::new();
        let mut random = Random::new(2);
        loop {
            let mut buffer = vec![0; 1 + random.below(2000) as usize];
            match server.read(&mut buffer).unwrap() {
                0 => break,
                n => got.extend_from_slice(&buffer[..n]),
            }
        }
        assert!(got == data);
        drop(task.join().unwrap());
    });
}

fn send_random(stream: &Tls, seed: u64, total: usize) {
    let (mut random, mut data) = (Random::new(seed), Random::new(seed + 1));
    let mut left = total;
    while left > 0 {
        let n = (1 + random.below(1 << (1 + random.clone().below(17)))) as usize;
        let bytes = data.bytes(n.min(left));
        let mut stream = stream;
        stream.write_all(&bytes).unwrap();
        left -= bytes.len();
    }
}

fn check_random(stream: &Tls, seed: u64, total: usize) {
    let (mut random, mut data) = (Random::new(seed + 2), Random::new(seed + 1));
    let mut left = total;
    while left > 0 {
        let n = (1 + random.below(1 << (1 + random.clone().below(17)))) as usize;
        let mut bytes = vec![0; n.min(left)];
        let mut stream = stream;
        let n = stream.read(&mut bytes).unwrap();
        assert!(n > 0, "ended {left} bytes early");
        assert!(bytes[..n] == data.bytes(n), "{left} bytes before the end");
        left -= n;
    }
}

#[test]
fn a_lot_goes_both_ways_at_once() {
    const TOTAL: usize = 3 << 20;
    with_workers("a_lot_both_ways", || {
        for version in [&TLS12, &TLS13] {
            let (server, client) = pair_of(&configs_of(version));
            sward_runtime::scope(|s| {
                s.spawn(|| send_random(&server, 10, TOTAL));
                s.spawn(|| check_random(&server, 20, TOTAL));
                s.spawn(|| send_random(&client, 20, TOTAL));
                s.spawn(|| check_random(&client, 10, TOTAL));
            });
        }
    });
}

#[test]
fn ordinary_threads_share_a_stream() {
    within("ordinary_threads", || {
        let (server, client) = pair();
        std::thread::scope(|s| {
            s.spawn(|| send_random(&server, 10, 1 << 20));
            s.spawn(|| check_random(&server, 20, 1 << 20));
            s.spawn(|| send_random(&client, 20, 1 << 20));
            s.spawn(|| check_random(&client, 10, 1 << 20));
        });
    });
}

#[test]
fn an_end_without_close_notify_is_a_truncation() {
    with_workers("truncation", || {
        let (server, mut client) = pair();
        (&server).write_all(b"the first half").unwrap();
        server.get_ref().shutdown(Shutdown::Write).unwrap();
        let mut text = Vec::new();
        let e = client.read_to_end(&mut text).unwrap_err();
        assert_eq!(text, b"the first half");
        assert_eq!(e.kind(), ErrorKind::UnexpectedEof);
        assert!(e.to_string().contains("truncated"), "{e}");
        let e = client.read(&mut [0]).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::UnexpectedEof, "again");
        // Inside of a record.
        let (server, mut client) = pair();
        server.get_ref().send(&[23, 3, 3, 0, 100, 1, 2, 3]).unwrap();
        server.get_ref().shutdown(Shutdown::Write).unwrap();
        let e = client.read(&mut [0]).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::UnexpectedEof);
        // Inside of the handshake.
        let (a, b) = tcp_pair();
        let server = tls::accept(configs().0, a).unwrap();
        b.send(&[22, 3, 1, 0, 100, 1]).unwrap();
        drop(b);
        let e = server.handshake().unwrap_err();
        assert_eq!(e.kind(), ErrorKind::UnexpectedEof, "{e}");
    });
}

#[test]
fn garbage_is_refused_with_an_alert() {
    with_workers("garbage", || {
        let (a, mut b) = tcp_pair();
        let mut server = tls::accept(configs().0, a).unwrap();
        b.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        for _ in 0..2 {
            let e = server.read(&mut [0; 100]).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::InvalidData);
            assert!(e.to_string().contains("is not TLS"), "{e}");
            assert!(server.write(b"x").is_err());
        }
        let mut alert = [0; 7];
        b.read_exact(&mut alert).unwrap();
        assert_eq!(alert[..3], [21, 3, 3], "an alert");
        // After the handshake: a record that nobody encrypted.
        let (mut server, mut client) = pair();
        (&server).write_all(b"before").unwrap();
        server.get_ref().send(&[23, 3, 3, 0, 20]).unwrap();
        server.get_ref().send(&[7; 20]).unwrap();
        let mut text = Vec::new();
        let e = client.read_to_end(&mut text).unwrap_err();
        assert_eq!(
            (text.as_slice(), e.kind()),
            (&b"before"[..], ErrorKind::InvalidData)
        );
        assert!(e.to_string().starts_with("read from a TLS stream"), "{e}");
        let e = server.read(&mut [0]).unwrap_err();
        assert!(e.to_string().contains("BadRecordMac"), "{e}");
        assert_eq!(
            client.read(&mut [0]).unwrap_err().kind(),
            ErrorKind::InvalidData
        );
        assert!(client.write(b"x").is_err());
    });
}

#[test]
fn a_slow_handshake_is_given_up() {
    with_workers("slow_handshake", || {
        let (server, _) = configs();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let limit = Duration::from_millis(50);
        let listener = TlsListener::new(listener, server)
            .handshake_timeout(Some(limit))
            .unwrap();
        let address = listener.local_addr().unwrap();
        let trickle = spawn(move || {
            let stream = TcpStream::connect(address).unwrap();
            // The head of a message that never ends, byte by byte.
            let head = [22, 3, 1, 0x3f, 0, 1, 0, 0x3e, 0];
            for byte in head.into_iter().chain(std::iter::repeat(0)) {
                if stream.send(&[byte]).is_err() {
                    return;
                }
                sward_runtime::sleep(Duration::from_millis(1));
            }
        });
        let (mut stream, _) = listener.accept().unwrap();
        let begun = std::time::Instant::now();
        let e = stream.read(&mut [0]).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::TimedOut);
        assert!(e.to_string().contains("handshake"), "{e}");
        assert!(begun.elapsed() >= limit);
        let e = stream.write(&[0]).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::TimedOut, "no second chance");
        drop(stream);
        trickle.join().unwrap();
    });
}

#[test]
fn names_and_protocols() {
    with_workers("names", || {
        let (server, client) = tls::self_signed(&["localhost"]).unwrap();
        let server = Arc::new(server.with_alpn(&["b", "c"]));
        let client = Arc::new(client.with_alpn(&["a", "b"]));
        let (server, client) = pair_of(&(server.clone(), client));
        assert_eq!(server.alpn(), None);
        shake(&server, &client);
        assert_eq!(server.alpn().unwrap(), b"b");
        assert_eq!(client.alpn().unwrap(), b"b");
        assert_eq!(server.server_name().unwrap(), "localhost");
        assert_eq!(client.server_name(), None);
        assert_eq!(client.peer_certificates().unwrap().len(), 1);
        assert_eq!(server.peer_certificates(), None);
        let version = server.protocol_version().unwrap();
        assert_eq!(version.as_str(), Some("TLSv1_3"));
        assert!(
            client
                .cipher_suite()
                .unwrap()
                .as_str()
                .unwrap()
                .starts_with("TLS13_AES")
        );

        let (server, client) = tls::self_signed(&["localhost"]).unwrap();
        let configs = (
            Arc::new(server.with_alpn(&["b"])),
            Arc::new(client.with_alpn(&["a"])),
        );
        let (server, client) = pair_of(&configs);
        let task = spawn(move || server.handshake());
        let e = client.handshake().unwrap_err();
        assert!(e.to_string().contains("NoApplicationProtocol"), "{e}");
        assert!(task.join().unwrap().is_err());
    });
}

#[test]
fn certificates_that_are_not_good() {
    with_workers("bad_certificates", || {
        let refused = |server: Arc<ServerConfig>, client: Arc<ClientConfig>, name: &str| {
            let (a, b) = tcp_pair();
            let server = tls::accept(server, a).unwrap();
            let client = tls::connect_with(client, name, b).unwrap();
            let task = spawn(move || server.handshake().unwrap_err().to_string());
            let e = client.handshake().unwrap_err();
            assert_eq!(e.kind(), ErrorKind::InvalidData);
            let inner = std::error::Error::source(e.get_ref().unwrap()).unwrap();
            assert!(inner.is::<rustls::Error>());
            let told = task.join().unwrap();
            assert!(
                told.contains("TLS handshake: received fatal alert"),
                "{told}"
            );
            e.to_string()
        };
        let (server, client) = configs();
        let e = refused(server.clone(), client, "example.org");
        assert!(e.contains("not valid for name"), "{e}");
        let (_, other) = configs();
        let e = refused(server, other, "localhost");
        assert!(e.contains("no root"), "{e}");

        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2001, 1, 1);
        params.not_after = rcgen::date_time_ymd(2002, 1, 1);
        let cert = params.self_signed(&key).unwrap();
        let der = rustls::pki_types::PrivateKeyDer::Pkcs8(key.serialize_der().into());
        let server = ServerConfig::builder_with_provider(tls::provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], der)
            .unwrap();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(cert.der().clone()).unwrap();
        let client = ClientConfig::builder_with_provider(tls::provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let e = refused(Arc::new(server), Arc::new(client), "localhost");
        assert!(e.contains("expired"), "{e}");

        let (a, _b) = tcp_pair();
        let e = tls::connect_with(configs().1, "no name", a).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::InvalidInput);
    });
}

#[test]
fn the_second_handshake_takes_up_the_session_of_the_first() {
    with_workers("resumption", || {
        let ready_made = configs();
        for configs in [configs_of(&TLS12), configs_of(&TLS13), ready_made] {
            for round in 0..3 {
                let (mut server, mut client) = pair_of(&configs);
                let task = spawn(move || {
                    server.write_all(b"x").unwrap();
                    server.is_resumed()
                });
                client.read_exact(&mut [0]).unwrap();
                assert_eq!(client.is_resumed(), round > 0);
                assert_eq!(task.join().unwrap(), round > 0);
            }
        }
    });
}

/// A peer on an ordinary thread, by rustls alone.
fn plain_client(
    config: Arc<ClientConfig>,
    address: std::net::SocketAddr,
) -> rustls::StreamOwned<rustls::ClientConnection, std::net::TcpStream> {
    let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
    let tls = rustls::ClientConnection::new(config, name).unwrap();
    rustls::StreamOwned::new(tls, std::net::TcpStream::connect(address).unwrap())
}

#[test]
fn keys_are_changed_under_way() {
    with_workers("key_update", || {
        let (server, client) = configs();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let thread = std::thread::spawn(move || {
            let mut stream = plain_client(client, address);
            for i in 0..30u8 {
                stream.write_all(&[i; 1000]).unwrap();
                stream.conn.refresh_traffic_keys().unwrap();
                stream.write_all(&[i; 1000]).unwrap();
                let mut echo = [0; 2000];
                stream.read_exact(&mut echo).unwrap();
                assert_eq!(echo, [i; 2000]);
            }
            stream.conn.send_close_notify();
            stream.flush().unwrap();
        });
        let server = tls::accept(server, listener.accept().unwrap().0).unwrap();
        io::copy(&mut &server, &mut &server).unwrap();
        thread.join().unwrap();
    });
}

#[test]
fn a_reader_does_not_wait_for_a_writer_whose_peer_does_not_read() {
    with_workers("reader_beside_stuck_writer", || {
        let (server, client) = pair();
        let server = Arc::new(server);
        let writer = {
            let server = server.clone();
            spawn(move || (&*server).write_all(&[7; 20 << 20]))
        };
        // More than the buffers of both sockets: it stands still sooner or later.
        for i in 0..100u8 {
            (&client).write_all(&[i; 500]).unwrap();
            let mut got = [0; 500];
            (&*server).read_exact(&mut got).unwrap();
            assert_eq!(got, [i; 500]);
        }
        assert!(!writer.is_finished());
        writer.kill();
        assert!(writer.join().is_err());
        // The peer reads now. What was begun comes whole, and what follows is intact.
        let task = spawn(move || {
            (&*server).write_all(&[8; 100]).unwrap();
            server.shutdown(Shutdown::Write).unwrap();
        });
        let mut all = Vec::new();
        (&client).read_to_end(&mut all).unwrap();
        let (old, new) = all.split_at(all.len() - 100);
        assert!(old.iter().all(|&b| b == 7) && !old.is_empty());
        assert_eq!(new, [8; 100]);
        task.join().unwrap();
    });
}

/// A frame: its number, its length, and bytes that follow from its number.
fn frame(number: u32, length: usize) -> Vec<u8> {
    let mut frame = number.to_le_bytes().to_vec();
    frame.extend_from_slice(&u32::try_from(length).unwrap().to_le_bytes());
    frame.extend((0..length).map(|i| (i as u32).wrapping_mul(number | 1) as u8));
    frame
}

/// The numbers of the frames in `bytes`, all of which must be whole.
fn frames(mut bytes: &[u8]) -> Vec<u32> {
    let mut numbers = Vec::new();
    while !bytes.is_empty() {
        let number = u32::from_le_bytes(bytes[..4].try_into().unwrap());
        let length = u32::from_le_bytes(bytes[4..8].try_into().unwrap()) as usize;
        assert!(
            bytes[..8 + length] == frame(number, length),
            "frame {number}"
        );
        numbers.push(number);
        bytes = &bytes[8 + length..];
    }
    numbers
}

#[test]
fn kills_and_time_outs_lose_nothing_and_double_nothing() {
    with_workers("kills", || {
        for seed in 1..=4 {
            kills(seed);
        }
    });
}

fn kills(seed: u64) {
    let mut random = Random::new(seed);
    let (a, b) = tcp_pair();
    // Little room, so that writers wait.
    rustix::net::sockopt::set_socket_send_buffer_size(&a, 16 << 10).unwrap();
    rustix::net::sockopt::set_socket_recv_buffer_size(&b, 16 << 10).unwrap();
    let (server, client) = configs();
    let server = Arc::new(tls::accept(server, Trickle(a, 3000)).unwrap());
    let client = tls::connect_with(client, "localhost", Trickle(b, 2000)).unwrap();
    let client = Arc::new(client);
    let done = Arc::new(AtomicBool::new(false));
    // The reading end: tasks that are killed and time out, one after the other.
    let reader = {
        let (done, mut random) = (done.clone(), random.clone());
        spawn(move || {
            let all = Arc::new(sward_runtime::sync::Mutex::new(Vec::new()));
            let ended = Arc::new(AtomicBool::new(false));
            while !ended.load(SeqCst) {
                let (client, all, ended) = (client.clone(), all.clone(), ended.clone());
                let mut inner = random.clone();
                random.below(2);
                let task = spawn(move || {
                    for _ in 0..20 {
                        let limit = Duration::from_micros(1 + inner.below(300));
                        client.set_read_timeout(Some(limit)).unwrap();
                        let mut bytes = vec![0; 1 + inner.below(3000) as usize];
                        match client.recv(&mut bytes) {
                            Ok(0) => return ended.store(true, SeqCst),
                            // Nobody else has this lock: no park before the bytes are kept.
                            Ok(n) => all.try_lock().unwrap().extend_from_slice(&bytes[..n]),
                            Err(e) => assert_eq!(e.kind(), ErrorKind::TimedOut, "{e}"),
                        }
                    }
                });
                if !done.load(SeqCst) || random.below(2) == 0 {
                    for _ in 0..random.below(30) {
                        yield_now();
                    }
                    task.kill();
                }
                let _ = task.join();
            }
            Arc::into_inner(all).unwrap().into_inner()
        })
    };
    let taken = Arc::new(sward_runtime::sync::Mutex::new(Vec::new()));
    let refused = Arc::new(sward_runtime::sync::Mutex::new(Vec::new()));
    let next = Arc::new(AtomicUsize::new(0));
    for _ in 0..60 {
        let (server, taken, refused) = (server.clone(), taken.clone(), refused.clone());
        let (mut inner, next) = (random.clone(), next.clone());
        random.below(2);
        let task = spawn(move || {
            for _ in 0..10 {
                let number = u32::try_from(next.fetch_add(1, SeqCst)).unwrap();
                let bytes = frame(number, inner.below(9_000) as usize);
                let limit = Duration::from_micros(1 + inner.below(4000));
                server.set_write_timeout(Some(limit)).unwrap();
                let write = || server.send(&bytes);
                let sent = if inner.below(4) == 0 {
                    // Killed or timed out inside of it: taken or not.
                    match timeout(Duration::from_micros(inner.below(2000)), write) {
                        Ok(sent) => sent,
                        Err(_) => continue,
                    }
                } else {
                    write()
                };
                match sent {
                    Ok(n) => {
                        assert_eq!(n, bytes.len());
                        taken.try_lock().unwrap().push(number);
                    }
                    Err(e) => {
                        assert_eq!(e.kind(), ErrorKind::TimedOut, "{e}");
                        refused.try_lock().unwrap().push(number);
                    }
                }
            }
        });
        for _ in 0..random.below(400) {
            yield_now();
        }
        if random.below(2) == 0 {
            task.kill();
        }
        if let Err(sward_runtime::JoinError::Panicked(p)) = task.join() {
            std::panic::resume_unwind(p);
        }
    }
    done.store(true, SeqCst);
    server.set_write_timeout(None).unwrap();
    (&*server).write_all(&frame(u32::MAX, 100)).unwrap();
    server.shutdown(Shutdown::Write).unwrap();
    let numbers = frames(&reader.join().unwrap());
    assert_eq!(numbers.last(), Some(&u32::MAX));
    assert!(numbers.is_sorted_by(|a, b| a < b), "in order, and once");
    for number in taken.lock().iter() {
        assert!(numbers.binary_search(number).is_ok(), "lost: {number}");
    }
    for number in refused.lock().iter() {
        assert!(
            numbers.binary_search(number).is_err(),
            "not taken: {number}"
        );
    }
    println!(
        "{} frames, {} taken, {} refused",
        numbers.len(),
        taken.lock().len(),
        refused.lock().len()
    );
}

#[test]
fn a_handshake_that_is_interrupted_goes_on() {
    with_workers("interrupted_handshake", || {
        let (server, client) = configs();
        let (a, b) = tcp_pair();
        let server = Arc::new(tls::accept(server, Trickle(a, 1)).unwrap());
        let client = Arc::new(tls::connect_with(client, "localhost", Trickle(b, 1)).unwrap());
        let mut random = Random::new(5);
        let insists = |stream: Arc<TlsStream<Trickle>>, mut random: Random| {
            move || {
                let mut interrupted = 0;
                loop {
                    let stream = stream.clone();
                    let task = spawn(move || stream.handshake());
                    for _ in 0..random.below(600) {
                        yield_now();
                    }
                    if random.below(4) > 0 {
                        task.kill();
                    }
                    match task.join() {
                        Ok(done) => break done.unwrap(),
                        Err(_) => interrupted += 1,
                    }
                }
                println!("interrupted {interrupted} times");
                stream
            }
        };
        let server = spawn(insists(server, random.clone()));
        random.below(7);
        let client = spawn(insists(client, random));
        let (server, client) = (server.join().unwrap(), client.join().unwrap());
        (&*server).write_all(b"there").unwrap();
        let mut text = [0; 5];
        (&*client).read_exact(&mut text).unwrap();
        assert_eq!(&text, b"there");
    });
}

#[test]
fn closing_wakes_those_who_wait() {
    with_workers("close", || {
        let (server, mut client) = pair();
        let server = Arc::new(server);
        let reader = {
            let server = server.clone();
            spawn(move || server.recv(&mut [0; 10]))
        };
        yield_now();
        server.close().unwrap();
        let e = reader.join().unwrap().unwrap_err();
        assert!(sward_runtime::io::is_closed(&e), "{e}");
        assert!(server.send(b"x").is_err());
        // It had room for a last word.
        assert_eq!(client.read(&mut [0]).unwrap(), 0);
        let (server, _client) = pair();
        server.shutdown(Shutdown::Read).unwrap();
        assert_eq!(server.recv(&mut [0; 10]).unwrap(), 0);
    });
}

#[test]
fn a_drop_says_goodbye_unless_it_unwinds() {
    with_workers("drop", || {
        let (server, mut client) = pair();
        (&server).write_all(b"all").unwrap();
        drop(server);
        let mut text = String::new();
        client.read_to_string(&mut text).unwrap();
        assert_eq!(text, "all");

        let (server, mut client) = pair();
        let task = spawn(move || {
            (&server).write_all(b"half").unwrap();
            std::panic::resume_unwind(Box::new(()));
        });
        assert!(task.join().is_err());
        let e = client.read_to_end(&mut Vec::new()).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::UnexpectedEof);
    });
}

#[test]
fn a_task_that_unwinds_does_not_wait() {
    struct LastWord(Arc<Tls>, Arc<AtomicBool>);
    impl Drop for LastWord {
        fn drop(&mut self) {
            // The turn is another's: an error, not a wait.
            assert!(self.0.recv(&mut [0]).is_err());
            self.1.store(true, SeqCst);
        }
    }
    with_workers("unwinding", || {
        let (server, client) = pair();
        let server = Arc::new(server);
        let reader = {
            let server = server.clone();
            spawn(move || server.recv(&mut [0; 10]))
        };
        yield_now();
        let said = Arc::new(AtomicBool::new(false));
        let task = {
            let (server, said) = (server.clone(), said.clone());
            spawn(move || {
                let _word = LastWord(server, said);
                sward_runtime::sleep(Duration::from_secs(3600));
            })
        };
        yield_now();
        task.kill();
        let _ = task.join();
        client.send(b"x").unwrap();
        assert_eq!(reader.join().unwrap().unwrap(), 1);
        assert!(said.load(SeqCst));
    });
}

#[test]
fn a_read_that_timed_out_has_lost_nothing() {
    with_workers("read_time_out", || {
        let (server, client) = pair();
        client
            .set_read_timeout(Some(Duration::from_millis(1)))
            .unwrap();
        let record = {
            // Half a record, by way of a second pair of hands.
            let e = client.recv(&mut [0; 100]).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::TimedOut, "{e}");
            (&server).write_all(&[5; 300]).unwrap();
            300
        };
        client.set_read_timeout(None).unwrap();
        let mut got = vec![0; record];
        (&client).read_exact(&mut got).unwrap();
        assert_eq!(got, [5; 300]);
    });
}

#[test]
fn files_that_are_wrong_are_named() {
    within("files", || {
        let dir = std::env::temp_dir().join(format!("sward-tls-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let make = |name: &str| {
            let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
            let (cert, key) = (
                dir.join(format!("{name}.crt")),
                dir.join(format!("{name}.key")),
            );
            std::fs::write(&cert, made.cert.pem()).unwrap();
            std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
            (cert, key)
        };
        let ((cert, key), (_, other)) = (make("one"), make("two"));
        let server = Arc::new(tls::server_config(&cert, &key).unwrap());
        let client = Arc::new(tls::client_config_with_roots(&cert).unwrap());
        let (server, client) = pair_of(&(server, client));
        shake(&server, &client);

        let e = |e: io::Result<ServerConfig>| e.unwrap_err().to_string();
        let text = e(tls::server_config(dir.join("none"), &key));
        assert!(text.contains("none"), "{text}");
        let text = e(tls::server_config(&key, &key));
        assert!(text.contains("one.key: there is no certificate"), "{text}");
        let text = e(tls::server_config(&cert, &cert));
        assert!(text.contains("one.crt: there is no private key"), "{text}");
        let text = e(tls::server_config(&cert, &other));
        assert!(
            text.contains("two.key") && text.contains("one.crt"),
            "{text}"
        );
        std::fs::remove_dir_all(&dir).unwrap();
    });
}

#[test]
fn openssl_is_understood() {
    use std::process::{Command, Stdio};
    let openssl = programs::program("openssl");
    within("openssl", || {
        let dir = std::env::temp_dir().join(format!("sward-openssl-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let (cert, key) = (dir.join("crt"), dir.join("key"));
        std::fs::write(&cert, made.cert.pem()).unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        for version in ["-tls1_2", "-tls1_3"] {
            // Its client, our server.
            let config = tls::server_config(&cert, &key).unwrap();
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let task = spawn(move || {
                let mut stream = tls::accept(config, listener.accept()?.0)?;
                let mut line = [0; 6];
                stream.read_exact(&mut line)?;
                stream.write_all(&line)?;
                stream.shutdown(Shutdown::Write)?;
                io::Result::Ok((line, stream.server_name()))
            });
            let mut client = Command::new(&openssl)
                .args(["s_client", "-quiet", "-verify_return_error", version])
                .args(["-servername", "localhost", "-verify_hostname", "localhost"])
                .arg("-connect")
                .arg(address.to_string())
                .arg("-CAfile")
                .arg(&cert)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            let mut input = client.stdin.take().unwrap();
            input.write_all(b"hello\n").unwrap();
            let out = client.wait_with_output().unwrap();
            drop(input);
            let told = String::from_utf8_lossy(&out.stderr).into_owned();
            let (line, name) = task.join().unwrap().map_err(|e| (e, told)).unwrap();
            assert_eq!((&line, name.as_deref()), (b"hello\n", Some("localhost")));
            assert_eq!(out.stdout, b"hello\n");

            // Its server, our client. It takes any port, and says which.
            let mut server = Command::new(&openssl)
                .args([
                    "s_server",
                    "-accept",
                    "127.0.0.1:0",
                    "-rev",
                    version,
                    "-naccept",
                    "1",
                ])
                .arg("-cert")
                .arg(&cert)
                .arg("-key")
                .arg(&key)
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            let mut out = io::BufReader::new(server.stdout.take().unwrap());
            let port: u16 = loop {
                let mut line = String::new();
                assert!(
                    io::BufRead::read_line(&mut out, &mut line).unwrap() > 0,
                    "no port"
                );
                if let Some(rest) = line.trim().strip_prefix("ACCEPT ") {
                    break rest.rsplit(':').next().unwrap().parse().unwrap();
                }
            };
            let config = tls::client_config_with_roots(&cert).unwrap();
            let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
            let mut stream = tls::connect_with(config, "localhost", stream).unwrap();
            stream.write_all(b"hello\n").unwrap();
            let mut line = [0; 6];
            stream.read_exact(&mut line).unwrap();
            assert_eq!(&line, b"olleh\n");
            stream.shutdown(Shutdown::Write).unwrap();
            drop(stream);
            // Its output is not read any more.
            drop(out);
            server.wait().unwrap();
        }
        std::fs::remove_dir_all(&dir).unwrap();
    });
}

#[test]
fn a_connection_that_waits_is_small() {
    with_workers("small", || {
        let (server, client) = configs();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let thread = std::thread::spawn(move || {
            let mut all: Vec<_> = (0..20)
                .map(|_| plain_client(client.clone(), address))
                .collect();
            for stream in &mut all {
                stream.write_all(&[1; 100]).unwrap();
                stream.read_exact(&mut [0; 100]).unwrap();
            }
            all
        });
        for _ in 0..20 {
            let stream = tls::accept(server.clone(), listener.accept().unwrap().0).unwrap();
            spawn(move || {
                let mut buffer = [0; 1024];
                while let Ok(n @ 1..) = stream.recv(&mut buffer) {
                    (&stream).write_all(&buffer[..n]).unwrap();
                }
            });
        }
        let all = sward_runtime::blocking(move || thread.join().unwrap());
        let census = sward_runtime::stack_census();
        println!("{census:?}");
        // Without the worker's stack for the handshake: 20 KiB and more.
        assert!(cfg!(debug_assertions) || census.deepest <= 12 << 10);
        drop(all);
    });
}
