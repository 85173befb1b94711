// Package state keeps what is known of a container in a directory, ROOT/ID, from create to delete.
//
// Every verb is a process of its own, and any of them, and the machine, can die between two steps. So each file has one
// writer, and is there as a whole or not at all:
//
//	state.json   what create made, written by the creator, and again by the monitor   [Dir.Save]
//	config.json  the spec as resolved, which exec needs                               [Dir.WriteFile]
//	started      made by the one start that wins                                      [Dir.MarkStarted]
//	exit.json    how the container ended, written by the monitor                      [Dir.SaveExit]
//	monitor.sock the monitor's control socket                                         [Dir.Listen], [Dir.Dial]
//
// Whoever changes the container's life holds the directory's lock meanwhile, see [Dir.Lock].
//
// Files are replaced by rename, without fsync: the reader they must not mislead is another process of the running system,
// for which rename is atomic. After a crash of the system itself no container is left that a file could tell of; its boot
// id says so, and a torn file is treated like a missing one, as a half-made container that delete --force removes.
//
// A process is known by pid, start time and boot id, never by the pid alone, so that neither a recycled pid nor a reboot
// can pass for a running container.
package state
