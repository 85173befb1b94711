// Sealing: see doc.go. It runs before main and before the Go runtime, in one thread, with libc ready.
#define _GNU_SOURCE
#include "seal.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef AT_EMPTY_PATH
#define AT_EMPTY_PATH 0x1000 // linux/fcntl.h
#endif

static const char self[] = "/proc/self/exe";

// Executed by descriptor, the kernel gives the program this name.
static const char by_descriptor[] = "/dev/fd/";

static int sealed(void) {
  struct statvfs mount;
  if (statvfs(self, &mount) == 0 && mount.f_flag & ST_RDONLY) return 1;
  int fd = open(self, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return 0;
  int seals = fcntl(fd, F_GET_SEALS);
  close(fd);
  return seals >= 0 && seals & F_SEAL_WRITE;
}

static int read_only_mount(void) {
  int fd = (int)syscall(SYS_open_tree, AT_FDCWD, self, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
  if (fd < 0) return -1;
  struct mount_attr attributes = {.attr_set = MOUNT_ATTR_RDONLY};
  if (syscall(SYS_mount_setattr, fd, "", AT_EMPTY_PATH, &attributes, sizeof attributes) == 0) return fd;
  close(fd);
  return -1;
}

static int sealed_copy(void) {
  int from = open(self, O_RDONLY | O_CLOEXEC);
  if (from < 0) return -1;
  struct stat file;
  int to = memfd_create("sandlock-runtime", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (to >= 0 && fstat(from, &file) == 0) {
    off_t left = file.st_size;
    while (left > 0) {
      ssize_t n = sendfile(to, from, 0, (size_t)left);
      if (n <= 0) break;
      left -= n;
    }
    if (left == 0 && fcntl(to, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) == 0) {
      close(from);
      return to;
    }
  }
  if (to >= 0) close(to);
  close(from);
  return -1;
}

static void execute(int fd, char **argv, char **environment) {
  if (fd < 0) return;
  syscall(SYS_execveat, fd, "", argv, environment, AT_EMPTY_PATH);
  close(fd);
}

int executed_by_descriptor(void) {
  const char *name = (const char *)getauxval(AT_EXECFN);
  return name && strncmp(name, by_descriptor, sizeof by_descriptor - 1) == 0;
}

int seal(char **argv, char **environment) {
  if (sealed()) return 0;
  if (!executed_by_descriptor()) {
    execute(read_only_mount(), argv, environment);
    execute(sealed_copy(), argv, environment);
  }
  return -1;
}

void execute_again(char **argv, char **environment) {
  execute(sealed() ? open(self, O_RDONLY | O_CLOEXEC) : sealed_copy(), argv, environment);
}
