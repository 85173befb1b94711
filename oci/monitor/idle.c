// A monitor waits for most of its life. Its waiting thread does so in C, because whatever Go code ran after the pages have been let go of would have
// them mapped again, a good part of a megabyte at a time.
#define _GNU_SOURCE
#include "idle.h"

#include <poll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

// faults is how often this process has had memory mapped in its life that needed no disk.
static long faults(void) {
  struct rusage usage;
  return getrusage(RUSAGE_SELF, &usage) < 0 ? 0 : usage.ru_minflt;
}

int idle_wait(int pidfd, int activity, const struct idle_range *ranges, int count, struct idle_times times, long worth) {
  struct pollfd files[] = {{pidfd, POLLIN, 0}, {activity, POLLIN, 0}};
  const int waits[] = {times.quiet, times.calm, times.again};
  int look = -1; // one at once, since the other threads may be at rest
  long before = faults();
  for (;;) {
    int ready = poll(files, 2, look < 0 ? 0 : waits[look]);
    if (ready < 0) continue; // a signal
    if (files[0].revents) return 0;
    if (files[1].revents) {
      uint64_t times_noted;
      if (read(activity, &times_noted, sizeof times_noted) < 0) files[1].fd = -1; // then it is never heard of again
      look = 0;
      continue;
    }
    if (look > 0 && faults() - before >= worth) return 1;
    for (int i = 0; i < count; i++) madvise((void *)ranges[i].start, ranges[i].end - ranges[i].start, MADV_DONTNEED);
    if (look < 2) look++;
  }
}
