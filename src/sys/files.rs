// SPDX-License-Identifier: MIT OR Apache-2.0
//! The ring's registered files.

use std::os::fd::{AsRawFd, OwnedFd};

use super::linux::{Linux, RsrcUpdate, register};
use super::{Errno, SysResult, fallback};

const REGISTER_FILES_UPDATE: u32 = 6;
const REGISTER_FILES2: u32 = 13;
const REGISTER_FILE_ALLOC_RANGE: u32 = 25;

#[repr(C)]
struct FileRange {
    offset: u32,
    len: u32,
    reserved: u64,
}

impl Linux {
    /// A table of files for the host, and before them the sentinel's write end, whose only copy is the kernel's.
    pub(super) fn register_files(&mut self, files: u32, write_end: &OwnedFd) -> SysResult<()> {
        #[repr(C)]
        struct RsrcRegister {
            count: u32,
            flags: u32,
            reserved: u64,
            data: u64,
            tags: u64,
        }
        const SPARSE: u32 = 1;
        let fd = self.gate.ring_fd;
        let mut host_files = files;
        loop {
            let mut table = RsrcRegister { count: 2 * host_files + 1, flags: SPARSE, reserved: 0, data: 0, tags: 0 };
            // SAFETY: the kernel reads one struct.
            match unsafe { register(fd, REGISTER_FILES2, (&raw mut table).cast(), size_of::<RsrcRegister>() as u32) } {
                Ok(_) => break,
                Err(Errno(libc::ENOMEM | libc::EMFILE)) if host_files > 0 => {
                    host_files /= 2;
                    self.info.fallbacks |= fallback::FILES;
                }
                Err(other) => return Err(other),
            }
        }
        self.info.files = host_files;
        self.put_file(0, write_end.as_raw_fd())?;
        let mut range = FileRange { offset: 1, len: host_files, reserved: 0 };
        // SAFETY: the kernel reads one range.
        self.info.installs = unsafe { register(fd, REGISTER_FILE_ALLOC_RANGE, (&raw mut range).cast(), 0) }.is_ok();
        Ok(())
    }

    pub(super) fn put_file(&mut self, index: u32, fd: i32) -> SysResult<()> {
        let mut update = RsrcUpdate { offset: index, reserved: 0, data: (&raw const fd).addr() as u64 };
        // SAFETY: the kernel reads one update and the int that it points to.
        unsafe { register(self.gate.ring_fd, REGISTER_FILES_UPDATE, (&raw mut update).cast(), 1) }.map(|_| ())
    }
}
