//! Who sent a request that came through proxies.

use std::net::{IpAddr, SocketAddr};

use http::HeaderMap;
use http::header::FORWARDED;
use ipnet::IpNet;

use crate::domain::address::is_within;

/// The header that most proxies write, though no standard has it.
const X_FORWARDED_FOR: &str = "x-forwarded-for";
/// The most proxies in a row; the one so far from us counts as the client.
const HOPS_MAX: usize = 32;

/// Where a request comes from: `peer`, unless that is one of the proxies. They
/// name whom they got it from, the last one at the end, and each passes on
/// what came before, which anybody may have made up. So what counts is the
/// last that is no proxy of ours.
pub fn client(peer: IpAddr, headers: &HeaderMap, proxies: &[IpNet]) -> IpAddr {
    if !is_within(peer, proxies) {
        return peer;
    }
    let told = |name: &str, read: fn(&str) -> Option<IpAddr>| {
        headers.contains_key(name).then(|| behind(peer, headers, name, read, proxies))
    };
    match (told(X_FORWARDED_FOR, read_address), told(FORWARDED.as_str(), read_element)) {
        (Some(client), None) | (None, Some(client)) => client,
        (Some(client), Some(other)) if client == other => client,
        // A proxy that writes one of them may pass on the other as a client wrote it.
        _ => peer,
    }
}

/// The last address in a header that is no proxy, or the first proxy whose
/// client is not known.
fn behind(
    peer: IpAddr,
    headers: &HeaderMap,
    name: &str,
    read: fn(&str) -> Option<IpAddr>,
    proxies: &[IpNet],
) -> IpAddr {
    let lines = headers.get_all(name).iter().rev().map(|line| line.to_str().unwrap_or_default());
    let mut client = peer;
    for address in lines.flat_map(|line| line.rsplit(',')).take(HOPS_MAX).map(read) {
        let Some(address) = address else { break };
        client = address.to_canonical();
        if !is_within(client, proxies) {
            break;
        }
    }
    client
}

/// The `for` of an element of Forwarded (RFC 7239). What is quoted there holds
/// no comma and no semicolon where it is an address.
fn read_element(text: &str) -> Option<IpAddr> {
    let pairs = text.split(';').filter_map(|pair| pair.split_once('='));
    let (_, node) = pairs.into_iter().find(|(name, _)| name.trim().eq_ignore_ascii_case("for"))?;
    read_address(node.trim().trim_matches('"'))
}

/// An address, with a port or without, and of IPv6 with brackets or without.
fn read_address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    bare.parse().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|socket| socket.ip()))
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    /// Who that is behind the proxy 10.0.0.1, as these headers tell.
    fn told(lines: &[(&'static str, &'static str)]) -> String {
        let headers: HeaderMap = lines.iter().fold(HeaderMap::new(), |mut headers, (name, value)| {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
            headers
        });
        let proxies = ["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()];
        client("10.0.0.1".parse().unwrap(), &headers, &proxies).to_string()
    }

    #[test]
    fn the_last_that_is_no_proxy_counts() {
        for (x_forwarded_for, expected) in [
            ("192.0.2.1", "192.0.2.1"),
            (" 192.0.2.1:4711 ", "192.0.2.1"),
            ("2001:db8::1", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("[2001:db8::1]:4711", "2001:db8::1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("198.51.100.1, 192.0.2.1, 10.0.0.2,fd00::2", "192.0.2.1"),
            ("10.0.0.3, 10.0.0.2", "10.0.0.3"),
            ("192.0.2.1, unknown, 10.0.0.2", "10.0.0.2"),
            ("192.0.2.1,", "10.0.0.1"),
            ("", "10.0.0.1"),
        ] {
            assert_eq!(told(&[("x-forwarded-for", x_forwarded_for)]), expected, "{x_forwarded_for}");
        }
        assert_eq!(told(&[("x-forwarded-for", "192.0.2.1"), ("x-forwarded-for", "192.0.2.2, 10.0.0.2")]), "192.0.2.2");
        for (forwarded, expected) in [
            ("for=192.0.2.1", "192.0.2.1"),
            ("For=\"[2001:db8::1]:4711\";proto=https", "2001:db8::1"),
            ("for=198.51.100.1, by=x; for=192.0.2.1;proto=http , for=10.0.0.2", "192.0.2.1"),
            ("for=192.0.2.1, for=_hidden", "10.0.0.1"),
            ("for=192.0.2.1, for=unknown, for=10.0.0.2", "10.0.0.2"),
            ("proto=https", "10.0.0.1"),
            ("for=\"x, for=192.0.2.1", "192.0.2.1"),
        ] {
            assert_eq!(told(&[("forwarded", forwarded)]), expected, "{forwarded}");
        }
    }

    #[test]
    fn two_headers_that_differ_tell_nothing() {
        let x_forwarded_for = ("x-forwarded-for", "192.0.2.1");
        assert_eq!(told(&[x_forwarded_for, ("forwarded", "for=192.0.2.1")]), "192.0.2.1");
        assert_eq!(told(&[x_forwarded_for, ("forwarded", "for=192.0.2.2")]), "10.0.0.1");
        assert_eq!(told(&[]), "10.0.0.1");
    }

    #[test]
    fn nobody_else_is_believed() {
        let headers =
            HeaderMap::from_iter([(HeaderName::from_static(X_FORWARDED_FOR), HeaderValue::from_static("192.0.2.1"))]);
        let peer = "198.51.100.1".parse().unwrap();
        assert_eq!(client(peer, &headers, &["10.0.0.0/8".parse().unwrap()]), peer);
    }

    #[test]
    fn a_long_row_of_proxies_is_not_followed_to_its_end() {
        let row = Box::leak(format!("192.0.2.1{}", ", 10.0.0.2".repeat(HOPS_MAX)).into_boxed_str());
        assert_eq!(told(&[("x-forwarded-for", row)]), "10.0.0.2");
    }
}
