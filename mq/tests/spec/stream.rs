//! STREAM: bytes of TCP, with the connection's id before them.

use std::io::{Read, Write};
use std::time::Duration;

use sward_net::{TcpListener, TcpStream};

use crate::support::wire::{frame, greeting, ready};
use crate::support::{IntoFrames, Kind, Opt, Socket, World, text, until};

use Kind::{Dealer, Stream};

fn address(endpoint: &str) -> &str {
    endpoint.strip_prefix("tcp://").unwrap()
}

/// Takes the next message of that connection apart: its id, and the bytes.
fn next(socket: &Socket) -> (Vec<u8>, Vec<u8>) {
    let mut frames = socket.take();
    assert_eq!(frames.len(), 2, "{:?}", text(&frames));
    assert_eq!(
        (frames[0].len(), frames[0][0]),
        (5, 0),
        "{:?}",
        text(&frames)
    );
    (frames.remove(0), frames.remove(0))
}

/// Takes so many bytes of a connection, in whatever parts they come.
fn bytes(socket: &Socket, n: usize) -> (Vec<u8>, Vec<u8>) {
    let (id, mut all) = next(socket);
    while all.len() < n {
        let (from, more) = next(socket);
        assert_eq!(from, id);
        all.extend(more);
    }
    (id, all)
}

/// A client that knows nothing of ZeroMQ: its coming, its bytes, ours, its going.
fn a_plain_client(w: &World) {
    let stream = w.subject(Stream);
    let endpoint = stream.listen(w);
    let mut client = TcpStream::connect(address(&endpoint)).unwrap();
    let (id, hello) = next(&stream);
    assert!(hello.is_empty());
    client.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    let (from, request) = bytes(&stream, 18);
    assert_eq!(
        (from, request),
        (id.clone(), b"GET / HTTP/1.0\r\n\r\n".to_vec())
    );
    stream.put(vec![id.clone(), b"HTTP/1.0 200 OK\r\n".to_vec()]);
    stream.put(vec![id.clone(), b"\r\n".to_vec()]);
    let mut answer = [0; 19];
    client.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.0 200 OK\r\n\r\n");
    drop(client);
    assert_eq!(next(&stream), (id, vec![]));
}

/// It connects to a server that knows nothing of ZeroMQ.
fn a_plain_server(w: &World) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let stream = w.subject(Stream);
    stream.dial(&format!("tcp://{}", listener.local_addr().unwrap()));
    let (mut server, _) = listener.accept().unwrap();
    let (id, hello) = next(&stream);
    assert!(hello.is_empty());
    stream.put(vec![id.clone(), b"ping".to_vec()]);
    let mut ping = [0; 4];
    server.read_exact(&mut ping).unwrap();
    assert_eq!(&ping, b"ping");
    server.write_all(b"pong").unwrap();
    assert_eq!(bytes(&stream, 4), (id, b"pong".to_vec()));
}

/// An empty message closes the connection.
fn an_empty_message_closes(w: &World) {
    let stream = w.subject(Stream);
    let endpoint = stream.listen(w);
    let mut client = TcpStream::connect(address(&endpoint)).unwrap();
    let (id, _) = next(&stream);
    let mut other = TcpStream::connect(address(&endpoint)).unwrap();
    let (other_id, _) = next(&stream);
    stream.put(vec![id.clone(), b"bye".to_vec()]);
    let mut bye = [0; 3];
    client.read_exact(&mut bye).unwrap();
    assert_eq!(&bye, b"bye");
    stream.put(vec![id, vec![]]);
    // The other is as it was.
    other.write_all(b"still").unwrap();
    while let (from, got) = next(&stream)
        && from != other_id
    {
        assert!(got.is_empty(), "{}", got.escape_ascii());
    }
    client
        .set_read_timeout(Some(Duration::from_millis(20)))
        .unwrap();
    until("it is closed", || {
        // libzmq gets on with it when it is called.
        let _ = stream.recv_for(Duration::from_millis(1));
        client.read(&mut bye).is_ok_and(|n| n == 0)
    });
}

