//! Limits on connections: in total, and from one address.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

use ipnet::IpNet;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Most refused connections that get a response at the same time; further ones are closed without one. Over
/// TLS, each costs a handshake, which takes about a millisecond.
const REFUSED_MAX: usize = 64;
/// Open files that are not connections to clients: for Redis, logs, and the runtime.
const OTHER_FILES: u64 = 100;

/// Why a connection is not admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Excess {
    /// There are too many connections in total.
    All,
    /// There are too many connections from its address.
    Address,
}

/// Counts connections, and admits those within the limits.
#[derive(Debug)]
pub(crate) struct Admission {
    all: Arc<Semaphore>,
    refused: Arc<Semaphore>,
    per_address: Option<usize>,
    exempt: Vec<IpNet>,
    // One entry for each address that has a connection.
    counts: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// An admitted connection's permit, which it holds until it ends.
#[derive(Debug)]
pub(crate) struct Permit {
    _all: OwnedSemaphorePermit,
    _of_address: Option<AddressPermit>,
}

#[derive(Debug)]
struct AddressPermit {
    counts: Arc<Mutex<HashMap<IpAddr, usize>>>,
    address: IpAddr,
}

impl Admission {
    pub(crate) fn new(total: usize, per_address: Option<usize>, exempt: Vec<IpNet>) -> Self {
        let total = total.min(files_allow()).min(Semaphore::MAX_PERMITS);
        Self {
            all: Arc::new(Semaphore::new(total)),
            refused: Arc::new(Semaphore::new(REFUSED_MAX)),
            per_address,
            exempt,
            counts: Arc::default(),
        }
    }

    /// Returns a permit for one more connection from `peer`.
    pub(crate) fn admit(&self, peer: IpAddr) -> Result<Permit, Excess> {
        let all = Arc::clone(&self.all).try_acquire_owned().map_err(|_| Excess::All)?;
        let of_address = match self.per_address {
            Some(most) if !self.exempt.iter().any(|network| network.contains(&peer)) => {
                Some(self.count(network_of(peer), most)?)
            }
            _ => None,
        };
        Ok(Permit { _all: all, _of_address: of_address })
    }

    /// Returns a permit to send a refused connection the reason; `None` if it must be closed without one.
    pub(crate) fn refuse(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.refused).try_acquire_owned().ok()
    }

    fn count(&self, address: IpAddr, most: usize) -> Result<AddressPermit, Excess> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(address).or_default();
        if *count >= most {
            return Err(Excess::Address);
        }
        *count += 1;
        Ok(AddressPermit { counts: Arc::clone(&self.counts), address })
    }
}

impl Drop for AddressPermit {
    fn drop(&mut self) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.address);
            }
        }
    }
}

/// What counts as one client: an IPv4 address, or the IPv6 /64 network of one customer.
pub fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
        address @ IpAddr::V4(_) => address,
    }
}

/// How many connections the limit on open files allows. First raises that limit as far as possible.
fn files_allow() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let current = if setrlimit(Resource::Nofile, raised).is_ok() { limit.maximum } else { limit.current };
    let files = current.unwrap_or(u64::MAX).saturating_sub(OTHER_FILES);
    usize::try_from(files).unwrap_or(usize::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_customers_network_is_one_client() {
        let of = |text: &str| network_of(address(text)).to_string();
        assert_eq!(of("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(of("::ffff:192.0.2.7"), "192.0.2.7");
    }

    #[test]
    fn a_permit_is_given_back_and_a_refusal_takes_none() {
        let admission = Admission::new(3, Some(1), vec!["10.0.0.0/8".parse().unwrap()]);
        let first = admission.admit(address("2001:db8::1")).unwrap();
        // This is another address of the same customer.
        assert_eq!(admission.admit(address("2001:db8::2")).unwrap_err(), Excess::Address);
        let _proxy =
            (admission.admit(address("10.0.0.1")).unwrap(), admission.admit(address("10.0.0.1")).unwrap());
        assert_eq!(admission.admit(address("192.0.2.7")).unwrap_err(), Excess::All);
        drop(first);
        assert_eq!(admission.counts.lock().unwrap().len(), 0);
        admission.admit(address("192.0.2.7")).unwrap();
    }
}
