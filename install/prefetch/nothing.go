package prefetch

import (
	"embed"
	"fmt"

	"github.com/wordcab/wcbundle/install/machinecode"
)

// The machine code, assembled from testdata/nothing_*.s.
//
//go:embed nothing/*.bin
var nothingCode embed.FS

// architectures are those of which there is a program.
var architectures = []string{"amd64", "arm64"}

// Nothing is the static program, for GOARCH amd64 or arm64, that ends at once: what a container runs whose image alone is wanted.
func Nothing(arch string) ([]byte, error) {
	code, err := nothingCode.ReadFile("nothing/" + arch + ".bin")
	if err != nil {
		return nil, fmt.Errorf("there is no program for architecture %.20q", arch)
	}
	return machinecode.Program(arch, code)
}
