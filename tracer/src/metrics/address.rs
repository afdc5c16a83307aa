//! Where metrics are served: an address, and the socket that listens on it. It is opened before
//! capabilities are dropped: a low port or a folder of root's is possible.

use std::{
    fmt, fs, io,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    os::unix::{
        fs::{FileTypeExt as _, MetadataExt as _},
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{Mode, fchmod},
    net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, listen, socket_with},
};

/// What `--metrics` names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Address {
    /// An address and a port; port 0 is any that is free.
    Tcp(SocketAddr),
    /// The path of a unix socket.
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Reads `IP:PORT`, `:PORT` (on 127.0.0.1) or `unix:/PATH`.
///
/// # Errors
/// It is none of these.
pub(crate) fn parse(text: &str) -> Result<Address, String> {
    if let Some(path) = text.strip_prefix("unix:") {
        return match Path::new(path).is_absolute() {
            true => Ok(Address::Unix(path.into())),
            false => Err("a unix socket has an absolute path: unix:/run/tracer.sock".to_owned()),
        };
    }
    let address = match text.strip_prefix(':') {
        Some(port) => {
            let port = port.parse().ok();
            port.map(|port| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port))
        }
        None => text.parse().ok(),
    };
    let wrong = "an address such as :9464, 127.0.0.1:9464, [::1]:9464 or unix:/run/tracer.sock";
    address.map(Address::Tcp).ok_or_else(|| wrong.to_owned())
}

/// A socket that listens.
#[derive(Debug)]
pub(crate) struct Door {
    pub(super) listener: Listener,
    at: Address,
}

/// See [`Door`].
#[derive(Debug)]
pub(super) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener, SocketFile),
}

impl Door {
    /// Listens there. A unix socket's file is its owner's alone (0600); one that nobody listens on
    /// is replaced.
    ///
    /// # Errors
    /// The address is in use, or is not this host's, or the file cannot be made.
    pub(crate) fn open(address: &Address) -> io::Result<Self> {
        let (listener, at) = match address {
            Address::Tcp(address) => {
                let listener = TcpListener::bind(address)?;
                let at = Address::Tcp(listener.local_addr()?);
                (Listener::Tcp(listener), at)
            }
            Address::Unix(path) => {
                let listener = match bind(path) {
                    Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_stale(path) => {
                        fs::remove_file(path)?;
                        bind(path)?
                    }
                    bound => bound?,
                };
                let file = SocketFile::new(path)?;
                (Listener::Unix(listener, file), address.clone())
            }
        };
        match &listener {
            Listener::Tcp(one) => one.set_nonblocking(true)?,
            Listener::Unix(one, _) => one.set_nonblocking(true)?,
        }
        Ok(Self { listener, at })
    }

    /// Where it is, as a user reads it.
    pub(crate) fn url(&self) -> String {
        match &self.at {
            Address::Tcp(address) => format!("http://{address}/metrics"),
            Address::Unix(_) => format!("{} (GET /metrics)", self.at),
        }
    }
}

/// Connections that wait for `accept()`.
const BACKLOG: i32 = 64;

/// The file has its mode from the beginning: `bind()` takes it from the socket's own inode
/// (`unix_bind_bsd`), less the mask.
fn bind(path: &Path) -> io::Result<UnixListener> {
    let socket = socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    listen(&socket, BACKLOG)?;
    Ok(socket.into())
}

/// A socket file that an earlier run left: nobody listens on it.
fn is_stale(path: &Path) -> bool {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket());
    let refused = |error: io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
    is_socket && UnixStream::connect(path).is_err_and(refused)
}

/// The file of a unix socket, removed with its value, unless another has taken its place.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    inode: (u64, u64),
}

impl SocketFile {
    fn new(path: &Path) -> io::Result<Self> {
        Ok(Self {
            inode: inode(path)?,
            path: path.to_owned(),
        })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if inode(&self.path).is_ok_and(|inode| inode == self.inode) {
            // What may not be removed any more is replaced by the next run.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn inode(path: &Path) -> io::Result<(u64, u64)> {
    let file = fs::symlink_metadata(path)?;
    Ok((file.dev(), file.ino()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn path(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("tracer-door-{name}-{}", std::process::id()))
    }

    #[test]
    fn a_port_alone_is_on_the_loopback() {
        let tcp = |text: &str| Ok(Address::Tcp(text.parse().unwrap()));
        assert_eq!(parse(":9464"), tcp("127.0.0.1:9464"));
        assert_eq!(parse("10.0.0.7:9464"), tcp("10.0.0.7:9464"));
        assert_eq!(parse("[::1]:9464"), tcp("[::1]:9464"));
        assert_eq!(parse("0.0.0.0:0"), tcp("0.0.0.0:0"));
        assert_eq!(
            parse("unix:/run/tracer.sock"),
            Ok(Address::Unix("/run/tracer.sock".into()))
        );
        for wrong in [
            "",
            "9464",
            ":",
            ":99999",
            "localhost:9464",
            "unix:",
            "unix:a",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_socket_s_file_is_its_owner_s_alone_and_goes_with_the_door() {
        let path = path("mode");
        let address = Address::Unix(path.clone());
        let door = Door::open(&address).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let again = Door::open(&address).unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::AddrInUse);
        drop(door);
        assert!(!path.exists());
    }

    #[test]
    fn a_file_that_a_killed_run_left_is_replaced_and_another_is_not() {
        let path = path("stale");
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let door = Door::open(&Address::Unix(path.clone())).unwrap();
        drop(door);
        fs::write(&path, "precious").unwrap();
        assert!(Door::open(&Address::Unix(path.clone())).is_err());
        assert_eq!(fs::read(&path).unwrap(), b"precious");
        fs::remove_file(&path).unwrap();
    }
}
