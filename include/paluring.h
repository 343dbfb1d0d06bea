/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * libpaluring: io_uring without its memory hazards. Made from src/ffi by `make header`; don't edit.
 *
 * Open a ring (paluring_ring_open), get a buffer (paluring_buf_alloc), describe an operation
 * (paluring_op_read), start it (paluring_io_start), and run the ring (paluring_ring_run): the
 * operation's callback gets the result. Or leave the callback out, keep the handle, and take the
 * result with paluring_io_wait or paluring_io_poll.
 *
 * Rules that hold everywhere:
 * - A function that can fail returns int32_t: 0 or a count; below 0 a status (paluring_strerror).
 * - A call that is given a buffer adds a reference of its own; what you hold you release.
 * - Each accepted I/O gets exactly one terminal completion, whatever happens.
 * - NULL where a pointer is needed is -EINVAL; release and close of NULL do nothing.
 * - Functions of yours that the library calls must not throw, unwind or longjmp out.
 *
 * Each function's comment ends with who owns what (Ownership), who may call it (Threads), how long
 * it may take (Blocks) and the first version that has it (Since). docs/threads.md has all of them in
 * one table. What follows a semicolon is about that function alone.
 *
 * Threads, on a ring of each mode:
 *   any               any thread
 *   driver            OWNER: its owner; SHARED: any, one at a time; BACKGROUND: none
 *   driver or waiter  OWNER: its owner; others: any, which sleeps while another one drives
 *   owner             OWNER: its owner, any before there is one; others: any
 *   callback          the thread that runs it, within it
 * Blocks:
 *   never             nothing is waited for; waking a driver is a short system call
 *   may enter the kernel  for as long as it takes what is submitted; completions are not waited for
 *   until ...         sleeps until one of these
 */
#ifndef PALURING_H
#define PALURING_H

#include <stddef.h>
#include <stdint.h>

/** The version of this header; paluring_version tells the library's. */
#define PALURING_VERSION "0.1.0"
/** major * 1000000 + minor * 1000 + patch */
#define PALURING_VERSION_NUMBER 1000

