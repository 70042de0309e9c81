/*
 * Makes the disk fail: a library for LD_PRELOAD that counts the system calls which change files under one path, and
 * lets the N-th one fail. It counts the calls through which a process can lose data: writing, growing and cutting
 * files, creating, renaming and removing them ("write"), and making them durable ("sync").
 *
 * The calls are caught by trap.h.
 *
 * Environment:
 *   FAULT_PATH    prefix of the paths concerned; without it nothing is installed
 *   FAULT_SKIP    calls on paths that end so are not counted (SQLite's -shm files hold nothing that lasts)
 *   FAULT_TRACE   file that gets one line for each counted call: number, kind, call, path
 *   FAULT_AT      number of the first call that fails; 0 or absent: none
 *   FAULT_KIND    "write", "sync" or "any" (default): the calls that are counted
 *   FAULT_MODE    "once", or "stay" (default): this call and all counted ones after it fail
 *   FAULT_ERRNO   errno to fail with, default EIO
 *   FAULT_SHORT   1: a failing write or pwrite first puts down half of its bytes
 *   FAULT_UNDO    file that gets, before each write, what it is about to replace, and after each sync which file is
 *                 safe from then on: with it a power cut can be played, by undoing what was never synced. Creating,
 *                 renaming and removing count as safe at once.
 */
#include "trap.h"

#include <dlfcn.h>
#include <stdatomic.h>
#include <stdlib.h>

static const char *fault_path, *fault_skip;
static size_t fault_path_length;
static long fault_at;
static int fault_kinds = WRITE | SYNC, fault_stays = 1, fault_errno = EIO, fault_short, trace_fd = -1, undo_fd = -1;
static atomic_long calls;

static int concerns(const char *path) {
  if (strncmp(path, fault_path, fault_path_length)) return 0;
  if (!fault_skip || !*fault_skip) return 1;
  size_t length = strlen(path), skip = strlen(fault_skip);
  return length < skip || strcmp(path + length - skip, fault_skip);
}

/* snprintf may take locks that the interrupted thread holds. */
static void trace(long number, const struct watched *call, const char *path, int fails) {
  char line[PATH_MAX + 64], digits[24];
  size_t at = 0;
  int n = 0;
  do digits[n++] = (char)('0' + number % 10);
  while (number /= 10);
  while (n) line[at++] = digits[--n];
  const char *parts[] = {" ", call->kind == SYNC ? "sync" : "write", " ", call->name, " ", path, fails ? " FAILS\n" : "\n"};
  for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
    for (const char *c = parts[i]; *c && at < sizeof line; c++) line[at++] = *c;
  call3(SYS_write, trace_fd, (long)line, (long)at);
}

static int fails(const struct watched *call, const ucontext_t *context) {
  char path[PATH_MAX];
  if (!(fault_kinds & call->kind)) return 0;
  path_of(call, context, path, sizeof path);
  if (!concerns(path)) return 0;
  long number = atomic_fetch_add(&calls, 1) + 1;
  int does = fault_at && (fault_stays ? number >= fault_at : number == fault_at);
  if (trace_fd >= 0) trace(number, call, path, does);
  return does;
}

/* --- what a power cut would undo ------------------------------------------------------------------------------- */

/* One record of the undo file; `path_bytes` of path and then `bytes` of old content follow. */
struct undo {
  uint32_t kind; /* 'W' about to write, 'S' synced up to `sequence`, 'F' forget the path, 'R' renamed: path, newline, path */
  uint32_t path_bytes;
  uint64_t sequence, offset, old_size, bytes;
};

static atomic_ulong undo_sequence;
static atomic_flag undo_busy = ATOMIC_FLAG_INIT;

static void undo_lock(void) {
  while (atomic_flag_test_and_set(&undo_busy)) call3(SYS_sched_yield, 0, 0, 0);
}
static void undo_unlock(void) { atomic_flag_clear(&undo_busy); }

static void undo_append(struct undo record, const char *path, int fd) {
  char block[65536];
  record.path_bytes = (uint32_t)strlen(path);
  call3(SYS_write, undo_fd, (long)&record, sizeof record);
  call3(SYS_write, undo_fd, (long)path, record.path_bytes);
  for (uint64_t done = 0; done < record.bytes;) {
    uint64_t want = record.bytes - done < sizeof block ? record.bytes - done : sizeof block;
    long got = shim_call(SYS_pread64, fd, (long)block, (long)want, (long)(record.offset + done), 0, 0);
    if (got <= 0) {
      memset(block, 0, want);
      got = (long)want;
    }
    call3(SYS_write, undo_fd, (long)block, got);
    done += (uint64_t)got;
  }
}

static uint64_t length_of(const struct iovec *parts, long count) {
  uint64_t bytes = 0;
  for (long i = 0; i < count; i++) bytes += parts[i].iov_len;
  return bytes;
}

