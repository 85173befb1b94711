// A guest for the tests of creation tracking and of judged execves: it installs the filter that it gets over descriptor 3, sends
// the listener back, waits for a byte, and plays the part that its arguments name. What it prints is the test's to judge.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static const int channel = 3;
static char self[4096];
extern char **environ;

static void die(const char *what) {
	fprintf(stderr, "guest: %s: %s\n", what, strerror(errno));
	_exit(99);
}

static void install(void) {
	static struct sock_filter program[4096];
	ssize_t n = recv(channel, program, sizeof program, 0);
	if (n <= 0) die("no filter");
	struct sock_fprog f = {n / sizeof program[0], program};
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)) die("no_new_privs");
	int fd = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, &f);
	if (fd < 0) die("filter");
	char control[CMSG_SPACE(sizeof fd)], byte = 0;
	struct iovec v = {&byte, 1};
	struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);
	c->cmsg_level = SOL_SOCKET, c->cmsg_type = SCM_RIGHTS, c->cmsg_len = CMSG_LEN(sizeof fd);
	memcpy(CMSG_DATA(c), &fd, sizeof fd);
	if (sendmsg(channel, &m, 0) != 1) die("listener");
	close(fd);
	if (read(channel, &byte, 1) != 1) die("no start");
	fcntl(channel, F_SETFD, FD_CLOEXEC);
}

static void say(const char *format, ...) {
	char line[4096];
	va_list args;
	va_start(args, format);
	int n = vsnprintf(line, sizeof line, format, args);
	va_end(args);
	if (write(1, line, n) != n) _exit(98); // one write, so that lines of several processes stay whole
}

static void wait_for(pid_t pid) {
	int status;
	while (waitpid(pid, &status, __WALL) < 0)
		if (errno != EINTR) die("waitpid");
}

// recycle: so many children one after another, all with the pid of the first, each with a descriptor of its own at the same number,
// that it has looked at in a call whose second argument says what must be found.
static void recycle(int times) {
	pid_t pid = 0;
	int right = 0;
	for (int i = 1; i <= times; i++) {
		struct clone_args args = {.exit_signal = SIGCHLD, .set_tid = pid ? (unsigned long)&pid : 0, .set_tid_size = pid != 0};
		pid_t child = syscall(SYS_clone3, &args, sizeof args);
		if (child < 0) die("clone3");
		if (!child) {
			if (dup2(eventfd(i, 0), 50) != 50) _exit(2);
			_exit(syscall(SYS_getppid, 50, i) == i ? 0 : 1);
		}
		pid = child;
		int status;
		if (waitpid(child, &status, 0) != child) die("waitpid");
		right += status == 0;
	}
	say("pid %d right %d\n", pid, right);
}

// The attacks: somebody turns the last argument from good to evil and back, as fast as can be.
static const char *const words[] = {"good", "evil"};
static void *flip(void *word) {
	for (unsigned i = 0;; i++) {
		memcpy(word, words[i & 1], 4);
		for (volatile int n = 0; n < 200; n++) {}
	}
	return NULL;
}
static int flip_process(void *word) { return flip(word), 0; }

static void execute(char *word, const char *id) {
	char *const argv[] = {self, "print", (char *)id, word, NULL};
	execve(self, argv, environ);
	say("%s failed %d\n", id, errno);
	_exit(1);
}

static void on_thread(void *(*f)(void *), void *arg) {
	pthread_t t;
	if (pthread_create(&t, NULL, f, arg)) die("pthread_create");
}

struct order { char *word, id[16]; };
static void *execute_on_thread(void *o) { execute(((struct order *)o)->word, ((struct order *)o)->id); return NULL; }

static void race(const char *how, int times) {
	char *shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	memcpy(shared, "good", 5);
	pid_t peer = 0;
	static char stack[65536];
	if (!strcmp(how, "shared")) {
		if (!(peer = fork())) flip(shared);
	} else if (!strcmp(how, "vm")) {
		peer = clone(flip_process, stack + sizeof stack, CLONE_VM | SIGCHLD, shared);
	} else if (!strcmp(how, "vfork"))
		on_thread(flip, shared);
	for (int i = 0; i < times; i++) {
		struct order o = {shared};
		snprintf(o.id, sizeof o.id, "%d", i);
		pid_t child;
		if (!strcmp(how, "vfork")) {
			if (!(child = vfork())) execute(shared, o.id);
		} else if (!strcmp(how, "vm")) {
			// The one that executes shares its memory with the peer.
			static char other[65536];
			child = clone((int (*)(void *))execute_on_thread, other + sizeof other, CLONE_VM | SIGCHLD, &o);
		} else if (!(child = fork())) {
			if (!strcmp(how, "thread")) on_thread(flip, shared);
			if (!strcmp(how, "leader")) {
				on_thread(execute_on_thread, &o);
				flip(shared);
			}
			execute(shared, o.id);
		}
		if (child < 0) die("child");
		wait_for(child);
	}
	if (peer) kill(peer, SIGKILL), wait_for(peer);
}

