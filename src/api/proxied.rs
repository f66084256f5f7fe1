//! The header that a proxy sends ahead of a connection, to say whose it is: the PROXY
//! protocol, versions 1 and 2 (<https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt>;
//! sections are named by its numbers).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use tokio::io::{AsyncRead, AsyncReadExt};

/// What version 2 begins with (2.2).
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// What version 1 begins with (2.1).
const WORD: &[u8] = b"PROXY ";
/// The longest line of version 1, with its end (2.1).
const LINE_BYTES_MAX: usize = 107;
/// The longest rest of a header of version 2 that is read: addresses, and what proxies add to
/// them, which is passed over. A client's certificate, which some add, has its place in it.
const REST_BYTES_MAX: usize = 16 * 1_024;

/// Reads the header, and not a byte beyond it: whose connection it is. `None` if it is the
/// proxy's own (LOCAL), or of nobody with an address that is known (UNKNOWN, UNSPEC, UNIX).
/// Fails if there is no header, or a broken one.
pub async fn client(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<IpAddr>> {
    let mut begin = [0; SIGNATURE.len()];
    stream.read_exact(&mut begin).await?;
    match begin {
        SIGNATURE => of_bytes(stream).await,
        _ if begin.starts_with(WORD) => of_line(begin.to_vec(), stream).await,
        _ => Err(broken("no header of the PROXY protocol")),
    }
}

fn broken(problem: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, problem)
}

