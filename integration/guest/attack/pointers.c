#include "attack.h"

// Calls whose arguments lead nowhere, or almost. Each prints what the call came to, which must be what it comes to without any
// supervisor.

static char *edge; // the first byte that is not mapped, with a writable page before

static void say(const char *what, long result) { printf("pointers: %s: %s\n", what, result < 0 ? strerrorname_np(errno) : "ok"); }

static void addresses(const char *kind, int fd) {
	struct sockaddr_in *odd = (void *)(edge - 4096 + 1), *last = (void *)(edge - sizeof *last);
	memcpy(odd, &allowed, sizeof allowed);
	memcpy(last, &allowed, sizeof allowed);
	const struct {
		const char *name;
		uintptr_t at;
		unsigned length;
	} cases[] = {
		{"null", 0, 16}, {"null without length", 0, 0}, {"one", 1, 16}, {"the last byte", ~0UL, 1}, {"wrapping", ~0UL - 7, 16},
		{"all ones", ~0UL, ~0U}, {"the kernel's", 0xffff888000000000, 16}, {"not canonical", 0x8000000000000000, 16},
		{"unmapped", (uintptr_t)edge, 16}, {"over the edge", (uintptr_t)edge - 8, 16}, {"at the edge", (uintptr_t)last, 16},
		{"misaligned", (uintptr_t)odd, 16}, {"too short", (uintptr_t)odd, 3}, {"one byte", (uintptr_t)odd, 1}, {"empty", (uintptr_t)odd, 0},
		{"longer than the memory", (uintptr_t)last, 64}, {"too long", (uintptr_t)odd, 129}, {"longest", (uintptr_t)odd, 128},
		{"negative", (uintptr_t)odd, -1}, {"huge", (uintptr_t)odd, 0x7fffffff},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		char name[100];
		snprintf(name, sizeof name, "%s connect, %s", kind, cases[i].name);
		say(name, syscall(SYS_connect, fd, cases[i].at, cases[i].length));
		struct sockaddr nowhere = {.sa_family = AF_UNSPEC};
		(void)connect(fd, &nowhere, sizeof nowhere);
		snprintf(name, sizeof name, "%s sendto, %s", kind, cases[i].name);
		say(name, syscall(SYS_sendto, fd, "x", 1, MSG_DONTWAIT | MSG_NOSIGNAL, cases[i].at, cases[i].length));
	}
}

static void messages(int fd) {
	struct iovec one = {"x", 1}, wraps = {(void *)(~0UL - 3), 16}, bad = {edge, 1}, negative = {"x", -1};
	struct msghdr good = {.msg_name = &allowed, .msg_namelen = sizeof allowed, .msg_iov = &one, .msg_iovlen = 1}, m;
	say("sendmsg", syscall(SYS_sendmsg, fd, &good, 0));
	say("sendmsg, null", syscall(SYS_sendmsg, fd, NULL, 0));
	say("sendmsg, over the edge", syscall(SYS_sendmsg, fd, edge - 8, 0));
	say("sendmsg, wrapping", syscall(SYS_sendmsg, fd, ~0UL - 7, 0));
#define WITH(what, ...) m = good; __VA_ARGS__; say("sendmsg, " what, syscall(SYS_sendmsg, fd, &m, 0))
	WITH("name null", m.msg_name = NULL);
	WITH("name unmapped", m.msg_name = edge);
	WITH("name of negative length", m.msg_namelen = -1);
	WITH("name of huge length", m.msg_namelen = 0x7fffffff);
	WITH("too many vectors", m.msg_iovlen = 1025);
	WITH("as many vectors as can be counted", m.msg_iovlen = ~0UL);
	WITH("no vector", m.msg_iovlen = 0);
	WITH("vectors unmapped", m.msg_iov = (void *)edge);
	WITH("vectors null", m.msg_iov = NULL);
	WITH("vector wraps", m.msg_iov = &wraps);
	WITH("vector unmapped", m.msg_iov = &bad);
	WITH("vector of negative length", m.msg_iov = &negative);
	WITH("control unmapped", m.msg_control = edge; m.msg_controllen = 64);
	WITH("control huge", m.msg_control = &one; m.msg_controllen = ~0UL);
	WITH("control too short for a header", m.msg_control = &one; m.msg_controllen = 3);
	struct mmsghdr many[2] = {{.msg_hdr = good}, {.msg_hdr = good}};
	say("sendmmsg of none", syscall(SYS_sendmmsg, fd, many, 0, 0));
	say("sendmmsg, null", syscall(SYS_sendmmsg, fd, NULL, 2, 0));
	say("sendmmsg, unmapped", syscall(SYS_sendmmsg, fd, edge, ~0U, 0));
	many[1].msg_hdr.msg_name = edge;
	say("sendmmsg, the second unmapped", syscall(SYS_sendmmsg, fd, many, 2, 0));
	say("sendto, data unmapped", syscall(SYS_sendto, fd, edge, 1, 0, &allowed, sizeof allowed));
	say("sendto, data over the edge", syscall(SYS_sendto, fd, edge - 8, 16, 0, &allowed, sizeof allowed));
	say("sendto, more than a datagram", syscall(SYS_sendto, fd, edge - 4096, 1UL << 40, 0, &allowed, sizeof allowed));
}

static void descriptors(void) {
	int pipes[2], path = open("/", O_PATH);
	if (pipe(pipes)) err(1, "pipe");
	const struct {
		const char *name;
		long fd;
	} cases[] = {{"-1", -1}, {"huge", 1L << 30}, {"a pipe", pipes[0]}, {"a path", path}, {"beyond an int", (1L << 32) + 1000}};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		char name[100];
		snprintf(name, sizeof name, "connect, descriptor %s", cases[i].name);
		say(name, syscall(SYS_connect, cases[i].fd, &allowed, sizeof allowed));
		snprintf(name, sizeof name, "sendto, descriptor %s", cases[i].name);
		say(name, syscall(SYS_sendto, cases[i].fd, "x", 1, 0, &allowed, sizeof allowed));
	}
}

void pointers(void) {
	char *pages = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (pages == MAP_FAILED || munmap(pages + 4096, 4096)) err(1, "mmap");
	edge = pages + 4096;
	addresses("udp", udp());
	messages(udp());
	descriptors();
	int fd = udp();
	say("in the end, allowed", connect(fd, (struct sockaddr *)&allowed, sizeof allowed));
	printf("in the end, denied: %s\n", connect(fd, (struct sockaddr *)&denied, sizeof denied) ? strerrorname_np(errno) : "reached");
}
