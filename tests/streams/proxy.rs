//! Headers of the PROXY protocol: what they say, however they are cut, and what is refused.

use std::cell::Cell;
use std::future::IntoFuture;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::thread;
use std::time::Duration;

use evloop::{
    Address, PeerName, Protocol, ProxyError, ProxyHeader, RealPeer, Server, SockName, StartServer,
    StreamReader, StreamReaderProtocol, StreamWriter, Transport, UnixAddress, create_server,
    get_running_loop, open_connection, open_unix_connection, read_proxy_header, start_server,
    start_unix_server, timeout,
};

use crate::common::folder::Folder;
use crate::common::trace::Trace;
use crate::common::{PATIENCE, Peer, in_thread, run, turns, within};
use crate::support::{Random, connected, fed, now, rest};

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// A header of version 2: version and command, family and protocol, and what follows the length.
fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).unwrap().to_be_bytes();
    [SIGNATURE, &[command, family], &length, body].concat()
}

/// The addresses of a `TCP4` block.
const INET: &[u8] = b"\xc0\x00\x02\x07\xc6\x33\x64\x01\xc3\x50\x01\xbb";
/// A host name, something of nobody's, and padding.
const FIELDS: &[u8] = b"\x02\x00\x0bexample.org\xe0\x00\x01x\x04\x00\x00";

/// Both addresses of a block for unix sockets.
fn unix(source: &[u8], destination: &[u8]) -> Vec<u8> {
    let mut body = source.to_vec();
    body.resize(108, 0);
    body.extend(destination);
    body.resize(216, 0);
    body
}

/// Headers that are in order, each with its source and destination.
fn good() -> Vec<(Vec<u8>, Option<[Address; 2]>)> {
    fn inet(source: &str, destination: &str) -> Option<[Address; 2]> {
        let address = |text: &str| Address::from(text.parse::<SocketAddr>().unwrap());
        Some([address(source), address(destination)])
    }
    let four = inet("192.0.2.7:50000", "198.51.100.1:443");
    let six = inet("[2001:db8::7]:50000", "[2001:db8::1]:443");
    let (source, destination): ([u8; 16], [u8; 16]) = (
        "2001:db8::7"
            .parse::<std::net::Ipv6Addr>()
            .unwrap()
            .octets(),
        "2001:db8::1"
            .parse::<std::net::Ipv6Addr>()
            .unwrap()
            .octets(),
    );
    let six_body = [&source[..], &destination, b"\xc3\x50\x01\xbb"].concat();
    let paths = [UnixAddress::from("/run/a"), UnixAddress::abstract_name("b")];
    let unnamed = [UnixAddress::Unnamed, UnixAddress::from("/run/b")];
    let longest = format!(
        "PROXY TCP6 {0} {0} 65535 65535\r\n",
        "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"
    );
    let widest = "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535";
    let mut unknown = b"PROXY UNKNOWN ".to_vec();
    unknown.resize(105, b'\xff');
    unknown.extend(b"\r\n");
    let mut large = INET.to_vec();
    large.extend(b"\xe0\x0f\xf1");
    large.resize(4096, b'x');
    vec![
        (
            b"PROXY TCP4 192.0.2.7 198.51.100.1 50000 443\r\n".to_vec(),
            four.clone(),
        ),
        (
            b"PROXY TCP6 2001:db8::7 2001:db8::1 50000 443\r\n".to_vec(),
            six.clone(),
        ),
        (longest.into_bytes(), inet(widest, widest)),
        (b"PROXY UNKNOWN\r\n".to_vec(), None),
        (unknown, None),
        (
            b"PROXY UNKNOWN one two three four five six\rseven\r\n".to_vec(),
            None,
        ),
        (v2(0x21, 0x11, INET), four.clone()),
        (v2(0x21, 0x21, &six_body), six),
        (
            v2(0x21, 0x31, &unix(b"/run/a", b"\0b")),
            Some(paths.map(Address::from)),
        ),
        (
            v2(0x21, 0x31, &unix(b"", b"/run/b")),
            Some(unnamed.map(Address::from)),
        ),
        (v2(0x21, 0x11, &[INET, FIELDS].concat()), four.clone()),
        (v2(0x21, 0x11, &large), four),
        // For itself, whatever follows; and for one of whom it knows nothing.
        (v2(0x20, 0x00, b""), None),
        (v2(0x20, 0x11, INET), None),
        (v2(0x20, 0xff, b"nothing that is known"), None),
        (v2(0x21, 0x00, b""), None),
        (v2(0x21, 0x00, FIELDS), None),
    ]
}

