// The program as the child sees it, in one shared mapping that the parent has filled in.
#ifndef SANDLOCK_LAUNCH_WALK_H
#define SANDLOCK_LAUNCH_WALK_H

#include <stdint.h>

enum { WALK_CALL, WALK_LOOKUP, WALK_SYNC, WALK_HOP, WALK_EXPECT, WALK_REACHED, WALK_FAIL };
enum { WALK_ARGS = 6, WALK_ERRNOS = 4 };

struct walk_step {
  uint32_t operation;
  int32_t result;     // slot for the result, -1 for none
  int32_t on_success; // step to go on at, -1 for the next one
  int32_t on_error;   // step to go on at, -1 to fail
  int32_t errnos[WALK_ERRNOS]; // errors that on_error takes, 0 ends the list; an empty list takes all
  uint64_t number;    // system call number, errno, or number of the sync point
  uint64_t args[WALK_ARGS];
  uint32_t from_slot; // bit i: args[i] is a slot, to be replaced by its value
};

struct walk_program {
  uint32_t steps_count;
  uint32_t ranges_count;
  uint64_t steps;   // addresses in this mapping
  uint64_t slots;   // int64_t each
  uint64_t ranges;  // pairs of uint32_t: descriptors to close first
  int32_t sync;     // the child's end of the socket

  // Written by the child, read by the parent.
  volatile int32_t step;   // the step under way
  volatile int32_t error;  // why it failed, 0 while it has not
  volatile int32_t hopped; // pid of the successor made by the last hop, in the hopper's PID namespace
};

struct walk_clone {
  uint64_t flags;   // CLONE_* for clone3, without CLONE_PIDFD
  int pid_namespace; // descriptor of the PID namespace the child is to be born in, or -1
  int own_pid_namespace; // descriptor of the caller's own, to go back to
  int cgroup;       // descriptor of the cgroup v2 directory the child is to be born in, or -1
  uint64_t heap;      // memory of the caller's that the child is to be born without, page by page: it must never look at it
  uint64_t heap_size; // in bytes
};

// walk_start makes the child and returns its pid and, in *pidfd, a descriptor for it; or a negative errno.
// The child never returns from it.
int walk_start(struct walk_program *program, const struct walk_clone *how, int *pidfd);

#endif
