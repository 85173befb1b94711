#ifndef SANDLOCK_MONITOR_IDLE_H
#define SANDLOCK_MONITOR_IDLE_H

#include <stdint.h>

struct idle_range { uintptr_t start, end; };

// idle_times are in milliseconds.
struct idle_times {
  int quiet; // without activity until the first look
  int calm;  // from that to the second: timers of what went on have ended
  int again; // from that to the third, and so on
};

// idle_wait blocks until the process that pidfd refers to has ended, and returns 0. At each look it lets go of the pages of ranges, which must be clean pages of files; the
// looks begin anew whenever something has come over the eventfd activity. At every look but the first it returns 1 instead if this process has had worth page faults or more since
// it was called: then it has been at work, and has memory of its own to give back.
int idle_wait(int pidfd, int activity, const struct idle_range *ranges, int count, struct idle_times times, long worth);

#endif
