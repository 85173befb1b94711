// Package terminal connects a container's pseudo terminal to its user: by handing the master over to whoever listens on
// --console-socket, or by relaying it to the terminal the runtime was called from.
//
// It starts from the master's descriptor. The pair itself is made inside the container, in the container's own devpts, by
// the launch program.
package terminal
