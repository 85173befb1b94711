#ifndef SANDLOCK_CALLER_H
#define SANDLOCK_CALLER_H

#include <stdint.h>
#include <sys/types.h>

enum { CALLER_EXIT = 1, CALLER_WORKLOAD = 2, CALLER_TIE = 3 };

// What the monitor tells the calling process.
struct caller_message {
  int32_t kind;
  int32_t value; // CALLER_EXIT: exit code; CALLER_WORKLOAD: pid; CALLER_TIE: pid
};

// What the calling process tells the monitor: a child of its has ended.
struct caller_exit {
  int32_t pid;
  int32_t status; // as wait4(2) gives it
};

// caller_tie makes a process that kills one child of this process when another one, the monitor, has ended. Neither may have been reaped.
void caller_tie(pid_t monitor, pid_t child);

// caller_seal seals this process, see seal.h, and keeps the socket (-1 for none) through it. It returns as seal does.
int caller_seal(int socket);

// caller_enter executes the program again in the user namespace that the descriptor stands for, and keeps the socket (-1 for none) through it; with
// mounts not 0 it has a mount namespace of its own there. It returns, with errno set, only if it cannot.
void caller_enter(int socket, int user, int mounts);

// The monitor's end of the socket to the calling process; -1 in a process that was not split.
extern int caller_socket;

#endif
