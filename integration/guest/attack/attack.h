// What the attacks share. Each is a function that tries for a while to reach a server that the container's rules do not allow, at
// the address "denied", beside one that they do, at "allowed", and prints one line that begins with its name. Its result is
// for the test to judge, together with what the servers have seen.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern struct sockaddr_in allowed, denied;

// until_breach tells that the attack is to succeed, and goes on until it does, for long.
extern int until_breach;

// refused tells whether errno is one that the policy gives.
int refused(void);
// is tells whether two addresses are the same.
int is(const struct sockaddr_in *a, const struct sockaddr_in *b);
int udp(void);
int tcp(int flags);
// seconds since the program began.
double elapsed(void);

// race.c: somebody else rewrites what was judged.
void race_thread(void);
void race_memory(void);
void race_message(void);
void race_descriptor(void);
// storm.c: many at once, signals, forks.
void crowd(void);
void signals(void);
void stops(void);
void flood(void);
// descriptors.c: sockets that are closed, duplicated, passed and inherited.
void passed(void);
// pointers.c: arguments that lead nowhere.
void pointers(void);
// exec.c: programs executed with arguments that are not to be.
void exec_thread(void);
void exec_memory(void);
void exec_space(void);
void exec_ways(void);
// path.c: files opened by names that lead elsewhere meanwhile.
void path_thread(void);
void path_memory(void);
void path_link(void);
void path_names(void);
// ways.c: past seccomp.
void io_uring(void);
void x32(void);
void int80(void);
void mptcp(void);

// naive.c: runs the attack under a supervisor that looks at memory and descriptors, and has what it likes continue.
void under_naive_supervisor(void (*attack)(void));
