package oci

// CreateOptions are the options of create and run.
type CreateOptions struct {
	Bundle        string // directory; "" is the working directory
	PidFile       string // where the pid of the first process is written
	ConsoleSocket string // Unix socket that takes the terminal's master
	PidfdSocket   string // Unix socket that takes a pidfd of the first process
	NoPivot       bool   // accepted; the root is changed with pivot_root all the same
	NoNewKeyring  bool
	PreserveFDs   int // descriptors from 3 up that the first process keeps
}

// RunOptions are the options of run.
type RunOptions struct {
	CreateOptions
	Detach bool
	Keep   bool // do not delete the container when it has ended
}

// ExecOptions are the options of exec.
type ExecOptions struct {
	// Process is the file of --process; "" to compose the process from Flags.
	Process        string
	Args           []string
	Cwd            string
	Env            []string
	TTY            bool
	User           string // UID[:GID]
	AdditionalGIDs []int64
	Caps           []string
	NoNewPrivs     *bool
	AppArmor       string
	ProcessLabel   string

	Detach        bool
	PidFile       string
	ConsoleSocket string
	PidfdSocket   string
	PreserveFDs   int
	Cgroups       map[string]string // --cgroup: cgroups below the container's by controller; "" for all controllers
	IgnorePaused  bool
}
