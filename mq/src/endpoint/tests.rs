use EndpointErrorKind::{AbsentTransport, Purpose, Syntax, TooLong, UnknownTransport};

use super::*;

fn parse(text: &str) -> Endpoint {
    text.parse().unwrap_or_else(|e| panic!("{e}"))
}

#[test]
fn what_is_right_has_a_canonical_text() {
    let long = format!("ipc://{}", "p".repeat(107));
    let abstract_name = format!("ipc://@{}", "a".repeat(106));
    let name = format!("inproc://{}", "n".repeat(256));
    for (text, canonical) in [
        ("tcp://*:*", "tcp://*:*"),
        ("tcp://*:0", "tcp://*:*"),
        ("tcp://*:5555", "tcp://*:5555"),
        ("tcp://0.0.0.0:*", "tcp://0.0.0.0:*"),
        ("tcp://1.2.128.129:123", "tcp://1.2.128.129:123"),
        ("tcp://1.2.128.129:0", "tcp://1.2.128.129:*"),
        ("tcp://255.255.255.255:65535", "tcp://255.255.255.255:65535"),
        ("tcp://[192.168.1.1]:5555", "tcp://192.168.1.1:5555"),
        ("tcp://127.0.0.1:05555", "tcp://127.0.0.1:5555"),
        ("tcp://[::1]:1234", "tcp://[::1]:1234"),
        ("tcp://[::]:*", "tcp://[::]:*"),
        (
            "tcp://[ABCD:1234::1:0:234]:1",
            "tcp://[abcd:1234::1:0:234]:1",
        ),
        ("tcp://[::ffff:1.2.3.4]:1", "tcp://[::ffff:1.2.3.4]:1"),
        (
            "tcp://[3000:4:5::1:234%2]:1111",
            "tcp://[3000:4:5::1:234%2]:1111",
        ),
        ("tcp://[fe80::1%eth0]:8080", "tcp://[fe80::1%eth0]:8080"),
        ("tcp://[fe80::1%02]:8080", "tcp://[fe80::1%2]:8080"),
        ("tcp://ip.zeromq.org:1234", "tcp://ip.zeromq.org:1234"),
        ("tcp://[ip.zeromq.org]:22", "tcp://ip.zeromq.org:22"),
        ("tcp://my_host-2.:22", "tcp://my_host-2.:22"),
        ("tcp://3com.example:22", "tcp://3com.example:22"),
        ("tcp://lo:*", "tcp://lo:*"),
        ("tcp://eth0.100:5555", "tcp://eth0.100:5555"),
        (
            "tcp://127.0.0.1:0;localhost:1234",
            "tcp://127.0.0.1:*;localhost:1234",
        ),
        (
            "tcp://lo:5555;localhost:1235",
            "tcp://lo:5555;localhost:1235",
        ),
        ("tcp://[::1]:5;[::2]:6", "tcp://[::1]:5;[::2]:6"),
        ("ipc:///tmp/a b:c;d%e", "ipc:///tmp/a b:c;d%e"),
        ("ipc://relative", "ipc://relative"),
        ("ipc://@abstract", "ipc://@abstract"),
        ("ipc://*", "ipc://*"),
        ("ipc://**", "ipc://**"),
        (&long, &long),
        (&abstract_name, &abstract_name),
        ("inproc://a", "inproc://a"),
        ("inproc://a://b", "inproc://a://b"),
        ("inproc://*", "inproc://*"),
        (&name, &name),
    ] {
        let endpoint = parse(text);
        assert_eq!(endpoint.to_string(), canonical);
        assert_eq!(parse(canonical), endpoint);
        assert!(text.starts_with(endpoint.scheme()));
    }
}

