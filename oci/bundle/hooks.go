package bundle

import (
	"path"

	"github.com/opencontainers/runtime-spec/specs-go"
)

func checkHooks(spec *specs.Spec) error {
	if spec.Hooks == nil {
		return nil
	}
	for _, kind := range []struct {
		field string
		hooks []specs.Hook
	}{
		//lint:ignore SA1019 deprecated in the specification, and what Docker uses
		{"hooks.prestart", spec.Hooks.Prestart}, //nolint:staticcheck // as above
		{"hooks.createRuntime", spec.Hooks.CreateRuntime},
		{"hooks.createContainer", spec.Hooks.CreateContainer},
		{"hooks.startContainer", spec.Hooks.StartContainer},
		{"hooks.poststart", spec.Hooks.Poststart},
		{"hooks.poststop", spec.Hooks.Poststop},
	} {
		for i, hook := range kind.hooks {
			if hook.Path == "" {
				return missing(at(kind.field, i) + ".path")
			}
			if !path.IsAbs(hook.Path) {
				return invalid(at(kind.field, i)+".path", "%q is not absolute", hook.Path)
			}
			if hook.Timeout != nil && *hook.Timeout <= 0 {
				return invalid(at(kind.field, i)+".timeout", "%d, expected seconds above 0", *hook.Timeout)
			}
			for j, entry := range hook.Env {
				if err := checkEnv(entry); err != "" {
					return invalid(at(at(kind.field, i)+".env", j), "%s", err)
				}
			}
		}
	}
	return nil
}
