/*
 * Disks of simulated machines, kept in real directories: a library that a simulator loads with dlopen. It notes what
 * becomes of the files below each disk's directory, so that a power cut can be played (durable-files.ts), and lets calls
 * fail for want of space or with an I/O error. Calls are caught by trap.h, those of the calling thread alone.
 *
 * A note is made once a call has succeeded:
 *
 *     W  written: offset and bytes        C  created, empty       S  a file, or a directory's names, synced
 *     T  cut or grown to `offset`         U  removed              X  a sync failed
 *                                         R  renamed: path, newline, new path
 *
 * -shm files are left out: they hold nothing that lasts.
 */
#include "../e2e/trap.h"

#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define DISKS 16

static struct disk {
  char prefix[512]; /* ends with a slash; empty: none */
  size_t prefix_bytes;
  long fails_in;   /* calls up to and with the first that fails; 0: none does */
  int failed, fills; /* whether a call has failed so, and calls that found no space */
  int64_t space;   /* bytes that files may still grow by; below 0: any */
} disks[DISKS];

/* --- notes ------------------------------------------------------------------------------------------------------ */

struct note {
  uint32_t kind, disk, path_bytes, data_bytes;
  uint64_t offset;
};

static char *notes;
static size_t notes_bytes, notes_size;

static void *room(size_t bytes) {
  if (notes_bytes + bytes > notes_size) {
    size_t size = notes_size ? notes_size : 1 << 20;
    while (size < notes_bytes + bytes) size *= 2;
    long grown = notes ? shim_call(SYS_mremap, (long)notes, (long)notes_size, (long)size, MREMAP_MAYMOVE, 0, 0)
                       : shim_call(SYS_mmap, 0, (long)size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (grown < 0 && grown > -4096) __builtin_trap();
    notes = (char *)grown;
    notes_size = size;
  }
  char *at = notes + notes_bytes;
  notes_bytes += bytes;
  return at;
}

static void note(struct note head, const char *path, const struct iovec *parts, size_t data_bytes) {
  head.path_bytes = (uint32_t)strlen(path);
  head.data_bytes = (uint32_t)data_bytes;
  char *at = room(sizeof head + head.path_bytes + data_bytes);
  memcpy(at, &head, sizeof head);
  memcpy(at + sizeof head, path, head.path_bytes);
  at += sizeof head + head.path_bytes;
  for (size_t n = 0; data_bytes; n++) {
    size_t some = parts[n].iov_len < data_bytes ? parts[n].iov_len : data_bytes;
    memcpy(at, parts[n].iov_base, some);
    at += some;
    data_bytes -= some;
  }
}

/* --- one call ----------------------------------------------------------------------------------------------------- */

static int64_t size_of(const char *path) {
  struct stat found;
  return shim_call(SYS_newfstatat, AT_FDCWD, (long)path, (long)&found, 0, 0, 0) ? -1 : (int64_t)found.st_size;
}

static int ends_with(const char *text, const char *end) {
  size_t length = strlen(text), bytes = strlen(end);
  return length >= bytes && !strcmp(text + length - bytes, end);
}

static struct disk *disk_of(const char *path) {
  for (struct disk *disk = disks; disk < disks + DISKS; disk++)
    if (disk->prefix_bytes && !strncmp(path, disk->prefix, disk->prefix_bytes)) return disk;
  /* the directory itself, which is synced for its names */
  size_t length = strlen(path);
  for (struct disk *disk = disks; disk < disks + DISKS; disk++)
    if (disk->prefix_bytes == length + 1 && !strncmp(path, disk->prefix, length)) return disk;
  return 0;
}

/* Makes the call unless it is to fail. Half of what a failing write writes may be there: `torn`. */
static long limited(struct disk *disk, const struct watched *call, const long *a, int64_t growth, int *torn) {
  *torn = 0;
  if (disk->failed || (disk->fails_in && --disk->fails_in == 0)) {
    if (!disk->failed && (call->number == SYS_write || call->number == SYS_pwrite64) && a[2] > 1) {
      *torn = 1;
      shim_call(call->number, a[0], a[1], a[2] / 2, a[3], 0, 0);
    }
    disk->failed = 1;
    return -EIO;
  }
  if (disk->space >= 0 && growth > disk->space) {
    disk->fills++;
    return -ENOSPC;
  }
  long result = shim_call(call->number, a[0], a[1], a[2], a[3], a[4], a[5]);
  if (disk->space >= 0 && result >= 0) disk->space -= growth;
  return result;
}

static long on_descriptor(struct disk *disk, const struct watched *call, const long *a, const char *path) {
  const char *name = path + disk->prefix_bytes;
  struct note head = {.disk = (uint32_t)(disk - disks)};
  struct iovec one = {(void *)a[1], (size_t)a[2]};
  const struct iovec *parts = &one;
  struct stat found;
  int torn;
  if (call->kind == SYNC) {
    long result = limited(disk, call, a, 0, &torn);
    head.kind = result ? 'X' : 'S';
    note(head, strlen(path) < disk->prefix_bytes ? "" : name, 0, 0);
    return result;
  }
  if (shim_call(SYS_fstat, a[0], (long)&found, 0, 0, 0, 0)) return -EIO;
  if (call->number == SYS_ftruncate || call->number == SYS_fallocate) {
    int64_t wanted = call->number == SYS_ftruncate ? a[1] : a[2] + a[3] > found.st_size ? a[2] + a[3] : found.st_size;
    long result = limited(disk, call, a, wanted < found.st_size ? wanted - found.st_size : 0, &torn);
    head.kind = 'T';
    head.offset = (uint64_t)wanted;
    if (!result) note(head, name, 0, 0);
    return result;
  }
  size_t bytes = one.iov_len;
  if (call->number != SYS_write && call->number != SYS_pwrite64) {
    parts = (const struct iovec *)a[1];
    bytes = 0;
    for (long n = 0; n < a[2]; n++) bytes += parts[n].iov_len;
  }
  if (call->number != SYS_write && call->number != SYS_writev) head.offset = (uint64_t)a[3];
  else if (shim_call(SYS_fcntl, a[0], F_GETFL, 0, 0, 0, 0) & O_APPEND) head.offset = (uint64_t)found.st_size;
  else head.offset = (uint64_t)shim_call(SYS_lseek, a[0], 0, SEEK_CUR, 0, 0, 0);
  int64_t end = (int64_t)(head.offset + bytes);
  long result = limited(disk, call, a, end > found.st_size ? end - found.st_size : 0, &torn);
  head.kind = 'W';
  if (result > 0) note(head, name, parts, (size_t)result);
  else if (torn) note(head, name, parts, bytes / 2);
  return result;
}

static long on_name(struct disk *disk, const struct watched *call, const long *a, const char *path) {
  const char *name = path + disk->prefix_bytes;
  struct note head = {.disk = (uint32_t)(disk - disks)};
  int64_t size = size_of(path);
  int torn;
  if (call->number == SYS_openat) {
    long result = limited(disk, call, a, size > 0 && (a[2] & O_TRUNC) ? -size : 0, &torn);
    if (result < 0 || (size >= 0 && !(a[2] & O_TRUNC))) return result;
    head.kind = size < 0 ? 'C' : 'T';
    note(head, name, 0, 0);
    return result;
  }
  int removes = call->place == BY_NAME ? strcmp(call->name, "unlink") == 0 : call->number == SYS_unlinkat;
  int renames = call->place == BY_SECOND_NAME || call->place == BY_SECOND_NAME_AT;
  long result = limited(disk, call, a, (removes || renames) && size > 0 ? -size : 0, &torn);
  if (result) return result;
  if (removes) {
    head.kind = 'U';
    note(head, name, 0, 0);
  } else if (renames) {
    /* both names are absolute and lie on one disk */
    char both[2 * PATH_MAX];
    head.kind = 'R';
    snprintf(both, sizeof both, "%s\n%s", (const char *)a[call->place == BY_SECOND_NAME ? 0 : 1] + disk->prefix_bytes, name);
    note(head, both, 0, 0);
  }
  return result;
}

static void on_call(int signal, siginfo_t *info, void *raw_context) {
  (void)signal;
  ucontext_t *context = raw_context;
  long number = info->si_syscall, a[6];
  int saved = errno;
  char path[PATH_MAX];
  const struct watched *call = watched;
  for (int n = 0; n < 6; n++) a[n] = argument(context, n);
  while (call->number != number && call < watched + WATCHED - 1) call++;
  path_of(call, context, path, sizeof path);
  struct disk *disk = disk_of(path);
  if (!disk || ends_with(path, "-shm") || ends_with(path, " (deleted)")) set_result(context, shim_call(number, a[0], a[1], a[2], a[3], a[4], a[5]));
  else set_result(context, call->place == BY_DESCRIPTOR ? on_descriptor(disk, call, a, path) : on_name(disk, call, a, path));
  errno = saved;
}

static int set_signal_action(int signal, const struct sigaction *action, struct sigaction *old) {
  return sigaction(signal, action, old);
}

/* --- for the simulator -------------------------------------------------------------------------------------------- */

/* Begins to catch this thread's calls. 0 when it does. */
int shim_begin(void) { return catch_calls(on_call) ? 0 : -1; }

/* What lies below `prefix`, which ends with a slash, is this disk from now on. With an empty one, nothing is. */
void shim_disk(int disk, const char *prefix) {
  memset(&disks[disk], 0, sizeof *disks);
  strncpy(disks[disk].prefix, prefix, sizeof disks->prefix - 1);
  disks[disk].prefix_bytes = strlen(disks[disk].prefix);
  disks[disk].space = -1;
}

/* The call that makes `calls` from now fails, and all after it; 0: none does. */
void shim_fail(int disk, int calls) { disks[disk].fails_in = calls; }

/* Files may grow by so many bytes; below 0: by any. */
void shim_space(int disk, double bytes) { disks[disk].space = (int64_t)bytes; }

int shim_failed(int disk) { return disks[disk].failed; }

int shim_fills(int disk) { return disks[disk].fills; }

double shim_notes(void) { return (double)notes_bytes; }

/* Moves all notes to where there is room for them. */
void shim_take(void *to) {
  memcpy(to, notes, notes_bytes);
  notes_bytes = 0;
}
