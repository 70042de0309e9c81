/*
 * Catches the system calls of a process that change files, from wherever they are made: replacing the functions of libc
 * would not be enough, since the runtime makes some of these calls without libc. So a seccomp filter sends every such
 * call to a SIGSYS handler, which whoever includes this gives, and which makes the call itself or refuses it. The filter
 * lets calls pass that come from here.
 *
 * Caught are the calls through which a process can lose data: writing, growing and cutting files, creating, renaming and
 * removing them ("write"), and making them durable ("sync").
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <ucontext.h>
#include <unistd.h>

/* --- the machine's part: a system call from a known place, and the registers of one that was caught ------------- */

#if defined(__x86_64__)
#define AUDIT_ARCHITECTURE AUDIT_ARCH_X86_64
__asm__(".text\n.globl shim_call\n.hidden shim_call\n.type shim_call, @function\nshim_call:\n"
        "mov %rdi, %rax\nmov %rsi, %rdi\nmov %rdx, %rsi\nmov %rcx, %rdx\nmov %r8, %r10\nmov %r9, %r8\n"
        "mov 8(%rsp), %r9\nsyscall\n.globl shim_call_after\n.hidden shim_call_after\nshim_call_after:\nret\n");
static long argument(const ucontext_t *context, int n) {
  static const int registers[] = {REG_RDI, REG_RSI, REG_RDX, REG_R10, REG_R8, REG_R9};
  return context->uc_mcontext.gregs[registers[n]];
}
static void set_result(ucontext_t *context, long result) { context->uc_mcontext.gregs[REG_RAX] = result; }
#elif defined(__aarch64__)
#define AUDIT_ARCHITECTURE AUDIT_ARCH_AARCH64
__asm__(".text\n.globl shim_call\n.hidden shim_call\n.type shim_call, %function\nshim_call:\n"
        "mov x8, x0\nmov x0, x1\nmov x1, x2\nmov x2, x3\nmov x3, x4\nmov x4, x5\nmov x5, x6\n"
        "svc #0\n.globl shim_call_after\n.hidden shim_call_after\nshim_call_after:\nret\n");
static long argument(const ucontext_t *context, int n) { return (long)context->uc_mcontext.regs[n]; }
static void set_result(ucontext_t *context, long result) { context->uc_mcontext.regs[0] = (unsigned long)result; }
#else
#error "no system calls for this machine"
#endif

extern long shim_call(long number, long a, long b, long c, long d, long e, long f) __attribute__((visibility("hidden")));
extern const char shim_call_after[] __attribute__((visibility("hidden")));

/* --- what is caught -------------------------------------------------------------------------------------------- */

enum kind { WRITE = 1, SYNC = 2 };
/* Where the path of a call is found: behind the file descriptor, or given (argument numbers of directory and name). */
enum place { BY_DESCRIPTOR, BY_NAME, BY_NAME_AT, BY_SECOND_NAME, BY_SECOND_NAME_AT };

static const struct watched {
  int number;
  enum kind kind;
  enum place place;
  const char *name;
} watched[] = {
    {SYS_write, WRITE, BY_DESCRIPTOR, "write"},
    {SYS_pwrite64, WRITE, BY_DESCRIPTOR, "pwrite"},
    {SYS_writev, WRITE, BY_DESCRIPTOR, "writev"},
    {SYS_pwritev, WRITE, BY_DESCRIPTOR, "pwritev"},
    {SYS_pwritev2, WRITE, BY_DESCRIPTOR, "pwritev2"},
    {SYS_ftruncate, WRITE, BY_DESCRIPTOR, "ftruncate"},
    {SYS_fallocate, WRITE, BY_DESCRIPTOR, "fallocate"},
    {SYS_openat, WRITE, BY_NAME_AT, "open"}, /* for creating or cutting only: the filter looks at the flags */
    {SYS_mkdirat, WRITE, BY_NAME_AT, "mkdir"},
    {SYS_unlinkat, WRITE, BY_NAME_AT, "unlink"},
    {SYS_renameat, WRITE, BY_SECOND_NAME_AT, "rename"},
    {SYS_renameat2, WRITE, BY_SECOND_NAME_AT, "rename"},
    {SYS_fsync, SYNC, BY_DESCRIPTOR, "fsync"},
    {SYS_fdatasync, SYNC, BY_DESCRIPTOR, "fdatasync"},
#ifdef SYS_unlink
    {SYS_mkdir, WRITE, BY_NAME, "mkdir"},
    {SYS_rename, WRITE, BY_SECOND_NAME, "rename"},
    {SYS_unlink, WRITE, BY_NAME, "unlink"},
#endif
};
#define WATCHED (sizeof watched / sizeof *watched)

