#include "attack.h"

// received returns a socket that another process has made, and sent over a Unix socket.
static int received(int type) {
	int pair[2];
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair)) err(1, "socketpair");
	pid_t child = fork();
	if (child < 0) err(1, "fork");
	union {
		char buffer[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = {0};
	char byte = 0;
	struct iovec data = {&byte, 1};
	struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = control.buffer, .msg_controllen = sizeof control.buffer};
	if (child == 0) {
		int fd = socket(AF_INET, type, 0);
		struct cmsghdr *c = CMSG_FIRSTHDR(&message);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof fd);
		memcpy(CMSG_DATA(c), &fd, sizeof fd);
		_exit(sendmsg(pair[1], &message, 0) != 1);
	}
	if (recvmsg(pair[0], &message, 0) != 1) err(1, "recvmsg");
	waitpid(child, NULL, 0);
	int fd;
	memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof fd);
	return fd;
}

static volatile int victim;

// juggle closes and reopens the descriptor that others are using.
static void *juggle(void *unused) {
	int spare = tcp(0);
	for (int i = 0; i < 3000; i++) {
		close(victim);
		dup2(spare, victim);
		fcntl(victim, F_SETFD, i & 1);
	}
	return unused;
}

static int try(int fd, const struct sockaddr_in *to) {
	int result = connect(fd, (struct sockaddr *)to, sizeof *to);
	return result == 0 || errno == EINPROGRESS ? 1 : refused() ? 0 : -errno;
}

static void say(const char *how, int to_denied, int to_allowed) {
	printf("passed: %s %d %d\n", how, to_denied, to_allowed);
	fflush(stdout);
}

// Sockets of a thread with a descriptor table of its own.
static void *apart(void *unused) {
	if (unshare(CLONE_FILES)) err(1, "unshare");
	int to_denied = try(tcp(0), &denied), to_allowed = try(tcp(0), &allowed);
	say("apart", to_denied, to_allowed);
	return unused;
}

// Each way to a socket is tried with the denied server and, with another socket, with the allowed one.
void passed(void) {
	int to_denied = try(received(SOCK_STREAM), &denied), to_allowed = try(received(SOCK_STREAM), &allowed);
	say("received", to_denied, to_allowed);

	int inherited[] = {tcp(0), tcp(0)};
	pid_t child = fork();
	if (child < 0) err(1, "fork");
	if (child == 0) {
		to_denied = try(inherited[0], &denied), to_allowed = try(inherited[1], &allowed);
		say("inherited", to_denied, to_allowed);
		_exit(0);
	}
	waitpid(child, NULL, 0);

	to_denied = try(fcntl(tcp(0), F_DUPFD, 500), &denied), to_allowed = try(fcntl(tcp(0), F_DUPFD, 500), &allowed);
	say("duplicated", to_denied, to_allowed);

	pthread_t thread;
	if (pthread_create(&thread, NULL, apart, NULL)) errx(1, "pthread_create");
	pthread_join(thread, NULL);

	victim = tcp(SOCK_NONBLOCK);
	if (pthread_create(&thread, NULL, juggle, NULL)) errx(1, "pthread_create");
	int breaches = 0;
	for (int i = 0; i < 3000; i++) breaches += try(victim, &denied) == 1;
	pthread_join(thread, NULL);
	printf("passed: juggled %d\n", breaches);
}
