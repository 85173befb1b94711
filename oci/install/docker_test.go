package install

import (
	"strings"
	"testing"
)

var sandlock = Runtime{Name: "sandlock", Path: "/usr/local/sbin/sandlock-runtime"}

func TestDockerInstall(t *testing.T) {
	agent := sandlock
	agent.Name, agent.Profile = "sandlock-agent", "agent"
	for name, row := range map[string]struct {
		before, after string
		runtime       Runtime
	}{
		"no file": {"", "{\n  \"runtimes\": {\n    \"sandlock\": {\n      \"path\": \"/usr/local/sbin/sandlock-runtime\"\n    }\n  }\n}\n", sandlock},
		"order, numbers and looks are kept": {
			"{\n\t\"z\": 1e2,\n\t\"runtimes\": {\"x\": {\"path\": \"/x\"}},\n\t\"a\": [\"<&>\"]\n}\n",
			"{\n\t\"z\": 1e2,\n\t\"runtimes\": {\n\t\t\"x\": {\n\t\t\t\"path\": \"/x\"\n\t\t},\n\t\t\"sandlock-agent\": {\n\t\t\t\"path\": \"/usr/local/sbin/sandlock-runtime\",\n" +
				"\t\t\t\"runtimeArgs\": [\n\t\t\t\t\"--profile\",\n\t\t\t\t\"agent\"\n\t\t\t]\n\t\t}\n\t},\n\t\"a\": [\n\t\t\"<&>\"\n\t]\n}\n", agent,
		},
		"another place of the same": {
			`{"runtimes": {"sandlock": {"path": "/opt/sandlock-runtime"}}}`,
			"{\n  \"runtimes\": {\n    \"sandlock\": {\n      \"path\": \"/usr/local/sbin/sandlock-runtime\"\n    }\n  }\n}\n", sandlock,
		},
	} {
		after, err := Docker{}.Install([]byte(row.before), row.runtime)
		if err != nil || string(after) != row.after {
			t.Errorf("%s: %v\n%s", name, err, after)
		}
		again, err := Docker{}.Install(after, row.runtime)
		if err != nil || string(again) != string(after) {
			t.Errorf("%s, again: %v\n%s", name, err, again)
		}
		if !(Docker{}).Registered(after) {
			t.Errorf("%s: not registered", name)
		}
	}
}

func TestDockerRefuses(t *testing.T) {
	for before, want := range map[string]string{
		`[]`:              "not a JSON object",
		`{"a": 1`:         "ends too early",
		`{"a": 1} 2`:      "something follows",
		`{"runtimes": 3}`: "runtimes: not a JSON object",
		`{"runtimes": {"sandlock": {"path": "/usr/bin/runsc"}}}`: `registered already, for "/usr/bin/runsc"`,
		`{"runtimes": {"sandlock": 3}}`:                          "runtimes.sandlock: ",
		`{"a": 1, "a": 2}`:                                       `"a" stands there twice`,
	} {
		if _, err := (Docker{}).Install([]byte(before), sandlock); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", before, err)
		}
	}
	for _, r := range []Runtime{{Name: "", Path: "/x"}, {Name: "Sand", Path: "/x"}, {Name: "a b", Path: "/x"}, {Name: "a", Path: "x"}} {
		if _, err := (Docker{}).Install(nil, r); err == nil {
			t.Errorf("%+v is accepted", r)
		}
	}
	if _, err := (Docker{}).Uninstall([]byte(`{"runtimes": {"sandlock": {"path": "/usr/bin/runsc"}}}`), "sandlock"); err == nil {
		t.Error("somebody else's runtime is removed")
	}
}

func TestDockerUninstall(t *testing.T) {
	before := "{\n  \"debug\": true\n}\n"
	after, err := Docker{}.Install([]byte(before), sandlock)
	if err != nil {
		t.Fatal(err)
	}
	back, err := Docker{}.Uninstall(after, "sandlock")
	if err != nil || string(back) != before || (Docker{}).Registered(back) {
		t.Errorf("%v\n%s", err, back)
	}
	if none, err := (Docker{}).Uninstall(back, "sandlock"); err != nil || string(none) != before {
		t.Errorf("what is not there: %v\n%s", err, none)
	}
}

func FuzzDocker(f *testing.F) {
	for _, seed := range []string{"", "{}", `{"a":{"b":[1,"x"]},"runtimes":{"x":{"path":"/x"}}}`, "{\n\t\"runtimes\": {}\n}"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, before []byte) {
		after, err := Docker{}.Install(before, sandlock)
		if err != nil {
			return
		}
		if again, err := (Docker{}).Install(after, sandlock); err != nil || string(again) != string(after) {
			t.Fatalf("installed again: %v\n%s\n%s", err, after, again)
		}
		back, err := Docker{}.Uninstall(after, sandlock.Name)
		if err != nil || (Docker{}).Registered(back) && !(Docker{}).Registered(before) {
			t.Fatalf("uninstalled: %v\n%s", err, back)
		}
	})
}
