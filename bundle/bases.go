package bundle

import (
	"context"
	"slices"
	"sort"
	"strings"
	"sync"

	"github.com/wordcab/wcbundle/delta"
)

// basesFor picks the base blobs that a delta for b is made from. All base blobs are compared by what is in them; where that
// says nothing, as for weights without names, those of the same repositories are taken, the nearest in size first.
func (d *differ) basesFor(ctx context.Context, b Blob, target delta.Base) ([]baseBlob, error) {
	likely := d.likely(b)
	if len(likely) == 0 {
		return nil, nil
	}
	about, err := delta.NewSketch(ctx, target, d.opt.Scratch)
	if err != nil {
		return nil, err
	}
	sketches := make([]*delta.Sketch, len(likely))
	for i, h := range likely {
		if sketches[i], err = d.sketch(ctx, h)(); err != nil {
			return nil, err
		}
	}
	var out []baseBlob
	for _, i := range delta.Choose(about, sketches, MaxBasesPerDelta) {
		out = append(out, likely[i])
	}
	if len(out) > 0 {
		return out, nil
	}
	if n := slices.IndexFunc(likely, func(h baseBlob) bool { return !sharesRepo(h.Repos, b.Repos) }); n > 0 {
		likely = likely[:n] // its own older versions are there: others would only cost time
	}
	return likely[:min(len(likely), MaxBasesPerDelta)], nil
}

// sketch returns what makes the sketch of a base blob, once.
func (d *differ) sketch(ctx context.Context, b baseBlob) func() (*delta.Sketch, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f := d.sketches[b.Digest]
	if f == nil {
		f = sync.OnceValues(func() (*delta.Sketch, error) {
			s, err := b.file.Section(b.Descriptor)
			if err != nil {
				return nil, err
			}
			defer s.Close()
			return delta.NewSketch(ctx, s, d.opt.Scratch)
		})
		d.sketches[b.Digest] = f
	}
	return f
}

// likely lists the base blobs that are no metadata: of the same repositories first, then of the same kind, then by size.
func (d *differ) likely(b Blob) []baseBlob {
	var near []baseBlob
	for _, h := range d.have {
		if h.Kind == KindBlob && h.Size > smallBlob/4 {
			near = append(near, h)
		}
	}
	sort.Slice(near, func(i, j int) bool {
		si, sj := sharesRepo(near[i].Repos, b.Repos), sharesRepo(near[j].Repos, b.Repos)
		if si != sj {
			return si
		}
		fi, fj := mediaFamily(near[i].MediaType) == mediaFamily(b.MediaType), mediaFamily(near[j].MediaType) == mediaFamily(b.MediaType)
		if fi != fj {
			return fi
		}
		di, dj := distance(near[i].Size, b.Size), distance(near[j].Size, b.Size)
		if di != dj {
			return di < dj
		}
		return near[i].Digest < near[j].Digest
	})
	return near
}

func mediaFamily(mediaType string) string {
	switch {
	case strings.Contains(mediaType, "model"):
		return "model"
	case strings.Contains(mediaType, "helm"):
		return "chart"
	}
	return "layer"
}

func sharesRepo(a, b []string) bool {
	return slices.ContainsFunc(a, func(r string) bool { return slices.Contains(b, r) })
}

func distance(a, b int64) int64 {
	if a > b {
		return a - b
	}
	return b - a
}
