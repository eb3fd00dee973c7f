//! Where the node is and how to wait for it.

use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use cutwater_ring::RingConfig;

use crate::error::ClientError;

/// Where the node is and how to wait for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientConfig {
    /// The node's native port.
    pub server: SocketAddr,
    /// A connection must stand after this time.
    pub connect_timeout: Duration,
    /// An answer must come after this time; of a waiting call, all of it.
    pub timeout: Duration,
    /// The ring that carries the connections.
    pub ring: RingConfig,
}

impl ClientConfig {
    /// The usual waits, for a node at this address.
    #[must_use]
    pub const fn new(server: SocketAddr) -> Self {
        Self {
            server,
            connect_timeout: Duration::from_secs(5),
            timeout: Duration::from_secs(30),
            ring: RingConfig::small(),
        }
    }
}

/// Finds the address of `HOST:PORT`, the first where there are several.
///
/// # Errors
/// When there is none.
pub fn resolve(server: &str) -> Result<SocketAddr, ClientError> {
    let fail = |reason: String| ClientError::Resolve { server: server.escape_debug().to_string(), reason };
    let mut addresses = server.to_socket_addrs().map_err(|error| fail(error.to_string()))?;
    addresses.next().ok_or_else(|| fail("it has no address".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_resolved_or_refused_with_a_remedy() {
        assert_eq!(resolve("127.0.0.1:9644").unwrap().port(), 9644);
        assert!(resolve("127.0.0.1").unwrap_err().to_string().contains("HOST:PORT"));
    }
}
