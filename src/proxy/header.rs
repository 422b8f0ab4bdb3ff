//! What a header says.
//!
//! Owns: [`ProxyHeader`], and where a header ends. Why: the crate `ppp` takes a header apart; how
//! much of what has come belongs to it, how much is missing at least and what is too much decides
//! whoever receives. Invariants: pure; never more is asked for than surely belongs to the header;
//! the parser sees whole headers only. asyncio's counterpart: none.

use std::ffi::OsString;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::proxy::error::ProxyError;
use crate::sys::{Address, UnixAddress};

/// A header of the PROXY protocol, version 1 (text) or 2 (binary).
///
/// [`parse`](Self::parse) is for whoever receives by other means; a server reads headers by itself
/// ([`CreateServer::proxy_protocol`](crate::CreateServer::proxy_protocol)), and
/// [`read_proxy_header`](crate::read_proxy_header) reads one from a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProxyHeader {
    /// For whom the proxy speaks. `None` if it speaks for itself (`LOCAL`, as its health checks
    /// do), or does not know (`UNKNOWN`, `UNSPEC`): the peer's own address holds then.
    pub source: Option<Address>,
    /// Where that one has connected to, if there is a source.
    pub destination: Option<Address>,
    /// What version 2 tells beside the addresses, as types and values, in the order of the header:
    /// `(0x02, name)` is the host name that the client asked for, for instance. Where there is no
    /// source, nothing else counts either. A checksum among them (`0x03`) is not looked at: TCP has
    /// its own.
    pub fields: Vec<(u8, Vec<u8>)>,
}

impl ProxyHeader {
    /// Looks for a header at the beginning of `bytes`: the header, and how many bytes it takes, or
    /// `None` as long as it is not complete.
    ///
    /// ```
    /// use evloop::ProxyHeader;
    ///
    /// let received = b"PROXY TCP4 192.0.2.7 198.51.100.1 50000 443\r\nhello";
    /// let (header, size) = ProxyHeader::parse(received)?.expect("a whole header");
    /// assert_eq!(header.source.unwrap().to_string(), "192.0.2.7:50000");
    /// assert_eq!(&received[size..], b"hello");
    ///
    /// assert_eq!(ProxyHeader::parse(&received[..20])?, None);
    /// # Ok::<(), evloop::ProxyError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`ProxyError::Malformed`], and [`ProxyError::TooLong`] for a line of more than 107 bytes,
    /// and for a binary header of more than 4,112 bytes.
    pub fn parse(bytes: &[u8]) -> Result<Option<(Self, usize)>, ProxyError> {
        match Extent::of(bytes)? {
            Extent::Missing(_) => Ok(None),
            Extent::Whole(size) => Self::take_apart(&bytes[..size]).map(|it| Some((it, size))),
        }
    }

    /// Of a whole header.
    pub(super) fn take_apart(header: &[u8]) -> Result<Self, ProxyError> {
        if header.starts_with(ppp::v2::PROTOCOL_PREFIX) {
            Self::from_block(header)
        } else {
            Self::from_line(header)
        }
    }

    /// Version 1.
    fn from_line(line: &[u8]) -> Result<Self, ProxyError> {
        use ppp::v1::Addresses;

        // Whatever follows that word has no meaning.
        if line.starts_with(b"PROXY UNKNOWN ") {
            return Ok(Self::default());
        }
        let line_end = line.len() - LINE_END.len();
        // The parser takes a number with a plus, and a lone carriage return for a space.
        if !line[..line_end].iter().all(is_fine) {
            return Err(malformed(FOREIGN_CHARACTER));
        }
        let header = ppp::v1::Header::try_from(line).map_err(malformed)?;
        Ok(match header.addresses {
            Addresses::Unknown => Self::default(),
            Addresses::Tcp4(ip) => Self::of_inet(
                (ip.source_address, ip.source_port).into(),
                (ip.destination_address, ip.destination_port).into(),
            ),
            Addresses::Tcp6(ip) => Self::of_inet(
                (ip.source_address, ip.source_port).into(),
                (ip.destination_address, ip.destination_port).into(),
            ),
        })
    }

