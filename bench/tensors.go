package main

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
)

// tensors writes the tensors of a TensorFlow.js model as a safetensors file, in the order of the model.
// The layout is an 8-byte little-endian header length, a JSON header padded with spaces to 8 bytes, and the data.
func tensors(w io.Writer, kind, pkg string, file *File) error {
	var index, data bytes.Buffer
	if err := extract(&index, kind, pkg, file.Index); err != nil {
		return err
	}
	if err := extract(&data, kind, pkg, file.Path); err != nil {
		return err
	}
	var model struct {
		WeightsManifest []struct {
			Weights []struct {
				Name         string
				Shape        []int
				Dtype        string
				Quantization struct{ Dtype string }
			}
		}
	}
	if err := json.Unmarshal(index.Bytes(), &model); err != nil {
		return err
	}
	var list []tensorInfo
	for _, group := range model.WeightsManifest {
		for _, t := range group.Weights {
			dtype := t.Dtype
			if t.Quantization.Dtype != "" {
				dtype = t.Quantization.Dtype
			}
			st, ok := map[string]string{"float16": "F16", "float32": "F32", "int32": "I32"}[dtype]
			if !ok {
				return fmt.Errorf("tensor %s: unknown type %q", t.Name, dtype)
			}
			list = append(list, tensorInfo{t.Name, st, t.Shape})
		}
	}
	return writeSafetensors(w, list, data.Bytes())
}

// A tensorInfo is one entry of a safetensors header.
type tensorInfo struct {
	name  string
	dtype string // F32, F16, BF16 or I32
	shape []int
}

func (t tensorInfo) size() int {
	n := 2
	if t.dtype == "F32" || t.dtype == "I32" {
		n = 4
	}
	for _, d := range t.shape {
		n *= d
	}
	return n
}

// writeSafetensors writes the header for list and then data, which holds the tensors one after the other.
func writeSafetensors(w io.Writer, list []tensorInfo, data []byte) error {
	var h bytes.Buffer
	h.WriteByte('{')
	at := 0
	for i, t := range list {
		if i > 0 {
			h.WriteByte(',')
		}
		if t.shape == nil {
			t.shape = []int{}
		}
		name, err := json.Marshal(t.name)
		if err != nil {
			return err
		}
		shape, err := json.Marshal(t.shape)
		if err != nil {
			return err
		}
		fmt.Fprintf(&h, `%s:{"dtype":"%s","shape":%s,"data_offsets":[%d,%d]}`, name, t.dtype, shape, at, at+t.size())
		at += t.size()
	}
	h.WriteByte('}')
	if at != len(data) {
		return fmt.Errorf("the tensors take %d bytes, the data has %d", at, len(data))
	}
	for h.Len()%8 != 0 {
		h.WriteByte(' ')
	}
	if err := binary.Write(w, binary.LittleEndian, uint64(h.Len())); err != nil {
		return err
	}
	if _, err := w.Write(h.Bytes()); err != nil {
		return err
	}
	_, err := w.Write(data)
	return err
}