/// What is no header, and a word of the reason.
fn malformed() -> Vec<(Vec<u8>, &'static str)> {
    let mut bad_prefix = v2(0x21, 0x11, INET);
    bad_prefix[11] = b'\r';
    let line = |text: &str| format!("PROXY {text}\r\n").into_bytes();
    vec![
        (b"GET / HTTP/1.1\r\n".to_vec(), "something else"),
        (b"\x16\x03\x01\x02\x00".to_vec(), "something else"),
        (
            b"proxy TCP4 1.2.3.4 1.2.3.4 1 2\r\n".to_vec(),
            "something else",
        ),
        (
            b"PROXYxTCP4 1.2.3.4 1.2.3.4 1 2\r\n".to_vec(),
            "something else",
        ),
        (b"\r\n\r\nx".to_vec(), "something else"),
        (bad_prefix, "something else"),
        (line("TCP5 1.2.3.4 1.2.3.4 1 2"), "protocol"),
        (line("UNKNOWNX"), "protocol"),
        (line(" TCP4 1.2.3.4 1.2.3.4 1 2"), "protocol"),
        (line("TCP4"), "missing"),
        (line("TCP4 1.2.3.4"), "missing"),
        (line("TCP4 1.2.3.4 1.2.3.4 1"), "port"),
        (line("TCP4 1.2.3.4 1.2.3.4 1 2 3"), "must end in '\\r\\n'"),
        (line("TCP4 1.2.3.4 1.2.3.4 1 2 "), "must end in '\\r\\n'"),
        (line("TCP4 1.2.3.4 1.2.3.4 1 65536"), "port"),
        (line("TCP4 1.2.3.4 1.2.3.4 1 +2"), "character"),
        (line("TCP4 1.2.3.4 1.2.3.4 01 2"), "port"),
        (line("TCP4 1.2.3.4 1.2.3.4 -1 2"), "character"),
        (line("TCP4 1.2.3.256 1.2.3.4 1 2"), "address"),
        (line("TCP4 ::1 ::1 1 2"), "address"),
        (line("TCP6 1.2.3.4 1.2.3.4 1 2"), "address"),
        (line("TCP6 fe80::1%lo ::1 1 2"), "character"),
        (line("TCP4 1.2.3.4\r1.2.3.4 1 2"), "character"),
        (line("TCP4 1.2.3.4 1.2.3.4 1\n2 3"), "character"),
        (
            b"PROXY TCP4 1.2.3.4 1.2.3.\xff 1 2\r\n".to_vec(),
            "character",
        ),
        (v2(0x11, 0x11, INET), "version"),
        (v2(0x31, 0x11, INET), "version"),
        (v2(0x22, 0x11, INET), "command"),
        (v2(0x21, 0x41, INET), "address family"),
        (v2(0x21, 0x13, INET), "protocol"),
        (v2(0x21, 0x11, &INET[..11]), "bytes"),
        // Datagrams, and addresses of nothing in particular.
        (v2(0x21, 0x12, INET), "a connection"),
        (v2(0x21, 0x10, INET), "a connection"),
        (v2(0x21, 0x01, b""), "a connection"),
        (v2(0x21, 0x21, INET), "bytes"),
        (v2(0x21, 0x31, INET), "bytes"),
        (v2(0x21, 0x11, &[INET, b"\x02"].concat()), "leftover"),
        (v2(0x21, 0x11, &[INET, b"\x02\x00\x02x"].concat()), "tlv"),
    ]
}

