// The child's side of a launch. Between clone3 and execve there is one thread with a copy of a Go process's memory: nothing
// here may allocate, take a lock, or touch thread-local storage (errno included), so every call is a bare instruction.
#define _GNU_SOURCE
#include "walk.h"

#include <errno.h>
#include <linux/close_range.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/syscall.h>

static inline long call6(long number, long a, long b, long c, long d, long e, long f) {
#if defined(__x86_64__)
  long result;
  register long r10 __asm__("r10") = d;
  register long r8 __asm__("r8") = e;
  register long r9 __asm__("r9") = f;
  __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9) : "rcx", "r11", "memory");
  return result;
#elif defined(__aarch64__)
  register long x8 __asm__("x8") = number;
  register long x0 __asm__("x0") = a;
  register long x1 __asm__("x1") = b;
  register long x2 __asm__("x2") = c;
  register long x3 __asm__("x3") = d;
  register long x4 __asm__("x4") = e;
  register long x5 __asm__("x5") = f;
  __asm__ volatile("svc #0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory", "cc");
  return x0;
#else
#error "oci/launch knows amd64 and arm64"
#endif
}

#define call(number, ...) call_pad(number, __VA_ARGS__, 0, 0, 0, 0, 0, 0)
#define call_pad(number, a, b, c, d, e, f, ...) call6(number, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))

// The kernel's own struct sigaction, which is not libc's.
struct kernel_sigaction {
  void *handler;
  unsigned long flags;
#if defined(__x86_64__)
  void *restorer;
#endif
  uint64_t mask;
};

enum { SIGNALS = 64, SIGSET_SIZE = 8 };

static void leave(int status) {
  for (;;) {
    call(SYS_exit_group, status);
    // A filter may refuse even exit_group; then die of an illegal instruction instead.
    __builtin_trap();
  }
}

// Dispositions set to "ignore" outlive execve: a workload must not inherit those of whoever called the runtime.
static void default_signals(void) {
  struct kernel_sigaction action = {.handler = SIG_DFL};
  for (int signal = 1; signal <= SIGNALS; signal++) call(SYS_rt_sigaction, signal, &action, 0, SIGSET_SIZE);
}

static long hop(struct walk_program *program) {
  // With CLONE_PARENT the kernel takes over this process's own exit signal. Not clone3: a filter that is in force already may refuse it, because it cannot
  // see its flags.
  long pid = call(SYS_clone, CLONE_PARENT);
  if (pid > 0) {
    // The successor learns nothing from this; the parent reads it once the successor has reported itself.
    program->hopped = (int32_t)pid;
    char byte = 0;
    call(SYS_write, program->sync, &byte, 1);
    leave(0);
  }
  if (pid == 0) {
    // The hopper announces the new pid before anything else is said on the socket: it may not have run yet.
    char byte;
    if (call(SYS_read, program->sync, &byte, 1) != 1) leave(1);
  }
  return pid;
}

static long sync_point(struct walk_program *program, uint64_t number) {
  char byte = (char)number;
  long written = call(SYS_write, program->sync, &byte, 1);
  if (written != 1) leave(1);
  // No answer means that the parent is gone: whoever would have confined or supervised this child no longer can.
  if (call(SYS_read, program->sync, &byte, 1) != 1) leave(1);
  return 0;
}

// The kernel fails a lookup that is to stay within a root, and follows a "..", with EAGAIN when something is renamed or mounted meanwhile,
// anywhere on the machine. Renames that hit the same lookup a hundred times are an attack.
enum { LOOKUPS = 100 };

static long lookup(long number, const uint64_t *a) {
  long result = -EAGAIN;
  for (int i = 0; i < LOOKUPS && result == -EAGAIN; i++) result = call(number, a[0], a[1], a[2], a[3]);
  return result;
}

