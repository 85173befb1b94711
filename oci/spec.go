package oci

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/opencontainers/runc/libcontainer/specconv"

	"github.com/sandlock/sandlock-runtime/oci/bundle"
)

// WriteSpec writes a config.json to start from into dir, the working directory if that is empty. A file that is there is left alone, and is
// an error.
func WriteSpec(dir string, rootless bool) error {
	spec := specconv.Example()
	if rootless {
		specconv.ToRootless(spec)
	}
	text, err := json.MarshalIndent(spec, "", "\t")
	if err != nil {
		return err
	}
	name := filepath.Join(dir, bundle.ConfigName)
	file, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if errors.Is(err, os.ErrExist) {
		return fmt.Errorf("file %s exists: remove it first", name)
	}
	if err != nil {
		return err
	}
	_, err = file.Write(text)
	if closed := file.Close(); err == nil {
		err = closed
	}
	if err != nil {
		_ = os.Remove(name) // half of a file is worse than none
	}
	return err
}
