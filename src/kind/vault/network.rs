//! Which networks a token may be used from, and whether this machine is in one.

use std::net::{IpAddr, ToSocketAddrs as _, UdpSocket};

/// The address that this machine would reach a server from. Nothing is sent. `None` where it cannot be
/// told; a server behind a translation of addresses sees another one.
pub(super) fn seen_from(server: &reqwest::Url) -> Option<IpAddr> {
    let host = server.host_str()?.trim_start_matches('[').trim_end_matches(']');
    let to = (host, server.port_or_known_default()?).to_socket_addrs().ok()?.next()?;
    let any: IpAddr = if to.is_ipv4() { [0, 0, 0, 0].into() } else { [0u16; 8].into() };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect(to).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

/// Whether a network in CIDR notation, or a single address, contains an address.
pub(super) fn contains(cidr: &str, address: IpAddr) -> bool {
    let (network, length) = match cidr.split_once('/') {
        Some((network, length)) => (network, length.parse().ok()),
        None => (cidr, None),
    };
    let Ok(network) = network.parse::<IpAddr>() else { return false };
    let (network, address, width) = match (network, address) {
        (IpAddr::V4(n), IpAddr::V4(a)) => (u128::from(n.to_bits()), u128::from(a.to_bits()), 32),
        (IpAddr::V6(n), IpAddr::V6(a)) => (n.to_bits(), a.to_bits(), 128),
        _ => return false,
    };
    let length: u32 = match (length, cidr.contains('/')) {
        (Some(length), _) if length <= width => length,
        (None, false) => width,
        _ => return false,
    };
    // A shift by the whole width is none that the machine knows.
    length == 0 || (network ^ address).checked_shr(width - length).unwrap_or(0) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_contains_its_addresses_and_no_others() {
        let holds = |cidr: &str, address: &str| contains(cidr, address.parse().expect("address"));
        for (cidr, address) in [
            ("127.0.0.0/8", "127.0.0.1"),
            ("10.0.0.1", "10.0.0.1"),
            ("10.0.0.1/32", "10.0.0.1"),
            ("0.0.0.0/0", "8.8.8.8"),
            ("::/0", "::1"),
            ("fd00::/8", "fd12::3"),
        ] {
            assert!(holds(cidr, address), "{cidr} {address}");
        }
        for (cidr, address) in [
            ("127.0.0.0/8", "128.0.0.1"),
            ("10.0.0.1", "10.0.0.2"),
            ("10.0.0.0/33", "10.0.0.1"),
            ("10.0.0.0/x", "10.0.0.1"),
            ("0.0.0.0/0", "::1"),
            ("", "10.0.0.1"),
        ] {
            assert!(!holds(cidr, address), "{cidr} {address}");
        }
    }

    #[test]
    fn a_server_on_this_machine_is_reached_from_it() {
        let here = seen_from(&"http://127.0.0.1:8200".parse().expect("address")).expect("an address");
        assert!(here.is_loopback(), "{here}");
    }
}
