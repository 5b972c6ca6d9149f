package support

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
)

func TestCleaner(t *testing.T) {
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "s", Namespace: "n"}, Data: map[string][]byte{"password": []byte("hunter2-and-more")}}
	req := Request{Kube: fake.NewSimpleClientset(secret), Namespaces: []string{"n"}, Now: time.Unix(1, 0)}
	clean, err := Cleaner(context.Background(), req)
	if err != nil {
		t.Fatal(err)
	}
	got := clean("connecting with hunter2-and-more to db")
	if strings.Contains(got, "hunter2") || !strings.Contains(got, "connecting with") {
		t.Fatalf("got %q", got)
	}
}

func TestCleanerFailsClosed(t *testing.T) {
	kube := fake.NewSimpleClientset()
	kube.PrependReactor("list", "secrets", func(clienttesting.Action) (bool, runtime.Object, error) {
		return true, nil, errors.New("forbidden")
	})
	if _, err := Cleaner(context.Background(), Request{Kube: kube, Namespaces: []string{"n"}, Now: time.Unix(1, 0)}); err == nil {
		t.Fatal("a cleaner that knows no secrets was given out")
	}
}
