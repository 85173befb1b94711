// Package monitor makes a container and watches over it.
//
// One process a container is its monitor: it starts the first process by the plan ([Create]), holds the listeners of the container's filters
// and answers their notifications, and serves a control socket on which start and exec speak to it ([Serve], [Dial]). It ends when the
// container's first process has ended.
//
// What the package promises:
//
//   - a creation that fails, or whose caller dies, leaves nothing behind: no process, mount, cgroup or state;
//   - every process that joins the container is under the same ruleset and filters before it runs;
//   - when the monitor of a supervised container is killed, the container's first process is killed, too, and until then trapped system calls
//     fail: nothing becomes permitted;
//   - the control socket answers root and the monitor's own user only, and no message on it can do more than the verbs can.
package monitor
