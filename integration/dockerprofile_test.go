package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// agentArgs writes a configuration with the profile "agent" and returns the flags that choose it.
func agentArgs(t *testing.T) []string {
	t.Helper()
	dir := shortTempDir(t)
	writeFile(t, dir, "config.toml", fmt.Sprintf("[profiles]\ndirectory = %q\n", filepath.Join(dir, "profiles")), 0o644)
	writeFile(t, dir, "profiles/agent.toml", `[network]
allow = ["tcp://172.16.0.0/12:8080", "localhost:7777"]
[filesystem]
deny = ["/home"]
`, 0o644)
	return []string{"--config", filepath.Join(dir, "config.toml"), "--profile", "agent"}
}

func dockerProfile(t *testing.T, d *docker) {
	plain := &docker{Daemon: d.Daemon, runtime: "runc"}
	server := plain.start(t, "httpd -p 8080 -h /var/www; exec httpd -f -p 9090 -h /var/www")
	ip := strings.TrimSpace(d.must(t, "inspect", "--format", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", server))
	text := "for i in 1 2 3 4 5 6 7 8 9 10; do wget -q -O - http://" + ip + ":8080/index.html && break; usleep 100000; done; " +
		"wget -q -O - http://" + ip + ":9090/index.html || echo refused"
	// The same with runc first: without the policy both ports answer.
	plain.once(t, text).expect(t, "served by busybox\nserved by busybox\n")
	d.once(t, text).expect(t, "served by busybox\nrefused\n")
	name := d.start(t, "sleep 1000")
	d.run(t, "exec", name, "sh", "-c", text).expect(t, "served by busybox\nrefused\n")
}

// Programs of Debian keep to the profile, too, on Docker's bridge and in the network of the host.
func dockerProfilePrograms(t *testing.T, d *docker) {
	plain := &docker{Daemon: d.Daemon, runtime: "runc"}
	server := plain.start(t, "httpd -p 8080 -h /var/www; exec httpd -f -p 9090 -h /var/www")
	ip := strings.TrimSpace(d.must(t, "inspect", "--format", "{{.NetworkSettings.IPAddress}}", server))
	plain.once(t, "for i in 1 2 3 4 5 6 7 8 9 10; do wget -q -O - http://"+ip+":9090/index.html && break; usleep 100000; done").expect(t, "served by busybox\n")
	text := "for port in 8080 9090; do page=http://" + ip + ":$port/index.html; " +
		"/usr/bin/curl -sf $page >/dev/null && echo curl $port; /usr/bin/wget -q -t 1 -O /dev/null $page && echo wget $port; " +
		`/usr/bin/python3 -c 'import sys, urllib.request; urllib.request.urlopen(sys.argv[1])' $page 2>/dev/null && echo python $port; done; true`
	for _, network := range []string{"bridge", "host"} {
		flags := []string{"--network", network, "--volume", "/usr:/usr:ro"}
		for _, libraries := range []string{"/lib", "/lib64"} { // where programs look for the dynamic loader
			if _, err := os.Stat(libraries); err == nil {
				flags = append(flags, "--volume", libraries+":"+libraries+":ro")
			}
		}
		plain.once(t, text, flags...).expect(t, "curl 8080\nwget 8080\npython 8080\ncurl 9090\nwget 9090\npython 9090\n")
		d.once(t, text, flags...).expect(t, "curl 8080\nwget 8080\npython 8080\n")
	}
}

// A profile with names gives the container a hosts file that has what Docker's has besides: the container's own name.
func dockerProfileNames(t *testing.T, d *docker) {
	text := "grep -c '^# Loopback' /etc/hosts; grep -v '^#' /etc/hosts | grep -c localhost; grep -c \"[[:space:]]named$\" /etc/hosts; grep -c added.example /etc/hosts; hostname -i | grep -c '^172'; echo x 2>/dev/null >>/etc/hosts || echo read-only"
	flags := []string{"--hostname", "named", "--add-host", "added.example:192.0.2.1"}
	d.once(t, text, flags...).expect(t, "1\n2\n1\n1\n1\nread-only\n")
	name := d.start(t, "sleep 1000", flags...)
	d.run(t, "exec", name, "sh", "-c", text).expect(t, "1\n2\n1\n1\n1\nread-only\n")
}

func dockerProfileFiles(t *testing.T, d *docker) {
	text := "ls /home/user >/dev/null 2>&1 && echo seen || echo refused; cat /etc/group | head -1"
	(&docker{Daemon: d.Daemon, runtime: "runc"}).once(t, text).expect(t, "seen\nroot:x:0:\n")
	d.once(t, text).expect(t, "refused\nroot:x:0:\n")
	if _, err := os.Stat("/home"); err != nil {
		t.Errorf("the host's own: %v", err)
	}
}
