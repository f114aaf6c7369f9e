//! What a server makes of bytes: the statuses that it answers, and whether it keeps the connection.
//!
//! Each row is sent whole, byte by byte and in random pieces, which must make no difference. The
//! handler answers 200 with the body it got. `open` means that the server waited for more when the
//! client ended; `close` that it ended the connection.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod common;

use common::{Random, Scripted, split, statuses, undated, within};

const ROWS: &[(&str, &str)] = &[
    // What is right.
    ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", "200 open"),
    ("GET / HTTP/1.1\r\nhost:a\r\n\r\n", "200 open"),
    ("GET / HTTP/1.1\r\nHOST: \t a \t \r\n\r\n", "200 open"),
    ("GET / HTTP/1.1\r\nHost:\r\n\r\n", "200 open"),
    ("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "200 open"),
    ("BREW /pot HTTP/1.1\r\nHost: a\r\n\r\n", "200 open"),
    ("GET http://a/b HTTP/1.1\r\nHost: a\r\n\r\n", "200 open"),
    ("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", "200 open"),
    (
        "GET /?a=b&c=%20 HTTP/1.1\r\nHost: a\r\nX: \u{e9}\r\n\r\n",
        "200 open",
    ),
    (
        "GET / HTTP/1.1\r\nHost: a\r\nX:\r\nX: \r\nX: a\tb\r\n\r\n",
        "200 open",
    ),
    ("", "open"),
    ("\r\n", "open"),
    ("GET / HTTP/1.1\r\nHost: a\r\n", "open"),
    // Several on one connection.
    (
        "GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "200 200 open",
    ),
    (
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "200 200 open",
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "200 200 open",
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "200 200 open",
    ),
    (
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "200 close",
    ),
    (
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: a, CLOSE\r\n\r\n",
        "200 close",
    ),
    (
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: a\r\nConnection: close\r\n\r\n",
        "200 close",
    ),
    (
        "GET / HTTP/1.1\r\nHost: a\r\n\r\nGARBAGE\r\n\r\n",
        "200 400 close",
    ),
    // HTTP/1.0.
    ("GET / HTTP/1.0\r\n\r\n", "200 close"),
    (
        "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET / HTTP/1.0\r\n\r\n",
        "200 200 close",
    ),
    ("POST / HTTP/1.0\r\nContent-Length: 1\r\n\r\nx", "200 close"),
    (
        "GET / HTTP/1.0\r\nExpect: 100-continue\r\n\r\n",
        "200 close",
    ),
    // HEAD, CONNECT.
    (
        "HEAD / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "200 200 open",
    ),
    ("CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n", "200 close"),
    (
        "CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\nContent-Length: 1\r\n\r\nx",
        "400 close",
    ),
    ("CONNECT / HTTP/1.1\r\nHost: a\r\n\r\n", "400 close"),
    // Line ends.
    ("GET / HTTP/1.1\nHost: a\n\n", "400 close"),
    ("GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n", "400 close"),
    ("GET / HTTP/1.1\r\nHost: a\r\n\n", "400 close"),
    ("\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "400 close"),
    ("GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n", "400 close"),
    ("GET / HTTP/1.1\r\nHost: a\r\r\n\r\n", "400 close"),
    (
        "GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n\tc\r\n\r\n",
        "400 close",
    ),
    ("GET / HTTP/1.1\r\n Host: a\r\n\r\n", "400 close"),
    ("\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "400 close"),
    // First lines.
    ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", "505 close"),
    ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "505 close"),
    ("GET / HTTP/1.2\r\nHost: a\r\n\r\n", "505 close"),
    ("GET / http/1.1\r\nHost: a\r\n\r\n", "400 close"),
    ("GET / HTTP/01.1\r\nHost: a\r\n\r\n", "400 close"),
    ("GET /\r\n\r\n", "400 close"),
    ("GET\r\n\r\n", "400 close"),
    ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", "400 close"),
    ("GET / a HTTP/1.1\r\nHost: a\r\n\r\n", "400 close"),
    ("GET / HTTP/1.1 \r\nHost: a\r\n\r\n", "400 close"),
    ("GET\t/\tHTTP/1.1\r\nHost: a\r\n\r\n", "400 close"),
    ("G(T / HTTP/1.1\r\nHost: a\r\n\r\n", "400 close"),
    ("GET a HTTP/1.1\r\nHost: a\r\n\r\n", "400 close"),
    ("GET * HTTP/1.1\r\nHost: a\r\n\r\n", "400 close"),
    ("GET /#a HTTP/1.1\r\nHost: a\r\n\r\n", "400 close"),
    ("GET /\u{e9} HTTP/1.1\r\nHost: a\r\n\r\n", "400 close"),
    ("GET http://u:p@a/ HTTP/1.1\r\nHost: a\r\n\r\n", "400 close"),
    ("GET file:///a HTTP/1.1\r\nHost: a\r\n\r\n", "400 close"),
    ("\u{16}\u{3}\u{1}\u{2}", "400 close"),
    ("SSH-2.0-x\r\n\r\n", "400 close"),
    // Fields.
    ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", "400 close"),
    ("GET / HTTP/1.1\r\nHost: a\r\nX\t: b\r\n\r\n", "400 close"),
    ("GET / HTTP/1.1\r\nHost: a\r\nX Y: b\r\n\r\n", "400 close"),
    ("GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n", "400 close"),
    ("GET / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n", "400 close"),
    ("GET / HTTP/1.1\r\nHost: a\r\nX: \0\r\n\r\n", "400 close"),
    (
        "GET / HTTP/1.1\r\nHost: a\r\nX: \u{1b}[0m\r\n\r\n",
        "400 close",
    ),
    (
        "GET / HTTP/1.1\r\nHost: a\r\nX: \u{7f}\r\n\r\n",
        "400 close",
    ),
    ("GET / HTTP/1.1\r\nHost: a\r\nX\0: b\r\n\r\n", "400 close"),
    (
        "GET / HTTP/1.1\r\nHost: a\r\nContent_Length: 5\r\n\r\n",
        "200 open",
    ),
    // Host.
    ("GET / HTTP/1.1\r\n\r\n", "400 close"),
    ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", "400 close"),
    ("GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", "400 close"),
    ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", "400 close"),
    ("GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", "400 close"),
    ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", "400 close"),
    ("GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", "400 close"),
    // Content-Length.
    (
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
        "200 open",
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
        "200 open",
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhell",
        "400 close",
    ),
    (
        "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
        "200 open",
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
        "400 close",
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        "400 close",
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 5\r\n\r\nhello",
        "400 close",
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        "400 close",
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\nhello",
        "400 close",
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5 5\r\n\r\nhello",
        "400 close",
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x5\r\n\r\nhello",
        "400 close",
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5;\r\n\r\nhello",
        "400 close",
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n",
        "400 close",
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length : 5\r\n\r\nhello",
        "400 close",
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551616\r\n\r\n",
        "400 close",
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551615\r\n\r\n",
        "413 close",
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1001\r\n\r\n",
        "413 close",
    ),
    // Transfer-Encoding.
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n0\r\n\r\n",
        "200 open",
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        "400 close",
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "400 close",
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: x\r\n\r\nhello",
        "400 close",
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "400 close",
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
        "400 close",
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        "400 close",
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n",
        "400 close",
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "501 close",
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        "400 close",
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n",
        "400 close",
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked;a=b\r\n\r\n0\r\n\r\n",
        "400 close",
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: ,chunked\r\n\r\n0\r\n\r\n",
        "400 close",
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n\r\n0\r\n\r\n",
        "400 close",
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \u{b}chunked\r\n\r\n0\r\n\r\n",
        "400 close",
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        "400 close",
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
        "400 close",
    ),
    (
        "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "400 close",
    ),
    // Chunks; in each, `Transfer-Encoding: chunked` goes before.
    ("~0\r\n\r\n", "200 open"),
    ("~3\r\nabc\r\n00\r\n\r\n", "200 open"),
    ("~3;a=b;c\r\nabc\r\n0;d\r\nX: y\r\n\r\n", "200 open"),
    (
        "~a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n",
        "200 open",
    ),
    ("~3\nabc\n0\n\n", "400 close"),
    ("~3\r\nabc\n0\r\n\r\n", "400 close"),
    ("~3\r\nabcd\r\n0\r\n\r\n", "400 close"),
    ("~3\r\nab", "400 close"),
    ("~3\r\nabc\r\n0\r\n", "400 close"),
    ("~3 \r\nabc\r\n0\r\n\r\n", "400 close"),
    ("~ 3\r\nabc\r\n0\r\n\r\n", "400 close"),
    ("~0x3\r\nabc\r\n0\r\n\r\n", "400 close"),
    ("~-3\r\nabc\r\n0\r\n\r\n", "400 close"),
    ("~+3\r\nabc\r\n0\r\n\r\n", "400 close"),
    ("~g\r\n\r\n", "400 close"),
    ("~;a\r\nabc\r\n0\r\n\r\n", "400 close"),
    ("~\r\n0\r\n\r\n", "400 close"),
    ("~10000000000000003\r\nabc\r\n0\r\n\r\n", "400 close"),
    ("~ffffffffffffffff\r\nabc", "413 close"),
    ("~3;a\nabc\r\n0\r\n\r\n", "400 close"),
    ("~3;a\0\r\nabc\r\n0\r\n\r\n", "400 close"),
    ("~3\r\rabc\r\n0\r\n\r\n", "400 close"),
    ("~0\r\nX : y\r\n\r\n", "400 close"),
    ("~0\r\n X: y\r\n\r\n", "400 close"),
    ("~0\r\nX: y\n\r\n", "400 close"),
    ("~0\r\nContent-Length: 5\r\n\r\n", "400 close"),
    ("~0\r\nHost: b\r\n\r\n", "400 close"),
    ("~3e8\r\n", "400 close"),
    ("~3e9\r\n", "413 close"),
    (
        "~0\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "200 200 open",
    ),
    ("~0\r\n\r\n0\r\n\r\n", "200 400 close"),
    // Expect.
    (
        "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\nx",
        "100 200 open",
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\nContent-Length: 0\r\n\r\n",
        "200 open",
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nExpect: 200-ok\r\nContent-Length: 1\r\n\r\nx",
        "417 close",
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 9999\r\n\r\n",
        "413 close",
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "100 200 open",
    ),
];

/// Bytes of a row: Latin-1, so that any byte can be written; `~` begins a chunked body.
fn bytes(row: &str) -> Vec<u8> {
    let chunked = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let text = row.strip_prefix('~').map(|rest| format!("{chunked}{rest}"));
    let text = text.as_deref().unwrap_or(row);
    text.chars()
        .map(|c| u8::try_from(u32::from(c)).unwrap())
        .collect()
}

#[test]
fn the_table() {
    within("the_table", || {
        let server = Scripted::new(|s| s.max_body(1000));
        let mut random = Random::new(11);
        for (row, wanted) in ROWS {
            let input = bytes(row);
            let whole = server.whole(&input);
            let mut got: String = statuses(&whole.sent)
                .iter()
                .map(|s| format!("{s} "))
                .collect();
            got.push_str(if whole.closed { "close" } else { "open" });
            // A HEAD's length is not that of a body.
            assert_eq!(got, *wanted, "{row:?}\n{}", undated(&whole.sent));
            let mut splits = vec![input.iter().map(|b| vec![*b]).collect()];
            splits.extend((0..10).map(|_| split(&input, &mut random)));
            for pieces in splits {
                let parts = server.talk(pieces.clone());
                assert_eq!(
                    undated(&parts.sent),
                    undated(&whole.sent),
                    "{row:?} as {pieces:?}"
                );
                assert_eq!(parts.closed, whole.closed, "{row:?} as {pieces:?}");
            }
        }
        assert!(ROWS.len() >= 80);
        assert_eq!(server.serving.stats().panicked, 0);
    });
}

#[test]
fn limits_of_the_head() {
    within("limits_of_the_head", || {
        let server = Scripted::new(|s| s.max_head(200).max_fields(3));
        let head = |rest: &str| format!("GET / HTTP/1.1\r\nHost: a\r\n{rest}\r\n");
        let long = "x".repeat(300);
        for (input, wanted) in [
            (head(""), 200),
            (head("a: 1\r\nb: 2\r\n"), 200),
            (head("a: 1\r\nb: 2\r\nc: 3\r\n"), 431),
            (head(&format!("a: {long}\r\n")), 431),
            // Before the end has come.
            (format!("GET / HTTP/1.1\r\nHost: a\r\nx: {long}"), 431),
            (format!("GET /{long}"), 414),
            (format!("GET /{long} HTTP/1.1\r\nHost: a\r\n\r\n"), 414),
        ] {
            let bytes = input.bytes().map(|b| vec![b]).collect();
            for outcome in [server.whole(input.as_bytes()), server.talk(bytes)] {
                assert_eq!(statuses(&outcome.sent), [wanted], "{input}");
                assert_eq!(outcome.closed, wanted != 200);
            }
        }
    });
}

#[test]
fn ten_megabytes_of_head_are_not_kept() {
    within("ten_megabytes_of_head_are_not_kept", || {
        let server = Scripted::new(|s| s);
        let piece = vec![b'x'; 64 * 1024];
        let mut pieces = vec![b"GET / HTTP/1.1\r\nHost: a\r\nx: ".to_vec()];
        pieces.extend(std::iter::repeat_n(piece, 160));
        let outcome = server.talk(pieces);
        assert_eq!(statuses(&outcome.sent), [431]);
        assert!(outcome.closed);
    });
}

#[test]
fn chunk_extensions_end() {
    within("chunk_extensions_end", || {
        let server = Scripted::new(|s| s);
        let mut input = bytes("~3;");
        input.extend(vec![b'x'; 1024 * 1024]);
        assert_eq!(statuses(&server.whole(&input).sent), [400]);
    });
}