/// What is longer than it may be, as soon as that is known.
fn too_long() -> Vec<(Vec<u8>, usize)> {
    let mut line = b"PROXY UNKNOWN ".to_vec();
    line.resize(106, b'x');
    let mut block = v2(0x21, 0x11, b"");
    block[14..].copy_from_slice(&4097_u16.to_be_bytes());
    let mut largest = block.clone();
    largest[14..].fill(0xff);
    vec![(line, 107), (block, 4112), (largest, 4112)]
}

// ------------------------------------------------------------------------------ without a socket

#[test]
fn a_header_says_whom_the_proxy_speaks_for() {
    for (bytes, said) in good() {
        let glued = [&bytes[..], b"PROXY behind"].concat();
        let (header, size) = ProxyHeader::parse(&glued).unwrap().unwrap();
        assert_eq!(size, bytes.len());
        let both = header.source.zip(header.destination);
        assert_eq!(both.map(<[Address; 2]>::from), said, "{bytes:?}");
        for cut in 0..bytes.len() {
            let outcome = ProxyHeader::parse(&bytes[..cut]);
            assert_eq!(outcome.unwrap(), None, "{cut} of {bytes:?}");
        }
    }
}

#[test]
fn what_a_header_says_besides_is_there_in_its_order() {
    let bytes = v2(0x21, 0x11, &[INET, FIELDS].concat());
    let (header, _) = ProxyHeader::parse(&bytes).unwrap().unwrap();
    let fields = [
        (0x02, b"example.org".to_vec()),
        (0xe0, b"x".to_vec()),
        (0x04, Vec::new()),
    ];
    assert_eq!(header.fields, fields);
}

#[test]
fn what_is_no_header_is_refused_in_one_line() {
    for (bytes, word) in malformed() {
        let error = ProxyHeader::parse(&bytes).unwrap_err();
        assert!(matches!(error, ProxyError::Malformed(_)), "{error:?}");
        let text = error.to_string();
        assert!(text.to_lowercase().contains(word), "{bytes:?}: {text}");
        assert!(!text.contains(char::is_control), "{text:?}");
        assert_eq!(io::Error::from(error).kind(), ErrorKind::InvalidData);
    }
}

#[test]
fn what_is_too_long_is_refused_before_it_is_there() {
    for (bytes, bound) in too_long() {
        match ProxyHeader::parse(&bytes).unwrap_err() {
            ProxyError::TooLong { limit } => assert_eq!(limit, bound),
            other => panic!("{other:?}"),
        }
        assert_eq!(ProxyHeader::parse(&bytes[..bytes.len() - 1]).unwrap(), None);
    }
}

/// Seeded: bytes of good headers, some of them others, and cut somewhere.
#[test]
fn no_bytes_whatever_make_it_panic_or_take_what_is_not_there() {
    let good = good();
    let mut random = Random::seeded(7);
    let (mut whole, mut begun, mut refused) = (0, 0, 0);
    for _ in 0..100_000 {
        let mut bytes = good[random.below(good.len())].0.clone();
        bytes.truncate(300);
        for _ in 0..random.below(4) {
            let at = random.below(bytes.len());
            bytes[at] = random.below(256) as u8;
        }
        bytes.truncate(1 + random.below(2 * bytes.len()));
        match ProxyHeader::parse(&bytes) {
            Ok(Some((_, size))) => {
                assert!(size <= bytes.len());
                whole += 1;
            }
            Ok(None) => begun += 1,
            Err(_) => refused += 1,
        }
    }
    let least = whole.min(begun).min(refused);
    assert!(least > 1000, "{whole} {begun} {refused}");
}

// ------------------------------------------------------------------------------------- on streams

/// A stream that is fed by hand; its transport is somebody else's.
fn by_hand(transport: &Transport) -> (StreamReaderProtocol, StreamReader, StreamWriter) {
    let mut protocol = StreamReaderProtocol::new(StreamReader::new(), None);
    let writer = StreamWriter::new(transport.clone(), &protocol);
    let reader = protocol.take_reader().unwrap();
    (protocol, reader, writer)
}

