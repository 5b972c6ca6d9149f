package main

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/urfave/cli/v2"

	"github.com/wordcab/wcbundle/bundle"
	"github.com/wordcab/wcbundle/sign"
)

func signCommand() *cli.Command {
	return &cli.Command{
		Name: "sign", Usage: "sign a bundle or a patch", ArgsUsage: "FILE", Category: "trust",
		Description: "Adds the signed envelope and, to a bundle, a signature that upstream cosign verifies. Signing again with\n" +
			"another key adds its signature (--add) or replaces what is there.\n\n" +
			"KEY is a file, or the PKCS#11 URI of a key in a token (docs/trust.md).\n\n" +
			"A key that lives elsewhere signs in three steps: --prepare writes what is to be signed into a folder; on the other\n" +
			"machine sign --key KEY FOLDER shows what it says and signs it (or any tool signs the .tbs files); --attach brings the\n" +
			"signatures back. docs/trust.md has the openssl commands.\n\n" +
			"--signature-format says in which form upstream cosign finds the signature of a bundle: legacy (a tag; cosign 2 and 3),\n" +
			"bundle (a sigstore bundle that refers to the release; cosign 3) or both. docs/interop.md has the commands to check it.\n\n" +
			"Example:\n   wcbundle sign --key release.key wordcab-2.9.0.wcb",
		Flags: []cli.Flag{
			&cli.StringSliceFlag{Name: "key", Usage: "private key: a file or a pkcs11: URI; may be repeated"},
			&cli.BoolFlag{Name: "add", Usage: "keep the signatures that are there"},
			&cli.StringFlag{Name: "trust-chain", Usage: "trust policies that roots have signed, to travel with the file (wcbundle trust sign)"},
			&cli.StringFlag{Name: "signature-format", Value: formLegacy, Usage: "for cosign: legacy, bundle or both"},
			&cli.StringFlag{Name: "prepare", Usage: "sign nothing; write what is to be signed into this new folder"},
			&cli.StringFlag{Name: "attach", Usage: "take the signatures from this folder, which --prepare made"},
			&cli.StringSliceFlag{Name: "public", Usage: "with --attach: public key whose signatures are there; may be repeated"},
		},
		Action: signFile,
	}
}

// The files of a folder that --prepare makes: messages, and beside them signatures by key id.
const (
	envelopeMessage = "envelope.tbs"
	cosignMessage   = "cosign.tbs"   // form legacy
	sigstoreMessage = "sigstore.tbs" // form bundle
)

// Forms of the signature that cosign finds.
const (
	formLegacy = "legacy"
	formBundle = "bundle"
	formBoth   = "both"
)

// cosignForms are the forms that a command line or a prepared folder asks for.
type cosignForms struct{ legacy, bundle bool }

func parseForms(c *cli.Context) (cosignForms, error) {
	switch f := c.String("signature-format"); f {
	case formLegacy:
		return cosignForms{legacy: true}, nil
	case formBundle:
		return cosignForms{bundle: true}, nil
	case formBoth:
		return cosignForms{legacy: true, bundle: true}, nil
	default:
		return cosignForms{}, usageError{fmt.Sprintf("--signature-format %.40q is none of legacy, bundle, both", f)}
	}
}

func signatureFile(message, keyID string) string {
	return message[:len(message)-len(".tbs")] + "." + keyID + ".sig"
}

func signFile(c *cli.Context) error {
	path, keys, prepare, attach := c.Args().First(), len(c.StringSlice("key")) > 0, c.String("prepare"), c.String("attach")
	count := 0
	for _, set := range []bool{keys, prepare != "", attach != ""} {
		if set {
			count++
		}
	}
	if count != 1 || (attach != "") != (len(c.StringSlice("public")) > 0) {
		return usageError{"name one of --key, --prepare, or --attach with --public"}
	}
	forms, err := parseForms(c)
	if err != nil {
		return err
	}
	if c.IsSet("signature-format") && attach != "" {
		return usageError{"--signature-format goes with --prepare: --attach takes the forms that were prepared"}
	}
	if _, err := os.Stat(filepath.Join(path, envelopeMessage)); err == nil && keys {
		return signPrepared(c, path)
	}
	f, err := bundle.OpenFile(path)
	if err != nil {
		return err
	}
	defer f.Close()
	switch {
	case prepare != "":
		return prepareSignature(c, f, prepare, forms)
	case attach != "":
		return attachSignatures(c, f, attach)
	}
	signers, done, err := readSigners(c)
	if err != nil {
		return err
	}
	defer done()
	root, st, err := bundle.StatementOf(c.Context, f, time.Now())
	if err != nil {
		return err
	}
	return signing{f, root, st, signers, forms}.write(c)
}

// signing is what is put into a file: who states what of its root, and in which forms for cosign.
type signing struct {
	f       *bundle.File
	root    ocispec.Descriptor
	st      sign.Statement
	signers []sign.Signer
	forms   cosignForms
}