static long call3(long number, long a, long b, long c) { return shim_call(number, a, b, c, 0, 0, 0); }

/* The absolute path that a call is about, or an empty string. */
static void path_of(const struct watched *call, const ucontext_t *context, char *path, size_t size) {
  char link[32] = "/proc/self/fd/";
  path[0] = 0;
  if (call->place == BY_DESCRIPTOR) {
    unsigned descriptor = (unsigned)argument(context, 0);
    char digits[12];
    int n = 0, at = (int)strlen(link);
    do digits[n++] = (char)('0' + descriptor % 10);
    while (descriptor /= 10);
    while (n) link[at++] = digits[--n];
    link[at] = 0;
    long length = shim_call(SYS_readlinkat, AT_FDCWD, (long)link, (long)path, (long)size - 1, 0, 0);
    path[length < 0 ? 0 : length] = 0;
    return;
  }
  static const int name_argument[] = {[BY_NAME] = 0, [BY_NAME_AT] = 1, [BY_SECOND_NAME] = 1, [BY_SECOND_NAME_AT] = 3};
  const char *name = (const char *)argument(context, name_argument[call->place]);
  size_t length = 0;
  if (name[0] != '/' && call3(SYS_getcwd, (long)path, (long)size, 0) > 0) {
    length = strlen(path);
    path[length++] = '/';
  }
  for (; *name && length < size - 1; name++) path[length++] = *name;
  path[length] = 0;
}

/* --- the filter ------------------------------------------------------------------------------------------------ */

#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define LOW(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define HIGH(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field) + 4)
#define RETURN(value) BPF_STMT(BPF_RET | BPF_K, (value))
#define EQUAL(value, yes, no) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)(value), (yes), (no))

/* As sigaction: a library that replaces that one has this call the next. */
static int set_signal_action(int signal, const struct sigaction *action, struct sigaction *old);

/* Catches calls of this thread, and of those that it starts, from now on. False when the kernel does not let it. */
static int catch_calls(void (*on_call)(int, siginfo_t *, void *)) {
  uint64_t own = (uint64_t)(uintptr_t)shim_call_after;
  struct sock_filter program[16 + 2 * WATCHED];
  size_t n = 0;
  struct sock_filter head[] = {
      LOAD(arch), EQUAL(AUDIT_ARCHITECTURE, 1, 0), RETURN(SECCOMP_RET_ALLOW),
      /* our own call: the instruction pointer stands behind the one instruction in shim_call */
      HIGH(instruction_pointer), EQUAL(own >> 32, 0, 3), LOW(instruction_pointer), EQUAL(own, 0, 1),
      RETURN(SECCOMP_RET_ALLOW),
      LOAD(nr), EQUAL(SYS_openat, 0, 4),
      LOW(args[2]), BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, O_CREAT | O_TRUNC, 0, 1), RETURN(SECCOMP_RET_TRAP),
      RETURN(SECCOMP_RET_ALLOW),
  };
  for (size_t i = 0; i < sizeof head / sizeof *head; i++) program[n++] = head[i];
  for (size_t i = 0; i < WATCHED; i++) {
    if (watched[i].number == SYS_openat) continue;
    program[n++] = (struct sock_filter)EQUAL(watched[i].number, 0, 1);
    program[n++] = (struct sock_filter)RETURN(SECCOMP_RET_TRAP);
  }
  program[n++] = (struct sock_filter)RETURN(SECCOMP_RET_ALLOW);
  struct sock_fprog filter = {.len = (unsigned short)n, .filter = program};
  struct sigaction action = {.sa_sigaction = on_call, .sa_flags = SA_SIGINFO | SA_NODEFER | SA_RESTART};
  return !set_signal_action(SIGSYS, &action, 0) && !prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) &&
         !prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter);
}
