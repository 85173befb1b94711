package chroot

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

const hostsText = "127.0.0.1\tlocalhost\n192.0.2.1\tapi.example.com\n"

func (b *box) writes(path, content string) {
	b.request.Files = append(b.request.Files, File{Origin: "network.allow", Path: path, Content: content})
}

const readHosts = "cat /etc/hosts; stat -c '%a %F' /etc/hosts; touch /etc/hosts 2>/dev/null || echo read-only; echo x 2>/dev/null >>/etc/hosts || echo read-only; "

// seen is what readHosts prints of hostsText.
const seen = "127.0.0.1\tlocalhost\n192.0.2.1\tapi.example.com\n644 regular file\nread-only\nread-only"

func TestWrittenFile(t *testing.T) {
	b := newBox(t)
	b.file("etc/hosts", "the image's\n", 0o600)
	b.writes("/etc/hosts", hostsText)
	b.want(readHosts+"ls /etc; pwd", seen+"\nhosts\n/")

	b = newBox(t) // the image has none
	b.writes("/etc/hosts", hostsText)
	b.want(readHosts, seen)

	b = newBox(t)
	b.request.Spec.Root.Readonly = true
	b.writes("/etc/hosts", hostsText)
	b.want(readHosts, seen)

	b = newBox(t) // an empty one, and one of several pages
	b.writes("/etc/empty", "")
	b.writes("/etc/large", strings.Repeat("0123456789abcdef", 4096))
	b.want("wc -c </etc/empty; wc -c </etc/large", "0\n65536")
}

// A link of the image counts, and leads nowhere but into the container.
func TestWrittenFileBehindLinks(t *testing.T) {
	for _, target := range []string{"/data/hosts", "../data/hosts", "/../../data/hosts"} {
		b := newBox(t)
		b.link(target, "etc/hosts")
		b.file("data/hosts", "the image's\n", 0o644)
		b.writes("/etc/hosts", hostsText)
		b.want("cat /etc/hosts /data/hosts | wc -l; readlink /etc/hosts", "4\n"+target)
	}
	b := newBox(t) // to nothing
	b.link("../data/made/hosts", "etc/hosts")
	b.writes("/etc/hosts", hostsText)
	b.want("cat /etc/hosts /data/made/hosts | wc -l", "4")

	b = newBox(t)
	b.link("/proc/version", "etc/hosts")
	b.writes("/etc/hosts", hostsText)
	b.refused("network.allow /etc/hosts: a link leads into /proc")
}

// It takes the place of what the spec mounts there, and lies over whatever else is mounted around it.
func TestWrittenFileReplaces(t *testing.T) {
	b := newBox(t)
	source := b.host("secret")
	b.mount("/etc/hosts", "bind", source+"/file", "rbind", "rprivate")
	b.writes("/etc/hosts", hostsText)
	b.want(readHosts+"grep -c ' /etc/hosts ' /proc/self/mountinfo; grep -c secret /proc/self/mountinfo", seen+"\n1\n0")
	b.want("grep ' /etc/hosts ' /proc/self/mountinfo | grep -o ' /hosts /etc/hosts ro,nosuid,nodev,noexec,relatime - tmpfs tmpfs '", "/hosts /etc/hosts ro,nosuid,nodev,noexec,relatime - tmpfs tmpfs")

	b = newBox(t)
	b.mount("/etc", "tmpfs", "tmpfs")
	b.writes("/etc/hosts", hostsText)
	b.want(readHosts, seen)

	b = newBox(t) // a denied path stays denied
	b.request.Denied = []string{"/etc/hosts"}
	b.writes("/etc/hosts", hostsText)
	b.want("cat /etc/hosts; stat -c %a /etc/hosts", "0")

	b = newBox(t)
	b.mkdir("etc/hosts")
	b.writes("/etc/hosts", hostsText)
	b.refused("network.allow /etc/hosts: the destination is a directory, the source is not: not a directory")
}

func TestWrittenFileInUserNamespace(t *testing.T) {
	b := newBox(t)
	b.inUserNamespace()
	b.writes("/etc/hosts", hostsText)
	b.want(readHosts, seen)
}

// Before Linux 6.15 the child takes the file out of its filesystem.
func TestWrittenFileOnOlderKernels(t *testing.T) {
	for _, userNamespace := range []bool{false, true} {
		b := newBox(t)
		if userNamespace {
			b.inUserNamespace()
		}
		b.writes("/etc/hosts", hostsText)
		b.opened = func(s *Sources) {
			// What openWritten opened last but one is the filesystem, and last the file in it.
			last := &s.entries[len(s.entries)-1]
			for i, fd := range s.opened {
				if fd == last.mount {
					mount, err := s.hold(unix.FcntlInt(uintptr(s.opened[i-1]), unix.F_DUPFD_CLOEXEC, 0))
					b.must(err)
					last.mount, last.inside = mount, "hosts"
				}
			}
		}
		b.want(readHosts+"ls /; cat /proc/self/mountinfo | while read -r id parent device root point rest; do case $point in /|/etc/hosts) echo $point;; esac; done; pwd", seen+"\nbin\ndata\ndev\netc\nproc\nsys\ntmp\n/\n/etc/hosts\n/")
		if last := b.sources.entries[len(b.sources.entries)-1]; last.inside == "" {
			t.Error("the older way was not taken")
		}
	}
}
