package siteregistry

import (
	"bytes"
	"debug/elf"
	"embed"
	"encoding/binary"
	"fmt"
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
	machines := map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}
	code, err := seedCode.ReadFile("seed/" + arch + ".bin")
	if err != nil {
		return nil, fmt.Errorf("no registry can be brought up on nodes of architecture %.20q", arch)
	}
	const base = 0x400000
	head := uint64(binary.Size(elf.Header64{}) + binary.Size(elf.Prog64{}))
	size := head + uint64(len(code))
	h := elf.Header64{Type: uint16(elf.ET_EXEC), Machine: uint16(machines[arch]), Version: uint32(elf.EV_CURRENT), Entry: base + head,
		Phoff: uint64(binary.Size(elf.Header64{})), Ehsize: uint16(binary.Size(elf.Header64{})), Phentsize: uint16(binary.Size(elf.Prog64{})), Phnum: 1}
	copy(h.Ident[:], elf.ELFMAG)
	h.Ident[elf.EI_CLASS], h.Ident[elf.EI_DATA], h.Ident[elf.EI_VERSION] = byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)
	p := elf.Prog64{Type: uint32(elf.PT_LOAD), Flags: uint32(elf.PF_R | elf.PF_X), Vaddr: base, Paddr: base, Filesz: size, Memsz: size, Align: 0x10000}
	var out bytes.Buffer
	for _, part := range []any{h, p, code} {
		if err := binary.Write(&out, binary.LittleEndian, part); err != nil {
			return nil, err
		}
	}
	return out.Bytes(), nil
}
