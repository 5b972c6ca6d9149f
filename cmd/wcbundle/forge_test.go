package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/wordcab/wcbundle/bundle"
	"github.com/wordcab/wcbundle/sign"
)

// medium is a bundle or patch as a hostile writer sees it: names and bytes, nothing checked.
type medium struct {
	names []string
	data  map[string][]byte
	size  map[string]int // of each blob, as others name it
	extra []tar.Header   // entries to write after the others, without content
}

const forgedPassword = "test"

func readMedium(path string) (*medium, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return mediumOf(b)
}

func mediumOf(file []byte) (*medium, error) {
	m := &medium{data: map[string][]byte{}, size: map[string]int{}}
	for tr := tar.NewReader(bytes.NewReader(file)); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return m, nil
		}
		if err != nil {
			return nil, err
		}
		b, err := io.ReadAll(tr)
		if err != nil {
			return nil, err
		}
		m.names, m.data[h.Name], m.size[h.Name] = append(m.names, h.Name), b, len(b)
	}
}

func (m *medium) write(path string) error {
	var out bytes.Buffer
	tw := tar.NewWriter(&out)
	for i, n := range m.names {
		if slices.Contains(m.names[:i], n) {
			continue // two that became the same
		}
		if err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: n, Mode: 0o644, Size: int64(len(m.data[n]))}); err != nil {
			return err
		}
		if _, err := tw.Write(m.data[n]); err != nil {
			return err
		}
	}
	for _, h := range m.extra {
		if err := tw.WriteHeader(&h); err != nil {
			return err
		}
	}
	if err := tw.Close(); err != nil {
		return err
	}
	return os.WriteFile(path, out.Bytes(), 0o644)
}

func isBlob(name string) bool { return strings.HasPrefix(name, "blobs/sha256/") }

func sumOf(b []byte) string { return fmt.Sprintf("%x", sha256.Sum256(b)) }

// set changes a blob's bytes, and everything that names it.
func (m *medium) set(name string, b []byte) {
	m.data[name] = b
	m.settle()
}

// settle gives every blob the name of its digest again, and mends what names it by digest and size, up to index.json. Signatures stay
// as they are.
func (m *medium) settle() {
	for {
		at := slices.IndexFunc(m.names, func(n string) bool { return isBlob(n) && path.Base(n) != sumOf(m.data[n]) })
		if at < 0 {
			return
		}
		name := m.names[at]
		b, old, was, now := m.data[name], path.Base(name), m.size[name], sumOf(m.data[name])
		next := "blobs/sha256/" + now
		m.names[at] = next
		delete(m.data, name)
		m.data[next], m.size[next] = b, len(b)
		for _, n := range m.names {
			text := m.data[n]
			if n == next || len(text) == 0 || text[0] != '{' || !bytes.Contains(text, []byte(old)) {
				continue
			}
			text = bytes.ReplaceAll(text, fmt.Appendf(nil, `"digest":"sha256:%s","size":%d`, old, was), fmt.Appendf(nil, `"digest":"sha256:%s","size":%d`, now, len(b)))
			m.data[n] = bytes.ReplaceAll(text, []byte(old), []byte(now))
		}
	}
}

// envelopes lists the names of the DSSE envelopes.
func (m *medium) envelopes() []string {
	var out []string
	for _, n := range m.names {
		if bytes.HasPrefix(m.data[n], []byte(`{"payloadType"`)) {
			out = append(out, n)
		}
	}
	return out
}

type forgedEnvelope struct {
	PayloadType string            `json:"payloadType"`
	Payload     string            `json:"payload"`
	Signatures  []forgedSignature `json:"signatures"`
}

type forgedSignature struct {
	KeyID string `json:"keyid"`
	Sig   string `json:"sig"`
}

// seal signs a payload as a hostile holder of the key can: whatever it says, under any payload type.
func seal(kind, payload string, keys ...sign.Signer) ([]byte, error) {
	e := forgedEnvelope{PayloadType: kind, Payload: base64.StdEncoding.EncodeToString([]byte(payload))}
	for _, k := range keys {
		sig, err := k.Sign(fmt.Appendf(nil, "DSSEv1 %d %s %d %s", len(kind), kind, len(payload), payload))
		if err != nil {
			return nil, err
		}
		e.Signatures = append(e.Signatures, forgedSignature{k.KeyID(), base64.StdEncoding.EncodeToString(sig)})
	}
	return json.Marshal(e)
}

