package oci

import (
	"encoding/json"
	"fmt"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/sandlock/sandlock-runtime/oci/cgroup"
	"github.com/sandlock/sandlock-runtime/oci/plan"
	"github.com/sandlock/sandlock-runtime/oci/state"
)

// open opens an existing container and says where in its life it is. The caller closes the directory.
func (r *Runtime) open(id string) (*state.Dir, *state.Record, specs.ContainerState, error) {
	dir, err := state.Open(r.Root, id)
	if err != nil {
		return nil, nil, "", err
	}
	record, status, err := loadContainer(dir)
	if err != nil {
		dir.Close()
		return nil, nil, "", err
	}
	return dir, record, status, nil
}

// loadContainer reads what is on record of a container, and asks the machine for the rest.
func loadContainer(dir *state.Dir) (*state.Record, specs.ContainerState, error) {
	record, err := dir.Load()
	if err != nil {
		return nil, "", err
	}
	_, status, err := loadStatus(record)
	return record, status, err
}

// loadStatus is the cgroup that a container was given, and where in its life the container is.
func loadStatus(record *state.Record) (*cgroup.Manager, specs.ContainerState, error) {
	group, err := loadCgroup(record)
	if err != nil {
		return nil, "", err
	}
	status, err := observe(record, group)
	return group, status, err
}

// loadCgroup is the cgroup that a container was given, for all but a change of its limits.
func loadCgroup(record *state.Record) (*cgroup.Manager, error) {
	return cgroupBy(record, cgroup.DecodePlace)
}

// loadLimits is the cgroup that a container was given, with the limits that it has.
func loadLimits(record *state.Record) (*cgroup.Manager, error) {
	return cgroupBy(record, func(text []byte) (config cgroup.Config, err error) {
		err = json.Unmarshal(text, &config)
		return config, err
	})
}

func cgroupBy(record *state.Record, decode func([]byte) (cgroup.Config, error)) (*cgroup.Manager, error) {
	var config cgroup.Config
	if len(record.Cgroup) > 0 {
		var err error
		if config, err = decode(record.Cgroup); err != nil {
			return nil, fmt.Errorf("state of %s: cgroup: %w", record.ID, err)
		}
	}
	return cgroup.Load(config, record.CgroupPaths)
}

// observe asks the machine where in its life a container is.
func observe(record *state.Record, group *cgroup.Manager) (specs.ContainerState, error) {
	facts, err := state.Observe(record)
	if err != nil {
		return "", err
	}
	if facts.Init.Is(record.Init) {
		if facts.Frozen, err = group.Frozen(); err != nil {
			return "", err
		}
	}
	return state.Status(record, facts), nil
}

// loadPlan reads the plan that a container was made by, with the filter that its spec has.
func loadPlan(dir *state.Dir) (*plan.Plan, error) {
	text, err := dir.ReadFile(planFile)
	if err != nil {
		return nil, err
	}
	p := new(plan.Plan)
	if err := json.Unmarshal(text, p); err != nil {
		return nil, fmt.Errorf("%s/%s: %w", dir.Path(), planFile, err)
	}
	spec, err := loadSpec(dir)
	if err != nil {
		return nil, err
	}
	p.Seccomp = spec.Linux.Seccomp
	return p, nil
}

// loadSpec reads the spec that a container was made by.
func loadSpec(dir *state.Dir) (*specs.Spec, error) {
	spec := new(specs.Spec)
	if err := decodeSpec(dir, spec); err != nil {
		return nil, err
	}
	return spec, nil
}

// loadHooks reads the hooks of the spec that a container was made by, and nothing else of it: a whole spec costs encoding/json two milliseconds, as the first of its
// kind in a process.
func loadHooks(dir *state.Dir) (*specs.Hooks, error) {
	var spec struct {
		Hooks *specs.Hooks `json:"hooks"`
	}
	if err := decodeSpec(dir, &spec); err != nil {
		return nil, err
	}
	return spec.Hooks, nil
}

func decodeSpec(dir *state.Dir, into any) error {
	text, err := dir.ReadFile(state.ConfigFile)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("%s/%s: %w", dir.Path(), state.ConfigFile, err)
	}
	return nil
}
