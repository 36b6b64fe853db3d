//! Which addresses somebody else's URL may lead to. Pure: no look-up, no socket.
//!
//! What is not certainly a host on the public internet is refused, unless the operator listed it. Addresses that carry
//! another one inside (mapped, NAT64, 6to4, Teredo) are refused whatever they carry: nobody needs them to be reached,
//! and unpacking each of them rightly is a trap.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// What kind of address it is. All but `Public` are refused unless listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    Public,
    Unspecified,
    Loopback,
    Private,
    CarrierNat,
    LinkLocal,
    /// Where clouds tell a machine its credentials.
    Metadata,
    Multicast,
    Documentation,
    Benchmark,
    Mapped,
    Nat64,
    SixToFour,
    Teredo,
    /// Everything else that is not a host on the public internet.
    Reserved,
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Public => "a public",
            Self::Unspecified => "an unspecified",
            Self::Loopback => "a loopback",
            Self::Private => "a private",
            Self::CarrierNat => "a carrier NAT",
            Self::LinkLocal => "a link-local",
            Self::Metadata => "a cloud metadata",
            Self::Multicast => "a multicast",
            Self::Documentation => "a documentation",
            Self::Benchmark => "a benchmark",
            Self::Mapped => "an IPv4-mapped",
            Self::Nat64 => "a NAT64",
            Self::SixToFour => "a 6to4",
            Self::Teredo => "a Teredo",
            Self::Reserved => "a reserved",
        })
    }
}

/// The kind of this address.
pub fn classify(address: IpAddr) -> Class {
    match address {
        IpAddr::V4(v4) => first(V4, |net| net.contains(&v4)).unwrap_or(Class::Public),
        IpAddr::V6(v6) => first(V6, |net| net.contains(&v6)).unwrap_or(Class::Reserved),
    }
}

fn first<N>(table: &[(N, Class)], holds: impl Fn(&N) -> bool) -> Option<Class> {
    let row = table.iter().find(|(net, _)| holds(net))?;
    Some(row.1)
}

const fn v4(a: u8, b: u8, c: u8, d: u8, prefix_len: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix_len)
}

const fn v6(head: [u16; 4], last: u16, prefix_len: u8) -> Ipv6Net {
    let [a, b, c, d] = head;
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, d, 0, 0, 0, last), prefix_len)
}

/// The first row that holds the address counts; what no row holds is public.
const V4: &[(Ipv4Net, Class)] = &[
    (v4(169, 254, 169, 254, 32), Class::Metadata), // AWS, Azure, Google, most others
    (v4(169, 254, 170, 2, 32), Class::Metadata),   // AWS containers
    (v4(100, 100, 100, 200, 32), Class::Metadata), // Alibaba
    (v4(192, 0, 0, 192, 32), Class::Metadata),     // Oracle
    (v4(168, 63, 129, 16, 32), Class::Metadata),   // Azure's wire server, in public address space
    (v4(0, 0, 0, 0, 8), Class::Unspecified),
    (v4(10, 0, 0, 0, 8), Class::Private),
    (v4(100, 64, 0, 0, 10), Class::CarrierNat),
    (v4(127, 0, 0, 0, 8), Class::Loopback),
    (v4(169, 254, 0, 0, 16), Class::LinkLocal),
    (v4(172, 16, 0, 0, 12), Class::Private),
    (v4(192, 0, 0, 0, 24), Class::Reserved),
    (v4(192, 0, 2, 0, 24), Class::Documentation),
    (v4(192, 88, 99, 0, 24), Class::SixToFour),
    (v4(192, 168, 0, 0, 16), Class::Private),
    (v4(198, 18, 0, 0, 15), Class::Benchmark),
    (v4(198, 51, 100, 0, 24), Class::Documentation),
    (v4(203, 0, 113, 0, 24), Class::Documentation),
    (v4(224, 0, 0, 0, 4), Class::Multicast),
    (v4(240, 0, 0, 0, 4), Class::Reserved),
];