// write puts the signers' signatures into the file.
func (s signing) write(c *cli.Context) error {
	f, root, st, signers := s.f, s.root, s.st, s.signers
	env, err := envelopeOf(c, f, root, st, signers)
	if err != nil {
		return err
	}
	l, err := f.Layout(c.Context)
	if err != nil {
		return err
	}
	if err := l.AddEnvelope(root, env); err != nil {
		return err
	}
	if path := c.String("trust-chain"); path != "" {
		if err := addChain(l, path, st, signers); err != nil {
			return err
		}
	}
	if st.Kind == sign.KindRelease {
		if err := s.addCosign(c, l); err != nil {
			return err
		}
	}
	m := newMeter(c, "writing "+f.Path)
	err = l.WriteFile(c.Context, f.Path, m.at)
	m.end()
	if err != nil {
		return err
	}
	fmt.Fprintf(c.App.Writer, "signed %s %s %s (%s)\n", st.Kind, st.Name, st.Version, root.Digest)
	for _, signer := range signers {
		fmt.Fprintf(c.App.Writer, "key id %s\n", signer.KeyID())
	}
	if st.Kind == sign.KindRelease && s.forms.bundle {
		fmt.Fprint(c.App.Writer, bundleCaveat)
	}
	return nil
}

// bundleCaveat is what an operator with cosign 2 has to know: it takes any sigstore bundle that it finds for the form to
// verify, also beside a legacy signature, and then wants a trusted root, from the network unless it is given a file.
const bundleCaveat = `note: cosign 3 verifies this with --key; cosign 2 then needs --trusted-root FILE too, with this in FILE:
  {"mediaType":"application/vnd.dev.sigstore.trustedroot+json;version=0.1"}
`

// addCosign adds the head's signatures for upstream cosign. Without --add they replace what is there, in either form.
func (s signing) addCosign(c *cli.Context, l *bundle.Layout) error {
	if !c.Bool("add") {
		if err := l.DropCosign(); err != nil {
			return err
		}
	}
	if s.forms.legacy {
		sig, err := s.legacy(c)
		if err != nil {
			return err
		}
		if err := l.AddCosign(sig); err != nil {
			return err
		}
	}
	if !s.forms.bundle {
		return nil
	}
	issued, err := time.Parse(time.RFC3339, s.st.IssuedAt)
	if err != nil {
		return err
	}
	for _, signer := range s.signers {
		sig, err := sign.SignSigstore(s.root, issued, signer)
		if err != nil {
			return err
		}
		if err := l.AddSigstore(signer.KeyID(), sig); err != nil {
			return err
		}
	}
	return nil
}

func (s signing) legacy(c *cli.Context) (sign.CosignSignature, error) {
	if c.Bool("add") {
		old, err := s.f.CosignSignature(c.Context, s.root)
		if err != nil {
			return old, err
		}
		if old.Manifest != nil {
			return sign.AddCosign(old, s.root, cosignReference(s.st), s.signers...)
		}
	}
	return sign.SignCosign(s.root, cosignReference(s.st), s.signers...)
}

func cosignReference(st sign.Statement) string { return st.Name + "/release" }

// envelopeOf is a new envelope, or the file's own with more signatures.
func envelopeOf(c *cli.Context, f *bundle.File, root ocispec.Descriptor, st sign.Statement, signers []sign.Signer) ([]byte, error) {
	old, err := f.Envelope(c.Context, root.Digest)
	if err != nil {
		return nil, err
	}
	if !c.Bool("add") || old == nil {
		return sign.Seal(root, st, signers...)
	}
	for _, s := range signers {
		if old, err = sign.AddSignature(old, s); err != nil {
			return nil, err
		}
	}
	return old, nil
}

// prepareSignature writes what a key elsewhere has to sign. With --add that is what the file's envelope says already.
func prepareSignature(c *cli.Context, f *bundle.File, dir string, forms cosignForms) error {
	root, st, err := bundle.StatementOf(c.Context, f, time.Now())
	if err != nil {
		return err
	}
	old, err := f.Envelope(c.Context, root.Digest)
	if err != nil {
		return err
	}
	if c.Bool("add") && old != nil {
		if st, _, err = sign.Inspect(old); err != nil {
			return err
		}
	}
	message, err := sign.Message(root, st)
	if err != nil {
		return err
	}
	files, err := cosignMessages(root, st, forms)
	if err != nil {
		return err
	}
	files[envelopeMessage] = message
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	for name, b := range files {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o644); err != nil {
			return err
		}
	}
	showMessage(c, root, st, message)
	fmt.Fprintf(c.App.Writer, "next: wcbundle sign --key KEY %s where the key is, then here: wcbundle sign --attach %s --public KEY.pub %s\n", dir, dir, f.Path)
	return nil
}

// cosignMessages are what is signed for cosign, by file name: nothing for a patch.
func cosignMessages(root ocispec.Descriptor, st sign.Statement, forms cosignForms) (map[string][]byte, error) {
	out := map[string][]byte{}
	if st.Kind != sign.KindRelease {
		return out, nil
	}
	var err error
	if forms.legacy {
		if out[cosignMessage], err = sign.CosignMessage(root, cosignReference(st)); err != nil {
			return nil, err
		}
	}
	if forms.bundle {
		out[sigstoreMessage], err = sign.SigstoreMessage(root)
	}
	return out, err
}

