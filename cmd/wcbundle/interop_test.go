package main

import (
	"context"
	"fmt"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/rogpeppe/go-internal/testscript"
	"oras.land/oras-go/v2/registry/remote"

	"github.com/wordcab/wcbundle/bundle"
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
	repo, err := remote.NewRepository(args[0] + "/" + args[1])
	ts.Check(err)
	repo.PlainHTTP = true
	d, err := repo.Resolve(context.Background(), args[2])
	ts.Check(err)
	ts.Check(repo.Referrers(context.Background(), d, "", func(all []ocispec.Descriptor) error {
		for _, r := range all {
			fmt.Fprintln(ts.Stdout(), r.ArtifactType)
		}
		return nil
	}))
}