    /// Version 2.
    fn from_block(block: &[u8]) -> Result<Self, ProxyError> {
        use ppp::v2::Addresses;

        // All that follows is to be skipped, whatever it is.
        if block[COMMAND] == LOCAL {
            return Ok(Self::default());
        }
        let header = ppp::v2::Header::try_from(block).map_err(malformed)?;
        // The parser takes datagrams, and families without a transport, which nobody may send.
        if !FAMILIES.contains(&block[FAMILY]) {
            return Err(malformed("its addresses are not those of a connection"));
        }
        let mut told = match header.addresses {
            Addresses::Unspecified => return Ok(Self::default()),
            Addresses::IPv4(ip) => Self::of_inet(
                (ip.source_address, ip.source_port).into(),
                (ip.destination_address, ip.destination_port).into(),
            ),
            Addresses::IPv6(ip) => Self::of_inet(
                (ip.source_address, ip.source_port).into(),
                (ip.destination_address, ip.destination_port).into(),
            ),
            Addresses::Unix(unix) => Self {
                source: Some(unix_address(&unix.source).into()),
                destination: Some(unix_address(&unix.destination).into()),
                fields: Vec::new(),
            },
        };
        for field in header.tlvs() {
            let field = field.map_err(malformed)?;
            told.fields.push((field.kind, field.value.into_owned()));
        }
        Ok(told)
    }

    fn of_inet(source: SocketAddr, destination: SocketAddr) -> Self {
        Self {
            source: Some(source.into()),
            destination: Some(destination.into()),
            fields: Vec::new(),
        }
    }
}

/// How far a header reaches.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Extent {
    /// So many bytes at least are still to come, and belong to it.
    Missing(usize),
    /// It takes so many bytes.
    Whole(usize),
}

impl Extent {
    /// Of the header at the beginning of `bytes`.
    pub(super) fn of(bytes: &[u8]) -> Result<Self, ProxyError> {
        if begins(bytes, PREFIX) {
            Self::of_line(bytes)
        } else if begins(bytes, ppp::v2::PROTOCOL_PREFIX) {
            Self::of_block(bytes)
        } else {
            Err(malformed("the connection begins with something else"))
        }
    }

    fn of_line(bytes: &[u8]) -> Result<Self, ProxyError> {
        let line = &bytes[..bytes.len().min(LONGEST_LINE)];
        if let Some(at) = line.windows(2).position(|pair| pair == LINE_END) {
            return Ok(Self::Whole(at + LINE_END.len()));
        }
        let missing = fewest(line)?.max(SHORTEST.saturating_sub(line.len()));
        if line.len() + missing > LONGEST_LINE {
            let limit = LONGEST_LINE;
            return Err(ProxyError::TooLong { limit });
        }
        Ok(Self::Missing(missing))
    }

    fn of_block(bytes: &[u8]) -> Result<Self, ProxyError> {
        let Some(length) = bytes.get(LENGTH..FIXED) else {
            return Ok(Self::Missing(FIXED - bytes.len()));
        };
        if bytes[COMMAND] >> 4 != VERSION {
            return Err(malformed("an unknown version"));
        }
        let size = FIXED + length.iter().fold(0, |n, &byte| n << 8 | usize::from(byte));
        if size > LONGEST_BLOCK {
            let limit = LONGEST_BLOCK;
            return Err(ProxyError::TooLong { limit });
        }
        Ok(match size.checked_sub(bytes.len()) {
            None | Some(0) => Self::Whole(size),
            Some(missing) => Self::Missing(missing),
        })
    }
}

