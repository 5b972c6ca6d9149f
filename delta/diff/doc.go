// Package diff codes a new executable or file as copies of old bytes and what they get wrong.
package diff
