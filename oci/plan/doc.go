// Package plan decides what a container will be, before anything is done.
//
// A [Plan] is the spec, the policy and the host, resolved: namespaces, mount map, Landlock ruleset, filters, network verdicts, the process's
// identity. [New] is a pure function of its [Request]; the same request gives the same plan, and a request that cannot be carried
// out as it is asked gives an error here and not half a container. A Plan is a plain value: it is stored beside the
// container's state, read back by exec, and printed by inspect.
//
// [Plan.Init] and [Plan.Exec] turn a plan and the descriptors that the monitor holds into the launch programs of the
// container's first process and of those that join it.
package plan
