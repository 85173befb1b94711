package policy

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// profileSuffix ends the file names of profiles.
const profileSuffix = ".toml"

// loadProfile reads a profile by its name, which has been checked. An absent one
// is reported under the key that chose it.
func loadProfile(directory, name string, chosenBy string) (layer, error) {
	file := filepath.Join(directory, name+profileSuffix)
	data, err := readFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return layer{}, &KeyError{
			Key: chosenBy, Value: name,
			Reason:  "no such profile in " + directory,
			Nearest: nearest(name, listProfiles(directory)),
		}
	}
	if err != nil {
		return layer{}, err
	}
	return parseDocument(data, source{kind: sourceProfile, file: file})
}

// listProfiles returns the names of the profiles in a directory; none if it
// cannot be read.
func listProfiles(directory string) []string {
	entries, err := os.ReadDir(directory)
	if err != nil {
		return nil
	}
	var names []string
	for _, entry := range entries {
		if name, is := strings.CutSuffix(entry.Name(), profileSuffix); is && name != "" && checkName(name) == nil {
			names = append(names, name)
		}
	}
	return names
}
