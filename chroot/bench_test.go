package chroot

import (
	"testing"

	"github.com/sandlock/sandlock-runtime/oci/launch"
	"golang.org/x/sys/unix"
)

// BenchmarkStart is a whole start with Docker's mounts and namespaces, to the exit of a program that does nothing, with the time that
// the parent's part takes in the results.
func BenchmarkStart(b *testing.B) {
	x := newBox(b)
	x.cgroups(Cgroups{}, "ro")
	for _, name := range []string{"resolv.conf", "hostname", "hosts"} {
		x.mount("/etc/"+name, "", x.host("etc")+"/file", "rbind", "rprivate")
	}
	for b.Loop() {
		m, err := NewMap(x.request)
		x.must(err)
		s, err := Open(m)
		x.must(err)
		p := launch.New()
		root := s.Steps(p)
		s.Pivot(p, root)
		s.Finish(p, root)
		p.Unblock()
		p.CloseOnExec(3)
		p.Execve("/bin/busybox", launch.Strings([]string{"true"}, ""), launch.Strings(nil, ""))
		c, err := launch.Start(p, launch.Options{Namespaces: unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS | unix.CLONE_NEWNET | unix.CLONE_NEWCGROUP})
		x.must(err)
		_, err = c.Wait()
		x.must(err)
		s.Close()
		x.reap(c)
		c.Close()
		x.must(c.PIDFD.Close())
	}
}

// BenchmarkPlan is the part of a start that only thinks.
func BenchmarkPlan(b *testing.B) {
	spec := dockerSpec(b)
	for b.Loop() {
		m, err := NewMap(MapRequest{Spec: spec, RootFS: "/rootfs", Bundle: "/", Cgroups: legacyCgroups})
		if err != nil {
			b.Fatal(err)
		}
		s := pretend(m)
		p := launch.New()
		root := s.Steps(p)
		s.Pivot(p, root)
		s.Finish(p, root)
	}
}

// BenchmarkOpen is the parent's system calls.
func BenchmarkOpen(b *testing.B) {
	x := newBox(b)
	for _, name := range []string{"resolv.conf", "hostname", "hosts"} {
		x.mount("/etc/"+name, "", x.host("etc")+"/file", "rbind", "rprivate")
	}
	m, err := NewMap(x.request)
	x.must(err)
	for b.Loop() {
		s, err := Open(m)
		x.must(err)
		b.StopTimer()
		s.Close()
		b.StartTimer()
	}
}
