//! Who asks: a page of another site may not use a visitor's browser to reach a server on the
//! visitor's own network.

use super::Request;
use std::net::IpAddr;

/// Why a request is not for this server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stranger {
    /// Its `Host` is a name that this server was not given: DNS rebinding.
    Host,
    /// A page of another site sends it.
    CrossSite,
}

impl Stranger {
    /// What to do about it.
    pub const fn why(self) -> &'static str {
        match self {
            Self::Host => {
                "this server was not given the name in Host; use its address, or state the name as one of its hosts"
            }
            Self::CrossSite => "a page of another site may not send this",
        }
    }
}

/// The host of a `Host` header, without its port; empty where it is none.
fn bare(host: &str) -> &str {
    let (name, port) = match host.strip_prefix('[').map(|v6| v6.split_once(']')) {
        Some(both) => both.unwrap_or_default(),
        None => host.split_at(host.rfind(':').unwrap_or(host.len())),
    };
    let is_port = |port: &str| port.bytes().all(|digit| digit.is_ascii_digit());
    let has_port = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
    if has_port { name } else { "" }
}

/// Whether the request is meant for this server: `Host` is an address, `localhost` or one of
/// `hosts`, and it does not come from a page of another site. An address cannot be rebound, a name
/// can.
pub fn check(request: &Request, hosts: &[String]) -> Result<(), Stranger> {
    let host = request.header("host").unwrap_or("");
    let name = bare(host);
    let known = name.parse::<IpAddr>().is_ok()
        || name.eq_ignore_ascii_case("localhost")
        || hosts.iter().any(|h| h.eq_ignore_ascii_case(name));
    if !known {
        return Err(Stranger::Host);
    }
    let site = request.header("sec-fetch-site").unwrap_or("none");
    let same_site = matches!(site, "none" | "same-origin");
    let own = |origin: &str| origin.split_once("://").is_some_and(|(_, o)| o.eq_ignore_ascii_case(host));
    let reads = matches!(request.method.as_str(), "GET" | "HEAD");
    if !reads && (!same_site || !request.header("origin").is_none_or(own)) {
        return Err(Stranger::CrossSite);
    }
    Ok(())
}
