//! Whether two entries of a file want the same port.
//!
//! Resolves no name: of two that may be one address only those are at fault that are one for sure.

use std::net::IpAddr;

use super::report::Report;
use super::{Endpoint, ip_address};

/// Every entry that wants what an earlier one has is at fault.
pub(super) fn check(report: &mut Report) {
    let wanted = std::mem::take(&mut report.wanted);
    for (index, second) in wanted.iter().enumerate() {
        let mut before = wanted[..index].iter();
        if let Some(first) = before.find(|first| overlap(&first.endpoint, &second.endpoint)) {
            // The one without a place is a default: the other one can be changed.
            let (faulty, other) = match second.place {
                None => (first, second),
                Some(_) => (second, first),
            };
            let where_other = match &other.place {
                Some(place) => format!("{}, line {}", other.who, place.line),
                None => format!("{}, by default", other.who),
            };
            let what = format!(
                "{} is taken by {} ({where_other}), expected another port",
                faulty.endpoint, other.endpoint
            );
            report.fault_at(faulty.place.as_ref(), &faulty.who, what);
        }
    }
}

fn overlap(a: &Endpoint, b: &Endpoint) -> bool {
    if a.port != b.port || a.port == 0 {
        return false;
    }
    match (ip_address(&a.host), ip_address(&b.host)) {
        (Some(a), Some(b)) => a == b || covers(a, b) || covers(b, a),
        _ => a.host.eq_ignore_ascii_case(&b.host),
    }
}

/// All addresses of IPv6 are those of IPv4 too.
fn covers(all: IpAddr, one: IpAddr) -> bool {
    all.is_unspecified() && (all.is_ipv6() || one.is_ipv4())
}