// resign lets edit change every envelope's payload and signs it again.
func (m *medium) resign(edit func(payload string) string, kind string, keys ...sign.Signer) error {
	for _, n := range m.envelopes() {
		var e forgedEnvelope
		if err := json.Unmarshal(m.data[n], &e); err != nil {
			return err
		}
		payload, err := base64.StdEncoding.DecodeString(e.Payload)
		if err != nil {
			return err
		}
		sealed, err := seal(kind, edit(string(payload)), keys...)
		if err != nil {
			return err
		}
		m.set(n, sealed)
	}
	return nil
}

// edit replaces text in every JSON blob and signs anew what changed: a trusted key signs what no wcbundle writes.
func (m *medium) edit(old, with string, keys ...sign.Signer) error {
	hit := false
	for _, n := range m.names {
		b := m.data[n]
		if len(b) == 0 || b[0] != '{' || !bytes.Contains(b, []byte(old)) || !isBlob(n) {
			continue
		}
		hit = true
		m.data[n] = bytes.ReplaceAll(b, []byte(old), []byte(with))
	}
	m.settle()
	if !hit {
		return fmt.Errorf("no JSON in the file has %q", old)
	}
	return m.rebind(keys...)
}

// rebind makes every envelope about the subject that index.json says, and about the release.json or patch.json that this names.
func (m *medium) rebind(keys ...sign.Signer) error {
	var index struct {
		Manifests []struct {
			Digest       string            `json:"digest"`
			ArtifactType string            `json:"artifactType"`
			Annotations  map[string]string `json:"annotations"`
		} `json:"manifests"`
	}
	if err := json.Unmarshal(m.data["index.json"], &index); err != nil {
		return err
	}
	kind := map[string]string{}
	for _, d := range index.Manifests {
		kind[d.Digest] = d.ArtifactType
	}
	for _, d := range index.Manifests {
		about := d.Annotations[bundle.AnnotationSubject]
		if d.ArtifactType != bundle.ArtifactEnvelope {
			continue
		}
		n, err := m.only("blobs/sha256/"+strings.TrimPrefix(d.Digest, "sha256:"), bundle.MediaEnvelope)
		if err != nil {
			return err
		}
		wanted := bundle.MediaRelease
		if kind[about] == bundle.ArtifactPatch {
			wanted = bundle.MediaPatch
		}
		said, err := m.only("blobs/sha256/"+strings.TrimPrefix(about, "sha256:"), wanted)
		if err != nil {
			return err
		}
		var e forgedEnvelope
		if err := json.Unmarshal(m.data[n], &e); err != nil {
			return err
		}
		payload, err := base64.StdEncoding.DecodeString(e.Payload)
		if err != nil {
			return err
		}
		text := after(string(payload), `"sha256":"`, strings.TrimPrefix(about, "sha256:"))
		text = after(text, `"releaseDigest":"`, "sha256:"+path.Base(said))
		if wanted == bundle.MediaPatch {
			for target, k := range kind {
				if k == bundle.ArtifactRelease {
					text = after(text, `"target":"`, target)
				}
			}
		}
		sealed, err := seal(e.PayloadType, text, keys...)
		if err != nil {
			return err
		}
		m.set(n, sealed)
	}
	return nil
}

// after replaces the string that follows a mark, up to its quote.
func after(text, mark, with string) string {
	head, rest, _ := strings.Cut(text, mark)
	_, tail, _ := strings.Cut(rest, `"`)
	return head + mark + with + `"` + tail
}

// only finds the child of a manifest that has a media type, as config or layer.
func (m *medium) only(manifest, mediaType string) (string, error) {
	type descriptor struct{ MediaType, Digest string }
	var man struct {
		Config descriptor
		Layers []descriptor
	}
	if err := json.Unmarshal(m.data[manifest], &man); err != nil {
		return "", fmt.Errorf("%s: %w", manifest, err)
	}
	for _, d := range append(man.Layers, man.Config) {
		if d.MediaType == mediaType {
			return "blobs/sha256/" + strings.TrimPrefix(d.Digest, "sha256:"), nil
		}
	}
	return "", fmt.Errorf("%s names nothing of %s", manifest, mediaType)
}

func forgerKeys(ts *testscript.TestScript, list string) []sign.Signer {
	var out []sign.Signer
	for _, p := range strings.Split(list, ",") {
		raw, err := os.ReadFile(ts.MkAbs(p))
		ts.Check(err)
		s, err := sign.LoadSigner(raw, []byte(forgedPassword))
		ts.Check(err)
		out = append(out, s)
	}
	return out
}

