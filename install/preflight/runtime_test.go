package preflight

import (
	"strings"
	"testing"
)

func TestRunTime(t *testing.T) {
	hook := func(images ...string) []Hook { return []Hook{{Name: "Job/migrate", Images: images}} }
	const known, stray, pinned = "registry.example.com/shop/app:1", "registry.example.com/shop/app:2", "10.96.0.50:5000/registry.example.com/shop/app@sha256:0"
	for _, c := range []struct {
		name   string
		way    RunTime
		policy Section[string]
		want   Verdict
		says   string
	}{
		{"none, no hooks", RunTime{Way: "none"}, Section[string]{}, Pass, "left alone"},
		{"none, a hook from the vendor's registry", RunTime{Way: "none", Hooks: hook(known)}, Section[string]{}, Fail, "hook Job/migrate names image " + known},
		{"none, a hook that the site's values lead to its registry", RunTime{Way: "none", Hooks: hook(pinned)}, Section[string]{}, Pass, ""},
		{"policy", RunTime{Way: "policy", Hooks: hook(known)}, Got("v1"), Pass, "by policy"},
		{"policy, a hook from nowhere", RunTime{Way: "policy", Hooks: hook(stray)}, Got("v1"), Fail, "is not in the release"},
		{"policy that is not served", RunTime{Way: "policy"}, Got(""), Fail, "the API server serves none"},
		{"policy, nobody could ask", RunTime{Way: "policy"}, Section[string]{Cause: "timeout"}, Unknown, "timeout"},
		{"mirrors by hand", RunTime{Way: "mirrors", Hooks: hook(known)}, Section[string]{}, Pass, "by mirrors"},
		{"mirrors by registry install", RunTime{Way: "mirrors", Known: true, Mirrors: []string{"registry.example.com"}, Hooks: hook(known)}, Section[string]{}, Pass, ""},
		{"a registry that is not mirrored", RunTime{Way: "mirrors", Known: true, Mirrors: []string{"ghcr.io"}}, Section[string]{}, Warned, "no mirror of registry.example.com"},
		{"a hook from one that is not mirrored", RunTime{Way: "mirrors", Known: true, Mirrors: []string{"ghcr.io"}, Hooks: hook(known)}, Section[string]{}, Fail, "--mirror registry.example.com"},
	} {
		c.way.Pull = "10.96.0.50:5000"
		w := Want{RunTime: c.way, Images: []Content{{Ref: known, Presence: Present}}}
		v, text := worst(Check(Snapshot{PodPolicy: c.policy}, w, now), "RUN-TIME")
		if v != c.want || !strings.Contains(text, c.says) {
			t.Errorf("%s: %s %q, want %s %q", c.name, v, text, c.want, c.says)
		}
	}
}
