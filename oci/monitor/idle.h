#ifndef SANDLOCK_MONITOR_IDLE_H
#define SANDLOCK_MONITOR_IDLE_H

#include <stdint.h>

struct idle_range { uintptr_t start, end; };

// idle_wait blocks until the process that pidfd refers to has ended. At once, whenever nothing has come over the eventfd activity for quiet milliseconds, and every
// again milliseconds after that, it lets go of the pages of ranges, which must be clean pages of files.
void idle_wait(int pidfd, int activity, const struct idle_range *ranges, int count, int quiet, int again);

#endif
