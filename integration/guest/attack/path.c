#include "attack.h"

#include <linux/openat2.h>

// Files are opened by a name that leads to "/data/good" or to "/data/secret", and the latter is denied. Each file holds its own name.

enum { OPENS = 8000, MUCH_LONGER = 20, NAME = 32 };

static char *name;
static const char good[NAME] = "/data/good", secret[NAME] = "/data/secret";

static void *rename_in_memory(void *unused) {
	for (unsigned i = 0;; i++) {
		// What differs is the last seven bytes, in two words.
		const char *from = i & 1 ? secret : good;
		for (int at = 0; at < NAME; at += 8) ((volatile uint64_t *)(void *)name)[at / 8] = ((const uint64_t *)(const void *)from)[at / 8];
		for (volatile int pause = 0; pause < 50; pause++) {}
	}
	return unused;
}

static void *relink(void *unused) {
	if (symlink(good, "/data/to-good") || symlink(secret, "/data/to-secret")) err(1, "symlink");
	for (;;) {
		if (link("/data/to-good", "/data/new") || rename("/data/new", "/data/link")) break;
		if (link("/data/to-secret", "/data/new") || rename("/data/new", "/data/link")) break;
		unlink("/data/new"); // rename does nothing where both names are one file
	}
	err(1, "relink");
	return unused;
}

static int opened(unsigned how, const char *path) {
	struct open_how read_only = {.flags = O_RDONLY};
	char again[64];
	int fd;
	switch (how % 4) {
	case 0: return syscall(SYS_openat, AT_FDCWD, path, O_RDONLY);
	case 1: return syscall(SYS_openat2, AT_FDCWD, path, &read_only, sizeof read_only);
	case 2:
		fd = open(path, O_PATH);
		if (fd < 0) return fd;
		snprintf(again, sizeof again, "/proc/self/fd/%d", fd);
		int result = open(again, O_RDONLY), error = errno;
		close(fd);
		errno = error;
		return result;
	default: return open(path, O_RDONLY | O_CLOEXEC);
	}
}

static void open_often(const char *attack, const char *path) {
	int passed = 0, refusals = 0, breaches = 0;
	for (unsigned i = 0; (i < OPENS || !passed || !refusals) && !breaches; i++) {
		if (elapsed() > MUCH_LONGER) break;
		int fd = opened(i, path);
		char text[16] = "";
		if (fd >= 0) {
			ssize_t n = read(fd, text, sizeof text - 1);
			close(fd);
			// What is covered reads as nothing.
			if (n > 0 && strncmp(text, "good", 4)) breaches++;
			else if (n > 0) passed++;
			else refusals++;
		} else {
			refusals += refused();
		}
	}
	printf("%s: passed %d refused %d breached %d\n", attack, passed, refusals, breaches);
}

static void start(void *(*f)(void *)) {
	pthread_t thread;
	if (pthread_create(&thread, NULL, f, NULL)) errx(1, "pthread_create");
}

// A thread rewrites the name while it is looked up.
void path_thread(void) {
	name = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (name == MAP_FAILED) err(1, "mmap");
	strcpy(name, good);
	start(rename_in_memory);
	open_often("path-thread", name);
}

// Another process does, through memory that both share.
void path_memory(void) {
	name = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (name == MAP_FAILED) err(1, "mmap");
	strcpy(name, good);
	pid_t peer = fork();
	if (peer < 0) err(1, "fork");
	if (peer == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		rename_in_memory(NULL);
	}
	open_often("path-memory", name);
	kill(peer, SIGKILL);
	waitpid(peer, NULL, 0);
}

// The name stays, and is a link that leads elsewhere each time.
void path_link(void) {
	start(relink);
	open_often("path-link", "/data/link");
}

// Other names of the same file: each is tried once.
static void try(const char *what, int fd) {
	char text[16] = "";
	if (fd >= 0 && read(fd, text, sizeof text - 1) < 0) strcpy(text, "unreadable");
	text[strcspn(text, "\n")] = 0;
	printf("path-names: %s: %s\n", what, fd < 0 ? strerrorname_np(errno) : *text ? text : "nothing");
	close(fd);
}

void path_names(void) {
	try("good", open(good, O_RDONLY));
	try("its name", open(secret, O_RDONLY));
	try("dots", open("/data/./../data//secret", O_RDONLY));
	try("relative", openat(open("/data", O_PATH), "secret", O_RDONLY));
	try("root", open("/proc/self/root/data/secret", O_RDONLY));
	unlink("/data/symbolic");
	try("symbolic link", symlink("secret", "/data/symbolic") ? -1 : open("/data/symbolic", O_RDONLY));
	try("older hard link", open("/data/hard", O_RDONLY));
	try("new hard link", link(secret, "/data/newer") ? -1 : open("/data/newer", O_RDONLY));
	try("renamed", rename(secret, "/data/renamed") ? -1 : open("/data/renamed", O_RDONLY));
	const char *moved = access("/data/secret", F_OK) ? "/moved/renamed" : "/moved/secret";
	try("renamed directory", rename("/data", "/moved") ? -1 : open(moved, O_RDONLY));
}