static long run(struct walk_program *program, const struct walk_step *step, int64_t *slots) {
  uint64_t a[WALK_ARGS];
  for (int i = 0; i < WALK_ARGS; i++) a[i] = step->from_slot & (1u << i) ? (uint64_t)slots[step->args[i]] : step->args[i];
  switch (step->operation) {
  case WALK_CALL:
    return call6((long)step->number, (long)a[0], (long)a[1], (long)a[2], (long)a[3], (long)a[4], (long)a[5]);
  case WALK_LOOKUP:
    return lookup((long)step->number, a);
  case WALK_SYNC:
    return sync_point(program, step->number);
  case WALK_HOP:
    return hop(program);
  case WALK_EXPECT:
    return (((const unsigned char *)a[0])[a[3]] & a[2]) == a[1] ? 0 : -(long)step->number;
  case WALK_REACHED:
    return (int64_t)a[0] >= 0 ? 0 : -(long)step->number;
  default:
    return -(long)step->number;
  }
}

static int takes(const struct walk_step *step, int32_t error) {
  if (step->on_error < 0) return 0;
  if (step->errnos[0] == 0) return 1;
  for (int i = 0; i < WALK_ERRNOS; i++)
    if (step->errnos[i] == error) return 1;
  return 0;
}

static void walk(struct walk_program *program) {
  const uint32_t *ranges = (const uint32_t *)program->ranges;
  const struct walk_step *steps = (const struct walk_step *)program->steps;
  int64_t *slots = (int64_t *)program->slots;

  default_signals();
  for (uint32_t i = 0; i < program->ranges_count; i++) call(SYS_close_range, ranges[2 * i], ranges[2 * i + 1], 0);

  for (uint32_t i = 0; i < program->steps_count;) {
    const struct walk_step *step = &steps[i];
    program->step = (int32_t)i;
    long result = run(program, step, slots);
    if (result < 0 && result >= -4095) {
      if (!takes(step, (int32_t)-result)) {
        program->error = (int32_t)-result;
        leave(1);
      }
      i = (uint32_t)step->on_error;
      continue;
    }
    if (step->result >= 0) slots[step->result] = result;
    i = step->on_success >= 0 ? (uint32_t)step->on_success : i + 1;
  }
  leave(0);
}

int walk_start(struct walk_program *program, const struct walk_clone *how, int *pidfd) {
  uint64_t all = ~0ull, before;
  struct clone_args args = {.flags = how->flags | CLONE_PIDFD, .pidfd = (uint64_t)pidfd};
  if (!(how->flags & CLONE_PARENT)) args.exit_signal = SIGCHLD;
  if (how->cgroup >= 0) {
    args.flags |= CLONE_INTO_CGROUP;
    args.cgroup = (uint64_t)how->cgroup;
  }
  // A signal handler of the Go runtime must not run in the child, so nothing may be delivered until it has none left. The child
  // starts with everything blocked; its program unblocks.
  call(SYS_rt_sigprocmask, SIG_SETMASK, &all, &before, SIGSET_SIZE);
  long result = 0;
  if (how->pid_namespace >= 0) result = call(SYS_setns, how->pid_namespace, CLONE_NEWPID);
  if (result == 0) {
    // Otherwise the kernel would copy the page tables, and this process would fault once more for every page of it that it writes to afterwards. Without the memory the
    // child is right, with it only slower, so that no error matters.
    call(SYS_madvise, how->heap, how->heap_size, MADV_DONTFORK);
    result = call(SYS_clone3, &args, sizeof args);
    if (result == 0) walk(program);
    call(SYS_madvise, how->heap, how->heap_size, MADV_DOFORK);
    if (how->pid_namespace >= 0) {
      // Only children are affected by it, and only this thread's. An ordinary user's process, which is in a user namespace that does not own its PID namespace, may not go back.
      // The child is there, and the thread, which Go makes no other one from (see Place), has no further one before it ends.
      call(SYS_setns, how->own_pid_namespace, CLONE_NEWPID);
    }
  }
  call(SYS_rt_sigprocmask, SIG_SETMASK, &before, 0, SIGSET_SIZE);
  return (int)result;
}
