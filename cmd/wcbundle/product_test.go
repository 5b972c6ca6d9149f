package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math/rand"
	"os"
	"path/filepath"
)

// writeProduct writes two releases of a small product: dir/r1 and dir/r2. Their image layers are gzipped as docker does,
// their weights differ in a few places.
func writeProduct(dir string) error {
	for i, version := range []string{"1.0.0", "1.1.0"} {
		root := filepath.Join(dir, fmt.Sprintf("r%d", i+1))
		files := map[string]string{
			"chart/Chart.yaml": "apiVersion: v2\nname: shop\nversion: " + version + "\n",
			"chart/templates/shop.yaml": "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: shop}\nspec:\n  selector: {matchLabels: {a: b}}\n  template:\n" +
				"    metadata: {labels: {a: b}}\n    spec:\n      containers:\n      - {name: c, image: \"registry.example.com/shop/app:" + version + "\", args: [pull, \"registry.example.com/shop/model:" + version + "\"]}\n",
			"bundle.yaml": "apiVersion: bundle.wordcab.com/v1alpha1\nkind: Bundle\nmetadata: {name: shop, version: " + version + ", channel: stable, sequence: " + fmt.Sprint(i+1) + "}\n" +
				"charts:\n- {name: shop, source: ./chart, release: shop, namespace: wordcab}\n" +
				"images:\n- {ref: \"registry.example.com/shop/app:" + version + "\", source: \"oci:./image\"}\n" +
				"models:\n- {id: tiny, ref: \"registry.example.com/shop/model:" + version + "\", source: ./model}\n",
			"model/weights.bin": string(weights(i)),
		}
		for name, text := range files {
			path := filepath.Join(root, name)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				return err
			}
			if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
				return err
			}
		}
		if err := writeImage(filepath.Join(root, "image"), i); err != nil {
			return err
		}
	}
	return nil
}

// weights are 200,000 numbers; those of the second release differ in every 97th.
func weights(release int) []byte {
	r := rand.New(rand.NewSource(7))
	out := make([]byte, 0, 400_000)
	for i := range 200_000 {
		v := uint16(r.Uint32())
		if release == 1 && i%97 == 0 {
			v++
		}
		out = binary.LittleEndian.AppendUint16(out, v)
	}
	return out
}

// writeImage writes an OCI layout with one image of one gzip layer.
func writeImage(dir string, release int) error {
	var layer bytes.Buffer
	tw := tar.NewWriter(&layer)
	r := rand.New(rand.NewSource(11))
	for i := range 40 {
		body := make([]byte, 8000)
		for j := range body {
			body[j] = "etaoin shrdlu"[r.Intn(13)]
		}
		if release == 1 && i == 17 {
			body = append(body, "one line more"...)
		}
		if err := tw.WriteHeader(&tar.Header{Name: fmt.Sprintf("usr/share/%d", i), Mode: 0o644, Size: int64(len(body))}); err != nil {
			return err
		}
		if _, err := tw.Write(body); err != nil {
			return err
		}
	}
	if err := tw.Close(); err != nil {
		return err
	}
	var packed bytes.Buffer
	zw := gzip.NewWriter(&packed)
	if _, err := zw.Write(layer.Bytes()); err != nil {
		return err
	}
	if err := zw.Close(); err != nil {
		return err
	}
	put := func(mediaType string, b []byte) (map[string]any, error) {
		sum := fmt.Sprintf("%x", sha256.Sum256(b))
		path := filepath.Join(dir, "blobs", "sha256", sum)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return nil, err
		}
		return map[string]any{"mediaType": mediaType, "digest": "sha256:" + sum, "size": len(b)}, os.WriteFile(path, b, 0o644)
	}
	ldesc, err := put("application/vnd.oci.image.layer.v1.tar+gzip", packed.Bytes())
	if err != nil {
		return err
	}
	cfg, err := put("application/vnd.oci.image.config.v1+json", []byte(fmt.Sprintf(
		`{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":["sha256:%x"]}}`, sha256.Sum256(layer.Bytes()))))
	if err != nil {
		return err
	}
	const manifest = "application/vnd.oci.image.manifest.v1+json"
	raw, err := json.Marshal(map[string]any{"schemaVersion": 2, "mediaType": manifest, "config": cfg, "layers": []any{ldesc}})
	if err != nil {
		return err
	}
	mdesc, err := put(manifest, raw)
	if err != nil {
		return err
	}
	index, err := json.Marshal(map[string]any{"schemaVersion": 2, "manifests": []any{mdesc}})
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "oci-layout"), []byte(`{"imageLayoutVersion":"1.0.0"}`), 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "index.json"), index, 0o644)
}
