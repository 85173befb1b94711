// Measures a connect that is denied by a seccomp notification.
//
//   connect loop N     makes N connects to 192.0.2.1 and prints nanoseconds per connect and how many were not denied.
//   connect floor N    the same loop under the barest possible supervisor, which this program is itself: receive, check
//                      the id, copy the address, check the id again, answer EACCES. It decides nothing, so no real
//                      supervisor can be cheaper.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <linux/audit.h>
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

static double now(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1e9 + t.tv_nsec;
}

static int denied(int error) { return error == EACCES || error == EPERM || error == ECONNREFUSED; }

static void measure(long count) {
	struct sockaddr_in peer = {.sin_family = AF_INET, .sin_port = htons(80)};
	inet_pton(AF_INET, "192.0.2.1", &peer.sin_addr);
	int sock = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (sock < 0) err(1, "socket");
	for (int i = 0; i < WARM_UP; i++) (void)connect(sock, (struct sockaddr *)&peer, sizeof peer);
	long passed = 0;
	double before = now();
	for (long i = 0; i < count; i++)
		if (connect(sock, (struct sockaddr *)&peer, sizeof peer) == 0 || !denied(errno)) passed++;
	printf("%.0f %ld\n", (now() - before) / count, passed);
	fflush(stdout);
}

static int trap_connect(void) {
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_connect, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog filter = {sizeof code / sizeof *code, code};
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)) err(1, "no_new_privs");
	int listener = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &filter);
	if (listener < 0) err(1, "seccomp");
	return listener;
}

// finished tells whether the last task under the filter has gone.
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
		struct sockaddr_in address;
		struct iovec here = {&address, sizeof address}, there = {(void *)(unsigned long)call.data.args[1], sizeof address};
		ioctl(listener, SECCOMP_IOCTL_NOTIF_ID_VALID, &call.id);
		if (process_vm_readv(call.pid, &here, 1, &there, 1, 0) < 0) warn("process_vm_readv");
		ioctl(listener, SECCOMP_IOCTL_NOTIF_ID_VALID, &call.id);
		struct seccomp_notif_resp answer = {.id = call.id, .error = -EACCES};
		ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &answer);
	}
}

static void floor_of(long count) {
	int number[2], go[2], listener;
	if (pipe(number) || pipe(go)) err(1, "pipe");
	pid_t child = fork();
	if (child < 0) err(1, "fork");
	if (child == 0) {
		char byte;
		close(go[1]);
		listener = trap_connect();
		if (write(number[1], &listener, sizeof listener) != sizeof listener || read(go[0], &byte, 1) != 1) _exit(1);
		close(listener);
		measure(count);
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
	if (argc != 3) errx(2, "usage: connect loop|floor N");
	long count = atol(argv[2]);
	if (strcmp(argv[1], "floor") == 0) floor_of(count); else measure(count);
	return 0;
}
