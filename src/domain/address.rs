//! Whom calls are put down to as long as nobody knows who makes them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// Where a call comes from: an IPv4 address, or the /64 network of an IPv6
/// address, since whoever has one of those has all of its addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin(IpAddr);

impl Origin {
    /// The first in order.
    pub const LEAST: Self = Self(IpAddr::V4(Ipv4Addr::UNSPECIFIED));

    /// That of a peer.
    pub fn of(peer: IpAddr) -> Self {
        const HOST_BITS: u32 = 64;
        match peer.to_canonical() {
            IpAddr::V6(address) => Self(Ipv6Addr::from_bits(address.to_bits() >> HOST_BITS << HOST_BITS).into()),
            address => Self(address),
        }
    }
}

/// True if the peer is in one of these networks.
pub fn is_within(peer: IpAddr, networks: &[IpNet]) -> bool {
    let peer = peer.to_canonical();
    networks.iter().any(|network| network.contains(&peer))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_of_ipv6_is_one_origin() {
        let origin = |text: &str| Origin::of(text.parse().unwrap());
        assert_eq!(origin("2001:db8::1"), origin("2001:db8::ffff:0:1"));
        assert_ne!(origin("2001:db8::1"), origin("2001:db8:0:1::1"));
        assert_ne!(origin("192.0.2.1"), origin("192.0.2.2"));
        assert_eq!(origin("192.0.2.1"), origin("::ffff:192.0.2.1"));
    }
}
