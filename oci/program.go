package oci

import (
	"fmt"
	"os"

	"github.com/sandlock/sandlock-runtime/oci/bundle"
	"github.com/sandlock/sandlock-runtime/oci/monitor"
	"github.com/sandlock/sandlock-runtime/oci/policy"
)

// LaunchProgram lists the launch program of a bundle's container, one raw system call a line, without starting it. The cgroup that the program refers
// to is made and removed again.
func (r *Runtime) LaunchProgram(bundleDir string) (program string, err error) {
	c := &container{runtime: r, host: warmUp()}
	if c.bundle, err = bundle.Load(bundleDir); err != nil {
		return "", err
	}
	asked, err := policy.Load(policy.Options{ConfigPath: r.Config, Profile: r.Profile, Annotations: c.bundle.Spec.Annotations})
	if err != nil {
		return "", err
	}
	id := fmt.Sprintf("debug-%d", os.Getpid())
	if err := c.findCgroup(id, asked); err != nil {
		return "", err
	}
	if err := c.decide(id, asked); err != nil {
		return "", err
	}
	if err := c.cgroup.Prepare(); err != nil {
		return "", err
	}
	defer func() {
		if destroyErr := c.cgroup.Destroy(); err == nil {
			err = destroyErr
		}
	}()
	return monitor.Program(monitor.Request{Plan: c.plan, Cgroup: c.cgroup, Entrance: c.cgroup.Enter, NewKeyring: true, FilterCache: r.filterCache()})
}
