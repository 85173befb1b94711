// Usage: attack NAME ALLOWED DENIED PORT [naive]. See attack.h.
#include "attack.h"

struct sockaddr_in allowed, denied;
int until_breach;

static const struct {
	const char *name;
	void (*run)(void);
} attacks[] = {
	{"race-thread", race_thread}, {"race-memory", race_memory}, {"race-message", race_message}, {"race-descriptor", race_descriptor},
	{"crowd", crowd}, {"signals", signals}, {"stops", stops}, {"flood", flood}, {"passed", passed}, {"pointers", pointers},
	{"exec-thread", exec_thread}, {"exec-memory", exec_memory}, {"exec-space", exec_space}, {"exec-ways", exec_ways},
	{"path-thread", path_thread}, {"path-memory", path_memory}, {"path-link", path_link}, {"path-names", path_names},
	{"io_uring", io_uring}, {"x32", x32}, {"int80", int80}, {"mptcp", mptcp},
};

int refused(void) { return errno == EACCES || errno == EPERM; }

int is(const struct sockaddr_in *a, const struct sockaddr_in *b) { return a->sin_addr.s_addr == b->sin_addr.s_addr; }

static int opened(int type) {
	int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);
	if (fd < 0) err(1, "socket");
	return fd;
}

int udp(void) { return opened(SOCK_DGRAM); }
int tcp(int flags) { return opened(SOCK_STREAM | flags); }

double elapsed(void) {
	static struct timespec began;
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	if (!began.tv_sec) began = t;
	return (t.tv_sec - began.tv_sec) + (t.tv_nsec - began.tv_nsec) / 1e9;
}

int main(int argc, char **argv) {
	if (argc > 2 && !strcmp(argv[1], "said")) { // the program that others execute
		puts(argv[argc - 1]);
		return strcmp(argv[argc - 1], "good") ? 20 : 0;
	}
	if (argc < 5) errx(2, "usage: attack NAME ALLOWED DENIED PORT [naive]");
	allowed.sin_family = denied.sin_family = AF_INET;
	allowed.sin_port = denied.sin_port = htons(atoi(argv[4]));
	if (inet_pton(AF_INET, argv[2], &allowed.sin_addr) != 1 || inet_pton(AF_INET, argv[3], &denied.sin_addr) != 1) errx(2, "addresses?");
	elapsed();
	for (size_t i = 0; i < sizeof attacks / sizeof *attacks; i++) {
		if (strcmp(attacks[i].name, argv[1])) continue;
		if (argc > 5) under_naive_supervisor(attacks[i].run); else attacks[i].run();
		return 0;
	}
	errx(2, "no attack %s", argv[1]);
}