/// The first row that holds the address counts; what no row holds was never assigned, and is reserved.
const V6: &[(Ipv6Net, Class)] = &[
    (v6([0xfd00, 0xec2, 0, 0], 0x254, 128), Class::Metadata), // AWS
    (v6([0xfd20, 0xce, 0, 0], 0x254, 128), Class::Metadata),  // Google
    (v6([0, 0, 0, 0], 0, 128), Class::Unspecified),
    (v6([0, 0, 0, 0], 1, 128), Class::Loopback),
    (
        Ipv6Net::new_assert(Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), 96),
        Class::Mapped,
    ),
    (v6([0x64, 0xff9b, 0, 0], 0, 96), Class::Nat64),
    (v6([0x64, 0xff9b, 1, 0], 0, 48), Class::Nat64),
    (v6([0x2001, 0, 0, 0], 0, 32), Class::Teredo),
    (v6([0x2001, 2, 0, 0], 0, 48), Class::Benchmark),
    (v6([0x2001, 0, 0, 0], 0, 23), Class::Reserved), // protocol assignments
    (v6([0x2001, 0xdb8, 0, 0], 0, 32), Class::Documentation),
    (v6([0x2002, 0, 0, 0], 0, 16), Class::SixToFour),
    (v6([0x3fff, 0, 0, 0], 0, 20), Class::Documentation),
    (v6([0xfc00, 0, 0, 0], 0, 7), Class::Private),
    (v6([0xfe80, 0, 0, 0], 0, 10), Class::LinkLocal),
    (v6([0xfec0, 0, 0, 0], 0, 10), Class::Private),
    (v6([0xff00, 0, 0, 0], 0, 8), Class::Multicast),
    (v6([0x2000, 0, 0, 0], 0, 3), Class::Public),
];

/// Hosts and networks that the operator allows although they are not public.
///
/// Each entry is a host name (whatever it resolves to is allowed), an address, or a network (`10.1.0.0/16`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
#[schemars(with = "Vec<String>")]
pub struct AllowList {
    hosts: Vec<String>,
    networks: Vec<IpNet>,
}

/// Why an entry of an allow-list cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is neither a host name, nor an address, nor a network such as 10.1.0.0/16")]
pub struct EntryFault(String);

impl AllowList {
    /// Whether a URL of this host may lead to this address. `host` is what stands in the URL.
    pub fn check(&self, host: &str, address: IpAddr) -> Result<(), Class> {
        let host = host.strip_suffix('.').unwrap_or(host);
        let listed = self.hosts.iter().any(|listed| listed.eq_ignore_ascii_case(host))
            || self.networks.iter().any(|net| net.contains(&address));
        match classify(address) {
            Class::Public => Ok(()),
            _ if listed => Ok(()),
            refused => Err(refused),
        }
    }
}

impl TryFrom<Vec<String>> for AllowList {
    type Error = EntryFault;

    fn try_from(entries: Vec<String>) -> Result<Self, EntryFault> {
        let mut list = Self::default();
        for entry in entries {
            if let Ok(network) = entry.parse::<IpNet>() {
                list.networks.push(network.trunc());
            } else if let Ok(address) = entry.parse::<IpAddr>() {
                list.networks.push(address.into());
            } else {
                list.hosts.push(host_name(entry)?);
            }
        }
        Ok(list)
    }
}

/// A name as it will stand in a URL: lower case, no trailing dot. Odd spellings of addresses are no names.
fn host_name(entry: String) -> Result<String, EntryFault> {
    match url::Host::parse(&entry) {
        Ok(url::Host::Domain(name)) if !name.is_empty() && !name.contains('*') => {
            Ok(name.strip_suffix('.').unwrap_or(&name).to_owned())
        }
        _ => Err(EntryFault(entry)),
    }
}