/// How many bytes are missing at least of a line that is not complete. Each field has its shortest
/// form, so that a line is there after a few reads, and nothing behind it is read. An error for what
/// no bytes can make a header any more.
fn fewest(line: &[u8]) -> Result<usize, ProxyError> {
    let (content, ends) = match line {
        [content @ .., b'\r'] => (content, true),
        _ => (line, false),
    };
    let mut fields = content.split(|byte| *byte == b' ').skip(1).peekable();
    let family = fields.next().unwrap_or_default();
    let is_whole = ends || fields.peek().is_some();
    let is_v4 = match family {
        b"TCP4" if is_whole => true,
        b"TCP6" if is_whole => false,
        // Whatever follows that word has no meaning.
        b"UNKNOWN" if is_whole => return Ok(LINE_END.len() - usize::from(ends)),
        begun if !is_whole && FAMILY_NAMES.iter().any(|name| name.starts_with(begun)) => {
            return Ok(LINE_END.len());
        }
        _ => return Err(malformed("an unknown family")),
    };
    if !content.iter().all(is_fine) {
        return Err(malformed(FOREIGN_CHARACTER));
    }
    let is_address = if is_v4 {
        is::<Ipv4Addr>
    } else {
        is::<Ipv6Addr>
    };
    let shortest_address = if is_v4 {
        fewest_of_ipv4
    } else {
        fewest_of_ipv6
    };
    let mut complete = 0;
    for is_right in [is_address, is_address, is::<u16>, is::<u16>] {
        let Some(field) = fields.next() else { break };
        if fields.peek().is_none() && !ends {
            // This one is not complete. A space is in front of each that follows.
            let rest = match complete {
                0 => shortest_address(field) + 1 + shortest_address(b"") + SHORTEST_PORTS,
                1 => shortest_address(field) + SHORTEST_PORTS,
                2 => usize::from(field.is_empty()) + SHORTEST_PORTS / 2,
                _ => usize::from(field.is_empty()),
            };
            return Ok(rest + LINE_END.len());
        }
        if !is_right(field) {
            return Err(malformed("a field that is no address, or no port"));
        }
        complete += 1;
    }
    match (complete, ends, fields.next()) {
        (4, true, None) => Ok(1),
        _ => Err(malformed("it has not two addresses and two ports")),
    }
}

/// Whether a field is what it should be.
fn is<T: FromStr>(field: &[u8]) -> bool {
    std::str::from_utf8(field).is_ok_and(|text| text.parse::<T>().is_ok())
}

fn is_fine(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || b" .:".contains(byte)
}

/// A digit for each of the four numbers, and the dots between them.
fn fewest_of_ipv4(begun: &[u8]) -> usize {
    let dots = begun.iter().filter(|byte| **byte == b'.').count();
    let is_number_missing = matches!(begun, [] | [.., b'.']);
    2 * 3_usize.saturating_sub(dots) + usize::from(is_number_missing)
}

/// `::`, and what has begun may be the whole of it.
fn fewest_of_ipv6(begun: &[u8]) -> usize {
    match begun {
        [] => 2,
        b":" => 1,
        _ => 0,
    }
}

/// Whether `bytes` begin with this, as far as they go.
fn begins(bytes: &[u8], with: &[u8]) -> bool {
    let common = bytes.len().min(with.len());
    bytes[..common] == with[..common]
}

/// A path up to its NUL byte, or an abstract name without the NUL bytes behind it.
fn unix_address(field: &[u8]) -> UnixAddress {
    let nul = |byte: &u8| *byte == 0;
    let end = match field.iter().position(nul) {
        Some(0) => field
            .iter()
            .rposition(|byte| !nul(byte))
            .map_or(0, |at| at + 1),
        Some(end) => end,
        None => field.len(),
    };
    PathBuf::from(OsString::from_vec(field[..end].to_vec())).into()
}

/// The parser's reasons quote line ends.
fn malformed(why: impl fmt::Display) -> ProxyError {
    let why = why.to_string();
    ProxyError::Malformed(why.replace('\r', "\\r").replace('\n', "\\n"))
}

const FOREIGN_CHARACTER: &str = "a character that no header has";
const PREFIX: &[u8] = b"PROXY ";
const LINE_END: &[u8] = b"\r\n";
/// `PROXY UNKNOWN` and the end of its line.
const SHORTEST: usize = 15;
/// Two of one digit each, and the spaces in front of them.
const SHORTEST_PORTS: usize = 4;
/// As the specification has it, with the end of the line.
const LONGEST_LINE: usize = 107;

/// Where version 2 has its version and command, and the length of what follows.
const COMMAND: usize = 12;
const FAMILY: usize = 13;
const LENGTH: usize = 14;
/// The length of what is always there.
const FIXED: usize = 16;
const VERSION: u8 = 2;
/// Those of version 1.
const FAMILY_NAMES: [&[u8]; 3] = [b"TCP4", b"TCP6", b"UNKNOWN"];
/// Streams over IPv4, IPv6 and unix sockets, or nothing known.
const FAMILIES: [u8; 4] = [0x00, 0x11, 0x21, 0x31];
/// Version 2, and the proxy speaks for itself.
const LOCAL: u8 = 0x20;
/// The specification asks for 536 bytes to be taken; certificates may take more, nobody 64 KiB.
const LONGEST_BLOCK: usize = FIXED + 4096;

#[cfg(test)]
mod tests {
    use super::*;

