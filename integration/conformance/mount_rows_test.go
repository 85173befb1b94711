package conformance

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// option is a mount option, and what /proc/self/mountinfo shows of a mount that has it.
type option struct {
	line    int
	name    string
	with    []string // options before it
	fs      string   // tmpfs if empty, or bind
	shows   string   // a word that there has to be
	without string   // one that there may not be
}

// mountOptions are those that the specification says MUST of.
var mountOptions = []option{
	{line: 95, name: "async", with: []string{"sync"}, without: "sync"},
	{line: 96, name: "atime", with: []string{"noatime"}, without: "noatime"},
	{line: 97, name: "bind", fs: "bind", shows: "/bound"},
	{line: 98, name: "defaults", shows: "rw"},
	{line: 99, name: "dev", with: []string{"nodev"}, without: "nodev"},
	{line: 100, name: "diratime", with: []string{"nodiratime"}, without: "nodiratime"},
	{line: 101, name: "dirsync", shows: "dirsync"},
	{line: 102, name: "exec", with: []string{"noexec"}, without: "noexec"},
	{line: 103, name: "iversion"},
	{line: 104, name: "lazytime", shows: "lazytime"},
	{line: 105, name: "loud", with: []string{"silent"}},
	{line: 107, name: "noatime", shows: "noatime"},
	{line: 108, name: "nodev", shows: "nodev"},
	{line: 109, name: "nodiratime", shows: "nodiratime"},
	{line: 110, name: "noexec", shows: "noexec"},
	{line: 111, name: "noiversion", with: []string{"iversion"}},
	{line: 112, name: "nolazytime", with: []string{"lazytime"}, without: "lazytime"},
	{line: 114, name: "norelatime", with: []string{"relatime"}},
	{line: 115, name: "nostrictatime", with: []string{"strictatime"}, shows: "relatime"},
	{line: 116, name: "nosuid", shows: "nosuid"},
	{line: 118, name: "private", fs: "bind", with: []string{"bind"}, without: "shared:"},
	{line: 120, name: "rbind", fs: "bind", shows: "/bound"},
	{line: 123, name: "relatime", shows: "relatime"},
	{line: 133, name: "ro", shows: "ro"},
	{line: 134, name: "rprivate", fs: "bind", with: []string{"rbind"}, without: "shared:"},
	{line: 138, name: "rshared", fs: "bind", with: []string{"rbind"}, shows: "shared:"},
	{line: 139, name: "rslave", fs: "bind", with: []string{"rbind"}, shows: "master:"},
	{line: 143, name: "runbindable", fs: "bind", with: []string{"rbind"}, shows: "unbindable"},
	{line: 144, name: "rw", with: []string{"ro"}, shows: "rw"},
	{line: 145, name: "shared", fs: "bind", with: []string{"bind"}, shows: "shared:"},
	{line: 146, name: "silent"},
	{line: 147, name: "slave", fs: "bind", with: []string{"bind"}, shows: "master:"},
	{line: 148, name: "strictatime", without: "relatime"},
	{line: 149, name: "suid", with: []string{"nosuid"}, without: "nosuid"},
	{line: 151, name: "sync", shows: "sync"},
	{line: 153, name: "unbindable", fs: "bind", with: []string{"bind"}, shows: "unbindable"},
}

func optionRows() []requirement {
	rows := []requirement{
		{lines: "91,161", says: "options mean what they mean to mount(8): all that go together, together", test: optionsTogether},
	}
	for _, o := range mountOptions {
		rows = append(rows, requirement{lines: fmt.Sprint(o.line), says: "`" + o.name + "`", test: func(x *trial) { x.hasOption(o) }})
	}
	remount := requirement{lines: "124", says: "`remount`", test: func(x *trial) {
		b := x.bundle("grep ' /m ' /proc/self/mountinfo | cut -d' ' -f6 | tr , '\\n' | grep -x -e ro -e noexec")
		b.mount("/m", "tmpfs", "tmpfs")
		b.mount("/m", "tmpfs", "tmpfs", "remount", "ro", "noexec")
		x.prints(b, "ro\nnoexec\n")
	}}
	at := slices.IndexFunc(rows, func(q requirement) bool { return q.lines == "133" })
	return slices.Insert(rows, at, remount)
}

