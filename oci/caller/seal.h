#ifndef SANDLOCK_SEAL_H
#define SANDLOCK_SEAL_H

// seal returns 0 in a process whose executable cannot be written through /proc/PID/exe: it executes the program again if need be. It returns -1,
// with errno set, if it cannot.
int seal(char **argv, char **environment);

// executed_by_descriptor says whether this process is the outcome of seal.
int executed_by_descriptor(void);

// execute_again executes the program again, sealed. It returns, with errno set, only if it cannot.
void execute_again(char **argv, char **environment);

#endif