// showMessage prints what a signature will say.
func showMessage(c *cli.Context, root ocispec.Descriptor, st sign.Statement, message []byte) {
	fmt.Fprintf(c.App.Writer, "to be signed: %s %s %s, channel %s, sequence %d, of %s\n%s %s\nmessage sha256:%x\n",
		st.Kind, st.Name, st.Version, st.Channel, st.Sequence, st.IssuedAt, st.Kind, root.Digest, sha256.Sum256(message))
}

// preparedOrder is the order in which a key signs the messages of a folder and misses its signatures.
var preparedOrder = []string{envelopeMessage, cosignMessage, sigstoreMessage}

// prepared is what a folder that --prepare made holds: messages by file name, and what they say.
type prepared struct {
	root     ocispec.Descriptor
	st       sign.Statement
	forms    cosignForms
	messages map[string][]byte
}

// readPrepared reads a folder. Each message for cosign must be the one that belongs to the envelope's.
func readPrepared(dir string) (prepared, error) {
	var p prepared
	envelope, err := readSmall(filepath.Join(dir, envelopeMessage), sign.MaxEnvelope, "message to sign")
	if err != nil {
		return p, err
	}
	if p.root, p.st, err = sign.ParseMessage(envelope); err != nil {
		return p, fmt.Errorf("%s: %w", dir, err)
	}
	p.forms.legacy, p.forms.bundle = isThere(dir, cosignMessage), isThere(dir, sigstoreMessage)
	if p.st.Kind == sign.KindRelease && !p.forms.legacy && !p.forms.bundle {
		return p, fmt.Errorf("%s has neither %s nor %s: prepare it again", dir, cosignMessage, sigstoreMessage)
	}
	if p.messages, err = cosignMessages(p.root, p.st, p.forms); err != nil {
		return p, err
	}
	for name, want := range p.messages {
		got, err := readSmall(filepath.Join(dir, name), sign.MaxEnvelope, "message to sign")
		if err != nil {
			return p, err
		}
		if string(want) != string(got) {
			return p, fmt.Errorf("%s: %s is not about the same release as %s: prepare it again", dir, name, envelopeMessage)
		}
	}
	p.messages[envelopeMessage] = envelope
	return p, nil
}

func isThere(dir, name string) bool {
	_, err := os.Stat(filepath.Join(dir, name))
	return err == nil
}

// signPrepared signs what --prepare wrote, where the key is.
func signPrepared(c *cli.Context, dir string) error {
	p, err := readPrepared(dir)
	if err != nil {
		return err
	}
	showMessage(c, p.root, p.st, p.messages[envelopeMessage])
	signers, done, err := readSigners(c)
	if err != nil {
		return err
	}
	defer done()
	for _, s := range signers {
		for _, name := range preparedOrder {
			message, there := p.messages[name]
			if !there {
				continue
			}
			sig, err := s.Sign(message)
			if err != nil {
				return fmt.Errorf("signing with key %s: %w", s.KeyID(), err)
			}
			if err := os.WriteFile(filepath.Join(dir, signatureFile(name, s.KeyID())), sig, 0o644); err != nil {
				return err
			}
		}
		fmt.Fprintf(c.App.Writer, "key id %s\n", s.KeyID())
	}
	return nil
}

// attachSignatures puts the signatures of a prepared folder into the file, if they are about it as it is now.
func attachSignatures(c *cli.Context, f *bundle.File, dir string) error {
	p, err := readPrepared(dir)
	if err != nil {
		return err
	}
	issued, err := time.Parse(time.RFC3339, p.st.IssuedAt)
	if err != nil {
		return err
	}
	have, now, err := bundle.StatementOf(c.Context, f, issued)
	if err != nil {
		return err
	}
	if have.Digest != p.root.Digest || !reflect.DeepEqual(now, p.st) {
		return fmt.Errorf("%s was prepared for %s, %s holds %s: prepare it again", dir, p.root.Digest, f.Path, have.Digest)
	}
	var signers []sign.Signer
	for _, path := range c.StringSlice("public") {
		key, err := readPublic(path)
		if err != nil {
			return err
		}
		s, err := presigned(dir, key, p.messages)
		if err != nil {
			return err
		}
		signers = append(signers, s)
	}
	return signing{f, have, p.st, signers, p.forms}.write(c)
}

// maxSignature bounds a signature file.
const maxSignature = 4 << 10

func presigned(dir string, key sign.PublicKey, messages map[string][]byte) (sign.Signer, error) {
	var all []sign.Signature
	for _, name := range preparedOrder {
		if messages[name] == nil {
			continue
		}
		path := filepath.Join(dir, signatureFile(name, key.KeyID()))
		sig, err := readSmall(path, maxSignature, "signature")
		if errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("%s is not there: key %s has not signed %s yet", path, key.KeyID(), name)
		}
		if err != nil {
			return nil, err
		}
		all = append(all, sign.Signature{Message: messages[name], Signature: sig})
	}
	return sign.Presigned(key, all...), nil
}
