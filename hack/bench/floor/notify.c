// Measures a system call that is denied by a seccomp notification: a getppid, which is answered without a look at anything,
// or a connect to 192.0.2.1, whose address is read first.
//
//   notify loop CALL N         makes N calls, each timed by itself, and prints the mean, the median and the 99th percentile
//                              in nanoseconds, and how many calls were not denied.
//   notify floor CALL N [FILE] the same loop under the barest possible supervisor, which this program is itself: receive,
//                              for connect check the id, copy the address and check the id again, answer EACCES. It decides
//                              nothing, so no real supervisor can be cheaper. With FILE, a cgroup's tasks or cgroup.procs, the
//                              loop is in that cgroup, as in a container; the supervisor is not.
//   notify victim CALL N IN OUT  the same loop under somebody else's supervisor: writes the listener's number to the descriptor
//                              OUT, and begins when it can read a byte from IN.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

// linux/seccomp.h, since Linux 6.7; the argument is the flags by value.
#ifndef SECCOMP_IOCTL_NOTIF_SET_FLAGS
#define SECCOMP_IOCTL_NOTIF_SET_FLAGS SECCOMP_IOW(4, __u64)
#define SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP (1UL << 0)
#endif

enum { WARM_UP = 1000 };

static int connects; // the call is connect

static double now(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1e9 + t.tv_nsec;
}

static int denied(int error) { return error == EACCES || error == EPERM || error == ECONNREFUSED; }

static int ascending(const void *a, const void *b) { return (*(double *)a > *(double *)b) - (*(double *)a < *(double *)b); }

static void measure(long count) {
	struct sockaddr_in peer = {.sin_family = AF_INET, .sin_port = htons(80)};
	inet_pton(AF_INET, "192.0.2.1", &peer.sin_addr);
	int sock = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	double *took = calloc(count, sizeof *took);
	if (sock < 0 || !took) err(1, "socket, memory");
	long passed = 0;
	double began = 0;
	for (long i = -WARM_UP; i < count; i++) {
		if (i == 0) began = now();
		double before = now();
		long result = connects ? connect(sock, (struct sockaddr *)&peer, sizeof peer) : syscall(SYS_getppid);
		if (i < 0) continue;
		took[i] = now() - before;
		if (result >= 0 || !denied(errno)) passed++;
	}
	double mean = (now() - began) / count;
	qsort(took, count, sizeof *took, ascending);
	printf("%.0f %.0f %.0f %ld\n", mean, took[count / 2], took[count * 99 / 100], passed);
	fflush(stdout);
}

static int trap(void) {
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, connects ? SYS_connect : SYS_getppid, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog filter = {sizeof code / sizeof *code, code};
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)) err(1, "no_new_privs");
	int flags = SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
	int listener = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &filter);
	if (listener < 0) err(1, "seccomp");
	return listener;
}

// victim hands its listener over and makes the calls when it is told to.
static void victim(long count, int in, int out) {
	char byte;
	int listener = trap();
	if (write(out, &listener, sizeof listener) != sizeof listener || read(in, &byte, 1) != 1) errx(1, "nobody supervises");
	close(listener);
	measure(count);
}

static int finished(int listener) {
	struct pollfd p = {.fd = listener, .events = POLLIN};
	return poll(&p, 1, 0) > 0 && p.revents & (POLLHUP | POLLERR | POLLNVAL);
}

static void supervise(int listener) {
	if (ioctl(listener, SECCOMP_IOCTL_NOTIF_SET_FLAGS, SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP)) warn("no synchronous wake-up");
	for (;;) {
		struct seccomp_notif call;
		memset(&call, 0, sizeof call);
		if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &call)) {
			if (finished(listener)) return;
			continue;
		}
		if (connects) {
			struct sockaddr_in address;
			struct iovec here = {&address, sizeof address}, there = {(void *)(unsigned long)call.data.args[1], sizeof address};
			ioctl(listener, SECCOMP_IOCTL_NOTIF_ID_VALID, &call.id);
			if (process_vm_readv(call.pid, &here, 1, &there, 1, 0) < 0) warn("process_vm_readv");
			ioctl(listener, SECCOMP_IOCTL_NOTIF_ID_VALID, &call.id);
		}
		struct seccomp_notif_resp answer = {.id = call.id, .error = -EACCES};
		ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &answer);
	}
}

// enter puts the calling process into a cgroup.
static void enter(const char *tasks) {
	FILE *file = fopen(tasks, "w");
	if (!file || fputs("0", file) == EOF || fclose(file)) err(1, "%s", tasks);
}

static void floor_of(long count, const char *tasks) {
	int number[2], go[2], listener;
	if (pipe(number) || pipe(go)) err(1, "pipe");
	pid_t child = fork();
	if (child < 0) err(1, "fork");
	if (child == 0) {
		close(go[1]);
		if (tasks) enter(tasks);
		victim(count, go[0], number[1]);
		_exit(0);
	}
	close(number[1]);
	if (read(number[0], &listener, sizeof listener) != sizeof listener) errx(1, "the child did not come up");
	int pidfd = syscall(SYS_pidfd_open, child, 0);
	int own = syscall(SYS_pidfd_getfd, pidfd, listener, 0);
	if (own < 0) err(1, "pidfd_getfd");
	if (write(go[1], "", 1) != 1) err(1, "write");
	supervise(own);
	waitpid(child, NULL, 0);
}

int main(int argc, char **argv) {
	if (argc < 4 || (strcmp(argv[2], "getppid") && strcmp(argv[2], "connect"))) errx(2, "usage: notify loop|floor|victim getppid|connect N [FILE | IN OUT]");
	connects = !strcmp(argv[2], "connect");
	long count = atol(argv[3]);
	if (count < 1) errx(2, "how many calls?");
	if (!strcmp(argv[1], "floor")) floor_of(count, argv[4]);
	else if (!strcmp(argv[1], "victim") && argc == 6) victim(count, atoi(argv[4]), atoi(argv[5]));
	else measure(count);
	return 0;
}
