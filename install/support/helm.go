package support

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/wordcab/wcbundle/install/preflight/helmrecord"
)

// keptRevisions is how many of the newest revisions are kept whole.
const keptRevisions = 10

// manifestDocs cuts a manifest at the lines that begin a document.
func manifestDocs(text string) []string {
	var docs []string
	var cur strings.Builder
	for line := range strings.Lines(text) {
		if strings.TrimRight(line, " \t\r\n") == "---" {
			docs = append(docs, cur.String())
			cur.Reset()
			continue
		}
		cur.WriteString(line)
	}
	return append(docs, cur.String())
}

// addHelm takes the secrets of a stored revision: those of older ones may be in old logs though no Secret has them now.
func addHelm(l *literals, r helmrecord.Record) {
	l.addSensitive(anyMap(r.Config), false)
	for _, doc := range manifestDocs(r.Manifest) {
		if !strings.Contains(doc, "Secret") {
			continue
		}
		var s struct {
			Kind       string            `json:"kind"`
			Data       map[string]string `json:"data"`
			StringData map[string]string `json:"stringData"`
		}
		if yaml.Unmarshal([]byte(doc), &s) != nil || s.Kind != "Secret" {
			continue
		}
		for _, v := range s.Data {
			if raw, err := base64.StdEncoding.DecodeString(strings.TrimSpace(v)); err == nil {
				l.addSecret(raw)
			}
		}
		for _, v := range s.StringData {
			l.addSecret([]byte(v))
		}
	}
}

func anyMap(m map[string]any) any {
	if m == nil {
		return map[string]any{}
	}
	return m
}

type historyLine struct {
	Revision    int    `json:"revision"`
	Status      string `json:"status"`
	Chart       string `json:"chart,omitempty"`
	AppVersion  string `json:"appVersion,omitempty"`
	Updated     string `json:"updated,omitempty"`
	Description string `json:"description,omitempty"`
	Stored      int    `json:"storedBytes"`
	Problem     string `json:"problem,omitempty"`
}

func (c *collector) helmFiles(context.Context) error {
	for _, ns := range c.r.Namespaces {
		by, order := map[string][]helmrecord.Stored{}, []string{}
		for _, st := range c.helm[ns] {
			if c.r.Release != "" && st.Release != c.r.Release {
				continue
			}
			if by[st.Release] == nil {
				order = append(order, st.Release)
			}
			by[st.Release] = append(by[st.Release], st)
		}
		for _, name := range order {
			if err := c.release(ns, name, by[name]); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *collector) release(ns, name string, list []helmrecord.Stored) error {
	var lines []historyLine
	for _, st := range list {
		l := historyLine{Revision: st.Revision, Status: st.Status, AppVersion: st.Record.AppVersion,
			Description: st.Record.Description, Stored: st.Bytes}
		if st.Err != nil {
			l.Problem = st.Err.Error()
		} else {
			l.Chart = st.Record.Chart + "-" + st.Record.Version
			l.Updated = st.Record.Updated.UTC().Format("2006-01-02T15:04:05Z")
		}
		lines = append(lines, l)
	}
	doc, err := plain(lines)
	if err != nil {
		return err
	}
	if err := c.s.document("helm", c.s.path("helm", ns, name, "history.json"), doc, c.blind); err != nil {
		return err
	}
	for _, st := range list[max(0, len(list)-keptRevisions):] {
		if st.Err != nil {
			c.s.fail("helm", name+" "+strconv.Itoa(st.Revision), st.Err)
			continue
		}
		if err := c.revision(ns, name, st); err != nil {
			return err
		}
	}
	return nil
}

func (c *collector) revision(ns, name string, st helmrecord.Stored) error {
	n := strconv.Itoa(st.Revision)
	path := c.s.path("helm", ns, name, "rev-"+n+".manifest.yaml")
	var out strings.Builder
	for i, text := range manifestDocs(st.Record.Manifest) {
		clean, err := c.yamlDoc(path, text)
		if err != nil {
			c.s.fail("helm", fmt.Sprintf("%s document %d", path, i+1), errors.New("withheld: not YAML, so it cannot be redacted"))
			continue
		}
		if clean != "" {
			out.WriteString("---\n" + clean)
		}
	}
	if err := c.s.put(File{Path: path, Collector: "helm"}, []byte(out.String())); err != nil {
		return err
	}
	values, err := plain(anyMap(st.Record.Config))
	if err != nil {
		return err
	}
	path = c.s.path("helm", ns, name, "values-"+n+".redacted.yaml")
	raw, err := c.redactYAML(path, values)
	if err != nil {
		return err
	}
	return c.s.put(File{Path: path, Collector: "helm"}, raw)
}

func (c *collector) yamlDoc(path, text string) (string, error) {
	doc, err := plainYAML([]byte(text))
	if err != nil {
		return "", err
	}
	if doc == nil {
		return "", nil
	}
	raw, err := c.redactYAML(path, doc)
	return string(raw), err
}

func (c *collector) redactYAML(path string, doc any) ([]byte, error) {
	w := walker{scrub: c.s.scrub, blind: c.blind, hit: c.s.hit(path)}
	raw, err := yaml.Marshal(w.value("", doc))
	if err != nil {
		return nil, fmt.Errorf("encoding %s: %w", path, err)
	}
	return raw, nil
}

// kindsInManifests lists group/kind of everything that the release's revisions render.
func (c *collector) kindsInManifests() map[string]bool {
	out := map[string]bool{}
	for _, list := range c.helm {
		for _, st := range list {
			if c.r.Release != "" && st.Release != c.r.Release {
				continue
			}
			for _, doc := range manifestDocs(st.Record.Manifest) {
				var head struct {
					APIVersion string `json:"apiVersion"`
					Kind       string `json:"kind"`
				}
				if yaml.Unmarshal([]byte(doc), &head) == nil {
					group, _, _ := strings.Cut(head.APIVersion, "/")
					out[group+"/"+head.Kind] = true
				}
			}
		}
	}
	return out
}
