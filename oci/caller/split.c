// The split: see doc.go. The calling process stays in this file for the rest of its life.
#define _GNU_SOURCE
#include "caller.h"
#include "seal.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

int caller_socket = -1;

// The global options that take a value as the next argument; a test compares the list with the command's own.
const char *const caller_options_with_value[] = {"root", "log", "log-format", "rootless", "cgroup-manager", "config", "profile", "criu", 0};

static int takes_value(const char *option) {
  if (strchr(option, '=')) return 0;
  while (*option == '-') option++;
  for (const char *const *known = caller_options_with_value; *known; known++)
    if (strcmp(option, *known) == 0) return 1;
  return 0;
}

static const char *verb_of(int argc, char **argv) {
  for (int i = 1; i < argc; i++) {
    if (argv[i][0] != '-') return argv[i];
    if (strcmp(argv[i], "--") == 0) return i + 1 < argc ? argv[i + 1] : "";
    if (takes_value(argv[i])) i++;
  }
  return "";
}

static int code_of(int status) {
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

struct calling {
  pid_t monitor, workload;
  int socket;
  int workload_status; // as wait4(2) gives it, -1 while it runs
  int ended_by;        // the signal that has ended the creation, or 0
};

// hear takes what the monitor has to say, all of it.
static void hear(struct calling *c) {
  while (c->socket >= 0) {
    struct caller_message message;
    ssize_t n = recv(c->socket, &message, sizeof message, MSG_DONTWAIT);
    if (n != sizeof message) {
      // The monitor has closed its end or is dead; in both cases its exit tells the rest.
      if (n == 0) c->socket = -1;
      return;
    }
    if (message.kind == CALLER_EXIT) _exit(message.value);
    if (message.kind == CALLER_WORKLOAD) c->workload = message.value;
    if (message.kind == CALLER_TIE) caller_tie(c->monitor, message.value);
  }
}

static void reap(struct calling *c) {
  siginfo_t news;
  while (news.si_pid = 0, waitid(P_ALL, 0, &news, WEXITED | WNOHANG | WNOWAIT) == 0 && news.si_pid > 0) {
    // What the monitor said last may still be unread. It is heard while whoever has ended still has its pid.
    hear(c);
    int status;
    pid_t pid = waitpid(news.si_pid, &status, 0);
    if (pid == c->monitor) {
      if (c->ended_by) _exit(128 + c->ended_by);
      // What went wrong in the end is told before how the workload did.
      _exit(c->workload_status < 0 || code_of(status) != 0 ? code_of(status) : code_of(c->workload_status));
    }
    if (pid == c->workload) c->workload_status = status;
    struct caller_exit ended = {pid, status};
    // It fails only when the monitor is gone, which the next turn sees.
    if (c->socket >= 0) (void)!send(c->socket, &ended, sizeof ended, MSG_NOSIGNAL | MSG_DONTWAIT);
  }
}

// pass_on gives a signal to whom it is meant for. Nobody reaps the children but this process, so their pids are still theirs.
static void pass_on(struct calling *c, int signal) {
  if (signal == SIGWINCH) {
    kill(c->monitor, signal); // it relays the terminal
    return;
  }
  if (c->workload > 0) {
    if (c->workload_status < 0) kill(c->workload, signal);
    return;
  }
  if (signal != SIGTERM && signal != SIGINT && signal != SIGHUP && signal != SIGQUIT) return;
  // The container is being made: the monitor takes it back when its caller has gone.
  c->ended_by = signal;
  shutdown(c->socket, SHUT_RDWR);
}

static void __attribute__((noreturn)) serve(struct calling *c, const sigset_t *wanted) {
  int signals = signalfd(-1, wanted, SFD_CLOEXEC);
  if (signals < 0) {
    perror("sandlock-runtime: signalfd");
    kill(c->monitor, SIGKILL);
    _exit(1);
  }
  for (;;) {
    struct pollfd files[] = {{signals, POLLIN, 0}, {c->socket, POLLIN, 0}};
    if (poll(files, 2, -1) < 0) continue;
    if (files[1].revents) hear(c);
    struct signalfd_siginfo got;
    if (!(files[0].revents & POLLIN) || read(signals, &got, sizeof got) != sizeof got) continue;
    if (got.ssi_signo == SIGCHLD)
      reap(c);
    else
      pass_on(c, (int)got.ssi_signo);
  }
}

static void split(void) {
  int ends[2];
  sigset_t wanted, before;
  // Job control stays with the terminal, and faults of this process are its own.
  static const int kept[] = {SIGTSTP, SIGTTIN, SIGTTOU, SIGCONT, SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGABRT, SIGPIPE, SIGURG};
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0) {
    perror("sandlock-runtime: socketpair");
    _exit(1);
  }
  // Before there is a child: a disposition of SIG_DFL discards a SIGCHLD that is pending, and a quick child's would be lost (sigaction(2)).
  signal(SIGCHLD, SIG_DFL);
  sigfillset(&wanted);
  for (unsigned i = 0; i < sizeof kept / sizeof kept[0]; i++) sigdelset(&wanted, kept[i]);
  sigprocmask(SIG_BLOCK, &wanted, &before);
  pid_t pid = fork();
  if (pid < 0) {
    perror("sandlock-runtime: fork");
    _exit(1);
  }
  if (pid == 0) {
    close(ends[0]);
    caller_socket = ends[1];
    // A session of its own: the terminal's signals reach the monitor once, passed on by the caller.
    setsid();
    sigprocmask(SIG_SETMASK, &before, 0);
    return;
  }
  close(ends[1]);
  struct calling c = {.monitor = pid, .workload = -1, .socket = ends[0], .workload_status = -1};
  serve(&c, &wanted);
}