#[test]
fn a_header_may_be_cut_anywhere_and_takes_no_byte_of_what_is_behind_it() {
    run(async {
        for (bytes, said) in good() {
            let (_reader, writer, _peer) = connected().await;
            let before = writer.get_extra_info(PeerName);
            let ours = writer.get_extra_info(SockName);
            assert_eq!(writer.get_extra_info(RealPeer), before);
            // A large one is cut less often.
            for cut in (0..bytes.len()).step_by(1 + bytes.len() / 300) {
                let (mut protocol, mut reader, hand) = by_hand(writer.transport());
                let pieces = [&bytes[..cut], &[&bytes[cut..], b"behind"].concat()];
                protocol.data_received(pieces[0]);
                // A read that is dropped has taken nothing.
                assert!(now(read_proxy_header(&mut reader, &hand)).await.is_none());
                protocol.data_received(pieces[1]);
                let header = read_proxy_header(&mut reader, &hand).await.unwrap();
                let both = header.source.zip(header.destination);
                assert_eq!(both.map(<[Address; 2]>::from), said);
                assert_eq!(rest(&mut reader).await, b"behind");
                // So many reads in one step are a reason to give way.
                turns(1).await;
            }
            let source = said.map(|[source, _]| source);
            assert_eq!(
                writer.get_extra_info(RealPeer),
                source.or_else(|| before.clone())
            );
            assert_eq!(writer.get_extra_info(PeerName), before);
            assert_eq!(writer.get_extra_info(SockName), ours);
        }
    });
}

#[test]
fn a_refusal_leaves_the_bytes_where_they_are() {
    run(async {
        let (_reader, writer, _peer) = connected().await;
        let refused = malformed().into_iter().map(|(bytes, _)| bytes);
        for bytes in refused.chain(too_long().into_iter().map(|(bytes, _)| bytes)) {
            let (mut protocol, mut reader, hand) = by_hand(writer.transport());
            protocol.data_received(&bytes);
            let error = read_proxy_header(&mut reader, &hand).await.unwrap_err();
            assert_eq!(io::Error::from(error).kind(), ErrorKind::InvalidData);
            assert_eq!(rest(&mut reader).await, bytes);
        }
        assert_eq!(
            writer.get_extra_info(RealPeer),
            writer.get_extra_info(PeerName)
        );
    });
}

