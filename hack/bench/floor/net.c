// Measures what a program sees of the network.
//
//   net connect N      makes N blocking connections to a listener of its own and prints the median of connect(2) in nanoseconds.
//   net sendmsg N      sends N messages of 64 bytes over a connection to itself and prints the median of sendmsg(2).
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { WARM_UP = 500 };

static double now(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1e9 + t.tv_nsec;
}

static double *times;

static int ascending(const void *a, const void *b) {
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static double median(long count) {
	qsort(times, count, sizeof *times, ascending);
	return times[count / 2];
}

static struct sockaddr_in addr = {.sin_family = AF_INET};

static int make_listener(void) {
	int s = socket(AF_INET, SOCK_STREAM, 0);
	socklen_t size = sizeof addr;
	addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (s < 0 || bind(s, (struct sockaddr *)&addr, sizeof addr) || listen(s, 16)) err(1, "listen");
	if (getsockname(s, (struct sockaddr *)&addr, &size)) err(1, "getsockname");
	return s;
}

static double connects(long count) {
	int listener = make_listener();
	for (long i = -WARM_UP; i < count; i++) {
		int s = socket(AF_INET, SOCK_STREAM, 0);
		if (s < 0) err(1, "socket");
		double before = now();
		if (connect(s, (struct sockaddr *)&addr, sizeof addr)) err(1, "connect");
		if (i >= 0) times[i] = now() - before;
		int peer = accept(listener, NULL, NULL);
		struct linger reset = {.l_onoff = 1}; // so that ports do not run out
		if (setsockopt(s, SOL_SOCKET, SO_LINGER, &reset, sizeof reset)) err(1, "SO_LINGER");
		close(s);
		close(peer);
	}
	return median(count);
}

static double sends(long count) {
	int listener = make_listener(), s = socket(AF_INET, SOCK_STREAM, 0);
	if (connect(s, (struct sockaddr *)&addr, sizeof addr)) err(1, "connect");
	int peer = accept(listener, NULL, NULL);
	char data[64] = {0}, sink[sizeof data];
	struct iovec part = {data, sizeof data};
	struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
	for (long i = -WARM_UP; i < count; i++) {
		double before = now();
		if (sendmsg(s, &message, 0) != sizeof data) err(1, "sendmsg");
		if (i >= 0) times[i] = now() - before;
		if (recv(peer, sink, sizeof sink, MSG_WAITALL) != sizeof sink) err(1, "recv");
	}
	return median(count);
}

int main(int argc, char **argv) {
	if (argc != 3) errx(2, "usage: net connect|sendmsg N");
	long count = atol(argv[2]);
	if (count < 1 || !(times = calloc(count, sizeof *times))) errx(2, "%s calls", argv[2]);
	printf("%.0f\n", strcmp(argv[1], "connect") == 0 ? connects(count) : sends(count));
	return 0;
}
