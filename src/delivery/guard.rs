//! The address guard: which addresses a delivery may be sent to.
//!
//! Webhook URLs come from tenants, so a URL may point at the server's own
//! network. Only global unicast addresses pass, and what the operator allows.
//! The guard judges addresses, not names: it is asked after every look-up,
//! about the very address that is connected to, so nothing that DNS says
//! later can get around it.
//!
//! The ranges are IANA's special-purpose registries (RFC 6890 and its
//! successors), read strictly: what a registry reserves for protocols is
//! forbidden even where single addresses in it are global.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use url::{Host, Url};

const LOOPBACK: &str = "a loopback address";
const UNSPECIFIED: &str = "the unspecified address";
const PRIVATE: &str = "a private address";
const LINK_LOCAL: &str = "a link-local address";
const PROTOCOLS: &str = "reserved for protocols";
const DOCUMENTATION: &str = "reserved for documentation";
const MULTICAST: &str = "a multicast address";
const TRANSLATION: &str = "reserved for translation within a network";

/// IPv4 ranges that are not global unicast, and what they are.
const FORBIDDEN_V4: &[(Ipv4Net, &str)] = &[
    (v4(0, 0, 0, 0, 8), "an address of \"this network\""),
    (v4(10, 0, 0, 0, 8), PRIVATE),
    (v4(100, 64, 0, 0, 10), "an address shared behind a carrier's NAT"),
    (v4(127, 0, 0, 0, 8), LOOPBACK),
    // Most clouds' metadata services lie here.
    (v4(169, 254, 0, 0, 16), LINK_LOCAL),
    (v4(172, 16, 0, 0, 12), PRIVATE),
    (v4(192, 0, 0, 0, 24), PROTOCOLS),
    (v4(192, 0, 2, 0, 24), DOCUMENTATION),
    (v4(192, 88, 99, 0, 24), "a former 6to4 relay address"),
    (v4(192, 168, 0, 0, 16), PRIVATE),
    (v4(198, 18, 0, 0, 15), "reserved for benchmarks"),
    (v4(198, 51, 100, 0, 24), DOCUMENTATION),
    (v4(203, 0, 113, 0, 24), DOCUMENTATION),
    (v4(224, 0, 0, 0, 4), MULTICAST),
    // Before the range that holds it, so that it is called by its own name.
    (v4(255, 255, 255, 255, 32), "the broadcast address"),
    (v4(240, 0, 0, 0, 4), "reserved"),
    // Global by the registry, yet answered by the host of every Azure machine.
    (v4(168, 63, 129, 16, 32), "a cloud platform's own address"),
];

/// The only IPv6 range that IANA gives out for global unicast.
const GLOBAL_V6: Ipv6Net = v6(0x2000, 0, 0, 3);

/// IPv6 ranges outside [`GLOBAL_V6`] that have a name of their own.
const NAMED_V6: &[(Ipv6Net, &str)] = &[
    (Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 128), UNSPECIFIED),
    (Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128), LOOPBACK),
    (LOCAL_NAT64, TRANSLATION),
    (v6(0x100, 0, 0, 64), "a discard address"),
    (v6(0x5f00, 0, 0, 16), "a segment routing identifier"),
    (v6(0xfc00, 0, 0, 7), PRIVATE),
    (v6(0xfe80, 0, 0, 10), LINK_LOCAL),
    (v6(0xfec0, 0, 0, 10), "a site-local address"),
    (v6(0xff00, 0, 0, 8), MULTICAST),
];

/// Ranges within [`GLOBAL_V6`] that are not global unicast.
const FORBIDDEN_V6: &[(Ipv6Net, &str)] = &[
    (v6(0x2001, 0x2, 0, 48), "reserved for benchmarks"),
    (v6(0x2001, 0x10, 0, 28), "an ORCHID, which is a name rather than an address"),
    (v6(0x2001, 0x20, 0, 28), "an ORCHID, which is a name rather than an address"),
    // All the rest that IETF protocols use, Teredo aside (see `embedded`).
    (v6(0x2001, 0, 0, 23), PROTOCOLS),
    (v6(0x2001, 0xdb8, 0, 32), DOCUMENTATION),
    (v6(0x3fff, 0, 0, 20), DOCUMENTATION),
];