/* Notes what a write, a cut or a growth of `fd` is about to replace. */
static void undo_before(long number, const long *a, const char *path) {
  int fd = (int)a[0];
  uint64_t bytes = 0, offset = 0;
  long position = call3(SYS_lseek, fd, 0, SEEK_CUR), size = call3(SYS_lseek, fd, 0, SEEK_END);
  call3(SYS_lseek, fd, position, SEEK_SET);
  int appends = call3(SYS_fcntl, fd, F_GETFL, 0) & O_APPEND;
  switch (number) {
    case SYS_write: bytes = (uint64_t)a[2]; break;
    case SYS_pwrite64: bytes = (uint64_t)a[2], offset = (uint64_t)a[3]; break;
    case SYS_writev: bytes = length_of((const struct iovec *)a[1], a[2]); break;
    case SYS_pwritev: case SYS_pwritev2: bytes = length_of((const struct iovec *)a[1], a[2]), offset = (uint64_t)a[3]; break;
    case SYS_ftruncate: offset = (uint64_t)a[1], bytes = size > a[1] ? (uint64_t)(size - a[1]) : 0; break;
    default: break; /* fallocate: only the size changes */
  }
  if (number == SYS_write || number == SYS_writev) offset = (uint64_t)(appends ? size : position);
  if (offset >= (uint64_t)size) bytes = 0;
  else if (bytes > (uint64_t)size - offset) bytes = (uint64_t)size - offset;
  struct undo record = {.kind = 'W', .sequence = atomic_fetch_add(&undo_sequence, 1) + 1, .offset = offset,
                        .old_size = (uint64_t)size, .bytes = bytes};
  undo_append(record, path, fd);
}

/* Makes the call, with its note: before a write, after a sync or a change of names. */
static long call_with_undo(const struct watched *call, const ucontext_t *context, const long *a) {
  char path[2 * PATH_MAX];
  path_of(call, context, path, PATH_MAX);
  if (!concerns(path)) return shim_call(call->number, a[0], a[1], a[2], a[3], a[4], a[5]);
  if (call->kind == SYNC) {
    uint64_t sequence = atomic_load(&undo_sequence);
    long result = call3(call->number, a[0], 0, 0);
    undo_lock();
    if (result == 0) undo_append((struct undo){.kind = 'S', .sequence = sequence}, path, -1);
    undo_unlock();
    return result;
  }
  undo_lock();
  if (call->place == BY_DESCRIPTOR) undo_before(call->number, a, path);
  else if (call->place == BY_NAME || (call->place == BY_NAME_AT && call->number != SYS_openat))
    undo_append((struct undo){.kind = 'F'}, path, -1);
  else if (call->number == SYS_openat && (a[2] & O_TRUNC)) undo_append((struct undo){.kind = 'F'}, path, -1);
  else if (call->place == BY_SECOND_NAME || call->place == BY_SECOND_NAME_AT) {
    /* Both names are absolute in every program that is tried with this; the first one comes before the second. */
    const char *from = (const char *)a[call->place == BY_SECOND_NAME ? 0 : 1];
    size_t from_bytes = strlen(from), to_bytes = strlen(path);
    if (from_bytes < PATH_MAX) {
      memmove(path + from_bytes + 1, path, to_bytes + 1);
      memcpy(path, from, from_bytes);
      path[from_bytes] = '\n';
      undo_append((struct undo){.kind = 'R'}, path, -1);
    }
  }
  long result = shim_call(call->number, a[0], a[1], a[2], a[3], a[4], a[5]);
  undo_unlock();
  return result;
}

static void on_call(int signal, siginfo_t *info, void *raw_context) {
  (void)signal;
  ucontext_t *context = raw_context;
  long number = info->si_syscall, a[6];
  int saved = errno;
  for (int n = 0; n < 6; n++) a[n] = argument(context, n);
  for (size_t i = 0; i < WATCHED; i++) {
    if (watched[i].number != number) continue;
    if (!fails(&watched[i], context)) {
      if (undo_fd < 0) break;
      set_result(context, call_with_undo(&watched[i], context, a));
      errno = saved;
      return;
    }
    if (fault_short && (number == SYS_write || number == SYS_pwrite64) && a[2] > 1)
      shim_call(number, a[0], a[1], a[2] / 2, a[3], 0, 0);
    set_result(context, -fault_errno);
    errno = saved;
    return;
  }
  set_result(context, shim_call(number, a[0], a[1], a[2], a[3], a[4], a[5]));
  errno = saved;
}

/* The runtime has a SIGSYS handler of its own, for kernels without some call; ours stays. */
static int set_signal_action(int signal, const struct sigaction *action, struct sigaction *old) {
  int (*next)(int, const struct sigaction *, struct sigaction *) = dlsym(RTLD_NEXT, "sigaction");
  return next(signal, action, old);
}

int sigaction(int signal, const struct sigaction *action, struct sigaction *old) {
  return set_signal_action(signal, fault_path && signal == SIGSYS ? 0 : action, old);
}

__attribute__((constructor)) static void configure(void) {
  const char *text;
  fault_path = getenv("FAULT_PATH");
  if (!fault_path) return;
  fault_path_length = strlen(fault_path);
  fault_skip = getenv("FAULT_SKIP");
  if ((text = getenv("FAULT_AT"))) fault_at = atol(text);
  if ((text = getenv("FAULT_KIND")) && !strcmp(text, "write")) fault_kinds = WRITE;
  if ((text = getenv("FAULT_KIND")) && !strcmp(text, "sync")) fault_kinds = SYNC;
  if ((text = getenv("FAULT_MODE"))) fault_stays = strcmp(text, "once") != 0;
  if ((text = getenv("FAULT_ERRNO"))) fault_errno = atoi(text);
  if ((text = getenv("FAULT_SHORT"))) fault_short = atoi(text);
  if ((text = getenv("FAULT_TRACE")))
    trace_fd = (int)syscall(SYS_openat, AT_FDCWD, text, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if ((text = getenv("FAULT_UNDO")))
    undo_fd = (int)syscall(SYS_openat, AT_FDCWD, text, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (!catch_calls(on_call)) abort(); /* a run without faults must not pass for one with */
}
