//! A run of 64-bit words in shared memory, optionally backed by a file that outlives the process.
//!
//! Words are atomics so that another process may read the file at any time; all accesses are
//! relaxed loads and stores, which cost what plain ones do.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::ptr::{self, NonNull};
use std::sync::atomic::AtomicU64;

/// Zeroed words, mapped until dropped.
pub struct Region {
    start: NonNull<AtomicU64>,
    words: usize,
}

// SAFETY: the mapping belongs to this value alone, is freed only in `drop`, and is reached only
// as atomics, which may be used from any thread.
unsafe impl Send for Region {}

impl Region {
    /// Memory that dies with the process.
    pub fn in_memory(words: usize) -> io::Result<Self> {
        Self::map(words, -1, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS)
    }

    /// Memory whose content is that of the file, which is created or emptied. The kernel keeps
    /// the content when the process is killed.
    pub fn in_file(path: &Path, words: usize) -> io::Result<Self> {
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)?;
        // Sparse: pages take space only once they are written.
        file.set_len(byte_length(words)? as u64)?;
        Self::map(words, file.as_raw_fd(), libc::MAP_SHARED)
    }

    fn map(words: usize, fd: libc::c_int, flags: libc::c_int) -> io::Result<Self> {
        // SAFETY: a fresh mapping at an address the kernel picks touches no existing memory; the
        // descriptor is open (or -1 with MAP_ANONYMOUS) and may be closed once this returns.
        let address = unsafe {
            libc::mmap(
                ptr::null_mut(),
                byte_length(words)?,
                libc::PROT_READ | libc::PROT_WRITE,
                flags,
                fd,
                0,
            )
        };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(address.cast()).expect("a successful mmap is never at address 0");
        Ok(Self { start, words })
    }

    /// The words.
    #[inline]
    pub fn words(&self) -> &[AtomicU64] {
        // SAFETY: the mapping is page-aligned, holds `words` words that the kernel zeroed, and
        // lives as long as `self`. The file is not shortened while mapped: nothing else writes it.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.words) }
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: exactly what `map` returned, and no borrow of the words outlives `self`.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.words * 8) };
    }
}

fn byte_length(words: usize) -> io::Result<usize> {
    words.checked_mul(8).filter(|&bytes| bytes > 0 && bytes <= isize::MAX as usize).ok_or_else(
        || io::Error::new(io::ErrorKind::InvalidInput, format!("cannot map {words} words")),
    )
}

/// Reads a region's file as words. A length that is no whole number of words is an error.
pub fn read_words(path: &Path) -> io::Result<Vec<u64>> {
    let bytes = std::fs::read(path)?;
    let (words, rest) = bytes.as_chunks::<8>();
    if !rest.is_empty() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!(
                "{} holds {} bytes, which is no whole number of words",
                path.display(),
                bytes.len()
            ),
        ));
    }
    Ok(words.iter().map(|word| u64::from_ne_bytes(*word)).collect())
}

/// The error for a ledger file whose content cannot be right.
pub fn damaged(path: &Path, what: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!(
            "reading ledger {} failed: {what}; it was not written by this program",
            path.display()
        ),
    )
}