/// A line in words (2.1), of which the beginning has been read.
async fn of_line(mut line: Vec<u8>, stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<IpAddr>> {
    // What follows the line belongs to somebody else, so it is read a byte at a time.
    while !line.ends_with(b"\r\n") {
        if line.len() == LINE_BYTES_MAX {
            return Err(broken("a header of the PROXY protocol whose line does not end"));
        }
        line.push(stream.read_u8().await?);
    }
    let line = std::str::from_utf8(&line).ok().and_then(|line| line.strip_suffix("\r\n")).unwrap_or_default();
    read_line(line).ok_or_else(|| broken("a line of the PROXY protocol that is none"))
}

/// `None`: it is no such line.
fn read_line(line: &str) -> Option<Option<IpAddr>> {
    let mut words = line.split(' ');
    let (_, family) = (words.next()?, words.next()?);
    let is_port = |word: &str| word.parse::<u16>().is_ok();
    // What follows UNKNOWN means nothing.
    let client = match family {
        "UNKNOWN" => return Some(None),
        "TCP4" => {
            let (client, _) = (words.next()?.parse::<Ipv4Addr>().ok()?, words.next()?.parse::<Ipv4Addr>().ok()?);
            IpAddr::V4(client)
        }
        "TCP6" => {
            let (client, _) = (words.next()?.parse::<Ipv6Addr>().ok()?, words.next()?.parse::<Ipv6Addr>().ok()?);
            IpAddr::V6(client)
        }
        _ => return None,
    };
    let is_whole = is_port(words.next()?) && is_port(words.next()?) && words.next().is_none();
    is_whole.then_some(Some(client))
}

/// The binary form (2.2), behind its signature.
async fn of_bytes(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<IpAddr>> {
    let mut head = [0; 4];
    stream.read_exact(&mut head).await?;
    let [version_and_command, family, high, low] = head;
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length > REST_BYTES_MAX {
        return Err(broken("a header of the PROXY protocol that is too long"));
    }
    let mut rest = vec![0; length];
    stream.read_exact(&mut rest).await?;
    match (version_and_command, family) {
        // LOCAL: whatever follows is passed over.
        (0x20, _) => Ok(None),
        // PROXY, over IPv4, IPv6, or what has no such addresses: UNSPEC and UNIX.
        (0x21, 0x11 | 0x12) => match rest.first_chunk::<12>() {
            Some([a, b, c, d, ..]) => Ok(Some(Ipv4Addr::new(*a, *b, *c, *d).into())),
            None => Err(broken("a header of the PROXY protocol that is too short for its addresses")),
        },
        (0x21, 0x21 | 0x22) => match (rest.first_chunk::<16>(), rest.len() >= 36) {
            (Some(client), true) => Ok(Some(Ipv6Addr::from(*client).into())),
            _ => Err(broken("a header of the PROXY protocol that is too short for its addresses")),
        },
        (0x21, 0x00 | 0x31 | 0x32) => Ok(None),
        _ => Err(broken("a header of the PROXY protocol of a version, command or family that there is not")),
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    /// What is read of these bytes, and how many are left.
    fn read(bytes: &[u8]) -> (Result<Option<String>, io::ErrorKind>, usize) {
        let mut left = bytes;
        let read = client(&mut left).now_or_never().expect("a slice is there at once");
        (read.map(|client| client.map(|client| client.to_string())).map_err(|cause| cause.kind()), left.len())
    }

    fn binary(version_and_command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [&SIGNATURE[..], &[version_and_command, family], &length, rest].concat()
    }

    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\n\r\n";

    /// The specification's own lines (2.1), the longest of each among them.
    #[test]
    fn lines_are_read_to_their_end_and_no_further() {
        for (line, expected) in [
            ("PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", Some("255.255.255.255")),
            ("PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n", Some("192.168.0.1")),
            (
                "PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n",
                Some("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
            ),
            ("PROXY TCP6 2001:db8::1 2001:db8::2 1 2\r\n", Some("2001:db8::1")),
            ("PROXY UNKNOWN\r\n", None),
            (
                "PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n",
                None,
            ),
        ] {
            let (client, left) = read(&[line.as_bytes(), REQUEST].concat());
            assert_eq!((client, left), (Ok(expected.map(str::to_owned)), REQUEST.len()), "{line}");
        }
    }

    #[test]
    fn what_is_no_line_is_refused() {
        let long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(LINE_BYTES_MAX));
        for line in [
            "PROXY TCP4 192.168.0.1 192.168.0.11 56324\r\n",
            "PROXY TCP4 192.168.0.1 192.168.0.11 56324 443 1\r\n",
            "PROXY TCP4  192.168.0.1 192.168.0.11 56324 443\r\n",
            "PROXY TCP4 192.168.0.1 192.168.0.11 56324 65536\r\n",
            "PROXY TCP4 2001:db8::1 2001:db8::2 1 2\r\n",
            "PROXY TCP6 192.168.0.1 192.168.0.11 1 2\r\n",
            "PROXY TCP5 192.168.0.1 192.168.0.11 1 2\r\n",
            "PROXY TCP4 localhost 192.168.0.11 1 2\r\n",
            "PROXY \r\n......\r\n",
            "proxy TCP4 192.168.0.1 192.168.0.11 1 2\r\n",
            "GET / HTTP/1.1\r\n\r\n",
            "PROXY TCP4 \u{e9} 192.168.0.11 1 2\r\n",
            &long,
        ] {
            assert_eq!(read(line.as_bytes()).0, Err(io::ErrorKind::InvalidData), "{line}");
        }
        for cut in ["", "PROXY", "PROXY TCP4 192.168.0.1"] {
            assert_eq!(read(cut.as_bytes()).0, Err(io::ErrorKind::UnexpectedEof), "{cut}");
        }
    }

    #[test]
    fn the_binary_form_is_read_to_its_end_and_no_further() {
        let v4: Vec<u8> = [[192, 0, 2, 1], [192, 0, 2, 2], [0xdc, 0x04, 0x01, 0xbb]].concat();
        let client: Ipv6Addr = "2001:db8::1".parse().unwrap();
        let v6 = [&client.octets()[..], &[0; 16], &[0xdc, 0x04, 0x01, 0xbb]].concat();
        // PP2_TYPE_NOOP of three bytes (2.2.4).
        let more = [4, 0, 3, 0, 0, 0];
        for (bytes, expected) in [
            (binary(0x21, 0x11, &v4), Some("192.0.2.1")),
            (binary(0x21, 0x11, &[&v4[..], &more].concat()), Some("192.0.2.1")),
            (binary(0x21, 0x21, &v6), Some("2001:db8::1")),
            (binary(0x21, 0x21, &[&v6[..], &more].concat()), Some("2001:db8::1")),
            (binary(0x21, 0x31, &[0; 216]), None),
            (binary(0x21, 0x00, &[]), None),
            (binary(0x20, 0x00, &[]), None),
            (binary(0x20, 0x11, &v4), None),
        ] {
            let (client, left) = read(&[&bytes, REQUEST].concat());
            assert_eq!((client, left), (Ok(expected.map(str::to_owned)), REQUEST.len()), "{bytes:?}");
        }
    }

    #[test]
    fn what_is_broken_in_the_binary_form_is_refused() {
        for bytes in [
            binary(0x21, 0x11, &[0; 11]),
            binary(0x21, 0x21, &[0; 35]),
            binary(0x11, 0x11, &[0; 12]),
            binary(0x22, 0x11, &[0; 12]),
            binary(0x21, 0x41, &[0; 12]),
            binary(0x20, 0x00, &[0; REST_BYTES_MAX + 1]),
        ] {
            assert_eq!(read(&bytes).0, Err(io::ErrorKind::InvalidData), "{:?}", &bytes[12..16]);
        }
        let whole = binary(0x21, 0x11, &[0; 12]);
        for cut in 0..whole.len() {
            assert_eq!(read(&whole[..cut]).0, Err(io::ErrorKind::UnexpectedEof), "{cut}");
        }
    }
}
