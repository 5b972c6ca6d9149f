// Package interop holds us against upstream's cosign commands, 2.6.5 and 3.1.3: they verify what we sign, and we verify and
// carry what they sign. Its test needs both commands and our binary; e2e/run.sh test brings them and leaves nothing but a
// loopback device to the test. The rows of the tables in docs/interop.md are what it observed.
package interop
