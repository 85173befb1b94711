package cgroup

import (
	"encoding/json"
	"errors"

	"github.com/opencontainers/cgroups"
)

// place is what a [Config] says of where the cgroup is and who has made it, in the library's words.
type place struct {
	Cgroup *struct {
		Name        string `json:"name"`
		Parent      string `json:"parent"`
		Path        string `json:"path"`
		ScopePrefix string `json:"scope_prefix"`
		Systemd     bool
		Rootless    bool
		OwnerUID    *int `json:"owner_uid"`
	} `json:"cgroup"`
	Required string `json:"required"`
	Disabled bool   `json:"disabled"`
}

// errPlaceOnly is what needs the limits gets where they have been passed over.
var errPlaceOnly = errors.New("the cgroup's limits have not been read")

// DecodePlace reads the JSON of a [Config] without the limits, for [Load]: most verbs do not look at them, and encoding/json takes longer to get to know their
// types than such a verb takes for all the rest. [Manager.Update] needs them, and fails with what this returns.
func DecodePlace(text []byte) (Config, error) {
	var p place
	if err := json.Unmarshal(text, &p); err != nil {
		return Config{}, err
	}
	c := Config{Required: p.Required, Disabled: p.Disabled, placeOnly: true}
	if in := p.Cgroup; in != nil {
		c.Cgroup = &cgroups.Cgroup{
			Name: in.Name, Parent: in.Parent, Path: in.Path, ScopePrefix: in.ScopePrefix, Systemd: in.Systemd, Rootless: in.Rootless, OwnerUID: in.OwnerUID,
		}
	}
	return c, nil
}
