//! This process among others: what it may open, and what it tells the service manager that started it.

use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Lets the process open as many files and connections as it may: the soft limit (often 1024) becomes the hard one. Returns
/// the number in force, `None` = no limit.
///
/// # Errors
/// The operating system's.
pub fn raise_file_limit() -> io::Result<Option<u64>> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return Ok(current);
    }
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    setrlimit(Resource::Nofile, raised)?;
    Ok(maximum)
}

/// What the service manager is told (`sd_notify(3)`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServiceState {
    /// The server does its work: units that wait for it start.
    Ready,
    /// The server has begun to stop.
    Stopping,
}

/// Tells systemd, when the unit is `Type=notify` and `NOTIFY_SOCKET` therefore names its socket; otherwise does nothing.
///
/// # Errors
/// The operating system's, when the socket cannot be reached.
pub fn tell_service_manager(state: ServiceState) -> io::Result<()> {
    match std::env::var_os("NOTIFY_SOCKET") {
        Some(socket) => tell(Path::new(&socket), state),
        None => Ok(()),
    }
}

fn tell(socket: &Path, state: ServiceState) -> io::Result<()> {
    let text: &[u8] = match state {
        ServiceState::Ready => b"READY=1\n",
        ServiceState::Stopping => b"STOPPING=1\n",
    };
    UnixDatagram::unbound()?.send_to_addr(text, &address(socket)?)?;
    Ok(())
}

/// A name that begins with @ lives in Linux's abstract namespace.
fn address(socket: &Path) -> io::Result<SocketAddr> {
    #[cfg(target_os = "linux")]
    if let Some(name) = socket.as_os_str().as_bytes().strip_prefix(b"@") {
        use std::os::linux::net::SocketAddrExt as _;
        return SocketAddr::from_abstract_name(name);
    }
    SocketAddr::from_pathname(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_service_manager_hears_it_by_path_and_by_abstract_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let by_path = UnixDatagram::bind(&path).unwrap();
        tell(&path, ServiceState::Ready).unwrap();
        let name = format!("campanile-test-{}", std::process::id());
        let named = format!("@{name}");
        let by_name = UnixDatagram::bind_addr(&address(Path::new(&named)).unwrap()).unwrap();
        tell(Path::new(&named), ServiceState::Stopping).unwrap();
        let mut buffer = [0; 64];
        let read = by_path.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..read], b"READY=1\n");
        let read = by_name.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..read], b"STOPPING=1\n");
        assert!(tell(&folder.path().join("nobody"), ServiceState::Ready).is_err());
    }

    #[test]
    fn the_file_limit_ends_at_the_hard_one() {
        let raised = raise_file_limit().unwrap();
        assert_eq!(raised, getrlimit(Resource::Nofile).maximum);
    }
}
