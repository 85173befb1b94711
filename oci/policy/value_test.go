package policy

import (
	"reflect"
	"slices"
	"strings"
	"testing"
)

func TestParseText(t *testing.T) {
	for _, test := range []struct {
		key, text string
		want      value
	}{
		{"limits.memory", "1", value{number: 1}},
		{"limits.memory", " 512M ", value{number: 512 << 20}},
		{"limits.memory", "2k", value{number: 2048}},
		{"limits.memory", "3G", value{number: 3 << 30}},
		{"limits.memory", "4t", value{number: 4 << 40}},
		{"limits.processes", "12", value{number: 12}},
		{"limits.cpu_cores", "5,0-2,1", value{cpus: CPUSet{0, 1, 2, 5}}},
		{"filesystem.read", "/usr/ ; //etc/./ssl;/usr", value{texts: []string{"/usr", "/etc/ssl"}}},
		{"filesystem.mount", "/a/:/b:ro;/c:/d", value{
			texts:  []string{"/a/:/b:ro", "/c:/d"},
			mounts: []Mount{{"/a", "/b", true}, {"/c", "/d", false}},
		}},
		{"filesystem.dry_run", "yes", value{truth: true}},
		{"filesystem.dry_run", "off", value{}},
		{"isolation", "namespaces", value{text: "namespaces"}},
	} {
		got, err := findKey(test.key).parseText(test.text)
		if err != nil || !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s = %q: %+v, %v; want %+v", test.key, test.text, got, err, test.want)
		}
	}
}

func TestBooleans(t *testing.T) {
	for text, want := range map[string]bool{
		"true": true, "1": true, "yes": true, "on": true,
		"false": false, "0": false, "no": false, "off": false,
	} {
		if got, err := parseBool(text); err != nil || got != want {
			t.Errorf("%q: %t, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "True", "y", "2", "enabled"} {
		if _, err := parseBool(text); err == nil {
			t.Errorf("%q is accepted", text)
		}
	}
}

func TestIntersectPaths(t *testing.T) {
	for _, test := range []struct{ a, b, want string }{
		{"/", "/", "/"},
		{"/", "/usr /etc", "/etc /usr"},
		{"/usr/lib", "/usr", "/usr/lib"},
		{"/usr", "/usrlocal", ""},
		{"/a /b/c", "/a/x /b", "/a/x /b/c"},
		{"/a /a/b", "/a", "/a"},
		{"", "/", ""},
	} {
		for range 2 {
			got := strings.Join(intersectPaths(strings.Fields(test.a), strings.Fields(test.b)), " ")
			if got != test.want {
				t.Errorf("%s with %s: %q, want %q", test.a, test.b, got, test.want)
			}
			test.a, test.b = test.b, test.a
		}
	}
}

func TestCPUSet(t *testing.T) {
	for text, want := range map[string]string{"0": "0", "0-3,5": "0-3,5", "3,2,1": "1-3", "7, 9-9": "7,9"} {
		set, err := ParseCPUSet(text)
		if err != nil || set.String() != want {
			t.Errorf("%q: %q, %v; want %q", text, set, err, want)
		}
	}
}

func TestNearest(t *testing.T) {
	for name, want := range map[string]string{"network.alow": "network.allow", "net": "network.allow", "filesytem.read": "filesystem.read"} {
		if got := nearest(name, []string{"network.allow", "filesystem.read"}); got != want {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
	}
}

func TestKeyTable(t *testing.T) {
	seen := map[string]bool{}
	for _, key := range Keys() {
		if seen[key.Name] {
			t.Errorf("%s is twice in the table", key.Name)
		}
		seen[key.Name] = true
		if (key.Kind == Word) != (len(key.Words) > 0) {
			t.Errorf("%s: kind %s with words %q", key.Name, key.Kind, key.Words)
		}
	}
	for _, name := range ProtectionNames() {
		if !seen["protection."+name] {
			t.Errorf("protection.%s is not in the table", name)
		}
	}
}

func FuzzAnnotation(f *testing.F) {
	for _, key := range keys {
		f.Add(key.Name, "1")
	}
	f.Add("filesystem.read", "/a;/b/../c")
	f.Add("filesystem.mount", "/a:/b:ro;:")
	f.Add("limits.memory", "9223372036854775807T")
	f.Add("limits.cpu_cores", "0-8191,0-8191,0-8191")
	f.Fuzz(func(t *testing.T, name, text string) {
		o := &operator{grant: []string{"filesystem.mount", "syscalls.*"}}
		parsed, err := o.parseAnnotations(map[string]string{AnnotationPrefix + name: text})
		if err != nil {
			oneLine(t, err)
			return
		}
		m := merger{grant: o.grant}
		if err := m.add(&parsed, bound); err != nil {
			oneLine(t, err)
			return
		}
		policy := m.finish()
		for _, path := range slices.Concat(policy.Filesystem.Read, policy.Filesystem.Write, policy.Filesystem.Deny) {
			if !strings.HasPrefix(path, "/") || strings.Contains(path, "\x00") || strings.Contains(path+"/", "/../") {
				t.Errorf("path %q", path)
			}
		}
	})
}

func FuzzTOML(f *testing.F) {
	f.Add("[network]\nallow = [\"a:1\"]\n")
	f.Add("filesystem = {read = [\"/a\"], mount = [\"/a:/b\"]}")
	f.Add("[[network]]\n[network.allow]\nx=1")
	f.Add("\"a.b\".c = {d = {e = [{f = 1}]}}\r\n\r\nx = '''\n'''")
	f.Add("annotations.grant = [\"network.*\"]\ndegradable = [\"net_tcp\"]")
	f.Fuzz(func(t *testing.T, text string) {
		o, err := parseOperator("config", []byte(text))
		if err != nil {
			oneLine(t, err)
			return
		}
		m := merger{grant: o.grant}
		if err := m.add(&o.defaults, free); err != nil {
			oneLine(t, err)
		}
		m.finish()
	})
}

func oneLine(t *testing.T, err error) {
	t.Helper()
	if text := err.Error(); text == "" || strings.ContainsAny(text, "\n\x00") {
		t.Errorf("not one line: %q", text)
	}
}
