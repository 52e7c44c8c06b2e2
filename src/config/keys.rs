//! Keys that several entries have: where to listen, and which function to ask.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use super::address::{is_name, shown};
use super::report::{Place, Wanted};
use super::section::Section;
use super::words::mismatch;
use super::yaml::{Node, Value};
use super::{Endpoint, ip_address};

const PORTS: RangeInclusive<u64> = 0..=65_535;

/// A text, or null. Empty is a mistake, and must not open a door.
pub(super) fn function_id(node: &Node) -> Result<Option<String>, String> {
    match &node.value {
        Value::Null => Ok(None),
        Value::Text(text) if text.is_empty() => {
            Err("\"\" names no function, expected null or no such key".to_owned())
        }
        Value::Text(text) => Ok(Some(text.clone())),
        _ => Err(mismatch(node, "the id of a function or null")),
    }
}

/// `entry`: where the entry stands, for what it leaves out.
pub(super) fn endpoint(keys: &mut Section<'_, '_>, endpoint: &mut Endpoint, entry: Option<Place>) {
    keys.integer("port", &mut endpoint.port, PORTS);
    keys.read("host", &mut endpoint.host, |node| match &node.value {
        Value::Text(text) if is_of_one_link(text) => Err(format!(
            "{text:?} cannot be listened on, expected an address that is no multicast or fe80::, or :: for all"
        )),
        Value::Text(text) if is_host(text) => Ok(text.clone()),
        Value::Text(text) => Err(format!(
            "{:?} is no host, expected an IP address or a name, without port",
            shown(text)
        )),
        _ => Err(mismatch(node, "an IP address or a name")),
    });
    let node = keys.node("port").or(keys.node("host"));
    let place = node.map(|node| keys.report.place_of(node.span.start));
    let place = place.or(entry);
    let who = match place {
        Some(_) => keys.path_of("port"),
        None => keys.name_of("port"),
    };
    keys.report.wanted.push(Wanted {
        who,
        endpoint: endpoint.clone(),
        place,
    });
}

/// The same of a port beside those that clients know: only one that the file speaks of may be in the way
/// of another.
pub(super) fn endpoint_beside(
    keys: &mut Section<'_, '_>,
    target: &mut Endpoint,
    is_configured: bool,
) {
    endpoint(keys, target, None);
    if !is_configured {
        keys.report.wanted.pop();
    }
}

/// Addresses that mean nothing without the name of an interface, or nobody can have: the system refuses a
/// listener there on every machine.
fn is_of_one_link(text: &str) -> bool {
    match ip_address(text) {
        Some(IpAddr::V6(ip)) => ip.is_multicast() || ip.is_unicast_link_local(),
        Some(IpAddr::V4(_)) | None => false,
    }
}

/// An address, or what could be a name; whether it resolves is seen at start.
fn is_host(text: &str) -> bool {
    ip_address(text).is_some() || is_name(text)
}
