// Package siteregistry brings up a registry in a cluster that has none, from a verified bundle and through the API server alone.
//
// The registry is a program in an image of the bundle, and there is nothing yet that the image could be pulled from. So it travels as
// ConfigMaps, cut into parts of less than a mebibyte, and runs in a container of an image that the nodes have already; which one does not
// matter, nothing of it is used. A first program of about 350 bytes, the seed, is the container's command: it puts the parts together and
// becomes the registry. seed.go has it, testdata its source.
//
// The parts stay. The registry never needs an image that only it could give, so that it starts again on any node after any loss, of the
// node, of all images, of everything but the API server and its volume. They are immutable, so that no kubelet watches them.
//
// Install makes, in a namespace of their own:
//
//	Secret wcbundle-registry-tls           CA, certificate and key; the CA lives ten years, the certificate is renewed by the next Install
//	Secret wcbundle-registry-credentials   user and password, as a docker config too
//	Service wcbundle-registry              a fixed ClusterIP, which nodes pull from, and a node port, which the operator pushes to
//	ConfigMaps wcbundle-registry-HASH-NNN  the program
//	DaemonSet wcbundle-registry-nodes      tells each node's containerd of the registry's CA (certs.d/HOST/hosts.toml), and of mirrors
//	PersistentVolumeClaim wcbundle-registry
//	Deployment wcbundle-registry           one pod, Recreate
//
// It may be run again at any time: it finishes what was begun, keeps the CA, the password and the volume, and moves the registry to the
// program of the bundle it is given. When that does not become ready the program before it is put back.
package siteregistry