/// NAT64 within a network (RFC 8215). Where in it the IPv4 address stands is
/// up to that network, so it is forbidden whatever is inside.
const LOCAL_NAT64: Ipv6Net = v6(0x64, 0xff9b, 1, 48);
/// NAT64 for everybody (RFC 6052).
const NAT64: Ipv6Net = v6(0x64, 0xff9b, 0, 96);
/// `::ffff:a.b.c.d` (RFC 4291 §2.5.5.2).
const MAPPED: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), 96);
/// `::a.b.c.d` (RFC 4291 §2.5.5.1).
const COMPATIBLE: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 96);
/// RFC 3056.
const SIX_TO_FOUR: Ipv6Net = v6(0x2002, 0, 0, 16);
/// RFC 4380.
const TEREDO: Ipv6Net = v6(0x2001, 0, 0, 32);

/// Ports of services that speak otherwise than HTTP, and might take a request
/// for what they speak: shells, mail, names, files, directories, calls, chats,
/// databases and caches. Browsers keep away from most of them, too (WHATWG Fetch).
const OTHER_SERVICES: &[u16] = &[
    19, 20, 21, 22, 23, 25, 42, 43, 53, 69, 79, 87, 102, 109, 110, 111, 113, 119, 123, 135, 137, 139, 143, 161, 179,
    389, 427, 445, 465, 512, 513, 514, 515, 540, 548, 554, 563, 587, 601, 636, 873, 989, 990, 993, 995, 1433, 1521,
    1719, 1720, 1723, 2049, 3306, 3389, 3659, 4045, 4190, 5060, 5061, 5432, 5672, 6000, 6379, 6566, 6665, 6666, 6667,
    6668, 6669, 6679, 6697, 9042, 9092, 10080, 11211, 27017,
];

/// What deliveries may be sent to.
#[derive(Clone, Debug, Default)]
pub struct Targets {
    /// Networks that may be delivered to although they are not global.
    pub allow: Vec<IpNet>,
    /// The only ports that may be delivered to; if there are none, all but
    /// those of well-known services that do not speak HTTP.
    pub ports: Vec<RangeInclusive<u16>>,
    /// Whether webhooks' owners may read which address was refused. A name's
    /// may be known within the network alone.
    pub shows_addresses: bool,
}

/// Decides where deliveries may go.
#[derive(Clone, Debug)]
pub struct Guard {
    targets: Targets,
}

/// An address that deliveries are kept from, and what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The address.
    pub address: IpAddr,
    /// What it is, in words that follow "is".
    pub why: &'static str,
    /// Whether webhooks' owners may read that.
    pub is_shown: bool,
}

/// A port that deliveries are kept from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("nothing is delivered to port {0} unless the server's operator allows it (target_ports)")]
pub struct RefusedPort(pub u16);

/// A sentence for whoever owns the webhook or the server.
impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, why, is_shown } = self;
        if !is_shown {
            let problem = "the host has a private address, or another that is not public; only public addresses are";
            return write!(f, "{problem} delivered to, unless the server's operator allows it (allow_target)");
        }
        let allowed = IpNet::from(*address);
        write!(f, "{address} is {why}; only public addresses are delivered to, ")?;
        write!(f, "unless the server is started with --allow-target {allowed}")
    }
}

impl std::error::Error for Refused {}

impl Guard {
    /// Forbids what is not global unicast, or no port for it, but for what is
    /// allowed.
    pub fn new(targets: Targets) -> Self {
        Self { targets }
    }

    /// Passes a port that may be connected to.
    pub fn check_port(&self, port: u16) -> Result<(), RefusedPort> {
        let passes = match self.targets.ports.as_slice() {
            [] => !OTHER_SERVICES.contains(&port),
            allowed => allowed.iter().any(|range| range.contains(&port)),
        };
        if passes { Ok(()) } else { Err(RefusedPort(port)) }
    }

    /// Passes an address that may be connected to. A form of IPv6 that carries
    /// an IPv4 address is judged by the address it carries.
    pub fn check(&self, address: IpAddr) -> Result<(), Refused> {
        if self.allows(address) {
            return Ok(());
        }
        let why = match address {
            IpAddr::V4(address) => why_forbidden_v4(address),
            IpAddr::V6(address) => self.why_forbidden_v6(address),
        };
        why.map_or(Ok(()), |why| Err(self.refused(address, why)))
    }

