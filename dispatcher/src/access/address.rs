//! Which client a request comes from, including behind proxies.

use std::net::{IpAddr, SocketAddr};

use axum::http::HeaderMap;
use ipnet::IpNet;

const FORWARDED_FOR: &str = "x-forwarded-for";

/// The client's address. It is the peer's, unless the peer is a proxy in `trusted`. Then it is read from the
/// forwarding header, from right to left, for as long as the entries come from trusted proxies. Clients can
/// forge everything further left.
pub(crate) fn address(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.contains(&address));
    let mut client = peer.to_canonical();
    if !is_trusted(client) {
        return client;
    }
    for line in headers.get_all(FORWARDED_FOR).iter().rev() {
        let Ok(line) = line.to_str() else { return client };
        for entry in line.rsplit(',') {
            let Some(address) = parse(entry.trim()) else { return client };
            client = address;
            if !is_trusted(client) {
                return client;
            }
        }
    }
    client
}

/// An address as proxies write them: alone, or with a port.
fn parse(entry: &str) -> Option<IpAddr> {
    let bare = entry.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(entry);
    let address = bare.parse().ok().or_else(|| entry.parse::<SocketAddr>().ok().map(|at| at.ip()))?;
    Some(address.to_canonical())
}

/// Parses a trusted proxy: an address, or a network such as `10.0.0.0/8`.
///
/// # Errors
/// Says what is expected.
pub(crate) fn parse_network(text: &str) -> Result<IpNet, String> {
    let text = text.trim();
    let network = text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
    network.ok_or_else(|| "must be an address or a network, such as 10.0.0.0/8".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(peer: &str, lines: &[&str], trusted: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(FORWARDED_FOR, line.parse().unwrap());
        }
        let trusted: Vec<IpNet> = trusted.iter().map(|text| parse_network(text).unwrap()).collect();
        address(peer.parse().unwrap(), &headers, &trusted).to_string()
    }

    #[test]
    fn only_trusted_proxies_are_believed() {
        let proxies = &["10.0.0.0/8", "fd00::1"];
        assert_eq!(seen("192.0.2.1", &["203.0.113.9"], proxies), "192.0.2.1");
        assert_eq!(seen("192.0.2.1", &["203.0.113.9"], &[]), "192.0.2.1");
        assert_eq!(seen("10.1.1.1", &["203.0.113.9"], proxies), "203.0.113.9");
        assert_eq!(seen("::ffff:10.1.1.1", &["203.0.113.9"], proxies), "203.0.113.9");
        // What the client itself wrote into the header is further left.
        assert_eq!(seen("10.1.1.1", &["1.1.1.1, 203.0.113.9, 10.2.2.2"], proxies), "203.0.113.9");
        assert_eq!(seen("10.1.1.1", &["1.1.1.1", "203.0.113.9:4711"], proxies), "203.0.113.9");
        assert_eq!(seen("fd00::1", &["[2001:db8::7]:99"], proxies), "2001:db8::7");
        // An unreadable entry ends the search at the last known address.
        assert_eq!(seen("10.1.1.1", &["203.0.113.9, unknown"], proxies), "10.1.1.1");
        assert_eq!(seen("10.1.1.1", &[], proxies), "10.1.1.1");
    }

    #[test]
    fn networks_are_checked() {
        assert!(parse_network("10.0.0.0/40").is_err());
    }
}
