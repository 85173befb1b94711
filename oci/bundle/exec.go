package bundle

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// ExecOptions are the flags of exec, to be laid over the container's process.
type ExecOptions struct {
	Args           []string // program and arguments, required
	Cwd            string   // --cwd; "" keeps the container's
	Env            []string // --env, NAME=value, added after the container's
	TTY            bool     // --tty; the container's own setting is not inherited
	User           string   // --user, UID[:GID]; "" keeps the container's
	AdditionalGIDs []int64  // --additional-gids, added to the container's
	Caps           []string // --cap, added to the container's
	NoNewPrivs     *bool    // --no-new-privs; nil keeps the container's
	AppArmor       string   // --apparmor; "" keeps the container's
	ProcessLabel   string   // --process-label; "" keeps the container's
}

// ExecProcess composes the process of an exec, by the rules of "runc exec", from
// the container's own process, which it leaves untouched, and validates it.
//
// Capabilities go into the bounding, effective and permitted sets, and into the
// ambient one where the container has inheritable capabilities. A container
// process without capabilities in its spec has none, and they are the first.
func ExecProcess(base *specs.Process, options ExecOptions) (process *specs.Process, warnings []string, err error) {
	p := *base
	p.Args = options.Args
	p.Terminal = options.TTY
	p.Env = slices.Concat(base.Env, options.Env)
	if options.Cwd != "" {
		p.Cwd = options.Cwd
	}
	if options.AppArmor != "" {
		p.ApparmorProfile = options.AppArmor
	}
	if options.ProcessLabel != "" {
		p.SelinuxLabel = options.ProcessLabel
	}
	if options.NoNewPrivs != nil {
		p.NoNewPrivileges = *options.NoNewPrivs
	}
	if options.User != "" {
		if p.User.UID, p.User.GID, err = parseUser(options.User, base.User.GID); err != nil {
			return nil, nil, err
		}
	}
	p.User.AdditionalGids = slices.Clone(base.User.AdditionalGids)
	for _, gid := range options.AdditionalGIDs {
		if gid < 0 || gid >= math.MaxUint32 {
			return nil, nil, fmt.Errorf("additional-gids: %d is not a group id", gid)
		}
		p.User.AdditionalGids = append(p.User.AdditionalGids, uint32(gid))
	}
	if len(options.Caps) > 0 {
		sets := base.Capabilities
		if sets == nil {
			sets = new(specs.LinuxCapabilities)
		}
		p.Capabilities = &specs.LinuxCapabilities{
			Bounding:    slices.Concat(sets.Bounding, options.Caps),
			Effective:   slices.Concat(sets.Effective, options.Caps),
			Permitted:   slices.Concat(sets.Permitted, options.Caps),
			Inheritable: sets.Inheritable,
			Ambient:     sets.Ambient,
		}
		if sets.Inheritable != nil {
			p.Capabilities.Ambient = slices.Concat(sets.Ambient, options.Caps)
		}
	}
	warnings, err = ValidateProcess(&p)
	if err != nil {
		return nil, nil, err
	}
	return &p, warnings, nil
}

// parseUser parses UID[:GID]; without a GID the container's is kept.
func parseUser(value string, containerGID uint32) (uid, gid uint32, err error) {
	user, group, given := strings.Cut(value, ":")
	id, err := strconv.ParseUint(user, 10, 32)
	if err != nil {
		return 0, 0, fmt.Errorf("user: %q is not a user id (expected UID[:GID])", user)
	}
	uid, gid = uint32(id), containerGID
	if given {
		id, err = strconv.ParseUint(group, 10, 32)
		if err != nil {
			return 0, 0, fmt.Errorf("user: %q is not a group id (expected UID[:GID])", group)
		}
		gid = uint32(id)
	}
	return uid, gid, nil
}
