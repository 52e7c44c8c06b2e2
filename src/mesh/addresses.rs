//! How many subscribers each address has, on all workers, where the settings bound that.
//!
//! The one place with locks: each is held for one look at one table, when a socket comes or goes, and never
//! where there is no such bound.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// So many tables, so that two workers seldom look at the same one.
const TABLES: usize = 64;
/// Who has one address of the sixth version has as many as these bits leave.
const NETWORK_BITS: u32 = 64;

/// How many there are of each.
#[derive(Debug)]
pub struct Addresses {
    tables: [Mutex<HashMap<IpAddr, usize>>; TABLES],
    hasher: RandomState,
}

impl Default for Addresses {
    fn default() -> Addresses {
        Addresses {
            tables: std::array::from_fn(|_| Mutex::default()),
            hasher: RandomState::new(),
        }
    }
}

impl Addresses {
    /// Counts one more of that address, if fewer than `most` are there. Gives as what it counts.
    pub fn count(&self, address: IpAddr, most: usize) -> Option<IpAddr> {
        let counted = network_of(address);
        let mut table = self.table_of(&counted);
        let len = table.entry(counted).or_default();
        let has_room = *len < most;
        *len += usize::from(has_room);
        has_room.then_some(counted)
    }

    /// One of those is gone.
    pub fn uncount(&self, counted: IpAddr) {
        let mut table = self.table_of(&counted);
        if let Some(len) = table.get_mut(&counted) {
            *len = len.saturating_sub(1);
            if *len == 0 {
                table.remove(&counted);
            }
        }
    }

    fn table_of(&self, address: &IpAddr) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        let table = self.hasher.hash_one(address) as usize % TABLES;
        // Numbers are right whoever has panicked meanwhile.
        let table = self.tables[table].lock();
        table.unwrap_or_else(PoisonError::into_inner)
    }
}

/// The address, or the network of one owner.
fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let network = address.to_bits() >> NETWORK_BITS << NETWORK_BITS;
            Ipv6Addr::from_bits(network).into()
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_has_its_own_room_and_leaves_nothing_behind() {
        let addresses = Addresses::default();
        let count = |address: &str| addresses.count(address.parse().unwrap(), 2);
        let first = count("10.0.0.1").unwrap();
        assert!(count("::ffff:10.0.0.1").is_some() && count("10.0.0.1").is_none());
        assert!(count("10.0.0.2").is_some());
        addresses.uncount(first);
        assert!(count("10.0.0.1").is_some() && count("10.0.0.1").is_none());
        assert!(count("2001:db8::1").is_some() && count("2001:db8::2").is_some());
        assert!(count("2001:db8::ffff:3").is_none(), "one network");
        assert!(count("2001:db8:0:1::3").is_some());
        for address in ["10.0.0.1", "10.0.0.1", "10.0.0.2"] {
            addresses.uncount(address.parse().unwrap());
        }
        addresses.uncount("10.0.0.9".parse().unwrap());
        let left = addresses
            .tables
            .iter()
            .map(|table| table.lock().unwrap().len());
        assert_eq!(left.sum::<usize>(), 2);
    }
}
