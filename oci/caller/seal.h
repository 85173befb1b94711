#ifndef SANDLOCK_SEAL_H
#define SANDLOCK_SEAL_H

// seal returns in a process whose executable cannot be written through /proc/PID/exe: it executes the
// program again if need be, and ends the process with a message if it cannot.
void seal(char **argv, char **environment);

#endif
