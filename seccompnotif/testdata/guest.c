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
	int flags = SECCOMP_FILTER_FLAG_NEW_LISTENER | (getenv("INTERRUPTIBLE") ? 0 : SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV);
	int fd = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &f);
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
		if (more > 0) { say("room for one too many\n"), kill(more, SIGKILL), wait_for(more); break; }
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

static void untraced(void) {
	long r = syscall(SYS_clone, CLONE_UNTRACED | SIGCHLD, 0, 0, 0, 0);
	if (!r) _exit(0);
	say("%ld %d\n", r, errno);
}

// A process whose exit makes the kernel write zeroes where it was told to, although it is stopped: it is killed from outside. It
// could see to that itself, with a timer.
static volatile int *ready;
static void *last_words(void *address) {
	syscall(SYS_set_tid_address, address);
	__atomic_add_fetch(ready, 1, __ATOMIC_SEQ_CST);
	for (;;) pause();
	return NULL;
}
static void dying(const char *what) {
	char *shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	memcpy(shared, "good", 5);
	ready = (int *)(shared + 512);
	// Either the argument is no more, or what is left of the name of the file is another one.
	char *path = strcat(strcpy(shared + 1024, self), "-two"), *falls = shared;
	if (!strcmp(what, "path")) falls = path + strlen(self);
	pid_t peer = fork();
	if (!peer) {
		on_thread(last_words, falls);
		last_words(falls);
	}
	while (*ready < 2) usleep(1000); // the first of the two to exit makes the kernel write
	pid_t child = fork();
	char *const argv[] = {self, "print", "0", shared, NULL};
	if (!child) execve(path, argv, environ), die("execve");
	int status;
	if (waitpid(child, &status, 0) != child) die("waitpid");
	wait_for(peer);
	say("status %d\n", WIFSIGNALED(status) ? WTERMSIG(status) : 0);
}

// A peer that counts for as long as it runs, in memory that everybody sees.
static volatile unsigned long *counter;
static void count(void) { for (;;) ++*counter; }
static pid_t counting(void) {
	counter = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid_t peer = fork();
	if (!peer) count();
	return peer;
}
static int counts(void) { // whether the peer runs
	unsigned long before = *counter;
	for (int i = 0; i < 200; i++) {
		usleep(1000);
		if (*counter != before) return 1;
	}
	return 0;
}
static void try(const char *id) { // an execve in a child
	pid_t child = fork();
	if (!child) execute("good", id);
	wait_for(child);
}

// failed execves, after which everybody runs on.
static void no_program(void) {
	pid_t peer = counting();
	char *const argv[] = {"none", "x", "y", NULL};
	for (int i = 0; i < 20; i++)
		if (execve("/nonexistent", argv, environ) != -1 || errno != ENOENT) die("execve");
	if (execve(self, (char **)8, environ) != -1 || errno != EFAULT) die("execve of bad arguments");
	char *const bad[] = {"a", (char *)16, NULL};
	if (execve(self, bad, environ) != -1 || errno != EFAULT) die("execve of a bad argument");
	say("counts %d\n", counts());
	kill(peer, SIGKILL), wait_for(peer);
}

// A peer that is stopped by job control stays so, and goes on when it is told to.
static void stopped(void) {
	pid_t peer = counting();
	int status;
	kill(peer, SIGSTOP);
	if (waitpid(peer, &status, WUNTRACED) != peer || !WIFSTOPPED(status)) die("stop");
	for (int i = 0; i < 10; i++) try("0");
	int runs = counts();
	kill(peer, SIGCONT);
	if (waitpid(peer, &status, WCONTINUED) != peer || !WIFCONTINUED(status)) die("cont");
	int ran = counts();
	// And signals that come while others execute programs are not lost.
	pid_t child = fork();
	if (!child)
		for (int i = 0;; i++) kill(peer, SIGSTOP), kill(peer, SIGCONT);
	for (int i = 0; i < 30; i++) try("0");
	kill(child, SIGKILL), wait_for(child);
	kill(peer, SIGCONT);
	say("stopped: runs %d, continued: runs %d, at last: runs %d\n", runs, ran, counts());
	kill(peer, SIGKILL), wait_for(peer);
}

static volatile sig_atomic_t caught;
static void catch(int signal) { caught++; (void)signal; }
// Every signal arrives, whatever the peer's siblings execute.
static void signals(int times) {
	volatile int *got = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid_t peer = fork();
	if (!peer) {
		signal(SIGRTMIN, catch);
		got[1] = 1;
		for (;;) got[0] = caught;
	}
	while (!got[1]) {}
	for (int i = 0; i < times; i++) {
		union sigval v = {0};
		if (sigqueue(peer, SIGRTMIN, v)) die("sigqueue");
		try("0");
	}
	for (int i = 0; i < 1000 && got[0] < times; i++) usleep(1000);
	say("signals %d\n", got[0]);
	kill(peer, SIGKILL), wait_for(peer);
}

