// Package kubernetes has what registers the runtime with a cluster. Its tests hold the manifests against the published API types.
package kubernetes

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pelletier/go-toml/v2"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/sandlock/sandlock-runtime/netfilter"
	"github.com/sandlock/sandlock-runtime/oci/install"
	"github.com/sandlock/sandlock-runtime/oci/policy"
)

// documents decodes every document of a manifest, strictly: a field that the type does not have is an error.
func documents(t *testing.T, file string) []any {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var all []any
	for _, part := range bytes.Split(text, []byte("\n---\n")) {
		var kind metav1.TypeMeta
		if err := yaml.Unmarshal(part, &kind); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		types := map[string]any{
			"v1/Namespace": &corev1.Namespace{}, "v1/ServiceAccount": &corev1.ServiceAccount{},
			"rbac.authorization.k8s.io/v1/ClusterRole":        &rbacv1.ClusterRole{},
			"rbac.authorization.k8s.io/v1/ClusterRoleBinding": &rbacv1.ClusterRoleBinding{},
			"apps/v1/DaemonSet":                               &appsv1.DaemonSet{}, "apps/v1/Deployment": &appsv1.Deployment{},
			"node.k8s.io/v1/RuntimeClass": &nodev1.RuntimeClass{},
		}
		object := types[kind.APIVersion+"/"+kind.Kind]
		if object == nil {
			t.Fatalf("%s: %s/%s is not expected", file, kind.APIVersion, kind.Kind)
		}
		if err := yaml.UnmarshalStrict(part, object, yaml.DisallowUnknownFields); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		all = append(all, object)
	}
	return all
}

func TestManifests(t *testing.T) {
	class := documents(t, "runtimeclass.yaml")[0].(*nodev1.RuntimeClass)
	var daemons *appsv1.DaemonSet
	for _, object := range documents(t, "installer.yaml") {
		if d, ok := object.(*appsv1.DaemonSet); ok {
			daemons = d
		}
	}
	if daemons == nil || daemons.Spec.Template.Labels["app.kubernetes.io/name"] != daemons.Spec.Selector.MatchLabels["app.kubernetes.io/name"] {
		t.Fatalf("no installer, or one that does not select its pods: %v", daemons)
	}
	script, err := os.ReadFile("installer")
	if err != nil {
		t.Fatal(err)
	}
	for key, value := range class.Scheduling.NodeSelector {
		if !strings.Contains(string(script), "label "+key+"="+value+"\n") {
			t.Errorf("the class wants nodes with %s=%s, which the installer does not give", key, value)
		}
	}
	if class.Handler != "sandlock" {
		t.Errorf("handler %q, install containerd registers sandlock", class.Handler)
	}
	example := documents(t, "example.yaml")[0].(*appsv1.Deployment)
	if name := example.Spec.Template.Spec.RuntimeClassName; name == nil || *name != class.Name {
		t.Errorf("the example's class is %v", name)
	}
	checkPolicy(t, example.Spec.Template.Annotations)
}

// checkPolicy holds the example's rules against the runtime's own parsers.
func checkPolicy(t *testing.T, annotations map[string]string) {
	t.Helper()
	config := filepath.Join(t.TempDir(), "config.toml")
	if err := os.WriteFile(config, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := policy.Load(policy.Options{ConfigPath: config, Annotations: annotations})
	if err != nil {
		t.Fatal(err)
	}
	for _, layer := range p.Network.Allow {
		if _, err := netfilter.ParseRules(layer); err != nil {
			t.Error(err)
		}
	}
	if _, err := netfilter.ParseRules(p.Network.Deny); err != nil {
		t.Error(err)
	}
	if len(p.Network.Allow) == 0 || len(p.Network.Deny) == 0 {
		t.Errorf("%+v", p.Network)
	}
}

// The drop-in says what install writes.
func TestDropIn(t *testing.T) {
	text, err := os.ReadFile("sandlock.toml")
	if err != nil {
		t.Fatal(err)
	}
	written, err := install.Containerd{NewVersion: 3}.Install(nil, install.Runtime{Name: "sandlock", Path: "/usr/local/sbin/sandlock-runtime"})
	if err != nil {
		t.Fatal(err)
	}
	var have, want map[string]any
	if err := toml.Unmarshal(text, &have); err != nil {
		t.Fatal(err)
	}
	if err := toml.Unmarshal(written, &want); err != nil {
		t.Fatal(err)
	}
	if !(install.Containerd{}).Same(text, written) {
		t.Errorf("the drop-in has\n%v\ninstall writes\n%v", have, want)
	}
}
