// The tie: see doc.go. The process that is made here stays in this file for the rest of its life, which is the container's.
#define _GNU_SOURCE
#include "caller.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

// Where the watcher has its two descriptors; it has no others.
enum { MONITOR = 0, CHILD = 1, OTHERS = 2 };

static void __attribute__((noreturn)) watch(int monitor, int child) {
  sigset_t all;
  sigfillset(&all);
  sigprocmask(SIG_SETMASK, &all, 0);
  setsid();
  prctl(PR_SET_NAME, "sandlock-tie");
  // Neither of them is 0 or 1: those were filled when the process began.
  dup2(monitor, MONITOR);
  dup2(child, CHILD);
  syscall(SYS_close_range, OTHERS, ~0U, 0);
  if (chdir("/") < 0) _exit(1);
  struct pollfd files[] = {{MONITOR, POLLIN, 0}, {CHILD, POLLIN, 0}};
  while (poll(files, 2, -1) < 0) continue;
  // A signal from an ancestor of the child's PID namespace reaches the namespace's init, too.
  if (!files[1].revents) syscall(SYS_pidfd_send_signal, CHILD, SIGKILL, 0, 0);
  _exit(0);
}

void caller_tie(pid_t monitor, pid_t child) {
  // A child that has been reaped is one no more, and its number may be somebody else's.
  siginfo_t info;
  if (waitid(P_PID, (id_t)child, &info, WEXITED | WNOHANG | WNOWAIT) < 0) return;
  int monitor_fd = (int)syscall(SYS_pidfd_open, monitor, 0), child_fd = (int)syscall(SYS_pidfd_open, child, 0);
  pid_t pid = monitor_fd < 0 || child_fd < 0 ? -1 : fork();
  if (pid == 0) watch(monitor_fd, child_fd);
  // Without it the child's trapped calls still fail when the monitor is no more; but what was promised is said to be missing.
  if (pid < 0) perror("sandlock-runtime: tying the container to its monitor");
  if (monitor_fd >= 0) close(monitor_fd);
  if (child_fd >= 0) close(child_fd);
}