    /// A protocol that has no more room than this never takes what is not the header's.
    #[test]
    fn never_asks_for_more_than_the_header() {
        let mut block = ppp::v2::PROTOCOL_PREFIX.to_vec();
        block.extend(b"\x21\x11\x00\x0c\xc0\x00\x02\x07\xc6\x33\x64\x01\xc3\x50\x01\xbb");
        let lines = LINES.map(|(line, _)| line.as_bytes().to_vec());
        for header in lines.into_iter().chain([block]) {
            for received in 0..header.len() {
                match Extent::of(&header[..received]).unwrap() {
                    Extent::Missing(n) => assert!((1..=header.len() - received).contains(&n)),
                    whole @ Extent::Whole(_) => panic!("{received}: {whole:?}"),
                }
            }
            let mut more = header.clone();
            more.extend(b"PROXY \r\n");
            assert_eq!(Extent::of(&header).unwrap(), Extent::Whole(header.len()));
            assert_eq!(Extent::of(&more).unwrap(), Extent::Whole(header.len()));
        }
    }

    /// Lines, and in how many reads they come if all of it is there from the start.
    const LINES: [(&str, usize); 8] = [
        ("PROXY UNKNOWN\r\n", 1),
        ("PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n", 2),
        ("PROXY TCP4 192.0.2.7 198.51.100.1 50000 443\r\n", 5),
        (
            "PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n",
            7,
        ),
        ("PROXY TCP6 :: :: 0 0\r\n", 2),
        ("PROXY TCP6 1:: 1:: 0 0\r\n", 3),
        ("PROXY TCP6 2001:db8::7 2001:db8::1 50000 443\r\n", 7),
        (
            "PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff \
             ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n",
            16,
        ),
    ];

    #[test]
    fn a_line_comes_in_a_few_reads() {
        for (line, expected) in LINES {
            let (mut received, mut reads) = (0, 0);
            let begun = |received| Extent::of(&line.as_bytes()[..received]).unwrap();
            while let Extent::Missing(more) = begun(received) {
                received += more;
                reads += 1;
            }
            assert_eq!((received, reads), (line.len(), expected), "{line}");
        }
    }

    /// Each with the family and the transport of its addresses.
    #[test]
    fn only_addresses_of_connections_are_taken() {
        for family in 0..=0xff {
            let size = match family >> 4 {
                1 => 12,
                2 => 36,
                _ => 216,
            };
            let mut block = ppp::v2::PROTOCOL_PREFIX.to_vec();
            block.extend([0x21, family, 0, size]);
            block.resize(FIXED + usize::from(size), 1);
            let told = ProxyHeader::parse(&block);
            if [0x11, 0x21, 0x31].contains(&family) {
                assert!(told.unwrap().unwrap().0.source.is_some(), "{family:#x}");
            } else if family == 0 {
                assert_eq!(told.unwrap().unwrap().0, ProxyHeader::default());
            } else {
                assert!(matches!(told, Err(ProxyError::Malformed(_))), "{family:#x}");
            }
        }
    }

    #[test]
    fn a_line_end_is_waited_for_up_to_the_longest_line() {
        let mut line = b"PROXY UNKNOWN ".to_vec();
        line.resize(LONGEST_LINE - 2, b'x');
        assert_eq!(Extent::of(&line).unwrap(), Extent::Missing(2));
        assert!(Extent::of(&[&line[..], b"x"].concat()).is_err());
        assert_eq!(
            Extent::of(&[&line[..], b"\r"].concat()).unwrap(),
            Extent::Missing(1)
        );
        let whole = [&line[..], b"\r\n"].concat();
        assert_eq!(Extent::of(&whole).unwrap(), Extent::Whole(LONGEST_LINE));
        assert!(Extent::of(&[&line[..], b"x\r\n"].concat()).is_err());
    }

    #[test]
    fn a_unix_address_ends_where_its_name_does() {
        let mut field = [0; 108];
        assert_eq!(unix_address(&field), UnixAddress::Unnamed);
        field[..5].copy_from_slice(b"/a\0zz");
        assert_eq!(unix_address(&field), UnixAddress::from("/a"));
        field[0] = 0;
        assert_eq!(unix_address(&field), UnixAddress::abstract_name(b"a\0zz"));
        field.fill(b'x');
        assert_eq!(unix_address(&field), UnixAddress::from("x".repeat(108)));
    }
}