// hasOption mounts something with the option and reads the container's table of mounts.
func (x *trial) hasOption(o option) {
	b := x.bundle("grep ' /m ' /proc/self/mountinfo")
	switch o.fs {
	case "bind":
		source := filepath.Join(x.sharedMount(), "bound")
		x.noError(os.Mkdir(source, 0o755))
		b.mount("/m", "bind", source, append(o.with, o.name)...)
	default:
		b.mount("/m", "tmpfs", "tmpfs", append(slices.Clone(o.with), o.name)...)
	}
	line := x.runs(b)
	words := strings.FieldsFunc(line, func(r rune) bool { return r == ' ' || r == ',' || r == '\n' })
	has := func(word string) bool {
		return slices.ContainsFunc(words, func(w string) bool {
			return w == word || strings.HasSuffix(word, ":") && strings.HasPrefix(w, word)
		})
	}
	if strings.Count(line, "\n") != 1 || o.shows != "" && !has(o.shows) || o.without != "" && has(o.without) {
		x.errorf("the mount is %q", line)
	}
}

// sharedMount is a tmpfs of the trial's own that shares its mounts, so that something can be a slave of it.
func (x *trial) sharedMount() string {
	dir := x.tempDir()
	x.noError(unix.Mount("tmpfs", dir, "tmpfs", 0, ""))
	x.cleanup(func() { x.noError(unix.Unmount(dir, unix.MNT_DETACH)) })
	x.noError(unix.Mount("", dir, "", unix.MS_SHARED, ""))
	return dir
}

func optionsTogether(x *trial) {
	b := x.bundle("grep ' /m ' /proc/self/mountinfo | tr ', ' '\\n\\n' | grep -x -e ro -e nosuid -e nodev -e noexec -e noatime -e sync | sort -u; stat -c %a /m; df -k /m | tail -1 | tr -s ' ' | cut -d' ' -f2")
	b.mount("/m", "tmpfs", "tmpfs", "ro", "nosuid", "nodev", "noexec", "noatime", "sync", "mode=1750", "size=64k")
	x.prints(b, "noatime\nnodev\nnoexec\nnosuid\nro\nsync\n1750\n64\n")
}

// idmapRows are the rows of idmapped mounts.
func idmapRows() []requirement {
	const since = "1.1.0"
	return []requirement{
		{lines: "154", says: "`idmap` maps the mount by its own mappings", since: since, test: idmapped("idmap", false)},
		{lines: "154", says: "`idmap` without any mappings is an error", since: since, test: refusesWith(func(b *bundle) { b.mount("/m", "bind", b.dir, "bind", "idmap") })},
		{lines: "155", says: "`ridmap` maps the mount and those below it by its own mappings", since: "1.2.0", test: idmapped("ridmap", true)},
		{lines: "155", says: "`ridmap` without any mappings is an error", since: "1.2.0", test: refusesWith(func(b *bundle) { b.mount("/m", "bind", b.dir, "rbind", "ridmap") })},
		{lines: "192,197", says: "`uidMappings` and `gidMappings` of a mount come together: one alone is an error", since: since, test: func(x *trial) {
			mapping := []specs.LinuxIDMapping{{ContainerID: 0, HostID: 1000, Size: 1}}
			for _, m := range []specs.Mount{{UIDMappings: mapping}, {GIDMappings: mapping}} {
				b := x.bundle(sleeps)
				m.Destination, m.Type, m.Source, m.Options = "/m", "bind", b.dir, []string{"bind", "idmap"}
				b.spec.Mounts = append(b.spec.Mounts, m)
				x.refuses(b)
			}
		}},
	}
}

// idmapped mounts a directory whose owner, 0 there, is 5000 in the container, with another file system below it.
func idmapped(option string, recursive bool) func(x *trial) {
	return func(x *trial) {
		source := x.sharedMount()
		below := filepath.Join(source, "below")
		x.noError(os.Mkdir(below, 0o755))
		x.noError(unix.Mount("tmpfs", below, "tmpfs", 0, "mode=755"))
		x.cleanup(func() { x.noError(unix.Unmount(below, unix.MNT_DETACH)) })
		b := x.bundle("stat -c '%u %g' /m /m/below")
		mapping := []specs.LinuxIDMapping{{ContainerID: 0, HostID: 5000, Size: 10}}
		b.spec.Mounts = append(b.spec.Mounts, specs.Mount{Destination: "/m", Type: "bind", Source: source, Options: []string{"rbind", "rprivate", option},
			UIDMappings: mapping, GIDMappings: mapping})
		want := "5000 5000\n0 0\n"
		if recursive {
			want = "5000 5000\n5000 5000\n"
		}
		x.prints(b, want)
	}
}