#[test]
fn what_is_wrong_says_where_and_what_to_write() {
    let long = format!("ipc://{}", "p".repeat(108));
    let abstract_name = format!("ipc://@{}", "a".repeat(107));
    let name = format!("inproc://{}", "n".repeat(257));
    let host = format!("tcp://{}:1", "h".repeat(254));
    for (text, kind, place, says) in [
        ("", Syntax, 0, "begins with tcp://"),
        ("tcp", Syntax, 0, "begins with tcp://"),
        ("tcp:/127.0.0.1:1", Syntax, 0, "begins with tcp://"),
        ("127.0.0.1:5555", Syntax, 0, "as in tcp://127.0.0.1:5555"),
        (
            "http://a:1",
            UnknownTransport,
            0,
            "tcp, ipc and inproc are there",
        ),
        ("://a:1", UnknownTransport, 0, "no such transport"),
        ("TCP://a:1", UnknownTransport, 0, "written small: tcp"),
        (
            "pgm://eth0;239.0.0.1:1",
            AbsentTransport,
            0,
            "pgm is not there: for one to many",
        ),
        (
            "epgm://eth0;239.0.0.1:1",
            AbsentTransport,
            0,
            "PUB and SUB over tcp",
        ),
        (
            "norm://1,eth0;239.0.0.1:1",
            AbsentTransport,
            0,
            "PUB and SUB",
        ),
        ("udp://127.0.0.1:1", AbsentTransport, 0, "RADIO"),
        ("ws://a:1/path", AbsentTransport, 0, "use tcp"),
        ("wss://a:1", AbsentTransport, 0, "use tcp"),
        ("tipc://{1,2,3}", AbsentTransport, 0, "ipc"),
        ("vmci://1:2", AbsentTransport, 0, "use tcp"),
        ("vsock://1:2", AbsentTransport, 0, "use tcp"),
        ("tcp://", Syntax, 6, "a port is missing"),
        (
            "tcp://1.2.3.4",
            Syntax,
            13,
            "a port is missing: HOST:PORT, as in 1.2.3.4:5555",
        ),
        ("tcp://1.2.3.4:", Syntax, 14, "a port is missing"),
        (
            "tcp://1.2.3.4:bad",
            Syntax,
            14,
            "\"bad\" is no port: 1 to 65535",
        ),
        ("tcp://1.2.3.4:567bad", Syntax, 14, "is no port"),
        ("tcp://1.2.3.4:+5", Syntax, 14, "is no port"),
        ("tcp://1.2.3.4:65536", Syntax, 14, "is no port"),
        ("tcp://1.2.3.4:-1", Syntax, 14, "is no port"),
        ("tcp://1.2.3.4:http", Syntax, 14, "is no port"),
        ("tcp://127.0.0.1:!", Syntax, 16, "a free port is written *"),
        (
            "tcp://:5555",
            Syntax,
            6,
            "a host is missing; every interface of this machine is *",
        ),
        ("tcp://[]:5555", Syntax, 7, "a host is missing"),
        ("tcp://1.2.128.129]:1", Syntax, 6, "closed and not opened"),
        ("tcp://[1.2.128.129:1", Syntax, 6, "opened and not closed"),
        ("tcp://[1.2.128].129:1", Syntax, 6, "opened and not closed"),
        ("tcp://[192.168.1.1:]5555", Syntax, 24, "a port is missing"),
        ("tcp://[192.168.1.1:5555]", Syntax, 24, "a port is missing"),
        ("tcp://[192.168.1.1:*]", Syntax, 21, "a port is missing"),
        (
            "tcp://[ip.zeromq.org:22]:1",
            Syntax,
            7,
            "is no IPv6 address",
        ),
        ("tcp://[*]:5", Syntax, 7, "letters"),
        ("tcp://::1:5555", Syntax, 6, "in brackets: [::1]"),
        ("tcp://abcd:1234::1:0:234:123", Syntax, 6, "in brackets"),
        ("tcp://[::1", Syntax, 6, "opened and not closed"),
        ("tcp://::1]:1", Syntax, 6, "closed and not opened"),
        ("tcp://[::1]5", Syntax, 12, "a port is missing"),
        (
            "tcp://[abcd:1234::1:]0:234",
            Syntax,
            6,
            "opened and not closed",
        ),
        ("tcp://[12345::1]:1", Syntax, 7, "is no IPv6 address"),
        ("tcp://[::1%]:1", Syntax, 11, "stands the interface"),
        ("tcp://[::1%0]:1", Syntax, 11, "stands the interface"),
        ("tcp://[::1%a/b]:1", Syntax, 11, "stands the interface"),
        (
            "tcp://[::1%sixteen-long-nam]:1",
            Syntax,
            11,
            "stands the interface",
        ),
        ("tcp://1.2.3.4%lo:1", Syntax, 6, "only IPv6 addresses"),
        ("tcp://ip.zeromq.org%lo:1", Syntax, 6, "only IPv6 addresses"),
        ("tcp://256.1.1.1:1", Syntax, 6, "is no IPv4 address"),
        ("tcp://1.2.3:1", Syntax, 6, "is no IPv4 address"),
        ("tcp://127.1:1", Syntax, 6, "is no IPv4 address"),
        ("tcp://-a:1", Syntax, 6, "begins with one of the first two"),
        ("tcp://a b:1", Syntax, 7, "letters"),
        ("tcp://a/b:1", Syntax, 7, "letters"),
        ("tcp://h\u{f6}st:1", Syntax, 7, "letters"),
        ("tcp://a:1/path", Syntax, 8, "is no port"),
        (&host, TooLong, 6, "253"),
        ("tcp://a;b:1", Syntax, 7, "a port is missing"),
        ("tcp://;b:1", Syntax, 6, "a port is missing"),
        ("tcp://a:1;", Syntax, 10, "a port is missing"),
        ("tcp://a:1;b:2;c:3", Syntax, 6, "one source at the most"),
        ("ipc://", Syntax, 6, "ipc://PATH"),
        ("ipc://@", Syntax, 7, "ipc://@NAME"),
        ("ipc://a\0b", Syntax, 7, "NUL"),
        (
            &long,
            TooLong,
            6,
            "108 bytes, and the kernel takes 107 at the most (ENAMETOOLONG)",
        ),
        (&abstract_name, TooLong, 6, "107 at the most"),
        ("inproc://", Syntax, 9, "inproc://NAME"),
        (&name, TooLong, 9, "257 bytes, and 256 are the most"),
    ] {
        let e = text.parse::<Endpoint>().expect_err(text);
        let shown = e.to_string();
        assert_eq!((e.kind(), e.place()), (kind, Some(place)), "{shown}");
        assert!(shown.contains(says), "{shown}");
        assert_eq!(e.endpoint(), text);
        assert!(shown.len() < 600, "{shown}");
    }
}

