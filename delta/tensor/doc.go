// Package tensor codes new model weights as differences from old ones.
package tensor
