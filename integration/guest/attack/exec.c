#include "attack.h"

#include <sched.h>

// Programs are executed with an argument that is either "good" or "evil", and the latter is not to run. The program is this one: as
// "said" it prints its last argument.

enum { EXECUTIONS = 60, MUCH_LONGER = 20 };

static char *word; // "good" or "evil", rewritten all the time

static void alternate(void) {
	uint32_t words[2];
	memcpy(words, "goodevil", sizeof words);
	for (unsigned i = 0;; i++) {
		*(volatile uint32_t *)(void *)word = words[i & 1];
		for (volatile int pause = 0; pause < 200; pause++) {}
	}
}

static void *alternating_thread(void *unused) {
	alternate();
	return unused;
}

static int alternating_process(void *unused) {
	(void)unused;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	alternate();
	return 0;
}

static void execute(const char *argument) {
	char *argv[] = {"attack", "said", (char *)argument, NULL}, *environment[] = {NULL};
	execve("/bin/attack", argv, environment);
	_exit(refused() ? 11 : 12);
}

// often has children execute programs until there has been each outcome that a policy allows, and says what came of it.
static void often(const char *name, pid_t (*start)(void)) {
	int passed = 0, refusals = 0, breaches = 0;
	for (int i = 0; i < EXECUTIONS || !passed || !refusals || (until_breach && !breaches); i++) {
		if (elapsed() > MUCH_LONGER) break;
		pid_t child = start();
		if (child < 0) err(1, "child");
		int status;
		waitpid(child, &status, 0);
		switch (WIFEXITED(status) ? WEXITSTATUS(status) : -1) {
		case 0: passed++; break;
		case 11: refusals++; break;
		case 20: breaches++; break; // it has been given something else than "good"
		}
	}
	printf("%s: passed %d refused %d breached %d\n", name, passed, refusals, breaches);
}

static void *memory(int sharing) {
	void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, sharing | MAP_ANONYMOUS, -1, 0);
	if (page == MAP_FAILED) err(1, "mmap");
	return strcpy(page, "good");
}

// A thread of the caller's rewrites the argument.
static pid_t forked_with_thread(void) {
	pid_t child = fork();
	if (child) return child;
	pthread_t thread;
	if (pthread_create(&thread, NULL, alternating_thread, NULL)) _exit(13);
	execute(word);
	return -1;
}

void exec_thread(void) {
	word = memory(MAP_PRIVATE);
	often("exec-thread", forked_with_thread);
}

// Another process does, through memory that both share.
static pid_t forked(void) {
	pid_t child = fork();
	if (!child) execute(word);
	return child;
}

void exec_memory(void) {
	word = memory(MAP_SHARED);
	pid_t peer = fork();
	if (peer < 0) err(1, "fork");
	if (peer == 0) alternating_process(NULL);
	often("exec-memory", forked);
	kill(peer, SIGKILL);
	waitpid(peer, NULL, 0);
}

// Another process does, in an address space that is the caller's own as well.
static int execute_word(void *unused) {
	(void)unused;
	execute(word);
	return 0;
}

enum { STACK = 1 << 16 };
static char stacks[2][STACK];

static pid_t in_the_same_space(void) { return clone(execute_word, stacks[0] + STACK, CLONE_VM | SIGCHLD, NULL); }

void exec_space(void) {
	word = memory(MAP_PRIVATE);
	pid_t peer = clone(alternating_process, stacks[1] + STACK, CLONE_VM | SIGCHLD, NULL);
	if (peer < 0) err(1, "clone");
	often("exec-space", in_the_same_space);
	kill(peer, SIGKILL);
	waitpid(peer, NULL, 0);
}

// The ways to a program other than its path.

static char *const none[] = {NULL};

static void by_path(char *const argv[]) { execve("/bin/attack", argv, none); }
static void by_execveat(char *const argv[]) { syscall(SYS_execveat, AT_FDCWD, "/bin/attack", argv, none, 0); }
static void by_descriptor(char *const argv[]) { syscall(SYS_execveat, open("/bin/attack", O_PATH), "", argv, none, AT_EMPTY_PATH); }

static int copy_in_memory(void) {
	char buffer[1 << 16];
	int from = open("/bin/attack", O_RDONLY), to = memfd_create("copy", 0);
	for (ssize_t n; (n = read(from, buffer, sizeof buffer)) > 0;)
		if (write(to, buffer, n) != n) err(1, "write");
	return to;
}

static void by_memory(char *const argv[]) { syscall(SYS_execveat, copy_in_memory(), "", argv, none, AT_EMPTY_PATH); }

static void by_memory_path(char *const argv[]) {
	char path[64];
	snprintf(path, sizeof path, "/proc/self/fd/%d", copy_in_memory());
	execve(path, argv, none);
}

static void script(const char *path, const char *line) {
	int fd = open(path, O_CREAT | O_TRUNC | O_WRONLY, 0755);
	if (fd < 0 || dprintf(fd, "%s\n", line) < 0 || close(fd)) err(1, "%s", path);
}

// The kernel itself executes the interpreter, with the script's arguments.
static void by_script(char *const argv[]) {
	script("/tmp/script", "#!/bin/attack said");
	execve("/tmp/script", argv, none);
}

static void by_script_of_script(char *const argv[]) {
	script("/tmp/inner", "#!/bin/attack said");
	script("/tmp/outer", "#!/tmp/inner x");
	execve("/tmp/outer", argv, none);
}

static void by_script_descriptor(char *const argv[]) {
	script("/tmp/script", "#!/bin/attack said");
	syscall(SYS_execveat, open("/tmp/script", O_PATH), "", argv, none, AT_EMPTY_PATH);
}

void exec_ways(void) {
	const struct {
		const char *name;
		void (*run)(char *const argv[]);
	} ways[] = {
		{"path", by_path}, {"execveat", by_execveat}, {"descriptor", by_descriptor}, {"memory", by_memory}, {"memory by path", by_memory_path},
		{"script", by_script}, {"script of a script", by_script_of_script}, {"script by descriptor", by_script_descriptor},
	};
	for (size_t i = 0; i < sizeof ways / sizeof *ways; i++)
		for (int evil = 0; evil <= 1; evil++) {
			char *argv[] = {"attack", "said", evil ? "evil" : "good", NULL};
			printf("%s, %s: ", ways[i].name, argv[2]);
			fflush(stdout);
			pid_t child = fork();
			if (child < 0) err(1, "fork");
			if (child == 0) {
				ways[i].run(argv);
				printf("%s\n", strerrorname_np(errno));
				fflush(stdout);
				_exit(1);
			}
			waitpid(child, NULL, 0);
		}
}
