package siteregistry

import (
	"embed"
	"fmt"

	"github.com/wordcab/wcbundle/install/machinecode"
)

// The seeds' machine code, assembled from testdata/seed_*.s.
//
//go:embed seed/*.bin
var seedCode embed.FS

// Where the seed reads the parts, as 000, 001, ..., and where it puts them together.
const (
	partsDir = "/parts"
	seedDir  = "/seed"
	maxParts = 1000
)

// Seed is the static program, for GOARCH amd64 or arm64, that puts the parts together and becomes what they are.
func Seed(arch string) ([]byte, error) {
	code, err := seedCode.ReadFile("seed/" + arch + ".bin")
	if err != nil {
		return nil, fmt.Errorf("no registry can be brought up on nodes of architecture %.20q", arch)
	}
	return machinecode.Program(arch, code)
}
