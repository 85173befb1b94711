package monitor

import (
	"os"
	"path/filepath"
	"testing"
)

func passwd(t testing.TB, text string) *os.File {
	t.Helper()
	name := filepath.Join(t.TempDir(), "passwd")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() })
	return file
}

func TestHomeIn(t *testing.T) {
	for text, want := range map[string]string{
		"":                                    "/",
		"root:x:0:0:root:/root:/bin/sh\n":     "/",
		"user:x:1000:1000::/home/user:/bin/x": "/home/user",
		"user:x:1000:1000:::":                 "/",
		"a:x:1000:1::/first:\nb:x:1000:1::/second:": "/first",
		"user:x:1000":           "/",
		"user:x:number:0::/x:/": "/",
	} {
		if got := HomeIn(passwd(t, text), 1000); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
	directory, err := os.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer directory.Close()
	if got := HomeIn(directory, 1000); got != "/" {
		t.Errorf("a directory: %q", got)
	}
}

// The file is the image's.
func FuzzHomeIn(f *testing.F) {
	f.Add("root:x:0:0:root:/root:/bin/sh\n")
	f.Add("::::::\n\x00:\xff:1000:::\x00")
	f.Fuzz(func(t *testing.T, text string) {
		if HomeIn(passwd(t, text), 1000) == "" {
			t.Error("no home directory")
		}
	})
}