#[test]
fn what_it_is_for_decides() {
    for (text, bind, connect) in [
        ("tcp://*:5555", "", "tcp://127.0.0.1:5555 is this machine"),
        ("tcp://*:*", "", "tcp://127.0.0.1:PORT"),
        ("tcp://127.0.0.1:*", "", "last_endpoint"),
        ("tcp://127.0.0.1:5", "", ""),
        ("tcp://lo:5", "", ""),
        ("tcp://0.0.0.0:5", "", ""),
        ("tcp://a.host.of.others:5", "no interface can be called", ""),
        ("tcp://lo:*;a.host.of.others:5", "only one address", ""),
        (
            "tcp://lo:*;a.host.of.others:*",
            "only one address",
            "last_endpoint",
        ),
        ("ipc://*", "", "last_endpoint"),
        ("ipc://a", "", ""),
        ("inproc://*", "", ""),
    ] {
        let endpoint = parse(text);
        for (checked, says) in [
            (endpoint.check_bind(), bind),
            (endpoint.check_connect(), connect),
        ] {
            match checked {
                Ok(()) => assert_eq!(says, "", "{text}"),
                Err(e) => {
                    let shown = e.to_string();
                    assert_eq!((e.kind(), e.place()), (Purpose, None), "{shown}");
                    assert!(!says.is_empty() && shown.contains(says), "{shown}");
                }
            }
        }
    }
}

#[test]
fn parts() {
    let tcp = parse("tcp://lo:*");
    assert!(tcp.is_wildcard() && tcp.port().is_none() && tcp.path().is_none());
    let ipc = parse("ipc://a/b");
    assert_eq!(ipc.path(), Some("a/b".as_ref()));
    assert!(!ipc.is_wildcard() && parse("ipc://*").is_wildcard());
    assert_eq!(parse("ipc://@a").path(), None);
    assert_eq!(parse("inproc://a://b").inproc_name(), Some("a://b"));
    let scoped = "[fe80::1%3]:5".parse().unwrap();
    assert_eq!(Endpoint::of_tcp(scoped).as_str(), "tcp://[fe80::1%3]:5");
    assert_eq!(
        format!("{ipc:>10}|{ipc:?}"),
        " ipc://a/b|Endpoint(ipc://a/b)"
    );
}

#[test]
fn any_bytes_are_parsed_without_a_panic() {
    let parts = [
        "tcp://", "ipc://", "[", "]", ":", "%", ";", "*", "@", "1", ".", "a", "\u{20ac}", "\0",
    ];
    // All texts of up to four parts.
    for n in 0..parts.len().pow(4) {
        let at = |i: u32| parts[n / parts.len().pow(i) % parts.len()];
        let text: String = (0..4).map(at).collect();
        for text in [&*text, &format!("tcp://{text}"), &format!("tcp://{text}:1")] {
            match text.parse::<Endpoint>() {
                Ok(endpoint) => assert_eq!(parse(endpoint.as_str()), endpoint),
                Err(e) => drop(e.to_string()),
            }
        }
    }
}
