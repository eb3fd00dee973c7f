//! Making sockets and setting them up.

use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use crate::completion::Errno;

/// Why a socket could not be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{action} {address}: {errno}; {}", remedy(*.errno))]
pub struct SocketError {
    /// What was tried, as a verb.
    pub action: &'static str,
    /// For which address.
    pub address: SocketAddr,
    /// Why not.
    pub errno: Errno,
}

fn remedy(errno: Errno) -> &'static str {
    match errno.0 {
        libc::EADDRINUSE => "another process listens there: stop it or choose another port",
        libc::EADDRNOTAVAIL => "this machine has no such address: choose one of its own",
        libc::EACCES => "ports below 1024 need CAP_NET_BIND_SERVICE: choose a higher one",
        libc::EMFILE | libc::ENFILE => "too many open files: raise `ulimit -n`",
        _ => "see socket(7)",
    }
}

/// A TCP socket that listens on `address`.
///
/// # Errors
/// When the address can't be had.
pub fn listen(address: SocketAddr, backlog: u16) -> Result<OwnedFd, SocketError> {
    let socket = stream(address)?;
    let fail = |action| move |errno| SocketError { action, address, errno };
    set_option(&socket, libc::SOL_SOCKET, libc::SO_REUSEADDR, 1).map_err(fail("listen on"))?;
    let (storage, len) = to_storage(address);
    // SAFETY: `storage` holds an address of `len` bytes and outlives the call.
    check(unsafe { libc::bind(socket.as_raw_fd(), (&raw const storage).cast(), len) })
        .map_err(fail("listen on"))?;
    // SAFETY: the descriptor is open.
    check(unsafe { libc::listen(socket.as_raw_fd(), i32::from(backlog)) }).map_err(fail("listen on"))?;
    Ok(socket)
}

/// A TCP socket of the family of `address`, not connected, blocking (so that the ring waits for it).
///
/// # Errors
/// When no descriptor is left or the family is unknown.
pub fn stream(address: SocketAddr) -> Result<OwnedFd, SocketError> {
    let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    // SAFETY: no memory is passed.
    let fd = check(unsafe { libc::socket(family, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) })
        .map_err(|errno| SocketError { action: "make a socket for", address, errno })?;
    // SAFETY: the descriptor was just made for us and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Sends small messages at once (TCP_NODELAY).
///
/// # Errors
/// When the descriptor is no TCP socket.
pub fn set_no_delay(socket: impl AsFd) -> Result<(), Errno> {
    set_option(socket, libc::IPPROTO_TCP, libc::TCP_NODELAY, 1)
}

/// Bounds the bytes that wait unsent in the kernel (TCP_NOTSENT_LOWAT).
///
/// # Errors
/// When the descriptor is no TCP socket.
pub fn set_unsent_max(socket: impl AsFd, bytes: u32) -> Result<(), Errno> {
    set_option(socket, libc::IPPROTO_TCP, libc::TCP_NOTSENT_LOWAT, bytes as i32)
}

/// Bounds the kernel's buffers of a socket (SO_SNDBUF, SO_RCVBUF); the kernel doubles the figure and caps it.
///
/// # Errors
/// When the descriptor is no socket.
pub fn set_buffers(socket: impl AsFd, send_bytes: u32, receive_bytes: u32) -> Result<(), Errno> {
    set_option(&socket, libc::SOL_SOCKET, libc::SO_SNDBUF, send_bytes as i32)?;
    set_option(&socket, libc::SOL_SOCKET, libc::SO_RCVBUF, receive_bytes as i32)
}

/// The address a socket is bound to; of use after listening on port 0.
#[must_use]
pub fn local_address(socket: impl AsFd) -> Option<SocketAddr> {
    let copy = socket.as_fd().try_clone_to_owned().ok()?;
    std::net::TcpListener::from(copy).local_addr().ok()
}

/// The address of a socket's peer.
#[must_use]
pub fn peer_address(socket: impl AsFd) -> Option<SocketAddr> {
    let copy = socket.as_fd().try_clone_to_owned().ok()?;
    std::net::TcpStream::from(copy).peer_addr().ok()
}

fn set_option(socket: impl AsFd, level: i32, name: i32, value: i32) -> Result<(), Errno> {
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: the value is an int that outlives the call, and its length is told.
    let set = unsafe {
        libc::setsockopt(fd, level, name, (&raw const value).cast(), size_of::<i32>() as libc::socklen_t)
    };
    check(set).map(drop)
}

/// An address as the kernel wants it, and how many bytes of it count.
pub(crate) fn to_storage(address: SocketAddr) -> (libc::sockaddr_storage, libc::socklen_t) {
    // SAFETY: a sockaddr_storage is plain data for which all zeros is valid.
    let mut storage: libc::sockaddr_storage = unsafe { core::mem::zeroed() };
    let len = match address {
        SocketAddr::V4(v4) => {
            let inner = libc::sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: v4.port().to_be(),
                sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(v4.ip().octets()) },
                sin_zero: [0; 8],
            };
            // SAFETY: a sockaddr_storage is large and aligned enough for every kind of address.
            unsafe { (&raw mut storage).cast::<libc::sockaddr_in>().write(inner) };
            size_of::<libc::sockaddr_in>()
        }
        SocketAddr::V6(v6) => {
            let inner = libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as libc::sa_family_t,
                sin6_port: v6.port().to_be(),
                sin6_flowinfo: v6.flowinfo(),
                sin6_addr: libc::in6_addr { s6_addr: v6.ip().octets() },
                sin6_scope_id: v6.scope_id(),
            };
            // SAFETY: as above.
            unsafe { (&raw mut storage).cast::<libc::sockaddr_in6>().write(inner) };
            size_of::<libc::sockaddr_in6>()
        }
    };
    (storage, len as libc::socklen_t)
}

pub(crate) fn check(result: i32) -> Result<i32, Errno> {
    if result < 0 { Err(Errno::last()) } else { Ok(result) }
}