#ifdef __cplusplus
extern "C" {
#endif

/* Handles: made and released by the library. */

/**
 * A reference-counted owner of memory. Any thread may use it; its bytes are the host's to
 * synchronise.
 */
typedef struct paluring_buf paluring_buf;

/** A ring: the queues shared with the kernel, the I/Os in flight, and their memory. */
typedef struct paluring_ring paluring_ring;

/* Structs that a host sees into. */

typedef struct paluring_op paluring_op;
typedef struct paluring_completion paluring_completion;
typedef struct paluring_ring_options paluring_ring_options;
typedef struct paluring_capabilities paluring_capabilities;
typedef struct paluring_stats paluring_stats;

/* -------------------------------------------------------------------------------------------------
 * Which library this is.
 */

/**
 * Return the version of the library that the program runs with, such as "0.1.0".
 * It may be newer than the header the program was compiled with (PALURING_VERSION).
 * @return static text, never NULL
 * Ownership: static, never released   Threads: any and signal handlers   Blocks: never   Since: 0.1
 */
const char *paluring_version(void);

/**
 * Return the version of the library as a number: major × 1000000 + minor × 1000 + patch.
 * Compare it with PALURING_VERSION_NUMBER to see whether header and library differ.
 * @return the number, such as 1000 for 0.1.0
 * Ownership: nothing   Threads: any and signal handlers   Blocks: never   Since: 0.1
 */
uint32_t paluring_version_number(void);

/* -------------------------------------------------------------------------------------------------
 * Status codes: what every function that can fail returns.
 *
 * A function's int32_t is 0 or a count on success, below 0 on failure: a negative
 * errno, or one of the library's own codes.
 */

/** The I/O handle names no I/O of this ring: finished, taken, or it never existed. */
#define PALURING_ERR_STALE (-5001)
/** An OWNER ring driven by a thread that isn't its owner. */
#define PALURING_ERR_WRONG_THREAD (-5002)
/** An internal bug was caught; only close and release work on this ring. */
#define PALURING_ERR_POISONED (-5003)
/** The ring is closed or closing. */
#define PALURING_ERR_CLOSED (-5004)
/** The ring belongs to the parent process. */
#define PALURING_ERR_FORKED (-5005)
/** The kernel dropped completions: the result is unknown, the memory quarantined. */
#define PALURING_ERR_LOST (-5006)
/**
 * Close ran out of time: the I/O may still happen; adopted memory stays in use until its release
 * function runs.
 */
#define PALURING_ERR_ORPHANED (-5007)
/** To a ready function: replaced, or its I/O was dropped; only give up user_data. */
#define PALURING_ERR_DROPPED (-5008)

/**
 * Describe a status in English.
 * For messages to people; programs compare the number.
 * @param status  what a function returned; 0 and counts give "Success"
 * @return static text, never NULL
 * Ownership: static, never released   Threads: any and signal handlers   Blocks: never   Since: 0.1
 * See: strerror(3)
 */
const char *paluring_strerror(int32_t status);

/**
 * Name a status as the source spells it: "EAGAIN", "PALURING_ERR_STALE".
 * For logs and for bindings that turn statuses into exceptions.
 * @param status  what a function returned; 0 and counts give "0"
 * @return static text, never NULL
 * Ownership: static, never released   Threads: any and signal handlers   Blocks: never   Since: 0.1
 * See: errno(3)
 */
const char *paluring_status_name(int32_t status);

/* -------------------------------------------------------------------------------------------------
 * Messages for the host's programmer: silent unless a function is set.
 */

/** A function that takes a line of text for the host's programmer. It must not call the library. */
typedef void (*paluring_log_fn)(uintptr_t user_data, const char *text);

/**
 * Set the function that gets the library's messages, for the whole process.
 * Debug builds report the host's mistakes to it; release builds only internal bugs that were
 * caught.
 * @param log        gets one line without a newline, on the thread that made the call; NULL =
 *                   silent (default)
 * @param user_data  handed to log as it is
 * Ownership: nothing   Threads: any   Blocks: never   Since: 0.1
 */
void paluring_log_set(paluring_log_fn log, uintptr_t user_data);

/* -------------------------------------------------------------------------------------------------
 * Buffers: reference-counted owners of memory.
 *
 * One rule: a call that is given a buffer adds a reference of its own, yours stays yours;
 * a buffer from an out parameter is yours to release. The memory lives until the last
 * reference is gone, and an I/O in flight holds one.
 */

/**
 * A function that takes adopted memory back. It runs once, under no lock, when nothing uses the
 * memory any more.
 */
typedef void (*paluring_release_fn)(uintptr_t user_data, void *data, size_t len);

/**
 * Allocate a buffer of zeroed memory.
 * @param len        bytes; 0 is allowed
 * @param alignment  a power of two up to 2^30, or 0 for the default of 64; pass 4096 for O_DIRECT
 * @param out_buf    set to NULL on failure; one reference, yours to release
 * @return 0, -ENOMEM, or -EINVAL (alignment no power of two, out_buf NULL)
 * Ownership: gives one reference
 * Threads: any
 * Blocks: never; may run release functions
 * Since: 0.1
 * See: aligned_alloc(3), open(2) on O_DIRECT
 */
int32_t paluring_buf_alloc(size_t len, size_t alignment, paluring_buf **out_buf);

/**
 * Adopt memory of the host, which is used in place.
 * The memory must stay valid, and not move, until release has been called.
 * @param data       start of the memory; not NULL unless len is 0
 * @param len        bytes
 * @param release    called once when nothing uses the memory any more; NULL only for memory that
 *                   outlives the process's rings
 * @param user_data  handed to release as it is
 * @param out_buf    set to NULL on failure, and then release is not called; one reference, yours to
 *                   release
 * @return 0, -ENOMEM, or -EINVAL (data NULL with len, out_buf NULL)
 * Ownership: takes the memory over, gives one reference
 * Threads: any; release runs on the thread that lets go last
 * Blocks: never; may run release functions
 * Since: 0.1
 */
int32_t paluring_buf_adopt(void *data, size_t len, paluring_release_fn release, uintptr_t user_data,
                           paluring_buf **out_buf);

/**
 * Make a buffer of a part of another; both share the memory.
 * @param buf      borrowed: the slice adds its own reference; not a list
 * @param offset   bytes from the start of buf
 * @param len      bytes
 * @param out_buf  set to NULL on failure; one reference, yours to release
 * @return 0, -ENOMEM, or -EINVAL (beyond the end of buf, buf is a list or NULL, out_buf NULL)
 * Ownership: gives one reference   Threads: any   Blocks: never   Since: 0.1
 */
int32_t paluring_buf_slice(paluring_buf *buf, size_t offset, size_t len, paluring_buf **out_buf);

/**
 * Make a list of buffers, which reads and writes fill and drain in order: scatter/gather.
 * Its length is the sum of its members' lengths; its data is NULL.
 * @param bufs     array of count buffers, borrowed: the list adds a reference to each; none of them
 *                 a list
 * @param count    1 to 1024
 * @param out_buf  set to NULL on failure; one reference, yours to release
 * @return 0, -ENOMEM, or -EINVAL (count, a NULL or a list among bufs, out_buf NULL)
 * Ownership: gives one reference   Threads: any   Blocks: never   Since: 0.1
 * See: readv(2)
 */
int32_t paluring_buf_list(paluring_buf *const *bufs, size_t count, paluring_buf **out_buf);

/**
 * Count the members of a list.
 * @param buf  borrowed
 * @return the count; 0 for NULL and for a buffer that is no list
 * Ownership: nothing   Threads: any   Blocks: never   Since: 0.1
 */
size_t paluring_buf_list_count(const paluring_buf *buf);

/**
 * Look at one member of a list.
 * @param buf    borrowed
 * @param index  below paluring_buf_list_count
 * @return the member, or NULL (no list, index too large)
 * Ownership: borrowed from the list, retain it to keep it
 * Threads: any
 * Blocks: never
 * Since: 0.1
 */
paluring_buf *paluring_buf_list_at(paluring_buf *buf, size_t index);

/**
 * Add a reference.
 * @param buf  borrowed; NULL gives NULL
 * @return buf
 * Ownership: gives one reference   Threads: any   Blocks: never   Since: 0.1
 */
paluring_buf *paluring_buf_retain(paluring_buf *buf);

/**
 * Give up a reference. The last one frees the memory, or hands it back through its release
 * function.
 * @param buf  one reference, taken; NULL does nothing
 * Ownership: takes one reference
 * Threads: any
 * Blocks: never; the last one runs the release function
 * Since: 0.1
 */
void paluring_buf_release(paluring_buf *buf);

/**
 * Count the references. 1 means that only the caller has one: no I/O in flight, no slice, no list
 * uses the buffer.
 * @param buf  borrowed
 * @return the count; 0 for NULL
 * Ownership: nothing
 * Threads: any; the count may be old when it arrives unless it is 1
 * Blocks: never
 * Since: 0.1
 */
uint32_t paluring_buf_refs(const paluring_buf *buf);

/**
 * Get the address of the bytes. While an I/O that reads into them is in flight, their content is
 * undefined.
 * @param buf  borrowed
 * @return the first byte, valid while a reference is held; NULL for NULL and for a list
 * Ownership: borrowed from buf   Threads: any   Blocks: never   Since: 0.1
 */
uint8_t *paluring_buf_data(paluring_buf *buf);

/**
 * Get the length in bytes; of a list, the sum of its members'.
 * @param buf  borrowed
 * @return bytes; 0 for NULL
 * Ownership: nothing   Threads: any   Blocks: never   Since: 0.1
 */
size_t paluring_buf_len(const paluring_buf *buf);

/**
 * Keep the buffer that a completion lends to its callback.
 * Only inside the callback, on the completion that it was given, once.
 * @param completion  the callback's argument; its buf becomes NULL
 * @return the buffer, one reference, yours to release; NULL if there is none to take (not a
 *   callback's completion, taken already, no buffer)
 * Ownership: gives one reference   Threads: callback   Blocks: never   Since: 0.1
 */
paluring_buf *paluring_completion_take(paluring_completion *completion);

/* -------------------------------------------------------------------------------------------------
 * Operations: plain descriptions of what to do, one constructor per verb.
 *
 * A paluring_op owns nothing: make it anywhere, start it as often as you like. A
 * constructor sets all fields, so set the public ones (callback, user_data, flags, ...)
 * afterwards. It can't fail: a bad argument makes the start return -EINVAL. What pointers point
 * to is borrowed until the start returns; what the kernel writes goes into a paluring_buf, or comes
 * in the completion's extra. An operation that the kernel lacks is -EOPNOTSUPP at the start.
 */

/**
 * Enter the kernel at once instead of at the next submit, wait or run; on another thread than the
 * driver's: wake it.
 * Descriptors are looked up when the entry enters the kernel: until then, don't close them.
 */
#define PALURING_OP_SUBMIT 1
/** Start it on a worker thread of the kernel without trying it inline first (IOSQE_ASYNC). */
#define PALURING_OP_ASYNC 2
/** Deliver to paluring_ring_reap. */
#define PALURING_OP_QUEUE 4
/**
 * Deliver to nobody: the result is discarded, a descriptor in it is closed, a failure is counted in
 * the stats.
 */
#define PALURING_OP_DETACHED 8
/**
 * A successful start takes the caller's reference to the buffer, and the completion gives it back.
 */
#define PALURING_OP_MOVE 16
/**
 * On read, write, send and recv: short transfers are continued inside until all is done, or the
 * file ends, an error comes, the I/O is cancelled or its ring closes. The result is the bytes done;
 * an error after some bytes shows at the next call. Not in a chain.
 */
#define PALURING_OP_FULL 32
/**
 * On send, sendto and sendmsg: without a copy where the kernel and the socket can, the buffer being
 * held until the peer has it; else as a plain send, as in chains. extra is 1 if the kernel copied.
 */
#define PALURING_OP_ZEROCOPY 64
/**
 * On openat, openat2, socket, accept and pipe: install what is made into the ring's registered
 * files; its number (2^30 and more) is the result. Before Linux 6.0 the start returns -EOPNOTSUPP.
 */
#define PALURING_OP_FIXED 256

/**
 * Gets a completion. It may start, cancel, poll, drop and close; driver's calls in it are -EBUSY.
 */
typedef void (*paluring_complete_fn)(uintptr_t user_data, paluring_completion *completion);

/**
 * One operation, 128 bytes for good. Set by a paluring_op_ function; owns nothing, needs no
 * destructor.
 */
struct paluring_op {
  /**
   * Gets the completion; NULL: the I/O is kept for poll and wait, or see PALURING_OP_QUEUE and
   * PALURING_OP_DETACHED.
   */
  paluring_complete_fn callback;
  /** Handed to the callback, and in the completion, as it is. */
  uintptr_t user_data;
  /**
   * Above 0: cancelled if not done by then, in nanoseconds from the start; the result is -ETIME, or
   * what was done with PALURING_COMPLETION_TIMED_OUT.
   */
  int64_t timeout_ns;
  /** PALURING_OP_* */
  uint32_t flags;
  /** RWF_* of preadv2(2), on reads and writes. */
  uint32_t rw_flags;
  /** ioprio_set(2), on reads and writes. */
  uint16_t ioprio;
  /** 0 = the credentials of the thread that submits. */
  uint16_t personality;
  /** 0 */
  uint32_t reserved;
  /** The library's. */
  uint64_t private_[11];
};

/**
 * Describe doing nothing: completes with 0.
 * @param op  out
 * Ownership: nothing   Threads: any   Blocks: never   Since: 0.1, Linux 5.1
 */
void paluring_op_nop(paluring_op *op);

/* -------------------------------------------------------------------------------------------------
 * Operations on open files and memory.
 *
 * A fixed fd (paluring_file_register, PALURING_OP_FIXED) is taken for fd by all of these.
 */

/**
 * Describe a read into a buffer, or into the members of a list in order.
 * The result is the number of bytes, which may be less than len (but see PALURING_OP_FULL); 0 at
 * the end of the file.
 * @param op           out
 * @param fd           file, pipe or socket
 * @param buf          borrowed: each start adds its own reference (with PALURING_OP_MOVE a
 *                     successful start takes yours)
 * @param buf_offset   bytes from the start of buf
 * @param len          bytes, at most 2^31 - 4096; buf_offset + len within buf
 * @param file_offset  bytes from the start of the file; UINT64_MAX = the file's position
 * Ownership: nothing, until a start   Threads: any   Blocks: never   Since: 0.1, Linux 5.6
 * See: pread(2), preadv2(2)
 */
void paluring_op_read(paluring_op *op, int fd, paluring_buf *buf, size_t buf_offset, size_t len,
                      uint64_t file_offset);

/**
 * Describe a write from a buffer, or from the members of a list in order.
 * The result is the number of bytes, which may be less than len (but see PALURING_OP_FULL).
 * @param op           out
 * @param fd           file, pipe or socket
 * @param buf          borrowed: each start adds its own reference (with PALURING_OP_MOVE a
 *                     successful start takes yours)
 * @param buf_offset   bytes from the start of buf
 * @param len          bytes, at most 2^31 - 4096; buf_offset + len within buf
 * @param file_offset  bytes from the start of the file; UINT64_MAX = the file's position
 * Ownership: nothing, until a start   Threads: any   Blocks: never   Since: 0.1, Linux 5.6
 * See: pwrite(2), pwritev2(2)
 */
void paluring_op_write(paluring_op *op, int fd, paluring_buf *buf, size_t buf_offset, size_t len,
                       uint64_t file_offset);

/**
 * Describe flushing a file's data and metadata to its device. Not ordered after writes that are in
 * flight.
 * @param op  out
 * @param fd  file
 * Ownership: nothing   Threads: any   Blocks: never   Since: 0.1, Linux 5.1
 * See: fsync(2)
 */
void paluring_op_fsync(paluring_op *op, int fd);

/**
 * Describe flushing a file's data, and only the metadata needed to read it, to its device.
 * @param op  out
 * @param fd  file
 * Ownership: nothing   Threads: any   Blocks: never   Since: 0.1, Linux 5.1
 * See: fdatasync(2)
 */
void paluring_op_fdatasync(paluring_op *op, int fd);

/**
 * Describe writing a range of a file's pages out. It flushes no metadata and no device's cache.
 * @param op           out
 * @param fd           file
 * @param file_offset  bytes from the start of the file
 * @param len          bytes; 0 = to the end
 * @param flags        SYNC_FILE_RANGE_*
 * Ownership: nothing   Threads: any   Blocks: never   Since: 0.1, Linux 5.2
 * See: sync_file_range(2)
 */
void paluring_op_sync_file_range(paluring_op *op, int fd, uint64_t file_offset, uint32_t len,
                                 uint32_t flags);

/**
 * Describe allocating, punching or zeroing a range of a file.
 * @param op           out
 * @param fd           file
 * @param mode         FALLOC_FL_*, or 0
 * @param file_offset  bytes from the start of the file
 * @param len          bytes
 * Ownership: nothing   Threads: any   Blocks: never   Since: 0.1, Linux 5.6
 * See: fallocate(2)
 */
void paluring_op_fallocate(paluring_op *op, int fd, int mode, uint64_t file_offset, uint64_t len);

/**
 * Describe setting a file's length. Before Linux 6.9 the start returns -EOPNOTSUPP.
 * @param op      out
 * @param fd      file
 * @param length  bytes
 * Ownership: nothing   Threads: any   Blocks: never   Since: 0.1, Linux 6.9
 * See: ftruncate(2)
 */
void paluring_op_ftruncate(paluring_op *op, int fd, uint64_t length);

/**
 * Describe telling how a range of a file will be used.
 * Kernels that take only 32 bits for the length answer a larger one with -EINVAL.
 * @param op           out
 * @param fd           file
 * @param file_offset  bytes from the start of the file
 * @param len          bytes; 0 = to the end
 * @param advice       POSIX_FADV_*
 * Ownership: nothing   Threads: any   Blocks: never   Since: 0.1, Linux 5.6
 * See: posix_fadvise(2)
 */
void paluring_op_fadvise(paluring_op *op, int fd, uint64_t file_offset, uint64_t len, int advice);

/**
 * Describe telling how memory will be used, or having it read or dropped.
 * It acts on whole pages, and only on the buffer's: what lasts longer than the buffer, such as
 * MADV_DONTFORK, is for memory of yours (paluring_buf_adopt).
 * @param op          out
 * @param buf         borrowed, not a list: each start adds its own reference (with PALURING_OP_MOVE
 *                    a successful start takes yours)
 * @param buf_offset  bytes from the start of buf; the place is where a page begins
 * @param len         bytes of whole pages, at most 2^31 - 4096; buf_offset + len within buf
 * @param advice      MADV_*
 * Ownership: nothing, until a start   Threads: any   Blocks: never   Since: 0.1, Linux 5.6
 * See: madvise(2)
 */
void paluring_op_madvise(paluring_op *op, paluring_buf *buf, size_t buf_offset, size_t len,
                         int advice);

/* -------------------------------------------------------------------------------------------------
 * Operations on names: opening, closing, looking at and changing what a path names.
 *
 * Texts and values are borrowed until the start returns. A fixed fd is no directory: it is -EINVAL
 * at the start, but for close, fgetxattr and fsetxattr.
 */

/**
 * Describe opening a file. The result is the descriptor, the host's to close; with
 * PALURING_OP_FIXED a fixed fd.
 * @param op     out
 * @param dirfd  directory for a relative path, or AT_FDCWD
 * @param path   borrowed until the start returns
 * @param flags  O_*
 * @param mode   permissions of a file that O_CREAT or O_TMPFILE makes
 * Ownership: nothing   Threads: any   Blocks: never   Since: 0.1, Linux 5.6
 * See: openat(2)
 */
void paluring_op_openat(paluring_op *op, int dirfd, const char *path, int flags, uint32_t mode);

/**
 * Describe opening a file with more to say about how the path is resolved. The result is as
 * openat's.
 * With PALURING_OP_FIXED the flags must be without O_CLOEXEC.
 * @param op        out
 * @param dirfd     directory for a relative path, or AT_FDCWD
 * @param path      borrowed until the start returns
 * @param how       struct open_how, borrowed until the start returns
 * @param how_size  its bytes
 * Ownership: nothing   Threads: any   Blocks: never   Since: 0.1, Linux 5.6
 * See: openat2(2)
 */
void paluring_op_openat2(paluring_op *op, int dirfd, const char *path, const void *how,
                         uint32_t how_size);

/**
 * Describe closing a descriptor, or a fixed fd. This ring's other I/Os on it are cancelled first,
 * so that a peer sees the end.
 * @param op  out
 * @param fd  descriptor or fixed fd
 * Ownership: nothing   Threads: any   Blocks: never   Since: 0.1, Linux 5.6
 * See: close(2)
 */
void paluring_op_close(paluring_op *op, int fd);

/**
 * Describe reading a file's metadata into a buffer, as a struct statx.
 * It always goes to a worker thread of the kernel.
 * @param op          out
 * @param dirfd       directory for a relative path, a file with AT_EMPTY_PATH, or AT_FDCWD
 * @param path        borrowed until the start returns
 * @param flags       AT_*
 * @param mask        STATX_*
 * @param buf         borrowed, not a list: each start adds its own reference (with PALURING_OP_MOVE
 *                    a successful start takes yours)
 * @param buf_offset  bytes from the start of buf, to a place that is a multiple of 8; 256 bytes
 *                    from there within buf
 * Ownership: nothing, until a start   Threads: any   Blocks: never   Since: 0.1, Linux 5.6
 * See: statx(2)
 */
void paluring_op_statx(paluring_op *op, int dirfd, const char *path, int flags, uint32_t mask,
                       paluring_buf *buf, size_t buf_offset);

/**
 * Describe renaming a file.
 * @param op        out
 * @param olddirfd  directory for a relative oldpath, or AT_FDCWD
 * @param oldpath   borrowed until the start returns
 * @param newdirfd  directory for a relative newpath, or AT_FDCWD
 * @param newpath   borrowed until the start returns
 * @param flags     RENAME_*
 * Ownership: nothing   Threads: any   Blocks: never   Since: 0.1, Linux 5.11
 * See: renameat2(2)
 */
void paluring_op_renameat(paluring_op *op, int olddirfd, const char *oldpath, int newdirfd,
                          const char *newpath, uint32_t flags);

/**
 * Describe removing a name, or with AT_REMOVEDIR an empty directory.
 * @param op     out
 * @param dirfd  directory for a relative path, or AT_FDCWD
 * @param path   borrowed until the start returns
 * @param flags  0 or AT_REMOVEDIR
 * Ownership: nothing   Threads: any   Blocks: never   Since: 0.1, Linux 5.11
 * See: unlinkat(2)
 */
void paluring_op_unlinkat(paluring_op *op, int dirfd, const char *path, int flags);

/**
 * Describe making a directory.
 * @param op     out
 * @param dirfd  directory for a relative path, or AT_FDCWD
 * @param path   borrowed until the start returns
 * @param mode   permissions
 * Ownership: nothing   Threads: any   Blocks: never   Since: 0.1, Linux 5.15
 * See: mkdirat(2)
 */
void paluring_op_mkdirat(paluring_op *op, int dirfd, const char *path, uint32_t mode);

/**
 * Describe making a symbolic link.
 * @param op        out
 * @param target    what it points to, borrowed until the start returns
 * @param newdirfd  directory for a relative linkpath, or AT_FDCWD
 * @param linkpath  borrowed until the start returns
 * Ownership: nothing   Threads: any   Blocks: never   Since: 0.1, Linux 5.15
 * See: symlinkat(2)
 */
void paluring_op_symlinkat(paluring_op *op, const char *target, int newdirfd, const char *linkpath);

/**
 * Describe making another name for a file.
 * @param op        out
 * @param olddirfd  directory for a relative oldpath, or AT_FDCWD
 * @param oldpath   borrowed until the start returns
 * @param newdirfd  directory for a relative newpath, or AT_FDCWD
 * @param newpath   borrowed until the start returns
 * @param flags     AT_*
 * Ownership: nothing   Threads: any   Blocks: never   Since: 0.1, Linux 5.15
 * See: linkat(2)
 */
void paluring_op_linkat(paluring_op *op, int olddirfd, const char *oldpath, int newdirfd,
                        const char *newpath, int flags);

/**
 * Describe reading an extended attribute into a buffer. The result is its length.
 * @param op          out
 * @param path        borrowed until the start returns
 * @param name        with its namespace, such as user.mime_type; borrowed until the start returns
 * @param buf         borrowed, not a list: each start adds its own reference (with PALURING_OP_MOVE
 *                    a successful start takes yours)
 * @param buf_offset  bytes from the start of buf
 * @param len         bytes; buf_offset + len within buf; 0 asks for the length
 * Ownership: nothing, until a start   Threads: any   Blocks: never   Since: 0.1, Linux 5.19
 * See: getxattr(2)
 */
void paluring_op_getxattr(paluring_op *op, const char *path, const char *name, paluring_buf *buf,
                          size_t buf_offset, uint32_t len);

/**
 * Describe setting an extended attribute.
 * @param op     out
 * @param path   borrowed until the start returns
 * @param name   with its namespace, such as user.mime_type; borrowed until the start returns
 * @param value  borrowed until the start returns
 * @param len    bytes of value
 * @param flags  0, XATTR_CREATE or XATTR_REPLACE
 * Ownership: nothing   Threads: any   Blocks: never   Since: 0.1, Linux 5.19
 * See: setxattr(2)
 */
void paluring_op_setxattr(paluring_op *op, const char *path, const char *name, const void *value,
                          uint32_t len, int flags);

/**
 * Describe reading an extended attribute of an open file into a buffer. The result is its length.
 * @param op          out
 * @param fd          file or fixed fd
 * @param name        with its namespace, such as user.mime_type; borrowed until the start returns
 * @param buf         borrowed, not a list: each start adds its own reference (with PALURING_OP_MOVE
 *                    a successful start takes yours)
 * @param buf_offset  bytes from the start of buf
 * @param len         bytes; buf_offset + len within buf; 0 asks for the length
 * Ownership: nothing, until a start   Threads: any   Blocks: never   Since: 0.1, Linux 5.19
 * See: fgetxattr(2)
 */
void paluring_op_fgetxattr(paluring_op *op, int fd, const char *name, paluring_buf *buf,
                           size_t buf_offset, uint32_t len);

/**
 * Describe setting an extended attribute of an open file.
 * @param op     out
 * @param fd     file or fixed fd
 * @param name   with its namespace, such as user.mime_type; borrowed until the start returns
 * @param value  borrowed until the start returns
 * @param len    bytes of value
 * @param flags  0, XATTR_CREATE or XATTR_REPLACE
 * Ownership: nothing   Threads: any   Blocks: never   Since: 0.1, Linux 5.19
 * See: fsetxattr(2)
 */
void paluring_op_fsetxattr(paluring_op *op, int fd, const char *name, const void *value,
                           uint32_t len, int flags);

/* -------------------------------------------------------------------------------------------------
 * Operations on pipes and sockets.
 *
 * Addresses, control data and option values are borrowed until the start returns. A fixed fd is
 * taken wherever a descriptor is. No send raises SIGPIPE: the result is -EPIPE.
 */

/**
 * Describe moving bytes between two files, one of which is a pipe, without copying them. The result
 * is the number of bytes.
 * @param op       out
 * @param fd_in    to take from
 * @param off_in   bytes from the start of fd_in; UINT64_MAX = a pipe, or the position
 * @param fd_out   to put into
 * @param off_out  bytes from the start of fd_out; UINT64_MAX = a pipe, or the position
 * @param len      bytes at most
 * @param flags    SPLICE_F_*
 * Ownership: nothing   Threads: any   Blocks: never   Since: 0.1, Linux 5.7
 * See: splice(2)
 */
void paluring_op_splice(paluring_op *op, int fd_in, uint64_t off_in, int fd_out, uint64_t off_out,
                        uint32_t len, uint32_t flags);

/**
 * Describe copying bytes from one pipe to another, which stay in the first. The result is the
 * number of bytes.
 * @param op      out
 * @param fd_in   pipe to copy from
 * @param fd_out  pipe to put into
 * @param len     bytes at most
 * @param flags   SPLICE_F_*
 * Ownership: nothing   Threads: any   Blocks: never   Since: 0.1, Linux 5.8
 * See: tee(2)
 */
void paluring_op_tee(paluring_op *op, int fd_in, int fd_out, uint32_t len, uint32_t flags);

/**
 * Describe making a pipe. The result is 0, and extra holds the end to read from in its low half,
 * the one to write to in its high half.
 * With PALURING_OP_FIXED both are fixed fds. Before Linux 6.16 the start returns -EOPNOTSUPP.
 * @param op     out
 * @param flags  O_CLOEXEC, O_NONBLOCK, O_DIRECT
 * Ownership: nothing   Threads: any   Blocks: never   Since: 0.1, Linux 6.16
 * See: pipe2(2)
 */
void paluring_op_pipe(paluring_op *op, uint32_t flags);

/**
 * Describe making a socket. The result is the descriptor, the host's to close; with
 * PALURING_OP_FIXED a fixed fd.
 * @param op        out
 * @param domain    AF_*
 * @param type_     SOCK_*
 * @param protocol  0, or IPPROTO_*
 * Ownership: nothing   Threads: any   Blocks: never   Since: 0.1, Linux 5.19
 * See: socket(2)
 */
void paluring_op_socket(paluring_op *op, int domain, int type_, int protocol);

/**
 * Describe giving a socket its address. Before Linux 6.11 the start returns -EOPNOTSUPP.
 * @param op        out
 * @param fd        socket
 * @param addr      struct sockaddr_*, borrowed until the start returns
 * @param addr_len  its bytes
 * Ownership: nothing   Threads: any   Blocks: never   Since: 0.1, Linux 6.11
 * See: bind(2)
 */
void paluring_op_bind(paluring_op *op, int fd, const void *addr, uint32_t addr_len);

/**
 * Describe having a socket accept connections. Before Linux 6.11 the start returns -EOPNOTSUPP.
 * @param op       out
 * @param fd       socket
 * @param backlog  connections that may wait
 * Ownership: nothing   Threads: any   Blocks: never   Since: 0.1, Linux 6.11
 * See: listen(2)
 */
void paluring_op_listen(paluring_op *op, int fd, int backlog);

/**
 * Describe accepting a connection. The result is the descriptor, the host's to close; with
 * PALURING_OP_FIXED a fixed fd.
 * With addr, extra is the length of the peer's address, which is cut off if the buffer is shorter.
 * @param op     out
 * @param fd     listening socket
 * @param addr   gets the address, at its start; NULL = not wanted; borrowed, not a list: each start
 *               adds its own reference (with PALURING_OP_MOVE a successful start takes yours)
 * @param flags  SOCK_CLOEXEC, SOCK_NONBLOCK
 * Ownership: nothing, until a start   Threads: any   Blocks: never   Since: 0.1, Linux 5.5
 * See: accept4(2)
 */
void paluring_op_accept(paluring_op *op, int fd, paluring_buf *addr, uint32_t flags);

/**
 * Describe accepting connections one after the other, until it is cancelled or an error ends it.
 * Each completion but the last has PALURING_COMPLETION_MORE; results as accept's. Not in a chain.
 * @param op     out
 * @param fd     listening socket
 * @param flags  SOCK_CLOEXEC, SOCK_NONBLOCK
 * Ownership: nothing   Threads: any   Blocks: never   Since: 0.1, Linux 5.19
 * See: accept4(2), io_uring_prep_multishot_accept(3)
 */
void paluring_op_accept_multishot(paluring_op *op, int fd, uint32_t flags);

/**
 * Describe connecting a socket.
 * @param op        out
 * @param fd        socket
 * @param addr      struct sockaddr_*, borrowed until the start returns
 * @param addr_len  its bytes
 * Ownership: nothing   Threads: any   Blocks: never   Since: 0.1, Linux 5.5
 * See: connect(2)
 */
void paluring_op_connect(paluring_op *op, int fd, const void *addr, uint32_t addr_len);

/**
 * Describe ending one direction of a connection, or both.
 * @param op   out
 * @param fd   socket
 * @param how  SHUT_RD, SHUT_WR or SHUT_RDWR
 * Ownership: nothing   Threads: any   Blocks: never   Since: 0.1, Linux 5.11
 * See: shutdown(2)
 */
void paluring_op_shutdown(paluring_op *op, int fd, int how);

/**
 * Describe sending from a buffer, or from the members of a list in order.
 * The result is the number of bytes, which on a stream may be less than len (but see
 * PALURING_OP_FULL, and MSG_WAITALL, which chains set).
 * @param op          out
 * @param fd          connected socket
 * @param buf         borrowed: each start adds its own reference (with PALURING_OP_MOVE a
 *                    successful start takes yours)
 * @param buf_offset  bytes from the start of buf
 * @param len         bytes, at most 2^31 - 4096; buf_offset + len within buf
 * @param flags       MSG_*, but MSG_ZEROCOPY (see PALURING_OP_ZEROCOPY)
 * Ownership: nothing, until a start   Threads: any   Blocks: never   Since: 0.1, Linux 5.6
 * See: send(2)
 */
void paluring_op_send(paluring_op *op, int fd, paluring_buf *buf, size_t buf_offset, size_t len,
                      uint32_t flags);

/**
 * Describe receiving into a buffer, or into the members of a list in order.
 * The result is the number of bytes; 0 at the end of a stream. A short one breaks a chain only with
 * MSG_WAITALL.
 * @param op          out
 * @param fd          socket
 * @param buf         borrowed: each start adds its own reference (with PALURING_OP_MOVE a
 *                    successful start takes yours)
 * @param buf_offset  bytes from the start of buf
 * @param len         bytes, at most 2^31 - 4096; buf_offset + len within buf
 * @param flags       MSG_*
 * Ownership: nothing, until a start   Threads: any   Blocks: never   Since: 0.1, Linux 5.6
 * See: recv(2)
 */
void paluring_op_recv(paluring_op *op, int fd, paluring_buf *buf, size_t buf_offset, size_t len,
                      uint32_t flags);

/**
 * Describe sending to an address, from a buffer or from the members of a list in order. The result
 * is the number of bytes.
 * @param op          out
 * @param fd          socket
 * @param buf         borrowed: each start adds its own reference (with PALURING_OP_MOVE a
 *                    successful start takes yours)
 * @param buf_offset  bytes from the start of buf
 * @param len         bytes, at most 2^31 - 4096; buf_offset + len within buf
 * @param addr        where to: struct sockaddr_*, or NULL on a connected socket; borrowed until the
 *                    start returns
 * @param addr_len    its bytes
 * @param flags       MSG_*, but MSG_ZEROCOPY (see PALURING_OP_ZEROCOPY)
 * Ownership: nothing, until a start   Threads: any   Blocks: never   Since: 0.1, Linux 5.3
 * See: sendto(2)
 */
void paluring_op_sendto(paluring_op *op, int fd, paluring_buf *buf, size_t buf_offset, size_t len,
                        const void *addr, uint32_t addr_len, uint32_t flags);

/**
 * Describe sending with an address and control data, from a buffer or from the members of a list in
 * order. The result is the number of bytes.
 * @param op           out
 * @param fd           socket
 * @param buf          borrowed: each start adds its own reference (with PALURING_OP_MOVE a
 *                     successful start takes yours)
 * @param buf_offset   bytes from the start of buf
 * @param len          bytes, at most 2^31 - 4096; buf_offset + len within buf
 * @param addr         where to: struct sockaddr_*, or NULL on a connected socket; borrowed until
 *                     the start returns
 * @param addr_len     its bytes
 * @param control      struct cmsghdr and what follows, or NULL; borrowed until the start returns;
 *                     descriptors in it stay open until the completion
 * @param control_len  its bytes
 * @param flags        MSG_*, but MSG_ZEROCOPY (see PALURING_OP_ZEROCOPY)
 * Ownership: nothing, until a start   Threads: any   Blocks: never   Since: 0.1, Linux 5.3
 * See: sendmsg(2), cmsg(3)
 */
void paluring_op_sendmsg(paluring_op *op, int fd, paluring_buf *buf, size_t buf_offset, size_t len,
                         const void *addr, uint32_t addr_len, const void *control,
                         uint32_t control_len, uint32_t flags);

/**
 * Describe receiving with the sender's address and control data. The result is the number of bytes
 * of data; 0 at the end of a stream.
 * At buf_offset the buffer gets a struct io_uring_recvmsg_out (the lengths of the address, of the
 * control data and of the data, and MSG_* flags, 32 bits each); behind it name_len bytes for the
 * address; behind those control_len bytes for the control data; and behind those the data. Of a
 * list, one member must have all but the data.
 * Descriptors in control data that nobody takes (a detached or dropped I/O's) stay open: cancel it
 * and take its result instead.
 * @param op           out
 * @param fd           socket
 * @param buf          borrowed: each start adds its own reference (with PALURING_OP_MOVE a
 *                     successful start takes yours)
 * @param buf_offset   bytes from the start of buf, to a place that is a multiple of 8
 * @param len          bytes of data, at most 2^31 - 4096; buf_offset + 16 + name_len + control_len
 *                     + len within buf
 * @param name_len     bytes for the address, a multiple of 8; 0 = not wanted
 * @param control_len  bytes for the control data, a multiple of 8; 0 = not wanted
 * @param flags        MSG_*
 * Ownership: nothing, until a start   Threads: any   Blocks: never   Since: 0.1, Linux 5.3
 * See: recvmsg(2), cmsg(3)
 */
void paluring_op_recvmsg(paluring_op *op, int fd, paluring_buf *buf, size_t buf_offset, size_t len,
                         uint32_t name_len, uint32_t control_len, uint32_t flags);

/**
 * Describe setting an option of a socket. Before Linux 6.7 the result, or the start's, is
 * -EOPNOTSUPP.
 * @param op       out
 * @param fd       socket
 * @param level    SOL_SOCKET, IPPROTO_TCP, ...
 * @param optname  SO_REUSEADDR, TCP_NODELAY, ...
 * @param value    borrowed until the start returns
 * @param len      bytes of value
 * Ownership: nothing   Threads: any   Blocks: never   Since: 0.1, Linux 6.7
 * See: setsockopt(2)
 */
void paluring_op_setsockopt(paluring_op *op, int fd, int level, int optname, const void *value,
                            uint32_t len);

/**
 * Describe reading an option of a socket into a buffer. The result is its length.
 * Before Linux 6.7 the result, or the start's, is -EOPNOTSUPP; so is it for levels of which the
 * kernel has none here (6.18 has SOL_SOCKET).
 * @param op          out
 * @param fd          socket
 * @param level       SOL_SOCKET, IPPROTO_TCP, ...
 * @param optname     SO_REUSEADDR, TCP_NODELAY, ...
 * @param buf         borrowed, not a list: each start adds its own reference (with PALURING_OP_MOVE
 *                    a successful start takes yours)
 * @param buf_offset  bytes from the start of buf
 * @param len         bytes; buf_offset + len within buf
 * Ownership: nothing, until a start   Threads: any   Blocks: never   Since: 0.1, Linux 6.7
 * See: getsockopt(2)
 */
void paluring_op_getsockopt(paluring_op *op, int fd, int level, int optname, paluring_buf *buf,
                            size_t buf_offset, uint32_t len);

/**
 * Describe asking how many bytes a socket has to read. Before Linux 6.7 the result, or the start's,
 * is -EOPNOTSUPP.
 * @param op  out
 * @param fd  socket
 * Ownership: nothing   Threads: any   Blocks: never   Since: 0.1, Linux 6.7
 * See: tcp(7), udp(7), unix(7)
 */
void paluring_op_siocinq(paluring_op *op, int fd);

/**
 * Describe asking how many bytes a socket has not sent yet. Before Linux 6.7 the result, or the
 * start's, is -EOPNOTSUPP.
 * @param op  out
 * @param fd  socket
 * Ownership: nothing   Threads: any   Blocks: never   Since: 0.1, Linux 6.7
 * See: tcp(7), udp(7), unix(7)
 */
void paluring_op_siocoutq(paluring_op *op, int fd);

/* -------------------------------------------------------------------------------------------------
 * Operations that wait, and the rest.
 */

/**
 * Describe waiting until a descriptor is ready. The result is the events that are, as in revents.
 * @param op      out
 * @param fd      pipe, socket, eventfd, ..., or fixed fd
 * @param events  POLLIN, POLLOUT, ...
 * Ownership: nothing   Threads: any   Blocks: never   Since: 0.1, Linux 5.1
 * See: poll(2)
 */
void paluring_op_poll(paluring_op *op, int fd, uint32_t events);

/**
 * Describe being told each time that a descriptor becomes ready, until it is cancelled or an error
 * ends it.
 * Each completion but the last has PALURING_COMPLETION_MORE; results as poll's. Not in a chain.
 * @param op      out
 * @param fd      pipe, socket, eventfd, ..., or fixed fd
 * @param events  POLLIN, POLLOUT, ...
 * Ownership: nothing   Threads: any   Blocks: never   Since: 0.1, Linux 5.13
 * See: poll(2), io_uring_prep_poll_multishot(3)
 */
void paluring_op_poll_multishot(paluring_op *op, int fd, uint32_t events);

/**
 * Describe a timer. The result is -ETIME when it has run out, -ECANCELED when cancelled.
 * @param op       out
 * @param time_ns  nanoseconds from its submission, or with IORING_TIMEOUT_ABS a point of
 *                 CLOCK_MONOTONIC; not negative
 * @param flags    0 or of IORING_TIMEOUT_ABS, _BOOTTIME, _REALTIME, _ETIME_SUCCESS
 * Ownership: nothing   Threads: any   Blocks: never   Since: 0.1, Linux 5.4
 * See: io_uring_prep_timeout(3), clock_gettime(2)
 */
void paluring_op_timeout(paluring_op *op, int64_t time_ns, uint32_t flags);

/**
 * Describe a timer that runs out again and again. Each result is -ETIME, and each but the last has
 * PALURING_COMPLETION_MORE.
 * Before Linux 6.4 the result is -EINVAL. Not in a chain.
 * @param op       out
 * @param time_ns  nanoseconds from one time to the next, the first from its submission; not
 *                 negative
 * @param count    how often; 0 = until it is cancelled
 * @param flags    0 or of IORING_TIMEOUT_BOOTTIME, _REALTIME
 * Ownership: nothing   Threads: any   Blocks: never   Since: 0.1, Linux 6.4
 * See: io_uring_prep_timeout(3)
 */
void paluring_op_timeout_multishot(paluring_op *op, int64_t time_ns, uint32_t count,
                                   uint32_t flags);

/**
 * Describe adding, changing or removing what an epoll descriptor watches. A fixed fd is refused for
 * both.
 * @param op      out
 * @param epfd    epoll descriptor
 * @param ctl     EPOLL_CTL_ADD, _MOD or _DEL
 * @param fd      what to watch
 * @param events  EPOLLIN, EPOLLOUT, ...
 * @param data    given back with the events
 * Ownership: nothing   Threads: any   Blocks: never   Since: 0.1, Linux 5.6
 * See: epoll_ctl(2)
 */
void paluring_op_epoll_ctl(paluring_op *op, int epfd, int ctl, int fd, uint32_t events,
                           uint64_t data);

/**
 * Describe waiting for an epoll descriptor's events, into an array of struct epoll_event. The
 * result is how many. Before Linux 6.15 the start returns -EOPNOTSUPP.
 * @param op          out
 * @param epfd        epoll descriptor or fixed fd
 * @param buf         borrowed, not a list: each start adds its own reference (with PALURING_OP_MOVE
 *                    a successful start takes yours)
 * @param buf_offset  bytes from the start of buf, to a place that is a multiple of 8
 * @param max_events  events at most; so many struct epoll_event from buf_offset within buf
 * Ownership: nothing, until a start   Threads: any   Blocks: never   Since: 0.1, Linux 6.15
 * See: epoll_wait(2)
 */
void paluring_op_epoll_wait(paluring_op *op, int epfd, paluring_buf *buf, size_t buf_offset,
                            uint32_t max_events);

/**
 * Describe waiting on a futex if it holds a value. The result is 0 when woken, -EAGAIN if it holds
 * another. Before Linux 6.7 the start returns -EOPNOTSUPP.
 * @param op     out
 * @param futex  the word; the kernel reads it in place, so it stays valid until the completion
 * @param value  what it must hold
 * @param mask   FUTEX_BITSET_MATCH_ANY, or which wakes to heed
 * @param flags  FUTEX2_SIZE_U32, with or without FUTEX2_PRIVATE
 * Ownership: nothing   Threads: any   Blocks: never   Since: 0.1, Linux 6.7
 * See: futex(2), io_uring_prep_futex_wait(3)
 */
void paluring_op_futex_wait(paluring_op *op, const uint32_t *futex, uint64_t value, uint64_t mask,
                            uint32_t flags);

/**
 * Describe waking who waits on a futex. The result is how many were. Before Linux 6.7 the start
 * returns -EOPNOTSUPP.
 * @param op     out
 * @param futex  the word; the kernel reads it in place, so it stays valid until the completion
 * @param count  waiters at most
 * @param mask   FUTEX_BITSET_MATCH_ANY, or which waiters
 * @param flags  FUTEX2_SIZE_U32, with or without FUTEX2_PRIVATE
 * Ownership: nothing   Threads: any   Blocks: never   Since: 0.1, Linux 6.7
 * See: futex(2), io_uring_prep_futex_wake(3)
 */
void paluring_op_futex_wake(paluring_op *op, const uint32_t *futex, uint64_t count, uint64_t mask,
                            uint32_t flags);

/**
 * Describe waiting on several futexes. The result is the place in the array of one that was woken.
 * Before Linux 6.7 the start returns -EOPNOTSUPP.
 * @param op       out
 * @param waiters  array of struct futex_waitv, borrowed until the start returns; its words stay
 *                 valid until the completion
 * @param count    elements of waiters, 1 to 128
 * Ownership: nothing   Threads: any   Blocks: never   Since: 0.1, Linux 6.7
 * See: futex_waitv(2)
 */
void paluring_op_futex_waitv(paluring_op *op, const void *waiters, uint32_t count);

/**
 * Describe waiting for a child to change its state, into a siginfo_t. The result is 0. Before Linux
 * 6.7 the start returns -EOPNOTSUPP.
 * @param op          out
 * @param idtype      P_PID, P_PIDFD, P_PGID or P_ALL
 * @param id          the process, or a descriptor of it
 * @param buf         NULL = not wanted; borrowed, not a list: each start adds its own reference
 *                    (with PALURING_OP_MOVE a successful start takes yours)
 * @param buf_offset  bytes from the start of buf, to a place that is a multiple of 8; 128 bytes
 *                    from there within buf
 * @param options     WEXITED, WSTOPPED, WCONTINUED, WNOHANG, WNOWAIT
 * Ownership: nothing, until a start   Threads: any   Blocks: never   Since: 0.1, Linux 6.7
 * See: waitid(2)
 */
void paluring_op_waitid(paluring_op *op, int idtype, uint32_t id, paluring_buf *buf,
                        size_t buf_offset, int options);

/**
 * Describe making a descriptor of the process for a fixed fd, which stays registered. The result is
 * the descriptor, the host's to close. Before Linux 6.8 the start returns -EOPNOTSUPP.
 * @param op        out
 * @param fixed_fd  fixed fd
 * @param flags     0 = the descriptor is closed on exec; IORING_FIXED_FD_NO_CLOEXEC
 * Ownership: nothing   Threads: any   Blocks: never   Since: 0.1, Linux 6.8
 * See: io_uring_prep_fixed_fd_install(3)
 */
void paluring_op_fixed_fd_install(paluring_op *op, int fixed_fd, uint32_t flags);

/**
 * Describe any operation, by a submission entry as the kernel defines it.
 * The one operation that can be unsafe: the entry may point anywhere, and what it points to must
 * stay valid until
 * the completion. buf, if given, is held until then. The library sets user_data, and checks opcode
 * and flags:
 * of the flags only IOSQE_FIXED_FILE and IOSQE_ASYNC; no MSG_RING, LINK_TIMEOUT, FILES_UPDATE,
 * URING_CMD or 128-byte opcode; not
 * registered file 0, which is the library's.
 * @param op   out
 * @param sqe  64 bytes of struct io_uring_sqe, copied
 * @param buf  borrowed, or NULL: each start adds its own reference (with PALURING_OP_MOVE a
 *             successful start takes yours)
 * Ownership: nothing, until a start   Threads: any   Blocks: never   Since: 0.1
 * See: io_uring_enter(2)
 */
void paluring_op_raw(paluring_op *op, const void *sqe, paluring_buf *buf);

/* -------------------------------------------------------------------------------------------------
 * I/Os: operations that have been started.
 *
 * Each accepted I/O (a start that returned >= 0) gets exactly one terminal completion,
 * whatever happens to it; only a dropped or detached one has none, its result is
 * discarded inside. Who gets it is the operation's choice: its callback; or the handle's
 * holder by poll or wait; or reap (PALURING_OP_QUEUE); or nobody (PALURING_OP_DETACHED).
 */

/** More completions of this I/O will follow; its handle stays good. */
#define PALURING_COMPLETION_MORE 1
/** The socket had more to read. */
#define PALURING_COMPLETION_SOCK_NONEMPTY 2
/** The operation's timeout_ns ran out; the result is -ETIME, or what had been done. */
#define PALURING_COMPLETION_TIMED_OUT 4
/** A cancel had been asked for; the result is -ECANCELED, or the true result. */
#define PALURING_COMPLETION_CANCELLED 8
/** Of paluring_io_start_chain: a member runs whatever became of the one before it. */
#define PALURING_CHAIN_HARDLINK 1

/**
 * Names an I/O of a ring; 0 = none. The handle of a finished I/O, or of another ring, is refused
 * with PALURING_ERR_STALE.
 */
typedef uint64_t paluring_io;

/**
 * Told once per poll that returned 0. 0: poll again; PALURING_ERR_DROPPED: only give up user_data.
 */
typedef void (*paluring_ready_fn)(uintptr_t user_data, int32_t status);

/** What became of an I/O, 64 bytes for good. */
struct paluring_completion {
  /** The handle; used up, unless PALURING_COMPLETION_MORE is set. */
  paluring_io io;
  /** The operation's. */
  uintptr_t user_data;
  /**
   * In a callback: the operation's buffer, lent until it returns. From poll, wait and reap: NULL,
   * or with PALURING_OP_MOVE the reference that the start took, yours.
   */
  paluring_buf *buf;
  /**
   * More about the result, for some operations; with -ECANCELED in a chain the result that broke
   * it; else 0.
   */
  uint64_t extra;
  /** What the system call would have returned, or a negative errno or status. */
  int32_t result;
  /** PALURING_COMPLETION_* */
  uint32_t flags;
  /** IORING_OP_* that the kernel ran. */
  uint32_t opcode;
  /** The library's. */
  uint32_t reserved0;
  /** The library's. */
  uint64_t reserved[2];
};

/**
 * Start an I/O.
 * It is queued here and enters the kernel with the ring's next submit, wait or run, or at once with
 * PALURING_OP_SUBMIT.
 * @param ring    borrowed
 * @param op      borrowed; its buffer gets a reference of the I/O's own (with PALURING_OP_MOVE a
 *                successful start takes yours)
 * @param out_io  set to 0 on failure; may be NULL with a callback, PALURING_OP_QUEUE or
 *                PALURING_OP_DETACHED
 * @return 0, or -EAGAIN (max_in_flight reached: process completions first), -EINVAL, -ENOMEM,
 *   -EOPNOTSUPP (this kernel lacks it), PALURING_ERR_CLOSED, _FORKED, _POISONED; on any failure
 *   nothing was taken
 * Ownership: op stays the caller's
 * Threads: any
 * Blocks: may enter the kernel; with PALURING_OP_SUBMIT only
 * Since: 0.1
 * See: io_uring_enter(2)
 */
int32_t paluring_io_start(paluring_ring *ring, const paluring_op *op, paluring_io *out_io);

/**
 * Start several I/Os, in order, until one fails.
 * @param ring     borrowed
 * @param ops      array of count operations, borrowed
 * @param count    operations in ops
 * @param out_ios  array of count handles, each set to 0 first; may be NULL as in paluring_io_start
 * @return how many were started; if none was, that failure's status (see paluring_io_start)
 * Ownership: ops stay the caller's
 * Threads: any
 * Blocks: may enter the kernel; with PALURING_OP_SUBMIT only
 * Since: 0.1
 */
int32_t paluring_io_start_batch(paluring_ring *ring, const paluring_op *ops, size_t count,
                                paluring_io *out_ios);

/**
 * Start several I/Os as a chain: each runs when the one before it has succeeded.
 * All of them are accepted or none; their entries are never split, nor mixed with others', and
 * their completions come in order.
 * An error or a short transfer breaks the chain: what follows ends with -ECANCELED, and the result
 * that broke it in extra.
 * @param ring     borrowed
 * @param ops      array of count operations, borrowed; members may be PALURING_OP_DETACHED, so that
 *                 one callback on the last tells all; no multishots
 * @param count    operations in ops
 * @param flags    PALURING_CHAIN_*
 * @param out_ios  array of count handles, each set to 0 first; may be NULL as in paluring_io_start
 * @return count, or -E2BIG (more than entries or max_in_flight), -EAGAIN (max_in_flight: no room
 *   for all), others as paluring_io_start; on any failure nothing was taken
 * A cancelled member ends the chain; one that waits for its turn is cancelled when that comes. A
 * member's timeout_ns counts from here, and cancels what still runs before it, too.
 * Ownership: ops stay the caller's
 * Threads: any
 * Blocks: may enter the kernel; with PALURING_OP_SUBMIT only
 * Since: 0.1
 * See: io_uring_enter(2), IOSQE_IO_LINK
 */
int32_t paluring_io_start_chain(paluring_ring *ring, const paluring_op *ops, size_t count,
                                uint32_t flags, paluring_io *out_ios);

/**
 * Take the completion of a kept I/O if it is there; else have a function told when to ask again.
 * Check and set are one step: no notification is lost. Never drives the ring.
 * @param ring            borrowed
 * @param io              an I/O started without callback, QUEUE and DETACHED
 * @param ready           told once if this call returns 0 and again for each later poll that does;
 *                        NULL = nobody; replaces an earlier one, which is told PALURING_ERR_DROPPED
 * @param user_data       handed to ready as it is
 * @param out_completion  set to zeros unless 1 is returned; NULL: the result is discarded, as drop
 *                        does
 * @return 1 (filled; the handle is used up unless MORE is set), 0 (pending), PALURING_ERR_STALE,
 *   -EINVAL (io isn't kept), -ENOMEM
 * Ownership: a buffer in the completion is yours to release
 * Threads: any; ready runs on the driver
 * Blocks: never; may run release functions
 * Since: 0.1
 */
int32_t paluring_io_poll(paluring_ring *ring, paluring_io io, paluring_ready_fn ready,
                         uintptr_t user_data, paluring_completion *out_completion);

/**
 * Wait for the completion of a kept I/O and take it. Drives the ring meanwhile, without running
 * callbacks.
 * @param ring            borrowed
 * @param io              an I/O started without callback, QUEUE and DETACHED
 * @param timeout_ns      negative = no limit, 0 = don't wait
 * @param out_completion  set to zeros unless 0 is returned; NULL: the result is discarded, as drop
 *                        does
 * @return 0 (filled), -ETIME or -EINTR (still in flight), PALURING_ERR_STALE, _WRONG_THREAD,
 *   _CLOSED, -EINVAL (io isn't kept), -EBUSY (in a callback)
 * Ownership: a buffer in the completion is yours to release
 * Threads: driver or waiter
 * Blocks: until done, the timeout or a signal
 * Since: 0.1
 */
int32_t paluring_io_wait(paluring_ring *ring, paluring_io io, int64_t timeout_ns,
                         paluring_completion *out_completion);

/**
 * Give up the result of an I/O. It runs on, uncancelled (a multishot is cancelled); its memory is
 * released when the
 * kernel is done, and a descriptor in its result is closed.
 * @param ring           borrowed
 * @param io             any I/O but a detached one; 0 does nothing
 * @param out_user_data  the operation's, yours again; set to 0 on failure; may be NULL
 * @return 0 (no further completion will be delivered), PALURING_ERR_STALE (delivered, or its
 *   callback is running: that owns user_data)
 * Ownership: gives user_data back
 * Threads: any
 * Blocks: never; may run release functions
 * Since: 0.1
 */
int32_t paluring_io_drop(paluring_ring *ring, paluring_io io, uintptr_t *out_user_data);

/**
 * Ask for an I/O to be cancelled. Its completion still comes, with -ECANCELED or the true result.
 * @param ring  borrowed
 * @param io    any I/O, dropped ones included
 * @return 0 (asked), PALURING_ERR_STALE (finished), -ENOMEM
 * Ownership: nothing
 * Threads: any; also inside a callback of the same I/O
 * Blocks: never
 * Since: 0.1
 * See: io_uring_prep_cancel64(3)
 */
int32_t paluring_io_cancel(paluring_ring *ring, paluring_io io);

/**
 * Give an I/O a new time limit, counted from now: an idle timer.
 * @param ring        borrowed
 * @param io          an I/O in flight
 * @param timeout_ns  0 or less removes the limit
 * @return 0, PALURING_ERR_STALE (finished), -ENOMEM
 * Ownership: nothing   Threads: any   Blocks: never   Since: 0.1
 */
int32_t paluring_io_set_timeout(paluring_ring *ring, paluring_io io, int64_t timeout_ns);

/**
 * Ask for all I/Os of this ring on a descriptor to be cancelled.
 * @param ring  borrowed
 * @param fd    the descriptor as the I/Os were started with
 * @return how many were asked, -ENOMEM
 * Ownership: nothing   Threads: any   Blocks: never   Since: 0.1
 */
int32_t paluring_ring_cancel_fd(paluring_ring *ring, int fd);

/**
 * Ask for all I/Os of this ring to be cancelled.
 * @param ring  borrowed
 * @return how many were asked, -ENOMEM
 * Ownership: nothing   Threads: any   Blocks: never   Since: 0.1
 */
int32_t paluring_ring_cancel_all(paluring_ring *ring);

/* -------------------------------------------------------------------------------------------------
 * Rings: open, hold, close.
 *
 * A ring is driven by one thread at a time (its driver); I/Os may be started, polled,
 * dropped and cancelled from any thread. `close` ends the ring, `release` only the
 * handle: after a close every call is safe until the last release.
 */

/** The first thread that drives the ring owns it from then on: fastest, for event loops. */
#define PALURING_MODE_OWNER 0
/** Any thread drives, one at a time: for runtimes that move tasks between threads. */
#define PALURING_MODE_SHARED 1
/**
 * A thread of the library's own drives, and runs the callbacks; any thread waits.
 * It is named paluring, has all signals blocked, and ends with the ring's close.
 */
#define PALURING_MODE_BACKGROUND 2
/**
 * Count a thread that waits for completions as waiting for I/O (off by default where the kernel
 * can, from Linux 6.15).
 */
#define PALURING_RING_IOWAIT 4
/** A kernel thread submits. Not in this release: -EOPNOTSUPP. */
#define PALURING_RING_SQPOLL 1
/** Completions are polled from the device. Not in this release: -EOPNOTSUPP. */
#define PALURING_RING_IOPOLL 2
/** Let the library choose: the kernel's io_uring. */
#define PALURING_BACKEND_AUTO 0
/** The kernel's io_uring. */
#define PALURING_BACKEND_KERNEL 1

/** How to open a ring. Set it with paluring_ring_options_init, then change what matters. */
struct paluring_ring_options {
  /** sizeof(paluring_ring_options) */
  uint32_t size;
  /** PALURING_MODE_* */
  uint32_t mode;
  /**
   * Submission queue entries, up to 32768; 0 = 256. It limits batches, not I/Os in flight. Rounded
   * up to a power of two.
   */
  uint32_t entries;
  /**
   * Completion queue entries; 0 = 2 × max_in_flight where it fits, less where memory limits forbid
   * (overflow stays lossless).
   */
  uint32_t cq_entries;
  /** I/Os in flight, at most 2^20; 0 = 4 × entries. A start beyond it is -EAGAIN. */
  uint32_t max_in_flight;
  /**
   * Registered files of each kind: by paluring_file_register, and by PALURING_OP_FIXED; 0 = 256.
   */
  uint32_t max_files;
  /** PALURING_RING_* */
  uint32_t flags;
  /** With PALURING_RING_SQPOLL: idle time before the kernel thread sleeps. */
  uint32_t sqpoll_idle_ms;
  /** With PALURING_RING_SQPOLL: its processor; -1 = any. */
  int32_t sqpoll_cpu;
  /** With PALURING_MODE_BACKGROUND: the thread's processor; -1 = any. */
  int32_t background_cpu;
  /** PALURING_BACKEND_* */
  uint32_t backend;
  /** 0 */
  uint32_t reserved0;
  /**
   * A ring to share the kernel's worker threads with, borrowed during open. Not in this release:
   * NULL, else -EOPNOTSUPP.
   */
  paluring_ring *attach;
  /** 0 */
  uint64_t reserved[4];
};

/**
 * Set ring options to their defaults.
 * @param options  out
 * @param size     sizeof *options; nothing is written beyond it
 * Ownership: nothing   Threads: any   Blocks: never   Since: 0.1
 */
void paluring_ring_options_init(paluring_ring_options *options, size_t size);

/**
 * Open a ring.
 * @param options   borrowed; NULL = defaults
 * @param out_ring  set to NULL on failure; one reference, yours to release
 * @return 0, or -EINVAL, -E2BIG (options of a newer version with something set), -EOPNOTSUPP (an
 *   option that this release lacks), -ENOMEM, -EMFILE, -EAGAIN (no thread for
 *   PALURING_MODE_BACKGROUND, or no key left for threads), -ENOSYS or -EPERM (see
 *   paluring_ring_unavailable_reason)
 * Ownership: gives one reference
 * Threads: any
 * Blocks: may enter the kernel; up to 100 ms while it frees an earlier ring's memory
 * Since: 0.1
 * See: io_uring_setup(2)
 */
int32_t paluring_ring_open(const paluring_ring_options *options, paluring_ring **out_ring);

/**
 * Add a reference to the handle.
 * @param ring  borrowed; NULL gives NULL
 * @return ring
 * Ownership: gives one reference   Threads: any   Blocks: never   Since: 0.1
 */
paluring_ring *paluring_ring_retain(paluring_ring *ring);

/**
 * Give up a reference to the handle. The last one closes a ring that is still open, with no time to
 * wait.
 * @param ring  one reference, taken; NULL does nothing
 * Ownership: takes one reference
 * Threads: any
 * Blocks: may enter the kernel; the last one runs callbacks and release functions, or awaits a
 * BACKGROUND ring's thread
 * Since: 0.1
 */
void paluring_ring_release(paluring_ring *ring);

/**
 * Close a ring: refuse new I/Os, cancel those in flight, deliver every completion, and wait for
 * that as long as allowed.
 * What is left then is orphaned: completed with PALURING_ERR_ORPHANED, its memory kept until the
 * kernel is done.
 * Inside a callback it returns 0 at once and is done when the callback returns.
 * @param ring        borrowed; the handle stays yours to release
 * @param timeout_ns  negative = no limit, 0 = don't wait
 * @return how many I/Os were orphaned, PALURING_ERR_WRONG_THREAD (nothing happens), _CLOSED
 * Ownership: nothing
 * Threads: owner; any once an OWNER ring's thread has exited
 * Blocks: until done or the timeout; a second while the kernel refuses every call
 * Since: 0.1
 */
int32_t paluring_ring_close(paluring_ring *ring, int64_t timeout_ns);

/**
 * Say why rings can't be opened here: tries a minimal set-up now.
 * @return static text that names the cause and the remedy; "" if all is well; never NULL
 * Ownership: static, never released   Threads: any   Blocks: may enter the kernel   Since: 0.1
 * See: io_uring_setup(2)
 */
const char *paluring_ring_unavailable_reason(void);

/* -------------------------------------------------------------------------------------------------
 * Registered files: descriptors that the ring looks up once.
 *
 * A fixed fd is an int from 2^30 on. It is taken as fd by each operation that the kernel supports it
 * on (docs/kernels.md lists them), is -EINVAL at the start elsewhere, and means nothing to system
 * calls. paluring_op_close ends it, too. A ring has max_files of them for paluring_file_register, and
 * as many again for PALURING_OP_FIXED.
 */

/**
 * Register a file with a ring. The descriptor stays yours, to be used and closed as before.
 * @param ring          borrowed
 * @param fd            descriptor; its file is kept open until it is unregistered or the ring ends
 * @param out_fixed_fd  set to -1 on failure
 * @return 0, or -EBADF, -ENFILE (max_files are registered), -ENOMEM, PALURING_ERR_WRONG_THREAD,
 *   _CLOSED
 * Ownership: fd stays yours; the fixed fd is yours to unregister
 * Threads: owner; a BACKGROUND ring's thread does it
 * Blocks: may enter the kernel; on a BACKGROUND ring until its thread has done it
 * Since: 0.1, Linux 5.19
 * See: io_uring_register(2)
 */
int32_t paluring_file_register(paluring_ring *ring, int fd, int *out_fixed_fd);

/**
 * End a registration, or close what PALURING_OP_FIXED has installed.
 * I/Os that the kernel has keep the file until they are done; those that were not submitted, or
 * wait in a chain for their turn, may find none: -EBADF.
 * @param ring      borrowed
 * @param fixed_fd  a fixed fd of this ring
 * @return 0, or -EBADF (not registered), -EINVAL (no fixed fd), PALURING_ERR_WRONG_THREAD, _CLOSED
 * Ownership: takes the fixed fd
 * Threads: owner; a BACKGROUND ring's thread does it
 * Blocks: may enter the kernel; on a BACKGROUND ring until its thread has done it
 * Since: 0.1, Linux 5.19
 * See: io_uring_register(2)
 */
int32_t paluring_file_unregister(paluring_ring *ring, int fixed_fd);

/* -------------------------------------------------------------------------------------------------
 * Driving: enter the kernel, wait, deliver.
 *
 * On an OWNER ring the first of these calls binds the ring to its thread; from others
 * they return PALURING_ERR_WRONG_THREAD. On a SHARED ring any thread may drive, one at a
 * time. Time over, a wake and a signal are no errors: the call returns what there is.
 * Callbacks run in process, run, drain and close, never under a lock.
 */

/** Runs on the driver of the ring that it was posted to; user_data is paluring_ring_post's. */
typedef void (*paluring_post_fn)(uintptr_t user_data);

/** Told that there is room for a start again; user_data is paluring_ring_on_room's. */
typedef void (*paluring_room_fn)(uintptr_t user_data);

/**
 * Enter the kernel with what has been started.
 * @param ring  borrowed
 * @return entries that the kernel took, PALURING_ERR_WRONG_THREAD, _CLOSED, -EBUSY (in a callback,
 *   or another thread drives), -EAGAIN or -ENOMEM (the kernel is short of memory; all is kept for
 *   the next try), PALURING_ERR_LOST (it dropped completions: close the ring), or what else
 *   io_uring_enter(2) says
 * Ownership: nothing   Threads: driver   Blocks: may enter the kernel   Since: 0.1
 * See: io_uring_enter(2)
 */
int32_t paluring_ring_submit(paluring_ring *ring);

/**
 * Submit, and wait until there is something to process or reap. Delivers nothing.
 * @param ring        borrowed
 * @param min         completions to wait for, those left over and kept ones included; 0 = don't
 *                    wait
 * @param timeout_ns  negative = no limit, 0 = don't wait
 * @return completions that process or reap would deliver, plus kept ones; statuses as
 *   paluring_ring_submit
 * Ownership: nothing
 * Threads: driver
 * Blocks: until min, the timeout, a wake or a signal
 * Since: 0.1
 */
int32_t paluring_ring_wait(paluring_ring *ring, uint32_t min, int64_t timeout_ns);

/**
 * Run the callbacks of what is complete, then submit what they started.
 * @param ring    borrowed
 * @param budget  completion callbacks to run at most; 0 = all that was complete on entry
 * @return how many completion callbacks ran; statuses as paluring_ring_submit
 * Ownership: buffers are lent to callbacks
 * Threads: driver
 * Blocks: may enter the kernel
 * Since: 0.1
 */
int32_t paluring_ring_process(paluring_ring *ring, uint32_t budget);

/**
 * Wait, then process: the usual loop.
 * @param ring        borrowed
 * @param min         completions to wait for, as in paluring_ring_wait
 * @param timeout_ns  negative = no limit, 0 = don't wait
 * @return how many completion callbacks ran; statuses as paluring_ring_submit
 * Ownership: buffers are lent to callbacks
 * Threads: driver
 * Blocks: until min, the timeout, a wake or a signal
 * Since: 0.1
 */
int32_t paluring_ring_run(paluring_ring *ring, uint32_t min, int64_t timeout_ns);

/**
 * Take completions of PALURING_OP_QUEUE I/Os, oldest first; waits for the first min.
 * @param ring             borrowed
 * @param min              completions to wait for, at most count; 0 = don't wait
 * @param timeout_ns       negative = no limit, 0 = don't wait
 * @param out_completions  array of count completions; only those returned are written
 * @param count            completions in out_completions
 * @return how many were taken; statuses as paluring_ring_submit; -EINVAL (out_completions NULL,
 *   count 0, min above count)
 * Ownership: buffers in the completions are yours to release
 * Threads: driver or waiter
 * Blocks: until min, the timeout, a wake or a signal; a wake ends the driver's wait only
 * Since: 0.1
 */
int32_t paluring_ring_reap(paluring_ring *ring, uint32_t min, int64_t timeout_ns,
                           paluring_completion *out_completions, size_t count);

/**
 * Run callbacks until no accepted I/O is unfinished. Cancel the multishots first.
 * @param ring        borrowed
 * @param timeout_ns  negative = no limit, 0 = don't wait
 * @return 0, -ETIME, -EINTR; statuses as paluring_ring_submit
 * Ownership: buffers are lent to callbacks
 * Threads: driver or waiter
 * Blocks: until done, the timeout or a signal
 * Since: 0.1
 */
int32_t paluring_ring_drain(paluring_ring *ring, int64_t timeout_ns);

/**
 * Count the completions that process or reap would deliver now, and the kept ones, without entering
 * the kernel.
 * While another thread is in a driver's call, completions that nobody gets (dropped, detached) may
 * be counted too.
 * @param ring  borrowed
 * @return the count, PALURING_ERR_CLOSED (and nothing is left), _FORKED, _POISONED
 * Ownership: nothing   Threads: any   Blocks: never; may run release functions   Since: 0.1
 */
int32_t paluring_ring_ready(paluring_ring *ring);

/**
 * Have a function run on the ring's driver: once, after those posted before, from any thread.
 * Also the way to hand a buffer or a descriptor to another ring. It ends a wait; what was accepted
 * runs before the ring's close ends.
 * @param ring       borrowed
 * @param function   runs on the driver, under the rules of a callback
 * @param user_data  handed to function as it is
 * @return 0, -EINVAL (function NULL), -ENOMEM, PALURING_ERR_CLOSED (a close has begun), _FORKED,
 *   _POISONED
 * Ownership: user_data is the function's once 0 is returned
 * Threads: any; function runs on the driver
 * Blocks: never
 * Since: 0.1
 */
int32_t paluring_ring_post(paluring_ring *ring, paluring_post_fn function, uintptr_t user_data);

/**
 * Be told when there is room again after a start that failed with -EAGAIN for want of it, once for
 * each such time.
 * @param ring       borrowed
 * @param room       runs on the driver, under the rules of a callback; NULL removes; replaces an
 *                   earlier one
 * @param user_data  handed to room as it is; a call that is under way may still use the one before
 * @return 0, PALURING_ERR_CLOSED, _FORKED, _POISONED
 * Ownership: nothing   Threads: any; room runs on the driver   Blocks: never   Since: 0.1
 */
int32_t paluring_ring_on_room(paluring_ring *ring, paluring_room_fn room, uintptr_t user_data);

/**
 * End the driver's wait, or its next one. Wakes coalesce.
 * @param ring  borrowed
 * @return 0, PALURING_ERR_CLOSED, _FORKED, _POISONED, or the errno of the failed wake
 * Ownership: nothing   Threads: any and signal handlers; errno is kept   Blocks: never   Since: 0.1
 */
int32_t paluring_ring_wake(paluring_ring *ring);

/**
 * Get the descriptor that an event loop watches: readable while there is something to process or
 * reap, or a timeout is due.
 * Call paluring_ring_prepare each time before the loop sleeps.
 * @param ring    borrowed
 * @param out_fd  set to -1 on failure; an eventfd, the library's: don't read, write or close it
 * @return 0, -EMFILE, -EINVAL (out_fd NULL), PALURING_ERR_CLOSED
 * Ownership: the descriptor stays the ring's, until its close
 * Threads: any
 * Blocks: never
 * Since: 0.1
 * See: eventfd(2), epoll(7)
 */
int32_t paluring_ring_event_fd(paluring_ring *ring, int *out_fd);

/**
 * Make ready for the event loop's sleep: submit, and arm the event fd for completions and the
 * nearest timeout.
 * @param ring  borrowed
 * @return 1 (don't sleep: there is something to process or reap; the fd is readable too), 0
 *   (sleep); statuses as paluring_ring_submit
 * Ownership: nothing   Threads: driver   Blocks: may enter the kernel   Since: 0.1
 */
int32_t paluring_ring_prepare(paluring_ring *ring);

/* -------------------------------------------------------------------------------------------------
 * Tuning and insight: worker threads, capabilities, statistics, what is stuck.
 */

/** A set-up flag that the kernel lacks: see setup_flags. */
#define PALURING_FALLBACK_SETUP 1
/** Fewer completion queue entries than asked for, for want of memory. */
#define PALURING_FALLBACK_CQ_ENTRIES 2
/** Fewer registered files than asked for, for want of memory or descriptors. */
#define PALURING_FALLBACK_FILES 4
/** Wakes go through an eventfd (before Linux 6.13). */
#define PALURING_FALLBACK_WAKE 8
/** The ring's descriptor could not be registered: each enter looks it up. */
#define PALURING_FALLBACK_RING_FD 16
/** membarrier(2) is missing: the owner's calls use a lock. */
#define PALURING_FALLBACK_LOCK 32

/** What the kernel gave this ring. */
struct paluring_capabilities {
  /** sizeof(paluring_capabilities), set by the host. */
  uint32_t size;
  /** PALURING_BACKEND_* */
  uint32_t backend;
  /** IORING_SETUP_* that the ring was set up with. */
  uint32_t setup_flags;
  /** IORING_FEAT_* of the kernel. */
  uint32_t features;
  /** PALURING_FALLBACK_*: what the library wanted and did without. */
  uint32_t fallbacks;
  /** Submission queue entries. */
  uint32_t entries;
  /** Completion queue entries. */
  uint32_t cq_entries;
  /** I/Os in flight at most. */
  uint32_t max_in_flight;
  /** Registered files of each kind: by paluring_file_register, and by PALURING_OP_FIXED. */
  uint32_t max_files;
  /** 0 */
  uint32_t reserved0;
  /** Bit n of word n / 64: IORING_OP n is there. */
  uint64_t ops[4];
  /** 0 */
  uint64_t reserved[8];
};

/** Counts of a ring since its open, and of the I/Os in flight now. */
struct paluring_stats {
  /** sizeof(paluring_stats), set by the host. */
  uint32_t size;
  /** 0 */
  uint32_t reserved0;
  /** I/Os now that wait for room in the submission queue. */
  uint64_t queued;
  /** I/Os now that the kernel has, or will have at the next enter; dropped ones not included. */
  uint64_t waiting;
  /** I/Os now that are complete and not yet delivered. */
  uint64_t completed;
  /** I/Os now that were dropped or started DETACHED and are not yet complete. */
  uint64_t dropped;
  /** I/Os accepted. */
  uint64_t total_started;
  /** I/Os that ended: delivered, discarded or orphaned. */
  uint64_t total_finished;
  /**
   * I/Os that completed with -ECANCELED, or -ETIME for their timeout_ns; not delivered ones too.
   */
  uint64_t total_cancelled;
  /** I/Os dropped. */
  uint64_t total_dropped;
  /** Detached I/Os that failed. */
  uint64_t total_detached_failed;
  /** I/Os orphaned by a close. */
  uint64_t total_orphaned;
  /** Calls of io_uring_enter(2). */
  uint64_t total_enters;
  /** Times that the completion queue was found to have overflowed. */
  uint64_t total_overflows;
  /** Starts refused with -EAGAIN. */
  uint64_t total_again;
  /** Wakes sent to a driver that slept. */
  uint64_t total_wakes;
  /** I/Os submitted again since the thread that had submitted them was gone. */
  uint64_t total_resubmits;
  /** Completions that named no I/O of this ring, ignored. */
  uint64_t total_foreign;
  /** The most I/Os in flight at once. */
  uint64_t high_in_flight;
  /** The most entries that waited for room in the submission queue at once. */
  uint64_t high_queued;
  /** Bytes of the whole process that closed rings' I/Os may still use, now. */
  uint64_t quarantined_bytes;
  /** 0 */
  uint64_t reserved[8];
};

/** Gets text in pieces of len bytes, without a terminating zero. It must not call the library. */
typedef void (*paluring_write_fn)(uintptr_t user_data, const char *text, size_t len);

/**
 * Limit the kernel's worker threads that serve this ring's thread.
 * The limits belong to the driver's thread and are shared by its rings.
 * @param ring       borrowed
 * @param bounded    workers for files and block devices; 0 = unchanged
 * @param unbounded  workers for sockets, pipes and the rest; 0 = unchanged
 * @return 0, PALURING_ERR_WRONG_THREAD, _CLOSED, or an errno
 * Ownership: nothing
 * Threads: owner; a BACKGROUND ring's thread does it
 * Blocks: may enter the kernel; on a BACKGROUND ring until its thread has done it
 * Since: 0.1, Linux 5.15
 * See: io_uring_register(2)
 */
int32_t paluring_ring_set_worker_limits(paluring_ring *ring, uint32_t bounded, uint32_t unbounded);

/**
 * Set the processors that the kernel's worker threads of this ring's thread may use.
 * @param ring      borrowed
 * @param mask      a cpu_set_t, borrowed
 * @param mask_len  bytes in mask, 1 to 1024
 * @return 0, -EINVAL, PALURING_ERR_WRONG_THREAD, _CLOSED, or an errno
 * Ownership: nothing
 * Threads: owner; a BACKGROUND ring's thread does it
 * Blocks: may enter the kernel; on a BACKGROUND ring until its thread has done it
 * Since: 0.1, Linux 5.14
 * See: io_uring_register(2), cpu_set(3)
 */
int32_t paluring_ring_set_worker_affinity(paluring_ring *ring, const void *mask, size_t mask_len);

/**
 * Ask whether the kernel has an operation.
 * @param ring    borrowed
 * @param opcode  IORING_OP_*, as in a completion's opcode
 * @return 1 or 0, PALURING_ERR_CLOSED, _FORKED, _POISONED
 * Ownership: nothing   Threads: any   Blocks: never   Since: 0.1
 */
int32_t paluring_ring_supports(paluring_ring *ring, uint32_t opcode);

/**
 * Get what the kernel gave this ring.
 * @param ring              borrowed; closed ones too
 * @param out_capabilities  its size set by the host; nothing is written beyond it
 * @return 0, -EINVAL
 * Ownership: nothing   Threads: any   Blocks: never   Since: 0.1
 */
int32_t paluring_ring_capabilities(paluring_ring *ring, paluring_capabilities *out_capabilities);

/**
 * Get the ring's counts. Also frees memory of closed rings that the kernel is done with.
 * @param ring       borrowed; closed ones too
 * @param out_stats  its size set by the host; nothing is written beyond it
 * @return 0, -EINVAL
 * Ownership: nothing   Threads: any   Blocks: never; may run release functions   Since: 0.1
 */
int32_t paluring_ring_stats(paluring_ring *ring, paluring_stats *out_stats);

/**
 * Write the ring's state as JSON: options, counts, and each I/O in flight with opcode, fd and age.
 * "What is stuck?"
 * @param ring       borrowed; closed ones too
 * @param write      called several times
 * @param user_data  handed to write as it is
 * @return 0, -EINVAL, -ENOMEM
 * Ownership: nothing   Threads: any   Blocks: never   Since: 0.1
 */
int32_t paluring_ring_dump(paluring_ring *ring, paluring_write_fn write, uintptr_t user_data);

#ifdef __cplusplus
} /* extern "C" */
#endif

#endif /* PALURING_H */