#[test]
fn a_header_that_is_cut_off_or_never_ends_is_refused() {
    run(async {
        let (mut reader, writer, peer) = connected().await;
        peer.send(b"PROXY TCP4 1.2");
        let late = timeout(
            Duration::from_millis(20),
            read_proxy_header(&mut reader, &writer),
        );
        assert!(late.await.is_err());
        peer.finish();
        match within("the end", read_proxy_header(&mut reader, &writer)).await {
            Err(ProxyError::CutOff { received }) => assert_eq!(received, 14),
            other => panic!("{other:?}"),
        }

        let (mut reader, writer, peer) = connected().await;
        peer.send(b"PROXY ");
        turns(3).await;
        peer.reset();
        match within("the end", read_proxy_header(&mut reader, &writer)).await {
            Err(ProxyError::Io(error)) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn the_two_halves_have_to_be_of_one_stream() {
    run(async {
        let (_reader, writer, _peer) = connected().await;
        let mut other = fed(100, b"PROXY UNKNOWN\r\n");
        match read_proxy_header(&mut other, &writer).await {
            Err(ProxyError::Io(error)) => assert_eq!(error.kind(), ErrorKind::InvalidInput),
            outcome => panic!("{outcome:?}"),
        }
    });
}

/// The limit of a reader is about lines; a header has a bound of its own.
#[test]
fn a_header_may_be_longer_than_the_limit_of_the_reader() {
    run(async {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let (mut reader, writer) = open_unix_connection(ours).limit(1).await.unwrap();
        let (bytes, _) = good().into_iter().max_by_key(|(it, _)| it.len()).unwrap();
        let sending = thread::spawn(move || io::Write::write_all(&mut theirs, &bytes));
        let header = within("a header", read_proxy_header(&mut reader, &writer)).await;
        assert_eq!(header.unwrap().fields.len(), 1);
        in_thread(|| sending.join().unwrap().unwrap()).await;
    });
}

#[test]
fn whoever_knows_who_the_peer_is_may_say_so() {
    run(async {
        let (_reader, writer, _peer) = connected().await;
        let transport = writer.transport();
        let client = SocketAddr::from(([192, 0, 2, 7], 50000));
        transport.set_real_peer(client);
        assert_eq!(writer.get_extra_info(RealPeer), Some(client.into()));
        assert!(format!("{transport:?}").contains("192.0.2.7:50000"));
        transport.set_real_peer(UnixAddress::from("/run/client"));
        let path = UnixAddress::from("/run/client").into();
        transport.abort();
        assert_eq!(transport.get_extra_info(RealPeer), Some(path));
    });
}

// ------------------------------------------------------------------------------- before a server

/// Sends back who it is, and everything, to the end.
async fn echo(mut reader: StreamReader, writer: StreamWriter) -> io::Result<()> {
    let client = writer.get_extra_info(RealPeer).unwrap();
    writer.write(format!("{client}\n"));
    loop {
        let data = reader.read(64 * 1024).await?;
        if data.is_empty() {
            return Ok(());
        }
        writer.write(data);
        writer.drain().await?;
    }
}

/// The same as a protocol.
#[derive(Default)]
struct Echo(Option<Transport>);

impl Protocol for Echo {
    fn connection_made(&mut self, transport: Transport) {
        let client = transport.get_extra_info(RealPeer).unwrap();
        transport.write(format!("{client}\n"));
        self.0 = Some(transport);
    }

    fn data_received(&mut self, data: &[u8]) {
        self.0.as_ref().unwrap().write(data);
    }
}

fn start() -> StartServer {
    start_server(echo, ("127.0.0.1", 0)).proxy_protocol(PATIENCE)
}

fn address(server: &Server) -> SocketAddr {
    server.sockets()[0].as_inet().unwrap()
}

/// A connection to it, and our own address.
async fn dial(server: &Server) -> (StreamReader, StreamWriter, Address) {
    let (reader, writer) = open_connection(address(server)).await.unwrap();
    let own = writer.get_extra_info(SockName).unwrap();
    (reader, writer, own)
}

async fn end(server: Server) {
    server.close();
    server.close_clients();
    within("the end of a server", server.wait_closed())
        .await
        .unwrap();
}

/// What the loop is told goes into a trace.
fn reports() -> Trace {
    let reports = Trace::default();
    let said = reports.clone();
    get_running_loop()
        .unwrap()
        .set_exception_handler(move |_, context| said.say(context.to_string()));
    reports
}

#[test]
fn a_server_reads_the_header_before_anything_else_whatever_is_glued_to_it() {
    run(async {
        let streams = start().await.unwrap();
        let protocols = create_server(Echo::default, ("127.0.0.1", 0))
            .proxy_protocol(PATIENCE)
            .await
            .unwrap();
        for server in [streams, protocols] {
            for (bytes, said) in good() {
                // In one piece; byte by byte; and with a rest that comes later.
                for step in [usize::MAX, 1, bytes.len() - 1] {
                    let (mut reader, writer, own) = dial(&server).await;
                    let all = [&bytes[..], b"behind"].concat();
                    for piece in all.chunks(step.min(all.len()).max(1 + bytes.len() / 200)) {
                        writer.write(piece);
                        turns(3).await;
                    }
                    writer.write_eof().unwrap();
                    let client = said.clone().map_or(own, |[source, _]| source);
                    let answer = within("an echo", reader.read_to_end(10_000)).await.unwrap();
                    let expected = format!("{client}\nbehind");
                    assert_eq!(String::from_utf8_lossy(&answer), expected, "{bytes:?}");
                }
            }
            end(server).await;
        }
    });
}

#[test]
fn a_unix_server_may_stand_behind_a_proxy_too() {
    run(async {
        let folder = Folder::new();
        let path = folder.path("echo.sock");
        let server = start_unix_server(echo, &path).proxy_protocol(PATIENCE);
        let server = server.await.unwrap();
        let (mut reader, writer) = open_unix_connection(&path).await.unwrap();
        writer.write(v2(0x21, 0x31, &unix(b"/run/client", b"")));
        assert_eq!(reader.readline().await.unwrap(), b"/run/client\n");
        end(server).await;
    });
}

#[test]
fn who_sends_no_header_is_reported_once_and_the_handler_hears_nothing() {
    run(async {
        let reports = reports();
        let handler = |_: StreamReader, _: StreamWriter| -> () { panic!("called") };
        let server = start_server(handler, ("127.0.0.1", 0)).proxy_protocol(PATIENCE);
        let server = server.await.unwrap();
        let refused = malformed().into_iter().map(|(bytes, _)| bytes);
        let refused = refused.chain(too_long().into_iter().map(|(bytes, _)| bytes));
        for (n, bytes) in refused.enumerate() {
            let (mut reader, writer, own) = dial(&server).await;
            writer.write([&bytes[..], b"and more"].concat());
            // Ended or reset: something may be unread.
            let _ = within("the end", reader.read_to_end(100)).await;
            let lines = reports.lines();
            assert_eq!(lines.len(), n + 1, "{bytes:?}: {lines:?}");
            assert!(lines[n].starts_with("PROXY protocol: "), "{}", lines[n]);
            assert!(lines[n].ends_with(&format!("; {own}")), "{}", lines[n]);
            assert!(!lines[n].contains(char::is_control), "{}", lines[n]);
        }
        end(server).await;
    });
}

#[test]
fn a_header_that_never_ends_has_its_time() {
    run(async {
        let reports = reports();
        let server = start_server(echo, ("127.0.0.1", 0))
            .proxy_protocol(Duration::from_millis(30))
            .await
            .unwrap();
        for begun in [&b""[..], b"P", b"PROXY TCP4 ", SIGNATURE] {
            let before = reports.lines().len();
            let (mut reader, writer, own) = dial(&server).await;
            writer.write(begun);
            let _ = within("the end", reader.read_to_end(100)).await;
            let line = format!("PROXY protocol: no complete PROXY header within 30ms; {own}");
            assert_eq!(reports.lines()[before..], [line]);
        }
        // Whoever was in time has all the time of the world.
        let (mut reader, writer, _) = dial(&server).await;
        writer.write(b"PROXY TCP4 192.0.2.7 198.51.100.1 1 2\r\n");
        assert_eq!(reader.readline().await.unwrap(), b"192.0.2.7:1\n");
        evloop::sleep(Duration::from_millis(60)).await.unwrap();
        writer.write(b"still here\n");
        assert_eq!(reader.readline().await.unwrap(), b"still here\n");
        assert_eq!(reports.lines().len(), 4);
        end(server).await;
    });
}

#[test]
fn a_header_that_is_idle_for_too_long_is_reported_and_silence_is_not() {
    run(async {
        let reports = reports();
        let server = start().idle_timeout(Duration::from_millis(30));
        let server = server.await.unwrap();
        for begun in [&b""[..], b"PROXY TCP4 "] {
            let (mut reader, writer, own) = dial(&server).await;
            writer.write(begun);
            let _ = within("the end", reader.read_to_end(100)).await;
            let line = format!("PROXY protocol: idle for too long; {own}");
            let expected = if begun.is_empty() { vec![] } else { vec![line] };
            assert_eq!(reports.lines(), expected);
        }
        end(server).await;
    });
}

#[test]
fn an_end_inside_of_the_header_is_reported_and_one_before_it_is_not() {
    run(async {
        let reports = reports();
        let server = start().await.unwrap();
        for begun in [&b""[..], b"PROXY TCP4 "] {
            let (mut reader, writer, _) = dial(&server).await;
            writer.write(begun);
            writer.write_eof().unwrap();
            let _ = within("the end", reader.read_to_end(100)).await;
        }
        let lines = reports.lines();
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].contains("after 11 bytes"), "{lines:?}");
        // Also one that breaks off, as health checks do.
        let peer = Peer::connect(address(&server));
        turns(3).await;
        peer.reset();
        turns(3).await;
        end(server).await;
        assert_eq!(reports.lines().len(), 1);
    });
}

#[test]
fn a_server_that_closes_has_connections_without_a_header_among_its_own() {
    run(async {
        let reports = reports();
        let server = start().max_connections(1).await.unwrap();
        let first = Peer::connect(address(&server));
        first.send(b"PROXY ");
        let second = Peer::connect(address(&server));
        second.send(b"PROXY TCP4 192.0.2.7 198.51.100.1 1 2\r\n");
        turns(5).await;
        // The place is taken until the first one has gone.
        first.finish();
        let line = in_thread(move || second.receive(12)).await;
        assert_eq!(line, b"192.0.2.7:1\n");
        let third = Peer::connect(address(&server));
        third.send(b"PROXY ");
        turns(5).await;
        end(server).await;
        assert_eq!(reports.lines().len(), 1, "{reports:?}");
        let _ = third.receive_all_or_error();
    });
}

#[test]
fn a_shutdown_names_whom_the_proxy_spoke_for() {
    run(async {
        let server = start().await.unwrap();
        let (mut reader, writer, _) = dial(&server).await;
        writer.write(b"PROXY TCP4 192.0.2.7 198.51.100.1 1 2\r\n");
        assert_eq!(reader.readline().await.unwrap(), b"192.0.2.7:1\n");
        let report = within("the end", server.shutdown().into_future()).await;
        let report = report.unwrap();
        let ends: Vec<_> = report
            .connections()
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(ends, ["192.0.2.7:1 was closed"]);
        let client = "192.0.2.7:1".parse::<SocketAddr>().unwrap().into();
        assert_eq!(report.connections()[0].peer(), Some(&client));
    });
}

#[test]
fn a_timeout_of_zero_is_refused_and_none_demands_nothing() {
    run(async {
        let refused = start().proxy_protocol(Duration::ZERO).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidInput);
        let server = start().proxy_protocol(None).await.unwrap();
        let (mut reader, writer, own) = dial(&server).await;
        writer.write(b"PROXY UNKNOWN\r\n");
        assert_eq!(
            String::from_utf8(reader.readline().await.unwrap()).unwrap(),
            format!("{own}\n")
        );
        assert_eq!(reader.readline().await.unwrap(), b"PROXY UNKNOWN\r\n");
        end(server).await;
    });
}

/// Reading is paused in `connection_made`: what is glued to the header waits.
#[test]
fn a_protocol_may_pause_reading_before_it_has_read() {
    struct Paused(Rc<Cell<usize>>, Trace);
    impl Protocol for Paused {
        fn connection_made(&mut self, transport: Transport) {
            transport.pause_reading();
            self.1.say("made");
            let handle = get_running_loop().unwrap();
            let (seen, said) = (Rc::clone(&self.0), self.1.clone());
            drop(handle.create_task(async move {
                turns(5).await;
                said.say(format!("{} bytes before", seen.get()));
                transport.resume_reading();
            }));
        }

        fn data_received(&mut self, data: &[u8]) {
            self.0.set(self.0.get() + data.len());
            self.1.say("received");
        }
    }
    run(async {
        let trace = Trace::default();
        let said = trace.clone();
        let factory = move || Paused(Rc::default(), said.clone());
        let server = create_server(factory, ("127.0.0.1", 0)).proxy_protocol(PATIENCE);
        let server = server.await.unwrap();
        let (_reader, writer, _) = dial(&server).await;
        writer.write(b"PROXY UNKNOWN\r\nbehind");
        trace.until("received").await;
        assert_eq!(trace.lines(), ["made", "0 bytes before", "received"]);
        end(server).await;
    });
}

// --------------------------------------------------------------------------------- before TLS

#[cfg(feature = "tls")]
mod tls {
    use std::io::{BufRead, BufReader, Write};
    use std::net::TcpStream;
    use std::sync::Arc;

    use evloop::rustls::crypto::aws_lc_rs;
    use evloop::rustls::pki_types::CertificateDer;
    use evloop::rustls::pki_types::pem::PemObject;
    use evloop::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
    use evloop::{TlsClientContext, TlsServerContext, TlsSession};

    use super::*;
    use crate::common::certs::cert;

    fn context() -> TlsServerContext {
        TlsServerContext::from_pem_files(cert("server.pem"), cert("server.key")).unwrap()
    }

    /// Sends a header and the beginning of a handshake in one piece, and gives the line that comes
    /// and what answers "hello".
    fn ask(address: SocketAddr, header: &[u8]) -> [String; 2] {
        let mut roots = RootCertStore::empty();
        let authority = CertificateDer::from_pem_file(cert("ca.pem")).unwrap();
        roots.add(authority).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = "localhost".try_into().unwrap();
        let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
        let mut first = header.to_vec();
        client.write_tls(&mut first).unwrap();
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(&first).unwrap();
        let mut stream = StreamOwned::new(client, stream);
        stream.write_all(b"hello\n").unwrap();
        let mut stream = BufReader::new(stream);
        let mut lines = [String::new(), String::new()];
        for line in &mut lines {
            stream.read_line(line).unwrap();
        }
        let stream = stream.get_mut();
        stream.conn.send_close_notify();
        stream.flush().unwrap();
        lines.map(|line| line.trim_end().to_owned())
    }

    async fn check(server: Server) {
        let address = address(&server);
        for (header, said) in good() {
            let Some([source, _]) = said else { continue };
            let lines = in_thread(move || ask(address, &header)).await;
            assert_eq!(lines, [source.to_string(), "hello".to_owned()]);
        }
        end(server).await;
    }

    #[test]
    fn a_header_and_a_handshake_in_one_piece_are_both_read_by_the_server() {
        run(async {
            check(start().ssl(context()).await.unwrap()).await;
            let protocols = create_server(Echo::default, ("127.0.0.1", 0));
            let protocols = protocols.proxy_protocol(PATIENCE).ssl(context());
            check(protocols.await.unwrap()).await;
        });
    }

    #[test]
    fn a_header_and_a_handshake_in_one_piece_are_both_read_by_a_handler() {
        async fn upgrade(mut reader: StreamReader, mut writer: StreamWriter) -> io::Result<()> {
            read_proxy_header(&mut reader, &writer).await?;
            writer.start_tls(context()).await?;
            assert!(writer.get_extra_info(TlsSession).is_some());
            echo(reader, writer).await
        }
        run(async {
            check(start_server(upgrade, ("127.0.0.1", 0)).await.unwrap()).await;
        });
    }

    /// What the server closes is the connection above, so the client is told goodbye.
    #[test]
    fn a_server_that_closes_says_goodbye_behind_header_and_handshake() {
        run(async {
            let server = start().ssl(context()).await.unwrap();
            let (mut reader, mut writer, _) = dial(&server).await;
            writer.write(b"PROXY TCP4 192.0.2.7 198.51.100.1 1 2\r\n");
            let roots = TlsClientContext::builder().root_file(cert("ca.pem"));
            let client = writer.start_tls(roots.build().unwrap());
            client.server_hostname("localhost").await.unwrap();
            assert_eq!(reader.readline().await.unwrap(), b"192.0.2.7:1\n");
            server.close();
            server.close_clients();
            let rest = within("the end", reader.read_to_end(100)).await;
            assert_eq!(rest.unwrap(), b"", "an end with a close_notify");
            writer.close();
            within("the end", server.wait_closed()).await.unwrap();
        });
    }

    /// Neither a handshake before the header, nor none behind it, comes to the handler.
    #[test]
    fn a_handshake_has_to_follow_the_header() {
        run(async {
            let reports = reports();
            let handler = |_: StreamReader, _: StreamWriter| -> () { panic!("called") };
            let server = start_server(handler, ("127.0.0.1", 0)).proxy_protocol(PATIENCE);
            let server = server.ssl(context()).await.unwrap();
            for (sent, reported) in [
                (&b"\x16\x03\x01\x02\x00\x01"[..], 1),
                (b"PROXY UNKNOWN\r\nPROXY UNKNOWN\r\n", 0),
                (b"PROXY UNKNOWN\r\n", 0),
            ] {
                let before = reports.lines().len();
                let (mut reader, writer, _) = dial(&server).await;
                writer.write(sent);
                writer.write_eof().unwrap();
                let _ = within("the end", reader.read_to_end(1000)).await;
                assert_eq!(reports.lines().len(), before + reported, "{reports:?}");
            }
            end(server).await;
        });
    }
}