static void spawn(int times) {
	for (int i = 0; i < times; i++) {
		pid_t pid;
		char *const argv[] = {self, "exit", NULL};
		errno = posix_spawn(&pid, self, NULL, NULL, argv, environ);
		if (errno) die("posix_spawn");
		wait_for(pid);
	}
	say("spawned %d\n", times);
}

// storm: so many processes at once make children, which exit at once.
static void storm(int processes, int each) {
	for (int p = 0; p < processes; p++)
		if (!fork()) {
			int made = 0, failed = 0;
			for (int i = 0; i < each; i++) {
				pid_t child = i % 3 ? fork() : vfork();
				if (!child) _exit(0);
				if (child > 0) wait_for(child), made++;
				else if (errno == EAGAIN) failed++;
				else die("fork");
			}
			say("made %d failed %d\n", made, failed);
			_exit(0);
		}
	while (wait(NULL) > 0) {}
}

// fill: children that stay, until there can be no more; then one less, and one more.
static void fill(int most) {
	pid_t children[most];
	int n = 0;
	while (n < most && (children[n] = fork()) >= 0) {
		if (!children[n]) pause();
		n++;
	}
	say("full at %d errno %d\n", n, n < most ? errno : 0);
	for (int round = 0; round < 200; round++) {
		kill(children[n - 1], SIGKILL), wait_for(children[n - 1]);
		if ((children[n - 1] = fork()) < 0) { say("no room after an exit\n"); break; }
		if (!children[n - 1]) pause();
		pid_t more = fork();
		if (!more) pause();
		if (more > 0) { say("room for one too many\n"); break; }
	}
	while (n--) kill(children[n], SIGKILL), wait_for(children[n]);
	say("done\n");
}

// failing: forks that the kernel refuses, among good ones.
static void failing(int times) {
	int refused = 0, made = 0;
	for (int i = 0; i < times; i++) {
		// CLONE_SIGHAND needs CLONE_VM.
		if (syscall(SYS_clone, CLONE_SIGHAND | SIGCHLD, 0, 0, 0, 0) == -1 && errno == EINVAL) refused++;
		pid_t child = fork();
		if (!child) _exit(0);
		if (child > 0) wait_for(child), made++;
	}
	say("refused %d made %d\n", refused, made);
}

static void nproc(void) {
	if (setgid(64123) || setuid(64123)) die("setuid");
	struct rlimit r = {3, 3};
	if (setrlimit(RLIMIT_NPROC, &r)) die("setrlimit");
	prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
	int refused = 0;
	pid_t a = fork();
	if (!a) pause();
	pid_t b = fork();
	if (!b) pause();
	for (int i = 0; i < 50; i++) {
		pid_t c = fork();
		if (!c) _exit(0);
		if (c < 0 && errno == EAGAIN) refused++;
	}
	kill(a, SIGKILL), kill(b, SIGKILL), wait_for(a), wait_for(b);
	say("refused %d\n", refused);
}

static void *sleeper(void *unused) { for (;;) pause(); return unused; }

int main(int argc, char **argv) {
	const char *part = argc > 1 ? argv[1] : "";
	if (readlink("/proc/self/exe", self, sizeof self - 1) < 0) die("readlink");
	if (!strcmp(part, "exit")) return 0;
	if (!strcmp(part, "print")) { // the program that the others execute
		char line[4096] = "";
		for (int i = 2; i < argc; i++) strcat(strcat(line, argv[i]), i + 1 < argc ? " " : "\n");
		return write(1, line, strlen(line)) < 0;
	}
	install();
	int n = argc > 2 ? atoi(argv[2]) : 0, m = argc > 3 ? atoi(argv[3]) : 0;
	if (!strcmp(part, "race")) race(argv[2], m);
	else if (!strcmp(part, "recycle")) recycle(n);
	else if (!strcmp(part, "spawn")) spawn(n);
	else if (!strcmp(part, "storm")) storm(n, m);
	else if (!strcmp(part, "fill")) fill(n);
	else if (!strcmp(part, "failing")) failing(n);
	else if (!strcmp(part, "nproc")) nproc();
	else if (!strcmp(part, "untraced")) say("%ld %d\n", syscall(SYS_clone, CLONE_UNTRACED | SIGCHLD, 0, 0, 0, 0), errno);
	else if (!strcmp(part, "peers")) { // n processes of m threads that do nothing, while somebody executes programs
		for (int i = 0; i < n; i++)
			if (!fork()) {
				for (int j = 1; j < m; j++) on_thread(sleeper, NULL);
				sleeper(NULL);
			}
		say("ready\n");
		spawn(atoi(argv[4]));
		kill(0, SIGKILL);
	} else
		die(part);
	return 0;
}
