//! What stands under `server.admin`: where operators look, and who may.

use serde_json::Value as Json;

use super::keys::endpoint_beside;
use super::section::Section;
use super::words::mismatch;
use super::yaml::{Node, Value};
use super::{ADMIN_PORT, Endpoint, HOST_EMBEDDED, ip_address};

/// Where operators look, and who may.
#[derive(Clone, PartialEq, Eq)]
pub struct Admin {
    /// Where it listens.
    pub endpoint: Endpoint,
    /// What has to be shown. None: whoever reaches it may look.
    pub token: Option<String>,
    /// The live page is served.
    pub page: bool,
    /// The file speaks of it: then it has to be there.
    pub is_configured: bool,
}

impl Default for Admin {
    fn default() -> Admin {
        Admin {
            endpoint: Endpoint::new(HOST_EMBEDDED, ADMIN_PORT),
            token: None,
            page: true,
            is_configured: false,
        }
    }
}

/// Without the token.
impl std::fmt::Debug for Admin {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let token = self.token.as_ref().map(|_| "…");
        let fields = (&self.endpoint, token, self.page, self.is_configured);
        out.debug_tuple("Admin").field(&fields).finish()
    }
}

/// None: it is switched off.
pub(super) fn read(server: &mut Section<'_, '_>) -> Option<Admin> {
    let node = server.node("admin");
    match node.map(|node| &node.value) {
        Some(Value::Bool(false)) => {
            server.show("admin", "off".into());
            return None;
        }
        Some(Value::Text(text)) if text == "off" => {
            server.show("admin", "off".into());
            return None;
        }
        Some(Value::Mapping(_) | Value::Null) | None => {}
        Some(_) => {
            let what = node.map(|node| mismatch(node, "off or a mapping"));
            server.fault("admin", what.unwrap_or_default());
            return None;
        }
    }
    let mut admin = Admin {
        is_configured: node.is_some(),
        ..Admin::default()
    };
    let mut keys = server.section("admin");
    keys.refuse_doubled();
    let is_configured = admin.is_configured;
    endpoint_beside(&mut keys, &mut admin.endpoint, is_configured);
    if let Some(found) = keys.value("token", None, token) {
        // What it is is shown nowhere.
        let shown = found.as_ref().map_or(Json::Null, |_| "(set)".into());
        keys.show("token", shown);
        admin.token = found;
    }
    keys.read("page", &mut admin.page, |node| match node.value {
        Value::Bool(page) => Ok(page),
        _ => Err(mismatch(node, "true or false")),
    });
    if admin.token.is_none() && !is_loopback(&admin.endpoint.host) {
        let what = format!(
            "{} is reached from elsewhere, expected 127.0.0.1 or a server.admin.token beside it",
            admin.endpoint.host
        );
        keys.fault("host", what);
    }
    keys.done();
    Some(admin)
}

fn token(node: &Node) -> Result<Option<String>, String> {
    match &node.value {
        Value::Null => Ok(None),
        Value::Text(text) if text.is_empty() => {
            Err("is empty and would keep out nobody, expected a secret or no such key".to_owned())
        }
        Value::Text(text) if text.bytes().all(|byte| byte.is_ascii_graphic()) => {
            Ok(Some(text.clone()))
        }
        // It is not told back.
        _ => Err("is none, expected letters, digits and signs of ASCII without blanks".to_owned()),
    }
}

fn is_loopback(host: &str) -> bool {
    let address = ip_address(host);
    address.map_or(host == "localhost", |address| address.is_loopback())
}
