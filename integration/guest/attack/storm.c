#include "attack.h"

// A connection to each address in turn, and what came of it.
static int connects(const struct sockaddr_in *to) {
	int fd = tcp(0), result = connect(fd, (struct sockaddr *)to, sizeof *to), error = errno;
	close(fd);
	errno = error;
	return result == 0;
}

enum { CROWD = 200 };

static pthread_barrier_t together;
static int crowd_passed, crowd_refused, crowd_breached;

static void *one_of_many(void *unused) {
	pthread_barrier_wait(&together);
	if (connects(&denied)) __atomic_add_fetch(&crowd_breached, 1, __ATOMIC_RELAXED);
	else if (refused()) __atomic_add_fetch(&crowd_refused, 1, __ATOMIC_RELAXED);
	pthread_barrier_wait(&together);
	if (connects(&allowed)) __atomic_add_fetch(&crowd_passed, 1, __ATOMIC_RELAXED);
	return unused;
}

// Two hundred threads are trapped at once.
void crowd(void) {
	pthread_t threads[CROWD];
	pthread_barrier_init(&together, NULL, CROWD);
	for (int i = 0; i < CROWD; i++)
		if (pthread_create(&threads[i], NULL, one_of_many, NULL)) errx(1, "pthread_create");
	for (int i = 0; i < CROWD; i++) pthread_join(threads[i], NULL);
	printf("crowd: passed %d refused %d breached %d\n", crowd_passed, crowd_refused, crowd_breached);
}

static volatile sig_atomic_t caught;
static void handler(int signal) { caught += signal > 0; }

static void every(int microseconds, int flags) {
	struct sigaction action = {.sa_handler = handler, .sa_flags = flags};
	struct itimerval timer = {{0, microseconds}, {0, microseconds}};
	sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &timer, NULL);
}

enum { SENDS = 4000 };

// Signals arrive while calls are judged and carried out, first with SA_RESTART and then without: each call must be made once or not
// at all. What is sent to the allowed server is counted there.
void signals(void) {
	int fd = udp(), passed = 0, refusals = 0, breaches = 0, other = 0;
	for (int restart = 1; restart >= 0; restart--) {
		every(150, restart ? SA_RESTART : 0);
		for (int i = 0; i < SENDS / 2; i++) {
			if (sendto(fd, "x", 1, 0, (struct sockaddr *)&allowed, sizeof allowed) == 1) passed++; else other++;
			if (i % 4) continue;
			if (sendto(fd, "x", 1, 0, (struct sockaddr *)&denied, sizeof denied) == 1) breaches++;
			else if (refused()) refusals++;
			else other++;
		}
	}
	every(0, 0);
	printf("signals: passed %d refused %d breached %d other %d caught %s\n", passed, refusals, breaches, other, caught > 0 ? "some" : "none");
}

// A process is stopped, continued and in the end killed, again and again, while its calls are judged.
void stops(void) {
	int *count = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	enum { PASSED, REFUSED, BREACHED };
	for (int round = 0; round < 150; round++) {
		pid_t child = fork();
		if (child < 0) err(1, "fork");
		if (child == 0) {
			int fd = udp();
			for (;;) {
				if (!connect(fd, (struct sockaddr *)&denied, sizeof denied)) count[BREACHED]++;
				else if (refused()) count[REFUSED]++;
				if (!connect(fd, (struct sockaddr *)&allowed, sizeof allowed)) count[PASSED]++;
			}
		}
		for (int i = 0; i < 5; i++) {
			usleep(random() % 300);
			kill(child, SIGSTOP);
			usleep(random() % 100);
			kill(child, SIGCONT);
		}
		kill(child, SIGKILL);
		waitpid(child, NULL, 0);
	}
	// Nobody is left over, and the supervisor still answers.
	int after = connects(&allowed);
	printf("stops: passed %s refused %s breached %d after %d\n", count[PASSED] ? "some" : "none", count[REFUSED] ? "some" : "none", count[BREACHED], after);
}

enum {
	FORKS = 34000, // more than there are pids by default, so that each is used again
	CALLERS = 10000, // of them make calls
};

// A flood of processes, each with descriptors of its own, many of them with the pid of one that has made calls before. To every other
// one descriptor 100 is a UDP socket, which may reach the denied address; to the others it is a TCP socket, which may not.
static void idle_process(void) {
	pid_t child = vfork();
	if (child < 0) err(1, "vfork");
	if (child == 0) _exit(0);
	waitpid(child, NULL, 0);
}

void flood(void) {
	int passed = 0, refusals = 0, breaches = 0;
	for (int i = 0; i < FORKS; i++) {
		if (i % (FORKS / CALLERS)) {
			idle_process();
			continue;
		}
		int by_tcp = i / (FORKS / CALLERS) % 2;
		pid_t child = fork();
		if (child < 0) err(1, "fork %d", i);
		if (child == 0) {
			dup2(by_tcp ? tcp(SOCK_NONBLOCK) : udp(), 100);
			int result = connect(100, (struct sockaddr *)&denied, sizeof denied);
			_exit(result == 0 || errno == EINPROGRESS ? 10 : refused() ? 11 : 12);
		}
		int status;
		if (waitpid(child, &status, 0) < 0) err(1, "waitpid");
		int code = WEXITSTATUS(status);
		if (by_tcp) {
			refusals += code == 11;
			breaches += code == 10;
		} else {
			passed += code == 10;
		}
	}
	printf("flood: passed %d refused %d breached %d\n", passed, refusals, breaches);
}
