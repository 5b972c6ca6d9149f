// Package recipe takes gzip and zstd files apart into their plain bytes and a recipe that turns those back into the same
// file, bit for bit.
package recipe