// A child whom its parent traces.
static void traced(const char *how) {
	pid_t peer = fork();
	if (!peer) {
		if (ptrace(PTRACE_TRACEME, 0, 0, 0)) die("traceme");
		raise(SIGSTOP);
		if (!strcmp(how, "caller")) execute("good", "caller");
		pause();
	}
	int status;
	if (waitpid(peer, &status, 0) != peer || !WIFSTOPPED(status)) die("stop of a tracee");
	if (strcmp(how, "stopped")) {
		ptrace(PTRACE_CONT, peer, 0, 0);
		usleep(10000);
	}
	if (strcmp(how, "caller")) try("0");
	else wait_for(peer);
	kill(peer, SIGKILL), wait_for(peer);
}

static void memfd(void) {
	int fd = memfd_create("program", 0), from = open(self, O_RDONLY);
	char b[65536];
	ssize_t n;
	while ((n = read(from, b, sizeof b)) > 0)
		if (write(fd, b, n) != n) die("write");
	close(from);
	char *const argv[] = {self, "print", "memfd", "good", NULL};
	syscall(SYS_execveat, fd, "", argv, environ, AT_EMPTY_PATH);
	die("execveat");
}

static void script(const char *path) {
	char *const argv[] = {"ignored", "script", "good", NULL};
	execve(path, argv, environ);
	die("script");
}

static void many(int n, int length) { // n arguments, of which the last but one is long
	char **argv = calloc(n + 1, sizeof *argv), *large = malloc(length + 1);
	memset(large, 'x', length), large[length] = 0;
	for (int i = 0; i < n; i++) argv[i] = "a";
	argv[0] = self, argv[1] = "exit";
	argv[n - 2] = large;
	execve(self, argv, environ);
	say("failed %d\n", errno);
}

static void nothing(void) {
	execve(self, NULL, environ);
	die("execve");
}

// A process sleeps in vfork while another one executes programs; both go on when the child ends.
static void in_vfork(void) {
	int *ends = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid_t peer = fork();
	if (!peer) {
		pid_t child = vfork();
		if (!child) {
			ends[0] = 1;
			while (!((volatile int *)ends)[1]) usleep(1000);
			_exit(0);
		}
		wait_for(child);
		_exit(0);
	}
	while (!((volatile int *)ends)[0]) usleep(1000);
	for (int i = 0; i < 10; i++) try("0");
	ends[1] = 1;
	wait_for(peer);
	say("done\n");
}

// A thread executes a program while the process has others, and the program has its process's number.
static void *self_on_thread(void *unused) {
	char pid[16];
	snprintf(pid, sizeof pid, "%d", getpid());
	execute("good", strdup(pid));
	return unused;
}

// fork and execve from many threads at once.
static void *forker(void *n) {
	for (long i = 0; i < (long)n; i++) {
		pid_t child = fork();
		if (!child) {
			char *const argv[] = {self, "exit", NULL};
			execve(self, argv, environ);
			_exit(1);
		}
		if (child < 0) die("fork");
		wait_for(child);
	}
	return NULL;
}
static void forkers(int threads, long each) {
	pthread_t t[threads];
	for (int i = 0; i < threads; i++)
		if (pthread_create(&t[i], NULL, forker, (void *)each)) die("pthread_create");
	for (int i = 0; i < threads; i++) pthread_join(t[i], NULL);
	say("done\n");
}

static void *sleeper(void *unused) { for (;;) pause(); return unused; }

int main(int argc, char **argv) {
	const char *part = argc > 1 ? argv[1] : "";
	if (readlink("/proc/self/exe", self, sizeof self - 1) < 0) die("readlink");
	if (!strcmp(part, "sleep")) { // under no filter, in a sleep that only a fatal signal ends
		pid_t child = vfork();
		if (!child) say("asleep\n"), pause();
		return 0;
	}
	if (argc < 2 || !strcmp(part, "exit")) return 0;
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
	else if (!strcmp(part, "untraced")) untraced();
	else if (!strcmp(part, "in-vfork")) in_vfork();
	else if (!strcmp(part, "calls")) { // a notified call of a child, then an execve
		pid_t child = fork();
		if (!child) {
			int r = syscall(SYS_getpriority, 0, 0);
			say("called %d\n", r);
			_exit(0);
		}
		usleep(20000);
		execute("good", "0");
	}
	else if (!strcmp(part, "dying")) dying(argv[2]);
	else if (!strcmp(part, "no-program")) no_program();
	else if (!strcmp(part, "stopped")) stopped();
	else if (!strcmp(part, "signals")) signals(n);
	else if (!strcmp(part, "traced")) traced(argv[2]);
	else if (!strcmp(part, "memfd")) memfd();
	else if (!strcmp(part, "script")) script(argv[2]);
	else if (!strcmp(part, "many")) many(n, m);
	else if (!strcmp(part, "nothing")) nothing();
	else if (!strcmp(part, "thread")) on_thread(self_on_thread, NULL), sleeper(NULL);
	else if (!strcmp(part, "forkers")) forkers(n, m);
	else if (!strcmp(part, "counting")) {
		pid_t peer = counting();
		say("%d\n", peer);
		execute("good", "0");
	}
	else if (!strcmp(part, "peers")) { // n processes of m threads that do nothing, while somebody executes programs
		for (int i = 0; i < n; i++)
			if (!fork()) {
				for (int j = 1; j < m; j++) on_thread(sleeper, NULL);
				sleeper(NULL);
			}
		usleep(50000); // their threads are there
		say("ready\n");
		spawn(atoi(argv[4]));
		kill(0, SIGKILL);
	} else
		die(part);
	return 0;
}
