// A monitor waits for most of its life. Its waiting thread does so in C, because whatever Go code ran after the pages have been let go of would have
// them mapped again, a good part of a megabyte at a time.
#define _GNU_SOURCE
#include "idle.h"

#include <poll.h>
#include <sys/mman.h>
#include <unistd.h>

void idle_wait(int pidfd, int activity, const struct idle_range *ranges, int count, int quiet, int again) {
  struct pollfd files[] = {{pidfd, POLLIN, 0}, {activity, POLLIN, 0}};
  int timeout = 0, first = 1; // at once, and once more when the other threads have come to rest
  for (;;) {
    int ready = poll(files, 2, timeout);
    if (ready < 0) continue; // a signal
    if (files[0].revents) return;
    if (files[1].revents) {
      uint64_t times;
      if (read(activity, &times, sizeof times) < 0) files[1].fd = -1; // then it is never heard of again
      timeout = quiet;
      continue;
    }
    for (int i = 0; i < count; i++) madvise((void *)ranges[i].start, ranges[i].end - ranges[i].start, MADV_DONTNEED);
    timeout = first ? quiet : again;
    first = 0;
  }
}
