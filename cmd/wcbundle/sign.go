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
			"A key that lives elsewhere signs in three steps: --prepare writes what is to be signed into a folder; on the other\n" +
			"machine sign --key KEY FOLDER shows what it says and signs it (or any tool signs the .tbs files); --attach brings the\n" +
			"signatures back. docs/trust.md has the openssl commands.\n\n" +
			"Example:\n   wcbundle sign --key release.key wordcab-2.9.0.wcb",
		Flags: []cli.Flag{
			&cli.StringSliceFlag{Name: "key", Usage: "private key; may be repeated"},
			&cli.BoolFlag{Name: "add", Usage: "keep the signatures that are there"},
			&cli.StringFlag{Name: "trust-chain", Usage: "trust policies that roots have signed, to travel with the file (wcbundle trust sign)"},
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
	cosignMessage   = "cosign.tbs"
)

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
		return prepareSignature(c, f, prepare)
	case attach != "":
		return attachSignatures(c, f, attach)
	}
	signers, err := readSigners(c)
	if err != nil {
		return err
	}
	root, st, err := bundle.StatementOf(c.Context, f, time.Now())
	if err != nil {
		return err
	}
	return writeSigned(c, f, root, st, signers)
}

// writeSigned puts the signers' signatures into the file.
func writeSigned(c *cli.Context, f *bundle.File, root ocispec.Descriptor, st sign.Statement, signers []sign.Signer) error {
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
		sig, err := sign.SignCosign(root, cosignReference(st), signers...)
		if err != nil {
			return err
		}
		if err := l.AddCosign(sig); err != nil {
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
	for _, s := range signers {
		fmt.Fprintf(c.App.Writer, "key id %s\n", s.KeyID())
	}
	return nil
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
func prepareSignature(c *cli.Context, f *bundle.File, dir string) error {
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
	files := map[string][]byte{envelopeMessage: message}
	if st.Kind == sign.KindRelease {
		if files[cosignMessage], err = sign.CosignMessage(root, cosignReference(st)); err != nil {
			return err
		}
	}
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

// showMessage prints what a signature will say.
func showMessage(c *cli.Context, root ocispec.Descriptor, st sign.Statement, message []byte) {
	fmt.Fprintf(c.App.Writer, "to be signed: %s %s %s, channel %s, sequence %d, of %s\n%s %s\nmessage sha256:%x\n",
		st.Kind, st.Name, st.Version, st.Channel, st.Sequence, st.IssuedAt, st.Kind, root.Digest, sha256.Sum256(message))
}

// readPrepared reads the messages of a folder and what they say. The second is nil for a patch.
func readPrepared(dir string) (root ocispec.Descriptor, st sign.Statement, envelope, claim []byte, err error) {
	if envelope, err = readSmall(filepath.Join(dir, envelopeMessage), sign.MaxEnvelope, "message to sign"); err != nil {
		return root, st, nil, nil, err
	}
	if root, st, err = sign.ParseMessage(envelope); err != nil {
		return root, st, nil, nil, fmt.Errorf("%s: %w", dir, err)
	}
	if st.Kind != sign.KindRelease {
		return root, st, envelope, nil, nil
	}
	if claim, err = readSmall(filepath.Join(dir, cosignMessage), sign.MaxEnvelope, "message to sign"); err != nil {
		return root, st, nil, nil, err
	}
	want, err := sign.CosignMessage(root, cosignReference(st))
	if err == nil && string(want) != string(claim) {
		err = fmt.Errorf("%s: %s is not about the same release as %s: prepare it again", dir, cosignMessage, envelopeMessage)
	}
	return root, st, envelope, claim, err
}

// signPrepared signs what --prepare wrote, where the key is.
func signPrepared(c *cli.Context, dir string) error {
	root, st, envelope, claim, err := readPrepared(dir)
	if err != nil {
		return err
	}
	showMessage(c, root, st, envelope)
	signers, err := readSigners(c)
	if err != nil {
		return err
	}
	for _, s := range signers {
		for name, message := range map[string][]byte{envelopeMessage: envelope, cosignMessage: claim} {
			if message == nil {
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
	root, st, envelope, claim, err := readPrepared(dir)
	if err != nil {
		return err
	}
	issued, err := time.Parse(time.RFC3339, st.IssuedAt)
	if err != nil {
		return err
	}
	have, now, err := bundle.StatementOf(c.Context, f, issued)
	if err != nil {
		return err
	}
	if have.Digest != root.Digest || !reflect.DeepEqual(now, st) {
		return fmt.Errorf("%s was prepared for %s, %s holds %s: prepare it again", dir, root.Digest, f.Path, have.Digest)
	}
	var signers []sign.Signer
	for _, path := range c.StringSlice("public") {
		key, err := readPublic(path)
		if err != nil {
			return err
		}
		s, err := presigned(dir, key, envelope, claim)
		if err != nil {
			return err
		}
		signers = append(signers, s)
	}
	return writeSigned(c, f, have, st, signers)
}

// maxSignature bounds a signature file.
const maxSignature = 4 << 10

func presigned(dir string, key sign.PublicKey, envelope, claim []byte) (sign.Signer, error) {
	var all []sign.Signature
	for _, m := range []struct {
		name    string
		message []byte
	}{{envelopeMessage, envelope}, {cosignMessage, claim}} {
		name, message := m.name, m.message
		if message == nil {
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
		all = append(all, sign.Signature{Message: message, Signature: sig})
	}
	return sign.Presigned(key, all...), nil
}
