// Package prometheus pins the Prometheus that the tests of the control plane ask: go build -tags remove_all_sd
// github.com/prometheus/prometheus/cmd/prometheus in this folder. The tag leaves out what finds targets in clouds, and most of the build.
package prometheus