// forge makes a hostile file of a good one: forge WHAT FILE ARGUMENTS...
//
//	strip FILE                      takes the signatures away
//	edit FILE KEYS OLD NEW          replaces text in every JSON blob, mends all digests, signs anew
//	payload FILE KEYS OLD NEW       replaces text in what was signed, signs anew
//	type FILE KEYS TYPE [AS]        signs under another payload type, and lets the envelope say AS
//	envelope FILE OTHER             puts OTHER's envelope in the place of all of FILE's
//	raw FILE ENVELOPE               puts the bytes of a file there
//	signatures FILE KEY N           lets the key sign N times
//	entry FILE NAME TYPE [LINK]     adds a tar entry: file, symlink, hardlink, fifo, device
//	delta FILE KEYS CHANGE...       changes each delta: flip:N, append:N, zero, or the bytes of a file
func forge(ts *testscript.TestScript, _ bool, args []string) {
	what, file := args[0], ts.MkAbs(args[1])
	args = args[2:]
	m, err := readMedium(file)
	ts.Check(err)
	switch what {
	case "strip":
		ts.Check(m.strip())
	case "edit":
		ts.Check(m.edit(args[1], args[2], forgerKeys(ts, args[0])...))
	case "payload":
		hit := false
		ts.Check(m.resign(func(p string) string {
			hit = hit || strings.Contains(p, args[1])
			return strings.Replace(p, args[1], args[2], 1)
		}, "application/vnd.in-toto+json", forgerKeys(ts, args[0])...))
		if !hit {
			ts.Fatalf("no payload has %q", args[1])
		}
	case "type":
		ts.Check(m.resign(func(p string) string { return p }, args[1], forgerKeys(ts, args[0])...))
		if len(args) > 2 {
			for _, n := range m.envelopes() {
				m.set(n, bytes.Replace(m.data[n], []byte(args[1]), []byte(args[2]), 1))
			}
		}
	case "envelope":
		other, err := readMedium(ts.MkAbs(args[0]))
		ts.Check(err)
		for _, n := range m.envelopes() {
			m.set(n, other.data[other.envelopes()[0]])
		}
	case "raw":
		raw, err := os.ReadFile(ts.MkAbs(args[0]))
		ts.Check(err)
		m.set(m.envelopes()[0], raw)
	case "signatures":
		n, err := strconv.Atoi(args[1])
		ts.Check(err)
		key := forgerKeys(ts, args[0])
		for len(key) < n {
			key = append(key, key[0])
		}
		ts.Check(m.resign(func(p string) string { return p }, "application/vnd.in-toto+json", key...))
	case "entry":
		h := tar.Header{Name: args[0], Mode: 0o644, Typeflag: map[string]byte{"file": tar.TypeReg, "symlink": tar.TypeSymlink,
			"hardlink": tar.TypeLink, "fifo": tar.TypeFifo, "device": tar.TypeChar}[args[1]]}
		if len(args) > 2 {
			h.Linkname = args[2]
		}
		m.extra = append(m.extra, h)
	case "delta":
		ts.Check(m.deltas(ts, args[1:]))
		ts.Check(m.rebind(forgerKeys(ts, args[0])...))
	default:
		ts.Fatalf("forge knows no %s", what)
	}
	ts.Check(m.write(file))
}

// strip takes the envelopes out of index.json and the file.
func (m *medium) strip() error {
	var index map[string]any
	if err := json.Unmarshal(m.data["index.json"], &index); err != nil {
		return err
	}
	var stay []any
	for _, d := range index["manifests"].([]any) {
		if d.(map[string]any)["artifactType"] != bundle.ArtifactEnvelope {
			stay = append(stay, d)
		}
	}
	index["manifests"] = stay
	raw, err := json.Marshal(index)
	m.data["index.json"] = raw
	return err
}

// deltas changes every delta that a patch carries.
func (m *medium) deltas(ts *testscript.TestScript, changes []string) error {
	var names []string
	for _, n := range m.names {
		if bytes.HasPrefix(m.data[n], []byte("WCDELTA")) {
			names = append(names, n)
		}
	}
	if len(names) == 0 {
		return errors.New("the file carries no delta")
	}
	for _, n := range names {
		b := bytes.Clone(m.data[n])
		for _, c := range changes {
			kind, arg, _ := strings.Cut(c, ":")
			at, err := strconv.Atoi(arg)
			switch {
			case kind == "flip" && err == nil:
				b[at%len(b)] ^= 0xff
			case kind == "append" && err == nil:
				b = append(b, make([]byte, at)...)
			case kind == "zero":
				clear(b[len(b)/2:])
			default:
				if b, err = os.ReadFile(ts.MkAbs(c)); err != nil {
					return err
				}
			}
		}
		m.set(n, b)
	}
	return nil
}
