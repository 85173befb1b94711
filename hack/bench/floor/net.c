// Measures what a program sees of the network.
//
//   net connect N      makes N blocking connections to a listener of its own and prints the median of connect(2) in nanoseconds.
//   net sendmsg N      sends N messages of 64 bytes over a connection to itself and prints the median of sendmsg(2).
//   net request N      makes N requests of itself over one connection with the calls of wrk and nginx (tcp_nopush) and prints the median of one.
//   net open N         opens and closes a file three directories deep N times and prints the median.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <err.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>
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

// connected makes a connection to itself.
static void connected(int *client, int *server) {
	int listener = make_listener();
	*client = socket(AF_INET, SOCK_STREAM, 0);
	if (connect(*client, (struct sockaddr *)&addr, sizeof addr)) err(1, "connect");
	if ((*server = accept(listener, NULL, NULL)) < 0) err(1, "accept");
}

static double sends(long count) {
	int s, peer;
	connected(&s, &peer);
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

static const char page[] = "/var/www/index.html";

enum { REQUEST = 40, HEADER = 238, PAGE = 612 };

static double requests(long count) {
	int client, server, file = open(page, O_RDONLY), on = 1, off = 0;
	connected(&client, &server);
	if (file < 0) err(1, "%s", page);
	char header[HEADER] = {0}, buffer[1024];
	for (long i = -WARM_UP; i < count; i++) {
		off_t from = 0;
		struct iovec part = {header, HEADER};
		double before = now();
		if (write(client, buffer, REQUEST) != REQUEST || recv(server, buffer, sizeof buffer, 0) != REQUEST) err(1, "ask");
		if (setsockopt(server, IPPROTO_TCP, TCP_CORK, &on, sizeof on)) err(1, "TCP_CORK");
		if (writev(server, &part, 1) != HEADER || sendfile(server, file, &from, PAGE) != PAGE) err(1, "answer");
		if (setsockopt(server, IPPROTO_TCP, TCP_CORK, &off, sizeof off)) err(1, "TCP_CORK");
		for (int got = 0; got < HEADER + PAGE;) {
			ssize_t n = read(client, buffer, sizeof buffer);
			if (n <= 0) err(1, "read");
			got += n;
		}
		if (i >= 0) times[i] = now() - before;
	}
	return median(count);
}

static double opens(long count) {
	for (long i = -WARM_UP; i < count; i++) {
		double before = now();
		int file = open(page, O_RDONLY);
		if (file < 0) err(1, "%s", page);
		close(file);
		if (i >= 0) times[i] = now() - before;
	}
	return median(count);
}

static const struct {
	const char *name;
	double (*measure)(long count);
} parts[] = {{"connect", connects}, {"sendmsg", sends}, {"request", requests}, {"open", opens}};

int main(int argc, char **argv) {
	if (argc != 3) errx(2, "usage: net connect|sendmsg|request|open N");
	long count = atol(argv[2]);
	if (count < 1 || !(times = calloc(count, sizeof *times))) errx(2, "%s calls", argv[2]);
	for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
		if (strcmp(argv[1], parts[i].name) == 0) return printf("%.0f\n", parts[i].measure(count)) < 0;
	errx(2, "nothing called %s can be measured", argv[1]);
}
