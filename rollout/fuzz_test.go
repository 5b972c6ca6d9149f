package rollout

import (
	"reflect"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

func FuzzDecodeState(f *testing.F) {
	f.Add(`{"id":"op-1","type":"Upgrade","phase":"Rolling","pools":[{"name":"asr","state":"Gating"}]}`)
	f.Add(`{"id":"op-1","pools":[{"name":1}]}`)
	f.Add(`[[[[`)
	f.Fuzz(func(t *testing.T, text string) {
		st, err := decodeState(&corev1.ConfigMap{Data: map[string]string{recordKey: text}})
		if err != nil {
			return
		}
		again, err := encodeState(st)
		if err != nil {
			return // larger than a record may be
		}
		back, err := decodeState(&corev1.ConfigMap{Data: map[string]string{recordKey: again}})
		if err != nil {
			t.Fatalf("its encoding is not read: %v\n%s", err, again)
		}
		if twice, err := encodeState(back); err != nil || !reflect.DeepEqual(twice, again) {
			t.Fatalf("its encoding is another state: %v\n%s\n%s", err, again, twice)
		}
	})
}

// FuzzJudgeAnswer judges what a pod answers to a gate.
func FuzzJudgeAnswer(f *testing.F) {
	f.Add("$.models[*].id", "asr", 200, []byte(`{"models":[{"id":"asr"}]}`))
	f.Add("$.models[*].id", "asr", 200, []byte(`{"models":"asr"}`))
	f.Add("$.a", "", 503, []byte(`<html>`))
	f.Fuzz(func(t *testing.T, path, want string, status int, body []byte) {
		v, why := judgeAnswer(HTTPExpect{JSONPath: path, Contains: []string{want}}, status, body)
		if v == Pass && status != 200 || v != Pass && why == "" {
			t.Fatalf("%v, %q", v, why)
		}
	})
}