// fill_standard gives the standard streams that the caller has closed something to stand for. Otherwise the sockets and files that are
// opened next would get their numbers, and the workload would inherit them as its standard streams.
static void fill_standard(void) {
  for (int fd = 0; fd <= 2; fd++) {
    if (fcntl(fd, F_GETFD) >= 0) continue;
    // The lowest free number is fd.
    if (open("/dev/null", O_RDWR) != fd) {
      perror("sandlock-runtime: /dev/null");
      _exit(1);
    }
  }
}

static char **arguments;

// In a process that was split and sealed afterwards: the number of the socket to the calling process.
static const char socket_variable[] = "_SANDLOCK_CALLER";

// keep has the socket live through execve.
static int keep(int socket) {
  char number[12];
  if (socket < 0) return 0;
  snprintf(number, sizeof number, "%d", socket);
  if (setenv(socket_variable, number, 1) < 0) return -1;
  return fcntl(socket, F_SETFD, 0);
}

// drop undoes keep where there has been no execve.
static void drop(int socket) {
  int error = errno;
  unsetenv(socket_variable);
  if (socket >= 0) fcntl(socket, F_SETFD, FD_CLOEXEC);
  errno = error;
}

int caller_seal(int socket) {
  int result = keep(socket);
  if (result == 0) result = seal(arguments, environ);
  drop(socket);
  return result;
}

// What a process that executes itself again is to do first: see caller_enter.
static const char enter_variable[] = "_SANDLOCK_ENTER";

void caller_enter(int socket, int user, int mounts) {
  char text[32];
  snprintf(text, sizeof text, "%d %d", user, mounts);
  if (keep(socket) == 0 && setenv(enter_variable, text, 1) == 0 && fcntl(user, F_SETFD, 0) == 0) execute_again(arguments, environ);
  int error = errno;
  unsetenv(enter_variable);
  errno = error;
  drop(socket);
}

static void __attribute__((noreturn)) fail(const char *what) {
  fprintf(stderr, "sandlock-runtime: entering a user namespace: %s: %s\n", what, strerror(errno));
  _exit(1);
}

// ambient gives this process's capabilities to the programs it executes, or takes them away from them again.
static void ambient(int on) {
  struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
  struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];
  if (syscall(SYS_capget, &header, data) < 0) fail("capget");
  for (int i = 0; i < _LINUX_CAPABILITY_U32S_3; i++) data[i].inheritable = on ? data[i].permitted : 0;
  // What is not inheritable is not ambient, either.
  if (syscall(SYS_capset, &header, data) < 0) fail("capset");
  for (unsigned long capability = 0; on && prctl(PR_CAPBSET_READ, capability) >= 0; capability++)
    if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability, 0, 0) < 0) fail("prctl(PR_CAP_AMBIENT_RAISE)");
}

// enter is what caller_enter has asked for, in a process that it has executed. Setns gives capabilities, but the process's memory still belongs to the user
// namespace that it was executed in, and with it the right to look into the children. So the program is executed once more.
static void enter(void) {
  const char *text = getenv(enter_variable);
  int user, mounts;
  if (!text || !executed_by_descriptor()) return;
  if (sscanf(text, "%d %d", &user, &mounts) != 2) {
    // The second time.
    unsetenv(enter_variable);
    ambient(0);
    return;
  }
  if (setns(user, CLONE_NEWUSER) < 0) fail("setns");
  close(user);
  if (mounts && unshare(CLONE_NEWNS) < 0) fail("unshare(CLONE_NEWNS)");
  ambient(1);
  if (setenv(enter_variable, "entered", 1) < 0) fail("setenv");
  execute_again(arguments, environ);
  fail("execveat");
}

// resume takes up what a process was before it was sealed. It returns 0 where there is nothing to take up.
static int resume(void) {
  const char *number = getenv(socket_variable);
  if (!number || !executed_by_descriptor()) return 0;
  caller_socket = atoi(number);
  fcntl(caller_socket, F_SETFD, FD_CLOEXEC);
  unsetenv(socket_variable);
  return 1;
}

__attribute__((constructor)) static void before_main(int argc, char **argv, char **environment) {
  const char *verb = verb_of(argc, argv);
  int stays = strcmp(verb, "create") == 0 || strcmp(verb, "run") == 0;
  int joins = strcmp(verb, "exec") == 0;
  if (!stays && !joins) return;
  arguments = argv;
  fill_standard();
  enter();
  if (joins && seal(argv, environment) < 0) {
    fprintf(stderr, "sandlock-runtime: sealing the executable: %s\n", strerror(errno));
    _exit(1);
  }
  // Whoever shares a PID namespace with this process or its children must not be able to look into them.
  prctl(PR_SET_DUMPABLE, 0);
  if (stays && !resume()) split();
}