    /// Passes a URL unless its host is a literal address that [`Self::check`]
    /// refuses. A name passes, for only its addresses can be judged; but
    /// `localhost` and what ends in `.localhost` (RFC 6761) are loopback.
    pub fn check_literal(&self, url: &Url) -> Result<(), Refused> {
        match url.host() {
            Some(Host::Ipv4(address)) => self.check(address.into()),
            Some(Host::Ipv6(address)) => self.check(address.into()),
            Some(Host::Domain(name)) => self.check_name(name),
            None => Ok(()),
        }
    }

    /// Passes a name unless it stands for the loopback address whoever is asked for it: its
    /// addresses have to be judged, by whoever looks it up.
    pub fn check_name(&self, name: &str) -> Result<(), Refused> {
        let loopback = [IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST)];
        if !is_localhost(name) || loopback.into_iter().any(|address| self.allows(address)) {
            return Ok(());
        }
        Err(self.refused(loopback[0], LOOPBACK))
    }

    fn refused(&self, address: IpAddr, why: &'static str) -> Refused {
        Refused { address, why, is_shown: self.targets.shows_addresses }
    }

    fn allows(&self, address: IpAddr) -> bool {
        self.targets.allow.iter().any(|net| net.contains(&address))
    }

    fn why_forbidden_v6(&self, address: Ipv6Addr) -> Option<&'static str> {
        if let Some(why) = find(NAMED_V6, |net| net.contains(&address)) {
            return Some(why);
        }
        if let Some(inside) = embedded(address) {
            let allowed = |address: &Ipv4Addr| self.allows((*address).into());
            return inside.into_iter().filter(|address| !allowed(address)).find_map(why_forbidden_v4);
        }
        if !GLOBAL_V6.contains(&address) {
            return Some("no global unicast address");
        }
        find(FORBIDDEN_V6, |net| net.contains(&address))
    }
}

fn why_forbidden_v4(address: Ipv4Addr) -> Option<&'static str> {
    find(FORBIDDEN_V4, |net| net.contains(&address))
}

/// The IPv4 addresses that packets to `address` may end up at: one, or for
/// Teredo the server and the client. `None` if it carries none.
fn embedded(address: Ipv6Addr) -> Option<[Ipv4Addr; 2]> {
    let bits = address.to_bits();
    // Cutting to 32 bits is the point: the shift says which 32.
    let at = |shift: u32| Ipv4Addr::from_bits((bits >> shift) as u32);
    if MAPPED.contains(&address) || COMPATIBLE.contains(&address) || NAT64.contains(&address) {
        Some([at(0); 2])
    } else if SIX_TO_FOUR.contains(&address) {
        Some([at(80); 2])
    } else if TEREDO.contains(&address) {
        Some([at(64), Ipv4Addr::from_bits(!at(0).to_bits())])
    } else {
        None
    }
}

