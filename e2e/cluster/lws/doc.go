// Package lws pins the LeaderWorkerSet controller that the tests of the control plane run: go build sigs.k8s.io/lws/cmd in this folder.
package lws
