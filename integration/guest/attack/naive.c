// The control of the races: a supervisor that does what must not be done. It reads the address and looks at the descriptor, denies
// what leads to the denied address (for the race of descriptors: by TCP) and programs with the argument "evil", and has everything
// else continue.
#include "attack.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>

static int trap(void) {
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_connect, 2, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_execve, 1, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_sendmsg, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog filter = {sizeof code / sizeof *code, code};
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)) err(1, "no_new_privs");
	int listener = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &filter);
	if (listener < 0) err(1, "seccomp");
	return listener;
}

static int peek(pid_t pid, const void *from, void *to, size_t size) {
	struct iovec here = {to, size}, there = {(void *)from, size};
	return process_vm_readv(pid, &here, 1, &there, 1, 0) == (ssize_t)size;
}

static int over_tcp(pid_t pid, int fd) {
	int type = 0, pidfd = syscall(SYS_pidfd_open, pid, 0);
	socklen_t size = sizeof type;
	int own = syscall(SYS_pidfd_getfd, pidfd, fd, 0);
	getsockopt(own, SOL_SOCKET, SO_TYPE, &type, &size);
	close(own);
	close(pidfd);
	return type == SOCK_STREAM;
}

// evil tells whether the third argument of an execve is "evil".
static int evil(pid_t pid, const char *const *argv) {
	const char *argument;
	char text[5];
	return !peek(pid, argv + 2, &argument, sizeof argument) || !peek(pid, argument, text, sizeof text) || !memcmp(text, "evil", 5);
}

static int forbidden(const struct seccomp_notif *call, int by_tcp_alone) {
	struct sockaddr_in to = {0};
	const void *name = (void *)call->data.args[1];
	struct msghdr message;
	if (call->data.nr == SYS_execve) return evil(call->pid, name);
	if (call->data.nr == SYS_sendmsg) {
		if (!peek(call->pid, name, &message, sizeof message)) return 1;
		name = message.msg_name;
	}
	if (!peek(call->pid, name, &to, sizeof to)) return 1;
	return is(&to, &denied) && (!by_tcp_alone || over_tcp(call->pid, call->data.args[0]));
}

static void supervise(int listener, int by_tcp_alone) {
	for (;;) {
		struct seccomp_notif call = {0};
		if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &call)) {
			struct pollfd p = {.fd = listener, .events = POLLIN};
			if (poll(&p, 1, 0) > 0 && p.revents & POLLHUP) return;
			continue;
		}
		struct seccomp_notif_resp answer = {.id = call.id};
		if (forbidden(&call, by_tcp_alone)) answer.error = -EACCES; else answer.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
		ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &answer);
	}
}

void under_naive_supervisor(void (*attack)(void)) {
	int number[2], go[2], listener;
	char byte = 0;
	until_breach = 1;
	if (pipe(number) || pipe(go)) err(1, "pipe");
	pid_t child = fork();
	if (child < 0) err(1, "fork");
	if (child == 0) {
		close(go[1]);
		listener = trap();
		if (write(number[1], &listener, sizeof listener) != sizeof listener || read(go[0], &byte, 1) != 1) _exit(1);
		close(listener);
		attack();
		fflush(stdout);
		_exit(0);
	}
	if (read(number[0], &listener, sizeof listener) != sizeof listener) errx(1, "the child did not come up");
	int pidfd = syscall(SYS_pidfd_open, child, 0), own = syscall(SYS_pidfd_getfd, pidfd, listener, 0);
	if (own < 0) err(1, "pidfd_getfd");
	if (write(go[1], &byte, 1) != 1) err(1, "write");
	supervise(own, attack == race_descriptor);
	waitpid(child, NULL, 0);
}
