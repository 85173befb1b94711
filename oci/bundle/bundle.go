package bundle

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// ConfigName is the name of the spec within a bundle (runtime-spec, "Filesystem
// Bundle").
const ConfigName = "config.json"

// maxDocument bounds the documents read, in bytes. Docker's are about 60 KB.
const maxDocument = 16 << 20

// Bundle is a loaded and validated bundle.
type Bundle struct {
	// Path is the bundle directory: absolute, without symbolic links.
	Path string
	// Spec is the decoded config.json. Relative mount destinations have been
	// made absolute; nothing else differs from the file.
	Spec *specs.Spec
	// Raw is the config.json as it was read.
	Raw []byte
	// RootFS is the directory that root.path names: absolute, without
	// symbolic links.
	RootFS string
	// Warnings are for the log: what was accepted, though it is not as it
	// should be. One line each.
	Warnings []string
}

// Load reads and validates the bundle in dir, which defaults to the working
// directory. The error names the file, the field and the reason in one line.
func Load(dir string) (*Bundle, error) {
	path, err := resolve(dir)
	if err != nil {
		return nil, fmt.Errorf("bundle %s: %w", dir, reason(err))
	}
	file := filepath.Join(path, ConfigName)
	data, err := readDocument(file)
	if err != nil {
		return nil, err
	}
	spec, err := Parse(data)
	if err != nil {
		return nil, inFile(err, file)
	}
	if err := findNamespaces(spec); err != nil {
		return nil, inFile(err, file)
	}
	warnings, err := Validate(spec)
	if err != nil {
		return nil, inFile(err, file)
	}
	rootfs, err := findRootFS(path, spec.Root.Path)
	if err != nil {
		return nil, inFile(err, file)
	}
	return &Bundle{Path: path, Spec: spec, Raw: data, RootFS: rootfs, Warnings: warnings}, nil
}

// resolve makes a directory's path absolute and free of symbolic links, which
// is what the kernel would call it after a chdir.
func resolve(dir string) (string, error) {
	path, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	return filepath.EvalSymlinks(path)
}

// findRootFS checks that root.path names a directory, and that no symbolic link
// leads to it: whoever could change the link between here and the mount would
// choose the root. runc refuses links there too.
func findRootFS(bundle, path string) (string, error) {
	const field = "root.path"
	if !filepath.IsAbs(path) {
		path = filepath.Join(bundle, path)
	}
	path = filepath.Clean(path)
	resolved, err := filepath.EvalSymlinks(path)
	if err != nil {
		return "", &FieldError{Field: field, Reason: fmt.Sprintf("%s: %v", path, reason(err)), Err: err}
	}
	if resolved != path {
		return "", invalid(field, "%s is or lies behind a symbolic link, to %s", path, resolved)
	}
	info, err := os.Lstat(path)
	if err != nil {
		return "", &FieldError{Field: field, Reason: fmt.Sprintf("%s: %v", path, reason(err)), Err: err}
	}
	if !info.IsDir() {
		return "", invalid(field, "%s is not a directory", path)
	}
	return path, nil
}

// readDocument reads a file of at most maxDocument bytes.
func readDocument(name string) ([]byte, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, reason(err))
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, reason(err))
	}
	if info.IsDir() {
		return nil, fmt.Errorf("%s: is a directory", name)
	}
	if info.Size() > maxDocument {
		return nil, tooLarge(name)
	}
	// The size is a hint only: a pipe (exec --process <(...)) has none.
	data := make([]byte, 0, info.Size()+1)
	for {
		n, err := file.Read(data[len(data):cap(data)])
		data = data[:len(data)+n]
		if errors.Is(err, io.EOF) {
			return data, nil
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, reason(err))
		}
		if len(data) > maxDocument {
			return nil, tooLarge(name)
		}
		if len(data) == cap(data) {
			data = append(data, 0)[:len(data)]
		}
	}
}

func tooLarge(name string) error {
	return fmt.Errorf("%s: larger than %d MiB", name, maxDocument>>20)
}

// reason strips operation and path from a file error; the caller says better
// what was to be done, and with which file.
func reason(err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}
