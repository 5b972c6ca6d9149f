package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/rogpeppe/go-internal/testscript"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/registry/remote"

	"github.com/wordcab/wcbundle/bundle"
	"github.com/wordcab/wcbundle/sign"
)

// listLayout prints names and artifact types of a file's index.json, a line each: layout FILE
func listLayout(ts *testscript.TestScript, _ bool, args []string) {
	f, err := bundle.OpenFile(ts.MkAbs(args[0]))
	ts.Check(err)
	defer f.Close()
	for _, d := range f.Index.Manifests {
		if name := d.Annotations[ocispec.AnnotationRefName]; name != "" {
			fmt.Fprintln(ts.Stdout(), name)
		}
		fmt.Fprintln(ts.Stdout(), d.ArtifactType)
	}
}

// listReferrers prints the artifact types of what a registry lists about a manifest: referrers HOST REPO TAG
func listReferrers(ts *testscript.TestScript, _ bool, args []string) {
	repo, d := resolve(ts, args)
	ts.Check(repo.Referrers(context.Background(), d, "", func(all []ocispec.Descriptor) error {
		for _, r := range all {
			fmt.Fprintln(ts.Stdout(), r.ArtifactType)
		}
		return nil
	}))
}

func resolve(ts *testscript.TestScript, args []string) (*remote.Repository, ocispec.Descriptor) {
	repo, err := remote.NewRepository(args[0] + "/" + args[1])
	ts.Check(err)
	repo.PlainHTTP = true
	d, err := repo.Resolve(context.Background(), args[2])
	ts.Check(err)
	return repo, d
}

// expandRegistry puts the registry's address into a file in place of $REGISTRY: expand FILE
func expandRegistry(ts *testscript.TestScript, _ bool, args []string) {
	text := strings.ReplaceAll(ts.ReadFile(args[0]), "$REGISTRY", ts.Getenv("REGISTRY"))
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(text), 0o644))
}

// cosignImage signs an image where it lies, as cosign does: cosigned legacy|bundle KEY HOST REPO TAG
func cosignImage(ts *testscript.TestScript, _ bool, args []string) {
	key, err := os.ReadFile(ts.MkAbs(args[1]))
	ts.Check(err)
	signer, err := sign.LoadSigner(key, []byte(ts.Getenv("WCBUNDLE_PASSWORD")))
	ts.Check(err)
	repo, d := resolve(ts, args[2:])
	var blobs [][]byte
	var manifest []byte
	tag := ""
	if args[0] == formLegacy {
		sig, err := sign.SignCosign(d, args[2]+"/"+args[3], signer)
		ts.Check(err)
		blobs, manifest, tag = sig.Blobs, sig.Manifest, sig.Tag
	} else {
		sig, err := sign.SignSigstore(d, time.Unix(0, 0), signer)
		ts.Check(err)
		blobs, manifest = sig.Blobs, sig.Manifest
	}
	for _, b := range blobs {
		ts.Check(repo.Push(context.Background(), content.NewDescriptorFromBytes("application/octet-stream", b), bytes.NewReader(b)))
	}
	m := content.NewDescriptorFromBytes(ocispec.MediaTypeImageManifest, manifest)
	ts.Check(repo.Push(context.Background(), m, bytes.NewReader(manifest)))
	if tag != "" {
		ts.Check(repo.Tag(context.Background(), m, tag))
	}
}

// listTags prints a repository's tags: tags HOST REPO
func listTags(ts *testscript.TestScript, _ bool, args []string) {
	repo, err := remote.NewRepository(args[0] + "/" + args[1])
	ts.Check(err)
	repo.PlainHTTP = true
	ts.Check(repo.Tags(context.Background(), "", func(tags []string) error {
		_, err := fmt.Fprintln(ts.Stdout(), strings.Join(tags, "\n"))
		return err
	}))
}
