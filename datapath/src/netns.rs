//! Network namespaces, held by file descriptor.
//!
//! Owns entering and making them. Moves the calling thread only where the name says so ([`Netns::enter`]); else a short-lived
//! thread enters, does the work, ends.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, OFlags};
use rustix::thread::{LinkNameSpaceType, UnshareFlags};

/// A network namespace. It lives at least as long as this value.
#[derive(Debug)]
pub struct Netns {
    file: File,
    path: PathBuf,
}

/// Why a network namespace could not be used.
#[derive(Debug, thiserror::Error)]
pub enum NetnsError {
    /// The path cannot be opened.
    #[error("opening network namespace {path}")]
    Open {
        /// The path.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// There is something at the path, but it is not a network namespace.
    #[error("{0} is not a network namespace")]
    NotANetns(PathBuf),
    /// The kernel refused to enter or make one.
    #[error("{operation} network namespace {path}")]
    Kernel {
        /// What was tried.
        operation: &'static str,
        /// The path.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

impl Netns {
    /// Opens the namespace at a path (`/run/netns/x`, `/proc/1/ns/net`).
    pub fn open(path: impl AsRef<Path>) -> Result<Self, NetnsError> {
        let path = path.as_ref().to_owned();
        // A FIFO at the path would keep an ordinary open waiting for ever.
        let without_waiting = OFlags::NONBLOCK.bits().cast_signed();
        let file = File::options()
            .read(true)
            .custom_flags(without_waiting)
            .open(&path)
            .map_err(|source| NetnsError::Open { path: path.clone(), source })?;
        Ok(Self { file, path })
    }

    /// Waits until no other process has the namespace locked, and locks it: two ADDs of one sandbox take turns. It is open again when
    /// this value is dropped, or the process ends in whatever way (flock(2), which every file has, nsfs included).
    pub fn lock(&self) -> Result<(), NetnsError> {
        rustix::fs::flock(&self.file, FlockOperation::LockExclusive).map_err(|source| NetnsError::Kernel {
            operation: "locking",
            path: self.path.clone(),
            source: source.into(),
        })
    }

    /// A new namespace without a path: it ends when this value is dropped and nothing else holds it.
    pub fn create() -> Result<Self, NetnsError> {
        let path = PathBuf::from("/proc/thread-self/ns/net");
        let kernel = |operation| {
            let path = path.clone();
            move |source: io::Error| NetnsError::Kernel { operation, path, source }
        };
        on_its_own_thread(|| {
            #[expect(deprecated, reason = "its replacement is unsafe because of CLONE_FILES, which is not asked for")]
            rustix::thread::unshare(UnshareFlags::NEWNET).map_err(io::Error::from).map_err(kernel("making"))?;
            let file = File::open(&path).map_err(kernel("opening"))?;
            Ok(Self { file, path: path.clone() })
        })
        .map_err(kernel("starting a thread for"))?
    }

    /// The path it was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Runs `work` on a thread of its own inside the namespace.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, NetnsError> {
        on_its_own_thread(|| self.enter().map(|()| work())).map_err(|source| NetnsError::Kernel {
            operation: "starting a thread for",
            path: self.path.clone(),
            source,
        })?
    }

    /// Moves the calling thread into the namespace, for good. Only for a program with this one thread, which needs nothing of
    /// the namespace it leaves but the sockets that it has open: a thread of its own costs ten times as much (100 to 170 us).
    pub fn enter(&self) -> Result<(), NetnsError> {
        match rustix::thread::move_into_link_name_space(self.file.as_fd(), Some(LinkNameSpaceType::Network)) {
            Ok(()) => Ok(()),
            // EINVAL: another kind of namespace; ENOTTY and EBADF: no namespace at all.
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOTTY | rustix::io::Errno::BADF) => {
                Err(NetnsError::NotANetns(self.path.clone()))
            }
            Err(source) => {
                Err(NetnsError::Kernel { operation: "entering", path: self.path.clone(), source: source.into() })
            }
        }
    }
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// A small stack is enough to open a socket, but callers of [`Netns::run`] bring their own work.
const STACK: usize = 1 << 20;

fn on_its_own_thread<T: Send>(work: impl FnOnce() -> T + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        let thread =
            std::thread::Builder::new().name("netns".to_owned()).stack_size(STACK).spawn_scoped(scope, work)?;
        match thread.join() {
            Ok(done) => Ok(done),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}