fn find<N>(table: &[(N, &'static str)], contains: impl Fn(&N) -> bool) -> Option<&'static str> {
    table.iter().find(|(net, _)| contains(net)).map(|(_, why)| *why)
}

fn is_localhost(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost")
}

const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

/// The network of the first three groups.
const fn v6(a: u16, b: u16, c: u16, prefix: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0), prefix)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard(allow: &[&str]) -> Guard {
        let allow = allow.iter().map(|net| net.parse().unwrap()).collect();
        Guard::new(Targets { allow, shows_addresses: true, ..Targets::default() })
    }

    fn passes(guard: &Guard, address: &str) -> bool {
        guard.check(address.parse().unwrap()).is_ok()
    }

    /// First and last of each range, and its neighbours where those are public.
    #[test]
    fn every_range_has_its_edges() {
        let guard = guard(&[]);
        for (first, last, below, above) in [
            ("0.0.0.0", "0.255.255.255", None, Some("1.0.0.0")),
            ("10.0.0.0", "10.255.255.255", Some("9.255.255.255"), Some("11.0.0.0")),
            ("100.64.0.0", "100.127.255.255", Some("100.63.255.255"), Some("100.128.0.0")),
            ("127.0.0.0", "127.255.255.255", Some("126.255.255.255"), Some("128.0.0.0")),
            ("168.63.129.16", "168.63.129.16", Some("168.63.129.15"), Some("168.63.129.17")),
            ("169.254.0.0", "169.254.255.255", Some("169.253.255.255"), Some("169.255.0.0")),
            ("172.16.0.0", "172.31.255.255", Some("172.15.255.255"), Some("172.32.0.0")),
            ("192.0.0.0", "192.0.0.255", Some("191.255.255.255"), Some("192.0.1.0")),
            ("192.0.2.0", "192.0.2.255", Some("192.0.1.255"), Some("192.0.3.0")),
            ("192.88.99.0", "192.88.99.255", Some("192.88.98.255"), Some("192.88.100.0")),
            ("192.168.0.0", "192.168.255.255", Some("192.167.255.255"), Some("192.169.0.0")),
            ("198.18.0.0", "198.19.255.255", Some("198.17.255.255"), Some("198.20.0.0")),
            ("198.51.100.0", "198.51.100.255", Some("198.51.99.255"), Some("198.51.101.0")),
            ("203.0.113.0", "203.0.113.255", Some("203.0.112.255"), Some("203.0.114.0")),
            ("224.0.0.0", "255.255.255.255", Some("223.255.255.255"), None),
            ("::", "::1", None, None),
            ("64:ff9b:1::", "64:ff9b:1:ffff:ffff:ffff:ffff:ffff", None, None),
            ("100::", "100::ffff:ffff:ffff:ffff", None, None),
            ("2001::", "2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff", None, Some("2001:200::")),
            ("2001:2::", "2001:2:0:ffff:ffff:ffff:ffff:ffff", None, None),
            ("2001:10::", "2001:1f:ffff:ffff:ffff:ffff:ffff:ffff", None, None),
            ("2001:20::", "2001:2f:ffff:ffff:ffff:ffff:ffff:ffff", None, None),
            ("2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", Some("2001:db7:ffff::1"), Some("2001:db9::")),
            ("3fff::", "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff", Some("3ffe:ffff::1"), Some("3fff:1000::")),
            ("4000::", "5eff::1", Some("3fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"), None),
            ("5f00::", "5f00:ffff:ffff:ffff:ffff:ffff:ffff:ffff", None, None),
            ("200::", "1fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", None, Some("2000::")),
            ("fc00::", "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", None, None),
            ("fe80::", "febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff", None, None),
            ("fec0::", "feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", None, None),
            ("ff00::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", None, None),
        ] {
            for inside in [first, last] {
                assert!(!passes(&guard, inside), "{inside}");
            }
            for outside in [below, above].into_iter().flatten() {
                assert!(passes(&guard, outside), "{outside}");
            }
        }
    }

    #[test]
    fn what_is_public_passes() {
        let guard = guard(&[]);
        for address in ["1.1.1.1", "8.8.8.8", "93.184.215.14", "2606:4700:4700::1111", "2a00:1450:4001::200e"] {
            assert!(passes(&guard, address), "{address}");
        }
    }

    #[test]
    fn metadata_services_are_forbidden() {
        let guard = guard(&[]);
        let services =
            ["169.254.169.254", "169.254.170.2", "fd00:ec2::254", "fd20:ce::254", "100.100.100.200", "192.0.0.192"];
        for address in services {
            assert!(!passes(&guard, address), "{address}");
        }
    }

    /// `8.8.8.8`, `10.0.0.1` and `127.0.0.1` in each form that carries them.
    #[test]
    fn the_address_inside_counts() {
        let guard = guard(&[]);
        for (public, private, loopback) in [
            ("::ffff:8.8.8.8", "::ffff:10.0.0.1", "::ffff:127.0.0.1"),
            ("::8.8.8.8", "::10.0.0.1", "::127.0.0.1"),
            ("64:ff9b::8.8.8.8", "64:ff9b::10.0.0.1", "64:ff9b::127.0.0.1"),
            ("2002:808:808::1", "2002:a00:1::1", "2002:7f00:1::1"),
            // Teredo clients: each bit is inverted.
            ("2001:0:808:808::f7f7:f7f7", "2001:0:808:808::f5ff:fffe", "2001:0:808:808::80ff:fffe"),
            // Teredo servers.
            ("2001:0:808:808::f7f7:f7f7", "2001:0:a00:1::f7f7:f7f7", "2001:0:7f00:1::f7f7:f7f7"),
        ] {
            assert!(passes(&guard, public), "{public}");
            assert_eq!(guard.check(private.parse().unwrap()).unwrap_err().why, PRIVATE, "{private}");
            assert_eq!(guard.check(loopback.parse().unwrap()).unwrap_err().why, LOOPBACK, "{loopback}");
        }
    }

    #[test]
    fn forms_that_carry_nothing_public_are_forbidden() {
        let guard = guard(&[]);
        // A network's own NAT64, whatever is inside; its neighbours; SIIT.
        for address in
            ["64:ff9b:1::8.8.8.8", "64:ff9b:0:1::8.8.8.8", "64:ff9a::8.8.8.8", "::ffff:0:8.8.8.8", "::1:0:0:1"]
        {
            assert!(!passes(&guard, address), "{address}");
        }
    }

    #[test]
    fn the_operator_allows_what_a_network_contains() {
        let guard = guard(&["10.1.0.0/16", "fd12::/16", "64:ff9b:1::/48"]);
        for address in ["10.1.0.0", "10.1.255.255", "::ffff:10.1.2.3", "2002:a01:203::1", "fd12::1", "64:ff9b:1::a00:1"]
        {
            assert!(passes(&guard, address), "{address}");
        }
        for address in ["10.0.255.255", "10.2.0.0", "::ffff:10.2.0.0", "fd13::1", "127.0.0.1"] {
            assert!(!passes(&guard, address), "{address}");
        }
    }

    #[test]
    fn the_operator_allows_all_inside_or_the_whole() {
        // The server inside is allowed, the client is not.
        assert!(!passes(&guard(&["10.0.0.1/32"]), "2001:0:a00:1::80ff:fffe"));
        assert!(passes(&guard(&["10.0.0.1/32", "127.0.0.1/32"]), "2001:0:a00:1::80ff:fffe"));
        assert!(passes(&guard(&["2001::/32"]), "2001:0:a00:1::80ff:fffe"));
        // `::1` is the loopback, not an IPv4 address in disguise.
        assert!(!passes(&guard(&["0.0.0.0/8"]), "::1"));
        assert!(passes(&guard(&["::1/128"]), "::1"));
    }

    #[test]
    fn urls_are_judged_by_literals_and_loopback_names() {
        let passes = |allow: &[&str], url: &str| guard(allow).check_literal(&Url::parse(url).unwrap()).is_ok();
        for good in ["https://example.com/", "http://8.8.8.8/", "http://[2606:4700::1]/", "http://localhost.example/"] {
            assert!(passes(&[], good), "{good}");
        }
        for loopback in [
            "http://localhost/",
            "http://LOCALHOST:8080/",
            "http://localhost./",
            "http://a.b.localhost/",
            "http://x.localhost./",
        ] {
            assert!(!passes(&[], loopback), "{loopback}");
            assert!(passes(&["127.0.0.0/8"], loopback) && passes(&["::1/128"], loopback), "{loopback}");
        }
        for bad in [
            "http://127.1/",
            "http://0x7f000001/",
            "http://[::1]/",
            "http://[::ffff:10.0.0.1]/",
            "http://10.0.0.1:8080/",
        ] {
            assert!(!passes(&[], bad), "{bad}");
        }
    }

    #[test]
    fn ports_of_other_services_are_forbidden() {
        let guard = |ports: &[RangeInclusive<u16>]| Guard::new(Targets { ports: ports.to_vec(), ..Targets::default() });
        for port in [22, 23, 25, 110, 143, 465, 587, 993, 995, 3306, 5432, 6379, 11_211] {
            let refused = guard(&[]).check_port(port).unwrap_err();
            assert_eq!(
                refused.to_string(),
                format!("nothing is delivered to port {port} unless the server's operator allows it (target_ports)")
            );
        }
        for port in [80, 443, 3000, 5000, 8000, 8080, 8443, 9000, 65_535] {
            assert!(guard(&[]).check_port(port).is_ok(), "{port}");
        }
        let own = guard(&[25..=25, 8000..=8080]);
        let passed: Vec<_> = (1..=u16::MAX).filter(|port| own.check_port(*port).is_ok()).collect();
        assert_eq!(passed, std::iter::once(25).chain(8000..=8080).collect::<Vec<_>>());
    }

    #[test]
    fn an_address_is_told_only_to_whom_it_may_be() {
        let refused = Guard::new(Targets::default()).check("10.1.2.3".parse().unwrap()).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "the host has a private address, or another that is not public; only public addresses are delivered to, \
             unless the server's operator allows it (allow_target)"
        );
    }

    #[test]
    fn a_refusal_says_what_and_how_to_allow_it() {
        let refused = guard(&[]).check("10.0.0.1".parse().unwrap()).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "10.0.0.1 is a private address; only public addresses are delivered to, \
             unless the server is started with --allow-target 10.0.0.1/32"
        );
    }
}