/// Two STREAMs: both learn of the connection.
fn stream_to_stream(w: &World) {
    let (a, b) = (w.subject(Stream), w.peer(Stream));
    a.dial(&b.listen(w));
    let ((of_b, hello), (of_a, again)) = (next(&a), next(&b));
    assert!(hello.is_empty() && again.is_empty());
    a.put(vec![of_b.clone(), b"hello".to_vec()]);
    assert_eq!(bytes(&b, 5), (of_a.clone(), b"hello".to_vec()));
    b.put(vec![of_a.clone(), b"back".to_vec()]);
    assert_eq!(bytes(&a, 4), (of_b, b"back".to_vec()));
}

/// STREAM_NOTIFY off: connections come and go in silence.
fn without_notifications(w: &World) {
    let stream = w.subject(Stream);
    stream.with([Opt::StreamNotify(false)]);
    let endpoint = stream.listen(w);
    for word in [b"one", b"two"] {
        let mut client = TcpStream::connect(address(&endpoint)).unwrap();
        client.write_all(word).unwrap();
        assert_eq!(bytes(&stream, 3).1, word);
        drop(client);
    }
}

/// More bytes than one read takes, both ways.
fn long_ones(w: &World) {
    let stream = w.subject(Stream);
    let endpoint = stream.listen(w);
    let mut client = TcpStream::connect(address(&endpoint)).unwrap();
    let (id, _) = next(&stream);
    let all: Vec<u8> = (0..300_000).map(|i| (i % 251) as u8).collect();
    let mut sender = client.try_clone().unwrap();
    let sent = all.clone();
    let sending = std::thread::spawn(move || sender.write_all(&sent).unwrap());
    let (from, got) = bytes(&stream, all.len());
    sending.join().unwrap();
    assert!(from == id && got == all);
    stream.put(vec![id, all.clone()]);
    let mut back = vec![0; all.len()];
    client.read_exact(&mut back).unwrap();
    assert!(back == all);
}

/// Spoken by hand over a STREAM: ZMTP, to a DEALER.
fn zmtp_by_hand(w: &World) {
    let (stream, dealer) = (w.subject(Stream), w.peer(Dealer));
    dealer.with([crate::support::id("D")]);
    stream.dial(&dealer.listen(w));
    let (id, _) = next(&stream);
    let send = |bytes: &[u8]| stream.put(vec![id.clone(), bytes.to_vec()]);
    send(&greeting(0));
    // Greetings are 64 bytes; the READY behind it may come with it.
    let (_, mut got) = bytes(&stream, 64);
    assert_eq!((got[0], got[9], got[10]), (0xFF, 0x7F, 3));
    assert_eq!(&got[12..16], b"NULL");
    send(&ready(&[("Socket-Type", "ROUTER"), ("Identity", "")]));
    while !got.windows(7).any(|part| part == b"\x05READY\x0b") || !got.ends_with(b"D") {
        got.extend(next(&stream).1);
    }
    send(&frame(0, b"hello"));
    assert_eq!(dealer.one(), "hello");
    dealer.put("back");
    let wanted = frame(0, b"back");
    assert_eq!(bytes(&stream, wanted.len()).1, wanted);
}

/// To an id that nobody has: EHOSTUNREACH; a message without bytes behind an id is not for the wire.
fn to_nobody(w: &World) {
    let stream = w.subject(Stream);
    stream.listen(w);
    assert_eq!(
        stream.try_send(["\u{1}nobody", "hello"].into_frames()),
        Err(crate::support::EHOSTUNREACH)
    );
}

/// CONNECT_ROUTING_ID names the next connection.
fn named(w: &World) {
    let (a, b) = (w.subject(Stream), w.peer(Stream));
    a.with([Opt::ConnectRoutingId(b"server".to_vec())]);
    a.dial(&b.listen(w));
    assert_eq!(a.get(), ["server", ""]);
    let (of_a, _) = next(&b);
    a.put(["server", "hello"]);
    assert_eq!(bytes(&b, 5), (of_a, b"hello".to_vec()));
}

over_tcp! {
    a_plain_client,
    a_plain_server,
    an_empty_message_closes,
    stream_to_stream,
    without_notifications,
    long_ones,
    zmtp_by_hand,
    to_nobody,
    named,
}