impl From<AllowList> for Vec<String> {
    fn from(list: AllowList) -> Self {
        let networks = list.networks.iter().map(ToString::to_string);
        list.hosts.iter().cloned().chain(networks).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(entries: &[&str]) -> AllowList {
        let entries: Vec<String> = entries.iter().map(ToString::to_string).collect();
        entries.try_into().unwrap()
    }

    #[test]
    fn each_kind_of_address() {
        let table = "
            Public: 1.1.1.1 8.8.8.8 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.1
            Public: 169.253.255.255 169.255.0.0 172.15.255.255 172.32.0.0 192.0.1.0 192.167.255.255 192.169.0.0
            Public: 198.17.255.255 198.20.0.0 223.255.255.255 2606:4700:4700::1111 2001:4860:4860::8888 2a00::1
            Public: 2001:200::1 2003::1 3ffe::1
            Unspecified: 0.0.0.0 0.1.2.3 0.255.255.255 ::
            Loopback: 127.0.0.1 127.0.0.53 127.255.255.254 ::1
            Private: 10.0.0.0 10.255.255.255 172.16.0.1 172.31.255.255 192.168.0.1 192.168.255.255
            Private: fc00::1 fd12:3456::1 fdff::1 fec0::1 fd00:ec2::253
            CarrierNat: 100.64.0.0 100.127.255.255 100.100.100.199
            LinkLocal: 169.254.0.1 169.254.169.253 169.254.255.255 fe80::1 febf::1
            Metadata: 169.254.169.254 169.254.170.2 100.100.100.200 192.0.0.192 168.63.129.16
            Metadata: fd00:ec2::254 fd20:ce::254
            Multicast: 224.0.0.1 239.255.255.255 ff02::1 ff0e::1
            Documentation: 192.0.2.1 198.51.100.1 203.0.113.255 2001:db8::1 3fff::1
            Benchmark: 198.18.0.1 198.19.255.255 2001:2::1
            Mapped: ::ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:8.8.8.8 ::ffff:169.254.169.254
            Nat64: 64:ff9b::7f00:1 64:ff9b::808:808 64:ff9b:1::1
            SixToFour: 192.88.99.1 2002:7f00:1:: 2002:a00:1::1
            Teredo: 2001::1 2001:0:ffff::1
            Reserved: 192.0.0.1 240.0.0.1 255.255.255.255 ::127.0.0.1 ::2 100::1 2001:10::1 2001:20::1 4000::1
            Reserved: 5f00::1 fe00::1 64:ff9b:2::1
        ";
        let mut seen = 0;
        for row in table.lines().map(str::trim).filter(|row| !row.is_empty()) {
            let (class, addresses) = row.split_once(':').unwrap();
            for text in addresses.split_whitespace() {
                let address: IpAddr = text.parse().unwrap();
                assert_eq!(format!("{:?}", classify(address)), class, "{text}");
                let allowed = AllowList::default().check("example.com", address).is_ok();
                assert_eq!(allowed, class == "Public", "{text}");
                seen += 1;
            }
        }
        assert!(seen > 80, "{seen}");
    }

    #[test]
    fn what_is_listed_is_allowed_and_nothing_beside_it() {
        let list = list(&["10.1.0.0/16", "127.0.0.1", "Engine.Internal.", "fd00::/8"]);
        let allowed = |host: &str, address: &str| list.check(host, address.parse().unwrap()).is_ok();
        assert!(allowed("x", "10.1.255.1"));
        assert!(!allowed("x", "10.2.0.1"));
        assert!(allowed("x", "127.0.0.1"));
        assert!(!allowed("x", "127.0.0.2"));
        assert!(!allowed("x", "::ffff:127.0.0.1"), "a mapped address is another address");
        assert!(allowed("x", "fd12::1"));
        assert!(allowed("engine.internal", "192.168.1.1"));
        assert!(allowed("ENGINE.internal.", "192.168.1.1"));
        assert!(!allowed("notengine.internal", "192.168.1.1"));
        assert!(!allowed("engine.internal.evil.example", "192.168.1.1"));
    }

    #[test]
    fn an_entry_that_means_nothing_is_refused_when_it_is_read() {
        for bad in [
            "",
            "10.0.0.0/33",
            "http://x",
            "*.example.com",
            "a b",
            "127.1",
            "0x7f000001",
            "[::1]",
        ] {
            let list: Result<AllowList, _> = serde_json::from_value(serde_json::json!([bad]));
            let message = list.unwrap_err().to_string();
            assert!(message.contains(&format!("`{bad}` is neither")), "{message}");
        }
        let written = serde_json::to_value(list(&["b.example", "10.1.2.3/16", "::1"])).unwrap();
        assert_eq!(written, serde_json::json!(["b.example", "10.1.0.0/16", "::1/128"]));
    }
}
