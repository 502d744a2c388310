//! Whether to reach the API through a proxy, according to `HTTPS_PROXY` and `NO_PROXY`, as in kubectl.

use std::net::IpAddr;

/// The proxy for `host`, given the values of the two variables. Loopback hosts have none.
pub(super) fn proxy_for(host: &str, https_proxy: Option<&str>, no_proxy: Option<&str>) -> Option<String> {
    let proxy = https_proxy.map(str::trim).filter(|proxy| !proxy.is_empty())?;
    let host = host.trim_matches(['[', ']']).trim_end_matches('.').to_ascii_lowercase();
    let address: Option<IpAddr> = host.parse().ok();
    if host == "localhost" || address.is_some_and(|address| address.is_loopback()) {
        return None;
    }
    let is_left_out = |entry: &str| match (entry, address) {
        ("", _) => false,
        ("*", _) => true,
        (entry, Some(address)) => is_within(address, entry),
        (entry, None) => {
            let domain = entry.trim_start_matches("*.").trim_start_matches('.').to_ascii_lowercase();
            let domain = domain.split_once(':').map_or(domain.as_str(), |(domain, _)| domain);
            host == domain || host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'))
        }
    };
    if no_proxy.unwrap_or_default().split(',').map(str::trim).any(is_left_out) {
        return None;
    }
    Some(if proxy.contains("://") { proxy.to_owned() } else { format!("http://{proxy}") })
}

/// Whether an address equals `entry` or is in that network.
fn is_within(address: IpAddr, entry: &str) -> bool {
    let (network, length) =
        entry.split_once('/').map_or((entry, None), |(network, length)| (network, Some(length)));
    let Ok(network) = network.parse::<IpAddr>() else { return false };
    let bits = |address: IpAddr| match address {
        IpAddr::V4(address) => (u128::from(address.to_bits()) << 96, 32),
        IpAddr::V6(address) => (address.to_bits(), 128),
    };
    let ((address, width), (network, network_width)) = (bits(address), bits(network));
    let Ok(length) = length.map_or(Ok(width), str::parse::<u32>) else { return false };
    let mask = u128::MAX.checked_shl(128_u32.saturating_sub(length)).unwrap_or(0);
    width == network_width && length <= width && address & mask == network & mask
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_reached_through_a_proxy_or_not() {
        let proxy = Some("http://p:3128");
        for (host, no_proxy, through) in [
            ("k8s.example.org", "", true),
            ("k8s.example.org", "example.org", false),
            ("k8s.example.org", ".Example.org,other", false),
            ("k8s.example.org", "*.example.org", false),
            ("k8s.badexample.org", "example.org", true),
            ("k8s.example.org", "*", false),
            ("10.1.2.3", "10.0.0.0/8", false),
            ("10.1.2.3", "10.1.2.4, 10.1.2.3", false),
            ("11.1.2.3", "10.0.0.0/8", true),
            ("10.1.2.3", "10.0.0.0/x,10.0.0.0/99", true),
            ("[fd00::1]", "fd00::/8", false),
            ("[fd00::1]", "0.0.0.0/0", true),
            ("1.2.3.4", "0.0.0.0/0", false),
            ("127.0.0.1", "", false),
            ("localhost", "", false),
            ("[::1]", "", false),
        ] {
            assert_eq!(proxy_for(host, proxy, Some(no_proxy)).is_some(), through, "{host} {no_proxy}");
        }
        assert_eq!(proxy_for("a.example.org", None, None), None);
        assert_eq!(proxy_for("a.example.org", Some(" "), None), None);
        assert_eq!(proxy_for("a.example.org", Some("p:3128"), None).as_deref(), Some("http://p:3128"));
    }
}
